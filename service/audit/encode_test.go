package audit

import (
	"encoding/json"
	"testing"
)

// FuzzAppendJSON: the fast path writes what encoding/json writes.
func FuzzAppendJSON(f *testing.F) {
	for _, s := range []string{"", "plain", `"\`, "<&>", "\x00\x7f", "é\u2028",
		"arn:aws:iam::111122223333:user/alice"} {
		f.Add(s, "other")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, value := range []any{a, map[string]string{a: b, b: a}, map[string]string{}, map[string]string(nil),
			[]string{a, b}, 7, true, nil} {
			want, err := json.Marshal(value)
			must(t, err)
			got, err := appendJSON(nil, value)
			must(t, err)
			if string(got) != string(want) {
				t.Errorf("%q: got %s, want %s", value, got, want)
			}
		}
	})
}

package declaration

import (
	"strings"
	"testing"
)

// TestReadGuard: a guard is a policy, {} says that there is to be none, and without the field nothing is said.
func TestReadGuard(t *testing.T) {
	const account = "accounts:\n  \"111122223333\":\n"
	for text, want := range map[string]string{
		"    users: {}\n": "nothing",
		"    guard: {}\n": "",
		"    guard: {Statement: {Effect: Deny, Action: \"kms:*\", Resource: \"*\"}}\n": `{"Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*"}}`,
		"    guard: '{\"Statement\":[]}'\n":                                            `{"Statement":[]}`,
	} {
		d, err := Read("f.yaml", []byte(account+text))
		switch {
		case err != nil:
			t.Errorf("%s: %v", text, err)
		case want == "nothing":
			if len(d.Guards) != 0 {
				t.Errorf("%s: %+v", text, d.Guards)
			}
		case len(d.Guards) != 1 || d.Guards[0].Document != want || d.Guards[0].Account != "111122223333":
			t.Errorf("%s: %+v", text, d.Guards)
		}
	}
	for _, text := range []string{"    guard: []\n", "    guard:\n", "    guard: {file: none.json}\n"} {
		if d, err := Read("f.yaml", []byte(account+text)); err == nil && len(d.Guards) > 0 && d.Guards[0].Document == "" {
			t.Errorf("%s removes the guard", text)
		} else if err != nil && !strings.Contains(err.Error(), "guard") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

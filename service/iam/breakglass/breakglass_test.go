package breakglass

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func split(t testing.TB, shares, threshold int) (*Key, []Share) {
	t.Helper()
	k, all, err := Split(shares, threshold, t0)
	if err != nil {
		t.Fatal(err)
	}
	return k, all
}

func text(t testing.TB, s Share) string {
	t.Helper()
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAnyShares: every set of as many shares as the threshold gives the same key, and no smaller one any.
func TestAnyShares(t *testing.T) {
	k, all := split(t, 5, 3)
	var first ed25519.PrivateKey
	for set := range 1 << len(all) {
		var some []Share
		for i, s := range all {
			if set>>i&1 == 1 {
				read, err := ParseShare([]byte(text(t, s)))
				if err != nil {
					t.Fatal(err)
				}
				some = append(some, read)
			}
		}
		private, err := k.Combine(some)
		if (err == nil) != (len(some) >= 3) {
			t.Fatalf("set %b: %v", set, err)
		}
		if err != nil {
			continue
		}
		if first == nil {
			first = private
		}
		if !first.Equal(private) || !k.Public.Equal(private.Public()) {
			t.Fatalf("set %b: another key", set)
		}
	}
	if _, err := k.Combine([]Share{all[0], all[0], all[0]}); err == nil {
		t.Error("one share three times")
	}
}

func TestSplitRefuses(t *testing.T) {
	for _, n := range [][2]int{{1, 1}, {3, 1}, {2, 3}, {17, 2}, {0, 0}, {-1, -1}} {
		if _, _, err := Split(n[0], n[1], t0); err == nil {
			t.Errorf("%d of %d", n[1], n[0])
		}
	}
	for _, n := range [][2]int{{2, 2}, {16, 2}, {16, 16}} {
		k, all := split(t, n[0], n[1])
		if _, err := k.Combine(all[n[0]-n[1]:]); err != nil {
			t.Errorf("%d of %d: %v", n[1], n[0], err)
		}
	}
}

// TestWrongShares: of another credential, with another number, or changed.
func TestWrongShares(t *testing.T) {
	k, all := split(t, 3, 2)
	other, others := split(t, 3, 2)
	for other.ID() == k.ID() {
		other, others = split(t, 3, 2)
	}
	madeUp := Share{Number: 1, key: k.id(), value: others[0].value}
	renumbered := Share{Number: 3, key: k.id(), value: all[0].value}
	beyond := Share{Number: 200, key: k.id(), value: all[0].value}
	for name, s := range map[string]Share{"another": others[0], "made up": madeUp, "renumbered": renumbered,
		"beyond": beyond} {
		if err := k.Check(s); !errors.Is(err, ErrWrongShare) {
			t.Errorf("%s: %v", name, err)
		}
		if private, err := k.Combine([]Share{all[1], s}); err == nil {
			t.Errorf("%s: %x", name, private)
		}
	}
	spoilt := *k
	spoilt.Commitment = [][]byte{{1}, {2}}
	if err := spoilt.Check(all[0]); err == nil {
		t.Error("a commitment that is none")
	}
}

// TestMistyped: each character counts, and how the share is spelt does not.
func TestMistyped(t *testing.T) {
	_, all := split(t, 2, 2)
	good := text(t, all[0])
	for _, spelling := range []string{strings.ToLower(good), strings.ReplaceAll(good, "-", ""),
		strings.ReplaceAll(good, "-", " "), " " + good + "\r\n"} {
		if s, err := ParseShare([]byte(spelling)); err != nil || text(t, s) != good {
			t.Errorf("%q: %v", spelling, err)
		}
	}
	for i := range good {
		for _, c := range "ABQ27" {
			changed := good[:i] + string(c) + good[i+1:]
			if changed == good || good[i] == '-' {
				continue
			}
			if _, err := ParseShare([]byte(changed)); !errors.Is(err, ErrMistyped) {
				t.Fatalf("character %d is wrong: %v", i, err)
			}
		}
	}
	for _, wrong := range []string{"", "-", good[1:], good + "A", good + good, strings.Repeat("A", 10_000), "\xff"} {
		if _, err := ParseShare([]byte(wrong)); err == nil || strings.Contains(err.Error(), good[4:20]) {
			t.Errorf("%.10q: %v", wrong, err)
		}
	}
}

// TestOpening: an opening verifies with its own credential only, and lasts no longer than allowed.
func TestOpening(t *testing.T) {
	k, all := split(t, 3, 2)
	private, err := k.Combine(all[1:])
	if err != nil {
		t.Fatal(err)
	}
	o := &Opening{ID: "1", Account: "111122223333", OpenedAt: t0, Until: t0.Add(time.Hour), Reason: "a test",
		Operator: "ann", Shares: []int{2, 3}, Threshold: 2}
	signed, err := o.Sign(t.Context(), private)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := k.Verify(signed); err != nil || read.ID != o.ID || !read.Until.Equal(o.Until) {
		t.Errorf("%+v, %v", read, err)
	}
	for i := range signed {
		changed := bytes.Clone(signed)
		changed[i] ^= 1
		if _, err := k.Verify(changed); err == nil {
			t.Fatalf("byte %d is changed", i)
		}
	}
	other, _ := split(t, 3, 2)
	if _, err := other.Verify(signed); err == nil {
		t.Error("another credential")
	}
	for _, until := range []time.Time{t0, t0.Add(-time.Hour), t0.Add(MaxOpening + 1)} {
		o.Until = until
		if _, err := o.Sign(t.Context(), private); err == nil {
			t.Errorf("until %v", until)
		}
	}
}

// FuzzParseShare: what is accepted is written again as it was read.
func FuzzParseShare(f *testing.F) {
	_, all := split(f, 2, 2)
	f.Add([]byte(text(f, all[0])))
	f.Add([]byte("AAAA-BBBB"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := ParseShare(in)
		if err != nil {
			return
		}
		again, err := ParseShare([]byte(text(t, s)))
		if err != nil || text(t, again) != text(t, s) || again.Number != s.Number {
			t.Fatalf("%q: %v", in, err)
		}
	})
}

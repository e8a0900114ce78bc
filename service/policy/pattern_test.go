package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// matchReference is a matcher that can be seen to be right.
func matchReference(pattern, s []rune) bool {
	if len(pattern) == 0 {
		return len(s) == 0
	}
	switch pattern[0] {
	case '*':
		for i := range len(s) + 1 {
			if matchReference(pattern[1:], s[i:]) {
				return true
			}
		}
		return false
	case '?':
		return len(s) > 0 && matchReference(pattern[1:], s[1:])
	}
	return len(s) > 0 && s[0] == pattern[0] && matchReference(pattern[1:], s[1:])
}

func checkPattern(t *testing.T, glob, s string) {
	t.Helper()
	p := newPattern(wildcards.Replace(glob))
	if got, want := p.match(s), matchReference([]rune(glob), []rune(s)); got != want {
		t.Errorf("%q matches %q: got %v, want %v", glob, s, got, want)
	}
}

func TestPattern(t *testing.T) {
	// A small alphabet, so that many match; é has two bytes.
	random := rand.New(rand.NewPCG(1, 2))
	word := func(letters string, most int) string {
		runes := []rune(letters)
		var b strings.Builder
		for range random.IntN(most + 1) {
			b.WriteRune(runes[random.IntN(len(runes))])
		}
		return b.String()
	}
	matched := 0
	for range 50_000 {
		glob, s := word("ab*?é*", 7), word("abé", 9)
		checkPattern(t, glob, s)
		if matchReference([]rune(glob), []rune(s)) {
			matched++
		}
	}
	if matched < 5_000 {
		t.Errorf("only %d pairs match", matched)
	}
}

// FuzzPattern compares with the reference, whose time is exponential in the number of runs.
func FuzzPattern(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**?é*", "éé")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, glob, s string) {
		p := newPattern(wildcards.Replace(glob))
		p.match(s)
		if strings.Count(glob, "*") > 4 || len(glob) > 40 || len(s) > 40 || strings.ToValidUTF8(glob, "") != glob ||
			strings.ToValidUTF8(s, "") != s {
			return
		}
		checkPattern(t, glob, s)
	})
}

// Texts that are not UTF-8 come from headers such as User-Agent; the bytes of our wildcards are none in them.
func TestPatternBytes(t *testing.T) {
	for _, test := range []struct {
		glob, s string
		want    bool
	}{
		{"a", "\xff", false},
		{"*", "\xff\xfe", true},
		{"?", "\xff", true},
		{"??", "\xfe\xff", true},
		{"a*", "a\xff", true},
		{"*é", "\xff\xc3\xa9", true},
		{"?*?", "\xa9", false},
	} {
		p := newPattern(wildcards.Replace(test.glob))
		if got := p.match(test.s); got != test.want {
			t.Errorf("%q matches %q: got %v", test.glob, test.s, got)
		}
	}
}

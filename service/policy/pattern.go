package policy

import (
	"strings"
	"unicode/utf8"
)

// The wildcards inside a pattern's text. They are bytes that UTF-8 never contains, so that a
// literal * or ? cannot be mistaken for a wildcard.
const (
	anyRun  = "\xff" // *: any number of characters
	anyRune = "\xfe" // ?: any one character
)

var wildcards = strings.NewReplacer("*", anyRun, "?", anyRune)

// pattern is a text with wildcards, split at each anyRun.
type pattern struct {
	segments []string // at least one; the first and last are anchored
	runes    bool     // whether a segment has anyRune
}

func newPattern(text string) pattern {
	return pattern{segments: strings.Split(text, anyRun), runes: strings.Contains(text, anyRune)}
}

// match reports whether the pattern matches all of s. It takes each inner segment at the first
// place where it is found, which is never worse than a later one.
func (p *pattern) match(s string) bool {
	last := len(p.segments) - 1
	if last == 0 && !p.runes {
		return s == p.segments[0]
	}
	s, ok := p.cut(s, p.segments[0])
	if !ok {
		return false
	}
	if last == 0 {
		return s == ""
	}
	for _, segment := range p.segments[1:last] {
		if s, ok = p.find(s, segment); !ok {
			return false
		}
	}
	return p.end(s, p.segments[last])
}

// cut returns what follows the segment at the beginning of s.
func (p *pattern) cut(s, segment string) (string, bool) {
	if !p.runes {
		return strings.CutPrefix(s, segment)
	}
	for i := range len(segment) {
		if s == "" {
			return s, false
		}
		size := 1
		if segment[i] == anyRune[0] {
			_, size = utf8.DecodeRuneInString(s)
		} else if s[0] != segment[i] {
			return s, false
		}
		s = s[size:]
	}
	return s, true
}

// find returns what follows the first occurrence of the segment in s.
func (p *pattern) find(s, segment string) (string, bool) {
	if !p.runes {
		_, after, ok := strings.Cut(s, segment)
		return after, ok
	}
	for {
		if after, ok := p.cut(s, segment); ok {
			return after, true
		}
		if s == "" {
			return s, false
		}
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
}

// end reports whether s ends with the segment.
func (p *pattern) end(s, segment string) bool {
	if !p.runes {
		return strings.HasSuffix(s, segment)
	}
	start := len(s)
	for range utf8.RuneCountInString(segment) {
		_, size := utf8.DecodeLastRuneInString(s[:start])
		start -= size
	}
	after, ok := p.cut(s[start:], segment)
	return ok && after == ""
}

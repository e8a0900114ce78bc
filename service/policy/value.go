package policy

import (
	"cmp"
	"encoding/base64"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// texts, folded and globs are the values of String operators.
type (
	texts  []template
	folded []template
)

func (c *compiler) texts(values []string) (matcher, error) {
	t, err := c.templates(values, false)
	return texts(t), err
}

func (c *compiler) globs(values []string) (matcher, error) {
	t, err := c.templates(values, true)
	return texts(t), err
}

func (c *compiler) folded(values []string) (matcher, error) {
	t, err := c.templates(values, false)
	return folded(t), err
}

func (c *compiler) templates(values []string, wild bool) ([]template, error) {
	templates := make([]template, len(values))
	for i, value := range values {
		var err error
		if templates[i], err = c.template(value, wild); err != nil {
			return nil, err
		}
	}
	return templates, nil
}

func (t texts) match(e *evaluation, value string) bool {
	for i := range t {
		if t[i].match(e, value) {
			return true
		}
	}
	return false
}

func (f folded) match(e *evaluation, value string) bool {
	for i := range f {
		if text, ok := f[i].expand(e); ok && strings.EqualFold(text, value) {
			return true
		}
	}
	return false
}

// arns are the values of Arn operators.
type arns []arnPattern

func (c *compiler) arns(values []string) (matcher, error) {
	patterns := make(arns, len(values))
	for i, value := range values {
		var err error
		if patterns[i], err = c.arnPattern(value); err != nil {
			return nil, err
		}
	}
	return patterns, nil
}

func (a arns) match(e *evaluation, value string) bool {
	fields := splitARN(value, false)
	for i := range a {
		if a[i].match(e, fields) {
			return true
		}
	}
	return false
}

// ordered are values of a type that can be compared. A value of the request that cannot be parsed
// matches none of them.
type ordered[T cmp.Ordered] struct {
	parse  func(string) (T, error)
	is     func(order int) bool
	values []T
}

func (o *ordered[T]) match(_ *evaluation, value string) bool {
	v, err := o.parse(value)
	if err != nil {
		return false
	}
	for _, w := range o.values {
		if o.is(cmp.Compare(v, w)) {
			return true
		}
	}
	return false
}

func equal(order int) bool          { return order == 0 }
func less(order int) bool           { return order < 0 }
func lessOrEqual(order int) bool    { return order <= 0 }
func greater(order int) bool        { return order > 0 }
func greaterOrEqual(order int) bool { return order >= 0 }

func compileOrdered[T cmp.Ordered](parse, parseValue func(string) (T, error), is func(int) bool,
	values []string) (matcher, error) {
	o := &ordered[T]{parse: parseValue, is: is}
	for _, value := range values {
		v, err := parse(value)
		if err != nil {
			return nil, err
		}
		o.values = append(o.values, v)
	}
	return o, nil
}

func numbers(is func(int) bool) func(*compiler, []string) (matcher, error) {
	return func(_ *compiler, values []string) (matcher, error) {
		return compileOrdered(parseNumber, parseNumber, is, values)
	}
}

func dates(is func(int) bool) func(*compiler, []string) (matcher, error) {
	return func(_ *compiler, values []string) (matcher, error) {
		return compileOrdered(parseDate, parseDate, is, values)
	}
}

// binaries compares bytes, which the policy has in base64.
func binaries(_ *compiler, values []string) (matcher, error) {
	raw := func(s string) (string, error) { return s, nil }
	return compileOrdered(parseBase64, raw, equal, values)
}

func bools(_ *compiler, values []string) (matcher, error) {
	canonical := func(s string) (string, error) {
		b, err := parseBool(s)
		return strconv.FormatBool(b), err
	}
	return compileOrdered(canonical, canonical, equal, values)
}

var numberPattern = regexp.MustCompile(`^[+-]?[0-9]{1,18}(\.[0-9]{1,18})?$`)

func parseNumber(s string) (float64, error) {
	if !numberPattern.MatchString(s) {
		return 0, malformed("A value must be an integer or decimal number.")
	}
	return strconv.ParseFloat(s, 64)
}

func parseBool(s string) (bool, error) {
	switch {
	case strings.EqualFold(s, "true"):
		return true, nil
	case strings.EqualFold(s, "false"):
		return false, nil
	}
	return false, malformed("A value must be true or false.")
}

func parseBase64(s string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", malformed("A value must be in base64.")
	}
	return string(b), nil
}

// The forms of W3C's note "Date and Time Formats". Go's parser takes fractions of seconds with any of them.
var dateForms = []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006"}

var epochPattern = regexp.MustCompile(`^-?[0-9]{5,11}$`)

// parseDate returns milliseconds since 1970 for a date, or for a number of seconds. Four digits are
// a year.
func parseDate(s string) (int64, error) {
	if epochPattern.MatchString(s) {
		seconds, err := strconv.ParseInt(s, 10, 64)
		return seconds * 1000, err
	}
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, malformed("A value must be a date.")
}

// prefixes are the values of IpAddress operators.
type prefixes []netip.Prefix

func networks(_ *compiler, values []string) (matcher, error) {
	networks := make(prefixes, len(values))
	for i, value := range values {
		var err error
		if networks[i], err = parseNetwork(value); err != nil {
			return nil, malformed("A value must be an IP address or a CIDR range.")
		}
	}
	return networks, nil
}

// parseNetwork parses a CIDR range, or an address as a range with only this address. IPv4 addresses
// may be mapped into IPv6.
func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), err
	}
	p, err := netip.ParsePrefix(s)
	if a := p.Addr(); err == nil && a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), err
}

func (p prefixes) match(_ *evaluation, value string) bool {
	a, err := netip.ParseAddr(value)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

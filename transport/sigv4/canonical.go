package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const signedPrefix = "X-Amz-" // headers that must be signed

// appendRequest appends the canonical request of r (AWS page "Create a signed AWS API request", step 1).
func appendRequest(b []byte, r *http.Request, signedHeaders string, body []byte) ([]byte, error) {
	if r.URL.EscapedPath() != "/" {
		return b, errForged
	}
	b = append(append(b, r.Method...), "\n/\n"...)
	b, err := appendQuery(b, r.URL.RawQuery)
	if err != nil {
		return b, err
	}
	b = append(b, '\n')
	if b, err = appendHeaders(b, r, signedHeaders); err != nil {
		return b, err
	}
	b = append(append(append(b, '\n'), signedHeaders...), '\n')
	hash := sha256.Sum256(body)
	return hex.AppendEncode(b, hash[:]), nil
}

// appendQuery appends the sorted parameters, each name and value percent-encoded as in RFC 3986.
func appendQuery(b []byte, raw string) ([]byte, error) {
	if raw == "" {
		return b, nil
	}
	var params []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(name)
		if err != nil {
			return b, errForged
		}
		if value, err = url.PathUnescape(value); err != nil {
			return b, errForged
		}
		params = append(params, escape(name)+"="+escape(value))
	}
	slices.Sort(params)
	return append(b, strings.Join(params, "&")...), nil
}

// escape percent-encodes everything but the unreserved characters of RFC 3986 section 2.3.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// appendHeaders appends a line for each signed header. It refuses a list that is not sorted or that
// lacks a header which must be signed.
func appendHeaders(b []byte, r *http.Request, signedHeaders string) ([]byte, error) {
	host, needed := false, 0
	last := ""
	for name := range strings.SplitSeq(signedHeaders, ";") {
		if name <= last {
			return b, errForged // also prevents a name from counting twice
		}
		last = name
		b = append(append(b, name...), ':')
		var key [64]byte
		values, present := r.Header[string(appendHeaderKey(key[:0], name))]
		switch {
		case name == "host":
			b, host = append(b, r.Host...), true
		case name == "content-length" && !present:
			b = strconv.AppendInt(b, r.ContentLength, 10)
		default:
			if present && strings.HasPrefix(name, "x-amz-") {
				needed++
			}
			b = appendValues(b, values)
		}
		b = append(b, '\n')
	}
	if !host {
		return b, invalid(unsignedHeader, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for key := range r.Header {
		if strings.HasPrefix(key, signedPrefix) {
			needed--
		}
	}
	if needed != 0 {
		return b, unsigned(r.Header, signedHeaders)
	}
	return b, nil
}

const unsignedHeader = "a header that must be signed is not" // Error.Reason

// unsigned names a header that should have been signed.
func unsigned(h http.Header, signedHeaders string) error {
	signed := strings.Split(signedHeaders, ";")
	var left []string
	for key := range h {
		if strings.HasPrefix(key, signedPrefix) && !slices.Contains(signed, strings.ToLower(key)) {
			left = append(left, key)
		}
	}
	slices.Sort(left)
	return invalid(unsignedHeader, "'"+strings.Join(left, "', '")+"' must be a 'SignedHeader' in the AWS Authorization.")
}

// appendHeaderKey appends a header's name as net/http spells it.
func appendHeaderKey(b []byte, name string) []byte {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
		upper = c == '-'
	}
	return b
}

// appendValues appends a header's values, separated by commas. Each is trimmed, and runs of spaces
// become one space.
func appendValues(b []byte, values []string) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		v = strings.Trim(v, " \t")
		space := false
		for j := range len(v) {
			if v[j] == ' ' && space {
				continue
			}
			space = v[j] == ' '
			b = append(b, v[j])
		}
	}
	return b
}

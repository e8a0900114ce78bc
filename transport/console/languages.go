package console

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// python writes a value as boto3 takes it.
func python(m *member, value any) string {
	switch v := value.(type) {
	case bool:
		if v {
			return "True"
		}
		return "False"
	case []byte:
		if printable(v) {
			return "b" + plainJSON(string(v))
		}
		return `base64.b64decode("` + base64.StdEncoding.EncodeToString(v) + `")`
	case []any:
		return "[" + spaced(v, func(e any) string { return python(m.Element, e) }) + "]"
	case []pair:
		return "{" + spaced(v, func(p pair) string { return plainJSON(p.name) + ": " + python(p.member, p.value) }) + "}"
	case json.Number:
		return v.String()
	}
	return plainJSON(value)
}

func spaced[T any](values []T, f func(T) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = f(v)
	}
	return strings.Join(parts, ", ")
}

// golang writes a value as the AWS SDK for Go takes it; pointer is whether strings and numbers
// there are pointers.
func golang(m *member, value any, pointer bool) string {
	wrap := func(f, v string) string {
		if pointer {
			return "aws." + f + "(" + v + ")"
		}
		return v
	}
	switch v := value.(type) {
	case bool:
		if m.Shape == "BooleanType" { // which has a default, so that the SDK has no pointer
			return strconv.FormatBool(v)
		}
		return wrap("Bool", strconv.FormatBool(v))
	case string:
		if len(m.Values) > 0 {
			return "types." + m.Shape + constantWords(v)
		}
		return wrap("String", strconv.Quote(v))
	case []byte:
		if printable(v) {
			return "[]byte(" + strconv.Quote(string(v)) + ")"
		}
		return "decode(" + strconv.Quote(base64.StdEncoding.EncodeToString(v)) + ")"
	case json.Number:
		if m.Kind == kindTimestamp {
			return wrap("Time", "time.Unix("+v.String()+", 0)")
		}
		return wrap("Int32", v.String())
	case []any:
		element, implied := "string", ""
		switch {
		case m.Element.structure != "":
			element = "types." + m.Element.structure
			implied = element // gofmt -s
		case len(m.Element.Values) > 0:
			element = "types." + m.Element.Shape
		}
		return "[]" + element + "{" + spaced(v, func(e any) string {
			return strings.TrimPrefix(golang(m.Element, e, false), implied)
		}) + "}"
	case []pair:
		if m.Kind == kindMap {
			return "map[string]string{" + spaced(v, func(p pair) string {
				return strconv.Quote(p.name) + ": " + golang(p.member, p.value, false)
			}) + "}"
		}
		literal := "types." + m.structure + "{" + spaced(v, func(p pair) string {
			return p.name + ": " + golang(p.member, p.value, true)
		}) + "}"
		if m.Name != "" { // not an element of a list
			return "&" + literal
		}
		return literal
	}
	panic(fmt.Sprintf("no member has a value of type %T", value))
}

// printable tells whether bytes are better shown as text.
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// constantWords names a value as the SDK's constants do: SYMMETRIC_DEFAULT is SymmetricDefault, and
// Decrypt stays so.
func constantWords(value string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(value, "_") {
		if strings.ToUpper(word) == word {
			word = word[:1] + strings.ToLower(word[1:])
		}
		b.WriteString(word)
	}
	return b.String()
}

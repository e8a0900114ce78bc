package transport

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/verenc/kms/service"
)

// decoder reads requests of one type: JSON members into fields of the same name, each checked against its shape.
// Members that the type lacks are ignored, null is absent, and names are exact, as AWS has it.
type decoder struct {
	fields []field
}

type field struct {
	name     string // of the member, and of the field
	path     string // in messages: the name with a small first letter
	index    int
	shape    *shape
	required bool
	elem     *decoder // of a structure, or of the structures in a list
}

// newDecoder panics when the type names a shape that is not there, so that a start shows it.
func newDecoder(t reflect.Type) *decoder {
	d := &decoder{}
	for i := range t.NumField() {
		f := t.Field(i)
		s, ok := shapes[f.Tag.Get("shape")]
		if !ok {
			panic(fmt.Sprintf("%s.%s: no shape %q", t, f.Name, f.Tag.Get("shape")))
		}
		m := field{name: f.Name, path: lowerFirst(f.Name), index: i, shape: s, required: f.Tag.Get("required") == "true"}
		if e := structOf(f.Type); e != nil {
			m.elem = newDecoder(e)
		}
		d.fields = append(d.fields, m)
	}
	return d
}

// structOf gives S of *S and []S.
func structOf(t reflect.Type) reflect.Type {
	if (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) && t.Elem().Kind() == reflect.Struct {
		return t.Elem()
	}
	return nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// errSerialization is a body that is not of the request's form.
type errSerialization struct{ message string }

func (e *errSerialization) Error() string { return e.message }

func malformed(format string, args ...any) error {
	return &errSerialization{fmt.Sprintf(format, args...)}
}

// decode fills the structure that into points to. It fails with an errSerialization, or with a ValidationException that
// counts every violation.
func (d *decoder) decode(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	if !utf8.Valid(body) {
		return malformed("The request body is not UTF-8.")
	}
	if halfPair(body) {
		return malformed("The request body has half of a surrogate pair.")
	}
	var found violations
	if err := d.object(body, reflect.ValueOf(into).Elem(), "", &found); err != nil {
		return err
	}
	return found.err()
}

// escape matches an escape of JSON, or two that are a surrogate pair; half of one is its group.
var escape = regexp.MustCompile(`\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)`)

// halfPair tells whether a JSON text has the escape of half a surrogate pair, which is no character. encoding/json turns
// each of them into the same U+FFFD, so that different encryption contexts would become one.
func halfPair(body []byte) bool {
	if !bytes.Contains(body, []byte(`\ud`)) && !bytes.Contains(body, []byte(`\uD`)) {
		return false
	}
	for _, e := range escape.FindAllSubmatchIndex(body, -1) {
		if e[2] >= 0 {
			return true
		}
	}
	return false
}

func (d *decoder) object(raw json.RawMessage, into reflect.Value, prefix string, found *violations) error {
	if jsonKind(raw) != "Start of structure or map" {
		return unexpected(raw, "Structure")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return malformed("The request body is not valid JSON.")
	}
	for i := range d.fields {
		f := &d.fields[i]
		value, given := members[f.name]
		if !given || string(value) == "null" {
			if f.required {
				found.add("Value null at '%s' failed to satisfy constraint: Member must not be null", prefix+f.path)
			}
			continue
		}
		err := f.value(value, into.Field(f.index), prefix+f.path, found)
		clear(value) // it may hold a plaintext
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *field) value(raw json.RawMessage, into reflect.Value, path string, found *violations) error {
	switch v := into.Addr().Interface().(type) {
	case *string:
		return readString(raw, v, f.shape, path, found)
	case *bool:
		if kind := jsonKind(raw); kind != "TRUE_VALUE" && kind != "FALSE_VALUE" {
			return unexpected(raw, "Boolean")
		}
		*v = raw[0] == 't'
		return nil
	case *service.Timestamp:
		return readTimestamp(raw, v)
	case *int32:
		return readNumber(raw, v, f.shape, path, found)
	case *[]byte:
		return readBlob(raw, v, f.shape, path, found)
	case *[]string:
		return readList(raw, v, f.shape, path, found)
	case *map[string]string:
		return readMap(raw, v, path, found)
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		return f.elem.object(raw, into.Elem(), path+".", found)
	}
	return f.structures(raw, into, path, found)
}

// structures reads a list of structures.
func (f *field) structures(raw json.RawMessage, into reflect.Value, path string, found *violations) error {
	var elements []json.RawMessage
	if jsonKind(raw) != "Start of list" || json.Unmarshal(raw, &elements) != nil {
		return unexpected(raw, "List")
	}
	into.Set(reflect.MakeSlice(into.Type(), len(elements), len(elements)))
	for i, e := range elements {
		if err := f.elem.object(e, into.Index(i), fmt.Sprintf("%s.%d.member.", path, i+1), found); err != nil {
			return err
		}
	}
	found.length(f.shape, path, "", len(elements))
	return nil
}

func readString(raw json.RawMessage, v *string, s *shape, path string, found *violations) error {
	if jsonKind(raw) != "STRING_VALUE" || json.Unmarshal(raw, v) != nil {
		return unexpected(raw, "String")
	}
	found.checkString(s, path, *v)
	return nil
}

func readNumber(raw json.RawMessage, v *int32, s *shape, path string, found *violations) error {
	n, err := strconv.ParseFloat(string(raw), 64)
	if jsonKind(raw) != "NUMBER_VALUE" || err != nil || n != math.Trunc(n) || math.Abs(n) > math.MaxInt32 {
		return unexpected(raw, "Integer")
	}
	*v = int32(n)
	switch {
	case int(*v) < s.min:
		found.add("Value '%d' at '%s' failed to satisfy constraint: Member must have value greater than or equal to %d", *v, path, s.min)
	case int(*v) > s.max:
		found.add("Value '%d' at '%s' failed to satisfy constraint: Member must have value less than or equal to %d", *v, path, s.max)
	}
	return nil
}

// maxSeconds bounds a time in a request: the year 9999.
const maxSeconds = 253402300799

// readTimestamp reads seconds since 1970, with a fraction.
func readTimestamp(raw json.RawMessage, v *service.Timestamp) error {
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if jsonKind(raw) != "NUMBER_VALUE" || err != nil || math.Abs(seconds) > maxSeconds {
		return unexpected(raw, "Timestamp")
	}
	*v = service.Timestamp(time.UnixMilli(int64(math.Round(seconds * 1000))).UTC())
	return nil
}

func readBlob(raw json.RawMessage, v *[]byte, s *shape, path string, found *violations) error {
	if jsonKind(raw) != "STRING_VALUE" {
		return unexpected(raw, "Blob")
	}
	if json.Unmarshal(raw, v) != nil {
		return malformed("Member '%s' is not valid Base64.", path)
	}
	n := len(*v)
	found.length(s, path, fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", n, n), n)
	return nil
}

func readList(raw json.RawMessage, v *[]string, s *shape, path string, found *violations) error {
	var elements []json.RawMessage
	if jsonKind(raw) != "Start of list" || json.Unmarshal(raw, &elements) != nil {
		return unexpected(raw, "List")
	}
	*v = make([]string, len(elements))
	for i, e := range elements {
		if err := readString(e, &(*v)[i], shapes[s.member], fmt.Sprintf("%s.%d.member", path, i+1), found); err != nil {
			return err
		}
	}
	found.length(s, path, "["+strings.Join(*v, ", ")+"]", len(*v))
	return nil
}

func readMap(raw json.RawMessage, v *map[string]string, path string, found *violations) error {
	var entries map[string]json.RawMessage
	if jsonKind(raw) != "Start of structure or map" || json.Unmarshal(raw, &entries) != nil {
		return unexpected(raw, "Map")
	}
	*v = make(map[string]string, len(entries))
	for _, k := range slices.Sorted(maps.Keys(entries)) {
		if string(entries[k]) == "null" {
			found.add("Value null at '%s.%s.member' failed to satisfy constraint: Member must not be null", path, k)
			continue
		}
		var value string
		if jsonKind(entries[k]) != "STRING_VALUE" || json.Unmarshal(entries[k], &value) != nil {
			return unexpected(entries[k], "String")
		}
		(*v)[k] = value
	}
	return nil
}

// jsonKind names the kind of a JSON value as AWS's messages do.
func jsonKind(raw json.RawMessage) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "Nothing"
	}
	switch raw[0] {
	case '{':
		return "Start of structure or map"
	case '[':
		return "Start of list"
	case '"':
		return "STRING_VALUE"
	case 't':
		return "TRUE_VALUE"
	case 'f':
		return "FALSE_VALUE"
	case 'n':
		return "NULL_VALUE"
	}
	return "NUMBER_VALUE"
}

func unexpected(raw json.RawMessage, want string) error {
	switch kind := jsonKind(raw); {
	case strings.HasPrefix(kind, "Start"):
		return malformed("%s found where not expected.", kind)
	case want == "List" || want == "Map" || want == "Structure":
		return malformed("Unexpected field type")
	case want == "Integer":
		return malformed("%s can not be converted to an %s", kind, want)
	default:
		return malformed("%s can not be converted to a %s", kind, want)
	}
}

// maxNamed is how many violations a message spells out; it counts all.
const maxNamed = 20

// violations collects what is wrong with a request's members, in AWS's words.
type violations struct {
	named []string
	count int
}

func (v *violations) add(format string, args ...any) {
	v.count++
	if len(v.named) < maxNamed { // or a request of many would cost much
		v.named = append(v.named, fmt.Sprintf(format, args...))
	}
}

func (v *violations) checkString(s *shape, path, value string) {
	if s.min > 0 || s.max > 0 {
		v.length(s, path, value, utf8.RuneCountInString(value))
	}
	if s.match != nil && !s.match.MatchString(value) {
		v.add("%s failed to satisfy constraint: Member must satisfy regular expression pattern: %s", at(s, path, value), s.pattern)
	}
	if len(s.values) > 0 && !slices.Contains(s.values, value) {
		v.add("%s failed to satisfy constraint: Member must satisfy enum value set: [%s]", at(s, path, value), strings.Join(s.values, ", "))
	}
}

func (v *violations) length(s *shape, path, value string, n int) {
	switch {
	case n < s.min:
		v.add("%s failed to satisfy constraint: Member must have length greater than or equal to %d", at(s, path, value), s.min)
	case s.max > 0 && n > s.max:
		v.add("%s failed to satisfy constraint: Member must have length less than or equal to %d", at(s, path, value), s.max)
	}
}

// maxEcho is how much of a wrong value a message repeats.
const maxEcho = 1024 // bytes

// at says which value is wrong.
func at(s *shape, path, value string) string {
	if s.sensitive {
		return fmt.Sprintf("Value at '%s'", path)
	}
	if len(value) > maxEcho {
		value = strings.ToValidUTF8(value[:maxEcho], "") + "..."
	}
	return fmt.Sprintf("Value '%s' at '%s'", value, path)
}

func (v *violations) err() error {
	if v.count == 0 {
		return nil
	}
	noun := "errors"
	if v.count == 1 {
		noun = "error"
	}
	return &service.Error{Code: service.CodeValidation,
		Message: fmt.Sprintf("%d validation %s detected: %s", v.count, noun, strings.Join(v.named, "; "))}
}

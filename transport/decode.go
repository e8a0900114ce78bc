package transport

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
)

// decoder reads requests of one type: JSON members into fields of the same name, each checked
// against its shape. As with AWS, members that the type does not have are ignored, null means
// absent, and names are case-sensitive.
type decoder struct {
	fields []field
	named  map[string]int // indexes of fields by name
}

type field struct {
	name     string // of the member, and of the field
	path     string // in messages: the name with a lower-case first letter
	index    int
	shape    *shape
	required bool
	elem     *decoder // of a structure, or of the structures in a list
}

// mostFields is the number of fields that a request, or a structure in one, may have.
const mostFields = 32

// newDecoder panics if the type has a shape that is not in shapes, or too many fields, so that a program
// with such a type does not start.
func newDecoder(t reflect.Type) *decoder {
	if t.NumField() > mostFields {
		panic(fmt.Sprintf("%s has %d fields", t, t.NumField()))
	}
	d := &decoder{named: map[string]int{}}
	for i := range t.NumField() {
		f := t.Field(i)
		s, ok := shapes[f.Tag.Get("shape")]
		if !ok {
			panic(fmt.Sprintf("%s.%s: no shape %q", t, f.Name, f.Tag.Get("shape")))
		}
		required := f.Tag.Get("required") == "true"
		m := field{name: f.Name, path: lowerFirst(f.Name), index: i, shape: s, required: required}
		if e := structOf(f.Type); e != nil {
			m.elem = newDecoder(e)
		}
		d.named[f.Name] = len(d.fields)
		d.fields = append(d.fields, m)
	}
	return d
}

// structOf returns the structure S of *S and []S.
func structOf(t reflect.Type) reflect.Type {
	if (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) && t.Elem().Kind() == reflect.Struct {
		return t.Elem()
	}
	return nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// errSerialization is the error for a body that is not JSON of the request's type.
type errSerialization struct{ message string }

func (e *errSerialization) Error() string { return e.message }

func malformed(format string, args ...any) error {
	return &errSerialization{fmt.Sprintf(format, args...)}
}

// decode reads body into the structure that into points to. It fails with an errSerialization, or
// with a ValidationException that counts every violation. It does not retain body.
func (d *decoder) decode(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	if !utf8.Valid(body) {
		return malformed("The request body is not UTF-8.")
	}
	var found violations
	if err := d.object(body, reflect.ValueOf(into).Elem(), "", &found); err != nil {
		return err
	}
	return found.err()
}

var errNotJSON = malformed("The request body is not valid JSON.")

func (d *decoder) object(raw jsontext.Value, into reflect.Value, prefix string, found *violations) error {
	if jsonKind(raw) != "Start of structure or map" {
		return unexpected(raw, "Structure")
	}
	var room [mostFields]jsontext.Value
	given := room[:len(d.fields)]
	err := eachMember(raw, func(name []byte, value jsontext.Value) error {
		if i, ours := d.named[string(name)]; ours {
			given[i] = value // the last one of a name counts
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range d.fields {
		f := &d.fields[i]
		if value := given[i]; value != nil && value.Kind() != 'n' {
			if err := f.value(value, into.Field(f.index), prefix+f.path, found); err != nil {
				return err
			}
		} else if f.required {
			found.add("Value null at '%s' failed to satisfy constraint: Member must not be null", prefix+f.path)
		}
	}
	return nil
}

// readers read JSON. They reject unpaired surrogates, which would make different encryption
// contexts equal.
var readers = sync.Pool{New: func() any { return new(textReader) }}

type textReader struct {
	jsontext.Decoder
	source bytes.Buffer
}

// read calls piece for each name and each value of an object, in turn, or for each element of a
// list. The pieces are parts of raw, which must have nothing else.
func read(raw jsontext.Value, piece func(jsontext.Value) error) error {
	r := readers.Get().(*textReader)
	r.source = *bytes.NewBuffer(raw) // the decoder does not copy it
	r.Reset(&r.source, jsontext.AllowDuplicateNames(true))
	defer func() {
		r.source = bytes.Buffer{}
		r.Reset(&r.source)
		readers.Put(r)
	}()
	if _, err := r.ReadToken(); err != nil {
		return errNotJSON
	}
	for kind := r.PeekKind(); kind != '}' && kind != ']'; kind = r.PeekKind() {
		value, err := r.ReadValue()
		if err != nil {
			return errNotJSON
		}
		end := r.InputOffset() // value itself is valid only until the next call
		if err := piece(raw[end-int64(len(value)) : end]); err != nil {
			return err
		}
	}
	if _, err := r.ReadToken(); err != nil {
		return errNotJSON
	}
	if _, err := r.ReadToken(); err != io.EOF {
		return errNotJSON
	}
	return nil
}

// eachMember reads an object.
func eachMember(raw jsontext.Value, member func(name []byte, value jsontext.Value) error) error {
	var name []byte
	return read(raw, func(piece jsontext.Value) (err error) {
		if name == nil {
			name, err = unquote(piece)
			return err
		}
		err = member(name, piece)
		name = nil
		return err
	})
}

// unquote returns the characters of a valid JSON string. They are a part of raw, unless some are
// escaped.
func unquote(raw jsontext.Value) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	text, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw)
	if err != nil {
		return nil, errNotJSON
	}
	return text, nil
}

func (f *field) value(raw jsontext.Value, into reflect.Value, path string, found *violations) error {
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
func (f *field) structures(raw jsontext.Value, into reflect.Value, path string, found *violations) error {
	elements, err := readElements(raw)
	if err != nil {
		return err
	}
	into.Set(reflect.MakeSlice(into.Type(), len(elements), len(elements)))
	for i, e := range elements {
		if err := f.elem.object(e, into.Index(i), fmt.Sprintf("%s.%d.member.", path, i+1), found); err != nil {
			return err
		}
	}
	found.length(f.shape, path, len(elements), func() string { return "" })
	return nil
}

func readElements(raw jsontext.Value) (elements []jsontext.Value, err error) {
	if jsonKind(raw) != "Start of list" {
		return nil, unexpected(raw, "List")
	}
	err = read(raw, func(e jsontext.Value) error {
		elements = append(elements, e)
		return nil
	})
	return elements, err
}

func readString(raw jsontext.Value, v *string, s *shape, path string, found *violations) error {
	if err := readText(raw, v); err != nil {
		return err
	}
	found.checkString(s, path, *v)
	return nil
}

func readText(raw jsontext.Value, v *string) error {
	text, err := textOf(raw)
	*v = string(text)
	return err
}

// textOf returns the characters of a string, which may be a part of raw.
func textOf(raw jsontext.Value) ([]byte, error) {
	if jsonKind(raw) != "STRING_VALUE" {
		return nil, unexpected(raw, "String")
	}
	return unquote(raw)
}

func readNumber(raw jsontext.Value, v *int32, s *shape, path string, found *violations) error {
	n, err := strconv.ParseFloat(string(raw), 64)
	if jsonKind(raw) != "NUMBER_VALUE" || err != nil || n != math.Trunc(n) || math.Abs(n) > math.MaxInt32 {
		return unexpected(raw, "Integer")
	}
	*v = int32(n)
	switch {
	case int(*v) < s.min:
		found.add("Value '%d' at '%s' failed to satisfy constraint: "+
			"Member must have value greater than or equal to %d", *v, path, s.min)
	case int(*v) > s.max:
		found.add("Value '%d' at '%s' failed to satisfy constraint: "+
			"Member must have value less than or equal to %d", *v, path, s.max)
	}
	return nil
}

// maxSeconds bounds a time in a request: the year 9999.
const maxSeconds = 253402300799

// readTimestamp reads seconds since 1970, with a fraction.
func readTimestamp(raw jsontext.Value, v *service.Timestamp) error {
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if jsonKind(raw) != "NUMBER_VALUE" || err != nil || math.Abs(seconds) > maxSeconds {
		return unexpected(raw, "Timestamp")
	}
	*v = service.Timestamp(time.UnixMilli(int64(math.Round(seconds * 1000))).UTC())
	return nil
}

func readBlob(raw jsontext.Value, v *[]byte, s *shape, path string, found *violations) error {
	if jsonKind(raw) != "STRING_VALUE" {
		return unexpected(raw, "Blob")
	}
	text, err := unquote(raw)
	if err != nil {
		return err
	}
	blob := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(blob, text)
	if len(text) != len(raw)-2 {
		clear(text) // a copy, which may be of a plaintext
	}
	if err != nil {
		clear(blob)
		return malformed("Member '%s' is not valid Base64.", path)
	}
	*v = blob[:n]
	found.length(s, path, n, func() string {
		return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", n, n)
	})
	return nil
}

func readList(raw jsontext.Value, v *[]string, s *shape, path string, found *violations) error {
	elements, err := readElements(raw)
	if err != nil {
		return err
	}
	*v = make([]string, len(elements))
	for i, e := range elements {
		at := fmt.Sprintf("%s.%d.member", path, i+1)
		if err := readString(e, &(*v)[i], shapes[s.member], at, found); err != nil {
			return err
		}
	}
	found.length(s, path, len(*v), func() string { return "[" + strings.Join(*v, ", ") + "]" })
	return nil
}

func readMap(raw jsontext.Value, v *map[string]string, path string, found *violations) error {
	if jsonKind(raw) != "Start of structure or map" {
		return unexpected(raw, "Map")
	}
	*v = map[string]string{}
	var nulls map[string]bool
	var copied strings.Builder // all names and values, unescaped; it is never too small
	copied.Grow(len(raw))
	keep := func(text []byte) string {
		start := copied.Len()
		copied.Write(text)
		return copied.String()[start:]
	}
	err := eachMember(raw, func(name []byte, value jsontext.Value) error {
		k := keep(name)
		delete(*v, k)
		delete(nulls, k)
		if value.Kind() == 'n' {
			if nulls == nil {
				nulls = map[string]bool{}
			}
			nulls[k] = true
			return nil
		}
		text, err := textOf(value)
		if err == nil {
			(*v)[k] = keep(text)
		}
		return err
	})
	if len(nulls) == 0 {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(nulls)) {
		found.add("Value null at '%s.%s.member' failed to satisfy constraint: Member must not be null", path, k)
	}
	return err
}

// jsonKind names the kind of a JSON value as AWS's messages do.
func jsonKind(raw jsontext.Value) string {
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

func unexpected(raw jsontext.Value, want string) error {
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

// maxNamed is the number of violations that a message has; it counts all of them.
const maxNamed = 20

// violations collects the violated constraints of a request, in AWS's words.
type violations struct {
	named []string
	count int
}

func (v *violations) add(format string, args ...any) {
	v.count++
	if len(v.named) < maxNamed { // a request may have very many
		v.named = append(v.named, fmt.Sprintf(format, args...))
	}
}

func (v *violations) checkString(s *shape, path, value string) {
	if s.min > 0 || s.max > 0 {
		v.length(s, path, utf8.RuneCountInString(value), func() string { return value })
	}
	if s.match != nil && !s.match.MatchString(value) {
		v.add("%s failed to satisfy constraint: Member must satisfy regular expression pattern: %s",
			at(s, path, value), s.pattern)
	}
	if len(s.values) > 0 && !slices.Contains(s.values, value) {
		v.add("%s failed to satisfy constraint: Member must satisfy enum value set: [%s]",
			at(s, path, value), strings.Join(s.values, ", "))
	}
}

// length checks a length. value returns the value as messages show it.
func (v *violations) length(s *shape, path string, n int, value func() string) {
	switch {
	case n < s.min:
		v.add("%s failed to satisfy constraint: Member must have length greater than or equal to %d",
			at(s, path, value()), s.min)
	case s.max > 0 && n > s.max:
		v.add("%s failed to satisfy constraint: Member must have length less than or equal to %d",
			at(s, path, value()), s.max)
	}
}

// maxEcho is the length of the part of a wrong value that a message repeats.
const maxEcho = 1024 // bytes

// at names a wrong value.
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
	return &apierror.Error{Code: apierror.Validation,
		Message: fmt.Sprintf("%d validation %s detected: %s", v.count, noun, strings.Join(v.named, "; "))}
}

package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// appendAnswer appends an answer as JSON, as encoding/json encodes it without escapes for HTML. The answers
// of cryptographic operations have texts, bytes and truth values only: those are written field by field,
// and encoding/json, whose buffers are not wiped, never sees their plaintexts.
func appendAnswer(b []byte, v any) ([]byte, error) {
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Pointer && !value.IsNil() {
		if fields := plainFields(value.Type().Elem()); fields != nil {
			return appendFields(b, value.Elem(), fields), nil
		}
	}
	return appendEncoded(b, v)
}

func appendEncoded(b []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// plainField is a field that is written without encoding/json.
type plainField struct {
	index     int
	name      string // as it is written: quoted, with its colon
	omitEmpty bool
}

var plainTypes sync.Map // reflect.Type to []plainField, nil for a type that has other fields

// plainFields are the fields of a structure, nil if some must be left to encoding/json.
func plainFields(t reflect.Type) []plainField {
	if known, ok := plainTypes.Load(t); ok {
		return known.([]plainField)
	}
	fields := findPlainFields(t)
	plainTypes.Store(t, fields)
	return fields
}

func findPlainFields(t reflect.Type) (fields []plainField) {
	if t.Kind() != reflect.Struct || t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		kind := f.Type.Kind()
		plain := kind == reflect.String || kind == reflect.Bool ||
			kind == reflect.Slice && f.Type.Elem().Kind() == reflect.Uint8
		if !plain || !f.IsExported() || f.Anonymous || f.Type.Implements(marshaler) || tag != "" && tag != ",omitempty" {
			return nil
		}
		fields = append(fields, plainField{i, `"` + f.Name + `":`, tag != ""})
	}
	return fields
}

var marshaler = reflect.TypeFor[json.Marshaler]()

func appendFields(b []byte, v reflect.Value, fields []plainField) []byte {
	b = append(b, '{')
	for i := range fields {
		f := &fields[i]
		member := v.Field(f.index)
		if f.omitEmpty && (member.Kind() == reflect.Bool && !member.Bool() ||
			member.Kind() != reflect.Bool && member.Len() == 0) {
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(b, f.name...)
		switch member.Kind() {
		case reflect.String:
			b = appendText(b, member.String())
		case reflect.Bool:
			if member.Bool() {
				b = append(b, "true"...)
			} else {
				b = append(b, "false"...)
			}
		default:
			if member.IsNil() {
				b = append(b, "null"...)
			} else {
				b = append(base64.StdEncoding.AppendEncode(append(b, '"'), member.Bytes()), '"')
			}
		}
	}
	return append(b, '}')
}

// appendText appends a string. Nearly all strings have no characters to escape.
func appendText(b []byte, s string) []byte {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		b, _ = appendEncoded(b, s) // a string has no error
		return b
	}
	return append(append(append(b, '"'), s...), '"')
}

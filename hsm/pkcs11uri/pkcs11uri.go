// Package pkcs11uri reads PKCS#11 URIs (RFC 7512) that name a private key in a token. It is strict: what it
// does not use it refuses, so that no attribute is believed to limit what is found when it does not. It is
// pure.
package pkcs11uri

import (
	"errors"
	"fmt"
	"strings"
)

// Scheme begins every PKCS#11 URI.
const Scheme = "pkcs11:"

// maxLength bounds a URI, in bytes: labels have 32 bytes, and ids seldom more.
const maxLength = 2048

// Key is what a URI says of a private key. An empty field is not compared; Object or ID is set.
type Key struct {
	Token, Manufacturer, Model, Serial string // of the token: CK_TOKEN_INFO
	Object                             string // CKA_LABEL
	ID                                 string // CKA_ID, any bytes
}

// Is reports whether a setting is a PKCS#11 URI, good or bad, and not the name of a file. RFC 3986 section 3.1
// has schemes in any case.
func Is(text string) bool {
	return len(text) >= len(Scheme) && strings.EqualFold(text[:len(Scheme)], Scheme)
}

// refused are attributes of RFC 7512 sections 2.3 and 2.4 that have no use here, and what to do instead.
var refused = map[string]string{
	"pin-value":  "the PIN has settings of its own, token.pin_file and the variable VERENC_TOKEN_PIN",
	"pin-source": "the PIN has settings of its own, token.pin_file and the variable VERENC_TOKEN_PIN",

	"module-name": "the module is that of the setting token.module",
	"module-path": "the module is that of the setting token.module",

	"slot-id":           "slots are numbered anew when tokens come and go: name the token or its serial number",
	"slot-description":  "name the token or its serial number",
	"slot-manufacturer": "name the token or its serial number",

	"library-description":  "the module is that of the setting token.module",
	"library-manufacturer": "the module is that of the setting token.module",
	"library-version":      "the module is that of the setting token.module",
}

// Parse reads a URI such as pkcs11:token=kms;object=verenc%2Ftls%2Fkms. It refuses attributes that are unknown,
// empty, repeated, or have no use here, each with an error that says what to do; those of a PIN are not
// quoted.
func Parse(text string) (Key, error) {
	k := Key{}
	fail := func(format string, args ...any) (Key, error) {
		return Key{}, fmt.Errorf("read PKCS#11 URI: "+format, args...)
	}
	if len(text) > maxLength {
		return fail("it has more than %d bytes", maxLength)
	}
	if !Is(text) {
		return fail("it does not begin with %s", Scheme)
	}
	path, query, hasQuery := strings.Cut(text[len(Scheme):], "?")
	fields := map[string]*string{"token": &k.Token, "manufacturer": &k.Manufacturer, "model": &k.Model,
		"serial": &k.Serial, "object": &k.Object, "id": &k.ID}
	kind := ""
	fields["type"] = &kind
	if hasQuery {
		for attribute := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(attribute, "=")
			if instead, known := refused[name]; known {
				return fail("attribute %s: %s", name, instead)
			}
		}
		return fail("attributes after ? have no use here")
	}
	for attribute := range strings.SplitSeq(path, ";") {
		name, encoded, valued := strings.Cut(attribute, "=")
		to, used := fields[name]
		if instead, known := refused[name]; known {
			return fail("attribute %s: %s", name, instead)
		}
		if !used || !valued {
			return fail("%q is no attribute that names a private key: use token, serial, manufacturer, model, "+
				"object, id or type", name)
		}
		value, err := decode(encoded)
		if err != nil {
			return fail("attribute %s: %v", name, err)
		}
		if *to != "" {
			return fail("attribute %s is repeated", name)
		}
		*to = value
	}
	switch {
	case kind != "" && kind != "private":
		return fail("type is %q, not private", kind)
	case k.Object == "" && k.ID == "":
		return fail("it names no key: add object (the key's label) or id")
	}
	return k, nil
}

// unescaped are the characters that need no escape in a value: unreserved ones of RFC 3986 section 2.3, and
// pk11-path-res-avail of RFC 7512 section 2.3.
const unescaped = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:[]@!$'()*+,=&"

// decode undoes the percent-encoding of a value.
func decode(encoded string) (string, error) {
	if encoded == "" {
		return "", errors.New("it is empty")
	}
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		if c != '%' {
			if strings.IndexByte(unescaped, c) < 0 {
				return "", fmt.Errorf("character %q must be written as %%%02X", c, c)
			}
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(encoded) {
			return "", errors.New("% needs two hexadecimal digits")
		}
		high, low := digit(encoded[i+1]), digit(encoded[i+2])
		if high < 0 || low < 0 {
			return "", errors.New("% needs two hexadecimal digits")
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), nil
}

// digit is the value of a hexadecimal digit, negative for another character.
func digit(c byte) int {
	if 'A' <= c && c <= 'F' {
		c += 'a' - 'A'
	}
	return strings.IndexByte("0123456789abcdef", c)
}

// String writes the URI in one spelling: attributes in the order of the fields, ids with every byte escaped.
// Parse of it gives the key again.
func (k Key) String() string {
	var parts []string
	add := func(name, value, plain string) {
		if value == "" {
			return
		}
		var b strings.Builder
		for i := range len(value) {
			if strings.IndexByte(plain, value[i]) >= 0 {
				b.WriteByte(value[i])
			} else {
				fmt.Fprintf(&b, "%%%02X", value[i])
			}
		}
		parts = append(parts, name+"="+b.String())
	}
	add("token", k.Token, unescaped)
	add("manufacturer", k.Manufacturer, unescaped)
	add("model", k.Model, unescaped)
	add("serial", k.Serial, unescaped)
	add("object", k.Object, unescaped)
	add("id", k.ID, "")
	return Scheme + strings.Join(parts, ";")
}

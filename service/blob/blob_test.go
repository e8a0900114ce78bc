package blob

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service/arn"
)

const (
	uuidA = "01234567-89ab-4def-8123-456789abcdef"
	mrkA  = "mrk-0123456789ab4def8123456789abcdef"
)

func TestHeaderBytes(t *testing.T) {
	for _, test := range []struct {
		h    Header
		want string
	}{
		{Header{Form: Sealed, KeyID: uuidA, Ordinal: 1}, "01 01 00 0123456789ab4def8123456789abcdef 00000001"},
		{Header{Form: Sealed, KeyID: mrkA, Ordinal: 1}, "01 01 01 0123456789ab4def8123456789abcdef 00000001"},
		{Header{Form: WrappedDataKey, KeyID: uuidA, Ordinal: 0x01020304, DataKeyBytes: 1024},
			"01 02 00 0123456789ab4def8123456789abcdef 01020304 0400"},
		{Header{Form: WrappedPrivateKey, KeyID: uuidA, Ordinal: 2},
			"01 03 00 0123456789ab4def8123456789abcdef 00000002"},
	} {
		head := test.h.Encode()
		if want := strings.ReplaceAll(test.want, " ", ""); hex.EncodeToString(head) != want {
			t.Errorf("%+v is %x, want %s", test.h, head, want)
		}
		box := bytes.Repeat([]byte{0xee}, Overhead+1)
		h, gotHead, gotBox, err := Parse(append(head, box...))
		if err != nil || h != test.h || !bytes.Equal(gotHead, test.h.Encode()) || !bytes.Equal(gotBox, box) {
			t.Errorf("%+v comes back as %+v, %v", test.h, h, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	h := Header{Form: WrappedDataKey, KeyID: uuidA, Ordinal: 1, DataKeyBytes: 32}
	good := append(h.Encode(), make([]byte, 40+Overhead)...)
	if _, _, _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"version 0":    func(b []byte) []byte { b[0] = 0; return b },
		"version 2":    func(b []byte) []byte { b[0] = 2; return b },
		"form 0":       func(b []byte) []byte { b[1] = 0; return b },
		"form 4":       func(b []byte) []byte { b[1] = 4; return b },
		"unknown flag": func(b []byte) []byte { b[2] = 2; return b },
		"ordinal 0":    func(b []byte) []byte { copy(b[19:], make([]byte, 4)); return b },
		"length 0":     func(b []byte) []byte { b[23], b[24] = 0, 0; return b },
		"length 1025":  func(b []byte) []byte { b[23], b[24] = 4, 1; return b },
		"no box":       func(b []byte) []byte { return b[:longHeader+Overhead-1] },
	} {
		if h, _, _, err := Parse(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: parsed as %+v", name, h)
		}
	}
}

// TestContextIsInjective: contexts that differ must authenticate differently.
func TestContextIsInjective(t *testing.T) {
	contexts := []map[string]string{
		nil, {"": ""}, {"a": ""}, {"": "a"}, {"ab": "c"}, {"a": "bc"}, {"abc": ""},
		{"a": "b", "c": "d"}, {"a": "bcd"}, {"ab": "cd"},
		{"a": "b\x00\x00\x00\x01c"},
		{"a": "d", "c": "b"}, {"a": "1", "b": "1"}, {"a": "1b1"}, {"A": "1", "b": "1"}, {"a\x00": ""}, {"a": "\x00"},
	}
	seen := map[string]int{}
	for i, c := range contexts {
		aad, err := AdditionalData([]byte("head"), c)
		if err != nil {
			t.Fatal(err)
		}
		if j, twice := seen[string(aad)]; twice {
			t.Errorf("%v and %v give the same bytes", contexts[j], c)
		}
		seen[string(aad)] = i
	}
	empty, err := AdditionalData([]byte("head"), map[string]string{})
	if err != nil || seen[string(empty)] != 0 {
		t.Errorf("an empty context differs from none, %v", err)
	}
	got, err := AdditionalData([]byte{0xff}, map[string]string{"b": "2", "a": "xy"})
	want := "verenc-kms/1\xff\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02xy\x00\x00\x00\x01b\x00\x00\x00\x012"
	if string(got) != want || err != nil {
		t.Errorf("%q, want %q, %v", got, want, err)
	}
}

func TestContextLimit(t *testing.T) {
	fits := map[string]string{"k": strings.Repeat("v", MaxContext-4-8-1)}
	if _, err := AdditionalData(nil, fits); err != nil {
		t.Error(err)
	}
	fits["k"] += "v"
	many := map[string]string{}
	for i := range 1000 {
		many[fmt.Sprint(i)] = "v"
	}
	for _, c := range []map[string]string{fits, many} {
		if _, err := AdditionalData(nil, c); err != ErrContextTooLarge {
			t.Errorf("%d pairs: %v", len(c), err)
		}
	}
}

// FuzzParse: what parses encodes to the same bytes again, so no two blobs mean the same.
func FuzzParse(f *testing.F) {
	box := make([]byte, 48+Overhead)
	f.Add(append(Header{Form: Sealed, KeyID: uuidA, Ordinal: 1}.Encode(), box...))
	f.Add(append(Header{Form: WrappedDataKey, KeyID: mrkA, Ordinal: 7, DataKeyBytes: 40}.Encode(), box...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, blob []byte) {
		h, head, box, err := Parse(bytes.Clone(blob))
		if err != nil {
			return
		}
		if again := slices.Concat(h.Encode(), box); !bytes.Equal(again, blob) || !bytes.Equal(head, h.Encode()) {
			t.Errorf("%x parses to %+v, which is %x", blob, h, again)
		}
		if !arn.IsKeyID(h.KeyID) {
			t.Errorf("key id %q", h.KeyID)
		}
	})
}

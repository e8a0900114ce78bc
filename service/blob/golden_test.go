package blob

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// golden is a blob that another implementation of docs/ciphertext-format.md, RFC 5649 and SP 800-38D
// has made. Every version reads it: never change one. Bytes are in hex.
type golden struct {
	Name      string
	Form      Form
	KeyID     string
	Ordinal   uint32
	SealKey   string
	WrapKey   string
	Context   map[string]string
	Plaintext string
	Blob      string
}

func goldens(t *testing.T) (all []golden) {
	t.Helper()
	text, err := os.ReadFile("testdata/golden-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil || len(all) == 0 {
		t.Fatalf("%d golden blobs, %v", len(all), err)
	}
	return all
}

// TestGoldenBlobs opens each with nothing but this package, AES-GCM and AES-KWP.
func TestGoldenBlobs(t *testing.T) {
	forms := map[Form]bool{}
	for _, test := range goldens(t) {
		t.Run(test.Name, func(t *testing.T) {
			forms[test.Form] = true
			want := Header{Form: test.Form, KeyID: test.KeyID, Ordinal: test.Ordinal}
			if test.Form == WrappedDataKey {
				want.DataKeyBytes = len(test.Plaintext) / 2
			}
			h, head, box, err := Parse(unhex(t, test.Blob))
			if err != nil || h != want || !bytes.Equal(head, want.Encode()) {
				t.Fatalf("%+v, head %x, %v, want %+v", h, head, err, want)
			}
			aad, err := AdditionalData(head, test.Context)
			if err != nil {
				t.Fatal(err)
			}
			got := openGCM(t, test.SealKey, box, aad)
			if h.Form != Sealed {
				got = unwrapKWP(t, test.WrapKey, got)
			}
			if hex.EncodeToString(got) != test.Plaintext {
				t.Errorf("%x, want %s", got, test.Plaintext)
			}
		})
	}
	if len(forms) != 3 {
		t.Errorf("forms %v only", forms)
	}
}

// TestSpecification takes the example out of the document.
func TestSpecification(t *testing.T) {
	const path = "../../docs/ciphertext-format.md"
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(document), "\n```\n")
	example, _, found := strings.Cut(example, "\n```\n")
	if !found {
		t.Fatalf("%s has no example", path)
	}
	const nameWidth = 14
	fields, name := map[string]string{}, ""
	for line := range strings.Lines(example) {
		line = strings.TrimRight(line, "\n")
		if len(line) < nameWidth {
			continue
		}
		if own := strings.TrimSpace(line[:nameWidth]); own != "" {
			name = own
		}
		if line = line[nameWidth:]; name != "name" {
			line = strings.ReplaceAll(line, " ", "")
		}
		fields[name] += line
	}
	join := func(names ...string) (all string) {
		for _, name := range names {
			if fields[name] == "" {
				t.Fatalf("the example in %s has no %s", path, name)
			}
			all += fields[name]
		}
		return all
	}
	all := goldens(t)
	i := slices.IndexFunc(all, func(g golden) bool { return g.Name == fields["name"] })
	if i < 0 {
		t.Fatalf("no golden blob is named %q", fields["name"])
	}
	want := all[i]
	head := join("version", "form", "flags", "key id", "ordinal", "length")
	aad, err := AdditionalData(unhex(t, head), want.Context)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range []struct{ what, got, want string }{
		{"seal key", join("seal key"), want.SealKey}, {"wrap key", join("wrap key"), want.WrapKey},
		{"data key", join("data key"), want.Plaintext}, {"header", join("header"), head},
		{"blob", head + join("IV", "ciphertext", "tag"), want.Blob},
		{"additional data", join("label", "header", "context"), hex.EncodeToString(aad)},
	} {
		if pair.got != pair.want {
			t.Errorf("%s of the example in %s is\n%s, want\n%s", pair.what, path, pair.got, pair.want)
		}
	}
}

func openGCM(t *testing.T, key string, box, aad []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(unhex(t, key))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	if gcm.NonceSize()+gcm.Overhead() != Overhead {
		t.Fatalf("Overhead is %d", Overhead)
	}
	plaintext, err := gcm.Open(nil, box[:gcm.NonceSize()], box[gcm.NonceSize():], aad)
	if err != nil {
		t.Fatal(err)
	}
	return plaintext
}

// unwrapKWP is RFC 5649, section 4.2.
func unwrapKWP(t *testing.T, key string, wrapped []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(unhex(t, key))
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(wrapped)
	if n := len(b)/8 - 1; n == 1 {
		block.Decrypt(b, b)
	} else { // RFC 3394, section 2.2.2
		pair := make([]byte, aes.BlockSize)
		for step := 6 * n; step > 0; step-- {
			i := (step-1)%n + 1
			copy(pair, b[:8])
			copy(pair[8:], b[8*i:8*i+8])
			binary.BigEndian.PutUint64(pair, binary.BigEndian.Uint64(pair)^uint64(step))
			block.Decrypt(pair, pair)
			copy(b, pair[:8])
			copy(b[8*i:], pair[8:])
		}
	}
	length, padded := int(binary.BigEndian.Uint32(b[4:])), b[8:]
	if !bytes.Equal(b[:4], []byte{0xa6, 0x59, 0x59, 0xa6}) || len(padded)-length < 0 || len(padded)-length > 7 {
		t.Fatalf("not wrapped with AES-KWP: %x", b)
	}
	return padded[:length]
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

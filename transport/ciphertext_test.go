package transport_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// attackByCiphertext changes each byte of a ciphertext, and cuts it to each length.
func (f *fortress) attackByCiphertext(t *testing.T) {
	noKey := denialOfCiphertext(rootUser, "Decrypt", notInReach)
	for name, blob := range map[string][]byte{"form 1": f.sealed, "form 2": f.wrapped} {
		refused := func(what string, changed []byte, otherKey bool) {
			t.Helper()
			f.logged()
			code, message, named := "InvalidCiphertextException", "", "InvalidCiphertextException"
			if otherKey {
				code, message, named = "AccessDeniedException", noKey, "IncorrectKeyException"
			}
			_, err := f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: changed})
			wantError(t, err, code, message)
			_, err = f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: changed, KeyId: &f.arn})
			wantError(t, err, named, "*")
			if t.Failed() {
				t.Fatalf("%s: %s", name, what)
			}
			text := f.logged()
			if strings.Count(text, "\n") != 2 {
				t.Fatalf("%s: %s: not one line a request: %s", name, what, text)
			}
			f.checkSecrets(t, text, nil, base64.StdEncoding.EncodeToString(changed))
		}
		for i := range blob {
			for _, flip := range []byte{1 << (i % 8), 0xff} {
				changed := bytes.Clone(blob)
				changed[i] ^= flip
				refused(fmt.Sprintf("byte %d xor %#x", i, flip), changed, 3 <= i && i < 19 || i == 2 && flip == 1)
			}
		}
		for n := 1; n < len(blob); n++ {
			refused(fmt.Sprintf("cut to %d bytes", n), blob[:n], false)
		}
		refused("flagged as of a multi-Region key", append([]byte{1, blob[1], 1}, blob[3:]...), true)
		refused("a byte longer", append(bytes.Clone(blob), 0), false)
		refused("a block longer", append(bytes.Clone(blob), make([]byte, 16)...), false)
		refused("twice", append(bytes.Clone(blob), blob...), false)
	}
	f.stands(t)
	if out, err := f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.sealed}); err != nil ||
		string(out.Plaintext) != sealedText {
		t.Errorf("form 1 does not open any more: %v", err)
	}
}

func (f *fortress) attackByContext(t *testing.T) {
	pairs := func(n int) map[string]string {
		c := map[string]string{}
		for i := range n {
			c[fmt.Sprint(i)] = ""
		}
		return c
	}
	const tooLarge = "The encryption context is too large: its keys and values, with 8 bytes for each pair, must not be longer than 8188 bytes."
	for _, test := range []struct {
		name    string
		context map[string]string
		fits    bool
	}{
		{"1000 pairs", pairs(1000), false},
		{"700 pairs", pairs(700), true}, // 4 + 700*8 + 1990 digits
		{"one pair that fits", map[string]string{"k": strings.Repeat("v", 8192-4-8-1)}, true},
		{"one pair that does not", map[string]string{"k": strings.Repeat("v", 8192-4-8)}, false},
		{"a long key", map[string]string{strings.Repeat("k", 8192): ""}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			sealed, err := f.Encrypt(t.Context(),
				&kms.EncryptInput{KeyId: &f.id, Plaintext: []byte("x"), EncryptionContext: test.context})
			if test.fits {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Decrypt(t.Context(),
					&kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob,
						EncryptionContext: test.context}); err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, "ValidationException", tooLarge)
			_, err = f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.wrapped,
				EncryptionContext: test.context})
			wantError(t, err, "ValidationException", tooLarge)
			_, err = f.GenerateDataKeyWithoutPlaintext(t.Context(),
				&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &f.id, NumberOfBytes: aws.Int32(1),
					EncryptionContext: test.context})
			wantError(t, err, "ValidationException", tooLarge)
		})
	}
	// Contexts that would be equal if keys and values were simply joined.
	contexts := []map[string]string{{"ab": "c"}, {"a": "bc"}, {"a": "b", "c": ""}, {"a": "", "b": "c"}, {"a=b": "c"},
		{"a": "b=c"},
		{"a": "b,c=d"}, {"a": "b", "c": "d"}, {"a": "d", "c": "b"}, {`a":"b`: ""}, {"é": "x"}, {"e\u0301": "x"},
		nil, {"": ""}}
	var blobs [][]byte
	for _, c := range contexts {
		out, err := f.GenerateDataKeyWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &f.id, NumberOfBytes: aws.Int32(8), EncryptionContext: c})
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, out.CiphertextBlob)
	}
	for i, made := range contexts {
		for j, used := range contexts {
			_, err := f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blobs[i], EncryptionContext: used})
			if i == j && err != nil {
				t.Errorf("%q does not open its own: %v", made, err)
			}
			if i != j {
				wantError(t, err, "InvalidCiphertextException", "")
			}
		}
	}
	f.stands(t)
}

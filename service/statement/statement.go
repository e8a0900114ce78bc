// Package statement writes and reads signed statements: a head line that says of what kind and version one is, and
// a document of JSON, as a C2SP signed note that one of the service's keys has signed. Whoever has the public key
// can check a statement, without the service.
//
// A document has one spelling, and is refused in any other: what two people have checked is the same, byte for
// byte.
package statement

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/verenc/kms/service/audit"
)

// Text is what is signed. The head ends with a line break.
func Text(head string, document any) (string, error) {
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write a statement: %w", err)
	}
	return head + string(text) + "\n", nil
}

// Sign signs a document. The name of the key is the origin.
func Sign(ctx context.Context, head string, document any, origin string, signer audit.Signer) ([]byte, error) {
	text, err := Text(head, document)
	if err != nil {
		return nil, err
	}
	return audit.SignNote(ctx, origin, signer, text)
}

// Open reads a statement with one of several heads, which one of the verifier keys has signed, into a document.
func Open(signed []byte, keys []string, document any, heads ...string) error {
	text, err := audit.OpenNote(signed, keys...)
	if err != nil {
		return err
	}
	for _, head := range heads {
		body, ok := strings.CutPrefix(text, head)
		if !ok {
			continue
		}
		d := json.NewDecoder(bytes.NewReader([]byte(body)))
		d.DisallowUnknownFields()
		if err := d.Decode(document); err != nil {
			return err
		}
		if _, err := d.Token(); err != io.EOF {
			return errors.New("there is something behind the statement")
		}
		if again, err := Text(head, document); err != nil || again != text {
			return errors.Join(errors.New("it is not spelled as it would be written"), err)
		}
		return nil
	}
	return fmt.Errorf("what is signed is no %s of this version", kind(heads[0]))
}

// kind is the third word of a head: verenc-kms KIND v1.
func kind(head string) string {
	_, rest, _ := strings.Cut(head, " ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// SHA256 is the hash of what a statement names and does not hold, in hex.
func SHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

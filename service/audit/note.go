package audit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// SignNote signs a text that is not a checkpoint with a key of the log, as a C2SP signed note. Its
// first line must contain a space, which that of a checkpoint cannot, so that neither is mistaken
// for the other.
func SignNote(ctx context.Context, origin string, s Signer, text string) ([]byte, error) {
	if first, _, _ := strings.Cut(text, "\n"); validOrigin(first) {
		return nil, errors.New("sign note: its first line may be that of a checkpoint")
	}
	k, err := newSigning(origin, s)
	if err != nil {
		return nil, err
	}
	return signNote(ctx, text, k)
}

// OpenNote returns the text of a note that one of the keys has signed.
func OpenNote(signed []byte, keys ...string) (string, error) {
	verifiers := make([]note.Verifier, len(keys))
	for i, key := range keys {
		var err error
		if verifiers[i], err = NewVerifier(key); err != nil {
			return "", err
		}
	}
	n, err := openNote(signed, verifiers...)
	if err != nil {
		return "", fmt.Errorf("open note: %w", err)
	}
	return n.Text, nil
}

// openNote verifies a signed note. Each signature has only one spelling: note.Open ignores the
// unused bits of the last base64 digit.
func openNote(signed []byte, known ...note.Verifier) (*note.Note, error) {
	n, err := note.Open(signed, note.VerifierList(known...))
	if err != nil {
		return nil, err
	}
	for _, sig := range slices.Concat(n.Sigs, n.UnverifiedSigs) {
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return nil, fmt.Errorf("signature of %s: %w", sig.Name, err)
		}
	}
	return n, nil
}

// Current returns a log's origin and its current signer: the last of those that have signed its latest
// checkpoint. The log may be in use.
func Current(fsys fs.FS, signers []Signer) (origin string, current Signer, err error) {
	signed, err := readSmall(fsys, checkpointFile, maxCheckpoint)
	if err != nil {
		return "", nil, fmt.Errorf("read checkpoint: %w", err)
	}
	origin, _, _ = strings.Cut(string(signed), "\n")
	for _, s := range slices.Backward(signers) {
		key, err := VerifierKey(origin, s.Public())
		if err != nil {
			return "", nil, err
		}
		if _, err := OpenNote(signed, key); err == nil {
			return origin, s, nil
		}
	}
	return "", nil, errors.New("none of the keys has signed the audit log's latest checkpoint")
}

// Origin returns a log's origin, as its checkpoint has it. It verifies nothing.
func Origin(fsys fs.FS) (string, error) {
	signed, err := readSmall(fsys, checkpointFile, maxCheckpoint)
	if err != nil {
		return "", fmt.Errorf("read checkpoint: %w", err)
	}
	c, err := readCheckpoint(signed)
	return c.origin, err
}

// Keys returns a log's origin and its verifier keys, the current one last, which have signed for each
// other. Only somebody who knows one of them from elsewhere can tell that they are the right ones.
// The log may be in use, except at the moment of a Rotate.
func Keys(fsys fs.FS) (origin string, keys []string, err error) {
	h, err := readHead(fsys)
	if err != nil {
		return "", nil, fmt.Errorf("read the audit log's keys: %w", err)
	}
	for _, e := range h.epochs {
		keys = append(keys, e.key.text)
	}
	return h.origin, keys, nil
}

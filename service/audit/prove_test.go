package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	formatslog "github.com/transparency-dev/formats/log"
	formatsnote "github.com/transparency-dev/formats/note"
	formatsproof "github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/tlog"
)

func TestProveEachRecord(t *testing.T) {
	cfg := testConfig(t)
	cfg.Signers, cfg.SegmentBytes = []Signer{ecdsaSigner(t)}, 50_000
	l := open(t, cfg)
	add(t, l, 0, 300)
	must(t, l.Checkpoint(ctx))
	add(t, l, 300, 302)
	files, key := load(t, cfg.Dir), keyOf(t, cfg.Signers[0])

	for n := range int64(300) {
		text, err := Prove(files, n)
		must(t, err)
		got, err := VerifyProof(text, key)
		must(t, err)
		claimed, err := ClaimedRecord(text)
		if must(t, err); !bytes.Equal(claimed, got.Record) {
			t.Errorf("the proof of %d is of %s", n, claimed)
		}
		if got.Index != n || got.Size != 300 || got.Origin != origin ||
			!bytes.Contains(got.Record, fmt.Appendf(nil, `"eventID":"event-%d"`, n)) {
			t.Fatalf("proof of %d proves %+v", n, got)
		}
	}
	for _, n := range []int64{-1, 300, 301, 302} {
		if _, err := Prove(files, n); !errors.Is(err, ErrNotSealed) || errors.Is(err, ErrTampered) {
			t.Errorf("record %d: %v", n, err)
		}
	}
	if from, keys, err := Keys(files); err != nil || from != origin || !slices.Equal(keys, []string{key}) {
		t.Errorf("the keys of %s are %v, %v", from, keys, err)
	}
	if from, err := Origin(files); err != nil || from != origin {
		t.Errorf("the origin is %s, %v", from, err)
	}
	for id, want := range map[string]string{"event-7": "[7]", "request-301": "[301]", "event-": "[]",
		"alice": "[]", "": "[]"} {
		if got, err := Find(files, id); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s is at %v, %v", id, got, err)
		}
	}
	if _, err := Prove(fs.FS(folder{}), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	file := files[segmentName(0)]
	file.Data = bytes.Replace(file.Data, []byte("alice"), []byte("carol"), 1)
	if _, err := Prove(files, 0); !errors.Is(err, ErrTampered) {
		t.Errorf("a changed record is proven: %v", err)
	}
}

// TestOthersReadTheProof lets github.com/transparency-dev/formats read the checkpoint and the
// proof.
func TestOthersReadTheProof(t *testing.T) {
	for _, signer := range []Signer{ed25519Signer(1), ecdsaSigner(t)} {
		cfg := testConfig(t)
		cfg.Signers = []Signer{signer}
		l := open(t, cfg)
		add(t, l, 0, 20)
		must(t, l.Checkpoint(ctx))
		text, err := Prove(load(t, cfg.Dir), 13)
		must(t, err)

		var p formatsproof.TLogProof
		must(t, p.Unmarshal(text))
		known, err := formatsnote.NewVerifier(keyOf(t, signer))
		must(t, err)
		c, _, _, err := formatslog.ParseCheckpoint(p.Checkpoint, origin, known)
		must(t, err)
		hashes := make(tlog.RecordProof, len(p.Hashes))
		for i, h := range p.Hashes {
			hashes[i] = h
		}
		leaf := sha256.Sum256(append([]byte{0}, p.ExtraData...))
		must(t, tlog.CheckRecord(hashes, int64(c.Size), tlog.Hash(c.Hash), int64(p.Index), leaf))
		if p.Index != 13 || c.Size != 20 {
			t.Errorf("index %d of %d", p.Index, c.Size)
		}
	}
}

func TestVerifyProofRefuses(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	must(t, l.Append(ctx, small(0)))
	must(t, l.Append(ctx, small(1)))
	must(t, l.Checkpoint(ctx))
	text, err := Prove(load(t, cfg.Dir), 1)
	must(t, err)
	key := keyOf(t, cfg.Signers[0])
	for i := range text {
		text[i] ^= 1 << (i % 8)
		if got, err := VerifyProof(text, key); err == nil {
			t.Errorf("byte %d changed proves %+v", i, got)
		}
		text[i] ^= 1 << (i % 8)
	}
	if _, err := VerifyProof(text, keyOf(t, ed25519Signer(2))); err == nil {
		t.Error("another key verifies it")
	}
	if _, err := VerifyProof(text, "garbage"); err == nil {
		t.Error("garbage is a key")
	}
	if _, err := VerifyProof(bytes.Replace(text, []byte("\nextra"),
		[]byte("\nextra "+strings.Repeat("A", maxProof)+"\nextra"), 1), key); err == nil {
		t.Error("a huge proof is read")
	}
	_, err = VerifyProof(text, key)
	must(t, err)
}

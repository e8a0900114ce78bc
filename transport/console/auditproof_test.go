package console_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/audit"
)

// signer signs an audit log with a key in memory.
type signer struct{ crypto.Signer }

func (s signer) Sign(_ context.Context, message []byte) ([]byte, error) {
	hash := crypto.Hash(0)
	if _, ok := s.Public().(*ecdsa.PublicKey); ok {
		hash = crypto.SHA256
	}
	return s.Signer.Sign(rand.Reader, message, hash)
}

// signers returns one of each kind.
func signers(t *testing.T) map[string]signer {
	t.Helper()
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	nist, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return map[string]signer{"Ed25519": {edwards}, "ECDSA": {nist}}
}

const origin = "kms.example.com/audit"

// auditLog begins an audit log.
func auditLog(t *testing.T, s audit.Signer) (*audit.Log, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(t.Context(), audit.Config{Dir: dir, Create: true, Origin: origin, Signers: []audit.Signer{s},
		CheckpointWithin: 24 * time.Hour})
	must(t, err)
	t.Cleanup(func() { must(t, log.Close(context.Background())) })
	return log, dir
}

// proofCase is a proof and the key to verify it with.
type proofCase struct{ Text, Key string }

// verdicts has the browser verify proofs. It gives what they prove, or why they are refused.
func verdicts(b *browser, cases []proofCase) []string {
	b.Helper()
	return call[[]string](b, "console/auditproof.js", `await Promise.all(a.map(async ({ Text, Key }) => {
		try {
			const p = await m.verifyProof(Text, Key);
			return [p.origin, p.index, p.size, p.record].join(" ");
		} catch (e) {
			return e.name === "ProofError" ? "refused" : e.name + ": " + e.message;
		}
	}))`, cases)
}

// compare has the browser and the auditor's verifier judge the same proofs. It counts those that are
// refused.
func compare(b *browser, cases []proofCase) (refused int) {
	b.Helper()
	for i, got := range verdicts(b, cases) {
		want := "refused"
		p, err := audit.VerifyProof([]byte(cases[i].Text), cases[i].Key)
		if err == nil {
			want = fmt.Sprintf("%s %d %d %s", p.Origin, p.Index, p.Size, p.Record)
		} else {
			refused++
		}
		if got != want {
			b.Errorf("the browser says\n%s\nthe verifier says\n%s (%v) of\n%s", got, want, err, cases[i].Text)
		}
	}
	return refused
}

// TestAuditProofs: the browser judges proofs as audit.VerifyProof does: those of trees of all shapes,
// and those with any byte changed.
func TestAuditProofs(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/docs")
	for kind, s := range signers(t) {
		log, dir := auditLog(t, s)
		key, err := audit.VerifierKey(origin, s.Public())
		must(t, err)
		var good []proofCase
		for n := range 40 {
			r := &audit.Record{EventTime: time.Unix(1, 0), EventSource: "s", EventName: "n", EventID: fmt.Sprint(n)}
			must(t, log.Append(t.Context(), r))
			must(t, log.Checkpoint(t.Context()))
			for index := range n + 1 {
				text, err := audit.Prove(os.DirFS(dir), int64(index))
				must(t, err)
				good = append(good, proofCase{string(text), key})
			}
		}
		if refused := compare(b, good); refused > 0 {
			t.Errorf("%s: %d proofs are refused", kind, refused)
		}

		var forged []proofCase
		one := good[len(good)-7].Text
		for i := range one {
			changed := []byte(one)
			changed[i] ^= 1 << (i % 7)
			forged = append(forged, proofCase{strings.ToValidUTF8(string(changed), "?"), key})
		}
		if refused := compare(b, forged); refused != len(forged) {
			t.Errorf("%s: %d of %d forged proofs are refused", kind, refused, len(forged))
		}
	}
}

// TestForgedAuditProofs: what an attacker would try, who has the log and not the key.
func TestForgedAuditProofs(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/docs")
	both := signers(t)
	log, dir := auditLog(t, both["ECDSA"])
	for n := range 5 {
		r := &audit.Record{EventTime: time.Unix(1, 0), EventSource: "s", EventName: "n", EventID: fmt.Sprint(n)}
		must(t, log.Append(t.Context(), r))
	}
	must(t, log.Checkpoint(t.Context()))
	text, err := audit.Prove(os.DirFS(dir), 2)
	must(t, err)
	good := string(text)
	key, err := audit.VerifierKey(origin, both["ECDSA"].Public())
	must(t, err)
	other, err := audit.VerifierKey(origin, both["Ed25519"].Public())
	must(t, err)
	head, signed, _ := strings.Cut(good, "\n\n")
	lines := strings.Split(head, "\n")
	note, signature, _ := strings.Cut(signed, "\n\n")
	with := func(n int, line string) string {
		changed := append([]string{}, lines...)
		changed[n] = line
		return strings.Join(changed, "\n") + "\n\n" + signed
	}
	_, name, _ := strings.Cut(key, "+")
	forged := []proofCase{
		{with(1, "extra "+base64.StdEncoding.EncodeToString([]byte(`{"eventName":"n"}`))), key}, // another record
		{with(2, "index 3"), key},                                // another place
		{with(2, "index 5"), key},                                // outside of the tree
		{with(2, "index 281474976710657"), key},                  // outside of all trees
		{with(2, "index 02"), key},                               // another spelling
		{with(3, lines[4]), key},                                 // another path
		{strings.Join(lines[:5], "\n") + "\n\n" + signed, key},   // a path that is too short
		{head + "\n" + lines[3] + "\n\n" + signed, key},          // or too long
		{head + "\n\n" + note + "\n\n", key},                     // no signature
		{head + "\n\n" + note + "\n\n" + signature + "x\n", key}, // what is no signature
		{strings.Replace(good, "\n5\n", "\n6\n", 1), key},        // another size
		{good, other},                         // another key
		{good, "other.example/audit+" + name}, // a key of another log
		{good, strings.Replace(key, "+", "+0", 1)},
		{good, ""},
		{"", key},
		{good + strings.Repeat("x", 128<<10), key},
	}
	if refused := compare(b, forged); refused != len(forged) {
		t.Errorf("%d of %d are refused", refused, len(forged))
	}
	if refused := compare(b, []proofCase{{good, key}, {good, "\n" + key + " "}}); refused > 0 {
		t.Errorf("%d good ones are refused", refused)
	}
}

package audit

import (
	"flag"
	"maps"
	"os"
	"slices"
	"testing"
)

var update = flag.Bool("update", false,
	"write the golden logs anew; what was written before must stay verifiable, so think first")

// TestGoldenLog holds the format: the same records and keys always give the same bytes.
func TestGoldenLog(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 4000
	l := open(t, cfg)
	add(t, l, 0, 3)
	must(t, l.Rotate(ctx, ed25519Signer(2)))
	add(t, l, 3, 6)
	must(t, l.Close(ctx))
	got := load(t, cfg.Dir)
	if *update {
		must(t, os.RemoveAll("testdata/golden"))
		must(t, os.CopyFS("testdata/golden", got))
	}
	want := load(t, "testdata/golden")
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Fatalf("files %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	for name := range want {
		if string(got[name].Data) != string(want[name].Data) {
			t.Errorf("%s is now\n%s, it was\n%s", name, got[name].Data, want[name].Data)
		}
	}
	r, err := Verify(want, VerifyConfig{Keys: []string{keyOf(t, ed25519Signer(1))}})
	if err != nil || r.Sealed != 6 || len(r.Keys) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestGoldenECDSALog verifies a log whose signatures cannot be reproduced, and one of its proofs.
func TestGoldenECDSALog(t *testing.T) {
	if *update {
		cfg := testConfig(t)
		cfg.Signers = []Signer{ecdsaSigner(t)}
		l := open(t, cfg)
		add(t, l, 0, 2)
		must(t, l.Close(ctx))
		must(t, os.RemoveAll("testdata/ecdsa"))
		must(t, os.CopyFS("testdata/ecdsa", load(t, cfg.Dir)))
		proof, err := Prove(os.DirFS(cfg.Dir), 1)
		must(t, err)
		must(t, os.WriteFile("testdata/ecdsa.tlog-proof", proof, 0o666))
		must(t, os.WriteFile("testdata/ecdsa.key", []byte(keyOf(t, cfg.Signers[0])+"\n"), 0o666))
	}
	key, err := os.ReadFile("testdata/ecdsa.key")
	must(t, err)
	r, err := Verify(os.DirFS("testdata/ecdsa"), VerifyConfig{Keys: []string{string(key)}})
	if err != nil || r.Sealed != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	proof, err := os.ReadFile("testdata/ecdsa.tlog-proof")
	must(t, err)
	if got, err := VerifyProof(proof, string(key)); err != nil || got.Index != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

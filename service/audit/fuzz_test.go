package audit

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

func goldenFile(f *testing.F, name string) []byte {
	f.Helper()
	b, err := os.ReadFile("testdata/" + name)
	must(f, err)
	return b
}

// FuzzLine: encoding the fields of a line that parses gives the line.
func FuzzLine(f *testing.F) {
	for text := range bytes.Lines(goldenFile(f, "golden/"+segmentName(0))) {
		f.Add(bytes.TrimSuffix(text, []byte("\n")))
	}
	f.Add([]byte(`{"a":1,"logIndex":7,"logBatch":5,"logHash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLine(text)
		if err != nil {
			return
		}
		body, ok := cutNumber(l.head, batchMember, new(int64))
		body, ok2 := cutNumber(body, indexMember, new(int64))
		again, _ := appendLine(nil, body, l.index, l.batch, chainHash{})
		if !ok || !ok2 || !bytes.Equal(again[:len(l.head)], text[:len(l.head)]) || len(again) != len(text)+1 {
			t.Errorf("%q is also %q", text, again)
		}
	})
}

// FuzzCheckpoint: encoding the fields of a text that parses gives the text, and no changed copy of
// a signed one verifies.
func FuzzCheckpoint(f *testing.F) {
	signed := map[string]bool{}
	for _, name := range []string{"golden/checkpoint", "golden/epoch/000000", "golden/epoch/000001",
		"ecdsa/checkpoint"} {
		b := goldenFile(f, name)
		signed[string(b)] = true
		f.Add(b)
	}
	first, err := newSigning(origin, ed25519Signer(1))
	must(f, err)
	second, err := newSigning(origin, ed25519Signer(2))
	must(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := readCheckpoint(b); err == nil && !bytes.HasPrefix(b, []byte(c.text()+"\n")) {
			t.Errorf("%q is also %q", b, c.text())
		}
		for _, keys := range [][]*verifier{{first.verifier}, {second.verifier}, {first.verifier, second.verifier}} {
			if c, err := openCheckpoint(b, keys...); err == nil && !signed[string(b)] {
				t.Errorf("%q verifies as %+v", b, c)
			}
		}
	})
}

// FuzzProof: a proof has one encoding, and no other text proves anything.
func FuzzProof(f *testing.F) {
	seed := goldenFile(f, "ecdsa.tlog-proof")
	key := string(goldenFile(f, "ecdsa.key"))
	f.Add(seed)
	f.Add([]byte(proofHeader + "\nextra \nindex 0\n\n"))
	f.Add([]byte(proofHeader + "\nextra \nindex 9223372036854775807\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := parseProof(text); err == nil && !bytes.Equal(p.encode(), text) {
			t.Errorf("%q is also %q", text, p.encode())
		}
		if got, err := VerifyProof(text, key); err == nil && !bytes.Equal(text, seed) {
			t.Errorf("%q proves %+v", text, got)
		}
	})
}

// FuzzVerifierKey: a key has one spelling.
func FuzzVerifierKey(f *testing.F) {
	f.Add(string(bytes.TrimSpace(goldenFile(f, "ecdsa.key"))))
	f.Add(keyOf(f, ed25519Signer(1)))
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := newVerifier(text); err == nil && v.text != text {
			t.Errorf("%q is also %q", text, v.text)
		}
	})
}

// FuzzRecords replaces the bytes of a file of records: Verify notices, and Open either keeps every
// sealed record or refuses the log.
func FuzzRecords(f *testing.F) {
	files := load(f, "testdata/ecdsa")
	key := string(goldenFile(f, "ecdsa.key"))
	name := segmentName(0)
	good := files[name].Data
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), good...))
	f.Add(append(bytes.Clone(good), `{"torn`...))
	for _, huge := range []int64{maxNumber, maxNumber + 1, 1<<63 - 1} {
		line, _ := appendLine(nil, []byte("{"), huge, 0, chainHash{})
		f.Add(bytes.Repeat(line, 3))
	}
	sealed, err := readCheckpoint(files[checkpointFile].Data)
	must(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		changed := clone(files)
		changed[name].Data = data
		r, err := Verify(changed, VerifyConfig{Keys: []string{key}})
		if err == nil && !bytes.HasPrefix(data, good) || err != nil && !errors.Is(err, ErrTampered) {
			t.Errorf("%+v, %v", r, err)
		}
		if tail, err := readTail(changed, sealed); err == nil &&
			(!bytes.HasPrefix(data, good) || tail.size < int64(len(good))) {
			t.Errorf("opens with %d bytes", tail.size)
		}
	})
}

// FuzzProveRecords replaces the bytes of a file of records: Prove finds what reading each line
// finds.
func FuzzProveRecords(f *testing.F) {
	files, _, _ := sealedLog(f, 24, small)
	all, err := segments(files)
	must(f, err)
	name := all[0].name
	good := files[name].Data
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[len(good)/3:])
	f.Add(append(bytes.Clone(good), "  "...))
	f.Add(append(bytes.Clone(good[:len(good)-1]), "  "...)) // a last line without its end, and blanks
	f.Add(append(bytes.Clone(good[len(good)/2:]), good...))
	f.Add(bytes.ReplaceAll(good, []byte(`"logIndex":1`), []byte(`"logIndex":9`)))
	f.Fuzz(func(t *testing.T, data []byte) { proveChanged(t, files, name, data) })
}

// FuzzTilePath: a tile has one name.
func FuzzTilePath(f *testing.F) {
	for _, name := range []string{"tile/0/000", "tile/1/x001/x234/067.p/8", "tile/entries/000", "tile/63/000.p/256",
		"tile/8/0/000"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !belongs(name) {
			return
		}
		tile, err := parseTilePath(name)
		if err == nil && tilePath(tile) != name {
			t.Errorf("%q is also %q", name, tilePath(tile))
		}
	})
}

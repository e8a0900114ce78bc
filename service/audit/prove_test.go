package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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

// TestFindRecord finds each record of a file, short ones and the longest, while it is being written too.
func TestFindRecord(t *testing.T) {
	const first, last = 1000, 1100
	var text []byte
	var ends []int // of the lines, bytes
	for n := int64(first); n <= last; n++ {
		text = append(text, lineOf(n, int(n*n)%maxLine)...)
		ends = append(ends, len(text))
	}
	find := func(what string, text []byte, index, last int64) {
		t.Helper()
		file := &segmentFile{ReaderAt: bytes.NewReader(text), size: int64(len(text))}
		got, err := file.findRecord(index)
		must(t, err)
		l, err := parseLine(got)
		if found := err == nil && l.index == index; found != (index >= first && index <= last) {
			t.Errorf("%s: found instead of record %d: %.80q", what, index, got)
		}
	}
	for what, more := range map[string]string{
		"nothing more": "",
		"a part":       string(lineOf(last+1, 500)[:400]),
		"blanks":       strings.Repeat(" ", 1<<20),
		"few blanks":   "  ",
		"both":         string(lineOf(last+1, 60_000)[:50_000]) + strings.Repeat(" ", 200_000),
		"no records":   "\n\n{}\n" + strings.Repeat("garbage\n", 50_000),
	} {
		whole := append(bytes.Clone(text), more...)
		for n := int64(first - 1); n <= last+1; n++ {
			find(what, whole, n, last)
		}
	}
	for i, end := range ends { // a file that ends behind this record
		for n := first + int64(i) - 1; n <= first+int64(i)+1; n++ {
			find(fmt.Sprintf("%d lines", i+1), text[:end], n, first+int64(i))
		}
	}
}

// TestFindRecordReadsLittle: what findRecord reads is bounded, whatever the file holds.
func TestFindRecordReadsLittle(t *testing.T) {
	const size = 16 << 20
	for what, c := range map[string]struct {
		text []byte
		most int64 // bytes read
	}{
		"one record repeated": {repeated(lineOf(5, 1000), size), 25 * 2 * findStep},
		"blanks":              {repeated([]byte(" "), size), 25 * findMost},
		"no line":             {repeated([]byte("x"), size), 25 * findMost},
		"empty lines":         {repeated([]byte("\n"), size), 25 * findMost},
		"long lines":          {repeated(append(repeated([]byte("x"), 1<<20), '\n'), size), 25 * findMost},
		"nothing":             {nil, 0},
	} {
		for _, index := range []int64{0, 5, 6, maxNumber} {
			read := &counted{ReaderAt: bytes.NewReader(c.text)}
			_, err := (&segmentFile{ReaderAt: read, size: int64(len(c.text))}).findRecord(index)
			if must(t, err); read.bytes > c.most {
				t.Errorf("%s: %d bytes are read", what, read.bytes)
			}
		}
	}
	_, err := (&segmentFile{ReaderAt: &counted{err: fs.ErrPermission}, size: 10}).findRecord(0)
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file that can't be read: %v", err)
	}
}

// TestProveOfChangedFile changes the file of the records: what is left of them is proven, and nothing
// else.
func TestProveOfChangedFile(t *testing.T) {
	files, _, _ := sealedLog(t, 60, record)
	all, err := segments(files)
	must(t, err)
	name := all[1].name
	good := files[name].Data
	lines := slices.Collect(bytes.Lines(good))
	changed := func(f func(lines [][]byte) [][]byte) []byte { return slices.Concat(f(slices.Clone(lines))...) }
	forged := func(n int, index int64) []byte {
		l, err := parseLine(bytes.TrimSuffix(lines[n], []byte("\n")))
		must(t, err)
		return bytes.Replace(lines[n], fmt.Appendf(nil, "%s%d,", indexMember, l.index),
			fmt.Appendf(nil, "%s%d,", indexMember, index), 1)
	}
	for what, data := range map[string][]byte{
		"as it was":    good,
		"in blanks":    append(bytes.Clone(good), repeated([]byte(" "), 300_000)...),
		"torn":         good[:len(good)-200],
		"not ended":    good[:len(good)-1],
		"empty":        nil,
		"blanks":       repeated([]byte(" "), 14_000),
		"one newline":  []byte("\n"),
		"no newline":   repeated([]byte("{"), 300_000),
		"twice":        append(bytes.Clone(good), good...),
		"all the same": repeated(lines[3], 14_000),
		"reversed":     changed(func(l [][]byte) [][]byte { slices.Reverse(l); return l }),
		"swapped":      changed(func(l [][]byte) [][]byte { l[1], l[len(l)-2] = l[len(l)-2], l[1]; return l }),
		"without one":  changed(func(l [][]byte) [][]byte { return slices.Delete(l, 4, 5) }),
		"without head": changed(func(l [][]byte) [][]byte { return l[3:] }),
		"one damaged":  changed(func(l [][]byte) [][]byte { l[5] = []byte("{not a record\n"); return l }),
		"joined":       changed(func(l [][]byte) [][]byte { l[5] = bytes.TrimSuffix(l[5], []byte("\n")); return l }),
		"one too long": changed(func(l [][]byte) [][]byte {
			l[5] = append(repeated([]byte("x"), 300_000), '\n')
			return l
		}),
		"renumbered": changed(func(l [][]byte) [][]byte { l[len(l)/2] = forged(len(l)/2, maxNumber); return l }),
		"one changed": changed(func(l [][]byte) [][]byte {
			l[2] = bytes.Replace(l[2], []byte("alice"), []byte("carol"), 1)
			return l
		}),
	} {
		t.Run(what, func(t *testing.T) { proveChanged(t, files, name, data) })
	}
}

// proveChanged replaces a file of records and proves every record of the log. A record that the file
// has once must be proven, and one that it does not have must not.
func proveChanged(t *testing.T, files folder, name string, data []byte) {
	t.Helper()
	changed := clone(files)
	changed[name].Data = data
	there := map[int64][][]byte{} // by reading each line
	for text := range bytes.Lines(data) {
		text = bytes.TrimSuffix(text, []byte("\n"))
		if l, err := parseLine(text); err == nil {
			there[l.index] = append(there[l.index], text)
		}
	}
	must(t, Read(files, func(index int64, want []byte) error {
		text, err := Prove(changed, index)
		if err != nil && !errors.Is(err, ErrTampered) {
			t.Errorf("record %d: %v", index, err)
		}
		got, _ := ClaimedRecord(text)
		if err == nil && !bytes.Equal(got, want) {
			t.Errorf("record %d is proven to be %s", index, got)
		}
		lines := there[index]
		inFile := bytes.Contains(files[name].Data, want)
		isThere := slices.ContainsFunc(lines, func(l []byte) bool { return bytes.Equal(l, want) })
		if !inFile || isThere && len(lines) == 1 {
			if err != nil {
				t.Errorf("record %d is there: %v", index, err)
			}
		} else if !isThere && err == nil {
			t.Errorf("record %d is not there, and proven", index)
		}
		return nil
	}))
}

// lineOf returns a line of an index, with its newline. Its length is near one that is asked for.
func lineOf(index int64, length int) []byte {
	pad := strings.Repeat("x", min(max(length-maxTrailer, 0), maxLine-maxTrailer-10))
	text, _ := appendLine(nil, []byte(`{"a":"`+pad+`"`), index, 0, chainHash{})
	return text
}

func repeated(text []byte, size int) []byte { return bytes.Repeat(text, size/len(text)) }

// counted counts the bytes that are read, or fails.
type counted struct {
	io.ReaderAt
	bytes int64
	err   error
}

func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.ReaderAt.ReadAt(b, at)
	c.bytes += int64(n)
	return n, err
}

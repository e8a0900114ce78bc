package audit

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// folder is a log in memory, to tamper with.
type folder = fstest.MapFS

func load(t testing.TB, dir string) folder {
	t.Helper()
	files := folder{}
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = &fstest.MapFile{Data: data}
		return err
	}))
	return files
}

func clone(f folder) folder {
	c := folder{}
	for name, file := range f {
		c[name] = &fstest.MapFile{Data: slices.Clone(file.Data)}
	}
	return c
}

// sealedLog writes a log of two epochs and the records 0 to n-1, in files of 14 kB, and closes it.
func sealedLog(t testing.TB, n int, record func(int) *Record) (folder, VerifyConfig, Config) {
	t.Helper()
	cfg := testConfig(t)
	cfg.SegmentBytes = 14_000
	l := open(t, cfg)
	for i := range n {
		if i == n/2 {
			must(t, l.Rotate(ctx, ed25519Signer(2)))
		}
		must(t, l.Append(ctx, record(i)))
	}
	must(t, l.Close(ctx))
	cfg.Signers = []Signer{ed25519Signer(2)}
	files, trusted := load(t, cfg.Dir), VerifyConfig{Keys: []string{keyOf(t, ed25519Signer(1))}}
	if _, err := Verify(files, trusted); err != nil {
		t.Fatal(err)
	}
	return files, trusted, cfg
}

func wantTampered(t testing.TB, what string, f fs.FS, cfg VerifyConfig) Report {
	t.Helper()
	r, err := Verify(f, cfg)
	if !errors.Is(err, ErrTampered) || len(r.Findings) == 0 {
		t.Errorf("%s is not found: %v", what, err)
	}
	return r
}

func TestVerifyFindsEachFlippedByte(t *testing.T) {
	files, cfg, _ := sealedLog(t, 2, small)
	for name, file := range files {
		for i := range file.Data {
			file.Data[i] ^= 1 << (i % 8)
			r := wantTampered(t, name, files, cfg)
			if len(r.Findings) > 0 && r.Findings[0].File != name && !strings.HasPrefix(name, tileFolder) {
				t.Errorf("byte %d of %s: found in %s", i, name, r.Findings[0])
			}
			file.Data[i] ^= 1 << (i % 8)
		}
	}
	if _, err := Verify(files, cfg); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsEachFlippedByteOfATail(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	must(t, l.Append(ctx, small(0)))
	must(t, l.Checkpoint(ctx))
	must(t, l.Append(ctx, small(1)))
	must(t, l.Append(ctx, small(2)))
	files, trusted := load(t, cfg.Dir), VerifyConfig{Keys: []string{keyOf(t, cfg.Signers[0])}}
	file := files[segmentName(0)]
	for i := range file.Data {
		file.Data[i] ^= 1 << (i % 8)
		if r, err := Verify(files, trusted); err == nil && r.TornBytes == 0 {
			t.Errorf("byte %d of the tail", i)
		}
		file.Data[i] ^= 1 << (i % 8)
	}
}

func TestVerifySaysWhere(t *testing.T) {
	files, cfg, _ := sealedLog(t, 30, record)
	names := slices.Sorted(maps.Keys(files))
	second := names[slices.Index(names, segmentName(0))+1]
	first, _ := parseSegment(second)
	lines := bytes.SplitAfter(files[second].Data, []byte("\n"))
	offset := int64(len(lines[0]) + len(lines[1]))
	index := first.first + 2
	write := func(order ...int) []byte {
		var b []byte
		for _, i := range order {
			b = append(b, lines[i]...)
		}
		return b
	}
	rest := func(from int) []int {
		var r []int
		for i := from; i < len(lines); i++ {
			r = append(r, i)
		}
		return r
	}
	for name, test := range map[string]struct {
		data    []byte
		problem string
		offset  int64
		index   int64
	}{
		"changed": {bytes.Replace(files[second].Data, lines[2],
			bytes.Replace(lines[2], []byte("Decrypt"), []byte("Encrypt"), 1), 1), "not what was written",
			offset, index},
		"dropped":   {write(append([]int{0, 1}, rest(3)...)...), "are missing before it", offset, index + 1},
		"swapped":   {write(append([]int{0, 1, 3, 2}, rest(4)...)...), "are missing before it", offset, index + 1},
		"duplicate": {write(append([]int{0, 1, 1}, rest(2)...)...), "where record", offset, index - 1},
		"garbage":   {write(append([]int{0, 1}, rest(3)...)...), "missing", offset, index + 1},
		"cut":       {write(0, 1), "are missing before it", 0, first.first + int64(len(lines)-1)},
		"half":      {files[second].Data[:offset+10], "not a whole record", offset, index},
		"empty":     {nil, "are missing before it", 0, first.first + int64(len(lines)-1)},
	} {
		changed := clone(files)
		changed[second].Data = test.data
		r := wantTampered(t, name, changed, cfg)
		if len(r.Findings) == 0 {
			continue
		}
		f := r.Findings[0]
		if !strings.Contains(f.Problem, test.problem) || f.Offset != test.offset || f.Index != test.index {
			t.Errorf("%s: %s, want %q at byte %d, record %d", name, f, test.problem, test.offset, test.index)
		}
	}
}

func TestVerifyFindsChangesOfFiles(t *testing.T) {
	files, cfg, _ := sealedLog(t, 300, record)
	names := slices.Sorted(maps.Keys(files))
	tampered := func(what string, change func(folder)) {
		changed := clone(files)
		change(changed)
		wantTampered(t, what, changed, cfg)
	}
	for i, name := range names {
		// The checkpoint of an epoch is also in the file checkpoint if it is the latest one; here
		// it is not.
		tampered("removal of "+name, func(f folder) { delete(f, name) })
		tampered("a copy of "+name, func(f folder) { f[name+"x"] = f[name] })
		tampered("a doubled "+name, func(f folder) { f[name].Data = append(f[name].Data, f[name].Data...) })
		tampered("a shorter "+name, func(f folder) { f[name].Data = f[name].Data[:len(f[name].Data)-1] })
		if i > 0 {
			tampered(name+" and "+names[i-1]+" swapped", func(f folder) {
				f[name], f[names[i-1]] = f[names[i-1]], f[name]
			})
		}
	}
}

// TestForgerWithoutTheKey rewrites a record and everything that depends on it, except the
// signature.
func TestForgerWithoutTheKey(t *testing.T) {
	files, cfg, _ := sealedLog(t, 300, record)
	forged := clone(files)
	chain, next := chainStart(origin), int64(0)
	tr := &tree{complete: func(d tile) { forged[tilePath(d.Tile)] = &fstest.MapFile{Data: d.data} }}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, recordFolder) {
			continue
		}
		var data []byte
		for text := range bytes.Lines(files[name].Data) {
			l, err := parseLine(text[:len(text)-1])
			must(t, err)
			body, _ := cutNumber(l.head, batchMember, new(int64))
			body, _ = cutNumber(body, indexMember, new(int64))
			if next == 100 {
				body = bytes.Replace(body, []byte("alice"), []byte("carol"), 1)
			}
			start := len(data)
			data, chain = appendLine(data, body, next, l.batch, chain)
			forgedLine, err := parseLine(data[start : len(data)-1])
			must(t, err)
			tr.add(forgedLine.leaf())
			next++
		}
		forged[name].Data = data
	}
	for _, p := range tr.partial() {
		forged[tilePath(p.Tile)] = &fstest.MapFile{Data: p.data}
	}
	r := wantTampered(t, "a forged history", forged, cfg)
	if len(r.Findings) != 2 || r.Findings[0].File != epochName(1) || r.Findings[1].File != checkpointFile {
		t.Errorf("%v", r.Findings)
	}

	// With another key, the forger convinces only those who trust that key.
	mallory := ed25519Signer(66)
	own, err := newSigning(origin, mallory)
	must(t, err)
	signed, err := signNote(ctx, checkpoint{origin: origin, size: tr.size, root: tr.root(), key: own.text}.text(), own)
	must(t, err)
	delete(forged, epochName(1))
	forged[epochName(0)], forged[checkpointFile] = &fstest.MapFile{Data: signed}, &fstest.MapFile{Data: signed}
	wantTampered(t, "another key", forged, cfg)
}

func TestRollBackIsSeenByWhoKnowsALaterCheckpoint(t *testing.T) {
	cfg := testConfig(t)
	var known []byte
	cfg.Checkpointed = func(signed []byte) { known = signed }
	l := open(t, cfg)
	add(t, l, 0, 5)
	must(t, l.Checkpoint(ctx))
	early := load(t, cfg.Dir)
	add(t, l, 5, 9)
	must(t, l.Close(ctx))
	trusted := VerifyConfig{Keys: []string{keyOf(t, cfg.Signers[0])}}
	if _, err := Verify(early, trusted); err != nil {
		t.Fatal(err)
	}
	trusted.Known = []KnownCheckpoint{{"known checkpoint", known}}
	r := wantTampered(t, "a roll back", early, trusted)
	if len(r.Findings) != 1 ||
		r.Findings[0].Problem != "records 5 to 8 are missing at the end: known checkpoint covers 9" {
		t.Errorf("%v", r.Findings)
	}
	if _, err := Verify(load(t, cfg.Dir), trusted); err != nil {
		t.Error(err)
	}
	trusted.Known = []KnownCheckpoint{{"known checkpoint", []byte("garbage")}}
	if _, err := Verify(early, trusted); err == nil || errors.Is(err, ErrTampered) {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefusesAChangedLog(t *testing.T) {
	for name, change := range map[string]func(folder) string{
		"a shorter last file": func(f folder) string {
			last := lastSegment(f)
			f[last].Data = f[last].Data[:len(f[last].Data)/2]
			return last
		},
		"a changed last record": func(f folder) string {
			last := lastSegment(f)
			i := bytes.LastIndex(f[last].Data, []byte("alice"))
			f[last].Data[i] = 'A'
			return last
		},
		"a lost last file": func(f folder) string { return lastSegment(f) },
		"a changed tile": func(f folder) string {
			f["tile/0/000.p/30"].Data[0] ^= 1
			return "tile/0/000.p/30"
		},
		"a changed checkpoint": func(f folder) string {
			f[checkpointFile].Data = bytes.Replace(f[checkpointFile].Data, []byte("\n30\n"), []byte("\n29\n"), 1)
			return checkpointFile
		},
	} {
		files, _, cfg := sealedLog(t, 30, record)
		changed := change(files)
		path := filepath.Join(cfg.Dir, changed)
		if name == "a lost last file" {
			must(t, os.Remove(path))
		} else {
			must(t, os.WriteFile(path, files[changed].Data, 0o600))
		}
		cfg.Create = false
		if l, err := Open(ctx, cfg); err == nil {
			t.Errorf("%s: it opens", name)
			must(t, l.Close(ctx))
		}
	}
}

func lastSegment(f folder) string {
	var last string
	for name := range f {
		if strings.HasPrefix(name, recordFolder) {
			last = max(last, name)
		}
	}
	return last
}

// TestTilesOfEarlierCheckpoints leaves partial tiles in the folder that the writer could not remove
// because of a crash.
func TestTilesOfEarlierCheckpoints(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	add(t, l, 0, 100)
	must(t, l.Checkpoint(ctx))
	early := load(t, cfg.Dir)
	add(t, l, 100, 200)
	must(t, l.Checkpoint(ctx))
	unsealed := load(t, cfg.Dir)
	add(t, l, 200, 300)
	trusted := VerifyConfig{Keys: []string{keyOf(t, cfg.Signers[0])}}
	const name = "tile/0/000.p/100"
	for range 2 {
		files := load(t, cfg.Dir)
		files[name] = early[name]
		if r, err := Verify(files, trusted); err != nil {
			t.Errorf("%v %v", err, r.Findings)
		}
		files[name] = &fstest.MapFile{Data: bytes.Clone(early[name].Data)}
		files[name].Data[50*32] ^= 1
		r := wantTampered(t, "a hash", files, trusted)
		if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Problem, name) && r.Findings[0].File != name {
			t.Errorf("%v", r.Findings)
		}
		must(t, l.Checkpoint(ctx))
	}
	// Tiles after the records show that records were cut off, even unsealed ones.
	later := load(t, cfg.Dir)
	unsealed["tile/0/000"] = later["tile/0/000"]
	r := wantTampered(t, "a tile without records", unsealed, trusted)
	if len(r.Findings) != 1 || r.Findings[0].File != "tile/0/000" {
		t.Errorf("%v", r.Findings)
	}
}

// TestLatest: the latest checkpoint continues those of the same log's past, and no others.
func TestLatest(t *testing.T) {
	cfg := testConfig(t)
	var all []KnownCheckpoint
	cfg.Checkpointed = func(signed []byte) { all = append(all, KnownCheckpoint{"checkpoint", signed}) }
	l := open(t, cfg)
	other := testConfig(t)
	var fork KnownCheckpoint
	other.Checkpointed = func(signed []byte) { fork = KnownCheckpoint{"fork", signed} }
	forked := open(t, other)
	must(t, forked.Append(ctx, small(1)))
	must(t, forked.Checkpoint(ctx))
	add(t, l, 0, 3)
	must(t, l.Checkpoint(ctx))
	early := load(t, cfg.Dir)
	for n := 3; n < 600; n += 149 {
		add(t, l, n, n+149)
		must(t, l.Checkpoint(ctx))
	}
	key := keyOf(t, cfg.Signers[0])
	keys, c, err := Latest(os.DirFS(cfg.Dir), all...)
	if err != nil || !slices.Equal(keys, []string{key}) || c.Origin != origin || c.Size != 748 {
		t.Fatalf("%s, %+v, %v", keys, c, err)
	}
	if opened, err := OpenCheckpoint(c.Signed, key); err != nil || !reflect.DeepEqual(opened, c) {
		t.Errorf("%+v, %v", opened, err)
	}
	for name, err := range map[string]error{
		"an earlier folder": second(Latest(early, all...)), "a fork": second(Latest(os.DirFS(cfg.Dir), fork)),
		"a changed checkpoint": second(Latest(fstest.MapFS{epochName(0): early[epochName(0)],
			checkpointFile: {Data: bytes.Replace(c.Signed, []byte("\n748\n"), []byte("\n747\n"), 1)}})),
	} {
		if !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Latest(folder{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, _, err := Latest(early, KnownCheckpoint{"x", []byte("x")}); err == nil || errors.Is(err, ErrTampered) {
		t.Errorf("got %v", err)
	}
	// One that a key of another name has signed, or that is too large, is none.
	renamed, err := VerifierKey("other", cfg.Signers[0].Public())
	must(t, err)
	for _, key := range []string{renamed, keyOf(t, ed25519Signer(2)), "x"} {
		if _, err := OpenCheckpoint(c.Signed, key); err == nil {
			t.Errorf("%s opens it", key)
		}
	}
	if _, err := OpenCheckpoint(append(slices.Clone(c.Signed), make([]byte, maxCheckpoint)...), key); err == nil {
		t.Error("a large one opens")
	}
}

func second(_ []string, _ Checkpoint, err error) error { return err }

// TestPlaces: records are read by their places, and backward.
func TestPlaces(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 5000
	l := open(t, cfg)
	add(t, l, 0, 30)
	var lines []string
	var places []Place
	fsys := os.DirFS(cfg.Dir)
	must(t, ReadPlaces(fsys, func(_ int64, text []byte, at Place) error {
		lines, places = append(lines, string(text)), append(places, at)
		return nil
	}))
	r := PlaceReader{FS: fsys}
	for i := range slices.Backward(places) {
		if text, err := r.Read(places[i]); err != nil || string(text) != lines[i] {
			t.Fatalf("record %d: %s, %v", i, text, err)
		}
	}
	if _, err := r.Read(Place{First: 7, Length: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Read(Place{Offset: 1 << 20, Length: 1}); err == nil {
		t.Error("a record behind the end is read")
	}
	must(t, r.Close())
	var indexes []int64
	must(t, ReadBackward(fsys, func(index int64, _ []byte) error { indexes = append(indexes, index); return nil }))
	files, err := segments(fsys)
	must(t, err)
	if len(files) < 3 || len(indexes) != 30 ||
		indexes[0] != files[len(files)-1].first || indexes[29] != files[1].first-1 {
		t.Errorf("%d files, in the order %v", len(files), indexes)
	}
}

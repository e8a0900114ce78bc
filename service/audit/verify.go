package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// VerifyConfig is what a verifier knows independently of the log.
type VerifyConfig struct {
	// Keys are trusted verifier keys; required. One of them must be a key of the log. The log's
	// other keys are believed because each has signed for the next one. Whoever fears that an
	// earlier key was stolen gives only the latest one.
	Keys []string

	// Known are trusted signed checkpoints from an earlier time: the log must be a continuation of
	// each. Without one, an earlier state of the whole folder passes as the latest.
	Known []KnownCheckpoint
}

// KnownCheckpoint is a signed checkpoint of a log, kept elsewhere.
type KnownCheckpoint struct {
	From   string // where it was kept; findings name it
	Signed []byte
}

// Report is what Verify found.
type Report struct {
	Origin     string
	Keys       []string // verifier keys of the log, the current one last
	Checkpoint []byte   // the latest, signed
	Records    int64
	Sealed     int64 // records that the checkpoint covers
	Unsealed   int64 // records after them: chained, but not signed for
	TornBytes  int64 // after the last record: a write in progress, or one that a crash interrupted
	Findings   []Finding
	More       int // findings after the first 1000
}

// Finding is one thing that is not as it was written.
type Finding struct {
	File    string
	Line    int   // from 1; 0 if the finding is not about a line
	Offset  int64 // in the file, bytes
	Index   int64 // of the record; -1 if the finding is not about one
	Problem string
}

func (f Finding) String() string {
	s := place{f.File, f.Line, f.Offset}.String()
	if f.Index >= 0 {
		s += fmt.Sprintf(", record %d", f.Index)
	}
	return s + ": " + f.Problem
}

const maxFindings = 1000

// Verify reads a whole log and reports whether it is what was written. It needs only public keys.
// The log may be in use, except at the moment of a Rotate. The error wraps ErrTampered if there are
// findings; any other error says that the log could not be read.
func Verify(fsys fs.FS, cfg VerifyConfig) (Report, error) {
	v := verification{fsys: fsys, aligned: true, chained: true,
		roots: map[int64][]signedRoot{}, listed: map[tileID][]tlog.Tile{}, reported: map[int64]bool{},
		refuted: map[string]bool{}}
	keys, err := canonicalKeys(cfg.Keys)
	if err != nil {
		return v.Report, err
	}
	if err := v.run(keys, cfg.Known); err != nil {
		return v.Report, fmt.Errorf("verify audit log: %w", err)
	}
	if len(v.Findings) > 0 {
		return v.Report, fmt.Errorf("%w: %s", ErrTampered, v.Findings[0])
	}
	return v.Report, nil
}

func canonicalKeys(keys []string) ([]string, error) {
	if len(keys) == 0 {
		return nil, errors.New("a verifier key is required")
	}
	canonical := make([]string, len(keys))
	for i, k := range keys {
		v, err := newVerifier(strings.TrimSpace(k))
		if err != nil {
			return nil, err
		}
		canonical[i] = v.text
	}
	return canonical, nil
}

// signedRoot is a signed root, and where it is from.
type signedRoot struct {
	file string
	root tlog.Hash
}

// tileID is a tile of any width.
type tileID struct {
	level  int
	number int64
}

// verification is one reading of a log.
type verification struct {
	Report
	fsys fs.FS

	tree     *tree
	roots    map[int64][]signedRoot // by size
	listed   map[tileID][]tlog.Tile // the tiles that existed at the start and are not compared yet, by width
	aligned  bool                   // the tree has as many leaves as the log should have here
	reported map[int64]bool         // records that have a finding
	refuted  map[string]bool        // where the roots are from that have one

	next    int64
	chain   chainHash
	chained bool             // chain is the hash of the previous line
	places  [tileWidth]place // of the last records, by index
}

func (v *verification) find(at place, index int64, format string, args ...any) {
	if len(v.Findings) == maxFindings {
		v.More++
		return
	}
	if index >= 0 {
		v.reported[index] = true
	}
	v.Findings = append(v.Findings, Finding{at.file, at.line, at.offset, index, fmt.Sprintf(format, args...)})
}

func (v *verification) run(keys []string, known []KnownCheckpoint) error {
	if err := v.list(); err != nil {
		return err
	}
	h, err := readHead(v.fsys)
	if placed := (*placedError)(nil); errors.As(err, &placed) {
		v.find(place{file: placed.file}, -1, "%v", placed.err)
		return nil
	} else if err != nil {
		return err
	}
	v.Origin, v.Keys, v.Checkpoint, v.Sealed = h.origin, h.keys(), h.signed, h.size
	if !h.trusts(keys) {
		v.find(place{file: checkpointFile}, -1, "it is signed by %s, which is not trusted and follows no trusted key",
			h.current().text)
		return nil
	}
	v.expectRoots(h)
	for _, k := range known {
		c, err := readCheckpoint(k.Signed)
		if err != nil || c.origin != h.origin {
			return fmt.Errorf("the %s is none of %s", k.From, h.origin)
		}
		v.roots[c.size] = append(v.roots[c.size], signedRoot{k.From, c.root})
	}
	v.chain = chainStart(h.origin)
	v.tree = &tree{complete: v.checkComplete}
	v.checkRoots()
	if err := v.readRecords(); err != nil {
		return err
	}
	v.checkEdge()
	return nil
}

func (v *verification) expectRoots(h *head) {
	for i, e := range h.epochs {
		v.roots[e.size] = append(v.roots[e.size], signedRoot{epochName(i), e.root})
	}
	v.roots[h.size] = append(v.roots[h.size], signedRoot{checkpointFile, h.root})
}

// list lists the folder and reports files that no log has.
func (v *verification) list() error {
	return fs.WalkDir(v.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name != "." {
			return nil // a partial tile that the writer has removed meanwhile
		}
		if err != nil || d.IsDir() || strings.HasSuffix(name, temporary) {
			return err
		}
		if !d.Type().IsRegular() || !belongs(name) {
			v.find(place{file: name}, -1, "no file of an audit log has this name or type")
		} else if t, err := parseTilePath(name); err == nil {
			id := tileID{t.L, t.N}
			v.listed[id] = append(v.listed[id], t)
		}
		return nil
	})
}

func belongs(name string) bool {
	if name == checkpointFile {
		return true
	}
	if _, ok := parseSegment(name); ok {
		return true
	}
	if t, err := parseTilePath(name); err == nil && tilePath(t) == name {
		return true
	}
	n, err := parseDecimal(strings.TrimLeft(strings.TrimPrefix(name, epochFolder+"/"), "0"))
	if err != nil {
		n = 0
	}
	return n < maxEpochs && epochName(int(n)) == name
}

// readRecords follows the chain through every file.
func (v *verification) readRecords() error {
	files, err := segments(v.fsys)
	if err != nil {
		return err
	}
	at := place{file: recordFolder}
	for i, s := range files {
		if s.first != v.next {
			v.jump(place{file: s.name}, s.first)
			v.chained = false
		}
		last, reread := i == len(files)-1, int64(-1)
		at, err = readLines(v.fsys, s.name, func(text []byte, at place, whole bool) error {
			if last && v.next >= v.Sealed {
				if !whole {
					v.TornBytes = int64(len(text))
					return nil
				}
				if reread != at.offset && !v.follows(text) { // part of it may have been read while it was still blank
					reread = at.offset
					return errReread
				}
			}
			v.readLine(text, at, whole)
			return nil
		})
		if err != nil {
			return err
		}
	}
	v.Records = v.next
	v.Unsealed = max(0, v.next-v.Sealed)
	sizes := slices.Sorted(maps.Keys(v.roots))
	for _, size := range sizes { // the largest says what the known checkpoints before it say
		if size > v.next && (size == v.Sealed || size == sizes[len(sizes)-1]) {
			v.find(at, v.next, "records %d to %d are missing at the end: %s covers %d", v.next, size-1,
				v.roots[size][0].file, size)
		}
	}
	return nil
}

// jump continues at an index that is not the next one.
func (v *verification) jump(at place, index int64) {
	if index > v.next {
		v.find(at, index, "records %d to %d are missing before it", v.next, index-1)
	} else {
		v.find(at, index, "it stands where record %d should be", v.next)
	}
	v.aligned = false
	v.next = index
}

// follows reports whether a line is the next one.
func (v *verification) follows(text []byte) bool {
	l, err := parseLine(text)
	return err == nil && l.index == v.next && (!v.chained || l.hash == v.chain.next(l.head))
}

func (v *verification) readLine(text []byte, at place, whole bool) {
	l, err := parseLine(text)
	switch {
	case err != nil || !whole:
		v.find(at, v.next, "not a whole record")
	case l.index != v.next:
		v.jump(at, l.index)
	case v.chained && l.hash != v.chain.next(l.head):
		v.find(at, l.index, "it is not what was written here: it does not follow from the line before")
	}
	v.chain, v.chained = l.hash, err == nil
	v.places[v.next%tileWidth] = at
	v.next++
	if v.aligned {
		v.tree.add(tlog.RecordHash(text))
		v.checkRoots()
	}
}

// checkRoots compares the tree with the signed roots of its size.
func (v *verification) checkRoots() {
	signed := v.roots[v.tree.size]
	if len(signed) == 0 {
		return
	}
	if v.tree.size == v.Sealed {
		for _, t := range v.tree.partial() {
			v.compare(t.Tile, t, true)
			id := tileID{t.L, t.N}
			v.listed[id] = slices.DeleteFunc(v.listed[id], func(listed tlog.Tile) bool { return listed == t.Tile })
		}
	}
	root := v.tree.root()
	for _, s := range signed {
		if s.root != root && len(v.reported) == 0 && !v.refuted[s.file] {
			v.refuted[s.file] = true // so will be those that follow from there
			v.find(place{file: s.file}, -1, "the first %d records do not give the root that it signs", v.tree.size)
		}
	}
}

// checkComplete compares a complete tile, and the partial tiles that remain of it, with their
// files.
func (v *verification) checkComplete(t tile) {
	required := t.N < v.Sealed>>(tileHeight*(t.L+1))
	id := tileID{t.L, t.N}
	if required && !slices.Contains(v.listed[id], t.Tile) {
		v.compare(t.Tile, t, true)
	}
	for _, there := range v.listed[id] {
		v.compare(there, t, required && there == t.Tile)
	}
	delete(v.listed, id)
}

// checkEdge compares the tiles that are left at the end: partial ones at the edge of the tree,
// which belong to this checkpoint, an earlier one, or one that a crash interrupted. There can be no
// others.
func (v *verification) checkEdge() {
	if !v.aligned || len(v.reported) > 0 {
		return
	}
	edge := map[tileID]tile{}
	for _, t := range v.tree.partial() {
		edge[tileID{t.L, t.N}] = t
	}
	for id, tiles := range v.listed {
		for _, there := range tiles {
			if t := edge[id]; there.W <= t.W {
				v.compare(there, t, false)
			} else {
				v.find(place{file: tilePath(there)}, -1, "it holds hashes of records that are not there")
			}
		}
	}
}

// compare compares the file of a tile with the beginning of what the records give. The complete
// tile can stand in for a required partial one (C2SP tlog-tiles, "Partial Tiles").
func (v *verification) compare(there tlog.Tile, t tile, required bool) {
	name := tilePath(there)
	data, err := readTile(v.fsys, there)
	if errors.Is(err, fs.ErrNotExist) {
		if required && !(there.W < tileWidth && v.movedOn()) {
			v.find(place{file: name}, -1, "it is missing")
		}
		return
	}
	if err != nil {
		v.find(place{file: name}, -1, "%v", err)
		return
	}
	for i := range there.W {
		offset := i * tlog.HashSize
		if string(data[offset:offset+tlog.HashSize]) != string(t.data[offset:offset+tlog.HashSize]) {
			v.differs(name, there, i)
		}
	}
}

// movedOn reports whether a writer has published another checkpoint meanwhile, and removed tiles of
// the one being verified.
func (v *verification) movedOn() bool {
	now, err := readSmall(v.fsys, checkpointFile, maxCheckpoint)
	return err == nil && !slices.Equal(now, v.Checkpoint)
}

// differs reports hash i of a tile, for which the records give another value.
func (v *verification) differs(name string, t tlog.Tile, i int) {
	index := t.N*tileWidth + int64(i)
	switch {
	case t.L == 0 && v.reported[index], t.L > 0 && len(v.reported) > 0: // the reason is known
	case t.L == 0:
		v.find(v.places[i], index, "its hash is not the one in %s (byte %d)", name, i*tlog.HashSize)
	default:
		v.find(place{file: name, offset: int64(i * tlog.HashSize)}, -1, "the tiles below give another hash")
	}
}

package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	proofHeader = "c2sp.org/tlog-proof@v1"
	maxProof    = 128 << 10 // bytes
	maxHashes   = 63        // of an inclusion proof, RFC 6962 section 2.1.1
)

// proof is a C2SP tlog-proof. Its extra data is the record, so that the text is complete by itself:
//
//	c2sp.org/tlog-proof@v1
//	extra <base64 of the line>
//	index <decimal>
//	<base64 of a hash>...
//
//	<signed checkpoint>
type proof struct {
	record []byte
	index  int64
	hashes tlog.RecordProof
	signed []byte
}

func (p proof) encode() []byte {
	b := fmt.Appendf(nil, "%s\nextra %s\nindex %d\n", proofHeader, base64.StdEncoding.EncodeToString(p.record), p.index)
	for _, h := range p.hashes {
		b = append(b, h.String()+"\n"...)
	}
	return append(append(b, '\n'), p.signed...)
}

var errProof = errors.New("not a proof of an audit record")

// parseProof parses a proof. A text that parses is the only encoding of its fields.
func parseProof(text []byte) (proof, error) {
	if len(text) > maxProof {
		return proof{}, errProof
	}
	head, signed, ok := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !ok || len(lines) < 3 || len(lines) > 3+maxHashes {
		return proof{}, errProof
	}
	p := proof{signed: signed}
	var err1, err2 error
	p.record, err1 = base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	p.index, err2 = parseDecimal(strings.TrimPrefix(lines[2], "index "))
	for _, l := range lines[3:] {
		h, err := tlog.ParseHash(l)
		if err != nil {
			return proof{}, errProof
		}
		p.hashes = append(p.hashes, h)
	}
	if err1 != nil || err2 != nil || !slices.Equal(p.encode(), text) {
		return proof{}, errProof
	}
	return p, nil
}

// ErrNotSealed says that no checkpoint covers a record, or that there is none of its number.
var ErrNotSealed = errors.New("wait for the next one")

// Prove returns a proof that a log holds a record: a C2SP tlog-proof against the latest checkpoint,
// which must cover the record. The log may be in use. The files of fsys have to implement io.ReaderAt, as
// those of os.DirFS do.
func Prove(fsys fs.FS, index int64) ([]byte, error) {
	for {
		signed, err := readSmall(fsys, checkpointFile, maxCheckpoint)
		if err != nil {
			return nil, fmt.Errorf("prove audit record: %w", err)
		}
		p, err := prove(fsys, signed, index)
		if err == nil {
			return p.encode(), nil
		}
		// A writer that has published another checkpoint meanwhile has removed tiles of this one.
		if now, err2 := readSmall(fsys, checkpointFile, maxCheckpoint); err2 != nil || slices.Equal(now, signed) {
			return nil, fmt.Errorf("prove audit record: %w", err)
		}
	}
}

func prove(fsys fs.FS, signed []byte, index int64) (proof, error) {
	c, err := readCheckpoint(signed)
	if err != nil {
		return proof{}, err
	}
	if index < 0 || index >= c.size {
		return proof{}, fmt.Errorf("the checkpoint covers %d records, numbered from 0, but not number %d: %w",
			c.size, index, ErrNotSealed)
	}
	record, err := readRecord(fsys, index)
	if err != nil {
		return proof{}, err
	}
	hashes, err := tlog.ProveRecord(c.size, index, provenHashes(fsys, c))
	if err == nil {
		err = tlog.CheckRecord(hashes, c.size, c.root, index, tlog.RecordHash(record))
	}
	if err != nil {
		return proof{}, fmt.Errorf("%w: %w: %s", ErrTampered, err, cureTampered)
	}
	return proof{record, index, hashes, signed}, nil
}

var errFound = errors.New("found")

// readRecord finds a record by its index. It does not check the record.
func readRecord(fsys fs.FS, index int64) (record []byte, err error) {
	files, err := segments(fsys)
	if err != nil {
		return nil, err
	}
	i := sort.Search(len(files), func(i int) bool { return files[i].first > index }) - 1
	if i < 0 {
		return nil, tampered(place{file: recordFolder}, "record %d is missing", index)
	}
	name := files[i].name
	file, err := openSegment(fsys, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if record, err = file.findRecord(index); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if record != nil {
		return record, nil
	}
	// Lines that were changed may have misled findRecord. What is left can still be proven.
	_, err = readLines(fsys, name, func(text []byte, _ place, _ bool) error {
		if l, err := parseLine(text); err != nil || l.index != index {
			return nil
		}
		record = slices.Clone(text)
		return errFound
	})
	if errors.Is(err, errFound) {
		return record, nil
	}
	if err == nil {
		err = tampered(place{file: name}, "record %d is missing", index)
	}
	return nil, err
}

// Read calls f with the index and the line of each record, until f returns an error. It proves
// nothing: Verify does. The line is valid until f returns; json.Unmarshal turns it into a Record.
func Read(fsys fs.FS, f func(index int64, text []byte) error) error {
	return ReadPlaces(fsys, func(index int64, text []byte, _ Place) error { return f(index, text) })
}

// ReadPlaces is Read that also tells where each record is.
func ReadPlaces(fsys fs.FS, f func(index int64, text []byte, at Place) error) error {
	files, err := segments(fsys)
	if err != nil {
		return err
	}
	return readFiles(fsys, files, f)
}

// ReadBackward is Read with the newest file first. Within a file, the records are in their order.
func ReadBackward(fsys fs.FS, f func(index int64, text []byte) error) error {
	files, err := segments(fsys)
	if err != nil {
		return err
	}
	slices.Reverse(files)
	return readFiles(fsys, files, func(index int64, text []byte, _ Place) error { return f(index, text) })
}

func readFiles(fsys fs.FS, files []segment, f func(index int64, text []byte, at Place) error) error {
	for _, s := range files {
		_, err := readLines(fsys, s.name, func(text []byte, at place, whole bool) error {
			if !whole {
				return nil // it is still being written, or Open will cut it off
			}
			return f(s.first+int64(at.line-1), text, Place{s.first, at.offset, int32(len(text))})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Find returns the indexes of the records whose eventID or requestID is id. It reads the whole log,
// and proves nothing.
func Find(fsys fs.FS, id string) ([]int64, error) {
	quoted, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	var found []int64
	err = Read(fsys, func(index int64, text []byte) error {
		var ids struct{ EventID, RequestID string }
		if bytes.Contains(text, quoted) && json.Unmarshal(text, &ids) == nil &&
			(ids.EventID == id || ids.RequestID == id) {
			found = append(found, index)
		}
		return nil
	})
	return found, err
}

// ClaimedRecord returns the record that a proof is of, without verifying that it proves it.
func ClaimedRecord(proof []byte) ([]byte, error) {
	p, err := parseProof(proof)
	return p.record, err
}

// Proven is what a proof proves.
type Proven struct {
	Origin string // of the log
	Index  int64
	Record []byte // the line: the record as JSON
	Size   int64  // records in the log when it was signed
}

// VerifyProof checks a proof, offline. One of the keys must have signed its checkpoint.
func VerifyProof(text []byte, keys ...string) (Proven, error) {
	p, err := parseProof(text)
	if err != nil {
		return Proven{}, err
	}
	c, err := OpenCheckpoint(p.signed, keys...)
	if err != nil {
		return Proven{}, fmt.Errorf("verify proof: %w", err)
	}
	if err := tlog.CheckRecord(p.hashes, c.Size, c.Root, p.index, tlog.RecordHash(p.record)); err != nil {
		return Proven{}, fmt.Errorf("verify proof: %w", err)
	}
	return Proven{c.Origin, p.index, p.record, c.Size}, nil
}

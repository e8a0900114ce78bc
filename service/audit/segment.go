package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

const (
	recordFolder  = "records"
	recordSuffix  = ".jsonl"
	recordNumbers = 20 // digits of a file's name, enough for the largest index
)

func segmentName(first int64) string {
	return fmt.Sprintf("%s/%0*d%s", recordFolder, recordNumbers, first, recordSuffix)
}

// segment is a file of records.
type segment struct {
	name  string
	first int64 // index of its first record
}

// segments lists the files of records in order. Verify reports files with other names.
func segments(fsys fs.FS) ([]segment, error) {
	entries, err := fs.ReadDir(fsys, recordFolder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var all []segment
	for _, e := range entries {
		if s, ok := parseSegment(recordFolder + "/" + e.Name()); ok {
			all = append(all, s)
		}
	}
	return all, nil
}

func parseSegment(name string) (segment, bool) {
	digits := strings.TrimSuffix(strings.TrimPrefix(name, recordFolder+"/"), recordSuffix)
	first, err := parseDecimal(strings.TrimLeft(digits, "0"))
	if err != nil {
		first = 0
	}
	return segment{name, first}, segmentName(first) == name
}

// place is the position of a line.
type place struct {
	file   string
	line   int   // from 1; 0 when it is not known, or the whole file is meant
	offset int64 // bytes before the line
}

func (p place) String() string {
	s := p.file
	if p.line > 0 {
		s += fmt.Sprintf(", line %d", p.line)
	}
	if p.line > 0 || p.offset > 0 {
		s += fmt.Sprintf(" (byte %d)", p.offset)
	}
	return s
}

// lineReader reads the lines of one file.
type lineReader struct {
	r  *bufio.Reader
	at place // of the next line
}

func newLineReader(name string, r io.Reader) *lineReader {
	return &lineReader{bufio.NewReaderSize(r, 2*(maxLine+1)), place{name, 1, 0}}
}

// reset goes on with another part of the file, which begins at an offset.
func (r *lineReader) reset(offset int64, part io.Reader) {
	r.r.Reset(part)
	r.at.offset = offset
}

// next returns a line without its newline, and whether it had one. The line is valid until the next
// call. A line that is too long is cut, and does not parse. Blanks at the end of the file are not
// part of a line. At the end the error is io.EOF.
func (r *lineReader) next() (text []byte, at place, whole bool, err error) {
	at = r.at
	text, err = r.r.ReadSlice('\n')
	read, blanks := int64(len(text)), blanksBehind(text, 0)
	if errors.Is(err, bufio.ErrBufferFull) {
		text = append([]byte(nil), text...)
		for errors.Is(err, bufio.ErrBufferFull) {
			var more []byte
			more, err = r.r.ReadSlice('\n')
			read, blanks = read+int64(len(more)), blanksBehind(more, blanks)
		}
		whole = err == nil
	} else if whole = err == nil; whole {
		text = text[:len(text)-1]
	}
	if err == io.EOF {
		read -= blanks
		text = text[:min(int64(len(text)), read)]
	}
	if err != nil && (err != io.EOF || read == 0) {
		return nil, at, false, err
	}
	r.at.line++
	r.at.offset += read
	return text, at, whole, nil
}

// blanksBehind counts the blanks at the end of what was read; more is the last part of it.
func blanksBehind(more []byte, before int64) int64 {
	n := int64(len(more) - len(bytes.TrimRight(more, " ")))
	if n == int64(len(more)) {
		n += before
	}
	return n
}

// errReread tells readLines to read the file again from this line.
var errReread = errors.New("read this line again")

// readLines calls f with each line of a file, until f returns an error, and returns the position of
// the end.
func readLines(fsys fs.FS, name string, f func(text []byte, at place, whole bool) error) (end place, err error) {
	end = place{name, 1, 0}
	for {
		if end, err = readLinesFrom(fsys, end, f); err != errReread {
			return end, err
		}
	}
}

func readLinesFrom(fsys fs.FS, from place, f func(text []byte, at place, whole bool) error) (end place, err error) {
	file, err := fsys.Open(from.file)
	if err != nil {
		return from, fmt.Errorf("read records: %w", err)
	}
	defer func() {
		if closed := file.Close(); closed != nil {
			err = errors.Join(err, closed)
		}
	}()
	if _, err := io.CopyN(io.Discard, file, from.offset); err != nil {
		return from, fmt.Errorf("read records: %w", err)
	}
	r := newLineReader(from.file, file)
	r.at = from
	for {
		text, at, whole, err := r.next()
		if err == io.EOF {
			return r.at, nil
		}
		if err != nil {
			return r.at, fmt.Errorf("read records: %w", err)
		}
		switch err := f(text, at, whole); err {
		case nil:
		case errReread:
			return at, err
		default:
			return r.at, err
		}
	}
}

// segmentFile is an open file of records that can be read from any place.
type segmentFile struct {
	fs.File
	io.ReaderAt
	size int64
}

// openSegment opens a file of records. The caller has to close it.
func openSegment(fsys fs.FS, name string) (*segmentFile, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	at, ok := file.(io.ReaderAt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s can be read from its beginning only", name), file.Close())
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &segmentFile{file, at, info.Size()}, nil
}

// What findRecord reads of a file to look at a line in it, bytes.
const (
	findStep = 4 << 10           // at once
	findMost = 2 * (maxLine + 1) // in all: the rest of one line and the whole of the next
)

// findRecord returns the record of an index, or nil when it does not find it. It is a binary search:
// it looks at the first record after the middle of the bytes that are left. So it reads a small part of
// the file, whatever that holds. When lines are damaged or not in order, it may miss a record that is
// there.
func (f *segmentFile) findRecord(index int64) (record []byte, err error) {
	r := newLineReader("", nil)
	for low, high := int64(0), f.size; low < high; {
		middle := low + (high-low)/2
		l, end, err := f.lineFrom(r, middle)
		switch {
		case err == io.EOF || err == nil && l.index > index:
			high = middle
		case err != nil:
			return nil, err
		case l.index < index:
			low = end
		default:
			return slices.Clone(l.text), nil
		}
	}
	return nil, nil
}

// lineFrom returns the first record that begins at a byte or soon after it, and where its line ends.
// When there is none, as among the blanks at the end, the error is io.EOF. The line is valid until r is
// used again.
func (f *segmentFile) lineFrom(r *lineReader, from int64) (l line, end int64, err error) {
	start := max(from-1, 0) // a line begins at from if the byte before it ends one
	r.reset(start, inSteps{io.NewSectionReader(f, start, findMost)})
	if from > 0 {
		if _, _, _, err := r.next(); err != nil {
			return line{}, 0, err
		}
	}
	for {
		text, _, _, err := r.next()
		if err != nil {
			return line{}, 0, err
		}
		if l, err := parseLine(text); err == nil {
			return l, r.at.offset, nil
		}
	}
}

// inSteps keeps a buffered reader from reading as much as its buffer takes.
type inSteps struct{ io.Reader }

func (r inSteps) Read(b []byte) (int, error) { return r.Reader.Read(b[:min(len(b), findStep)]) }

// Place is where the line of a record is.
type Place struct {
	First  int64 // index of the first record in its file
	Offset int64 // of the line in the file, bytes
	Length int32 // of the line, bytes
}

// PlaceReader reads records by their places. It keeps the file of the last one open.
type PlaceReader struct {
	FS   fs.FS
	file *segmentFile
	at   segment
}

// Read returns the line of a record.
func (r *PlaceReader) Read(p Place) ([]byte, error) {
	if r.file == nil || r.at.first != p.First {
		if err := r.Close(); err != nil {
			return nil, err
		}
		r.at = segment{segmentName(p.First), p.First}
		file, err := openSegment(r.FS, r.at.name)
		if err != nil {
			return nil, fmt.Errorf("read record: %w", err)
		}
		r.file = file
	}
	text := make([]byte, p.Length)
	if _, err := r.file.ReadAt(text, p.Offset); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return text, nil
}

// Close closes the file.
func (r *PlaceReader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

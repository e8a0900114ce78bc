package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

const backwardBlock = 256 << 10 // bytes read at once; more than two lines

// backward reads the lines of a file from one of them to the first.
type backward struct {
	file io.ReaderAt
	end  int64  // of the lines that are left, bytes
	held []byte // the last of them; the first may lack its beginning
	torn int    // bytes after the last whole line
	read int64  // bytes so far
}

// openBackward begins at the end of a line, or with -1 at that of the last one. A file that is being
// written may end in blanks and in a part of a line.
func openBackward(file *segmentFile, end int64) (*backward, error) {
	r := &backward{file: file, end: end}
	if end >= 0 {
		if end > file.size {
			return nil, ErrPosition
		}
		var last [1]byte
		if _, err := file.ReadAt(last[:], end-1); err != nil || last[0] != '\n' {
			return nil, errors.Join(ErrPosition, err)
		}
		return r, nil
	}
	return r, r.findEnd(file.size)
}

// findEnd leaves out what follows the last whole line.
func (r *backward) findEnd(size int64) error {
	for r.end = size; r.end > 0; {
		if err := r.more(); err != nil {
			return err
		}
		n := bytes.LastIndexByte(r.held, '\n') + 1
		r.torn += len(bytes.TrimRight(r.held[n:], " "))
		r.end -= int64(len(r.held) - n)
		if r.held = r.held[:n]; n > 0 {
			return nil
		}
		if r.torn > maxLine || size-r.end > maxSearched {
			return fmt.Errorf("it ends in %d bytes without a line: %w", size-r.end, ErrTampered)
		}
	}
	return nil
}

// more reads the block before what is held.
func (r *backward) more() error {
	start := r.end - int64(len(r.held))
	n := min(start, backwardBlock)
	block := make([]byte, n, n+int64(len(r.held)))
	if _, err := r.file.ReadAt(block, start-n); err != nil && err != io.EOF {
		return err
	}
	r.read += n
	r.held = append(block, r.held...)
	return nil
}

// previous returns a copy of the line before the last one that it has returned, without its newline.
// At the beginning of the file the error is io.EOF.
func (r *backward) previous() ([]byte, error) {
	text, err := r.line()
	if err != nil {
		return nil, err
	}
	if _, err := parseLine(text); err != nil { // part of it may have been read while it was still blank
		r.held = nil
		if text, err = r.line(); err != nil {
			return nil, err
		}
	}
	r.end -= int64(len(text)) + 1
	r.held = r.held[:len(r.held)-len(text)-1]
	return slices.Clone(text), nil
}

// line returns the last line that is left.
func (r *backward) line() ([]byte, error) {
	if r.end == 0 {
		return nil, io.EOF
	}
	for {
		if n := len(r.held); n > 0 {
			start := bytes.LastIndexByte(r.held[:n-1], '\n') + 1
			if start > 0 || int64(n) == r.end {
				return r.held[start : n-1], nil
			}
			if n > backwardBlock+maxLine {
				return nil, fmt.Errorf("a line has more than %d bytes: %w", maxLine, ErrTampered)
			}
		}
		if err := r.more(); err != nil {
			return nil, err
		}
	}
}

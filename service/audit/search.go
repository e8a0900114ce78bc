package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"
	"time"
)

// Limits of one Search.
const (
	maxSearched = 4 << 20 // bytes read, and at most one block more
	maxFound    = 1 << 20 // bytes of records given, and at most one record more

	// A record is written when its request ends, and has the time at which it began. So records are
	// in the order of their times but for this much; those of commands may come much later.
	outOfOrder = time.Hour
)

// Found is what a Search gives.
type Found struct {
	Records []FoundRecord // newest first: in the opposite order of the log
	Read    int           // records that were looked at
	// Unreadable counts the lines that are no records of a log: somebody or something has changed
	// them. Verify says where.
	Unreadable int
	// Next is where the search goes on. It is empty when nothing older can match.
	Next string
}

// FoundRecord is a line of the log.
type FoundRecord struct {
	Index int64
	Text  []byte // the record as JSON
}

// ErrPosition says that a position is none of this log.
var ErrPosition = errors.New("not a position in this audit log")

// Search looks for up to limit records that match a filter, newest first, from a position that an
// earlier Search has given as Next; from the end of the log when it is empty. It reads at most a few
// megabytes: when it stops early, Next is set although there are fewer records than limit. It proves
// nothing. The log may be in use.
func Search(fsys fs.FS, from string, limit int, f Filter) (Found, error) {
	files, err := segments(fsys)
	if err != nil {
		return Found{}, err
	}
	s := &search{fsys: fsys, files: files, limit: limit, filter: f}
	if err := s.run(from); err != nil {
		return Found{}, fmt.Errorf("search audit log: %w", err)
	}
	return s.Found, nil
}

// search is one run through some of the records.
type search struct {
	Found
	fsys   fs.FS
	files  []segment
	limit  int
	filter Filter

	read, found int64 // bytes
	done        bool  // nothing older can match
}

func (s *search) run(from string) error {
	p := position{file: s.first(), end: -1}
	if from != "" {
		var err error
		if p, err = s.parsePosition(from); err != nil {
			return err
		}
	}
	for ; p.file >= 0; p = (position{file: p.file - 1, end: -1}) {
		stopped, err := s.readFile(p)
		if err != nil || s.done {
			return err
		}
		if stopped > 0 {
			s.Next = s.format(position{p.file, stopped})
			return nil
		}
		if p.file > 0 && s.full() {
			s.Next = s.format(position{p.file - 1, -1})
			return nil
		}
	}
	return nil
}

// full tells whether the search has to stop.
func (s *search) full() bool {
	return len(s.Records) >= s.limit || s.read >= maxSearched || s.found >= maxFound
}

// position is the end of a line in one of the files; -1 is the end of the last.
type position struct {
	file int
	end  int64
}

// format writes a position as the index of its file's first record and the byte in it.
func (s *search) format(p position) string { return fmt.Sprintf("%d.%d", s.files[p.file].first, p.end) }

// parsePosition reads what format has written. That a line ends there is checked when it is read.
func (s *search) parsePosition(text string) (position, error) {
	first, end, _ := strings.Cut(text, ".")
	number, err := parseDecimal(first)
	if err != nil {
		return position{}, ErrPosition
	}
	p := position{file: sort.Search(len(s.files), func(i int) bool { return s.files[i].first >= number }), end: -1}
	if p.file == len(s.files) || s.files[p.file].first != number {
		return position{}, ErrPosition
	}
	if end != "-1" {
		if p.end, err = parseDecimal(end); err != nil || p.end == 0 {
			return position{}, ErrPosition
		}
	}
	return p, nil
}

// first returns the file to begin with: the last one that may have records before the filter's end.
func (s *search) first() int {
	if s.filter.Until.IsZero() {
		return len(s.files) - 1
	}
	late := s.filter.Until.Add(outOfOrder)
	begun := sort.Search(len(s.files), func(i int) bool {
		at, known := s.begins(s.files[i])
		return known && at.After(late)
	})
	return begun - 1
}

// begins returns the time of a file's first record, when that says something of those after it.
func (s *search) begins(file segment) (at time.Time, known bool) {
	_, _ = readLines(s.fsys, file.name, func(text []byte, _ place, _ bool) error {
		var r searched
		known = json.Unmarshal(text, &r) == nil && r.isInOrder()
		at = r.EventTime
		return errFound
	})
	return at, known
}

// isInOrder tells whether a record was written soon after its time. Those of commands wait for a
// server.
func (r *searched) isInOrder() bool { return r.EventType == "AwsApiCall" }

// readFile looks at the records of a file before a position. It returns where it has stopped, or 0
// at the file's beginning.
func (s *search) readFile(p position) (stopped int64, err error) {
	name := s.files[p.file].name
	file, err := openSegment(s.fsys, name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines, err := openBackward(file, p.end)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	if last := p.file == len(s.files)-1; lines.torn > 0 && !last {
		s.Unreadable++ // in the last file, it is being written
	}
	before := s.read
	for s.read = before + lines.read; !s.full() && !s.done; s.read = before + lines.read {
		text, err := lines.previous()
		if err == io.EOF {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("%s, byte %d: %w", name, lines.end, err)
		}
		s.look(text)
	}
	return lines.end, nil
}

// look takes a record that matches.
func (s *search) look(text []byte) {
	s.Read++
	l, err := parseLine(text)
	var r searched
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		s.Unreadable++
		return
	}
	if s.filter.matches(text, &r) {
		s.Records = append(s.Records, FoundRecord{l.index, text})
		s.found += int64(len(text))
	}
	s.done = r.isInOrder() && !s.filter.From.IsZero() && r.EventTime.Before(s.filter.From.Add(-outOfOrder))
}

package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// The members that follow those of the record. The package documentation shows them.
const (
	indexMember = `,"logIndex":`
	batchMember = `,"logBatch":`
	hashMember  = `,"logHash":"`
	hashDigits  = 44 // base64 of 32 bytes
	lineEnd     = `"}`

	maxTrailer = len(indexMember) + 19 + len(batchMember) + 19 + len(hashMember) + hashDigits + len(lineEnd)
)

// chainHash is the logHash of a line.
type chainHash [sha256.Size]byte

// chainStart stands for the line before the first. It makes lines of one log invalid in another.
func chainStart(origin string) chainHash { return sha256.Sum256([]byte("verenc-audit/1" + origin)) }

// next returns the hash of a line; head is what precedes the hash in it.
func (c chainHash) next(head []byte) (next chainHash) {
	h := sha256.New()
	h.Write(c[:])
	h.Write(head)
	h.Sum(next[:0])
	return next
}

// appendLine completes a record, which lacks its closing brace, and appends it to b with a newline.
func appendLine(b, record []byte, index, batch int64, before chainHash) ([]byte, chainHash) {
	start := len(b)
	b = append(append(b, record...), indexMember...)
	b = strconv.AppendInt(b, index, 10)
	b = append(b, batchMember...)
	b = strconv.AppendInt(b, batch, 10)
	hash := before.next(b[start:])
	b = append(b, hashMember...)
	b = base64.StdEncoding.AppendEncode(b, hash[:])
	return append(b, lineEnd+"\n"...), hash
}

// line is a parsed line.
type line struct {
	text         []byte // without its newline
	head         []byte // the text before its hash
	index, batch int64
	hash         chainHash
}

var errLine = errors.New("not a line of an audit log")

// parseLine parses a line but does not check its hash. A line that parses is the only encoding of
// its fields.
func parseLine(text []byte) (line, error) {
	end := len(text) - len(hashMember) - hashDigits - len(lineEnd)
	if end < 1 || len(text) > maxLine || text[0] != '{' {
		return line{}, errLine
	}
	l := line{text: text, head: text[:end]}
	digits, ok := bytes.CutPrefix(text[end:], []byte(hashMember))
	if !ok || string(digits[hashDigits:]) != lineEnd {
		return line{}, errLine
	}
	hash, err := base64.StdEncoding.Strict().DecodeString(string(digits[:hashDigits]))
	if err != nil || len(hash) != len(l.hash) {
		return line{}, errLine
	}
	l.hash = chainHash(hash)
	rest, ok1 := cutNumber(l.head, batchMember, &l.batch)
	_, ok2 := cutNumber(rest, indexMember, &l.index)
	if !ok1 || !ok2 || l.batch > l.index {
		return line{}, errLine
	}
	return l, nil
}

// cutNumber cuts a member and its number off the end of b.
func cutNumber(b []byte, member string, n *int64) (rest []byte, ok bool) {
	i := bytes.LastIndex(b, []byte(member))
	if i < 0 {
		return nil, false
	}
	digits := string(b[i+len(member):])
	v, err := parseDecimal(digits)
	*n = v
	return b[:i], err == nil
}

// maxNumber limits indexes and sizes, so that neither adding to them nor the numbers of a tree
// overflow. It is enough for nine years of a million records a second.
const maxNumber = 1 << 48

// parseDecimal reads a number that is not negative. Each number has only one spelling.
func parseDecimal(s string) (int64, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 0 || v > maxNumber || strconv.FormatInt(v, 10) != s {
		return 0, errors.New("not a number")
	}
	return v, nil
}

// leaf returns the line's hash in the tree.
func (l line) leaf() tlog.Hash { return tlog.RecordHash(l.text) }

package main

import (
	"bytes"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// columns is how wide a line of Go may be, with a tab counted as tabWidth.
const columns, tabWidth = 120, 4

// TestLinesAreShort holds every line of Go to 120 columns. A line may be longer when a string literal reaches beyond
// that and nothing follows it but punctuation: messages, JSON and patterns stay in one piece, so that a search
// finds them.
func TestLinesAreShort(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, line := range tooLong(source) {
			t.Errorf("%s:%d is wider than %d columns", name, line, columns)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tooLong returns the numbers of the lines that are too wide.
func tooLong(source []byte) []int {
	var long []int
	ends := stringLiterals(source)
	offset := 0
	for i, line := range bytes.SplitAfter(source, []byte("\n")) {
		if limit := beyondLimit(line); limit >= 0 && !crosses(ends, offset+limit, offset+len(line), source) {
			long = append(long, i+1)
		}
		offset += len(line)
	}
	return long
}

// beyondLimit returns the offset in the line of the first character beyond the limit, or -1.
func beyondLimit(line []byte) int {
	width := 0
	for i, r := range string(bytes.TrimRight(line, "\n")) {
		if r == '\t' {
			width += tabWidth - 1
		}
		if width++; width > columns {
			return i
		}
	}
	return -1
}

// extent is where a string literal begins and ends.
type extent struct{ begin, end int }

// stringLiterals returns the string literals of a file, in order.
func stringLiterals(source []byte) []extent {
	var literals []extent
	file := token.NewFileSet().AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	for {
		pos, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return literals
		case token.STRING:
			literals = append(literals, extent{file.Offset(pos), file.Offset(pos) + len(text)})
		}
	}
}

// crosses reports whether the character at offset limit belongs to a string literal, or to the punctuation that closes
// what one ends.
func crosses(literals []extent, limit, end int, source []byte) bool {
	i, _ := slices.BinarySearchFunc(literals, limit, func(e extent, at int) int { return e.begin - at })
	if i == len(literals) || literals[i].begin > limit {
		i--
	}
	if i < 0 {
		return false
	}
	rest := literals[i].end
	return rest >= end || strings.Trim(string(source[rest:end]), ",)}]{;:+ \n") == ""
}

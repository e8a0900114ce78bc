package audit

import (
	"bytes"
	"context"
	"io"
)

// WriterSink writes records as JSON Lines, for example to standard output. It cannot stop a Write
// of w that hangs: when the sink is required, whoever stops reading the other end stops the
// service.
type WriterSink struct{ w io.Writer }

// NewWriterSink returns a sink that writes to w and does not close it.
func NewWriterSink(w io.Writer) *WriterSink { return &WriterSink{w} }

// Write implements Sink.
func (s *WriterSink) Write(_ context.Context, lines [][]byte) error {
	_, err := s.w.Write(jsonLines(lines))
	return err
}

// Close implements Sink.
func (s *WriterSink) Close() error { return nil }

func jsonLines(lines [][]byte) []byte {
	return append(bytes.Join(lines, []byte("\n")), '\n')
}

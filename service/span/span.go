// Package span tells whoever traces a request what the request does: which part of the service worked for it, for how
// long, and how that ended.
//
// A request that is traced has a span in its context. Without one all functions here do nothing, and allocate nothing.
//
// What it protects: traces leave the server. Nothing may be set in a span that is a secret, a plaintext, a ciphertext,
// key material or a value of an encryption context; errors are told by their codes, never by their messages.
package span

import (
	"context"
	"time"
)

// Recorder keeps one span. Its methods may be called concurrently.
type Recorder interface {
	// Child begins a span within this one, at a time or, with the zero time, now. It is nil when no more spans of
	// the request are kept.
	Child(name string, k Kind, begun time.Time) Recorder
	Rename(name string)
	Set(name, value string)
	SetInt(name string, value int64)
	// End ends the span, at a time or, with the zero time, now. It is called once.
	End(ended time.Time, failed bool)
}

// Kind says where the work of a span is done.
type Kind int

// The kinds of spans.
const (
	Here   Kind = iota // in the server
	Called             // in the database or the token, which is waited for
)

// Span is a span that has begun. The methods of nil do nothing.
type Span struct{ recorder Recorder }

type spanKey struct{}

// New begins to trace a request: r is its first span.
func New(ctx context.Context, r Recorder) (context.Context, *Span) {
	s := &Span{r}
	return context.WithValue(ctx, spanKey{}, s), s
}

// Of returns the span that the work of a context belongs to; nil: nobody traces it.
func Of(ctx context.Context) *Span {
	s, _ := ctx.Value(spanKey{}).(*Span)
	return s
}

// Start begins a span of the work of a context, which is within the context's span. The caller ends it.
func Start(ctx context.Context, name string) (context.Context, *Span) {
	parent := Of(ctx)
	if parent == nil {
		return ctx, nil
	}
	r := parent.recorder.Child(name, Here, time.Time{})
	if r == nil {
		return ctx, nil
	}
	return New(ctx, r)
}

// Call begins a span of a call that leaves the server.
func Call(ctx context.Context, name string) *Span { return Of(ctx).CallAt(name, time.Time{}) }

// CallAt is Call of a call that has begun at a time, within s.
func (s *Span) CallAt(name string, begun time.Time) *Span {
	if s == nil {
		return nil
	}
	r := s.recorder.Child(name, Called, begun)
	if r == nil {
		return nil
	}
	return &Span{r}
}

// Rename gives the span another name, once it is known what the request asks for.
func (s *Span) Rename(name string) {
	if s != nil {
		s.recorder.Rename(name)
	}
}

// Set sets an attribute.
func (s *Span) Set(name, value string) {
	if s != nil {
		s.recorder.Set(name, value)
	}
}

// SetInt sets an attribute that is a number.
func (s *Span) SetInt(name string, value int64) {
	if s != nil {
		s.recorder.SetInt(name, value)
	}
}

// ErrorType is the attribute with the code of an error (OpenTelemetry's semantic conventions, "Recording errors").
const ErrorType = "error.type"

// Other is the ErrorType of an error without a code.
const Other = "_OTHER"

// End ends the span with the code of an error; empty: there was none.
func (s *Span) End(failure string) { s.EndAt(time.Time{}, failure) }

// EndAt is End at a time.
func (s *Span) EndAt(ended time.Time, failure string) {
	if s == nil {
		return
	}
	if failure != "" {
		s.recorder.Set(ErrorType, failure)
	}
	s.recorder.End(ended, failure != "")
}

// EndAnswered ends the span of a request. Only a failure of the server's own counts as one (OpenTelemetry's semantic
// conventions, "HTTP server semantic conventions", Status): what it refuses has a code all the same.
func (s *Span) EndAnswered(code string, failed bool) {
	if s == nil {
		return
	}
	if code != "" {
		s.recorder.Set(ErrorType, code)
	}
	s.recorder.End(time.Time{}, failed)
}

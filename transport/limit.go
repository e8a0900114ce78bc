package transport

import (
	"context"
	"sync"
	"time"
)

// limited is the context of a request that must be answered by a time. Most requests end without asking
// when it is over; only one that asks gets a timer.
type limited struct {
	context.Context // of the connection's request
	at              time.Time

	mu    sync.Mutex
	timed context.Context // guarded by mu: nil until Done
	stop  context.CancelFunc
}

// Deadline implements context.Context.
func (l *limited) Deadline() (time.Time, bool) {
	if at, ok := l.Context.Deadline(); ok && at.Before(l.at) {
		return at, true
	}
	return l.at, true
}

// Done implements context.Context.
func (l *limited) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed == nil {
		l.timed, l.stop = context.WithDeadline(l.Context, l.at)
	}
	return l.timed.Done()
}

// asked gives the context with a timer, nil if nobody has asked for one.
func (l *limited) asked() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.timed
}

// Err implements context.Context.
func (l *limited) Err() error {
	if timed := l.asked(); timed != nil {
		return timed.Err()
	}
	if err := l.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(l.at) {
		<-l.Done() // so that both say the same from now on
		return l.asked().Err()
	}
	return nil
}

// Value implements context.Context.
func (l *limited) Value(key any) any {
	if timed := l.asked(); timed != nil {
		return timed.Value(key) // by which package context finds out that a child need not watch Done
	}
	return l.Context.Value(key)
}

// end ends the context.
func (l *limited) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.stop()
	}
}

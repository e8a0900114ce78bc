package connection

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/verenc/kms/hsm/ckr"
)

// States of work. Whoever changes working to another one decides what becomes of the result.
const (
	queued int32 = iota // it waits for its turn
	working
	finished
	abandoned
)

// onWorker runs work in another goroutine: one that waits for work, whose stack has grown to the
// size that calls need, or a new one. They end with the Link.
func (l *Link) onWorker(w work) {
	select {
	case l.workers <- w:
		return
	default:
	}
	go l.worker(w)
}

func (l *Link) worker(w work) {
	for {
		for w != nil {
			w = w.do()
		}
		select {
		case w = <-l.workers:
		case <-l.closing:
			return
		}
	}
}

// work is what a worker does. It gives what is to be done next by the same worker, nil for nothing.
type work interface{ do() work }

// waiter is what a caller waits with. It is used again, since every call of the token needs one.
type waiter struct {
	timer *time.Timer   // of the deadline
	done  chan struct{} // has an element when the work has ended in time
}

// waiter gives a waiter whose timer runs.
func (l *Link) waiter(timeout time.Duration) *waiter {
	w, ok := l.waiters.Get().(*waiter)
	if !ok {
		return &waiter{time.NewTimer(timeout), make(chan struct{}, 1)}
	}
	w.timer.Reset(timeout)
	return w
}

// free takes a waiter back that nobody will wake any more.
func (l *Link) free(w *waiter) {
	w.timer.Stop() // nothing comes from its channel afterwards
	l.waiters.Put(w)
}

// call is one piece of work for a worker: f in a session of gen, or alone. The caller and the worker
// share it.
type call[T any] struct {
	link *Link
	done chan struct{} // of the caller's waiter

	alone   func() (T, error)
	discard func(T) // with alone

	f      func(*Session) (T, error)
	gen    *generation
	bounds bounds
	secret []byte // read by f
	turn   turn   // of link.turns, if it has work

	state atomic.Int32
	v     T // set before done
	err   error
}

// do implements work.
func (c *call[T]) do() work {
	defer c.link.done.Done()
	if c.turn.work == nil {
		c.begin()
		return nil
	}
	if c.state.CompareAndSwap(queued, working) { // or its caller has gone
		c.begin()
	}
	return c.link.turns.next(&c.turn)
}

// begin does the work, and gives the caller its result if it still waits.
func (c *call[T]) begin() {
	v, err := c.work()
	if c.state.CompareAndSwap(working, finished) {
		c.v, c.err = v, err
		c.done <- struct{}{}
		return
	}
	if c.f == nil {
		c.discard(v)
	} else {
		clear(c.secret)
		wipe(v)
	}
	c.state.Store(finished)
	c.link.stuck.Add(-1)
}

// giveUp reports whether the call has not begun, and never will.
func (c *call[T]) giveUp() bool {
	if !c.state.CompareAndSwap(queued, abandoned) {
		return false
	}
	clear(c.secret)
	c.bounds.leave(c.gen, nil)
	return true
}

func (c *call[T]) work() (T, error) {
	if c.f == nil {
		return c.alone()
	}
	var begun time.Time
	if c.bounds.turns {
		begun = time.Now()
	}
	v, err := inSession(c.link, c.gen, c.f)
	if c.bounds.turns && err == nil {
		c.link.turns.pace.took(time.Since(begun))
	}
	if !safeToRestart(err) {
		clear(c.secret)
	}
	c.bounds.leave(c.gen, err)
	return v, err
}

// await has a worker do c and waits for it until the deadline or cancel. Work that comes back later
// counts as stuck until then, and its result is discarded. The caller has joined for it.
func await[T any](c *call[T], w *waiter, cancel <-chan struct{}) (T, error) {
	l := c.link
	c.done = w.done
	if c.bounds.turns && l.turns.pace.near.Load() {
		c.turn.work = c
		l.turns.add(&c.turn)
	} else {
		c.state.Store(working)
		l.onWorker(c)
	}
	var none T
	err := ckr.ErrTimeout
	select {
	case <-w.done:
		return c.v, c.err
	case <-w.timer.C:
	case <-cancel:
		err = fmt.Errorf("%w: %w", ckr.ErrTimeout, context.Canceled)
	}
	if c.giveUp() {
		l.stats.timeouts.Add(1)
		return none, fmt.Errorf("%w: no turn came in time", err)
	}
	l.stuck.Add(1)
	if err == ckr.ErrTimeout && len(l.cfg.ModuleCommand) > 0 {
		time.AfterFunc(drain, func() { // a call in a process of its own need not stay stuck
			if c.state.Load() == abandoned {
				l.lib.module.Abort()
			}
		})
	}
	if !c.state.CompareAndSwap(working, abandoned) { // it came back at the last moment
		l.stuck.Add(-1)
		<-w.done
		return c.v, c.err
	}
	l.stats.timeouts.Add(1)
	return none, err
}

// wipe clears a result that no caller receives.
func wipe(v any) {
	switch v := v.(type) {
	case []byte:
		clear(v)
	case interface{ Clear() }:
		v.Clear()
	}
}

// bounded is await with a timeout, for the supervisor's own work.
func bounded[T any](
	l *Link, timeout time.Duration, cancel <-chan struct{}, work func() (T, error), discard func(T),
) (v T, err error) {
	l.done.Add(1)
	w := l.waiter(timeout)
	defer l.free(w)
	return await(&call[T]{link: l, alone: work, discard: discard}, w, cancel)
}

func ignore[T any](T) {}

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
	working int32 = iota
	finished
	abandoned
)

// onWorker runs work in another goroutine: one that waits for work, whose stack has grown to the
// size that calls need, or a new one. They end with the Link.
func (l *Link) onWorker(work func()) {
	select {
	case l.workers <- work:
		return
	default:
	}
	go func() {
		for {
			work()
			select {
			case work = <-l.workers:
			case <-l.closing:
				return
			}
		}
	}()
}

// await does work in another goroutine and waits for it until the deadline or cancel. Work that
// comes back later counts as stuck until then, and its result is discarded. The caller has joined
// for it.
func await[T any](
	l *Link, deadline <-chan time.Time, cancel <-chan struct{}, work func() (T, error), discard func(T),
) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	var state atomic.Int32
	result := make(chan outcome, 1)
	l.onWorker(func() {
		defer l.done.Done()
		v, err := work()
		if state.CompareAndSwap(working, finished) {
			result <- outcome{v, err}
			return
		}
		discard(v)
		state.Store(finished)
		l.stuck.Add(-1)
	})
	err := ckr.ErrTimeout
	select {
	case o := <-result:
		return o.v, o.err
	case <-deadline:
	case <-cancel:
		err = fmt.Errorf("%w: %w", ckr.ErrTimeout, context.Canceled)
	}
	l.stuck.Add(1)
	if err == ckr.ErrTimeout && len(l.cfg.ModuleCommand) > 0 {
		time.AfterFunc(drain, func() { // a call in a process of its own need not stay stuck
			if state.Load() == abandoned {
				l.lib.module.Abort()
			}
		})
	}
	if !state.CompareAndSwap(working, abandoned) { // it came back at the last moment
		l.stuck.Add(-1)
		o := <-result
		return o.v, o.err
	}
	l.stats.timeouts.Add(1)
	var none T
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
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	return await(l, timer.C, cancel, work, discard)
}

func ignore[T any](T) {}

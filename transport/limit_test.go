package transport

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func newLimited(ctx context.Context, within time.Duration) *limited {
	return &limited{Context: ctx, at: time.Now().Add(within)}
}

// TestLimited: the context of a request behaves as context.WithTimeout's, whoever asks first.
func TestLimited(t *testing.T) {
	type key struct{}
	for name, ask := range map[string]func(context.Context){
		"nothing": func(context.Context) {},
		"Done":    func(ctx context.Context) { ctx.Done() },
		"a child": func(ctx context.Context) { _, cancel := context.WithTimeout(ctx, time.Hour); defer cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
				defer cancel()
				l := newLimited(parent, time.Second)
				ask(l)
				if at, ok := l.Deadline(); !ok || time.Until(at) != time.Second || l.Err() != nil || l.Value(key{}) != "value" {
					t.Errorf("%v, %v, %v, %v", at, ok, l.Err(), l.Value(key{}))
				}
				child, stop := context.WithCancel(l)
				defer stop()
				time.Sleep(time.Second)
				synctest.Wait()
				if !errors.Is(l.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
					t.Errorf("after its time: %v, %v", l.Err(), child.Err())
				}
				<-l.Done()
				l.end()

				l = newLimited(parent, time.Second)
				ask(l)
				cancel()
				if !errors.Is(l.Err(), context.Canceled) {
					t.Errorf("after its parent: %v", l.Err())
				}
				<-l.Done()
				l.end()
			})
		})
	}
}

package connection

import (
	"context"
	"fmt"
	"time"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/session"
)

// bounds are the deadline of a call, whether it needs a place among the generators too, and whether it takes
// turns in a token that is near.
type bounds struct {
	timeout   time.Duration
	generates bool
	turns     bool
}

// queues are where a call needs a place, in the order of taking.
func (b bounds) queues(g *generation) []chan struct{} {
	if b.generates {
		return []chan struct{}{g.generators, g.places}
	}
	return []chan struct{}{g.places}
}

// leave gives the places back, but not the one that the token has no session for.
func (b bounds) leave(g *generation, err error) {
	queues := b.queues(g)
	if err == errCrowded {
		queues = queues[:len(queues)-1]
	}
	leave(queues)
}

func leave(queues []chan struct{}) {
	for _, place := range queues {
		<-place
	}
}

// begin lets a call in: it has a connection and a place in it, or an error. After it succeeds the
// caller owes a l.done.Done and the places.
func (l *Link) begin(ctx context.Context, b bounds, deadline <-chan time.Time) (*generation, error) {
	if n := l.stuck.Load(); int(n) >= l.cfg.MaxStuck {
		return nil, stuckError(n)
	}
	g, err := l.connected()
	if err != nil {
		return nil, err
	}
	queues := b.queues(g)
	for i, place := range queues {
		if err := l.take(ctx, place, g.Gone(), deadline); err != nil {
			leave(queues[:i])
			return nil, err
		}
	}
	if !l.join() {
		leave(queues)
		return nil, errClosed
	}
	return g, nil
}

// take waits for a place.
func (l *Link) take(ctx context.Context, place chan<- struct{}, gone <-chan struct{}, deadline <-chan time.Time) error {
	select {
	case place <- struct{}{}:
		return nil
	default:
	}
	l.stats.waits.Add(1)
	select {
	case place <- struct{}{}:
		return nil
	case <-gone:
		return session.ErrLost
	case <-ctx.Done():
		return fmt.Errorf("%w: wait for a session: %w", ckr.ErrTimeout, ctx.Err())
	case <-deadline:
		l.stats.timeouts.Add(1)
		return fmt.Errorf("%w: no session became free in time", ckr.ErrTimeout)
	}
}

func stuckError(n int32) error {
	return fmt.Errorf("%w: %d calls are stuck in it", ckr.ErrUnavailable, n)
}

package connection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/session"
)

// Run gives f a session and waits for it until the deadline. C calls can't be cancelled: past the
// deadline the caller gets ErrTimeout, while the goroutine inside the module keeps the session to
// itself until it comes back, and wipes the result that nobody takes. So f must share no memory
// with its caller that either writes later. f is called again when it has done nothing yet, since
// it lacked a session or the index, or the token had closed its idle session.
//
// A caller that goes away (ctx) stops waiting for a session, but not for a call under way.
func Run[T any](ctx context.Context, l *Link, f func(s *Session) (T, error)) (T, error) {
	return runBounded(ctx, l, bounds{timeout: l.cfg.CallTimeout}, nil, observed(ctx, l, f))
}

// RunInTurn is Run for an f that does symmetric cryptography, which takes turns in a token that is near.
func RunInTurn[T any](ctx context.Context, l *Link, f func(s *Session) (T, error)) (T, error) {
	return RunSecret(ctx, l, nil, f)
}

// RunSecret is RunInTurn for an f that reads a secret, which is cleared when f has ended or will never begin.
func RunSecret[T any](ctx context.Context, l *Link, secret []byte, f func(s *Session) (T, error)) (T, error) {
	return runBounded(ctx, l, bounds{timeout: l.cfg.CallTimeout, turns: true}, secret, observed(ctx, l, f))
}

// RunGenerate is Run for an f that generates a key pair.
func RunGenerate[T any](ctx context.Context, l *Link, f func(s *Session) (T, error)) (T, error) {
	return runBounded(ctx, l, bounds{timeout: l.cfg.GenerateTimeout, generates: true}, nil, observed(ctx, l, f))
}

// RunLong is Run with Config.GenerateTimeout for an f that is not for requests.
func RunLong[T any](ctx context.Context, l *Link, f func(s *Session) (T, error)) (T, error) {
	return runBounded(ctx, l, bounds{timeout: l.cfg.GenerateTimeout}, nil, observed(ctx, l, f))
}

// observed is f whose calls are told to whom Config.Observe says.
func observed[T any](ctx context.Context, l *Link, f func(s *Session) (T, error)) func(s *Session) (T, error) {
	if l.cfg.Observe == nil {
		return f
	}
	tell, begun := l.cfg.Observe(ctx), time.Now()
	if tell == nil {
		return f
	}
	return func(s *Session) (T, error) {
		defer s.Observe(tell, begun)()
		return f(s)
	}
}

func runBounded[T any](
	ctx context.Context, l *Link, b bounds, secret []byte, f func(s *Session) (T, error),
) (v T, err error) {
	w := l.waiter(b.timeout)
	defer l.free(w)
	for {
		g, err := l.begin(ctx, b, w.timer.C)
		if err != nil {
			clear(secret)
			return v, l.counted(err)
		}
		v, err = await(&call[T]{link: l, f: f, gen: g, bounds: b, secret: secret}, w, nil)
		if !safeToRestart(err) {
			return v, l.counted(err)
		}
		if err := l.beforeRestart(ctx, g, err, w.timer.C); err != nil {
			clear(secret)
			return v, l.counted(err)
		}
	}
}

// safeToRestart tells of calls that have done nothing and may begin again.
func safeToRestart(err error) bool {
	return err == errCrowded || err == errIndexing || err == errIdleGone
}

// beforeRestart waits for the index, if it is what a call lacked that is to begin again.
func (l *Link) beforeRestart(ctx context.Context, g *generation, why error, deadline <-chan time.Time) error {
	if why != errIndexing {
		return nil
	}
	select {
	case <-g.complete:
		return nil
	case <-g.Gone():
		return session.ErrLost
	case <-ctx.Done():
		return fmt.Errorf("%w: %w: %w", ckr.ErrTimeout, errIndexing, ctx.Err())
	case <-deadline:
		l.stats.timeouts.Add(1)
		return fmt.Errorf("%w: %w", ckr.ErrTimeout, errIndexing)
	}
}

// counted counts a failure that is the token's.
func (l *Link) counted(err error) error {
	if err != nil && !errors.Is(err, ckr.ErrAuthentication) && !errors.Is(err, ckr.ErrMaterial) &&
		!errors.Is(err, ckr.ErrUnsupported) {
		l.stats.failures.Add(1)
	}
	return err
}

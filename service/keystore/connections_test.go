package keystore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
)

// fakeToken counts how often it is closed.
type fakeToken struct {
	closed atomic.Int32
	err    error
}

func (t *fakeToken) Close() error {
	t.closed.Add(1)
	return t.err
}

func opens(t *fakeToken) OpenFunc[*fakeToken] {
	return func(context.Context) (*fakeToken, error) { return t, nil }
}

func connect(t *testing.T, c *Connections[*fakeToken], id string) *fakeToken {
	t.Helper()
	token := &fakeToken{}
	c.Begin(id, 1).Open(t.Context(), opens(token))
	if got, err := c.Token(id); err != nil || got != token {
		t.Fatalf("%s is not connected: %v", id, err)
	}
	return token
}

func TestConnectAndDisconnect(t *testing.T) {
	c := New[*fakeToken](zap.NewNop())
	is := func(want State) {
		t.Helper()
		if got := c.Status("a"); got.State != want || (got.Connection == 7) == (want == Disconnected) {
			t.Fatalf("%+v, want %s", got, want)
		}
		if _, err := c.Token("a"); (err == nil) != (want == Connected) || err != nil && err != ErrDisconnected {
			t.Fatalf("%s: %v", want, err)
		}
	}
	is(Disconnected)
	token := &fakeToken{}
	c.Begin("a", 7).Open(t.Context(), func(context.Context) (*fakeToken, error) {
		is(Connecting)
		if c.Begin("a", 8) != nil {
			t.Error("two attempts at once")
		}
		return token, nil
	})
	is(Connected)
	if c.Begin("a", 8) != nil {
		t.Error("an attempt while it is connected")
	}
	token.err = errors.New("stuck")
	if err := c.Disconnect("a"); err != token.err || token.closed.Load() != 1 {
		t.Errorf("closed %d times, %v", token.closed.Load(), err)
	}
	is(Disconnected)
	if err := c.Disconnect("a"); err != nil {
		t.Error(err)
	}
}

func TestErrorCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{ErrUnknownCluster, "CLUSTER_NOT_FOUND"}, {hsm.ErrPIN, "INVALID_CREDENTIALS"},
		{hsm.ErrUnavailable, "NETWORK_ERRORS"},
		{hsm.ErrTimeout, "NETWORK_ERRORS"}, {errors.New("other"), "INTERNAL_ERROR"},
	} {
		c := New[*fakeToken](zap.NewNop())
		c.Begin("a", 1).Open(t.Context(), func(context.Context) (*fakeToken, error) {
			return nil, fmt.Errorf("open: %w", test.err)
		})
		if got := c.Status("a"); got != (Status{Failed, test.want, 1}) {
			t.Errorf("%v: %+v", test.err, got)
		}
		connect(t, c, "a") // a new attempt may follow
	}
}

// TestUnwantedAttempt: the token of an attempt that was given up meanwhile is closed, and disturbs no
// later one.
func TestUnwantedAttempt(t *testing.T) {
	c := New[*fakeToken](zap.NewNop())
	late := &fakeToken{}
	var current *fakeToken
	c.Begin("a", 1).Open(t.Context(), func(context.Context) (*fakeToken, error) {
		if err := c.Disconnect("a"); err != nil {
			t.Error(err)
		}
		current = connect(t, c, "a")
		return late, nil
	})
	if token, err := c.Token("a"); err != nil || token != current {
		t.Errorf("the current token is lost: %v", err)
	}
	if now, then := current.closed.Load(), late.closed.Load(); now != 0 || then != 1 {
		t.Errorf("the late token was closed %d times, the current one %d times", then, now)
	}
}

func TestDisconnectOthers(t *testing.T) {
	c := New[*fakeToken](zap.NewNop())
	a, b := connect(t, c, "a"), connect(t, c, "b")
	err := c.DisconnectOthers(map[string]bool{"b": true})
	if err != nil || a.closed.Load() != 1 || b.closed.Load() != 0 {
		t.Errorf("closed %d and %d times, %v", a.closed.Load(), b.closed.Load(), err)
	}
	if c.Status("a").State != Disconnected || c.Status("b").State != Connected {
		t.Errorf("%+v, %+v", c.Status("a"), c.Status("b"))
	}
}

// TestClose waits for an attempt under way, closes its token, and lets no other begin.
func TestClose(t *testing.T) {
	c := New[*fakeToken](zap.NewNop())
	a, late := connect(t, c, "a"), &fakeToken{}
	attempt, opening, closed := c.Begin("b", 1), make(chan struct{}), make(chan error)
	go attempt.Open(t.Context(), func(context.Context) (*fakeToken, error) {
		close(opening)
		for other := c.Begin("c", 1); other != nil; other = c.Begin("c", 1) { // until Close has begun
			other.Open(t.Context(), func(context.Context) (*fakeToken, error) { return nil, ErrUnknownCluster })
			runtime.Gosched()
		}
		return late, nil
	})
	<-opening
	go func() { closed <- c.Close() }()
	if err := <-closed; err != nil || a.closed.Load() != 1 || late.closed.Load() != 1 {
		t.Errorf("closed %d and %d times, %v", a.closed.Load(), late.closed.Load(), err)
	}
	if c.Begin("d", 1) != nil || c.Status("a").State != Disconnected {
		t.Error("an attempt begins after Close")
	}
}

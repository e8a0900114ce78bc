package connection

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/softhsm"
)

// step is work that waits for go-ahead, and then takes the next turn.
type step struct {
	turns *turns
	begun func()
	ahead chan struct{}
}

func (s *step) do() work {
	s.begun()
	<-s.ahead
	return s.turns.next()
}

// bench is turns of steps, and which of them have begun.
type bench struct {
	turns *turns
	group sync.WaitGroup
	mu    sync.Mutex
	begun []int // guarded by mu
}

func newBench(most int) *bench {
	b := &bench{}
	b.turns = newTurns(most, func(w work) {
		b.group.Go(func() {
			for w != nil {
				w = w.do()
			}
		})
	})
	return b
}

// add adds steps, and gives their go-aheads.
func (b *bench) add(n int) (ahead []chan struct{}) {
	for i := range n {
		s := &step{turns: b.turns, ahead: make(chan struct{}), begun: func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.begun = append(b.begun, i)
		}}
		ahead = append(ahead, s.ahead)
		b.turns.add(s)
	}
	return ahead
}

// want checks which steps have begun once everything waits.
func (b *bench) want(t *testing.T, begun ...int) {
	t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	got := slices.Sorted(slices.Values(b.begun))
	if !slices.Equal(got, begun) {
		t.Errorf("begun: %v, want %v", got, begun)
	}
}

func TestTurnsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(2)
		ahead := b.add(5)
		b.want(t, 0, 1)
		close(ahead[1])
		b.want(t, 0, 1, 2)
		close(ahead[0])
		b.want(t, 0, 1, 2, 3)
		for _, a := range ahead[2:] {
			close(a)
		}
		b.group.Wait()
		b.want(t, 0, 1, 2, 3, 4)
		if b.turns.inside != 0 {
			t.Errorf("%d are inside", b.turns.inside)
		}
	})
}

// TestStalledTurns: when no step ends, one more begins every while, and none more than that. Once the first
// ones end, no more than the limit are inside again.
func TestStalledTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		ahead := b.add(5)
		b.want(t, 0)
		time.Sleep(stalled + 1)
		b.want(t, 0, 1)
		time.Sleep(stalled)
		b.want(t, 0, 1, 2)
		close(ahead[0])
		close(ahead[1])
		b.want(t, 0, 1, 2) // two ended, and one is inside
		close(ahead[2])
		b.want(t, 0, 1, 2, 3)
		close(ahead[3])
		close(ahead[4])
		b.group.Wait()
		b.want(t, 0, 1, 2, 3, 4)
		if b.turns.inside != 0 {
			t.Errorf("%d are inside", b.turns.inside)
		}
	})
}

// TestTimeoutBeforeTurn: a caller whose deadline ends before its turn gets away, its call never begins, and
// does not count as stuck.
func TestTimeoutBeforeTurn(t *testing.T) { synctest.Test(t, timeoutBeforeTurn) }

func timeoutBeforeTurn(t *testing.T) {
	soft := softhsm.New(t)
	l, err := Open(t.Context(), Config{
		Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN,
		CallTimeout: stalled / 2, Turns: 1, Sessions: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.turns.pace.near.Store(true)
	release := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, err := RunInTurn(t.Context(), l, func(*Session) (int, error) { <-release; return 0, nil })
		if !errors.Is(err, ckr.ErrTimeout) {
			t.Errorf("inside: %v", err)
		}
	})
	synctest.Wait()
	secret := bytes.Repeat([]byte{1}, 32)
	_, err = RunSecret(t.Context(), l, secret, func(*Session) (int, error) {
		t.Error("it began after its deadline")
		return 0, nil
	})
	if !errors.Is(err, ckr.ErrTimeout) {
		t.Errorf("waiting: %v", err)
	}
	all.Wait()
	if s := l.Stats(); s.Stuck != 1 || s.Timeouts != 2 {
		t.Errorf("%+v", s)
	}
	time.Sleep(stalled)
	synctest.Wait()
	if !bytes.Equal(secret, make([]byte, 32)) {
		t.Error("the secret was not wiped")
	}
	if n := len(l.current.Load().places); n != 1 {
		t.Errorf("%d places are taken, and one call is inside", n)
	}
	close(release)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestPace(t *testing.T) {
	const us = time.Microsecond
	always := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	for name, c := range map[string]struct {
		took func(call int) time.Duration
		near bool
	}{
		"near":                      {always(30 * us), true},
		"near, on a busy machine":   {func(i int) time.Duration { return time.Duration(20+i*1000) * us }, true},
		"far":                       {always(1000 * us), false},
		"just far":                  {always(nearCall), false},
		"far, with different calls": {func(i int) time.Duration { return nearCall + time.Duration(i)*us }, false},
	} {
		var p pace
		for i := range paceCalls - 1 {
			p.took(c.took(i))
		}
		if p.near.Load() {
			t.Errorf("%s: decided too early", name)
		}
		p.took(c.took(paceCalls))
		if p.near.Load() != c.near {
			t.Errorf("%s: near is %t", name, p.near.Load())
		}
		for range paceCalls { // what was near may be far after a reconnection, and the other way round
			p.took(map[bool]time.Duration{true: time.Millisecond, false: time.Microsecond}[c.near])
		}
		if p.near.Load() == c.near {
			t.Errorf("%s: near stays %t", name, c.near)
		}
	}
}

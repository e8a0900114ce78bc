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
	turn  turn
	begun func()
	ahead chan struct{}
}

func (s *step) do() work {
	s.begun()
	<-s.ahead
	return s.turns.next(&s.turn)
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
		s.turn.work = s
		ahead = append(ahead, s.ahead)
		b.turns.add(&s.turn)
	}
	return ahead
}

// want checks which steps have begun once everything waits.
func (b *bench) want(t *testing.T, begun ...int) {
	t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.begun, begun) {
		t.Errorf("begun: %v, want %v", b.begun, begun)
	}
}

// end has the rest go ahead, and checks that nothing is left.
func (b *bench) end(t *testing.T, ahead []chan struct{}) {
	t.Helper()
	for _, a := range ahead {
		close(a)
	}
	b.group.Wait()
	if len(b.turns.inside) != 0 || len(b.turns.waiting) != 0 {
		t.Errorf("%d are inside, and %d wait", len(b.turns.inside), len(b.turns.waiting))
	}
}

func TestTurnsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		ahead := b.add(4)
		for i := range ahead {
			b.want(t, []int{0, 1, 2, 3}[:i+1]...)
			close(ahead[i])
		}
		b.end(t, nil)
	})
}

func TestTurnsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(2)
		ahead := b.add(5)
		synctest.Wait()
		if n := len(b.begun); n != 2 {
			t.Errorf("%d are inside", n)
		}
		close(ahead[1])
		synctest.Wait()
		if n := len(b.begun); n != 3 {
			t.Errorf("%d have begun", n)
		}
		close(ahead[0])
		b.end(t, ahead[2:])
	})
}

// TestLateTurns: turns that are late keep nobody, however long they stay, and do not come back.
func TestLateTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1)
		ahead := b.add(6)
		time.Sleep(overlong - 1)
		b.want(t, 0)
		time.Sleep(2 * time.Nanosecond)
		b.want(t, 0, 1)
		close(ahead[1])
		b.want(t, 0, 1, 2) // at once
		time.Sleep(2 * overlong)
		b.want(t, 0, 1, 2, 3)
		close(ahead[0])
		close(ahead[2])
		b.want(t, 0, 1, 2, 3) // one is inside, as before
		close(ahead[3])
		b.want(t, 0, 1, 2, 3, 4)
		b.end(t, ahead[4:])
	})
}

// TestOneLateTurnOfTwo: the others are as many as without it.
func TestOneLateTurnOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(2)
		first := b.add(1)
		synctest.Wait()
		ahead := b.add(5)
		close(ahead[0]) // turns end all the time
		time.Sleep(overlong + 1)
		synctest.Wait()
		if n := len(b.turns.inside); n != 2 {
			t.Errorf("%d are inside beside a late one", n)
		}
		close(first[0])
		b.end(t, ahead[1:])
	})
}

// TestTimeoutBeforeTurn: a caller whose deadline ends before its turn gets away, its call never begins, and
// does not count as stuck.
func TestTimeoutBeforeTurn(t *testing.T) { synctest.Test(t, timeoutBeforeTurn) }

func timeoutBeforeTurn(t *testing.T) {
	soft := softhsm.New(t)
	l, err := Open(t.Context(), Config{
		Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN,
		CallTimeout: overlong / 2, Turns: 1, Sessions: 2,
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
	repeat := func(d time.Duration, n int) []time.Duration { return slices.Repeat([]time.Duration{d}, n) }
	const fast, slow = nearCall - 1, nearCall
	mixed := func(n int) []time.Duration { return append(repeat(fast, n), repeat(slow, paceCalls-n)...) }
	for name, c := range map[string]struct {
		took []time.Duration
		near bool
	}{
		"near":                       {repeat(fast, paceCalls), true},
		"near, on a busy machine":    {mixed(fastCalls), true},
		"far":                        {repeat(slow, paceCalls), false},
		"far, with a few fast calls": {mixed(fastCalls - 1), false},
	} {
		var p pace
		for i, d := range c.took {
			if p.near.Load() {
				t.Errorf("%s: near after %d calls", name, i)
			}
			p.took(d)
		}
		if p.near.Load() != c.near {
			t.Errorf("%s: near is %t", name, p.near.Load())
		}
		for range paceCalls { // a token may become far, or near
			p.took(map[bool]time.Duration{true: slow, false: fast}[c.near])
		}
		if p.near.Load() == c.near {
			t.Errorf("%s: near stays %t", name, c.near)
		}
	}
}

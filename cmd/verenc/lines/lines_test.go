package lines

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// full is a writer that can fail, and counts.
type full struct {
	mu     sync.Mutex
	text   string // guarded by mu, like the rest
	fails  error
	writes int
}

func (f *full) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	if f.fails != nil {
		return 0, f.fails
	}
	f.text += string(p)
	return len(p), nil
}

func (f *full) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = err
}

func (f *full) want(t *testing.T, text string, writes int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text != text || f.writes != writes {
		t.Errorf("%d bytes %.20q in %d writes, want %d bytes in %d", len(f.text), f.text, f.writes, len(text), writes)
	}
}

func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &full{}
		b := NewBatch(out)
		for _, line := range []string{"a\n", "b\n"} {
			if n, err := b.Write([]byte(line)); n != 2 || err != nil {
				t.Fatal(n, err)
			}
		}
		out.want(t, "", 0) // they wait
		time.Sleep(Within)
		synctest.Wait()
		out.want(t, "a\nb\n", 1)
		_, _ = b.Write([]byte("c\n"))
		_, _ = b.AtOnce().Write([]byte("d\n")) // an error comes after what happened before it, and at once
		out.want(t, "a\nb\nc\nd\n", 2)
		_, _ = b.Write([]byte("e\n"))
		if err := b.Sync(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * Within)
		out.want(t, "a\nb\nc\nd\ne\n", 3)

		failure := errors.New("full")
		out.failWith(failure)
		if _, err := b.AtOnce().Write([]byte("f\n")); !errors.Is(err, failure) {
			t.Error(err)
		}
		out.failWith(nil)
		long := strings.Repeat("g", mostWaiting) + "\n"
		if _, err := b.Write([]byte(long)); err != nil {
			t.Error(err)
		}
		out.want(t, "a\nb\nc\nd\ne\n"+long, 5)
	})
}

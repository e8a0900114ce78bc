package lines

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// full is a writer that can fail, and counts.
type full struct {
	bytes.Buffer
	fails  error
	writes int
}

func (f *full) Write(p []byte) (int, error) {
	f.writes++
	if f.fails != nil {
		return 0, f.fails
	}
	return f.Buffer.Write(p)
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
		if out.writes != 0 {
			t.Error("a line did not wait")
		}
		time.Sleep(Within)
		synctest.Wait()
		if out.String() != "a\nb\n" || out.writes != 1 {
			t.Errorf("%q in %d writes", out, out.writes)
		}
		_, _ = b.Write([]byte("c\n"))
		_, _ = b.AtOnce().Write([]byte("d\n")) // an error comes after what happened before it, and at once
		if out.String() != "a\nb\nc\nd\n" || out.writes != 2 {
			t.Errorf("%q in %d writes", out, out.writes)
		}
		_, _ = b.Write([]byte("e\n"))
		if err := b.Sync(); err != nil || !strings.HasSuffix(out.String(), "e\n") {
			t.Errorf("%q, %v", out, err)
		}
		time.Sleep(2 * Within)
		if out.writes != 3 {
			t.Errorf("%d writes", out.writes)
		}
		out.fails = errors.New("full")
		if _, err := b.AtOnce().Write([]byte("f\n")); !errors.Is(err, out.fails) {
			t.Error(err)
		}
		out.fails = nil
		long := []byte(strings.Repeat("g", mostWaiting) + "\n")
		if _, err := b.Write(long); err != nil || !strings.HasSuffix(out.String(), "e\n"+string(long)) {
			t.Errorf("after a failure: %v, %d bytes", err, out.Len())
		}
	})
}

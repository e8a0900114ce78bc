package systemd

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatch: the watchdog is fed thrice in an interval while the server lives, and not while it hangs.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		hang := make(chan struct{}, 1) // is full while the server hangs
		var dead atomic.Bool
		var fed atomic.Int32
		ended := make(chan error, 1)
		ask := func() bool {
			hang <- struct{}{}
			<-hang
			return !dead.Load()
		}
		go func() { ended <- watch(ctx, 30*time.Second, ask, func() error { fed.Add(1); return nil }) }()
		inAMinute := func() int32 {
			fed.Store(0)
			time.Sleep(time.Minute)
			return fed.Load()
		}
		if n := inAMinute(); n < 6 || n > 7 { // at once, and each 10 s
			t.Errorf("fed %d times in a minute", n)
		}
		dead.Store(true)
		inAMinute() // in which the last word of the living one may come
		if n := inAMinute(); n != 0 {
			t.Errorf("fed %d times while not alive", n)
		}
		dead.Store(false)
		inAMinute()
		hang <- struct{}{}
		inAMinute()
		if n := inAMinute(); n != 0 {
			t.Errorf("fed %d times while hanging", n)
		}
		<-hang
		if n := inAMinute(); n == 0 {
			t.Error("not fed any more")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		broken := errors.New("broken")
		if err := watch(t.Context(), time.Second, ask, func() error { return broken }); err != broken {
			t.Error(err)
		}
	})
}

// TestWithoutSystemd: nothing is told to nobody, and a socket that is not there is an error.
func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	alive := func() bool { t.Error("asked"); return true }
	if err := errors.Join(Ready(), Stopping(), Watchdog(t.Context(), alive)); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", t.TempDir()+"/none")
	if Ready() == nil {
		t.Error("no error")
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if Watchdog(t.Context(), alive) == nil {
		t.Error("no error")
	}
}

package systemd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatch: the watchdog is fed thrice in an interval while the server lives, and not while it hangs.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		alive, fed := true, 0
		hang := make(chan struct{})
		close(hang)
		ended := make(chan error, 1)
		ask := func() bool { <-hang; return alive }
		go func() { ended <- watch(ctx, 30*time.Second, ask, func() error { fed++; return nil }) }()
		sleep := func() { time.Sleep(time.Minute); synctest.Wait() }
		if sleep(); fed != 7 { // at once, and each 10 s
			t.Errorf("fed %d times in a minute", fed)
		}
		alive, fed = false, 0
		if sleep(); fed != 0 {
			t.Errorf("fed %d times while not alive", fed)
		}
		alive, hang = true, make(chan struct{})
		if sleep(); fed != 0 {
			t.Errorf("fed %d times while hanging", fed)
		}
		close(hang)
		if sleep(); fed == 0 {
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

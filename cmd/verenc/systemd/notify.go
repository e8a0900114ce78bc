// Package systemd tells systemd how the server is, by sd_notify(3). Without systemd it does nothing.
package systemd

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells systemd that the server serves, so that units that come after it can start.
func Ready() error { return notify(daemon.SdNotifyReady) }

// Stopping tells systemd that the server has begun to end.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

func notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}

// Watchdog keeps systemd's watchdog content while alive returns true, until ctx ends. It returns at once when the
// unit has no WatchdogSec.
//
// alive must not depend on anything outside of this process: a token or a database that is away must not make
// systemd restart the server, which could not do better in its next process. One that never returns is what the
// watchdog is for: then systemd ends the process and starts another.
func Watchdog(ctx context.Context, alive func() bool) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return err
	}
	return watch(ctx, interval, alive, func() error { return notify(daemon.SdNotifyWatchdog) })
}

// watch calls feed thrice in each interval, so that one delay does no harm.
func watch(ctx context.Context, interval time.Duration, alive func() bool, feed func() error) error {
	next := time.NewTicker(interval / 3)
	defer next.Stop()
	for {
		if alive() {
			if err := feed(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
	}
}

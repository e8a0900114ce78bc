package selftest

import (
	"errors"
	"sync"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/session"
)

const (
	callers         = 8 // at once
	objectsOfCaller = 4 // one after the other
)

// Callers has several callers make and destroy token objects at once, each in a session that run
// gives it. If the token fails at that, its objects are made and destroyed one at a time from now on,
// which notice is told, and the test begins again.
func Callers(run func(func(*session.Session) error) error, notice func(string)) Check {
	check := Check{Name: CheckCallers, Need: "CreateKey, rotation, import", Optional: true, Err: atOnce(run)}
	for _, kind := range []error{nil, ckr.ErrUnavailable, ckr.ErrTimeout, ckr.ErrUnsupported, ckr.ErrFull} {
		if errors.Is(check.Err, kind) {
			return check // callers that wait for each other would not help
		}
	}
	reason := check.Err
	check.Err = run(func(s *session.Session) error { s.Locks.OneAtATime(); return nil })
	if check.Err == nil {
		check.Err = atOnce(run)
	}
	if check.Err == nil {
		notice("the token fails when several callers make objects at once, so one waits for the other: " +
			reason.Error())
	}
	return check
}

func atOnce(run func(func(*session.Session) error) error) error {
	var wait sync.WaitGroup
	failed := make([]error, callers)
	for i := range failed {
		wait.Go(func() { failed[i] = run(makeObjects) })
	}
	wait.Wait()
	for _, err := range failed { // one says enough
		if err != nil {
			return err
		}
	}
	return nil
}

// makeObjects leaves no object behind, also when the token makes one and says that it failed.
func makeObjects(s *session.Session) error {
	for range objectsOfCaller {
		id, h, err := generateTokenKey(s)
		if err == nil {
			err = s.Destroy(h)
		}
		if err != nil {
			return errors.Join(err, s.DestroyTokenObjects(id))
		}
	}
	return nil
}

package hsm

import (
	"context"
	"errors"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/hsm/session"
)

// SelfTest tries every algorithm with throw-away session keys, since the mechanism list of a token
// tells neither whether a mechanism works nor whether it is the algorithm that it is called. Each
// test has a session and a deadline of its own (Config.GenerateTimeout), and fails alone. What it
// finds out about the token is remembered for the connection.
//
// When the connection is lost meanwhile, the tests begin again, once.
func (t *Token) SelfTest(ctx context.Context) []selftest.Check {
	before := t.link.Shared()
	checks := t.selfTest(ctx)
	if t.link.Shared() != before {
		checks = t.selfTest(ctx)
	}
	return checks
}

func (t *Token) selfTest(ctx context.Context) (checks []selftest.Check) {
	keys := &selftest.Keys{}
	for _, test := range selftest.Tests() {
		_, err := connection.RunGenerate(ctx, t.link, onceIndexed(func(s *session.Session) error {
			return test.Run(s, keys)
		}))
		checks = append(checks, test.Check(err))
		if errors.Is(err, ErrUnavailable) { // the test may have crashed the module's process
			t.link.AwaitConnection(ctx)
		}
	}
	checks = append(checks, selftest.Callers(func(call func(*session.Session) error) error {
		_, err := connection.Run(ctx, t.link, onceIndexed(call))
		return err
	}, t.link.Notice))
	// If this fails, the keys end with the connection.
	_, _ = connection.Run(
		ctx, t.link,
		func(s *connection.Session) (struct{}, error) { return struct{}{}, keys.Destroy(&s.Session) },
	)
	return checks
}

// onceIndexed is f when the token's objects are indexed: the index might meet a test's token object
// just when that is destroyed.
func onceIndexed(f func(*session.Session) error) func(*connection.Session) (struct{}, error) {
	return func(s *connection.Session) (struct{}, error) {
		if err := s.AwaitIndex(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, f(&s.Session)
	}
}

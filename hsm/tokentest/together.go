package tokentest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/verenc/kms/hsm"
)

// atOnce is how many callers use the token at the same time.
const atOnce = 8

// together has several callers do, again, what worked for one.
func (s *suite) together() error {
	var wait sync.WaitGroup
	failed := make([]error, atOnce)
	for i := range failed {
		wait.Go(func() {
			for _, c := range capabilities {
				if !c.again || !s.works[c.name] {
					continue
				}
				if err := c.try(s); err != nil {
					failed[i] = errors.Join(failed[i], fmt.Errorf("caller %d: %s: %w", i, c.name, err))
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(failed...)
}

// secondConnection has another connection find and destroy a key of the first, and end. The first
// is still logged in then: C_Logout and C_Finalize would be those of the whole process.
func (s *suite) secondConnection() (err error) {
	second, err := hsm.Open(s.ctx, s.config)
	if err != nil {
		return err
	}
	open := true
	defer func() {
		if open {
			err = errors.Join(err, second.Close())
		}
	}()
	id, destroy := s.newID()
	defer destroy()
	if err := s.token.GenerateSecretKey(s.ctx,
		hsm.SecretKey{ID: id, Label: "verenc/tokentest", Purpose: hsm.Wrap}); err != nil {
		return err
	}
	if missing, err := second.Missing(s.ctx, id); err != nil || len(missing) > 0 {
		return wrong(err, "the second connection misses a key of the first")
	}
	if err := second.Destroy(s.ctx, id); err != nil {
		return err
	}
	for _, token := range []*hsm.Token{second, s.token} { // the first one still has the object in its index
		if missing, err := token.Missing(s.ctx, id); err != nil || len(missing) != 1 {
			return wrong(err, "a destroyed key is there")
		}
	}
	open = false
	if err := second.Close(); err != nil {
		return err
	}
	return s.objects()
}

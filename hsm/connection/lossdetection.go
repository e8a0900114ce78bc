package connection

import (
	"errors"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// inSession runs f in a session of the pool. It closes the session unless that is surely in order,
// and reports the connection as lost when the error means that.
func inSession[T any](l *Link, g *generation, f func(s *Session) (T, error)) (v T, err error) {
	s, err := g.session()
	if err == errCrowded && !g.withhold() {
		err = &ckr.Error{Call: "C_OpenSession", RV: pkcs11.CKR_SESSION_COUNT, Kind: ckr.ErrUnavailable}
	}
	if err != nil {
		if ckr.Lost(err) {
			l.report(g, err)
		}
		return v, err
	}
	v, err = f(s)
	s.release()
	s.Broken = s.Broken || (err != nil && !harmless(err))
	switch {
	case err == nil:
		g.doubts.Store(0)
	case !ckr.Lost(err):
	case !oneSession(err) || !g.Alive() || g.doubts.Add(1) >= maxDoubts:
		l.report(g, err)
	case s.Idled && s.Steps == 1 && ckr.Has(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED):
		err = errIdleGone // the token has closed it meanwhile
	}
	s.put()
	return v, err
}

// harmless reports whether a session can be used again after an error.
func harmless(err error) bool {
	return errors.Is(err, ckr.ErrAuthentication) || errors.Is(err, ckr.ErrMaterial) ||
		errors.Is(err, ckr.ErrNoObject) || safeToRestart(err)
}

// oneSession reports whether an error may concern one session, or one call, and not the whole
// connection: a token may answer CKR_DEVICE_ERROR for a mechanism that it does not like.
func oneSession(err error) bool {
	return ckr.Has(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_ERROR)
}

// maxDoubts is how many such errors in a row, without a success, mean that the connection is lost
// after all.
const maxDoubts = 8

package connection

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// pin is the PIN, and what the token has said of it: tokens lock after a few failures.
type pin struct {
	mu      sync.Mutex
	text    string // guarded by mu
	refused error  // guarded by mu
	tries   int    // guarded by mu: logins that have not come back
	problem string // guarded by mu: of the renewed PIN

	// rejected are the hashes of the PINs that the token has refused, guarded by mu. None is tried again.
	rejected map[[sha256.Size]byte]bool
}

// renewPIN takes another PIN, if there is one, and reports it. One that can't be right is not taken.
func (l *Link) renewPIN() bool {
	if l.cfg.RenewedPIN == nil {
		return false
	}
	text, err := l.cfg.RenewedPIN()
	if err == nil {
		err = checkPIN(text, l.cfg.PINOrigin)
	}
	if err != nil {
		if l.pin.isNews(err.Error()) {
			l.cfg.OnNotice("the PIN of the last login is kept: " + err.Error())
		}
		return false
	}
	return l.pin.renew(text)
}

func (p *pin) renew(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problem = ""
	if text == p.text || p.rejected[sha256.Sum256([]byte(text))] {
		return false
	}
	p.text, p.refused = text, nil
	return true
}

// isNews reports whether a problem is another one than the last.
func (p *pin) isNews(problem string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.problem
	p.problem = problem
	return problem != before
}

// maxLogins is how many logins may hang before no other is tried: each may turn out to be a failure.
const maxLogins = 2

// usable gives the refusal of a PIN that was refused before.
func (p *pin) usable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// begin returns the PIN for a login.
func (p *pin) begin() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil && p.tries >= maxLogins {
		return "", fmt.Errorf("%w: %d logins have not come back", ckr.ErrUnavailable, p.tries)
	}
	if p.refused == nil {
		p.tries++
	}
	return p.text, p.refused
}

// end takes the outcome of a login with a PIN, which may no longer be the one to use.
func (p *pin) end(text string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries--
	if !errors.Is(err, ckr.ErrPIN) {
		return
	}
	if p.rejected == nil {
		p.rejected = map[[sha256.Size]byte]bool{}
	}
	p.rejected[sha256.Sum256([]byte(text))] = true
	if text == p.text {
		p.refused = err
	}
}

// checkPIN refuses what an editor or a copy has put around a PIN, before the token counts it as a
// wrong one. The error names the PIN's origin, unless that is empty.
func checkPIN(pin, origin string) error {
	problem := ""
	switch {
	case pin == "":
		problem = "it is empty"
	case strings.HasPrefix(pin, "\ufeff"):
		problem = "it begins with a byte order mark: save its file without one"
	case strings.TrimSpace(pin) != pin:
		problem = "there are blanks or line ends around it"
	case strings.ContainsFunc(pin, unicode.IsControl):
		problem = "there are control characters in it"
	}
	if problem == "" {
		return nil
	}
	if origin != "" {
		problem += ": correct it in " + origin
	}
	return fmt.Errorf("%w: %s (it was not tried)", errPINText, problem)
}

// errPINText is for a PIN that no token is asked for.
var errPINText = ckr.OfKind(ckr.ErrPIN, "the PIN can't be right")

// checkPINFlags reads what the token says of its user PIN before it is tried (CK_TOKEN_INFO.flags,
// PKCS#11 v3.1 section 3.2). notice is what an operator should know although the PIN is tried.
func checkPINFlags(info pkcs11.TokenInfo, force bool) (notice string, err error) {
	refuse := func(text string) error { return ckr.OfKind(ckr.ErrPIN, text) }
	switch f := info.Flags; {
	case f&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return "", refuse("the token's user PIN is locked: reset it as its security officer, with the HSM's tools")
	case f&pkcs11.CKF_LOGIN_REQUIRED != 0 && f&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
		return "", refuse("the token has no user PIN yet: set it as its security officer, with the HSM's tools")
	case f&pkcs11.CKF_USER_PIN_FINAL_TRY != 0 && !force:
		return "", refuse(
			"one more wrong PIN locks the token, so the PIN was not tried: " +
				"make sure that it is right, and start once with --force-pin",
		)
	case f&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return "one more wrong PIN locks the token; trying it since --force-pin says so", nil
	case f&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
		return "the token has counted wrong PINs: a few more lock it", nil
	}
	return "", nil
}

// explainLogin says what to do about a C_Login that failed. origin is where the PIN is, or empty.
func explainLogin(err error, origin string) error {
	correct := "correct the PIN"
	if origin != "" {
		correct += " in " + origin
	}
	const notAgain = "; it is not tried again, since a few wrong ones lock the token"
	const reset = "as the token's security officer, with the HSM's tools"
	cures := map[pkcs11.Error]string{
		pkcs11.CKR_PIN_INCORRECT:            correct + notAgain,
		pkcs11.CKR_PIN_INVALID:              correct + notAgain,
		pkcs11.CKR_PIN_LEN_RANGE:            "the PIN is shorter or longer than the token's PINs: " + correct,
		pkcs11.CKR_PIN_LOCKED:               "the user PIN is locked: reset it " + reset,
		pkcs11.CKR_PIN_EXPIRED:              "the PIN has expired: change it with the HSM's tools",
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED: "the token has no user PIN yet: set it " + reset,
	}
	var e *ckr.Error
	if errors.As(err, &e) && cures[e.RV] != "" {
		return fmt.Errorf("log in: %w (%s)", err, cures[e.RV])
	}
	return fmt.Errorf("log in: %w", err)
}

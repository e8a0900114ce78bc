package connection

import (
	"context"
	"io"
	"time"

	"github.com/verenc/kms/hsm/session"
)

// Config says which token to use, and within what limits.
type Config struct {
	Module string // absolute path of the PKCS#11 module
	// InitArguments is C_INITIALIZE_ARGS.pReserved, which some modules want: NSS softokn its configdir
	// string, for one. Empty for NULL.
	InitArguments string
	// ModuleCommand runs the module in a process of its own: a program and its arguments, which
	// calls HostModule. When the module crashes there, or a call is stuck past its deadline, that
	// process ends and another begins. Empty: this process.
	ModuleCommand []string

	Label  string // CKA_LABEL of the token; Label or Serial is required
	Serial string // serial number of the token; tells tokens of one label apart
	PIN    string // user PIN; tried once
	// PINOrigin says in errors where the PIN is, such as "the file /etc/verenc/pin". It may be empty.
	PINOrigin string
	// RenewedPIN, if set, gives the PIN of each login after the first one: it may have been changed.
	// After an error the PIN of the last login is used again.
	RenewedPIN func() (string, error)
	// ForcePIN tries the PIN although the token says that one more wrong one locks it.
	ForcePIN bool

	Profile string // one of Profiles; default: the one of the token's manufacturer and model

	Sessions int // sessions at most, default 64; a token's own lower limit wins
	// Turns is how many calls of symmetric cryptography are inside the module at once, if its calls take less than
	// 200 µs, as those of SoftHSM2 do; default half of Go's processors when Open is called, at least 1. See
	// docs/performance.md.
	Turns       int
	CallTimeout time.Duration // for one request's calls, the wait for a session included; default 5 s
	// GenerateTimeout is CallTimeout for the generation of key pairs, default 30 s. A quarter of
	// the sessions may generate at once; the others are left for everything else.
	GenerateTimeout time.Duration

	// AllowUnavailable lets Open succeed with a token that is not available: it is connected when
	// it is back, as after a loss.
	AllowUnavailable bool

	ConnectTimeout time.Duration // for Open, and for each attempt to connect again; default 10 s

	HeldKeys int // wrapped keys whose session objects are cached, default 5,000; SoftHSM takes 9 KB for each

	MaxStuck int           // calls stuck inside the module past their deadline before new ones are refused; default 16
	RetryMin time.Duration // first pause before reconnecting, doubled up to RetryMax; default 100 ms
	RetryMax time.Duration // default 1 s

	// GiveUpAfter is how long calls may keep the module from being initialised anew, with no
	// connection, until OnGiveUp is told: nothing but another process helps then. 0: never.
	GiveUpAfter time.Duration
	OnGiveUp    func(error) // of ErrGivenUp; required with GiveUpAfter

	KeepAlive time.Duration // an idle connection is used so often; default 30 s

	// Observe, if set, is asked for each call of Run whether somebody observes it. It returns nil, or what is told
	// of the PKCS#11 calls: one at a time, also of those that end after Run has returned.
	Observe func(ctx context.Context) func(session.Call)

	Rand io.Reader // for initialisation vectors; default crypto/rand.Reader

	// OnNotice, if set, is told what an operator should know of the token: that a few more wrong
	// PINs lock it, that the module was initialised anew. It must not block.
	OnNotice func(notice string)

	// OnChange, if set, is told of every loss (err is why) and every connection (err is nil). It
	// must not block.
	OnChange func(err error)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

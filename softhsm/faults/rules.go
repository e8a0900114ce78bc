package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
)

// An Option says which calls Fail and Hang apply to. Without any, they apply to every call from now
// on, before it happens.
type Option func(*selection)

type selection struct {
	after  bool
	times  int64
	skip   int64
	chance uint64
	of     uint64
	when   uint64
}

// Times restricts to the next n calls.
func Times(n int) Option { return func(w *selection) { w.times = int64(n) } }

// Skip lets the first n calls pass.
func Skip(n int) Option { return func(w *selection) { w.skip = int64(n) } }

// Chance restricts to a random part of the calls, out of a million; see SetSeed. Skip and Times
// count only these.
func Chance(perMillion int) Option { return func(w *selection) { w.chance = uint64(perMillion) } }

// Of restricts to calls with this mechanism (a CKM_ constant), for a function that takes one; for a
// lie about attributes, to this attribute (a CKA_ constant). Other calls and attributes are not
// affected, and Skip and Times do not count them.
func Of(number uint) Option { return func(w *selection) { w.of = uint64(number) + 1 } }

// AfterCall applies after the call has happened in the token. A failing call must have succeeded
// there, and its answer is lost. A hanging call has done its work.
func AfterCall() Option { return func(w *selection) { w.after = true } }

func (r *rule) set(rv uint, options []Option) {
	w := decide(options)
	r.left.Store(0)
	r.rv.Store(uint64(rv))
	r.skip.Store(w.skip)
	r.chance.Store(w.chance)
	r.of.Store(w.of)
	r.left.Store(w.times)
}

func decide(options []Option) selection {
	w := selection{times: -1}
	for _, o := range options {
		o(&w)
	}
	return w
}

// Fail makes a function return rv (a CKR_ constant). A function can have one rule before and one
// after the call; a new one replaces the old one. Many callers first ask for the length of a
// result, which is a call too.
func (m *Module) Fail(function string, rv uint, options ...Option) {
	m.function(function).rules[choose(options, failBefore, failAfter)].set(rv, options)
}

// Hang makes calls of a function hang until Release, as they do when a network HSM stops answering.
func (m *Module) Hang(function string, options ...Option) {
	m.function(function).rules[choose(options, hangBefore, hangAfter)].set(0, options)
}

// Crash makes the call raise SIGSEGV in the process that makes it, before or after it has happened
// in the token. The rule is used up first: with Times(1), the process that is started next does not
// crash. What the dead process had open stays in Usage, see Forget.
func (m *Module) Crash(function string, options ...Option) {
	m.function(function).rules[choose(options, crashBefore, crashAfter)].set(0, options)
}

func choose(options []Option, before, after int) int {
	if decide(options).after {
		return after
	}
	return before
}

// Release ends all hanging, of current calls and of later ones.
func (m *Module) Release() {
	for _, f := range m.each(nil) {
		f.rules[hangBefore].left.Store(0)
		f.rules[hangAfter].left.Store(0)
	}
	m.control.released.Add(1)
}

// Clear removes what Fail, Hang and Crash have set.
func (m *Module) Clear() {
	for _, f := range m.each(nil) {
		f.rules[failBefore].left.Store(0)
		f.rules[failAfter].left.Store(0)
		f.rules[crashBefore].left.Store(0)
		f.rules[crashAfter].left.Store(0)
	}
	m.Release()
}

// Hanging returns how many calls hang now.
func (m *Module) Hanging() int { return int(m.control.hanging.Load()) }

// WaitHanging waits until at least n calls hang.
func (m *Module) WaitHanging(ctx context.Context, n int) error {
	poll := time.NewTicker(200 * time.Microsecond)
	defer poll.Stop()
	for m.Hanging() < n {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %d hanging calls, there are %d: %w", n, m.Hanging(), ctx.Err())
		case <-poll.C:
		}
	}
	return nil
}

// SetLatency makes calls of these functions, or all calls, take d longer, plus the delay with which
// the system wakes a sleeper (Linux's timer slack is 50 µs). Calls wait in parallel.
func (m *Module) SetLatency(d time.Duration, functions ...string) {
	for _, f := range m.each(functions) {
		f.latency.Store(uint64(d))
	}
}

// SetSeed makes what Chance decides repeatable, if the calls come in the same order.
func (m *Module) SetSeed(seed uint64) { m.control.random.Store(seed) }

// LimitSessions makes C_OpenSession answer CKR_SESSION_COUNT when n sessions are open. A negative n
// removes the limit.
func (m *Module) LimitSessions(n int) { m.control.sessionsLimit.Store(int64(n)) }

// TellSessions makes C_GetTokenInfo report n as ulMaxRwSessionCount, whatever the limit is; with a
// negative n, the token's own value.
func (m *Module) TellSessions(n int) { m.control.sessionsTold.Store(int64(n)) }

// LimitObjects makes calls that would leave more than n token objects in the token answer
// CKR_DEVICE_MEMORY, or rv: opencryptoki answers CKR_HOST_MEMORY. A negative n removes the limit.
// The objects are counted at each creation, which is slow if there are many.
func (m *Module) LimitObjects(n int, rv ...uint) {
	said := uint(pkcs11.CKR_DEVICE_MEMORY)
	if len(rv) > 0 {
		said = rv[0]
	}
	m.control.objectsRV.Store(uint64(said))
	m.control.objectsLimit.Store(int64(n))
}

// RefuseMechanisms makes these mechanisms (CKM_ constants) unknown to the token, and all others
// known.
func (m *Module) RefuseMechanisms(mechanisms ...uint) {
	m.control.refused.set("mechanisms can be refused", mechanisms)
}

// IVs says where the initialisation vectors of CKM_AES_GCM come from in encryption.
type IVs int

// Sources of initialisation vectors.
const (
	CallersIVs   IVs = iota // the caller's, as in PKCS#11 v2.40
	TokenIVs                // C_EncryptInit overwrites the caller's 12 bytes, as AWS CloudHSM does
	TokenIVsOnly            // and rejects a caller's that are not all zero, with CKR_MECHANISM_PARAM_INVALID

	// C_Encrypt appends the IV that it has generated, after the tag. The caller must give one of 1
	// to 16 bytes, which is not used. This is ProtectServer 3 in FIPS mode with ProtectToolkit 7.0,
	// or CKM_AES_GCM_OLD of later versions (Thales, ProtectToolkit-C Programming Guide,
	// CKM_AES_GCM_OLD).
	AppendedIVs
	// The same with an IV of 16 bytes, whatever the caller gives, even none. This is Luna in FIPS
	// mode (Thales, Luna SDK Reference, CKM_AES_GCM; a pIv of NULL:
	// github.com/PeculiarVentures/pkcs11js, issue 107). Decryption takes the caller's IV, and
	// ciphertext and tag without it.
	OwnAppendedIVs
)

// OwnIVs sets where initialisation vectors come from.
func (m *Module) OwnIVs(from IVs) { m.control.ownIVs.Store(uint64(from)) }

// Unplug takes the token away: every call answers CKR_DEVICE_REMOVED, including calls in progress,
// and the slots are empty. The login, the sessions, their objects and all handles are gone for
// good. See HealOnlyByFinalize.
func (m *Module) Unplug() {
	if rv := m.control.healOnly.Load(); rv != 0 {
		m.Wedge(uint(rv))
	}
	m.control.unplugged.Store(1)
	m.LogOut()
	m.forget(m.control.sessions.generation() + 1)
}

// Plug brings the token back, in the same slot.
func (m *Module) Plug() { m.control.unplugged.Store(0) }

// Renumber gives all slots other numbers, as a reboot may do.
func (m *Module) Renumber() { m.control.slotOffset.Add(1 << 20) }

// ReuseHandles makes session handles start again after an unplug, as in many modules: a stale
// handle may then be somebody else's new session. Object handles are no longer marked with their
// generation either. Call it before any session is open.
func (m *Module) ReuseHandles() { m.control.reuseHandles.Store(1) }

// LogOut ends the login: calls that use objects answer CKR_USER_NOT_LOGGED_IN, and no object is
// found, until C_Login.
func (m *Module) LogOut() { m.control.logins.Add(1) }

// Forget resets what a killed process has left behind: its sessions, its objects, and the calls
// that hung in it.
func (m *Module) Forget() {
	m.forget(m.control.sessions.generation() + 1)
	m.control.hanging.Store(0)
}

func (m *Module) forget(generation uint64) {
	m.control.objects.start(generation)
	m.control.sessions.start(generation) // last: the module takes its generation from here
}

package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
)

// An Option says which calls Fail and Hang mean. Without any, it is every call from now on, before it happens.
type Option func(*what)

type what struct {
	after  bool
	times  int64
	skip   int64
	chance uint64
	of     uint64
	when   uint64
}

// Times means the next n calls.
func Times(n int) Option { return func(w *what) { w.times = int64(n) } }

// Skip lets n calls pass first.
func Skip(n int) Option { return func(w *what) { w.skip = int64(n) } }

// Chance means a random part of the calls, of a million; see SetSeed. A Skip and Times count only these.
func Chance(perMillion int) Option { return func(w *what) { w.chance = uint64(perMillion) } }

// Of means the calls with this mechanism (a CKM_ constant), of a function that takes one; of a lie
// about attributes, the attribute (a CKA_ constant). The other calls and attributes are let alone,
// and a Skip and Times count only these.
func Of(number uint) Option { return func(w *what) { w.of = uint64(number) + 1 } }

// AfterCall means after the call has happened in the token: of a failing one, which must have
// succeeded there, the answer is lost; a hanging one has done its work.
func AfterCall() Option { return func(w *what) { w.after = true } }

func (r *rule) set(rv uint, options []Option) {
	w := decide(options)
	r.left.Store(0)
	r.rv.Store(uint64(rv))
	r.skip.Store(w.skip)
	r.chance.Store(w.chance)
	r.of.Store(w.of)
	r.left.Store(w.times)
}

func decide(options []Option) what {
	w := what{times: -1}
	for _, o := range options {
		o(&w)
	}
	return w
}

// Fail makes a function return rv (a CKR_ constant). One rule before and one after the call can
// hold for a function; a new one replaces the old one. Many callers ask for the length of a result
// first, which is a call too.
func (m *Module) Fail(function string, rv uint, options ...Option) {
	m.function(function).rules[choose(options, failBefore, failAfter)].set(rv, options)
}

// Hang makes a function's calls hang until Release, as they do when a network HSM stops answering.
func (m *Module) Hang(function string, options ...Option) {
	m.function(function).rules[choose(options, hangBefore, hangAfter)].set(0, options)
}

// Crash has the call raise SIGSEGV in the process that makes it, before or after it has happened in
// the token. The rule is spent first: with Times(1), the process that is started next does not
// crash. What the dead one had open stays in Usage, see Forget.
func (m *Module) Crash(function string, options ...Option) {
	m.function(function).rules[choose(options, crashBefore, crashAfter)].set(0, options)
}

func choose(options []Option, before, after int) int {
	if decide(options).after {
		return after
	}
	return before
}

// Release ends all hanging, of calls that hang and of those to come.
func (m *Module) Release() {
	for _, f := range m.each(nil) {
		f.rules[hangBefore].left.Store(0)
		f.rules[hangAfter].left.Store(0)
	}
	m.control.released.Add(1)
}

// Clear ends what Fail, Hang and Crash have begun.
func (m *Module) Clear() {
	for _, f := range m.each(nil) {
		f.rules[failBefore].left.Store(0)
		f.rules[failAfter].left.Store(0)
		f.rules[crashBefore].left.Store(0)
		f.rules[crashAfter].left.Store(0)
	}
	m.Release()
}

// Hanging is how many calls hang now.
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

// SetLatency makes the calls of these functions, or all calls, take d longer, and by what the system is late to wake a
// sleeper (Linux's timer slack is 50 µs). Calls wait side by side.
func (m *Module) SetLatency(d time.Duration, functions ...string) {
	for _, f := range m.each(functions) {
		f.latency.Store(uint64(d))
	}
}

// SetSeed makes what Chance decides repeatable, as far as the calls come in the same order.
func (m *Module) SetSeed(seed uint64) { m.control.random.Store(seed) }

// LimitSessions makes C_OpenSession say CKR_SESSION_COUNT when n are open. A negative n lifts the limit.
func (m *Module) LimitSessions(n int) { m.control.sessionsLimit.Store(int64(n)) }

// TellSessions makes C_GetTokenInfo tell n as ulMaxRwSessionCount, whatever the limit is; a
// negative n, the token's own.
func (m *Module) TellSessions(n int) { m.control.sessionsTold.Store(int64(n)) }

// LimitObjects makes calls that would leave more than n token objects in the token say
// CKR_DEVICE_MEMORY, or another rv: opencryptoki says CKR_HOST_MEMORY. A negative n lifts the
// limit. It counts the objects at each creation, which is slow with many.
func (m *Module) LimitObjects(n int, rv ...uint) {
	said := uint(pkcs11.CKR_DEVICE_MEMORY)
	if len(rv) > 0 {
		said = rv[0]
	}
	m.control.objectsRV.Store(uint64(said))
	m.control.objectsLimit.Store(int64(n))
}

// RefuseMechanisms makes these mechanisms (CKM_ constants) unknown to the token, and all others known.
func (m *Module) RefuseMechanisms(mechanisms ...uint) {
	m.control.refused.set("mechanisms can be refused", mechanisms)
}

// IVs says where the initialisation vectors of CKM_AES_GCM come from when encrypting.
type IVs int

// Sources of initialisation vectors.
const (
	CallersIVs   IVs = iota // the caller's, as PKCS#11 v2.40 has it
	TokenIVs                // C_EncryptInit overwrites the caller's 12 bytes, as AWS CloudHSM does
	TokenIVsOnly            // and refuses a caller's that are not all zero, with CKR_MECHANISM_PARAM_INVALID

	// C_Encrypt appends the IV that it has made, behind the tag. One of the caller's, of 1 to 16
	// bytes, must be there and is not used: this is ProtectServer 3 in FIPS mode with
	// ProtectToolkit 7.0, or CKM_AES_GCM_OLD of later ones (Thales, ProtectToolkit-C Programming
	// Guide, CKM_AES_GCM_OLD).
	AppendedIVs
	// The same with an IV of 16 bytes, whatever the caller gives, and be it none: this is Luna in
	// FIPS mode (Thales, Luna SDK Reference, CKM_AES_GCM; a pIv of NULL:
	// github.com/PeculiarVentures/pkcs11js, issue 107). Decryption takes the caller's IV, and
	// ciphertext and tag without it.
	OwnAppendedIVs
)

// OwnIVs sets where initialisation vectors come from.
func (m *Module) OwnIVs(from IVs) { m.control.ownIVs.Store(uint64(from)) }

// Unplug takes the token away: every call says CKR_DEVICE_REMOVED, those under way too, and the slots are empty. The
// login, the sessions, their objects and all handles are gone for ever. See HealOnlyByFinalize.
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

// Renumber gives all slots other numbers, as a reboot may.
func (m *Module) Renumber() { m.control.slotOffset.Add(1 << 20) }

// ReuseHandles makes session handles begin anew after an unplug, as many modules do: a stale handle
// may then be another's new session. Object handles have no mark of their time any more either. It
// is to be called before any session is open.
func (m *Module) ReuseHandles() { m.control.reuseHandles.Store(1) }

// LogOut voids the login: calls that touch objects say CKR_USER_NOT_LOGGED_IN, and no object is found, until C_Login.
func (m *Module) LogOut() { m.control.logins.Add(1) }

// Forget resets what a process has left behind that was killed: its sessions and objects and the calls that hung in it.
func (m *Module) Forget() {
	m.forget(m.control.sessions.generation() + 1)
	m.control.hanging.Store(0)
}

func (m *Module) forget(generation uint64) {
	m.control.objects.start(generation)
	m.control.sessions.start(generation) // last: the module takes its generation from here
}

package connection

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// generation is one generation of the connection: a login, its sessions and its object handles. All
// of them die together; after a loss a new generation is made and nothing of the old one is used
// again.
type generation struct {
	*session.Shared
	lib *library
	// ofModule is the module's generation when the connection began: handles mean nothing to
	// another one.
	ofModule uint64
	info     pkcs11.TokenInfo

	searchCall time.Duration // when a call of the index takes longer, the connection is lost

	freeMemory, totalMemory atomic.Uint64 // of CK_TOKEN_INFO, 0 for unknown

	doubts atomic.Int32 // errors in a row that may mean a loss, see maxDoubts

	places     chan struct{} // one for every session that may be in use
	generators chan struct{} // one for every session that may be generating a key pair: a quarter of places

	mu       sync.Mutex
	idle     []*Session    // guarded by mu
	open     int           // guarded by mu: sessions opened and not closed, idle ones included
	users    int           // guarded by mu: calls that use a session now, or open one
	withheld int           // guarded by mu: places taken away, since the token has no more sessions
	returned int           // guarded by mu: sessions given back since the last change of withheld
	unused   chan struct{} // closed once the connection is lost and users is 0
	closed   bool          // guarded by mu: close was called

	index                     // handles by CKA_ID
	unwrapped *unwrappedCache // session objects of wrapped keys
}

// Reasons to restart a call, which has done nothing yet.
var (
	errCrowded  = errors.New("the token has no session left")
	errIndexing = errors.New("the token's objects are not all known yet")
	errIdleGone = errors.New("the token has closed an idle session")
)

func newGeneration(lib *library, shared *session.Shared, info pkcs11.TokenInfo, limit int) *generation {
	return &generation{
		Shared: shared, lib: lib, ofModule: lib.module.Generation(), info: info,
		unused: make(chan struct{}), places: make(chan struct{}, limit),
		generators: make(chan struct{}, max(1, limit/4)),
		index: index{handles: map[keyobject.ID]pkcs11.ObjectHandle{}, named: map[NamedKey]named{},
			complete: make(chan struct{})},
	}
}

func (g *generation) usage() (open, busy int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open, g.open - len(g.idle)
}

// end marks the connection as lost. It reports whether it was the first to do so.
func (g *generation) end() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.Lost() {
		return false
	}
	g.End()
	g.lib.left(g)
	if g.users == 0 {
		close(g.unused)
	}
	return true
}

// close ends a lost connection's sessions but leaves those of others on the same token alone. Users
// that are still inside the module have been given the time to come back.
func (g *generation) close() {
	g.end()
	g.mu.Lock()
	var handles []pkcs11.SessionHandle
	for _, s := range g.idle {
		handles = append(handles, s.Handle)
	}
	handles = append(handles, g.Keeper) // last, since it holds the login
	g.idle, g.open, g.closed = nil, g.open-len(g.idle), true
	g.mu.Unlock()
	for _, h := range handles {
		g.lib.staleSessions.add(h, g)
	}
	g.lib.sweep()
}

// recordMemory keeps how much memory the token says it has.
func (g *generation) recordMemory(info pkcs11.TokenInfo) {
	for to, said := range map[*atomic.Uint64]uint{&g.freeMemory: info.FreePrivateMemory,
		&g.totalMemory: info.TotalPrivateMemory} {
		if said == pkcs11.CK_UNAVAILABLE_INFORMATION {
			said = 0
		}
		to.Store(uint64(said))
	}
}

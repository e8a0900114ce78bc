package connection

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/session"
)

// library is one loaded and initialised PKCS#11 module. C_Initialize and C_Finalize act on the
// whole process, so there is one library a path and process, counted.
type library struct {
	source moduleSource
	module cryptoki.Module
	refs   int // guarded by libraries.mu

	staleSessions staleSessions

	mu   sync.Mutex
	live map[*generation]struct{} // guarded by mu: connections that are installed and not lost

	locks *session.Locks
}

// moduleSource says where a module comes from, and is how two connections know that they share it.
type moduleSource struct {
	path, initArguments string
	command             string // of the module's own process, joined; empty for this process
}

// load loads the module, into a process of its own when there is a command for that.
func (s moduleSource) load(command []string) (cryptoki.Module, error) {
	cfg := cryptoki.Config{Path: s.path, InitArguments: s.initArguments}
	if len(command) > 0 {
		p, err := cryptoki.LoadInProcess(cfg, command)
		if err != nil {
			return nil, err // no typed nil
		}
		return p, nil
	}
	m, err := cryptoki.Load(cfg)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// HostModule serves a PKCS#11 module to the process that has started this one with
// Config.ModuleCommand, and ends with it.
func HostModule() error { return cryptoki.Host() }

var libraries = struct {
	mu     sync.Mutex
	loaded map[moduleSource]*library
}{loaded: map[moduleSource]*library{}}

func loadLibrary(path, initArguments string, command []string) (*library, error) {
	source := moduleSource{path, initArguments, strings.Join(command, "\x00")}
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	if l := libraries.loaded[source]; l != nil {
		l.refs++
		return l, nil
	}
	for other := range libraries.loaded {
		if source.command == "" && other.command == "" && source.path == other.path {
			return nil, fmt.Errorf(
				"load PKCS#11 module %s: it was initialised with other arguments: "+
					"all tokens of a module need the same init_arguments",
				source.path,
			)
		}
	}
	module, err := source.load(command)
	if err != nil {
		return nil, err
	}
	l := &library{
		source: source, module: module, refs: 1, live: map[*generation]struct{}{},
		staleSessions: staleSessions{owners: map[pkcs11.SessionHandle]*generation{}},
		locks:         session.NewLocks(),
	}
	libraries.loaded[source] = l
	return l, nil
}

// release gives the library back; the last one finalises it.
func (l *library) release() error {
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	l.refs--
	if l.refs > 0 {
		return nil
	}
	delete(libraries.loaded, l.source)
	return l.module.Close()
}

// joined and left count the connections that live.
func (l *library) joined(g *generation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !g.Lost() {
		l.live[g] = struct{}{}
	}
}

func (l *library) left(g *generation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, g)
}

// unused reports whether no token of the module is connected.
func (l *library) unused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.live) == 0
}

// findSlot gives the slot of the token with this label and serial number; an empty one matches all.
// Slots are numbered anew by reboots and failovers, so they are never remembered. Blanks behind a
// label are padding.
func (l *library) findSlot(label, serial string) (uint, pkcs11.TokenInfo, error) {
	label, serial = strings.TrimRight(label, " "), strings.TrimRight(serial, " ")
	slots, err := l.module.Slots()
	if err != nil {
		return 0, pkcs11.TokenInfo{}, ckr.Failed("C_GetSlotList", err)
	}
	var matches []uint
	var found pkcs11.TokenInfo
	for _, slot := range slots {
		info, err := l.module.TokenInfo(slot)
		if err != nil || (label != "" && info.Label != label) || (serial != "" && info.SerialNumber != serial) {
			continue
		}
		if !slices.Contains(matches, slot) { // a module may list a slot twice
			matches, found = append(matches, slot), info
		}
	}
	switch {
	case len(matches) == 0:
		return 0, found, &ckr.Error{
			Call: fmt.Sprintf("find token (label %q, serial %q; see verenc doctor for the tokens there are)",
				label, serial),
			RV:   pkcs11.CKR_TOKEN_NOT_PRESENT,
			Kind: ckr.ErrUnavailable,
		}
	case len(matches) > 1:
		return 0, found, fmt.Errorf("find token: %d tokens have label %q and serial %q: give the serial number of one",
			len(matches), label, serial)
	}
	return matches[0], found, nil
}

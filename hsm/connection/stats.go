package connection

import "sync/atomic"

// Stats are counters since Open, and gauges.
type Stats struct {
	Sessions int // open now
	Busy     int // in use now
	Held     int // wrapped keys with a session object now
	Objects  int // token objects with a CKA_ID like ours
	// FreeMemory and TotalMemory are the token's own word of its room for private objects in bytes,
	// 0 when it does not say.
	FreeMemory, TotalMemory uint64
	Stuck                   int    // calls past their deadline, still inside the module
	Waits                   uint64 // calls that had to wait for a session
	Timeouts                uint64
	Failures                uint64 // calls that failed, but for ErrAuthentication, ErrMaterial and ErrUnsupported
	Connections             uint64
	// Reinitializations are those of the module: C_Finalize and C_Initialize, or a new process.
	Reinitializations uint64
	Connected         bool
	Refusing          bool // new calls are refused at once, since MaxStuck are stuck
}

type counters struct {
	waits, timeouts, failures, connections, reinitializations atomic.Uint64
}

// Stats returns the counters.
func (l *Link) Stats() Stats {
	s := Stats{Stuck: int(l.stuck.Load()), Waits: l.stats.waits.Load(), Timeouts: l.stats.timeouts.Load(),
		Failures: l.stats.failures.Load(), Connections: l.stats.connections.Load(),
		Reinitializations: l.stats.reinitializations.Load()}
	s.Refusing = s.Stuck >= l.cfg.MaxStuck
	if g := l.current.Load(); g != nil {
		s.Connected = true
		s.Sessions, s.Busy = g.usage()
		s.Held, s.Objects = g.unwrapped.count(), g.count()
		s.FreeMemory, s.TotalMemory = g.freeMemory.Load(), g.totalMemory.Load()
	}
	return s
}

package faults

// Usage is what the processes that use a module have open.
type Usage struct {
	Sessions     int // open now
	MostSessions int // open at once, ever
	Objects      int // session objects that exist now
	MostObjects  int // at once, ever
}

// Usage tells what is open; all 0 when nobody leaks. A process that is killed leaves its part: see Forget.
func (m *Module) Usage() Usage {
	return Usage{
		Sessions:     m.control.sessions.value(),
		MostSessions: int(m.control.sessionsMost.Load()),
		Objects:      m.control.objects.value(),
		MostObjects:  int(m.control.objectsMost.Load()),
	}
}

// Sessions is how many sessions are open now.
func (m *Module) Sessions() int { return m.control.sessions.value() }

// Calls is how often a function was called since the beginning or ResetCounts. Calls that failed or hang count.
func (m *Module) Calls(function string) int { return int(m.function(function).calls.Load()) }

// Counts has the functions that were called and how often.
func (m *Module) Counts() map[string]int {
	counts := map[string]int{}
	for i, name := range names {
		if n := m.control.functions[i].calls.Load(); n > 0 {
			counts[name] = int(n)
		}
	}
	return counts
}

// ResetCounts starts the counts of calls anew.
func (m *Module) ResetCounts() {
	for i := range m.control.functions {
		m.control.functions[i].calls.Store(0)
	}
}

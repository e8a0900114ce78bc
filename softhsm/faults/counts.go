package faults

// Usage is what the processes that use a module have open.
type Usage struct {
	Sessions     int // open now
	MostSessions int // the most that were open at once
	Objects      int // session objects that exist now
	MostObjects  int // the most that existed at once
}

// Usage returns what is open: zeros when nobody leaks. What a killed process had open stays in it:
// see Forget.
func (m *Module) Usage() Usage {
	return Usage{
		Sessions:     m.control.sessions.value(),
		MostSessions: int(m.control.sessionsMost.Load()),
		Objects:      m.control.objects.value(),
		MostObjects:  int(m.control.objectsMost.Load()),
	}
}

// Sessions returns how many sessions are open now.
func (m *Module) Sessions() int { return m.control.sessions.value() }

// Calls returns how often a function was called since the start or ResetCounts, including calls
// that failed or hang.
func (m *Module) Calls(function string) int { return int(m.function(function).calls.Load()) }

// Counts returns how often each function was called, without those that were not.
func (m *Module) Counts() map[string]int {
	counts := map[string]int{}
	for i, name := range names {
		if n := m.control.functions[i].calls.Load(); n > 0 {
			counts[name] = int(n)
		}
	}
	return counts
}

// ResetCounts sets all counts of calls to 0.
func (m *Module) ResetCounts() {
	for i := range m.control.functions {
		m.control.functions[i].calls.Store(0)
	}
}

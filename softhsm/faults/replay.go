package faults

// Learn makes the module remember the last answer of each function that operations use, until
// Replay.
func (m *Module) Learn() { m.control.replay.Store(1) }

// Replay makes the module answer those functions from memory, after their latency, as if the token
// computed on processors of its own. The answer is always the one that was learnt, whatever the
// request: this is for benchmarks of the caller.
func (m *Module) Replay() { m.control.replay.Store(2) }

// StopReplay makes the module ask the token again.
func (m *Module) StopReplay() { m.control.replay.Store(0) }

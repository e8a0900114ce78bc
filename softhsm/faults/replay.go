package faults

// Learn has the module remember the last answer of each function that operations use, until Replay.
func (m *Module) Learn() { m.control.replay.Store(1) }

// Replay has the module answer those functions from memory, after their latency, as if the token's
// work were done by processors that are not this machine's. Whatever is asked, the answer is the
// one that was learnt: that is for benchmarks of who asks.
func (m *Module) Replay() { m.control.replay.Store(2) }

// StopReplay asks the token again.
func (m *Module) StopReplay() { m.control.replay.Store(0) }

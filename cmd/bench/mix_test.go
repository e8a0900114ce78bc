package bench_test

import (
	"testing"

	"github.com/verenc/kms/transport/sdktest"
)

// BenchmarkMix makes the requests that a server gets most: each operation, over HTTP, as often as the others.
// Its profile is the one that the compiler optimises for (make pgo).
func BenchmarkMix(b *testing.B) {
	w := newWorkbench(b)
	var all [][]*sdktest.Replay
	for _, o := range w.operations(b) {
		connections := w.connections(b, w.audited[len(w.audited)-1].url, o)
		for _, c := range connections {
			defer c.Close()
		}
		all = append(all, connections)
	}
	for b.Loop() {
		for _, connections := range all {
			turn(b, func(i int) error { _, err := connections[i].Do(); return err })
		}
	}
}

package span

import (
	"context"
	"testing"
	"time"
)

// TestWithoutTrace: where no request is traced, spans do nothing and cost no memory.
func TestWithoutTrace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if n := testing.AllocsPerRun(100, func() {
		_, s := Start(ctx, "name")
		s.Set("a", "b")
		s.SetInt("c", 1_000_000)
		s.CallAt("call", time.Time{}).EndAt(time.Time{}, "CODE")
		s.Rename("other")
		s.EndAnswered("CODE", true)
		Call(ctx, "call").End("")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

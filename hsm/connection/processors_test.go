package connection

import (
	"testing"
	"time"
)

func TestProcessors(t *testing.T) {
	for call, want := range map[time.Duration]int{0: 2, 20 * time.Microsecond: 2, 200 * time.Microsecond: 8,
		time.Millisecond: 8} {
		if got := Processors(call, 2); got != want {
			t.Errorf("%v: %d, not %d", call, got, want)
		}
	}
}

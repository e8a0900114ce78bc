package service

import "testing"

// TestFirstLeaseIsOfTheBlockInUse: a server begins with a block before it has leased one. The first
// lease is that of this block, also where other servers have leased before.
func TestFirstLeaseIsOfTheBlockInUse(t *testing.T) {
	for _, leasedByOthers := range []int64{0, 8} {
		b := newIVBudget(100, 4)
		if allowed, request := b.take("m"); !allowed || !request {
			t.Fatalf("the first encryption: allowed %v, request %v", allowed, request)
		}
		b.leased("m", leasedByOthers+4)
		n := 1
		for allowed, _ := b.take("m"); allowed; allowed, _ = b.take("m") {
			n++
		}
		if n != 4 {
			t.Errorf("%d encryptions of a lease of 4, with %d leased by others", n, leasedByOthers)
		}
	}
}

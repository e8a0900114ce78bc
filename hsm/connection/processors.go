package connection

import "time"

// A call that takes longer than nearCall waits for the token, and not for a processor of this
// machine. perCore was found with BenchmarkServiceFarToken: 2 to 8 do as well, 16 and more cost
// processor time.
const (
	nearCall = 200 * time.Microsecond
	perCore  = 4
)

// Processors is what runtime.GOMAXPROCS should be for a token whose calls take so long. One of Go's
// processors is lost to others while a thread waits in C, until the scheduler takes it back, which
// it looks for from time to time only: with no more of them than cores, calls wait for each other
// although nothing computes. For a token that computes in this process more than cores only
// compete.
func Processors(call time.Duration, cores int) int {
	if call < nearCall {
		return cores
	}
	return perCore * cores
}

package transport

import "time"

// Limits are the times of a server whose token may be slow. A request that waits for the token is
// answered with DependencyTimeoutException before its connection ends: a client that gets no answer
// can't know what became of its request.
type Limits struct {
	Read   time.Duration // http.Server.ReadTimeout: for a request to arrive
	Answer time.Duration // Config.AnswerWithin: counted, like Write, from the request's headers on
	Write  time.Duration // http.Server.WriteTimeout
}

// writing is how long an answer may take to be written.
const writing = 5 * time.Second

// mostCalls are the calls of the token, one after the other, for one request: with the one for the client's access key.
const mostCalls = 4

// LimitsFor gives the limits for the times that one request's call of the token, and the generation
// of a key pair, may take. A call that is under way when Answer is over is still waited for, and so
// are those that take back what it has made.
func LimitsFor(read, call, generate time.Duration) Limits {
	calls := generate + mostCalls*call
	return Limits{Read: read, Answer: read + calls, Write: read + 2*calls + writing}
}

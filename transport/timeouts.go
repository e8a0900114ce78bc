package transport

import "time"

// Timeouts are the timeouts of a server whose token may be slow. A request that waits for the token
// is answered with DependencyTimeoutException before its connection ends, because a client without
// an answer does not know what became of its request.
type Timeouts struct {
	Read   time.Duration // http.Server.ReadTimeout: for a request to arrive
	Answer time.Duration // Config.AnswerWithin; like Write, it starts with the request's headers
	Write  time.Duration // http.Server.WriteTimeout
}

// writing is how long writing an answer may take.
const writing = 5 * time.Second

// mostCalls is how many calls to the token one request may need one after the other, including the
// one for the client's access key.
const mostCalls = 4

// TimeoutsFor returns the limits for the times that one call to the token, and the generation of a
// key pair, may take. A call in progress when Answer is over is still waited for, and so are the
// calls that undo what it has made.
func TimeoutsFor(read, call, generate time.Duration) Timeouts {
	calls := generate + mostCalls*call
	return Timeouts{Read: read, Answer: read + calls, Write: read + 2*calls + writing}
}

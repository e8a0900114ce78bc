package chaos_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// way is what a link does with bytes.
type way int

const (
	passes        way = iota
	cuts              // connections are closed, and no new ones made
	stalls            // bytes wait, in both directions, until the link passes again
	stallsAnswers     // only those of the server wait: what clients ask for is done, and they don't learn it
)

// link is the way from one server to PostgreSQL. (github.com/Shopify/toxiproxy has no toxic that keeps
// bytes and delivers them later, and brings an HTTP server for its control.)
type link struct {
	listener net.Listener
	target   string // path of a unix socket

	mu      sync.Mutex
	changed *sync.Cond // with mu
	way     way        // guarded by mu
	conns   map[net.Conn]bool
	closed  bool // guarded by mu
	copying sync.WaitGroup
}

// newLink makes a link on a port of its own. The test closes it.
func newLink(t testing.TB, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, target: target, conns: map[net.Conn]bool{}}
	l.changed = sync.NewCond(&l.mu)
	l.copying.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if !l.hold(client) {
			continue
		}
		l.copying.Go(func() { l.serve(client) })
	}
}

// hold keeps a connection, to close it when the link is cut.
func (l *link) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.way == cuts {
		_ = c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *link) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	_ = c.Close()
}

func (l *link) serve(client net.Conn) {
	defer l.drop(client)
	server, err := net.Dial("unix", l.target)
	if err != nil || !l.hold(server) {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		l.forward(client, server, stalls, stallsAnswers)
		_ = client.Close()
	})
	l.forward(server, client, stalls)
	l.drop(server)
	answers.Wait()
}

// forward copies until a connection ends. It waits while the link is in one of the ways.
func (l *link) forward(to, from net.Conn, waits ...way) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && (!l.wait(to, waits) || write(to, buffer[:n]) != nil) || err != nil {
			return
		}
	}
}

func write(to net.Conn, b []byte) error {
	_, err := to.Write(b)
	return err
}

// wait tells whether the connection is still there, when bytes may pass.
func (l *link) wait(to net.Conn, waits []way) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.stalledIn(waits) && l.conns[to] {
		l.changed.Wait()
	}
	return l.conns[to]
}

func (l *link) stalledIn(waits []way) bool {
	for _, w := range waits {
		if l.way == w {
			return true
		}
	}
	return false
}

func (l *link) set(w way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.way = w; w == cuts {
		l.closeAll()
	}
	l.changed.Broadcast()
}

// closeAll needs mu.
func (l *link) closeAll() {
	for c := range l.conns {
		delete(l.conns, c)
		_ = c.Close()
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.closeAll()
	l.changed.Broadcast()
	l.mu.Unlock()
	_ = l.listener.Close()
	l.copying.Wait()
}

// TestLink sends bytes to an echo, and takes the ways one after another.
func TestLink(t *testing.T) {
	target := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", target)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10) // what has reached the server
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				for b := make([]byte, 1); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					got <- string(b)
					if write(c, b) != nil {
						return
					}
				}
			})
		}
	})
	l := newLink(t, target)
	t.Cleanup(func() { // before the link is closed
		_ = listener.Close()
		l.set(cuts)
		serving.Wait()
	})
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c, b := dial(), make([]byte, 1)
	receive := func(want string) {
		t.Helper()
		if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
			t.Fatalf("got %q, %v, want %q", b, err, want)
		}
	}
	for _, w := range []way{passes, stallsAnswers, stalls} {
		l.set(w)
		if err := write(c, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if w != stalls {
			<-got
		}
		if w != passes {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("an answer has come through: %v", err)
			}
			_ = c.SetReadDeadline(time.Time{})
		}
		l.set(passes)
		receive("x")
		if w == stalls {
			<-got
		}
	}
	l.set(cuts)
	for _, c := range []net.Conn{c, dial()} {
		if _, err := c.Read(b); err == nil {
			t.Error("a connection goes on")
		}
	}
	l.set(passes)
	c = dial()
	if err := write(c, []byte("y")); err != nil {
		t.Fatal(err)
	}
	receive("y")
}

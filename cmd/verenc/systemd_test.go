package main

import (
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/verenc/kms/softhsm/faults"
)

// supervised adds to a site the socket on which systemd hears of a service, and a watchdog. What it hears comes out of
// the channel, which ends with the test.
func supervised(t testing.TB, s *site) (*site, <-chan string) {
	t.Helper()
	t.Chdir(s.dir) // a path of a socket has 107 bytes at most
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1<<16) // more than a test waits for: a full socket would stop the server
	go func() {
		defer close(heard)
		message := make([]byte, 4096)
		for {
			n, err := socket.Read(message)
			if err != nil {
				return
			}
			heard <- string(message[:n])
		}
	}()
	t.Cleanup(func() { _ = socket.Close() })
	return s.with("NOTIFY_SOCKET="+s.path("notify"), "WATCHDOG_USEC=300000"), heard
}

// await skips messages up to one. Messages that systemd does not know are errors.
func await(t testing.TB, heard <-chan string, want string) {
	t.Helper()
	for got := range heard {
		if got == want {
			return
		}
		if !slices.Contains([]string{"READY=1", "WATCHDOG=1", "STOPPING=1"}, got) {
			t.Fatalf("got %q", got)
		}
	}
	t.Fatalf("the socket ended before %q", want)
}

// TestSystemd: systemd hears that the server is ready when it is, that it lives even while its token is away, and
// that it ends.
func TestSystemd(t *testing.T) {
	s := newSite(t)
	module := faults.New(t, s.soft)
	s = s.with("VERENC_TOKEN_MODULE=" + module.Path)
	if r := s.run(t, "init", "--credentials", s.path("credentials")); r.code != 0 {
		t.Fatal(r)
	}
	s, heard := supervised(t, s)
	r := s.serve(t)
	await(t, heard, "READY=1")
	if module.Calls("C_Login") == 0 {
		t.Error("ready without a login")
	}
	if status, _ := get(t, http.DefaultClient, "http://"+r.api+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	ready(t, "http://"+r.api+"/readyz")

	module.Unplug()
	eventually(t, "the token is away", func() bool {
		status, _ := get(t, http.DefaultClient, "http://"+r.api+"/readyz")
		return status == http.StatusServiceUnavailable
	})
	for range len(heard) + 3 { // what came before does not count
		await(t, heard, "WATCHDOG=1")
	}
	module.Plug()
	ready(t, "http://"+r.api+"/readyz")
	r.terminate(t)
	await(t, heard, "STOPPING=1")
	if code := r.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestSystemdHearsNothingTooEarly: a server that can't log in is not ready, and has an exit status that keeps systemd
// from starting it again with the same PIN.
func TestSystemdHearsNothingTooEarly(t *testing.T) {
	s := initialised(t)
	wrong := s.write(t, "wrong.pin", "00000000", 0o600)
	s, heard := supervised(t, s.with("VERENC_TOKEN_PIN_FILE="+wrong))
	if r := s.run(t, "serve"); r.code != exitPIN {
		t.Error(r)
	}
	if len(heard) != 0 {
		t.Errorf("heard %q", <-heard)
	}
}

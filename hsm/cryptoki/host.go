package cryptoki

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/pkcs11"
)

// controlFD is the socket over which Process hands its lanes to Host. A lane is a socket for one
// call at a time.
const controlFD = 3

// hostEnd is how long a module has to finalise itself when its host ends.
const hostEnd = 2 * time.Second

// host is the process of a module. It listens on no address: it has the sockets that its parent
// gave it.
type host struct {
	module atomic.Pointer[InProcess]
}

// Host serves a module to the Process that has started this one, and ends with it. A program calls it
// before it does anything else, when it is run with the command of Process.
func Host() error {
	// An interrupt from the terminal reaches the whole process group; the parent decides when to end.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	h := &host{}
	for {
		lane, err := receiveLane(controlFD)
		if err != nil {
			return err
		}
		if lane < 0 {
			return h.close()
		}
		go h.serve(lane) // it ends with the process
	}
}

// receiveLane waits for a lane; -1 when the parent is gone.
func receiveLane(control int) (int, error) {
	var one [1]byte
	rights := make([]byte, syscall.CmsgSpace(4))
	for {
		n, oobn, _, _, err := syscall.Recvmsg(control, one[:], rights, syscall.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return -1, fmt.Errorf("receive a lane: %w", err)
		case n == 0:
			return -1, nil
		}
		messages, err := syscall.ParseSocketControlMessage(rights[:oobn])
		if err != nil || len(messages) != 1 {
			return -1, fmt.Errorf("receive a lane: %w", errFrame)
		}
		fds, err := syscall.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return -1, fmt.Errorf("receive a lane: %w", errFrame)
		}
		return fds[0], nil
	}
}

func (h *host) close() error {
	m := h.module.Load()
	if m == nil {
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- m.Close() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(hostEnd):
		return errors.New("the PKCS#11 module does not finalise itself")
	}
}

// serve answers the calls of a lane until its other end is closed.
func (h *host) serve(lane int) {
	in, out := make([]byte, maxFrame), make([]byte, 0, maxFrame)
	for {
		n, err := readFrame(lane, in)
		if err != nil || n == 0 {
			_ = syscall.Close(lane)
			return
		}
		answer := h.answer(in[:n], out[:0])
		err = writeFrame(lane, answer)
		clear(in[:n])
		clear(answer)
		if err != nil {
			_ = syscall.Close(lane)
			return
		}
	}
}

// answer makes the call of a frame.
func (h *host) answer(frame, out []byte) []byte {
	d, e := &decoder{b: frame}, &encoder{b: out}
	number := call(d.byte())
	if number == callLoad {
		c := Config{Path: d.text(), InitArguments: d.text()}
		err := d.end()
		if err == nil {
			var m *InProcess
			if m, err = Load(c); err == nil {
				h.module.Store(m)
			}
		}
		e.err(err)
		return e.b
	}
	m := h.module.Load()
	if m == nil {
		e.err(pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED))
		return e.b
	}
	if f := calls[number]; f != nil {
		f(m, d, e)
	} else {
		d.bad = true
	}
	if d.end() != nil || len(e.b) > maxFrame {
		clear(e.b)
		e.b = e.b[:0]
		e.err(errFrame)
	}
	return e.b
}

// readFrame and writeFrame block in the system call, as a call of the module in this process would:
// that wakes the other side faster than the network poller.
func readFrame(lane int, into []byte) (int, error) {
	for {
		n, err := syscall.Read(lane, into)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

func writeFrame(lane int, frame []byte) error {
	for {
		_, err := syscall.Write(lane, frame)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

package cryptoki

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/pkcs11"
)

// Process is a module in a process of its own, a child of this one: when the module crashes, or is
// stuck, that process ends and Restart begins another. It has no listening socket. A call costs two
// system calls and two changes of process more than one in this process.
type Process struct {
	cfg     Config
	command []string

	restarting sync.Mutex
	generation atomic.Uint64         // changed under restarting
	current    atomic.Pointer[child] // never nil; changed under restarting
}

// startTimeout is how long a new process may take until the module is initialised.
const startTimeout = 20 * time.Second

// goneError is the error of calls whose process has ended.
type goneError struct{}

func (goneError) Error() string {
	return "the process of the PKCS#11 module has ended: " + pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED).Error()
}
func (goneError) Unwrap() error { return pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED) }

// LoadInProcess starts a process with a command that calls Host, and has it load a module.
func LoadInProcess(c Config, command []string) (*Process, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	p := &Process{cfg: c, command: command}
	first, err := p.start()
	if err != nil {
		return nil, err
	}
	p.current.Store(first)
	p.generation.Store(1)
	return p, nil
}

// child is one process, with the sockets to it.
type child struct {
	cmd     *exec.Cmd
	control *os.File
	ended   chan struct{} // closed by the goroutine that waits for the process

	mu    sync.Mutex
	lanes map[*lane]bool // guarded by mu: all that are open
	idle  []*lane        // guarded by mu
	over  bool           // guarded by mu: no lane is opened any more
}

// lane is a socket for one call at a time.
type lane struct {
	fd      int
	in, out []byte
}

// start runs the command, and loads the module there.
func (p *Process) start() (*child, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start the process of the PKCS#11 module: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = hostEnvironment(), os.Stderr, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's interrupt is for the parent
	err = cmd.Start()
	_ = theirs.Close() // the child has its own
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("start the process of the PKCS#11 module: %w", err)
	}
	c := &child{cmd: cmd, control: ours, ended: make(chan struct{}), lanes: map[*lane]bool{}}
	go func() { // it ends with the process
		_ = cmd.Wait() // however it ended, Restart begins another
		c.finish()
		close(c.ended)
	}()
	late := time.AfterFunc(startTimeout, c.kill)
	defer late.Stop()
	d, err := c.call(callLoad, func(e *encoder) { e.text(p.cfg.Path); e.text(p.cfg.InitArguments) })
	if err == nil {
		err = d.end()
	}
	if err != nil {
		c.kill()
		return nil, fmt.Errorf("load PKCS#11 module in a process of its own: %w", err)
	}
	return c, nil
}

// hostEnvironment is this process's environment, which configures modules, without our own secrets.
func hostEnvironment() (env []string) {
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "VERENC_") {
			env = append(env, pair)
		}
	}
	return env
}

// kill ends the process, and with it every call that is inside.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended already
	c.finish()
}

// finish wakes whoever waits on a lane, and lets no more be opened.
func (c *child) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.over = true
	for l := range c.lanes {
		_ = syscall.Shutdown(l.fd, syscall.SHUT_RDWR)
	}
	for _, l := range c.idle {
		c.drop(l)
	}
	c.idle = nil
	_ = c.control.Close()
}

// drop closes a lane. The caller holds mu.
func (c *child) drop(l *lane) {
	delete(c.lanes, l)
	_ = syscall.Close(l.fd)
}

// lane takes an idle lane, or opens one.
func (c *child) lane() (*lane, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil, goneError{}
	}
	if n := len(c.idle); n > 0 {
		l := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return l, nil
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a lane: %w", err)
	}
	err = c.send(fds[1])
	_ = syscall.Close(fds[1])
	if err != nil {
		_ = syscall.Close(fds[0])
		return nil, goneError{}
	}
	l := &lane{fd: fds[0], in: make([]byte, maxFrame), out: make([]byte, 0, maxFrame)}
	c.lanes[l] = true
	return l, nil
}

// send gives the other end of a lane to the process. The caller holds mu.
func (c *child) send(fd int) error {
	control, err := c.control.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = control.Control(func(control uintptr) {
		sent = syscall.Sendmsg(int(control), []byte{1}, syscall.UnixRights(fd), nil, syscall.MSG_NOSIGNAL)
	})
	return errors.Join(err, sent)
}

// put gives a lane back, or closes one that may have half an answer in it.
func (c *child) put(l *lane, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !whole || c.over {
		c.drop(l)
		return
	}
	c.idle = append(c.idle, l)
}

// call sends a call and gives its answer, behind the error of the call itself.
func (c *child) call(number call, arguments func(*encoder)) (*decoder, error) {
	l, err := c.lane()
	if err != nil {
		return nil, err
	}
	e := &encoder{b: append(l.out[:0], byte(number))}
	arguments(e)
	if len(e.b) > maxFrame {
		c.put(l, true)
		return nil, pkcs11.Error(pkcs11.CKR_DATA_LEN_RANGE)
	}
	err = writeFrame(l.fd, e.b)
	clear(e.b)
	n := 0
	if err == nil {
		n, err = readFrame(l.fd, l.in)
	}
	if err != nil || n == 0 {
		c.put(l, false)
		c.kill() // a child that answers no more is none
		return nil, goneError{}
	}
	answer := append([]byte{}, l.in[:n]...)
	clear(l.in[:n])
	c.put(l, true)
	d := &decoder{b: answer}
	return d, d.err()
}

// request is a call to the current process.
func (p *Process) request(number call, arguments func(*encoder)) (*decoder, error) {
	return p.current.Load().call(number, arguments)
}

// plain is a request whose answer has no results.
func (p *Process) plain(number call, arguments func(*encoder)) error {
	d, err := p.request(number, arguments)
	if err != nil {
		return err
	}
	return d.end()
}

// one is a request whose answer is a word.
func (p *Process) one(number call, arguments func(*encoder)) (uint, error) {
	d, err := p.request(number, arguments)
	if err != nil {
		return 0, err
	}
	return d.word(), d.end()
}

// object is a request whose answer is an object.
func (p *Process) object(number call, arguments func(*encoder)) (Object, error) {
	h, err := p.one(number, arguments)
	return Object(h), err
}

// output is a request whose answer is at most n bytes.
func (p *Process) output(name string, n int, number call, arguments func(*encoder)) ([]byte, error) {
	if n > maxOutput {
		return nil, pkcs11.Error(pkcs11.CKR_DATA_LEN_RANGE)
	}
	d, err := p.request(number, arguments)
	if err != nil {
		return nil, err
	}
	out := d.bytes()
	if err := d.end(); err != nil {
		return nil, err
	}
	if len(out) > n {
		clear(out)
		return nil, tooLong(name)
	}
	return out, nil
}

// list is a request whose answer is at most n words.
func (p *Process) list(name string, n int, number call, arguments func(*encoder)) ([]uint, error) {
	d, err := p.request(number, arguments)
	if err != nil {
		return nil, err
	}
	words := d.words()
	if err := d.end(); err != nil {
		return nil, err
	}
	if len(words) > n {
		return nil, tooLong(name)
	}
	return words, nil
}

// Generation implements Module.
func (p *Process) Generation() uint64 { return p.generation.Load() }

// Restart implements Module: it ends the process, which no call can hinder, and starts another.
func (p *Process) Restart(seen uint64, timeout time.Duration) error {
	p.restarting.Lock()
	defer p.restarting.Unlock()
	if p.generation.Load() != seen {
		return nil
	}
	old := p.current.Load()
	old.kill()
	deadline := time.NewTimer(max(timeout, time.Second))
	defer deadline.Stop()
	select {
	case <-old.ended:
	case <-deadline.C: // it can't be killed while it waits for a device: another may do better
	}
	next, err := p.start()
	if err != nil {
		return err
	}
	p.current.Store(next)
	p.generation.Add(1)
	return nil
}

// Gone implements Module.
func (p *Process) Gone() bool {
	c := p.current.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// Abort implements Module.
func (p *Process) Abort() bool {
	p.current.Load().kill()
	return true
}

// Close implements Module. The process finalises the module when its control socket is closed.
func (p *Process) Close() error {
	p.restarting.Lock()
	defer p.restarting.Unlock()
	c := p.current.Load()
	c.mu.Lock()
	if !c.over {
		_ = c.control.Close()
	}
	c.mu.Unlock()
	deadline := time.NewTimer(hostEnd + time.Second)
	defer deadline.Stop()
	select {
	case <-c.ended:
	case <-deadline.C:
		c.kill()
		return errors.New("the process of the PKCS#11 module did not end, and was killed")
	}
	return nil
}

package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// Environment of the other process.
const (
	childModule = "FAULTS_TEST_MODULE"
	childSerial = "FAULTS_TEST_SERIAL"
	childPIN    = "FAULTS_TEST_PIN"
)

// TestMain is also the other process of the tests: it makes a token object and says its handle.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == moduleHost {
		if err := hsm.HostModule(); err != nil {
			panic(err)
		}
		return
	}
	if path := os.Getenv(childModule); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(softhsm.Run(m))
}

func child(path string) error {
	ctx := pkcs11.New(path)
	if err := ctx.Initialize(); err != nil {
		return err
	}
	slot, err := slotOf(ctx, os.Getenv(childSerial))
	if err != nil {
		return err
	}
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := ctx.Login(session, pkcs11.CKU_USER, os.Getenv(childPIN)); err != nil {
		return err
	}
	_, err = ctx.GenerateKey(session, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), aes(true, "child"))
	return err
}

// process is the other process.
type process struct {
	*exec.Cmd
	said  bytes.Buffer
	alive context.Context // ends with the process
	err   error           // then: how it ended
}

// start starts it with the module of a path.
func start(c *client, path string) *process {
	c.Helper()
	alive, ended := context.WithCancel(c.Context())
	p := &process{Cmd: exec.CommandContext(c.Context(), os.Args[0]), alive: alive}
	p.Env = append(os.Environ(), childModule+"="+path, childSerial+"="+c.soft.Serial, childPIN+"="+c.soft.PIN)
	p.Stderr = &p.said
	if err := p.Start(); err != nil {
		c.Fatal(err)
	}
	go func() {
		p.err = p.Wait()
		ended()
	}()
	return p
}

func (p *process) end() error {
	<-p.alive.Done()
	return p.err
}

// TestAnotherProcess controls a module in a process that is killed just before, and just after, it
// has made an object.
func TestAnotherProcess(t *testing.T) {
	c, _ := call(t)
	built := faults.New(t, c.soft)
	m, err := faults.Open(built.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for made, options := range [][]faults.Option{nil, {faults.AfterCall()}} {
		m.Hang("C_GenerateKey", options...)
		p := start(c, m.Path)
		if err := m.WaitHanging(p.alive, 1); err != nil {
			t.Fatal(err, p.end(), p.said.String())
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if p.end() == nil {
			t.Error("it was not killed")
		}
		if n := c.count("child"); n != made {
			t.Errorf("%d objects, not %d", n, made)
		}
		if m.Sessions() != 1 || m.Hanging() != 1 {
			t.Errorf("%d sessions, %d hanging", m.Sessions(), m.Hanging())
		}
		m.Clear()
		m.Forget()
		if u := m.Usage(); u.Sessions != 0 || m.Hanging() != 0 {
			t.Errorf("%+v, %d hanging", u, m.Hanging())
		}
	}
	m.ResetCounts()
	if p := start(c, m.Path); p.end() != nil {
		t.Fatal(p.err, p.said.String())
	}
	if n := built.Calls("C_GenerateKey"); n != 1 || c.count("child") != 2 {
		t.Errorf("%d calls, %d objects", n, c.count("child"))
	}
	m.Fail("C_Login", pkcs11.CKR_PIN_LOCKED)
	if p := start(c, m.Path); p.end() == nil || !strings.Contains(p.said.String(), "CKR_PIN_LOCKED") {
		t.Errorf("%v, %s", p.err, p.said.String())
	}
}

// TestCrash: the module crashes a process before and after it has made an object, and not the next
// process.
func TestCrash(t *testing.T) {
	c, _ := call(t)
	m := faults.New(t, c.soft)
	for made, options := range [][]faults.Option{{faults.Times(1)},
		{faults.Times(1), faults.AfterCall(), faults.Of(pkcs11.CKM_AES_KEY_GEN)}} {
		before := c.count("child")
		m.Crash("C_GenerateKey", options...)
		if p := start(c, m.Path); p.end() == nil || !strings.Contains(p.said.String(), "SIGSEGV") {
			t.Errorf("%v, %s", p.err, p.said.String())
		}
		if n := c.count("child") - before; n != made {
			t.Errorf("it has made %d objects, not %d", n, made)
		}
		m.Forget()
		if p := start(c, m.Path); p.end() != nil {
			t.Errorf("%v, %s", p.err, p.said.String())
		}
	}
	m.Crash("C_GenerateKey", faults.Of(pkcs11.CKM_DES3_KEY_GEN))
	if p := start(c, m.Path); p.end() != nil {
		t.Errorf("%v, %s", p.err, p.said.String())
	}
	m.Crash("C_Login", faults.Skip(1))
	m.Clear()
	for range 2 {
		if p := start(c, m.Path); p.end() != nil {
			t.Errorf("%v, %s", p.err, p.said.String())
		}
	}
}

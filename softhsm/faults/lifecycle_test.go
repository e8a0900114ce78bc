package faults_test

import (
	"testing"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

func (c *client) flags() uint {
	c.Helper()
	info, err := c.GetTokenInfo(c.slot)
	if err != nil {
		c.Fatal(err)
	}
	return info.Flags & (pkcs11.CKF_USER_PIN_COUNT_LOW | pkcs11.CKF_USER_PIN_FINAL_TRY | pkcs11.CKF_USER_PIN_LOCKED |
		pkcs11.CKF_USER_PIN_INITIALIZED | pkcs11.CKF_WRITE_PROTECTED | pkcs11.CKF_TOKEN_INITIALIZED)
}

// TestPrivateInstances has two callers of one library, each with an instance of its own.
func TestPrivateInstances(t *testing.T) {
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	m.PrivateInstances()
	a := &client{Ctx: load(t, m.Path), TB: t, soft: soft}
	a.logIn()
	other := pkcs11.New(m.Path)
	defer other.Destroy()
	b := &client{Ctx: other, TB: t, soft: soft, slot: a.slot}
	_, err := b.GetSlotList(true)
	b.is(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	b.is(b.Login(a.session, pkcs11.CKU_USER, soft.PIN), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	b.is(b.Finalize(), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	b.is(b.Initialize(), pkcs11.CKR_OK)
	b.is(b.Initialize(), pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)

	_, err = b.GenerateRandom(a.session, 8)
	b.is(err, pkcs11.CKR_SESSION_HANDLE_INVALID)
	b.session = b.open()
	_, err = b.generate(false, "b")
	b.is(err, pkcs11.CKR_USER_NOT_LOGGED_IN)
	b.is(b.Login(b.session, pkcs11.CKU_USER, soft.PIN+"0"), pkcs11.CKR_PIN_INCORRECT)
	b.is(b.Login(b.session, pkcs11.CKU_USER, soft.PIN), pkcs11.CKR_OK)
	b.key(false, "b")

	b.is(b.CloseAllSessions(b.slot), pkcs11.CKR_OK)
	b.is(b.random(), pkcs11.CKR_SESSION_HANDLE_INVALID)
	a.is(a.random(), pkcs11.CKR_OK)
	b.is(b.Finalize(), pkcs11.CKR_OK)
	b.is(b.random(), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	a.is(a.random(), pkcs11.CKR_OK)
	a.key(false, "a")

	// There are 32.
	for range 30 {
		more := pkcs11.New(m.Path)
		if more == nil {
			t.Fatal("there is no other instance")
		}
		defer more.Destroy()
	}
}

// TestInterfaces gets the functions of v3.2, which are another instance's.
func TestInterfaces(t *testing.T) {
	c, m := call(t)
	r := startRaw(c, m)
	r.call("interface -1", "0x0")
	m.PrivateInstances()
	r.call("interface -1", "0x190")
	r.call("slots -1", "0x0")
}

func TestOneInstance(t *testing.T) {
	a, m := call(t)
	other := pkcs11.New(m.Path)
	defer other.Destroy()
	b := &client{Ctx: other, TB: t, session: a.session}
	b.is(b.Initialize(), pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)
	b.is(b.random(), pkcs11.CKR_OK)
}

// TestWedge heals a module that answers everything with an error.
func TestWedge(t *testing.T) {
	for _, rv := range []pkcs11.Error{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED} {
		c, m := call(t)
		c.key(false, "session")
		c.key(true, "token")
		m.Hang("C_GenerateRandom", faults.AfterCall())
		under := make(chan error)
		go func() { under <- c.random() }()
		if err := m.WaitHanging(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		m.Wedge(uint(rv))
		m.Clear()
		c.is(<-under, rv)
		for range 2 {
			c.is(c.random(), rv)
			_, err := c.GetSlotList(true)
			c.is(err, rv)
			_, err = c.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION)
			c.is(err, rv)
			c.is(c.Initialize(), pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)
		}
		if u := m.Usage(); u.Sessions != 1 || u.Objects != 1 {
			t.Errorf("%+v", u)
		}
		m.ResetCounts()
		c.is(c.Finalize(), pkcs11.CKR_OK)
		if u := m.Usage(); u.Sessions != 0 || u.Objects != 0 {
			t.Errorf("%+v", u)
		}
		c.is(c.random(), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
		c.is(c.Initialize(), pkcs11.CKR_OK)
		if m.Calls("C_Finalize") != 1 || m.Calls("C_Initialize") != 1 {
			t.Errorf("%v", m.Counts())
		}
		c.is(c.random(), pkcs11.CKR_SESSION_HANDLE_INVALID)
		c.session = c.open()
		if _, err := c.generate(false, "new"); err == nil {
			t.Error("the login has outlived C_Finalize")
		}
		c.logIn()
		if c.count("token") != 1 || c.count("session") != 0 {
			t.Errorf("%d and %d objects", c.count("token"), c.count("session"))
		}
	}
}

// TestFinalizeEndsTheLogin has another client of the token, behind whose session the login lives on
// inside.
func TestFinalizeEndsTheLogin(t *testing.T) {
	c, _ := call(t)
	beside := &client{Ctx: load(t, faults.New(t, c.soft).Path), TB: t, soft: c.soft}
	beside.logIn()
	c.key(true, "token")
	c.is(c.Finalize(), pkcs11.CKR_OK)
	c.is(c.Initialize(), pkcs11.CKR_OK)
	c.session = c.open()
	if n := c.count("token"); n != 0 {
		t.Errorf("%d objects without a login", n)
	}
	_, err := c.generate(false, "new")
	c.is(err, pkcs11.CKR_USER_NOT_LOGGED_IN)
	if info, err := c.GetSessionInfo(c.session); err != nil || info.State != pkcs11.CKS_RW_PUBLIC_SESSION {
		t.Errorf("%+v, %v", info, err)
	}
	beside.is(beside.random(), pkcs11.CKR_OK)
	beside.key(false, "beside")
	for _, pin := range []string{"wrong", c.soft.PIN[1:], c.soft.PIN + "0"} {
		c.is(c.Login(c.session, pkcs11.CKU_USER, pin), pkcs11.CKR_PIN_INCORRECT)
	}
	c.is(c.Login(c.session, pkcs11.CKU_USER, c.soft.PIN), pkcs11.CKR_OK)
	c.key(false, "new")
}

// TestWrongPINOfAnUnknownLogin logs in where another module has before, whose PIN this one has not
// seen.
func TestWrongPINOfAnUnknownLogin(t *testing.T) {
	beside, _ := call(t)
	m := faults.New(t, beside.soft)
	c := &client{Ctx: load(t, m.Path), TB: t, soft: beside.soft, slot: beside.slot}
	c.session = c.open()
	for _, pin := range []string{"wrong", c.soft.PIN[1:], c.soft.PIN + "0"} {
		c.is(c.Login(c.session, pkcs11.CKU_USER, pin), pkcs11.CKR_PIN_INCORRECT)
	}
	if n := m.WrongPINs(); n != 3 {
		t.Errorf("%d wrong PINs", n)
	}
	c.is(c.Login(c.session, pkcs11.CKU_USER, c.soft.PIN), pkcs11.CKR_OK)
	c.key(false, "key")
	beside.key(false, "beside")
}

func TestHealOnlyByFinalize(t *testing.T) {
	c, m := call(t)
	m.HealOnlyByFinalize(pkcs11.CKR_DEVICE_ERROR)
	c.is(c.random(), pkcs11.CKR_OK)
	m.Unplug()
	c.is(c.random(), pkcs11.CKR_DEVICE_REMOVED)
	c.is(c.Finalize(), pkcs11.CKR_OK)
	c.is(c.Initialize(), pkcs11.CKR_OK)
	m.Plug()
	for range 2 {
		_, err := c.GetSlotList(true)
		c.is(err, pkcs11.CKR_DEVICE_ERROR)
	}
	c.is(c.Finalize(), pkcs11.CKR_OK)
	c.is(c.Initialize(), pkcs11.CKR_OK)
	c.logIn()
	c.is(c.random(), pkcs11.CKR_OK)

	m.HealOnlyByFinalize(0)
	m.Unplug()
	m.Plug()
	c.logIn()
	c.is(c.random(), pkcs11.CKR_OK)
}

func TestLockPIN(t *testing.T) {
	c, m := call(t)
	const ready = pkcs11.CKF_TOKEN_INITIALIZED | pkcs11.CKF_USER_PIN_INITIALIZED
	m.LockPIN(3)
	in := func(pin string, want pkcs11.Error, flags uint, wrong int) {
		t.Helper()
		c.is(c.Logout(c.session), pkcs11.CKR_OK)
		c.is(c.Login(c.session, pkcs11.CKU_USER, pin), want)
		if got := c.flags(); got != ready|flags || m.WrongPINs() != wrong {
			t.Errorf("after %v: flags %#x, %d wrong PINs", want, got, m.WrongPINs())
		}
	}
	in(c.soft.PIN, pkcs11.CKR_OK, 0, 0)
	in("wrong", pkcs11.CKR_PIN_INCORRECT, pkcs11.CKF_USER_PIN_COUNT_LOW, 1)
	in("wrong", pkcs11.CKR_PIN_INCORRECT, pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_FINAL_TRY, 2)
	in(c.soft.PIN, pkcs11.CKR_OK, 0, 0)
	in("wrong", pkcs11.CKR_PIN_INCORRECT, pkcs11.CKF_USER_PIN_COUNT_LOW, 1)
	in("wrong", pkcs11.CKR_PIN_INCORRECT, pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_FINAL_TRY, 2)
	in("wrong", pkcs11.CKR_PIN_INCORRECT, pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_LOCKED, 3)
	for _, pin := range []string{c.soft.PIN, "wrong"} {
		in(pin, pkcs11.CKR_PIN_LOCKED, pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_LOCKED, 3)
	}
	m.LockPIN(1)
	in("wrong", pkcs11.CKR_PIN_INCORRECT, pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_LOCKED, 1)
	m.LockPIN(0)
	in(c.soft.PIN, pkcs11.CKR_OK, 0, 0)
}

func TestTokenFlags(t *testing.T) {
	c, m := call(t)
	honest := c.flags()
	m.TokenFlags(pkcs11.CKF_USER_PIN_FINAL_TRY|pkcs11.CKF_WRITE_PROTECTED,
		pkcs11.CKF_TOKEN_INITIALIZED|pkcs11.CKF_USER_PIN_INITIALIZED)
	if got := c.flags(); got != pkcs11.CKF_USER_PIN_FINAL_TRY|pkcs11.CKF_WRITE_PROTECTED {
		t.Errorf("%#x", got)
	}
	m.TokenFlags(0, 0)
	if got := c.flags(); got != honest {
		t.Errorf("%#x, not %#x", got, honest)
	}
}

func TestRequireArgument(t *testing.T) {
	m := faults.New(t, softhsm.New(t))
	m.RequireArgument("configdir='/nowhere'")
	ctx := pkcs11.New(m.Path)
	defer ctx.Destroy()
	for argument, want := range map[string]pkcs11.Error{"": pkcs11.CKR_ARGUMENTS_BAD,
		"configdir='/nowher'":  pkcs11.CKR_ARGUMENTS_BAD,
		"configdir='/nowhere'": pkcs11.CKR_OK} {
		var options []pkcs11.InitializeOption
		if argument != "" {
			text := append([]byte(argument), 0)
			options = append(options, pkcs11.InitializeWithReserved(unsafe.Pointer(&text[0])))
		}
		err := ctx.Initialize(options...)
		(&client{TB: t}).is(err, want)
		if err == nil {
			if err := ctx.Finalize(); err != nil {
				t.Error(err)
			}
		}
	}
}

package faults_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

func TestFail(t *testing.T) {
	c, m := call(t)
	for name, test := range map[string]struct {
		options []faults.Option
		fails   []bool
	}{
		"for ever":    {nil, []bool{true, true, true}},
		"twice":       {[]faults.Option{faults.Times(2)}, []bool{true, true, false, false}},
		"the second":  {[]faults.Option{faults.Skip(1), faults.Times(1)}, []bool{false, true, false}},
		"after calls": {[]faults.Option{faults.AfterCall(), faults.Times(1)}, []bool{true, false}},
		"certain":     {[]faults.Option{faults.Chance(1000000), faults.Times(1)}, []bool{true, false}},
	} {
		m.Fail("C_GenerateRandom", pkcs11.CKR_DEVICE_ERROR, test.options...)
		for i, fails := range test.fails {
			if err := c.random(); fails != errors.Is(err, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)) ||
				fails != (err != nil) {
				t.Errorf("%s: call %d: %v", name, i, err)
			}
		}
		m.Clear()
		c.is(c.random(), pkcs11.CKR_OK)
	}
	c.is(c.SeedRandom(c.session, []byte("x")), pkcs11.CKR_OK) // another function
}

func TestChanceIsRepeatable(t *testing.T) {
	c, m := call(t)
	m.Fail("C_GenerateRandom", pkcs11.CKR_FUNCTION_FAILED, faults.Chance(250000))
	run := func(seed uint64) (fails []int) {
		m.SetSeed(seed)
		for i := range 400 {
			if c.random() != nil {
				fails = append(fails, i)
			}
		}
		return fails
	}
	a, b, other := run(1), run(1), run(2)
	if !slices.Equal(a, b) || slices.Equal(a, other) {
		t.Errorf("%v, then %v, other seed %v", a, b, other)
	}
	if len(a) < 50 || len(a) > 150 {
		t.Errorf("%d of 400 instead of about 100", len(a))
	}
}

// TestAnswerLost: calls fail although they happened.
func TestAnswerLost(t *testing.T) {
	c, m := call(t)
	lost := pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)

	m.Fail("C_GenerateKey", pkcs11.CKR_DEVICE_ERROR, faults.Times(1))
	_, err := c.generate(true, "never")
	c.is(err, lost)
	m.Fail("C_GenerateKey", pkcs11.CKR_DEVICE_ERROR, faults.Times(1), faults.AfterCall())
	h, err := c.generate(true, "made")
	c.is(err, lost)
	if h != 0 || c.count("never") != 0 || c.count("made") != 1 {
		t.Errorf("handle %d, %d and %d objects", h, c.count("never"), c.count("made"))
	}

	h = c.key(true, "destroyed")
	m.Fail("C_DestroyObject", pkcs11.CKR_DEVICE_ERROR, faults.Times(1), faults.AfterCall())
	c.is(c.DestroyObject(c.session, h), lost)
	if c.count("destroyed") != 0 {
		t.Error("it is still there")
	}
	// What failed inside has no answer to lose.
	m.Fail("C_DestroyObject", pkcs11.CKR_DEVICE_ERROR, faults.AfterCall())
	c.is(c.DestroyObject(c.session, h), pkcs11.CKR_OBJECT_HANDLE_INVALID)

	m.Fail("C_OpenSession", pkcs11.CKR_DEVICE_ERROR, faults.Times(1), faults.AfterCall())
	_, err = c.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION)
	c.is(err, lost)
	m.Fail("C_CloseSession", pkcs11.CKR_DEVICE_ERROR, faults.Times(1))
	s := c.open()
	c.is(c.CloseSession(s), lost)
	if m.Sessions() != 3 {
		t.Errorf("%d sessions", m.Sessions())
	}
	m.Fail("C_CloseSession", pkcs11.CKR_DEVICE_ERROR, faults.Times(1), faults.AfterCall())
	c.is(c.CloseSession(s), lost)
	c.is(c.CloseSession(s), pkcs11.CKR_SESSION_HANDLE_INVALID)
	if m.Sessions() != 2 {
		t.Errorf("%d sessions", m.Sessions())
	}
}

func TestHang(t *testing.T) {
	c, m := call(t)
	other := &client{Ctx: load(t, faults.New(t, c.soft).Path), TB: t, soft: c.soft}
	other.slot, other.session = c.slot, 0
	other.session = other.open()
	// each module has a login of its own
	if err := other.Login(other.session, pkcs11.CKU_USER, c.soft.PIN); err != nil {
		t.Fatal(err)
	}
	for label, options := range map[string][]faults.Option{"before": nil, "after": {faults.AfterCall()}} {
		m.Hang("C_GenerateKey", options...)
		var hanging sync.WaitGroup
		hanging.Go(func() {
			if _, err := c.generate(true, label); err != nil {
				t.Error(err)
			}
		})
		if err := m.WaitHanging(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if n := other.count(label); (n == 1) != (label == "after") {
			t.Errorf("%s: %d objects", label, n)
		}
		c.is(c.random(), pkcs11.CKR_OK) // others go on
		m.Release()
		hanging.Wait()
		if n := other.count(label); n != 1 || m.Hanging() != 0 {
			t.Errorf("%s: %d objects, %d hanging", label, n, m.Hanging())
		}
		c.key(false, label+" again")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.WaitHanging(ended, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestUnplugDuringCall(t *testing.T) {
	c, m := call(t)
	m.Hang("C_GenerateKey", faults.AfterCall())
	var hanging sync.WaitGroup
	hanging.Go(func() {
		h, err := c.generate(true, "x")
		c.is(err, pkcs11.CKR_DEVICE_REMOVED)
		if h != 0 {
			t.Errorf("handle %d", h)
		}
	})
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	m.Unplug()
	m.Plug() // it has missed all this
	m.Release()
	hanging.Wait()
	c.is(c.random(), pkcs11.CKR_SESSION_HANDLE_INVALID)
	c.logIn()
	if c.count("x") != 1 {
		t.Error("the key was not made")
	}
}

func TestUnplug(t *testing.T) {
	c, m := call(t)
	old, key, sessionKey := c.session, c.key(true, "token"), c.key(false, "session")
	slot := c.slot
	m.Unplug()
	c.is(c.random(), pkcs11.CKR_DEVICE_REMOVED)
	_, err := c.GetTokenInfo(slot)
	c.is(err, pkcs11.CKR_DEVICE_REMOVED)
	if slots, err := c.GetSlotList(true); err != nil || len(slots) != 0 {
		t.Errorf("%v, %v", slots, err)
	}
	if slots, err := c.GetSlotList(false); err != nil || !slices.Contains(slots, slot) {
		t.Errorf("%v, %v", slots, err)
	}
	if u := m.Usage(); u.Sessions != 0 || u.Objects != 0 || u.MostSessions != 1 || u.MostObjects != 1 {
		t.Errorf("%+v", u)
	}
	m.Renumber()
	m.Plug()
	c.is(c.random(), pkcs11.CKR_SESSION_HANDLE_INVALID)
	_, err = c.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	c.is(err, pkcs11.CKR_SLOT_ID_INVALID)
	c.logIn()
	if c.slot == slot || c.session == old {
		t.Errorf("slot %d, session %d again", slot, old)
	}
	if info, err := c.GetSessionInfo(c.session); err != nil || info.SlotID != c.slot {
		t.Errorf("%+v, %v", info, err)
	}
	gcm := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_ECB, nil)}
	c.is(c.EncryptInit(c.session, gcm, key), pkcs11.CKR_KEY_HANDLE_INVALID)
	c.is(c.DestroyObject(c.session, key), pkcs11.CKR_OBJECT_HANDLE_INVALID)
	c.is(c.DestroyObject(c.session, sessionKey), pkcs11.CKR_OBJECT_HANDLE_INVALID)
	if c.count("token") != 1 || c.count("session") != 0 {
		t.Errorf("%d token objects, %d session objects", c.count("token"), c.count("session"))
	}
	c.is(c.CloseSession(old), pkcs11.CKR_SESSION_HANDLE_INVALID)
}

func TestReuseHandles(t *testing.T) {
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	m.ReuseHandles()
	c := &client{Ctx: load(t, m.Path), TB: t, soft: soft}
	c.logIn()
	old := c.session
	c.key(false, "x")
	m.Unplug()
	m.Plug()
	c.is(c.random(), pkcs11.CKR_SESSION_HANDLE_INVALID)
	c.logIn()
	if c.session != old || m.Sessions() != 1 || m.Usage().Objects != 0 {
		t.Errorf("session %d after %d, %+v", c.session, old, m.Usage())
	}
	c.is(c.random(), pkcs11.CKR_OK)
}

func TestLogOut(t *testing.T) {
	c, m := call(t)
	key := c.key(true, "x")
	m.LogOut()
	c.is(c.EncryptInit(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_ECB, nil)}, key),
		pkcs11.CKR_USER_NOT_LOGGED_IN)
	_, err := c.generate(false, "y")
	c.is(err, pkcs11.CKR_USER_NOT_LOGGED_IN)
	c.is(c.random(), pkcs11.CKR_OK)
	if info, err := c.GetSessionInfo(c.session); err != nil || info.State != pkcs11.CKS_RW_PUBLIC_SESSION ||
		c.count("x") != 0 {
		t.Errorf("%+v, %v, %d objects", info, err, c.count("x"))
	}
	c.is(c.Login(c.session, pkcs11.CKU_USER, c.soft.PIN), pkcs11.CKR_OK)
	if info, err := c.GetSessionInfo(c.session); err != nil || info.State != pkcs11.CKS_RW_USER_FUNCTIONS ||
		c.count("x") != 1 {
		t.Errorf("%+v, %v, %d objects", info, err, c.count("x"))
	}
	c.is(c.DestroyObject(c.session, key), pkcs11.CKR_OK) // the handle is as good as before
}

func TestLimits(t *testing.T) {
	c, m := call(t)
	m.LimitSessions(3)
	m.TellSessions(7)
	if info, err := c.GetTokenInfo(c.slot); err != nil || info.MaxRwSessionCount != 7 {
		t.Errorf("%+v, %v", info, err)
	}
	a, _ := c.open(), c.open()
	_, err := c.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION)
	c.is(err, pkcs11.CKR_SESSION_COUNT)
	c.is(c.CloseSession(a), pkcs11.CKR_OK)
	c.open()
	m.LimitSessions(-1)
	c.open()
	if u := m.Usage(); u.Sessions != 4 || u.MostSessions != 4 {
		t.Errorf("%+v", u)
	}
	c.is(c.CloseAllSessions(c.slot), pkcs11.CKR_OK)
	if m.Sessions() != 0 {
		t.Errorf("%d sessions", m.Sessions())
	}
	c.logIn()

	m.LimitObjects(2)
	one := c.key(true, "x")
	c.key(true, "x")
	_, err = c.generate(true, "x")
	c.is(err, pkcs11.CKR_DEVICE_MEMORY)
	c.key(false, "session objects need no room")
	c.is(c.DestroyObject(c.session, one), pkcs11.CKR_OK)
	c.key(true, "x")
	m.LimitObjects(0)
	_, err = c.generate(true, "x")
	c.is(err, pkcs11.CKR_DEVICE_MEMORY)
	m.LimitObjects(0, pkcs11.CKR_HOST_MEMORY)
	_, err = c.generate(true, "x")
	c.is(err, pkcs11.CKR_HOST_MEMORY)
	m.LimitObjects(-1)
	c.key(true, "x")
}

func TestRefuseMechanisms(t *testing.T) {
	c, m := call(t)
	listed := func(mechanism uint) bool {
		list, err := c.GetMechanismList(c.slot)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(l *pkcs11.Mechanism) bool { return l.Mechanism == mechanism })
	}
	all, err := c.GetMechanismList(c.slot)
	if err != nil {
		t.Fatal(err)
	}
	m.RefuseMechanisms(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKM_AES_KEY_GEN) // the first is 0
	_, err = c.generate(false, "x")
	c.is(err, pkcs11.CKR_MECHANISM_INVALID)
	_, err = c.GetMechanismInfo(c.slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)})
	c.is(err, pkcs11.CKR_MECHANISM_INVALID)
	rest, err := c.GetMechanismList(c.slot)
	if err != nil || len(rest) != len(all)-2 || listed(pkcs11.CKM_AES_KEY_GEN) || !listed(pkcs11.CKM_AES_GCM) {
		t.Errorf("%d of %d left, %v", len(rest), len(all), err)
	}
	m.RefuseMechanisms()
	c.key(false, "x")
	if !listed(pkcs11.CKM_AES_KEY_GEN) {
		t.Error("not listed again")
	}
}

func TestOwnIVs(t *testing.T) {
	c, m := call(t)
	key := c.key(false, "x")
	seal := func(iv []byte) (used, out []byte, err error) {
		params := pkcs11.NewGCMParams(iv, []byte("aad"), 128)
		defer params.Free()
		if err := c.EncryptInit(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)},
			key); err != nil {
			return nil, nil, err
		}
		out, err = c.Encrypt(c.session, []byte("plaintext"))
		return params.IV(), out, err
	}
	zero, own := make([]byte, 12), bytes.Repeat([]byte{1}, 12)
	if used, _, err := seal(own); err != nil || !bytes.Equal(used, own) {
		t.Errorf("%x, %v", used, err)
	}
	m.OwnIVs(faults.TokenIVs)
	one, _, err := seal(own)
	c.is(err, pkcs11.CKR_OK)
	two, box, err := seal(own)
	c.is(err, pkcs11.CKR_OK)
	if bytes.Equal(one, own) || bytes.Equal(one, two) {
		t.Errorf("%x, %x", one, two)
	}
	params := pkcs11.NewGCMParams(two, []byte("aad"), 128)
	defer params.Free()
	c.is(c.DecryptInit(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key),
		pkcs11.CKR_OK)
	if got, err := c.Decrypt(c.session, box); err != nil || string(got) != "plaintext" {
		t.Errorf("%q, %v", got, err)
	}
	m.OwnIVs(faults.TokenIVsOnly)
	_, _, err = seal(own)
	c.is(err, pkcs11.CKR_MECHANISM_PARAM_INVALID)
	if used, _, err := seal(zero); err != nil || bytes.Equal(used, zero) {
		t.Errorf("%x, %v", used, err)
	}
	_, _, err = seal(zero[:8])
	c.is(err, pkcs11.CKR_MECHANISM_PARAM_INVALID)
}

// TestModulesAreApart: two modules for one token do not affect each other.
func TestModulesAreApart(t *testing.T) {
	c, m := call(t)
	other := faults.New(t, c.soft)
	ctx := pkcs11.New(other.Path)
	d := &client{Ctx: ctx, TB: t, soft: c.soft, slot: c.slot}
	_, err := ctx.GetSlotList(true)
	c.is(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	c.is(ctx.Initialize(), pkcs11.CKR_OK)
	c.is(ctx.Initialize(), pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)
	d.session = d.open()
	other.Fail("C_GenerateRandom", pkcs11.CKR_DEVICE_ERROR)
	c.is(d.random(), pkcs11.CKR_DEVICE_ERROR)
	c.is(c.random(), pkcs11.CKR_OK)
	if m.Sessions() != 1 || other.Sessions() != 1 || m.Calls("C_GenerateRandom") != 1 {
		t.Errorf("%d, %d sessions, %d calls", m.Sessions(), other.Sessions(), m.Calls("C_GenerateRandom"))
	}
	c.is(ctx.Finalize(), pkcs11.CKR_OK)
	c.is(ctx.Finalize(), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	if other.Sessions() != 0 {
		t.Errorf("%d sessions", other.Sessions())
	}
	c.is(c.random(), pkcs11.CKR_OK)
	c.key(false, "still logged in")
	ctx.Destroy()
	d.Ctx = load(t, other.Path) // begins again
	d.session = d.open()
	other.Clear()
	c.is(d.random(), pkcs11.CKR_OK)
}

func TestCounts(t *testing.T) {
	c, m := call(t)
	m.ResetCounts()
	for range 3 {
		c.is(c.random(), pkcs11.CKR_OK)
	}
	m.Fail("C_SeedRandom", pkcs11.CKR_DEVICE_ERROR)
	c.is(c.SeedRandom(c.session, []byte{1}), pkcs11.CKR_DEVICE_ERROR)
	if n := m.Counts(); len(n) != 2 || n["C_GenerateRandom"] != 3 || n["C_SeedRandom"] != 1 || m.Calls("C_Sign") != 0 {
		t.Errorf("%v", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("C_Sing has a count")
		}
	}()
	m.Calls("C_Sing")
}

func TestOpenRefusesOthersFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := faults.Open(filepath.Join(dir, "none.so")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "short.so.control"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := faults.Open(filepath.Join(dir, "short.so")); err == nil {
		t.Error("a short control file was taken")
	}
}

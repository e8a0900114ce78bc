package faults_test

import (
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// client is a caller that is logged in.
type client struct {
	*pkcs11.Ctx
	testing.TB
	soft    softhsm.Token
	slot    uint
	session pkcs11.SessionHandle
}

// load loads and initialises a module.
func load(t testing.TB, path string) *pkcs11.Ctx {
	t.Helper()
	ctx := pkcs11.New(path)
	if ctx == nil {
		t.Fatalf("%s cannot be loaded", path)
	}
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ctx.Finalize(); err != nil {
			t.Error(err)
		}
		ctx.Destroy()
	})
	return ctx
}

// call makes a module before a new token, and a client of it.
func call(t testing.TB) (*client, *faults.Module) {
	t.Helper()
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	c := &client{Ctx: load(t, m.Path), TB: t, soft: soft}
	c.logIn()
	return c, m
}

func slotOf(ctx *pkcs11.Ctx, serial string) (uint, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err == nil && info.SerialNumber == serial {
			return slot, nil
		}
	}
	return 0, errors.New("no slot has the token " + serial)
}

func (c *client) logIn() {
	c.Helper()
	slot, err := slotOf(c.Ctx, c.soft.Serial)
	if err != nil {
		c.Fatal(err)
	}
	c.slot = slot
	c.session = c.open()
	if err := c.Login(c.session, pkcs11.CKU_USER, c.soft.PIN); err != nil {
		c.Fatal(err)
	}
}

func (c *client) open() pkcs11.SessionHandle {
	c.Helper()
	s, err := c.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

func aes(token bool, label string) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, token),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
	}
}

func (c *client) generate(token bool, label string) (pkcs11.ObjectHandle, error) {
	return c.GenerateKey(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		aes(token, label))
}

func (c *client) key(token bool, label string) pkcs11.ObjectHandle {
	c.Helper()
	h, err := c.generate(token, label)
	if err != nil {
		c.Fatal(err)
	}
	return h
}

// count finds the objects with a label.
func (c *client) count(label string) int {
	c.Helper()
	if err := c.FindObjectsInit(c.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}); err != nil {
		c.Fatal(err)
	}
	found, _, err := c.FindObjects(c.session, 100)
	if err != nil {
		c.Fatal(err)
	}
	if err := c.FindObjectsFinal(c.session); err != nil {
		c.Fatal(err)
	}
	return len(found)
}

func (c *client) random() error {
	_, err := c.GenerateRandom(c.session, 8)
	return err
}

// is fails the test unless err is this CKR.
func (c *client) is(err error, rv pkcs11.Error) {
	c.Helper()
	if rv == pkcs11.CKR_OK && err == nil {
		return
	}
	if !errors.Is(err, rv) {
		c.Errorf("%v, not %v", err, rv)
	}
}

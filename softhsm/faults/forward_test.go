package faults_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm/faults"
)

func mechanism(m uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, parameter)}
}

var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07} // OBJECT IDENTIFIER prime256v1

func (c *client) pair(token bool) (public, private pkcs11.ObjectHandle) {
	c.Helper()
	public, private, err := c.GenerateKeyPair(c.session, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil),
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, token),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, token), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true)})
	if err != nil {
		c.Fatal(err)
	}
	return public, private
}

func (c *client) value(h pkcs11.ObjectHandle, attribute uint) []byte {
	c.Helper()
	got, err := c.GetAttributeValue(c.session, h, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil {
		c.Fatal(err)
	}
	return got[0].Value
}

// TestEveryKindOfCall passes handles, data and templates through the functions that TestForwardingIsFaithful does not.
func TestEveryKindOfCall(t *testing.T) {
	c, m := call(t)
	public, private := c.pair(false)
	if u := m.Usage(); u.Objects != 2 {
		t.Errorf("%+v", u)
	}
	digest := sha256.Sum256([]byte("message"))

	c.is(c.SignInit(c.session, mechanism(pkcs11.CKM_ECDSA, nil), private), pkcs11.CKR_OK)
	signature, err := c.Sign(c.session, digest[:])
	c.is(err, pkcs11.CKR_OK)
	c.is(c.VerifyInit(c.session, mechanism(pkcs11.CKM_ECDSA, nil), public), pkcs11.CKR_OK)
	c.is(c.Verify(c.session, digest[:], signature), pkcs11.CKR_OK)
	signature[0] ^= 1
	c.is(c.VerifyInit(c.session, mechanism(pkcs11.CKM_ECDSA, nil), public), pkcs11.CKR_OK)
	c.is(c.Verify(c.session, digest[:], signature), pkcs11.CKR_SIGNATURE_INVALID)

	c.is(c.DigestInit(c.session, mechanism(pkcs11.CKM_SHA256, nil)), pkcs11.CKR_OK)
	c.is(c.DigestUpdate(c.session, []byte("mess")), pkcs11.CKR_OK)
	c.is(c.DigestUpdate(c.session, []byte("age")), pkcs11.CKR_OK)
	got, err := c.DigestFinal(c.session)
	if err != nil || !bytes.Equal(got, digest[:]) {
		t.Errorf("%x, %v", got, err)
	}

	derived, err := c.DeriveKey(c.session, mechanism(pkcs11.CKM_ECDH1_DERIVE,
		pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, c.value(public, pkcs11.CKA_EC_POINT))),
		private, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)})
	c.is(err, pkcs11.CKR_OK)
	if n := len(c.value(derived, pkcs11.CKA_VALUE)); n != 32 {
		t.Errorf("derived %d bytes", n)
	}

	data, err := c.CreateObject(c.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, "data")})
	c.is(err, pkcs11.CKR_OK)
	c.is(c.SetAttributeValue(c.session, data, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "data")}),
		pkcs11.CKR_OK)
	copied, err := c.CopyObject(c.session, data, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "data")})
	c.is(err, pkcs11.CKR_OK)
	if c.count("data") != 2 || string(c.value(copied, pkcs11.CKA_VALUE)) != "data" {
		t.Errorf("%d objects, value %q", c.count("data"), c.value(copied, pkcs11.CKA_VALUE))
	}
	if u := m.Usage(); u.Objects != 3 {
		t.Errorf("%+v", u)
	}
	for _, h := range []pkcs11.ObjectHandle{public, private, derived, data, copied} {
		c.is(c.DestroyObject(c.session, h), pkcs11.CKR_OK)
	}
	if u := m.Usage(); u.Objects != 0 {
		t.Errorf("%+v", u)
	}

	key := c.key(false, "x")
	c.is(c.EncryptInit(c.session, mechanism(pkcs11.CKM_AES_CBC_PAD, make([]byte, 16)), key), pkcs11.CKR_OK)
	part, err := c.EncryptUpdate(c.session, bytes.Repeat([]byte{1}, 40))
	c.is(err, pkcs11.CKR_OK)
	last, err := c.EncryptFinal(c.session)
	c.is(err, pkcs11.CKR_OK)
	c.is(c.DecryptInit(c.session, mechanism(pkcs11.CKM_AES_CBC_PAD, make([]byte, 16)), key), pkcs11.CKR_OK)
	if plaintext, err := c.Decrypt(c.session, append(part, last...)); err != nil ||
		!bytes.Equal(plaintext, bytes.Repeat([]byte{1}, 40)) {
		t.Errorf("%x, %v", plaintext, err)
	}
	c.is(c.Logout(c.session), pkcs11.CKR_OK)
	c.is(c.Login(c.session, pkcs11.CKU_USER, "wrong"), pkcs11.CKR_PIN_INCORRECT)
	c.is(c.CloseSession(c.session), pkcs11.CKR_OK)
	if u := m.Usage(); u != (faults.Usage{MostSessions: 1, MostObjects: 3}) {
		t.Errorf("%+v", u)
	}
}

func TestRecord(t *testing.T) {
	c, m := call(t)
	c.is(c.random(), pkcs11.CKR_OK) // before the recording
	if err := m.Record(); err != nil {
		t.Fatal(err)
	}
	m.Fail("C_SeedRandom", pkcs11.CKR_DEVICE_ERROR)
	c.is(c.SeedRandom(c.session, []byte("seed")), pkcs11.CKR_DEVICE_ERROR)
	random, err := c.GenerateRandom(c.session, 16)
	c.is(err, pkcs11.CKR_OK)
	public, private := c.pair(false)
	c.is(c.Login(c.session, pkcs11.CKU_USER, c.soft.PIN), pkcs11.CKR_USER_ALREADY_LOGGED_IN)
	point := c.value(public, pkcs11.CKA_EC_POINT)
	m.StopRecording()
	c.is(c.random(), pkcs11.CKR_OK)

	calls, err := m.Recorded()
	if err != nil {
		t.Fatal(err)
	}
	var functions []string
	for _, call := range calls {
		functions = append(functions, call.Function)
		if call.Session != uint(c.session) {
			t.Errorf("%s: session %d", call.Function, call.Session)
		}
		if call.Carries([]byte(c.soft.PIN)) {
			t.Errorf("%s: the PIN was recorded", call.Function)
		}
	}
	// The value of an attribute is asked for twice: first for its length.
	if !slices.Equal(functions, []string{"C_SeedRandom", "C_GenerateRandom", "C_GenerateKeyPair", "C_Login",
		"C_GetAttributeValue", "C_GetAttributeValue"}) {
		t.Fatal(functions)
	}
	if call := calls[0]; call.RV != pkcs11.CKR_DEVICE_ERROR || string(call.Input) != "seed" {
		t.Errorf("%+v", call)
	}
	if call := calls[1]; !bytes.Equal(call.Output, random) || !call.Carries(random[3:7]) {
		t.Errorf("%+v", call)
	}
	if call := calls[2]; call.Mechanism != pkcs11.CKM_EC_KEY_PAIR_GEN ||
		!slices.Equal(call.Objects, []uint{uint(public), uint(private)}) ||
		!bytes.Equal(call.Public[pkcs11.CKA_EC_PARAMS], p256) || !call.Template.Bool(pkcs11.CKA_SENSITIVE) ||
		call.Template.Bool(pkcs11.CKA_TOKEN) {
		t.Errorf("%+v", call)
	}
	if call := calls[5]; !bytes.Equal(call.Template[pkcs11.CKA_EC_POINT], point) || !call.Carries(point) {
		t.Errorf("%+v", call)
	}
	if err := m.Record(); err != nil {
		t.Fatal(err)
	}
	if calls, err := m.Recorded(); err != nil || len(calls) != 0 {
		t.Errorf("a new recording begins with %v, %v", calls, err)
	}
}

// BenchmarkCall compares a call with and without the module: C_GetSessionInfo, which does next to nothing.
func BenchmarkCall(b *testing.B) {
	c, m := call(b)
	inner := pkcs11.New(c.soft.Module)
	defer inner.Destroy()
	session, err := inner.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		b.Fatal(err)
	}
	defer inner.CloseSession(session)
	run := func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				if _, err := ctx.GetSessionInfo(s); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("direct", run(inner, session))
	b.Run("module", run(c.Ctx, c.session))
	if err := m.Record(); err != nil {
		b.Fatal(err)
	}
	b.Run("recorded", run(c.Ctx, c.session))
	m.StopRecording()
	m.SetLatency(100_000) // 100 µs
	b.Run("late", run(c.Ctx, c.session))
}

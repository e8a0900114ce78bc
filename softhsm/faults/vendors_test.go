package faults_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm/faults"
)

// secret makes a generic secret of a value, or a random one.
func (c *client) secret(value []byte, size int, more ...*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	template := append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)}, more...)
	if value != nil {
		return c.CreateObject(c.session, append(template, pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)))
	}
	return c.GenerateKey(c.session, mechanism(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, nil),
		append(template, pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size)))
}

func readable() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)}
}

func hidden() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)}
}

// wrapping makes an AES key that wraps.
func (c *client) wrapping() pkcs11.ObjectHandle {
	c.Helper()
	h, err := c.GenerateKey(c.session, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), append(aes(false, "wrapping"),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, true), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true)))
	if err != nil {
		c.Fatal(err)
	}
	return h
}

func (c *client) unwrap(m uint, key pkcs11.ObjectHandle, wrapped []byte,
	more ...*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	return c.UnwrapKey(c.session, mechanism(m, nil), key, wrapped, append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)}, more...))
}

// TestMapMechanism: KWP is at its number of v3.1, and something else that works at 0x210A.
func TestMapMechanism(t *testing.T) {
	c, m := call(t)
	key := c.wrapping()
	before, err := c.GetMechanismList(c.slot)
	c.is(err, pkcs11.CKR_OK)
	values := map[int]pkcs11.ObjectHandle{}
	honest := map[int][]byte{}
	for _, size := range []int{1, 7, 8, 15, 16, 17, 32, 33, 64} {
		if values[size], err = c.secret(bytes.Repeat([]byte{byte(size)}, size), 0, readable()...); err != nil {
			t.Fatal(err)
		}
		if honest[size], err = c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil), key,
			values[size]); err != nil {
			t.Fatal(err)
		}
	}
	m.MapMechanism(faults.CKM_AES_KEY_WRAP_KWP, pkcs11.CKM_AES_KEY_WRAP_PAD)
	m.MapMechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, faults.PKCS7KeyWrap)
	after, err := c.GetMechanismList(c.slot)
	c.is(err, pkcs11.CKR_OK)
	listed := func(m uint) bool {
		return slices.ContainsFunc(after, func(x *pkcs11.Mechanism) bool { return x.Mechanism == m })
	}
	if len(after) != len(before)+1 || !listed(faults.CKM_AES_KEY_WRAP_KWP) || !listed(pkcs11.CKM_AES_KEY_WRAP_PAD) {
		t.Errorf("%d mechanisms, then %d", len(before), len(after))
	}
	for _, number := range []uint{faults.CKM_AES_KEY_WRAP_KWP, pkcs11.CKM_AES_KEY_WRAP_PAD} {
		if info, err := c.GetMechanismInfo(c.slot, mechanism(number, nil)); err != nil ||
			info.Flags&pkcs11.CKF_UNWRAP == 0 {
			t.Errorf("%#x: %+v, %v", number, info, err)
		}
		for size, value := range values {
			wrapped, err := c.WrapKey(c.session, mechanism(number, nil), key, value)
			c.is(err, pkcs11.CKR_OK)
			if is := bytes.Equal(wrapped, honest[size]); is != (number == faults.CKM_AES_KEY_WRAP_KWP) {
				t.Errorf("%#x wraps %d bytes as %x, KWP is %x", number, size, wrapped, honest[size])
			}
			got, err := c.unwrap(number, key, wrapped, readable()...)
			if err != nil {
				t.Errorf("%#x, %d bytes: %v", number, size, err)
			} else if v := c.value(got, pkcs11.CKA_VALUE); !bytes.Equal(bytes.TrimRight(v, "\x00"),
				bytes.Repeat([]byte{byte(size)}, size)) ||
				(number == pkcs11.CKM_AES_KEY_WRAP_PAD && len(v) != size) { // SoftHSM 2.6 leaves the padding of KWP
				t.Errorf("%#x, %d bytes: %x", number, size, v)
			}
			if number == pkcs11.CKM_AES_KEY_WRAP_PAD {
				if _, err := c.unwrap(number, key, honest[size], readable()...); err == nil {
					t.Errorf("what is not KWP unwraps KWP, of %d bytes", size)
				}
				if _, err := c.unwrap(faults.CKM_AES_KEY_WRAP_KWP, key, wrapped, readable()...); err == nil {
					t.Errorf("KWP unwraps what is not, of %d bytes", size)
				}
			}
		}
	}

	// Private keys, too: what was unwrapped signs for the public key.
	session := pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)
	public, private, err := c.GenerateKeyPair(c.session, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil),
		[]*pkcs11.Attribute{session, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)},
		append(readable(), session, pkcs11.NewAttribute(pkcs11.CKA_SIGN, true)))
	c.is(err, pkcs11.CKR_OK)
	for _, number := range []uint{faults.CKM_AES_KEY_WRAP_KWP, pkcs11.CKM_AES_KEY_WRAP_PAD} {
		wrapped, err := c.WrapKey(c.session, mechanism(number, nil), key, private)
		c.is(err, pkcs11.CKR_OK)
		got, err := c.UnwrapKey(c.session, mechanism(number, nil), key, wrapped, []*pkcs11.Attribute{session,
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true)})
		c.is(err, pkcs11.CKR_OK)
		c.is(c.SignInit(c.session, mechanism(pkcs11.CKM_ECDSA, nil), got), pkcs11.CKR_OK)
		signature, err := c.Sign(c.session, make([]byte, 32))
		c.is(err, pkcs11.CKR_OK)
		c.is(c.VerifyInit(c.session, mechanism(pkcs11.CKM_ECDSA, nil), public), pkcs11.CKR_OK)
		c.is(c.Verify(c.session, make([]byte, 32), signature), pkcs11.CKR_OK)
	}
	m.UnmapMechanisms()
	_, err = c.WrapKey(c.session, mechanism(faults.CKM_AES_KEY_WRAP_KWP, nil), key, values[16])
	c.is(err, pkcs11.CKR_MECHANISM_INVALID)
}

func TestWrapNotExtractable(t *testing.T) {
	c, m := call(t)
	key := c.wrapping()
	secret, err := c.secret(nil, 32, hidden()...)
	c.is(err, pkcs11.CKR_OK)
	m.WrapNotExtractable(pkcs11.CKM_AES_KEY_WRAP)
	_, err = c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil), key, secret)
	c.is(err, pkcs11.CKR_KEY_UNEXTRACTABLE)
	wrapped, err := c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, secret)
	c.is(err, pkcs11.CKR_OK)
	if len(wrapped) != 40 || bytes.Equal(wrapped, make([]byte, 40)) {
		t.Errorf("%x", wrapped)
	}
	m.WrapNotExtractable()
	_, err = c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, secret)
	c.is(err, pkcs11.CKR_KEY_UNEXTRACTABLE)
}

func TestWeakCopies(t *testing.T) {
	c, m := call(t)
	key := c.wrapping()
	value := bytes.Repeat([]byte{9}, 32)
	secret, err := c.secret(nil, 32, hidden()...)
	c.is(err, pkcs11.CKR_OK)
	extractable, err := c.secret(value, 0, pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
	c.is(err, pkcs11.CKR_OK)
	_, honest := c.CopyObject(c.session, secret, readable())
	if honest == nil {
		t.Fatal("SoftHSM2 makes weak copies itself")
	}
	m.WeakCopies()
	for original, want := range map[pkcs11.ObjectHandle][]byte{secret: nil, extractable: value} {
		weak, err := c.CopyObject(c.session, original, readable())
		c.is(err, pkcs11.CKR_OK)
		got, err := c.GetAttributeValue(c.session, weak,
			[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil),
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil), pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil),
				pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, nil)})
		c.is(err, pkcs11.CKR_OK)
		if err == nil && (got[0].Value[0] != 0 || got[1].Value[0] != 1 || len(got[2].Value) != 32 ||
			(want != nil && !bytes.Equal(got[2].Value, want))) {
			t.Errorf("%v", got)
		}
		if _, err := c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, weak); err != nil {
			t.Error(err)
		}
		if v := c.value(original, pkcs11.CKA_SENSITIVE); v[0] != 1 {
			t.Error("the original has become weak")
		}
	}
	_, err = c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, secret)
	c.is(err, pkcs11.CKR_KEY_UNEXTRACTABLE)
}

func TestForceExtractable(t *testing.T) {
	c, m := call(t)
	key := c.wrapping()
	secret, err := c.secret(nil, 32, readable()...)
	c.is(err, pkcs11.CKR_OK)
	wrapped, err := c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, secret)
	c.is(err, pkcs11.CKR_OK)
	for _, forced := range []bool{false, true} {
		if forced {
			m.ForceExtractable()
		}
		for name, template := range map[string][]*pkcs11.Attribute{"hidden": hidden(), "nothing said": nil} {
			h, err := c.unwrap(pkcs11.CKM_AES_KEY_WRAP, key, wrapped, template...)
			c.is(err, pkcs11.CKR_OK)
			if is := c.value(h, pkcs11.CKA_EXTRACTABLE)[0] == 1; is != forced {
				t.Errorf("%s: extractable: %v, forced: %v", name, is, forced)
			}
			if c.value(h, pkcs11.CKA_NEVER_EXTRACTABLE)[0] != 0 {
				t.Errorf("%s: it was never extractable", name)
			}
			if _, err := c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, h); (err == nil) != forced {
				t.Errorf("%s: forced: %v, %v", name, forced, err)
			}
		}
	}
}

func TestRefuseSizes(t *testing.T) {
	c, m := call(t)
	key := c.wrapping()
	m.RefuseSecretSizes(1, 1024)
	for size, want := range map[int]pkcs11.Error{1: pkcs11.CKR_KEY_SIZE_RANGE, 16: pkcs11.CKR_OK,
		1024: pkcs11.CKR_KEY_SIZE_RANGE} {
		_, err := c.secret(nil, size, readable()...)
		c.is(err, want)
	}
	m.RefuseSecretSizes()
	m.RefuseWrapSizes(16)
	for size, want := range map[int]pkcs11.Error{1: pkcs11.CKR_OK, 16: pkcs11.CKR_KEY_SIZE_RANGE} {
		h, err := c.secret(nil, size, readable()...)
		c.is(err, pkcs11.CKR_OK)
		_, err = c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil), key, h)
		c.is(err, want)
	}
	m.Fail("C_WrapKey", pkcs11.CKR_MECHANISM_INVALID, faults.Of(pkcs11.CKM_AES_KEY_WRAP))
	h, err := c.secret(nil, 32, readable()...)
	c.is(err, pkcs11.CKR_OK)
	_, err = c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), key, h)
	c.is(err, pkcs11.CKR_MECHANISM_INVALID)
	_, err = c.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil), key, h)
	c.is(err, pkcs11.CKR_OK)
}

func TestCloudHSM(t *testing.T) {
	c, m := call(t)
	oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		t.Fatal(err)
	}
	pair := func(private bool) (public, key pkcs11.ObjectHandle, err error) {
		return c.GenerateKeyPair(c.session, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil),
			[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oid),
				pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, private),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)},
			[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)})
	}
	public, key, err := pair(false)
	c.is(err, pkcs11.CKR_OK)
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var q []byte
	if _, err := asn1.Unmarshal(c.value(public, pkcs11.CKA_EC_POINT), &q); err != nil {
		t.Fatal(err)
	}
	theirs, err := ecdh.P256().NewPublicKey(q)
	if err != nil {
		t.Fatal(err)
	}
	z, err := other.ECDH(theirs)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(kdf uint, shared []byte, size int) ([]byte, error) {
		h, err := c.DeriveKey(c.session, mechanism(pkcs11.CKM_ECDH1_DERIVE,
			pkcs11.NewECDH1DeriveParams(kdf, shared, other.PublicKey().Bytes())), key,
			append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
				pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
				pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size)}, readable()...))
		if err != nil {
			return nil, err
		}
		return c.value(h, pkcs11.CKA_VALUE), nil
	}
	if got, err := derive(pkcs11.CKD_NULL, nil, 32); err != nil || !bytes.Equal(got, z) {
		t.Errorf("%x, %v", got, err)
	}
	_, err = derive(pkcs11.CKD_SHA256_KDF, nil, 32)
	c.is(err, pkcs11.CKR_MECHANISM_PARAM_INVALID)

	m.Imitate(faults.CloudHSM)
	_, err = derive(pkcs11.CKD_NULL, nil, 32)
	c.is(err, pkcs11.CKR_MECHANISM_PARAM_INVALID)
	for _, shared := range [][]byte{nil, []byte("shared information")} {
		var want []byte
		for counter := byte(1); counter <= 2; counter++ {
			sum := sha256.Sum256(slices.Concat(z, []byte{0, 0, 0, counter}, shared))
			want = append(want, sum[:]...)
		}
		for _, size := range []int{16, 32, 40, 64} {
			if got, err := derive(pkcs11.CKD_SHA256_KDF, shared, size); err != nil || !bytes.Equal(got, want[:size]) {
				t.Errorf("%x, not %x: %v", got, want[:size], err)
			}
		}
	}
	_, _, err = pair(false)
	c.is(err, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)
	_, _, err = pair(true)
	c.is(err, pkcs11.CKR_OK)
	_, err = c.secret(nil, 16, pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false))
	c.is(err, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)
	c.is(c.seal(c.key(false, "key"), bytes.Repeat([]byte{1}, 12)), pkcs11.CKR_MECHANISM_PARAM_INVALID)
	c.is(c.seal(c.key(false, "key"), make([]byte, 12)), pkcs11.CKR_OK)
	m.SetKDFs(faults.AllKDFs)
	if got, err := derive(pkcs11.CKD_NULL, nil, 32); err != nil || !bytes.Equal(got, z) {
		t.Errorf("%x, %v", got, err)
	}
}

func (c *client) seal(key pkcs11.ObjectHandle, iv []byte) error {
	_, err := c.sealed(key, iv)
	return err
}

func (c *client) sealed(key pkcs11.ObjectHandle, iv []byte) ([]byte, error) {
	params := pkcs11.NewGCMParams(iv, []byte("aad"), 128)
	defer params.Free()
	if err := c.EncryptInit(c.session, mechanism(pkcs11.CKM_AES_GCM, params), key); err != nil {
		return nil, err
	}
	return c.Encrypt(c.session, []byte("plaintext"))
}

// TestAppendedIVs opens what was sealed with the IV that is behind the tag.
func TestAppendedIVs(t *testing.T) {
	for vendor, test := range map[faults.Vendor]struct {
		given []byte
		size  int
		null  pkcs11.Error
	}{
		faults.ProtectServer: {make([]byte, 12), 12, pkcs11.CKR_MECHANISM_PARAM_INVALID},
		faults.LunaFIPS:      {nil, 16, pkcs11.CKR_OK},
	} {
		c, m := call(t)
		key := c.key(false, "key")
		m.Imitate(vendor)
		c.is(c.seal(key, nil), test.null)
		seen := map[string]bool{}
		for range 3 {
			box, err := c.sealed(key, test.given)
			if err != nil {
				t.Fatal(err)
			}
			if len(box) != len("plaintext")+16+test.size {
				t.Fatalf("%d bytes", len(box))
			}
			iv, box := box[len(box)-test.size:], box[:len(box)-test.size]
			params := pkcs11.NewGCMParams(iv, []byte("aad"), 128)
			c.is(c.DecryptInit(c.session, mechanism(pkcs11.CKM_AES_GCM, params), key), pkcs11.CKR_OK)
			text, err := c.Decrypt(c.session, box)
			params.Free()
			if err != nil || string(text) != "plaintext" || seen[string(iv)] {
				t.Errorf("%q, %v, IV %x", text, err, iv)
			}
			seen[string(iv)] = true
		}
	}
}

func TestYubiHSM(t *testing.T) {
	c, m := call(t)
	m.Imitate(faults.YubiHSM)
	_, err := c.generate(false, "session object")
	c.is(err, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)
	_, err = c.GenerateKey(c.session, mechanism(pkcs11.CKM_AES_KEY_GEN, nil),
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32)})
	c.is(err, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)
	c.is(c.seal(c.key(true, "token object"), make([]byte, 12)), pkcs11.CKR_MECHANISM_INVALID)
}

func TestEP11(t *testing.T) {
	c, m := call(t)
	m.Imitate(faults.EP11)
	own, token := c.key(false, "session object"), c.key(true, "token object")
	first := c.session
	c.session = c.open()
	c.is(c.seal(own, make([]byte, 12)), pkcs11.CKR_KEY_HANDLE_INVALID)
	_, err := c.GetAttributeValue(c.session, own, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil)})
	c.is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID)
	c.is(c.seal(token, make([]byte, 12)), pkcs11.CKR_OK)
	c.session = first
	c.is(c.seal(own, make([]byte, 12)), pkcs11.CKR_OK)
}

func TestOpenCryptoki(t *testing.T) {
	c, m := call(t)
	m.Imitate(faults.OpenCryptoki)
	if info, err := c.GetTokenInfo(c.slot); err != nil || info.MaxRwSessionCount != 1<<64-2 {
		t.Errorf("%+v, %v", info, err)
	}
	c.is(c.seal(c.key(false, "key"), make([]byte, 12)), pkcs11.CKR_MECHANISM_INVALID)
	m.HideAttributes(pkcs11.CKA_KEY_GEN_MECHANISM)
	_, err := c.GetAttributeValue(c.session, c.key(false, "key"),
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_GEN_MECHANISM, nil)})
	c.is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
}

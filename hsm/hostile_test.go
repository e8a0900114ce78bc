package hsm

import (
	"crypto"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// TestHostileNumbers opens a token that reports the largest numbers there are.
func TestHostileNumbers(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, math.MaxUint64, math.MaxUint64 - 1, 1 << 63, 1 << 32, math.MaxInt64} {
		token, _ := misbehaving(t, func(m *faults.Module) {
			for _, f := range []faults.Field{faults.MaxSessions, faults.Sessions, faults.MaxRWSessions,
				faults.RWSessions, faults.MaxPIN,
				faults.MinPIN, faults.TotalPrivate, faults.FreePrivate} {
				m.Lie("C_GetTokenInfo", f, n)
			}
		})
		if err := token.Ping(t.Context()); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// lies are what a hostile module can tell: everything that hsm reads of an answer.
var lies = []struct {
	function string
	field    faults.Field
	of       uint // an attribute; 0: all calls
}{
	{"C_GetSlotList", faults.Count, 0},
	{"C_GetTokenInfo", faults.Flags, 0}, {"C_GetTokenInfo", faults.MaxRWSessions, 0},
	{"C_GetTokenInfo", faults.FreePrivate, 0},
	{"C_GetTokenInfo", faults.TotalPrivate, 0}, {"C_GetMechanismList", faults.Count, 0},
	{"C_GetMechanismInfo", faults.Flags, 0}, {"C_OpenSession", faults.Handle, 0}, {"C_GetSessionInfo", faults.State, 0},
	{"C_FindObjects", faults.Count, 0}, {"C_FindObjects", faults.Handle, 0}, {"C_GenerateKey", faults.Handle, 0},
	{"C_GenerateKeyPair", faults.Handle, 0}, {"C_UnwrapKey", faults.Handle, 0}, {"C_CreateObject", faults.Handle, 0},
	{"C_GetAttributeValue", faults.Length, pkcs11.CKA_ID}, {"C_GetAttributeValue", faults.Length, pkcs11.CKA_LABEL},
	{"C_GetAttributeValue", faults.Length, pkcs11.CKA_EC_POINT},
	{"C_GetAttributeValue", faults.Length, pkcs11.CKA_VALUE},
	{"C_GetAttributeValue", faults.Length, pkcs11.CKA_MODULUS},
	{"C_GetAttributeValue", faults.Length, pkcs11.CKA_SENSITIVE},
	{"C_GetAttributeValue", faults.Absent, pkcs11.CKA_KEY_TYPE},
	{"C_GetAttributeValue", faults.Sensitive, pkcs11.CKA_EC_POINT},
	{"C_Encrypt", faults.Length, 0},
	{"C_Decrypt", faults.Length, 0}, {"C_Sign", faults.Length, 0}, {"C_WrapKey", faults.Length, 0},
}

// FuzzHostileModule has a module tell anything. Whatever it is, hsm neither panics nor allocates
// without bound, and every operation ends.
func FuzzHostileModule(f *testing.F) {
	soft := softhsm.New(f)
	m := faults.New(f, soft)
	for i := range lies {
		for _, value := range []uint64{0, 1, 16, 1 << 31, 1 << 62, math.MaxInt64, math.MaxUint64 - 1, math.MaxUint64} {
			f.Add(binary.LittleEndian.AppendUint64([]byte{byte(i)}, value))
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		m.Honest()
		defer m.Honest()
		for range 4 {
			if len(script) < 9 {
				break
			}
			l, value := lies[int(script[0])%len(lies)], binary.LittleEndian.Uint64(script[1:])
			script = script[9:]
			var options []faults.Option
			if l.of != 0 {
				options = append(options, faults.Of(l.of))
			}
			m.Lie(l.function, l.field, value, options...)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		useHostile(t, Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, Sessions: 4, CallTimeout: time.Second,
			GenerateTimeout: 2 * time.Second, RetryMin: time.Millisecond})
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 512<<20 {
			t.Errorf("%d MB were allocated", used>>20)
		}
	})
}

// useHostile uses all that hsm reads. Errors are as they may be.
func useHostile(t *testing.T, cfg Config) {
	token, err := Open(t.Context(), cfg)
	if err != nil {
		return
	}
	defer func() { _ = token.Close() }()
	ctx := t.Context()
	p := SealingKeys{Seal: newID(t), Wrap: newID(t)}
	_ = token.GenerateSecretKey(ctx, SecretKey{ID: p.Seal.TokenObject(), Label: "verenc/fuzz", Purpose: Seal})
	_ = token.GenerateSecretKey(ctx, SecretKey{ID: p.Wrap.TokenObject(), Label: "verenc/fuzz", Purpose: Wrap})
	defer func() { _ = token.Destroy(ctx, p.Seal.TokenObject(), p.Wrap.TokenObject()) }()
	if box, err := token.Encrypt(ctx, p.Seal, []byte("plaintext"), nil); err == nil {
		_, _ = token.Decrypt(ctx, p.Seal, box, nil)
	}
	if box, err := token.GenerateWrapped(ctx, p, 32, nil); err == nil {
		_, _ = token.DecryptWrapped(ctx, p, box, 32, nil)
	}
	pair, mac := newID(t), newID(t)
	defer func() { _ = token.Destroy(ctx, pair, mac) }()
	if _, err := token.GenerateKeyPair(ctx, KeyPair{ID: pair, Type: P256, Purpose: SignPair}); err == nil {
		_, _ = token.Sign(ctx, pair, P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, make([]byte, 32))
	}
	if err := token.GenerateSecretKey(ctx, SecretKey{ID: mac, Purpose: MAC256}); err == nil {
		_, _ = token.MAC(ctx, mac, crypto.SHA256, []byte("message"))
	}
	_, _, _ = token.GenerateExportedPair(ctx, P256)
	_, _ = token.Attributes(ctx, p.Seal)
	_, _ = token.Objects(ctx, "")
	_, _ = token.Missing(ctx, pair)
	_, _ = token.Info()
	token.Stats()
	_, _ = connection.Run(ctx, token.link, func(s *connection.Session) (struct{}, error) {
		for _, test := range selftest.Tests() {
			if test.Check(nil).Name == selftest.CheckHidden {
				return struct{}{}, test.Run(&s.Session, &selftest.Keys{})
			}
		}
		return struct{}{}, errors.New("there is no such test")
	})
}

package faults_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// telling returns a channel that receives the changes of a connection, and the option that sends
// them.
func telling() (chan error, func(*hsm.Config)) {
	changes := make(chan error, 100)
	return changes, func(c *hsm.Config) { c.OnChange = func(err error) { changes <- err } }
}

// observed is connect with the changes of the connection, of which it has waited for the first.
func observed(t *testing.T, change ...func(*hsm.Config)) (*hsm.Token, *faults.Module, <-chan error) {
	t.Helper()
	changes, tell := telling()
	token, m := connect(t, append([]func(*hsm.Config){tell}, change...)...)
	next(t, changes, false)
	return token, m, changes
}

// next waits for a loss, or for a connection.
func next(t *testing.T, changes <-chan error, lost bool) error {
	t.Helper()
	err := <-changes
	if (err != nil) != lost {
		t.Fatalf("lost %v: %v", lost, err)
	}
	return err
}

// lose unplugs the token, and waits until the loss is noticed.
func lose(t *testing.T, token *hsm.Token, m *faults.Module, changes <-chan error) {
	t.Helper()
	m.Unplug()
	if err := token.Ping(t.Context()); !errors.Is(err, hsm.ErrUnavailable) {
		t.Fatalf("unplugged: %v", err)
	}
	next(t, changes, true)
}

// known waits for the index of the connection.
func known(t *testing.T, token *hsm.Token) {
	t.Helper()
	if _, err := token.Encrypt(t.Context(), newID(t), nil, nil); !errors.Is(err, hsm.ErrNoObject) {
		t.Fatal(err)
	}
}

// TestIndexOfALoggedOutToken logs out while the objects are searched, which finds nothing and is no error.
func TestIndexOfALoggedOutToken(t *testing.T) {
	token, m, changes := observed(t)
	p := newPair(t, token)
	m.Hang("C_FindObjectsInit")
	lose(t, token, m, changes)
	m.Plug()
	next(t, changes, false)
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 2)
	go func() { _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); results <- err }()
	go func() { results <- token.Destroy(t.Context(), p.Wrap.(hsm.ObjectID)) }()
	m.LogOut()
	m.Release()
	for range cap(results) { // both either were refused, or waited for the next connection
		if err := <-results; err != nil && !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("an existing key: %v", err)
		}
	}
	next(t, changes, true)
	next(t, changes, false)
	if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
		t.Error(err)
	}
}

// TestIndexThatFails lets the reading of objects fail, which must not make them unknown.
func TestIndexThatFails(t *testing.T) {
	for _, rv := range []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_DEVICE_REMOVED} {
		for _, function := range []string{"C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue",
			"C_GetSessionInfo"} {
			token, m, changes := observed(t)
			p := newPair(t, token)
			known(t, token)
			m.Fail(function, rv, faults.Times(1))
			lose(t, token, m, changes)
			m.Plug()
			next(t, changes, false)
			if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil &&
				!errors.Is(err, hsm.ErrUnavailable) {
				t.Errorf("%s: %v", function, err)
			}
			next(t, changes, true)
			next(t, changes, false)
			if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
				t.Errorf("%s: %v", function, err)
			}
		}
	}
}

// TestStragglerLeavesTheNewConnectionAlone: a call returns after the token was lost and found, when
// the number of its session belongs to another session.
func TestStragglerLeavesTheNewConnectionAlone(t *testing.T) {
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	m.ReuseHandles()
	changes, tell := telling()
	cfg := hsm.Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, CallTimeout: time.Minute,
		GenerateTimeout: 5 * time.Minute, ConnectTimeout: time.Minute, RetryMin: time.Millisecond}
	tell(&cfg)
	token, err := hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	next(t, changes, false)
	known(t, token)
	p := newPair(t, token)
	m.Hang("C_GenerateKey", faults.AfterCall()) // the calls that follow it in the operation would meet new handles
	done := make(chan error)
	go func() { _, err := token.GenerateWrapped(t.Context(), p, 32, nil); done <- err }()
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	lose(t, token, m, changes)
	m.Plug()
	next(t, changes, false)
	known(t, token)
	m.ResetCounts()
	before := m.Sessions()
	m.Release()
	if err := <-done; !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	n := m.Counts()
	delete(n, "C_CloseSession") // of a number that no new session has: it may still be the old one's
	if len(n) != 0 || m.Sessions() != before {
		t.Errorf("%d sessions, then %d; %v", before, m.Sessions(), n)
	}
}

// TestStragglerClosesItsSession: a call returns after the login was lost, when its session still
// exists.
func TestStragglerClosesItsSession(t *testing.T) {
	token, m, changes := observed(t)
	known(t, token)
	m.Hang("C_GenerateRandom", faults.AfterCall())
	done := make(chan error)
	go func() { done <- token.Ping(t.Context()) }()
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	m.LogOut()
	if err := token.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: newID(t), Purpose: hsm.Seal}); !errors.Is(err,
		hsm.ErrUnavailable) {
		t.Error(err)
	}
	next(t, changes, true)
	next(t, changes, false)
	known(t, token)
	m.Release()
	<-done
	if s := token.Stats(); m.Sessions() != s.Sessions+1 {
		t.Errorf("%d sessions are open, of which %d and the login's are known", m.Sessions(), s.Sessions)
	}
}

// TestRefusedPIN: a PIN that the token refuses when it is connected again is not tried once more.
func TestRefusedPIN(t *testing.T) {
	for _, rv := range []uint{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED} {
		token, m, changes := observed(t)
		known(t, token)
		m.ResetCounts()
		m.Fail("C_Login", rv)
		lose(t, token, m, changes)
		m.Plug()
		if err := next(t, changes, true); !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("%v", err)
		}
		m.Clear()
		if err := token.Ping(t.Context()); !errors.Is(err, hsm.ErrPIN) || !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		if err := token.Close(); err != nil { // ends the supervisor, which could have tried again
			t.Error(err)
		}
		if n := m.Calls("C_Login"); n != 1 {
			t.Errorf("%d logins", n)
		}
	}
}

// TestRenewedPIN: a PIN that was refused is not tried again, and another one is tried once.
func TestRenewedPIN(t *testing.T) {
	var pin atomic.Pointer[string]
	use := func(text string) { pin.Store(&text) }
	right := ""
	token, m, changes := observed(t, func(c *hsm.Config) {
		right = c.PIN
		use(right)
		c.RetryMax = 10 * time.Millisecond
		c.RenewedPIN = func() (string, error) { return *pin.Load(), nil }
	})
	known(t, token)
	m.ResetCounts()
	use("another one")
	lose(t, token, m, changes)
	m.Plug()
	if err := next(t, changes, true); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("%v", err)
	}
	use("the third one")
	if err := next(t, changes, true); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("%v", err)
	}
	use("another one")     // was refused before, and is not tried again
	use(" the same one\n") // can't be right, and is not tried
	if err := token.Ping(t.Context()); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("%v", err)
	}
	use(right)
	next(t, changes, false)
	known(t, token)
	if n := m.Calls("C_Login"); n != 3 {
		t.Errorf("%d logins", n)
	}
}

// TestIdleSessionsEnd: when the token closes an idle session, no caller notices, and the connection
// stays.
func TestIdleSessionsEnd(t *testing.T) {
	token, m, changes := observed(t)
	p := newPair(t, token)
	prove(t, token, p)
	box := encrypted(t, token, p)
	for _, rv := range []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED} {
		for function, operation := range map[string]func() error{
			"C_DecryptInit": func() error { _, err := token.Decrypt(t.Context(), p.Seal, box, nil); return err },
			"C_GetSessionInfo": func() error { // which it asks before it makes a token object
				return token.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: newID(t), Purpose: hsm.Seal})
			},
		} {
			if err := token.Ping(t.Context()); err != nil { // there is an idle session
				t.Fatal(err)
			}
			m.Fail(function, rv, faults.Times(1))
			if err := operation(); err != nil {
				t.Errorf("%s: %v", function, err)
			}
		}
		// Later in an operation the call fails, but not the connection.
		m.Fail("C_WrapKey", rv, faults.Times(1))
		if _, err := token.GenerateWrapped(t.Context(), p, 32, nil); !errors.Is(err, hsm.ErrUnavailable) {
			t.Error(err)
		}
	}
	if s := token.Stats(); s.Connections != 1 || len(changes) != 0 {
		t.Errorf("%+v", s)
	}
	// When the login's session is gone too, so is the connection.
	m.Fail("C_DecryptInit", pkcs11.CKR_SESSION_HANDLE_INVALID, faults.Times(1))
	m.Fail("C_GetSessionInfo", pkcs11.CKR_SESSION_HANDLE_INVALID, faults.Times(1))
	if _, err := token.Decrypt(t.Context(), p.Seal, box, nil); !errors.Is(err, hsm.ErrUnavailable) {
		t.Error(err)
	}
	next(t, changes, true)
	next(t, changes, false)
}

// TestKeepAlive: the loss of a token is noticed although nobody uses it.
func TestKeepAlive(t *testing.T) {
	changes, tell := telling()
	_, m := connect(t, tell, func(c *hsm.Config) { c.KeepAlive = time.Millisecond })
	next(t, changes, false)
	m.Unplug()
	next(t, changes, true)
	m.Renumber()
	m.Plug()
	next(t, changes, false)
}

// TestFewSessions: when the token refuses further sessions, calls wait for the existing ones.
func TestFewSessions(t *testing.T) {
	token, m := connect(t)
	p := newPair(t, token)
	prove(t, token, p)
	limit := m.Sessions() + 2
	m.LimitSessions(limit)
	m.Hang("C_GenerateKey")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := token.GenerateWrapped(t.Context(), p, 32, nil); err != nil {
				t.Error(err)
			}
		})
	}
	if err := m.WaitHanging(t.Context(), limit-1); err != nil { // all but the login's
		t.Error(err)
	}
	for token.Stats().Waits == 0 {
		runtime.Gosched()
	}
	m.Release()
	all.Wait()
	m.LimitSessions(-1)
	if s := token.Stats(); s.Sessions != limit-1 {
		t.Errorf("%+v", s)
	}
	for range 5000 { // now and then it asks for more again
		if err := token.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m.Hang("C_GenerateRandom")
	for range limit {
		all.Go(func() {
			if err := token.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if err := m.WaitHanging(t.Context(), limit); err != nil {
		t.Error(err)
	}
	m.Release()
	all.Wait()
}

// TestKindsOfErrors: neither is a valid box blamed for a token's failure, nor a full token for an
// operation that creates nothing.
func TestKindsOfErrors(t *testing.T) {
	token, m := connect(t)
	p := newPair(t, token)
	box := encrypted(t, token, p)
	for _, rv := range []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED} {
		m.Fail("C_Decrypt", rv, faults.Times(1), faults.AfterCall())
		if got, err := token.Decrypt(t.Context(), p.Seal, box, nil); err != nil || string(got) != "x" {
			t.Errorf("once: %q, %v", got, err)
		}
		m.Fail("C_Decrypt", rv, faults.Times(2), faults.AfterCall())
		if _, err := token.Decrypt(t.Context(), p.Seal, box, nil); err == nil || errors.Is(err, hsm.ErrAuthentication) {
			t.Errorf("twice: %v", err)
		}
	}
	for function, operation := range map[string]func() error{
		"C_Encrypt":        func() error { _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); return err },
		"C_Decrypt":        func() error { _, err := token.Decrypt(t.Context(), p.Seal, box, nil); return err },
		"C_GenerateRandom": func() error { return token.Ping(t.Context()) },
	} {
		m.Fail(function, pkcs11.CKR_DEVICE_MEMORY, faults.Times(1))
		if err := operation(); errors.Is(err, hsm.ErrFull) || !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("%s: %v", function, err)
		}
	}
	decrypting := newID(t)
	spki, err := token.GenerateKeyPair(t.Context(),
		hsm.KeyPair{ID: decrypting, Type: hsm.RSA2048, Purpose: hsm.DecryptPair})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Fail("C_Decrypt", pkcs11.CKR_GENERAL_ERROR, faults.Times(1), faults.AfterCall())
	if got, err := token.DecryptOAEP(t.Context(), decrypting, hsm.RSA2048, crypto.SHA1, ciphertext); err != nil ||
		string(got) != "x" {
		t.Errorf("once: %q, %v", got, err)
	}
	m.LimitObjects(3)
	if err := token.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: newID(t), Purpose: hsm.Seal}); !errors.Is(err,
		hsm.ErrFull) {
		t.Error(err)
	}
}

// TestUnplugUnderLoad unplugs the token again and again. Callers see that it is not available and nothing else.
func TestUnplugUnderLoad(t *testing.T) {
	token, m, changes := observed(t)
	p := newPair(t, token)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				box, err := token.GenerateWrapped(t.Context(), p, 32, []byte{byte(i)})
				if err == nil {
					_, err = token.DecryptWrapped(t.Context(), p, box, 32, []byte{byte(i)})
				}
				if err != nil && !errors.Is(err, hsm.ErrUnavailable) {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		m.Unplug()
		next(t, changes, true)
		m.Renumber()
		m.Plug()
		next(t, changes, false)
	}
	stop()
	all.Wait()
	if _, err := token.GenerateWrapped(t.Context(), p, 32, nil); err != nil {
		t.Error(err)
	}
}

// TestDeviceErrorsInARow: a token whose login session works, but nothing else, counts as lost after
// several errors without a success.
func TestDeviceErrorsInARow(t *testing.T) {
	token, m, changes := observed(t)
	p := newPair(t, token)
	m.Fail("C_EncryptInit", pkcs11.CKR_DEVICE_ERROR)
	lost := false
	for range 20 {
		if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); !errors.Is(err, hsm.ErrUnavailable) {
			t.Fatal(err)
		}
		if !token.Stats().Connected {
			lost = true
			break
		}
	}
	if !lost {
		t.Fatal("20 errors in a row are no loss")
	}
	m.Clear()
	next(t, changes, true)
	next(t, changes, false)
	known(t, token)
	if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
		t.Error(err)
	}
}

// TestProofThatFails: a token that could wrap and encrypt, and fails to prove it in the next
// connection, does not count as one that can't.
func TestProofThatFails(t *testing.T) {
	for _, function := range []string{"C_WrapKey", "C_Decrypt"} {
		token, m, changes := observed(t)
		p := newPair(t, token)
		prove(t, token, p)
		m.ResetCounts()
		lose(t, token, m, changes)
		m.Plug()
		next(t, changes, false)
		known(t, token)
		m.Fail(function, pkcs11.CKR_FUNCTION_FAILED)
		if _, err := token.GenerateWrapped(t.Context(), p, 32, nil); err == nil || errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("%s: %v", function, err)
		}
		m.Clear()
		prove(t, token, p)
		if n := m.Calls("C_Login"); n != 1 {
			t.Errorf("%s: %d logins after the loss", function, n)
		}
	}
}

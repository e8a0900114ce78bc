package transport_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/transport"
)

// The times of a token that does not answer.
const (
	slowCall     = 5 * time.Second
	slowGenerate = 10 * time.Second
)

// slowFixture is a fixture with a second connection to its token, whose times are short. It is not
// used before impatient: however slow the machine is, the making of keys is in time.
type slowFixture struct {
	*fixture
	short *hsm.Token
	token *exchangedToken
}

// exchangedToken is a server's token, which is exchanged while there are no requests.
type exchangedToken struct{ service.Token }

func newSlowFixture(t *testing.T) *slowFixture {
	t.Helper()
	f := &slowFixture{token: &exchangedToken{}}
	f.fixture = newFixtureWith(t, service.ResidencyToken, options{
		service: func(c *service.Config) {
			f.token.Token = c.Token
			c.Token = f.token
		},
	})
	return f
}

// impatient gives the server the connection, and the fixture a listener, whose times are short. For
// a request to arrive there is time enough: that depends on the machine, not on the token.
func (f *slowFixture) impatient(t *testing.T) {
	t.Helper()
	var err error
	f.short, err = hsm.Open(t.Context(), hsm.Config{Module: f.Faults.Path, Serial: f.Soft.Serial, PIN: f.Soft.PIN,
		CallTimeout: slowCall, GenerateTimeout: slowGenerate, MaxStuck: 1000, Sessions: 200})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, f.short.Close)
	f.token.Token = f.short
	limits := transport.TimeoutsFor(time.Second, slowCall, slowGenerate)
	limits.Read = time.Minute
	f.serveWith(t, nil, &limits)
	// The first search for the token's objects ends before there are faults, and the client's access
	// key is known.
	for {
		_, err := f.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &f.symmetric, Plaintext: []byte("x")})
		var late *types.DependencyTimeoutException
		if err == nil {
			return
		}
		if !errors.As(err, &late) {
			t.Fatal(err)
		}
	}
}

// tokenFunctions are those of PKCS#11 that do an operation's work. The others tell of the
// connection, which is in order.
var tokenFunctions = []string{"C_EncryptInit", "C_DecryptInit", "C_SignInit", "C_GenerateKey", "C_GenerateKeyPair",
	"C_GenerateRandom", "C_WrapKey", "C_UnwrapKey",
	"C_DeriveKey", "C_CreateObject", "C_DecapsulateKey"}

// waiting are the operations that use the token that hangs, or may.
var waiting = []string{"CreateCustomKeyStore", "CreateKey", "Decapsulate", "Decrypt", "DeriveSharedSecret",
	"Encapsulate", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair",
	"GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "GenerateMac", "GenerateRandom",
	"GetParametersForImport", "ImportKeyMaterial", "ReEncrypt",
	"RotateKeyOnDemand", "Sign", "VerifyMac"}

// TestEveryOperationIsAnsweredWhenTheTokenHangs: a request that waits for the token gets a
// DependencyTimeoutException before the server ends the connection; all operations wait at once.
func TestEveryOperationIsAnsweredWhenTheTokenHangs(t *testing.T) {
	f := newSlowFixture(t)
	requests := map[string]any{}
	for _, op := range operationNames() {
		f.spare = "" // each has a key store of its own
		requests[op] = f.request(op)
		if random, is := requests[op].(*kms.GenerateRandomInput); is {
			random.CustomKeyStoreId = nil // or another token would serve it
		}
	}
	f.impatient(t)
	for _, function := range tokenFunctions {
		f.Faults.Hang(function)
	}
	results := f.invokeAll(t, requests)
	f.letGo(t)
	for op, err := range results {
		var api smithy.APIError
		switch wait := slices.Contains(waiting, op); {
		case wait:
			t.Run(op, func(t *testing.T) { wantError(t, err, "DependencyTimeoutException", "*") })
		case err != nil && !errors.As(err, &api):
			t.Errorf("%s: %v", op, err)
		case err != nil && api.ErrorCode() == "DependencyTimeoutException":
			t.Errorf("%s waits for the token", op)
		}
	}
}

// TestEveryOperationIsAnsweredWhenTheTokenIsSlow: each call ends just before its deadline, and an
// operation has several.
func TestEveryOperationIsAnsweredWhenTheTokenIsSlow(t *testing.T) {
	f := newSlowFixture(t)
	requests := map[string]any{}
	for _, op := range operationNames() {
		f.spare = ""
		requests[op] = f.request(op)
	}
	f.impatient(t)
	f.Faults.SetLatency(slowCall * 2 / 5)
	results := f.invokeAll(t, requests)
	f.Faults.SetLatency(0)
	f.letGo(t)
	for op, err := range results {
		var api smithy.APIError
		if err != nil && !errors.As(err, &api) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// letGo ends what hangs, without its work, and waits for it: SoftHSM crashes when it is closed with
// work in progress.
func (f *slowFixture) letGo(t *testing.T) {
	t.Helper()
	for _, function := range tokenFunctions {
		f.Faults.Fail(function, pkcs11.CKR_FUNCTION_CANCELED)
	}
	f.Faults.Release()
	for f.short.Stats().Stuck > 0 {
		if err := f.Faults.WaitHanging(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	f.Faults.Clear()
}

// generation is a request that a token needs long for.
var generation = &kms.CreateKeyInput{KeySpec: "RSA_4096", KeyUsage: "SIGN_VERIFY"}

// invokeAll calls the operations concurrently. In a name, only what precedes a blank counts.
func (f *fixture) invokeAll(t *testing.T, requests map[string]any) map[string]error {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	results := map[string]error{}
	for name, in := range requests {
		op, _, _ := strings.Cut(name, " ")
		all.Go(func() {
			err := invoke(t.Context(), f.Client, op, in)
			mu.Lock()
			defer mu.Unlock()
			results[name] = err
		})
	}
	all.Wait()
	return results
}

// TestManyGenerations: all clients get an answer when they request more key pairs than the token
// generates in time.
func TestManyGenerations(t *testing.T) {
	f := newSlowFixture(t)
	f.impatient(t)
	f.Faults.Hang("C_GenerateKeyPair")
	requests := map[string]any{}
	for n := range 20 {
		requests["CreateKey "+string(rune('a'+n))] = generation
	}
	for _, err := range f.invokeAll(t, requests) {
		wantError(t, err, "DependencyTimeoutException", "*")
	}
	f.letGo(t)
}

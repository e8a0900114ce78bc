package hsm

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm/faults"
)

// observedKey is the key of what is told of a context's calls.
type observedKey struct{}

// calls collects calls.
type calls struct {
	mu   sync.Mutex
	made []Call // guarded by mu
}

func (c *calls) names() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.made {
		names = append(names, strings.TrimSpace(call.Function+" "+call.Failure))
	}
	return names
}

// TestObserve: who observes a context's calls is told of all of them, also in the session that holds the login, with
// what they returned, and of no other's.
func TestObserve(t *testing.T) {
	observe := func(c *Config) {
		c.Observe = func(ctx context.Context) func(Call) {
			of, _ := ctx.Value(observedKey{}).(*calls)
			if of == nil {
				return nil
			}
			return func(call Call) {
				of.mu.Lock()
				defer of.mu.Unlock()
				of.made = append(of.made, call)
			}
		}
	}
	token, m := misbehaving(t, func(*faults.Module) {}, observe)
	keys := newPair(t, token)
	wrapping := newID(t)
	if err := token.GenerateWrappingKey(t.Context(), wrapping, "test"); err != nil {
		t.Fatal(err)
	}
	key := WrappedKey{Name: newID(t), Under: wrapping, Purpose: Seal}
	var err error
	if key.Wrapped, _, err = token.GenerateWrappedKey(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Encrypt(t.Context(), keys.Seal, nil, nil); err != nil { // it tries what the token can do, once
		t.Fatal(err)
	}
	if err := token.Evict(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		do   func(context.Context) error
		want []string
	}{
		{"encrypt", func(ctx context.Context) error { _, err := token.Encrypt(ctx, keys.Seal, nil, nil); return err },
			[]string{"C_Encrypt"}},
		{"generate", func(ctx context.Context) error {
			_, err := token.GenerateWrapped(ctx, keys, 32, nil)
			return err
		}, []string{"C_GenerateKey", "C_WrapKey", "C_DestroyObject", "C_Encrypt"}},
		{"wrapped key", func(ctx context.Context) error { _, err := token.Encrypt(ctx, key, nil, nil); return err },
			[]string{"C_UnwrapKey", "C_Encrypt"}},
		{"failure", func(ctx context.Context) error {
			m.Fail("C_EncryptInit", uint(pkcs11.CKR_FUNCTION_FAILED))
			if _, err := token.Encrypt(ctx, keys.Seal, nil, nil); err == nil {
				t.Error("a call that fails succeeds")
			}
			m.Clear()
			return nil
		}, []string{"C_EncryptInit CKR_FUNCTION_FAILED"}},
	} {
		seen := &calls{}
		if err := test.do(context.WithValue(t.Context(), observedKey{}, seen)); err != nil {
			t.Fatal(err)
		}
		if err := token.Ping(t.Context()); err != nil { // in the same session, not observed
			t.Fatal(err)
		}
		if got := seen.names(); !slices.Equal(got, append([]string{"wait for a session"}, test.want...)) {
			t.Errorf("%s: %q", test.name, got)
		}
		for _, c := range seen.made {
			if c.Ended.Before(c.Begun) || c.Profile != "softhsm" {
				t.Errorf("%+v", c)
			}
		}
	}
}

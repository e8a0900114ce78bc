package hsm_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// newGroup is two connections to one token, each through a module of its own that can fail: a group
// whose members hold the same keys.
func newGroup(t *testing.T) (*hsm.Group, []*faults.Module) {
	t.Helper()
	soft := softhsm.New(t)
	var members []*hsm.Token
	var modules []*faults.Module
	for range 2 {
		m := faults.New(t, soft)
		token, err := hsm.Open(t.Context(), hsm.Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, Sessions: 8,
			CallTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		members, modules = append(members, token), append(modules, m)
	}
	g, err := hsm.NewGroup(members...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, modules
}

func newSeal(t *testing.T, g *hsm.Group, id byte) hsm.ObjectID {
	t.Helper()
	key := hsm.ObjectID{id}
	if err := g.GenerateSecretKey(t.Context(),
		hsm.SecretKey{ID: key, Label: "verenc/test", Purpose: hsm.Seal}); err != nil {
		t.Fatal(err)
	}
	return key
}

// TestGroupFindsNewKeys: the member that did not make a key learns of it, and until then the other
// one serves.
func TestGroupFindsNewKeys(t *testing.T) {
	g, modules := newGroup(t)
	key := newSeal(t, g, 1)
	used := func() [2]int { return [2]int{modules[0].Calls("C_Encrypt"), modules[1].Calls("C_Encrypt")} }
	for before := used(); used()[1] == before[1]; {
		if _, err := g.Encrypt(t.Context(), key, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if u := used(); u[0] == 0 || u[1] == 0 {
		t.Errorf("the members did %v encryptions", u)
	}
}

func TestGroupSurvivesAMember(t *testing.T) {
	for lost := range 2 {
		g, modules := newGroup(t)
		key := newSeal(t, g, 1)
		box, err := g.Encrypt(t.Context(), key, []byte("plaintext"), []byte("aad"))
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for i := range 50 {
					if i == 10 {
						modules[lost].Unplug()
					}
					plaintext, err := g.Decrypt(t.Context(), key, box, []byte("aad"))
					if err != nil || !bytes.Equal(plaintext, []byte("plaintext")) {
						t.Errorf("member %d lost: %q, %v", lost, plaintext, err)
						return
					}
				}
			})
		}
		all.Wait()
		if !g.Stats().Connected {
			t.Error("the group is not connected with one member")
		}
		if _, err := g.Decrypt(t.Context(), key, box, []byte("other")); !errors.Is(err, hsm.ErrAuthentication) {
			t.Errorf("a wrong box: %v", err)
		}
		if _, err := g.Decrypt(t.Context(), hsm.ObjectID{9}, box, nil); !errors.Is(err, hsm.ErrUnavailable) &&
			!errors.Is(err, hsm.ErrNoObject) {
			t.Errorf("a key that is nowhere: %v", err)
		}
		modules[lost].Plug()
	}
}

// TestGroupChangesOnce: what may have happened is not repeated on another member.
func TestGroupChangesOnce(t *testing.T) {
	g, modules := newGroup(t)
	modules[0].Fail("C_GenerateKey", 0x30 /* CKR_DEVICE_ERROR */, faults.Times(1), faults.AfterCall())
	err := g.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: hsm.ObjectID{7}, Label: "verenc/test", Purpose: hsm.Seal})
	if !errors.Is(err, hsm.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	if n := modules[1].Calls("C_GenerateKey"); n != 0 {
		t.Errorf("the other member generated %d keys", n)
	}
	modules[0].Unplug()
	modules[1].Unplug()
	for { // until both losses are noticed
		if _, err := g.Random(t.Context(), 1); err == nil {
			continue
		} else if !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("without members: %v", err)
		}
		break
	}
}

// TestGroupBeginsWithOneMember: a member that is not there at the start joins when it comes.
func TestGroupBeginsWithOneMember(t *testing.T) {
	soft := softhsm.New(t)
	late := faults.New(t, soft)
	late.Unplug()
	connected := make(chan error, 10)
	open := func(module string, later bool, onChange func(error)) (*hsm.Token, error) {
		return hsm.Open(t.Context(), hsm.Config{
			Module: module, Serial: soft.Serial, PIN: soft.PIN, Sessions: 4, AllowUnavailable: later,
			OnChange: onChange, CallTimeout: time.Minute,
		})
	}
	if _, err := open(late.Path, false, nil); !errors.Is(err, hsm.ErrUnavailable) {
		t.Fatalf("opened without its token: %v", err)
	}
	second, err := open(late.Path, true, func(err error) { connected <- err })
	if err != nil {
		t.Fatal(err)
	}
	first, err := open(soft.Module, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := hsm.NewGroup(first, second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	key := newSeal(t, g, 1)
	for range 10 {
		if _, err := g.Encrypt(t.Context(), key, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if s := second.Stats(); s.Connected {
		t.Fatal("an unplugged token is connected")
	}
	late.Plug()
	if err := <-connected; err != nil {
		t.Fatal(err)
	}
	if _, err := second.Encrypt(t.Context(), key, []byte("x"), nil); err != nil {
		t.Errorf("the late member: %v", err)
	}
}

// TestGroupFindsKeysOfOthers: what another process has made is found when it is needed first, and
// what is nowhere is not sought again at once, since each search takes time linear in the number of
// objects. Time passes only while all wait, so that "at once" is the same on every machine.
func TestGroupFindsKeysOfOthers(t *testing.T) { synctest.Test(t, groupFindsKeysOfOthers) }

func groupFindsKeysOfOthers(t *testing.T) {
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	var tokens [2]*hsm.Token
	for i, module := range []string{m.Path, soft.Module} {
		token, err := hsm.Open(t.Context(), hsm.Config{Module: module, Serial: soft.Serial, PIN: soft.PIN,
			CallTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		tokens[i] = token
		if _, err := token.Encrypt(t.Context(),
			hsm.ObjectID{1}, []byte("x"), nil); !errors.Is(err, hsm.ErrNoObject) { // the index is complete
			t.Fatal(err)
		}
	}
	g, err := hsm.NewGroup(tokens[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(g.Close(), tokens[1].Close()); err != nil {
			t.Error(err)
		}
	}()
	if err := tokens[1].GenerateSecretKey(t.Context(),
		hsm.SecretKey{ID: hsm.ObjectID{2}, Label: "verenc/test", Purpose: hsm.Seal}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Encrypt(t.Context(), hsm.ObjectID{2}, []byte("x"), nil); err != nil {
		t.Errorf("the key of another: %v", err)
	}
	m.ResetCounts()
	for range 10 {
		if _, err := g.Encrypt(t.Context(), hsm.ObjectID{9}, []byte("x"), nil); !errors.Is(err, hsm.ErrNoObject) {
			t.Errorf("a key that is nowhere: %v", err)
		}
	}
	if n := m.Calls("C_FindObjectsInit"); n != 1 {
		t.Errorf("%d searches for a key that is nowhere", n)
	}
	m.ResetCounts()
	if err := g.Destroy(t.Context(), hsm.ObjectID{2}); err != nil {
		t.Error(err)
	}
	if n, searches := m.Calls("C_DestroyObject"), m.Calls("C_FindObjectsInit"); n != 1 || searches != 0 {
		t.Errorf("a key that is known was destroyed by %d calls, with %d searches", n, searches)
	}
}

package approval

import (
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/iam"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestStates(t *testing.T) {
	for _, test := range []struct {
		stored State
		after  time.Duration
		valid  int
		want   State
		open   bool
	}{
		{Pending, 0, 0, Pending, true}, {Pending, 0, 1, Pending, true}, {Pending, 0, 2, Approved, true},
		{Pending, 0, 3, Approved, true}, {Pending, time.Hour - 1, 2, Approved, true},
		{Pending, time.Hour, 2, Expired, false}, {Rejected, 0, 2, Rejected, false},
		{Used, 2 * time.Hour, 0, Used, false},
	} {
		r := &Request{Stored: test.stored, CreatedAt: t0, ExpiresAt: t0.Add(time.Hour), Details: Details{Needed: 2}}
		now := t0.Add(test.after)
		if got := r.State(now, test.valid); got != test.want || r.Open(now) != test.open {
			t.Errorf("%+v: %s, open %t", test, got, r.Open(now))
		}
	}
}

func TestProven(t *testing.T) {
	r := &Request{Number: 7, Digest: "d", CreatedAt: t0, ExpiresAt: t0.Add(time.Hour)}
	for name, test := range map[string]struct {
		body string
		at   time.Duration
		want bool
	}{
		"as it is":       {`{"RequestId":7,"Digest":"d"}`, time.Minute, true},
		"another number": {`{"RequestId":8,"Digest":"d"}`, time.Minute, false},
		"another call":   {`{"RequestId":7,"Digest":"e"}`, time.Minute, false},
		"no JSON":        {`7`, time.Minute, false},
		"before":         {`{"RequestId":7,"Digest":"d"}`, -6 * time.Minute, false},
		"in the future":  {`{"RequestId":7,"Digest":"d"}`, 10 * time.Minute, false},
		"skewed clocks":  {`{"RequestId":7,"Digest":"d"}`, -4 * time.Minute, true},
	} {
		a := &Approval{Evidence: Evidence{Proof: &iam.Proof{Body: []byte(test.body), At: t0.Add(test.at)}}}
		if got := r.Proven(a, t0.Add(2*time.Minute)); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if r.Proven(&Approval{}, t0) {
		t.Error("no proof proves something")
	}
}

type request struct {
	KeyId     string
	Plaintext []byte   `shape:"PlaintextType"`
	Password  string   `shape:"KeyStorePasswordType"`
	Tokens    []string `shape:"GrantTokenList"`
	Context   map[string]string
	Nested    *request
	At        time.Time
	DryRun    bool
}

// TestCanonical: secrets are hashed, equal requests have equal JSON, and whatever differs makes another digest.
func TestCanonical(t *testing.T) {
	base := func() *request {
		return &request{KeyId: "k", Context: map[string]string{"b": "1", "a": "2"}, Nested: &request{KeyId: "l"},
			At: t0}
	}
	digest := func(account, region string, caller []string, r *request) string {
		t.Helper()
		parameters, err := Canonical(r)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(parameters); strings.Contains(text, "secret") || strings.Contains(text, "c2VjcmV0") {
			t.Error(text)
		}
		c := Call{Source: "s", Operation: "o", Region: region, Caller: caller, Parameters: parameters}
		d, err := c.Digest(account)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	alice := []string{"alice"}
	seen := map[string]string{digest("1", "r", alice, base()): "the first"}
	if len(seen) != 1 || seen[digest("1", "r", alice, base())] == "" {
		t.Error("the same call has two digests")
	}
	other := func(name, d string) {
		t.Helper()
		if seen[d] != "" {
			t.Errorf("%s has the digest of %s", name, seen[d])
		}
		seen[d] = name
	}
	other("another account", digest("2", "r", alice, base()))
	other("another region", digest("1", "q", alice, base()))
	other("another caller", digest("1", "r", []string{"bob"}, base()))
	other("a longer chain", digest("1", "r", []string{"alice", "bob"}, base()))
	for name, change := range map[string]func(*request){
		"key":            func(r *request) { r.KeyId = "l" },
		"secret":         func(r *request) { r.Plaintext = []byte("secret") },
		"another secret": func(r *request) { r.Plaintext = []byte("secret two") },
		"password":       func(r *request) { r.Password = "secret" },
		"token":          func(r *request) { r.Tokens = []string{"secret"} },
		"nested secret":  func(r *request) { r.Nested.Password = "secret" },
		"context":        func(r *request) { r.Context = map[string]string{"b": "2", "a": "1"} },
		"nested":         func(r *request) { r.Nested = nil },
		"time":           func(r *request) { r.At = r.At.Add(time.Nanosecond) },
		"flag":           func(r *request) { r.DryRun = true },
	} {
		r := base()
		change(r)
		other(name, digest("1", "r", alice, r))
	}
}

// TestConcerns: nobody approves of what they may be behind, and sees what another session of their role has asked for.
func TestConcerns(t *testing.T) {
	const role, alice, bob = "arn:aws:iam::111122223333:role/r", "arn:aws:iam::111122223333:user/alice",
		"arn:aws:iam::111122223333:user/bob"
	user := func(arn string) *iam.Identity { return &iam.Identity{Principal: arn} }
	session := func(by ...string) *iam.Identity {
		return &iam.Identity{Principal: "session", Session: &iam.Session{RoleARN: role, AssumedBy: by}}
	}
	for name, test := range map[string]struct {
		caller         []string
		who            *iam.Identity
		concerns, isOf bool
	}{
		"herself":                 {[]string{alice}, user(alice), true, true},
		"herself in a role":       {[]string{alice}, session(alice), true, false},
		"another":                 {[]string{alice}, user(bob), false, false},
		"another in a role":       {[]string{alice}, session(bob), false, false},
		"an old session":          {[]string{alice}, session(), true, false},
		"of an old session":       {[]string{role}, user(bob), true, false},
		"both of old sessions":    {[]string{role}, session(), true, false},
		"the same session":        {[]string{role, alice}, session(alice), true, true},
		"another's session":       {[]string{role, alice}, session(bob), true, false},
		"of nobody":               {nil, user(bob), true, false},
		"an operator's":           {[]string{"operator ann@host"}, user(bob), false, false},
		"a certificate's session": {[]string{alice}, session("certificate dns:host"), false, false},
	} {
		r := Request{Details: Details{Call: Call{Caller: test.caller}}}
		if got := r.Concerns(test.who); got != test.concerns {
			t.Errorf("%s: concerns: %v", name, got)
		}
		if got := r.IsOf(test.who); got != test.isOf {
			t.Errorf("%s: is of: %v", name, got)
		}
	}
}

func TestVoters(t *testing.T) {
	user := func(arn string) *iam.Identity { return &iam.Identity{Principal: arn} }
	session := func(role string, by ...string) *iam.Identity {
		return &iam.Identity{Principal: "session", Session: &iam.Session{RoleARN: role, AssumedBy: by}}
	}
	var v Voters
	for _, who := range []*iam.Identity{user("bob"), session("role", "bob"), session("role", "carol"), user("carol"),
		user("dave"), session("chained", "role2", "dave")} {
		v.Add(who)
	}
	if got := strings.Join(v.ARNs, " "); got != "bob role dave" {
		t.Error(got)
	}
}

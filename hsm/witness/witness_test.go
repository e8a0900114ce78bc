package witness

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
)

// asChild is the variable that makes the test binary a child of this kind.
const asChild = "TEST_AS_WITNESS"

func TestMain(m *testing.M) {
	if kind := os.Getenv(asChild); kind != "" {
		os.Exit(child(kind))
	}
	os.Exit(softhsm.Run(m))
}

// child is a good witness, or one of the bad ones.
func child(kind string) int {
	if kind == "good" {
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 1
	}
	in, err := decodeRequest(text)
	if err != nil {
		return 1
	}
	right := &reply{Format: format, Objects: []answer{}}
	for _, q := range in.Objects {
		right.Objects = append(right.Objects, answer{ID: q.ID, Failure: "nothing"})
	}
	switch kind {
	case "crash":
		panic("a module's fault")
	case "crash after the reply":
		text, _ := right.encode()
		os.Stdout.Write(text)
		panic("a module's fault")
	case "hang":
		os.Stdout.WriteString("{")
		select {}
	case "silence":
	case "garbage":
		os.Stdout.WriteString("Welcome to the HSM client 7.1\n")
	case "more":
		text, _ := right.encode()
		os.Stdout.Write(append(text, "\n{}"...))
	case "endless":
		for {
			if _, err := os.Stdout.Write(bytes.Repeat([]byte{' '}, 1<<16)); err != nil {
				return 1
			}
		}
	case "failure":
		text, _ := (&reply{Format: format, Failure: "no\n\x1b[2Juse", Objects: []answer{}}).encode()
		os.Stdout.Write(text)
	case "fewer":
		right.Objects = right.Objects[1:]
		text, _ := right.encode()
		os.Stdout.Write(text)
	case "other":
		right.Objects[0].ID = []byte("another object!!")
		text, _ := right.encode()
		os.Stdout.Write(text)
	case "environment":
		right.Failure = fmt.Sprintf("%d %s", len(os.Getenv("VERENC_TOKEN_PIN")), os.Getenv("OTHER"))
		right.Objects = []answer{}
		text, _ := right.encode()
		os.Stdout.Write(text)
	}
	return 0
}

func config(t *testing.T, soft softhsm.Token, kind string) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{Module: soft.Module, Serial: soft.Serial, Label: soft.Label, PIN: soft.PIN, Program: self,
		Environ: append(os.Environ(), asChild+"="+kind, "VERENC_TOKEN_PIN="+soft.PIN)}
}

// fixture is a token with what the service may have in it.
type fixture struct {
	soft  softhsm.Token
	token *hsm.Token
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{soft: softhsm.New(t)}
	var err error
	f.token, err = hsm.Open(
		t.Context(),
		hsm.Config{Module: f.soft.Module, Label: f.soft.Label, Serial: f.soft.Serial, PIN: f.soft.PIN},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.token.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func newID(t *testing.T) (id hsm.ObjectID) {
	t.Helper()
	_, _ = rand.Read(id[:])
	return id
}

// claimed is what package hsm reads.
func (f *fixture) claimed(t *testing.T, id hsm.ObjectID) Attributes {
	t.Helper()
	a, err := f.token.Attributes(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return Attributes(a)
}

func (f *fixture) secret(t *testing.T, purpose hsm.Purpose, challenge Challenge) Object {
	t.Helper()
	id := newID(t)
	if err := f.token.GenerateSecretKey(t.Context(),
		hsm.SecretKey{ID: id, Label: "verenc/test/secret", Purpose: purpose}); err != nil {
		t.Fatal(err)
	}
	switch challenge.Kind {
	case KindSeal:
		challenge.Open = func(box, aad []byte) ([]byte, error) { return f.token.Decrypt(t.Context(), id, box, aad) }
	case KindMAC:
		challenge.MAC = func(message []byte) ([]byte, error) {
			return f.token.MAC(t.Context(), id, challenge.Hash, message)
		}
	}
	return Object{ID: id[:], Claimed: f.claimed(t, id), Challenge: challenge}
}

// pair makes a private key, which is alone in the token.
func (f *fixture) pair(t *testing.T, kt hsm.KeyType, purpose hsm.PairPurpose, kind Kind) Object {
	t.Helper()
	id := newID(t)
	spki, err := f.token.GenerateKeyPair(
		t.Context(), hsm.KeyPair{ID: id, Label: "verenc/test/pair", Type: kt, Purpose: purpose},
	)
	if err != nil {
		t.Fatal(err)
	}
	c := Challenge{Kind: kind}
	if kind == KindNone {
		c.Why = "it can't"
	} else if public, err := x509.ParsePKIXPublicKey(spki); err == nil {
		c.Public, _ = public.(*rsa.PublicKey)
		c.Verify = func(digest, signature []byte) (bool, error) {
			if c.Public != nil {
				return rsa.VerifyPKCS1v15(c.Public, crypto.SHA256, digest, signature) == nil, nil
			}
			return ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest, signature), nil
		}
	}
	return Object{ID: id[:], Private: true, Claimed: f.claimed(t, id), Challenge: c}
}

func TestAsk(t *testing.T) {
	f := newFixture(t)
	type test struct {
		name   string
		object Object
		want   Finding
	}
	tests := []test{
		{"seal", f.secret(t, hsm.Seal, Challenge{Kind: KindSeal}), Finding{Result: Passed, Verdict: Agrees}},
		{
			"wrap", f.secret(t, hsm.Wrap, Challenge{Kind: KindNone, Why: "it wraps"}),
			Finding{Result: NotAsked, Verdict: Agrees, Reason: "it wraps"},
		},
		{
			"seal with a key that wraps", f.secret(t, hsm.Wrap, Challenge{Kind: KindSeal}),
			Finding{Result: NoAnswer, Verdict: CouldNotSay, Reason: "CKR_"},
		},
		{
			"MAC 224", f.secret(t, hsm.MAC224, Challenge{Kind: KindMAC, Hash: crypto.SHA224}),
			Finding{Result: Passed, Verdict: Agrees},
		},
		{
			"MAC 256", f.secret(t, hsm.MAC256, Challenge{Kind: KindMAC, Hash: crypto.SHA256}),
			Finding{Result: Passed, Verdict: Agrees},
		},
		{
			"MAC 384", f.secret(t, hsm.MAC384, Challenge{Kind: KindMAC, Hash: crypto.SHA384}),
			Finding{Result: Passed, Verdict: Agrees},
		},
		{
			"MAC 512", f.secret(t, hsm.MAC512, Challenge{Kind: KindMAC, Hash: crypto.SHA512}),
			Finding{Result: Passed, Verdict: Agrees},
		},
		{
			"MAC with a key that seals", f.secret(t, hsm.Seal, Challenge{Kind: KindMAC, Hash: crypto.SHA256}),
			Finding{Result: NoAnswer, Verdict: CouldNotSay, Reason: "CKR_"},
		},
		{"RSA signs", f.pair(t, hsm.RSA2048, hsm.SignPair, KindSign), Finding{Result: Passed, Verdict: Agrees}},
		{
			"RSA decrypts", f.pair(t, hsm.RSA2048, hsm.DecryptPair, KindDecrypt),
			Finding{Result: Passed, Verdict: Agrees},
		},
		{
			"RSA of another purpose", f.pair(t, hsm.RSA2048, hsm.SignPair, KindDecrypt),
			Finding{Result: NoAnswer, Verdict: CouldNotSay, Reason: "CKR_"},
		},
		{"P-256", f.pair(t, hsm.P256, hsm.SignPair, KindSign), Finding{Result: Passed, Verdict: Agrees}},
		{"P-384", f.pair(t, hsm.P384, hsm.SignPair, KindSign), Finding{Result: Passed, Verdict: Agrees}},
		{"P-521", f.pair(t, hsm.P521, hsm.SignPair, KindSign), Finding{Result: Passed, Verdict: Agrees}},
		{
			"P-256 derives", f.pair(t, hsm.P256, hsm.DerivePair, KindNone),
			Finding{Result: NotAsked, Verdict: Agrees, Reason: "it can't"},
		},
		{
			"Ed25519", f.pair(t, hsm.Ed25519, hsm.SignPair, KindNone),
			Finding{Result: NotAsked, Verdict: CouldNotSay, Reason: "unsupported key type"},
		},
		{
			"no object", Object{ID: []byte("nobody's"), Private: true, Challenge: Challenge{Kind: KindNone}},
			Finding{Result: NotAsked, Verdict: Disagrees, Reason: "no key"},
		},
		{
			"no secret", Object{ID: []byte("nobody's"), Challenge: Challenge{Kind: KindNone}},
			Finding{Result: NotAsked, Verdict: Disagrees, Reason: "no key"},
		},
	}
	wrong := func(o Object, change func(*Object)) Object {
		change(&o)
		return o
	}
	forged := func(name, attribute string, change func(*Attributes)) {
		for _, o := range []Object{tests[0].object, tests[8].object} {
			tests = append(
				tests,
				test{
					name, wrong(o, func(o *Object) { change(&o.Claimed) }),
					Finding{Result: Passed, Verdict: Disagrees, Reason: "other values of " + attribute},
				},
			)
		}
	}
	forged("label", "CKA_LABEL", func(a *Attributes) { a.Label += "x" })
	forged("type", "CKA_KEY_TYPE", func(a *Attributes) { a.KeyType = "CKK_EC" })
	forged("mechanism", "CKA_KEY_GEN_MECHANISM", func(a *Attributes) { a.Mechanism = "" })
	forged("local", "CKA_LOCAL", func(a *Attributes) { a.Local = false })
	forged("sensitive", "CKA_SENSITIVE", func(a *Attributes) { a.Sensitive = false })
	forged("always sensitive", "CKA_ALWAYS_SENSITIVE", func(a *Attributes) { a.AlwaysSensitive = false })
	forged("extractable", "CKA_EXTRACTABLE", func(a *Attributes) { a.Extractable = true })
	forged("never extractable", "CKA_NEVER_EXTRACTABLE", func(a *Attributes) { a.NeverExtractable = false })
	// The keys of these answer, and others were expected.
	other := f.pair(t, hsm.P256, hsm.SignPair, KindSign)
	other.Challenge = tests[11].object.Challenge
	otherMAC := f.secret(t, hsm.MAC256, Challenge{Kind: KindMAC, Hash: crypto.SHA256})
	otherMAC.Challenge = tests[4].object.Challenge
	otherSeal := f.secret(t, hsm.Seal, Challenge{Kind: KindSeal})
	open := tests[0].object.Challenge.Open
	otherSeal.Challenge.Open = func(box, aad []byte) ([]byte, error) {
		plaintext, err := open(box, aad)
		if errors.Is(err, hsm.ErrAuthentication) {
			return nil, nil
		}
		return plaintext, err
	}
	for name, o := range map[string]Object{"another pair": other, "another MAC key": otherMAC,
		"another sealing key": otherSeal} {
		tests = append(tests, test{name, o, Finding{Result: Failed, Verdict: Disagrees, Reason: "challenge is wrong"}})
	}

	var objects []Object
	for _, test := range tests {
		objects = append(objects, test.object)
	}
	findings, err := Ask(t.Context(), config(t, f.soft, "good"), objects)
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range tests {
		got := findings[i]
		if got.Result != test.want.Result || got.Verdict != test.want.Verdict ||
			!strings.Contains(got.Reason, test.want.Reason) ||
			(test.want.Reason == "") != (got.Reason == "") {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
		if got.Verdict == Agrees && *got.Read != test.object.Claimed {
			t.Errorf("%s: %+v", test.name, got.Read)
		}
	}
	if objects, err := f.token.Objects(t.Context(), ""); err != nil || len(objects) == 0 {
		t.Error(err)
	} else {
		for _, o := range objects {
			if o.Label == "" {
				t.Errorf("the witness leaves an object behind: %+v", o)
			}
		}
	}
}

func TestBadChildren(t *testing.T) {
	soft := softhsm.Token{Module: "/nowhere/module.so", Label: "token", PIN: "1234"} // these use no token
	objects := []Object{
		{ID: []byte("an object of it!"), Challenge: Challenge{Kind: KindNone}},
		{ID: []byte("a second object!"), Challenge: Challenge{Kind: KindNone}},
	}
	for kind, want := range map[string]string{
		"crash": "exit status", "crash after the reply": "exit status", "hang": "longer than",
		"silence": "not of this form", "garbage": "not of this form",
		"more": "behind it", "endless": "more than", "failure": "no??[2Juse", "fewer": "1 objects of 2",
		"other": "another object", "environment": "0 kept",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, soft, kind)
			cfg.Environ = append(cfg.Environ, "OTHER=kept")
			if kind == "hang" {
				cfg.Timeout = 100 * time.Millisecond
			}
			findings, err := Ask(t.Context(), cfg, objects)
			if err == nil || findings != nil || !strings.Contains(err.Error(), "the witness could not say: ") ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("%+v, %v, want %q", findings, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Ask(ctx, config(t, soft, "hang"), objects); err == nil {
			t.Error("it answers")
		}
	})
	t.Run("no program", func(t *testing.T) {
		cfg := config(t, soft, "good")
		cfg.Program = "/nowhere/verenc"
		if _, err := Ask(t.Context(), cfg, objects); err == nil || !strings.Contains(err.Error(), "could not say") {
			t.Error(err)
		}
	})
	t.Run("no module", func(t *testing.T) {
		if _, err := Ask(t.Context(), config(t, soft, "good"), objects); err == nil ||
			!strings.Contains(err.Error(), "could not open PKCS#11") {
			t.Error(err)
		}
	})
}

func TestLogin(t *testing.T) {
	f := newFixture(t)
	o := f.secret(t, hsm.Seal, Challenge{Kind: KindSeal})
	cfg := config(t, f.soft, "good")
	cfg.Serial = "" // by the label
	if findings, err := Ask(t.Context(), cfg, []Object{o}); err != nil || findings[0].Verdict != Agrees {
		t.Errorf("%+v, %v", findings, err)
	}
	if findings, err := Ask(t.Context(), cfg, nil); err != nil || len(findings) != 0 {
		t.Errorf("%+v, %v", findings, err)
	}
	cfg.PIN = "not this one \xff"
	if _, err := Ask(t.Context(), cfg, []Object{o}); err == nil ||
		!strings.Contains(err.Error(), "CKR_PIN_INCORRECT") ||
		strings.Contains(err.Error(), "not this") {
		t.Error(err)
	}
	cfg = config(t, f.soft, "good")
	cfg.Serial = "0000000000000000"
	if _, err := Ask(t.Context(), cfg, []Object{o}); err == nil ||
		!strings.Contains(err.Error(), "could not find PKCS#11 token") {
		t.Error(err)
	}
}

// TestVersion holds the version that statements name to the one that is linked in.
func TestVersion(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("\t"+Implementation+" "+Version+"\n")) {
		t.Errorf("go.mod does not require %s %s", Implementation, Version)
	}
}

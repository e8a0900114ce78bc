// Package witness asks a second PKCS#11 implementation, crypto11, whether it sees in a token what
// package hsm says is there.
//
// It protects a reader of an attestation from faults in one implementation: the attributes are
// read, and the key is used, by code that shares nothing with package hsm but the module itself. It
// does not protect from a token or a module that lies, which lies to both.
//
// crypto11 finalises the module under everyone in its process and has no deadlines. So it runs in a
// child process, which Serve is: one JSON request on standard input, the PIN in it, and one JSON
// reply on standard output. Ask starts the child. It is not told what is claimed, so that it can't
// repeat that; Ask compares, and checks the answers to the challenges. Ask trusts nothing of a
// reply's form: a child that crashes, is too late or says anything else than a reply has said
// nothing.
//
// What crypto11 v1.2.5 can't do, the witness can't say: it knows RSA, the NIST curves, secp256k1,
// AES and generic secrets; it neither wraps nor derives; it passes no C_INITIALIZE_ARGS.pReserved;
// and where the token insists on an initialisation vector of its own it can't seal. Session objects
// belong to the process that made them.
package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// The second implementation.
const (
	Implementation = "github.com/ThalesIgnite/crypto11"
	Version        = "v1.2.5" // of go.mod
)

// Config says which token is asked, and how the child is started.
type Config struct {
	Module string // absolute path of the PKCS#11 module
	Serial string // of the token; wins over Label
	Label  string
	PIN    string // goes to the child's standard input only

	Program string   // absolute path of the program that calls Serve
	Args    []string // that make it do so
	Environ []string // of the child, usually os.Environ(); what begins with VERENC_ is left out

	Timeout time.Duration // for all of the child's work; default 30 s
	Rand    io.Reader     // for challenges; default crypto/rand.Reader
}

// Attributes are those that an attestation claims, named as in package hsm. What the token does not
// say is empty or false.
type Attributes struct {
	Label            string
	KeyType          string // CKA_KEY_TYPE by its name in PKCS#11
	Mechanism        string // CKA_KEY_GEN_MECHANISM by its name
	Local            bool   // CKA_LOCAL
	Sensitive        bool   // CKA_SENSITIVE
	AlwaysSensitive  bool   // CKA_ALWAYS_SENSITIVE
	Extractable      bool   // CKA_EXTRACTABLE
	NeverExtractable bool   // CKA_NEVER_EXTRACTABLE
}

// Object is a token object that the witness is asked about.
type Object struct {
	ID        []byte // CKA_ID, 1 to 64 bytes
	Private   bool   // a private key; else a secret key
	Claimed   Attributes
	Challenge Challenge
}

// Verdict is what the witness says of an object.
type Verdict string

// Verdicts. There is no agreement without an answer.
const (
	Agrees      Verdict = "agrees"
	Disagrees   Verdict = "disagrees"
	CouldNotSay Verdict = "could not say"
)

// Result is how a challenge ended.
type Result string

// Results of challenges.
const (
	Passed   Result = "passed"
	Failed   Result = "failed"    // there was an answer, and it is wrong
	NoAnswer Result = "no answer" // the witness, or who checks it, could not do it
	NotAsked Result = "not asked"
)

// Finding is what the witness says of an object, and why.
type Finding struct {
	ID        []byte
	Read      *Attributes // nil when nothing was read
	Challenge Kind
	Result    Result
	Verdict   Verdict
	Reason    string // of any verdict but Agrees, and of a challenge that was not asked; printable ASCII
}

// Ask asks the witness about objects, and gives a finding for each, in their order. It fails when
// the witness could not say anything at all. A wrong PIN is tried once.
func Ask(ctx context.Context, cfg Config, objects []Object) ([]Finding, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	in := request{Format: format, Module: cfg.Module, Serial: cfg.Serial, PIN: []byte(cfg.PIN), Objects: []question{}}
	if cfg.Serial == "" {
		in.Label = cfg.Label
	}
	checks := make([]check, len(objects))
	for i, o := range objects {
		q := question{ID: o.ID, Private: o.Private}
		var err error
		if q.Challenge, checks[i], err = o.Challenge.pose(cfg.Rand); err != nil {
			return nil, fmt.Errorf("ask the witness: %w", err)
		}
		in.Objects = append(in.Objects, q)
	}
	text, err := in.encode()
	if err != nil {
		return nil, fmt.Errorf("ask the witness: %w", err)
	}
	text, err = runChild(ctx, cfg, text)
	if err != nil {
		return nil, fmt.Errorf("the witness could not say: %w", err)
	}
	out, err := decodeReply(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the witness could not say: %w", err)
	case out.Failure != "":
		return nil, fmt.Errorf("the witness could not say: %s", printable(out.Failure))
	case len(out.Objects) != len(objects):
		return nil, fmt.Errorf(
			"the witness could not say: it answers for %d objects of %d", len(out.Objects), len(objects),
		)
	}
	findings := make([]Finding, len(objects))
	for i, o := range objects {
		if !bytes.Equal(out.Objects[i].ID, o.ID) {
			return nil, errors.New("the witness could not say: it answers for another object")
		}
		findings[i] = judge(o, out.Objects[i], checks[i])
	}
	return findings, nil
}

// judge compares what the witness says with what is claimed.
func judge(o Object, a answer, check check) Finding {
	f := Finding{ID: o.ID, Challenge: o.Challenge.Kind, Result: NoAnswer, Verdict: CouldNotSay}
	if o.Challenge.Kind == KindNone {
		f.Result = NotAsked
	}
	switch {
	case a.Failure != "":
		f.Reason = printable(a.Failure)
		return f
	case a.Attributes == nil:
		f.Verdict, f.Reason = Disagrees, "there is no key with this CKA_ID"
		return f
	}
	read := a.Attributes.named()
	f.Read = &read
	var problem error
	if o.Challenge.Kind != KindNone {
		f.Result, problem = check.result(a.Answer, a.ChallengeFailure)
	}
	different := read.differences(o.Claimed)
	switch {
	case different != nil:
		f.Verdict, f.Reason = Disagrees, "it reads other values of "+strings.Join(different, ", ")
	case f.Result == Failed:
		f.Verdict, f.Reason = Disagrees, "the answer to the challenge is wrong"
	case f.Result == NoAnswer:
		f.Reason = printable(problem.Error())
	case f.Result == NotAsked:
		f.Verdict, f.Reason = Agrees, printable(o.Challenge.Why)
	default:
		f.Verdict = Agrees
	}
	return f
}

// differences names the attributes that are not the same.
func (a Attributes) differences(b Attributes) (names []string) {
	for _, d := range []struct {
		name string
		same bool
	}{
		{"CKA_LABEL", a.Label == b.Label},
		{"CKA_KEY_TYPE", a.KeyType == b.KeyType},
		{"CKA_KEY_GEN_MECHANISM", a.Mechanism == b.Mechanism},
		{"CKA_LOCAL", a.Local == b.Local},
		{"CKA_SENSITIVE", a.Sensitive == b.Sensitive},
		{"CKA_ALWAYS_SENSITIVE", a.AlwaysSensitive == b.AlwaysSensitive},
		{"CKA_EXTRACTABLE", a.Extractable == b.Extractable},
		{"CKA_NEVER_EXTRACTABLE", a.NeverExtractable == b.NeverExtractable},
	} {
		if !d.same {
			names = append(names, d.name)
		}
	}
	return names
}

const maxReason = 200 // bytes

// printable makes words of a child or a module fit for a statement and a terminal.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxReason)]
}

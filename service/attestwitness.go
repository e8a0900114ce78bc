package service

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/verenc/kms/hsm"
)

// AttestedWitness is what a second PKCS#11 implementation, in a process of its own, says of an attestation's objects. With a
// Failure it could say nothing of any.
type AttestedWitness struct {
	Implementation string // Go module path
	Version        string
	Failure        string            `json:",omitempty"`
	Objects        []WitnessedObject `json:",omitempty"`
}

// WitnessedObject is what the witness says of one object.
type WitnessedObject struct {
	Role      Role
	ID        ObjectID
	Read      *hsm.Attributes `json:",omitempty"` // what it read; nil when it read nothing
	Challenge string          // what the key had to do: sign, decrypt, seal, MAC or none
	Result    string          // passed, failed, no answer or not asked
	Verdict   WitnessVerdict
	Reason    string `json:",omitempty"`
}

// WitnessVerdict is what the witness says, of one object or of all.
type WitnessVerdict string

// Verdicts of the witness.
const (
	WitnessAgrees      WitnessVerdict = "agrees"
	WitnessDisagrees   WitnessVerdict = "disagrees"
	WitnessCouldNotSay WitnessVerdict = "could not say"
)

// WitnessableObject is an object that the witness is to speak of.
type WitnessableObject struct {
	AttestedObject
	Session bool // a session object, which it can't see
}

// Witnessable are all objects of the statement, each once.
func (a *Attestation) Witnessable() (objects []WitnessableObject) {
	seen := map[ObjectID]bool{}
	add := func(o AttestedObject, session bool) {
		if !seen[o.ID] {
			seen[o.ID] = true
			objects = append(objects, WitnessableObject{o, session})
		}
	}
	for _, m := range a.Materials {
		for _, o := range m.Objects {
			add(o, m.WrappedUnder != nil)
		}
		if m.WrappedUnder != nil {
			add(*m.WrappedUnder, false)
		}
	}
	return objects
}

// PublicKey is the published public key of an asymmetric key, as a SubjectPublicKeyInfo. The statement has its hash only, so that it is nil
// of one that was read.
func (a *Attestation) PublicKey() []byte { return a.publicKey }

// KeyStore is the id of the custom key store that the key is in; empty for the service's own token, and of a statement that was read.
func (a *Attestation) KeyStore() string { return a.keyStore }

// WitnessVerdict is of all objects together: the witness agrees when it agrees on each, and disagrees when it does so on one.
func (a *Attestation) WitnessVerdict() WitnessVerdict {
	if a.Witness == nil || a.Witness.Failure != "" {
		return WitnessCouldNotSay
	}
	all, agreed := len(a.Witnessable()), 0
	for _, o := range a.Witness.Objects {
		switch o.Verdict {
		case WitnessDisagrees:
			return WitnessDisagrees
		case WitnessAgrees:
			agreed++
		}
	}
	if agreed == 0 || agreed != all {
		return WitnessCouldNotSay
	}
	return WitnessAgrees
}

// checkWitness refuses a section of the witness whose verdicts do not follow from what it says, or that speaks of other
// objects than the statement does.
func (a *Attestation) checkWitness() error {
	if a.Witness == nil {
		return nil
	}
	claimed := map[ObjectID]AttestedObject{}
	for _, o := range a.Witnessable() {
		claimed[o.ID] = o.AttestedObject
	}
	if a.Witness.Failure != "" && len(a.Witness.Objects) > 0 || a.Witness.Failure == "" && len(a.Witness.Objects) != len(claimed) {
		return errors.New("the witness speaks of other objects than the statement")
	}
	for _, o := range a.Witness.Objects {
		claim, known := claimed[o.ID]
		delete(claimed, o.ID)
		if !known || claim.Role != o.Role {
			return fmt.Errorf("the witness speaks of object %s, which is not in the statement, or twice", o.ID)
		}
		same := o.Read != nil && *o.Read == claim.Attributes
		answered := o.Result == "passed" && o.Challenge != "none" || o.Result == "not asked" && o.Challenge == "none" && o.Reason != ""
		switch o.Verdict {
		case WitnessAgrees:
			if !same || !answered {
				return fmt.Errorf("the witness agrees on object %s, and what it says does not", o.ID)
			}
		case WitnessCouldNotSay:
			if o.Read != nil && !same || o.Result == "failed" {
				return fmt.Errorf("the witness could not say of object %s, and what it says disagrees", o.ID)
			}
		case WitnessDisagrees:
		default:
			return fmt.Errorf("the witness has the verdict %q", o.Verdict)
		}
	}
	return nil
}

// VerifyDigest tells whether a signature over a SHA-256 digest is good for a SubjectPublicKeyInfo: RSASSA-PKCS1-v1_5 or ECDSA.
func VerifyDigest(spki, digest, signature []byte) (bool, error) {
	return verifyOnHost(spki, hsm.Scheme{Algorithm: hsm.PKCS1v15, Hash: crypto.SHA256}, digest, signature)
}

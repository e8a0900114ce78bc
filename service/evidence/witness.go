package evidence

import (
	"errors"
	"fmt"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
)

// AttestedWitness is what a second PKCS#11 implementation, in a process of its own, says of an
// attestation's objects.
type AttestedWitness struct {
	Implementation string // Go module path
	Version        string
	Failure        string            `json:",omitempty"` // why it could say nothing of any object
	Objects        []WitnessedObject `json:",omitempty"`
}

// WitnessedObject is what the witness says of one object.
type WitnessedObject struct {
	Role      service.Role
	ID        service.ObjectID
	Read      *hsm.Attributes `json:",omitempty"` // nil when it read nothing
	Challenge string          // what the key was asked to do: sign, decrypt, seal, MAC or none
	Result    string          // passed, failed, no answer or not asked
	Verdict   WitnessVerdict
	Reason    string `json:",omitempty"`
}

// WitnessVerdict is the witness's verdict on one object or on all.
type WitnessVerdict string

// Verdicts of the witness.
const (
	WitnessAgrees      WitnessVerdict = "agrees"
	WitnessDisagrees   WitnessVerdict = "disagrees"
	WitnessCouldNotSay WitnessVerdict = "could not say"
)

// WitnessableObject is an object that the witness is asked about.
type WitnessableObject struct {
	AttestedObject
	Session bool // a session object, which no other process can see
}

// Witnessable returns all objects of the statement, each once.
func (a *Attestation) Witnessable() (objects []WitnessableObject) {
	seen := map[service.ObjectID]bool{}
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

// PublicKey returns the public key of an asymmetric key as a SubjectPublicKeyInfo. It is nil for an
// attestation that was read, since the statement has its hash only.
func (a *Attestation) PublicKey() []byte { return a.publicKey }

// KeyStore returns the id of the key's custom key store. It is empty for the service's own token, and
// for an attestation that was read.
func (a *Attestation) KeyStore() string { return a.keyStore }

// WitnessVerdict returns the verdict on all objects together: the witness agrees when it agrees on
// each, and disagrees when it disagrees on one.
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

// checkWitness fails when the witness's verdicts do not follow from what it read and from the results
// of its challenges, or when its objects are not those of the statement.
func (a *Attestation) checkWitness() error {
	if a.Witness == nil {
		return nil
	}
	claimed := map[service.ObjectID]AttestedObject{}
	for _, o := range a.Witnessable() {
		claimed[o.ID] = o.AttestedObject
	}
	wanted := len(claimed)
	if a.Witness.Failure != "" {
		wanted = 0
	}
	if len(a.Witness.Objects) != wanted {
		return errors.New("the witness speaks of other objects than the statement")
	}
	for _, o := range a.Witness.Objects {
		claim, known := claimed[o.ID]
		delete(claimed, o.ID)
		if !known || claim.Role != o.Role {
			return fmt.Errorf("the witness speaks of object %s, which is not in the statement, or twice", o.ID)
		}
		same := o.Read != nil && *o.Read == claim.Attributes
		answered := o.Result == "passed" && o.Challenge != "none" ||
			o.Result == "not asked" && o.Challenge == "none" && o.Reason != ""
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

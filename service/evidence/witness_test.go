package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/statement"
)

func goldenAttestation() *Attestation {
	object := func(role service.Role, id byte) AttestedObject {
		return AttestedObject{role, service.ObjectID{id},
			hsm.Attributes{Label: "verenc/key/1/" + string(role), KeyType: "CKK_AES", Local: true}}
	}
	return &Attestation{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Key: AttestedKey{ID: "key", Spec: "SYMMETRIC_DEFAULT"},
		Token: hsm.Info{Label: "token"},
		Materials: []AttestedMaterial{{
			Ordinal: 1, Current: true,
			Objects: []AttestedObject{object(service.RoleSeal, 1), object(service.RoleWrap, 2)},
		}},
	}
}

func witnessed() *Attestation {
	a := goldenAttestation()
	read := []hsm.Attributes{a.Materials[0].Objects[0].Attributes, a.Materials[0].Objects[1].Attributes}
	a.Witness = &AttestedWitness{Implementation: "other", Version: "v1", Objects: []WitnessedObject{
		{service.RoleSeal, service.ObjectID{1}, &read[0], "seal", "passed", WitnessAgrees, ""},
		{service.RoleWrap, service.ObjectID{2}, &read[1], "none", "not asked", WitnessAgrees, "it wraps"}}}
	return a
}

// TestGoldenAttestation holds the text that is signed; the one without a witness was written before
// there was one.
func TestGoldenAttestation(t *testing.T) {
	for name, test := range map[string]struct {
		a    *Attestation
		want string
	}{
		"alone":     {goldenAttestation(), "bd96889b4424a5ebd20be9005feba72a97c34d4f0c0326ec636d00d128fc30c4"},
		"witnessed": {witnessed(), "5b20fa122ab39e61b041d9e6b48f193f6720c9f9441dd3b6474c843ae29d184e"},
	} {
		text, err := statement.Text(test.a.head(), test.a)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256([]byte(text)); hex.EncodeToString(sum[:]) != test.want {
			t.Errorf("%s: %x of\n%s", name, sum, text)
		}
	}
}

func TestWitnessVerdict(t *testing.T) {
	if a := goldenAttestation(); a.checkWitness() != nil || a.WitnessVerdict() != WitnessCouldNotSay {
		t.Error("no witness agrees")
	}
	first := func(a *Attestation) *WitnessedObject { return &a.Witness.Objects[0] }
	say := func(verdict WitnessVerdict, result string) func(*Attestation) {
		return func(a *Attestation) { first(a).Verdict, first(a).Result = verdict, result }
	}
	for name, test := range map[string]struct {
		change  func(*Attestation)
		want    WitnessVerdict
		refused string
	}{
		"as it is": {func(*Attestation) {}, WitnessAgrees, ""},
		"a failure": {func(a *Attestation) {
			a.Witness.Objects, a.Witness.Failure = nil, "crash"
		}, WitnessCouldNotSay, ""},
		"one could not": {say(WitnessCouldNotSay, "no answer"), WitnessCouldNotSay, ""},
		"one disagrees": {func(a *Attestation) { first(a).Verdict = WitnessDisagrees }, WitnessDisagrees, ""},
		"a forged claim": {func(a *Attestation) {
			a.Materials[0].Objects[0].NeverExtractable = true
		}, "", "agrees on object"},
		"nothing read": {func(a *Attestation) { first(a).Read = nil }, "", "agrees on object"},
		"no answer":    {func(a *Attestation) { first(a).Result = "no answer" }, "", "agrees on object"},
		"failed":       {func(a *Attestation) { first(a).Result = "failed" }, "", "agrees on object"},
		"nothing asked": {func(a *Attestation) {
			first(a).Challenge, first(a).Result = "none", "not asked"
		}, "", "agrees on object"},
		"disagrees in secret": {func(a *Attestation) {
			first(a).Verdict, first(a).Read = WitnessCouldNotSay, &hsm.Attributes{}
		}, "", "disagrees"},
		"failed in secret":    {say(WitnessCouldNotSay, "failed"), "", "disagrees"},
		"another verdict":     {func(a *Attestation) { first(a).Verdict = "perhaps" }, "", "verdict"},
		"an object missing":   {func(a *Attestation) { a.Witness.Objects = a.Witness.Objects[1:] }, "", "other objects"},
		"an object twice":     {func(a *Attestation) { a.Witness.Objects[1] = a.Witness.Objects[0] }, "", "twice"},
		"another role":        {func(a *Attestation) { first(a).Role = service.RoleMAC }, "", "not in the statement"},
		"failure and objects": {func(a *Attestation) { a.Witness.Failure = "x" }, "", "other objects"},
	} {
		a := witnessed()
		test.change(a)
		err := a.checkWitness()
		if test.refused != "" {
			if err == nil || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || a.WitnessVerdict() != test.want {
			t.Errorf("%s: %s, %v", name, a.WitnessVerdict(), err)
		}
	}
}

package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/witness"
	"github.com/verenc/kms/service/evidence"
)

func TestAttestWitness(t *testing.T) {
	s := initialised(t)
	client := s.sdk(t, "http://"+s.serve(t).api, http.DefaultClient)
	key := s.auditKey(t)
	nobody := &site{soft: s.soft, dir: t.TempDir()}
	for _, test := range []struct {
		spec  types.KeySpec
		usage types.KeyUsageType
		want  evidence.WitnessVerdict
		last  string // the last object's challenge and its result
	}{
		{types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, evidence.WitnessAgrees, "none not asked"},
		{types.KeySpecRsa2048, types.KeyUsageTypeSignVerify, evidence.WitnessAgrees, "sign passed"},
		{types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt, evidence.WitnessAgrees, "decrypt passed"},
		{types.KeySpecRsa3072, types.KeyUsageTypeSignVerify, evidence.WitnessAgrees, "sign passed"},
		{types.KeySpecRsa4096, types.KeyUsageTypeEncryptDecrypt, evidence.WitnessAgrees, "decrypt passed"},
		{types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, evidence.WitnessAgrees, "sign passed"},
		{types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify, evidence.WitnessAgrees, "sign passed"},
		{types.KeySpecEccNistP521, types.KeyUsageTypeSignVerify, evidence.WitnessAgrees, "sign passed"},
		{types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement, evidence.WitnessAgrees, "none not asked"},
		{types.KeySpecEccSecgP256k1, types.KeyUsageTypeSignVerify, evidence.WitnessAgrees, "sign passed"},
		{types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify, evidence.WitnessCouldNotSay, "sign no answer"},
		{types.KeySpecHmac224, types.KeyUsageTypeGenerateVerifyMac, evidence.WitnessAgrees, "MAC passed"},
		{types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac, evidence.WitnessAgrees, "MAC passed"},
		{types.KeySpecHmac384, types.KeyUsageTypeGenerateVerifyMac, evidence.WitnessAgrees, "MAC passed"},
		{types.KeySpecHmac512, types.KeyUsageTypeGenerateVerifyMac, evidence.WitnessAgrees, "MAC passed"},
	} {
		t.Run(string(test.spec)+" "+string(test.usage), func(t *testing.T) {
			made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: test.spec, KeyUsage: test.usage})
			if err != nil {
				t.Fatal(err)
			}
			signed := s.succeeds(t, "attest", "--witness", *made.KeyMetadata.KeyId)
			a, err := evidence.VerifyAttestation([]byte(signed), key)
			if err != nil {
				t.Fatal(err)
			}
			if a.Witness == nil || a.Witness.Failure != "" || len(a.Witness.Objects) == 0 {
				t.Fatalf("%+v", a.Witness)
			}
			last := a.Witness.Objects[len(a.Witness.Objects)-1]
			if a.WitnessVerdict() != test.want || last.Challenge+" "+last.Result != test.last {
				t.Errorf("%s: %+v", a.WitnessVerdict(), a.Witness)
			}
			file := s.write(t, "statement", signed, 0o600)
			text := nobody.succeeds(t, "attest", "--verify", file, "--key", key)
			want := map[evidence.WitnessVerdict]string{
				evidence.WitnessAgrees:      "two implementations agree on all objects",
				evidence.WitnessCouldNotSay: "could not say of all objects",
			}[test.want]
			if !strings.Contains(text, want) || !strings.Contains(text, "witness github.com/ThalesIgnite/crypto11 v1.2.5\n") {
				t.Error(text)
			}
			tampered := s.write(t, "tampered", strings.Replace(signed, `"not asked"`, `"passed"`, 1)+" ", 0o600)
			refused(t, nobody.run(t, "attest", "--verify", tampered, "--key", key), "verify attestation")
		})
	}
	t.Run("disabled", func(t *testing.T) {
		made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{
			KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify,
		})
		if err != nil {
			t.Fatal(err)
		}
		id := made.KeyMetadata.KeyId
		if _, err := client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}); err != nil {
			t.Fatal(err)
		}
		a, err := evidence.VerifyAttestation([]byte(s.succeeds(t, "attest", "--witness", *id)), key)
		if err != nil {
			t.Fatal(err)
		}
		o := a.Witness.Objects[0]
		if o.Verdict != evidence.WitnessAgrees || o.Challenge != "none" || o.Reason != whyState {
			t.Errorf("a disabled key is used: %+v", o)
		}
	})
	t.Run("doctor", func(t *testing.T) {
		r := s.run(t, "doctor")
		if !regexp.MustCompile(`(?m)^ok +witness .*reads the same attributes, and has it sign`).MatchString(r.stdout) {
			t.Error(r)
		}
		r = s.with("VERENC_DATABASE=nowhere.db").run(t, "doctor")
		if !strings.Contains(r.stdout, "no database yet that names a key") {
			t.Error(r)
		}
	})
	t.Run("child", func(t *testing.T) {
		refused(t, s.run(t, "witness"), "witness: read the request")
		if r := s.run(t, "--help"); strings.Contains(r.stdout, "Answer one request") {
			t.Error(r)
		}
	})
}

// TestAttestWitnessWrapped has a key of residency wrapped, whose session objects no other process sees.
func TestAttestWitnessWrapped(t *testing.T) {
	s := initialised(t).with("VERENC_TOKEN_RESIDENCY=wrapped")
	client := s.sdk(t, "http://"+s.serve(t).api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	signed := s.succeeds(t, "attest", "--witness", *made.KeyMetadata.KeyId)
	a, err := evidence.VerifyAttestation([]byte(signed), s.auditKey(t))
	if err != nil {
		t.Fatal(err)
	}
	wrapping := a.Materials[0].WrappedUnder.ID
	for _, o := range a.Witness.Objects {
		switch {
		case o.ID == wrapping && o.Verdict == evidence.WitnessAgrees && o.Read != nil:
		case o.ID != wrapping && o.Verdict == evidence.WitnessCouldNotSay && o.Reason == whySession:
		default:
			t.Errorf("%+v", o)
		}
	}
	if a.WitnessVerdict() != evidence.WitnessCouldNotSay || len(a.Witness.Objects) != 3 {
		t.Errorf("%s: %+v", a.WitnessVerdict(), a.Witness)
	}
}

// TestWitnessVerdicts: the verdicts of the witness are spelled as in a statement.
func TestWitnessVerdicts(t *testing.T) {
	for of, in := range map[witness.Verdict]evidence.WitnessVerdict{
		witness.Agrees: evidence.WitnessAgrees, witness.Disagrees: evidence.WitnessDisagrees,
		witness.CouldNotSay: evidence.WitnessCouldNotSay,
	} {
		if string(of) != string(in) {
			t.Errorf("%s is %s", of, in)
		}
	}
	c := &Config{Token: TokenConfig{InitArguments: "configdir=/x"}}
	if _, err := askWitness(t.Context(), c, hsm.Info{}, nil); err == nil {
		t.Error("the witness loses token.init_arguments")
	}
}

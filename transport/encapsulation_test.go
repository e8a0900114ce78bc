package transport_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service"
)

// TestEncapsulationEverywhere: ML-KEM's algorithm, and its operations, are in answers, records,
// grants and policies, also across accounts.
func TestEncapsulationEverywhere(t *testing.T) {
	var log recordList
	s := newServer(t, options{quantum: true, service: func(c *service.Config) { c.Audit = &log }})
	app := s.user(t, account, "app")
	abroad := s.user(t, otherAccount, "abroad", identityPolicy("kms:Encapsulate", "kms:Decapsulate"))
	made := s.makeKey(t, kms.CreateKeyInput{KeySpec: "ML_KEM_768", KeyUsage: "ENCAPSULATE_DECAPSULATE",
		Policy: aws.String(keyPolicy(statement{Principal: principals(otherAccount), Action: "kms:Encapsulate"},
			statement{Principal: principals(otherAccount), Action: "kms:Decapsulate"}))})
	public := ok(s.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: made.KeyId}))(t)
	for _, algorithms := range [][]types.EncapsulationAlgorithmSpec{made.EncapsulationAlgorithms,
		describe(t, s.Client, made.KeyId).EncapsulationAlgorithms, public.EncapsulationAlgorithms} {
		if len(algorithms) != 1 || algorithms[0] != types.EncapsulationAlgorithmSpecMlKem {
			t.Errorf("EncapsulationAlgorithms %v", algorithms)
		}
	}
	exchange := func(who *kms.Client) error {
		sent, err := who.Encapsulate(t.Context(),
			&kms.EncapsulateInput{KeyId: made.Arn, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})
		if err != nil {
			return err
		}
		got, err := who.Decapsulate(t.Context(),
			&kms.DecapsulateInput{KeyId: made.Arn, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem,
				SharedSecretCiphertextBlob: sent.SharedSecretCiphertextBlob})
		if err == nil && (string(got.SharedSecret) != string(sent.SharedSecret) ||
			got.EncapsulationAlgorithm != types.EncapsulationAlgorithmSpecMlKem) {
			t.Errorf("%+v, then %+v", sent, got)
		}
		return err
	}
	if err := exchange(abroad.Client); err != nil {
		t.Errorf("across accounts: %v", err)
	}
	record := log.last()
	if text := string(ok(json.Marshal(record))(t)); record.EventName != "Decapsulate" ||
		!strings.Contains(text, `"encapsulationAlgorithm":"ML_KEM"`) || strings.Contains(text, "Blob") {
		t.Errorf("the record is %s", text)
	}
	wantError(t, exchange(app.Client), "AccessDeniedException", "*")
	ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: made.KeyId, GranteePrincipal: &app.ARN,
		Operations: []types.GrantOperation{types.GrantOperationEncapsulate, types.GrantOperationDecapsulate}}))(t)
	if err := exchange(app.Client); err != nil {
		t.Errorf("with a grant: %v", err)
	}
}

// TestNewMembersAreRecorded: DryRunModifiers, and service principals of grants.
func TestNewMembersAreRecorded(t *testing.T) {
	var log recordList
	s := newServer(t, options{service: func(c *service.Config) { c.Audit = &log }})
	id, _ := s.newKey(t)
	_, err := s.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, DryRun: aws.Bool(true),
		DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}})
	wantError(t, err, "DryRunOperationException", "*")
	if text := string(ok(json.Marshal(log.last()))(t)); !strings.Contains(text,
		`"dryRunModifiers":["IGNORE_CIPHERTEXT"]`) || !strings.Contains(text, `"dryRun":true`) {
		t.Errorf("the record is %s", text)
	}
	const one, other = "dynamodb.amazonaws.com", "s3.amazonaws.com"
	ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &id, GranteeServicePrincipal: aws.String(one),
		RetiringServicePrincipal: aws.String(other),
		Operations:               []types.GrantOperation{"Decrypt"},
		Constraints: &types.GrantConstraints{
			SourceArn: aws.String("arn:aws:dynamodb:" + region + ":" + account + ":table/a")}}))(t)
	text := string(ok(json.Marshal(log.last()))(t))
	for _, want := range []string{`"granteeServicePrincipal":"` + one + `"`,
		`"retiringServicePrincipal":"` + other + `"`, `"sourceArn":"arn:aws:dynamodb:`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in the record %s", want, text)
		}
	}
	g := ok(s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &id, GranteeServicePrincipal: aws.String(one)}))(t).
		Grants
	if len(g) != 1 || *g[0].GranteeServicePrincipal != one || *g[0].RetiringServicePrincipal != other ||
		g[0].GranteePrincipal != nil || *g[0].Constraints.SourceArn == "" {
		t.Errorf("%+v", g)
	}
}

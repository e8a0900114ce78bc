package transport_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const days = 24 * time.Hour

func tag(key, value string) types.Tag { return types.Tag{TagKey: &key, TagValue: &value} }

func TestTags(t *testing.T) {
	s := newServer(t, options{})
	id := s.makeKey(t, kms.CreateKeyInput{Tags: []types.Tag{tag("b", "1"), tag("a", "")}}).KeyId
	list := func(limit int32) map[string]string {
		t.Helper()
		all := map[string]string{}
		pages := kms.NewListResourceTagsPaginator(s, &kms.ListResourceTagsInput{KeyId: id, Limit: &limit})
		for pages.HasMorePages() {
			page := ok(pages.NextPage(t.Context()))(t)
			if len(page.Tags) > int(limit) || page.Truncated != (page.NextMarker != nil) {
				t.Errorf("%+v", page)
			}
			for _, tag := range page.Tags {
				all[*tag.TagKey] = *tag.TagValue
			}
		}
		return all
	}
	want := func(want map[string]string) {
		t.Helper()
		if got := list(1); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	want(map[string]string{"a": "", "b": "1"})
	ok(s.TagResource(t.Context(), &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{tag("b", "2"), tag("c", "3")}}))(t)
	want(map[string]string{"a": "", "b": "2", "c": "3"})
	ok(s.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"a", "none"}}))(t)
	want(map[string]string{"b": "2", "c": "3"})

	var many []types.Tag
	for i := range 48 {
		many = append(many, tag(fmt.Sprint(i), ""))
	}
	ok(s.TagResource(t.Context(), &kms.TagResourceInput{KeyId: id, Tags: many}))(t)
	if n := len(list(50)); n != 50 {
		t.Errorf("%d tags", n)
	}
	for message, tags := range map[string][]types.Tag{
		"Too many tags":                         {tag("new", "")},
		"Duplicate tag keys":                    {tag("x", "1"), tag("x", "2")},
		"Tags beginning with aws: are reserved": {tag("AWS:x", "1")},
	} {
		_, err := s.TagResource(t.Context(), &kms.TagResourceInput{KeyId: id, Tags: tags})
		wantError(t, err, "TagException", message)
	}
	_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{
		Tags: append(many, tag("49", ""), tag("50", ""), tag("51", ""))})
	wantError(t, err, "TagException", "Too many tags")
	_, err = s.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: id, Limit: aws.Int32(51)})
	wantError(t, err, "ValidationException", "*")
}

func TestDescriptionAndPolicy(t *testing.T) {
	s := newServer(t, options{})
	id, _ := s.newKey(t)
	for _, text := range []string{"ü\x00\"", "", strings.Repeat("é", 8192)} {
		ok(s.UpdateKeyDescription(t.Context(), &kms.UpdateKeyDescriptionInput{KeyId: &id, Description: &text}))(t)
		if got := ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}))(t).
			KeyMetadata.Description; *got != text {
			t.Errorf("%q", *got)
		}
	}
	policy := func() string {
		t.Helper()
		out := ok(s.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &id}))(t)
		if *out.PolicyName != "default" {
			t.Errorf("%+v", out)
		}
		return *out.Policy
	}
	if text := policy(); !strings.Contains(text, `"Sid" : "Enable IAM User Permissions"`) ||
		!strings.Contains(text, `"Id" : "key-default-1"`) || !strings.Contains(text, rootUser) {
		t.Errorf("the default policy is %s", text)
	}
	given := "\t " + strings.Replace(openPolicy, `"Version"`,
		"\n\"Id\" : \"\\u0041 <&> é\",\r\n  \"Version\"", 1) + "\n"
	ok(s.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &id, Policy: &given,
		PolicyName: aws.String("default")}))(t)
	if got := policy(); got != given {
		t.Errorf("got  %q\nwant %q", got, given)
	}
	made := s.makeKey(t, kms.CreateKeyInput{Policy: &given})
	if got := *ok(s.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: made.KeyId}))(t).Policy; got != given {
		t.Errorf("%q", got)
	}
	_, err := s.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &id, PolicyName: aws.String("other")})
	wantError(t, err, "NotFoundException", "No such policy exists")
	names := ok(s.ListKeyPolicies(t.Context(), &kms.ListKeyPoliciesInput{KeyId: &id}))(t)
	if !slices.Equal(names.PolicyNames, []string{"default"}) || names.Truncated || names.NextMarker != nil {
		t.Errorf("%+v", names)
	}
	for _, text := range []string{"{", "[]", `"x"`, "{}{}"} {
		_, err := s.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &id, Policy: &text})
		wantError(t, err, "MalformedPolicyDocumentException", "*")
	}
}

func TestAutomaticRotation(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	status := func() *kms.GetKeyRotationStatusOutput {
		t.Helper()
		out := ok(s.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &id}))(t)
		if *out.KeyId != arn || out.OnDemandRotationStartDate != nil {
			t.Errorf("%+v", out)
		}
		return out
	}
	off := func() {
		t.Helper()
		if out := status(); out.KeyRotationEnabled || out.RotationPeriodInDays != nil || out.NextRotationDate != nil {
			t.Errorf("%+v", out)
		}
	}
	off()
	for _, test := range []struct {
		given *int32
		want  int32
	}{{nil, 365}, {aws.Int32(2560), 2560}, {aws.Int32(90), 90}} {
		ok(s.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: &id,
			RotationPeriodInDays: test.given}))(t)
		if out := status(); !out.KeyRotationEnabled || *out.RotationPeriodInDays != test.want ||
			time.Until(*out.NextRotationDate).Round(time.Hour) != time.Duration(test.want)*days {
			t.Errorf("%+v", out)
		}
	}
	var blobs [][]byte
	for range 3 {
		blobs = append(blobs, s.sealedBy(t, &id))
		s.age(90*days + time.Minute)
		s.reconcile(t)
	}
	blobs = append(blobs, s.sealedBy(t, &id))
	materials := map[string]bool{}
	for _, blob := range blobs {
		materials[*opens(t, s.Client, blob).KeyMaterialId] = true
	}
	if len(materials) != 4 {
		t.Errorf("%d materials", len(materials))
	}
	wantRotations(t, s.Client, &id, "NON_CURRENT///", "NON_CURRENT//AUTOMATIC/", "NON_CURRENT//AUTOMATIC/",
		"CURRENT//AUTOMATIC/")
	// A disabled key does not rotate; it does so when it is enabled again. Nor does one that is pending deletion.
	ok(s.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}))(t)
	s.age(91 * days)
	s.reconcile(t)
	if n := len(rotationsOf(t, s.Client, &id)); n != 4 {
		t.Errorf("%d materials of a disabled key", n)
	}
	ok(s.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id}))(t)
	s.reconcile(t)
	s.reconcile(t)
	if n := len(rotationsOf(t, s.Client, &id)); n != 5 {
		t.Errorf("%d materials", n)
	}
	ok(s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}))(t)
	off()
	ok(s.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id}))(t)
	ok(s.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id}))(t)
	if !status().KeyRotationEnabled {
		t.Error("after a cancelled deletion the rotation is off")
	}
	ok(s.DisableKeyRotation(t.Context(), &kms.DisableKeyRotationInput{KeyId: &id}))(t)
	off()
	opens(t, s.Client, blobs[0])
}

func TestRotationOnDemand(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	ok(s.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: &id}))(t)
	next := *ok(s.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &id}))(t).NextRotationDate
	sealed := s.sealedBy(t, &id)
	for range 25 {
		if out := ok(s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}))(t); *out.KeyId != arn {
			t.Errorf("%+v", out)
		}
	}
	_, err := s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id})
	wantError(t, err, "LimitExceededException",
		"The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: "+
			arn)
	opens(t, s.Client, sealed)
	if at := *ok(s.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &id}))(t).
		NextRotationDate; !at.Equal(next) {
		t.Errorf("the automatic rotation moved from %v to %v", next, at)
	}
	current := ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}))(t).KeyMetadata.CurrentKeyMaterialId
	for include, want := range map[types.IncludeKeyMaterial]int{"": 25, types.IncludeKeyMaterialRotationsOnly: 25,
		types.IncludeKeyMaterialAllKeyMaterial: 26} {
		pages := kms.NewListKeyRotationsPaginator(s,
			&kms.ListKeyRotationsInput{KeyId: &id, IncludeKeyMaterial: include, Limit: aws.Int32(10)})
		var all []types.RotationsListEntry
		for pages.HasMorePages() {
			all = append(all, ok(pages.NextPage(t.Context()))(t).Rotations...)
		}
		if len(all) != want {
			t.Errorf("%q: %d", include, len(all))
		}
		for i, r := range all {
			first := want == 26 && i == 0
			last := i == len(all)-1
			if *r.KeyId != id || r.ImportState != "" || r.ExpirationModel != "" || r.ValidTo != nil ||
				r.KeyMaterialDescription != nil || (r.RotationDate == nil) != first ||
				(r.RotationType == "") != first || (r.KeyMaterialState == types.KeyMaterialStateCurrent) != last ||
				(*r.KeyMaterialId == *current) != last {
				t.Errorf("%q: %d: %+v", include, i, r)
			}
		}
	}
	mac := s.makeKey(t, kms.CreateKeyInput{KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC"}).KeyId
	_, err = s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: mac})
	wantError(t, err, "UnsupportedOperationException", "")
	_, err = s.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: mac})
	wantError(t, err, "UnsupportedOperationException", "")
	_, err = s.GetParametersForImport(t.Context(),
		&kms.GetParametersForImportInput{KeyId: &id, WrappingAlgorithm: "RSAES_OAEP_SHA_256",
			WrappingKeySpec: "RSA_2048"})
	wantError(t, err, "UnsupportedOperationException", arn+" origin is AWS_KMS which is not valid for this operation.")
}

func TestKeyLastUsage(t *testing.T) {
	s := newServer(t, options{})
	id, _ := s.newKey(t)
	usage := func() *kms.GetKeyLastUsageOutput {
		t.Helper()
		return ok(s.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: &id}))(t)
	}
	created := ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}))(t).KeyMetadata.CreationDate
	if out := usage(); *out.KeyId != id || out.KeyLastUsage != nil || !out.KeyCreationDate.Equal(*created) ||
		out.TrackingStartDate.Before(*created) {
		t.Errorf("%+v", out)
	}
	sealed := s.sealedBy(t, &id)
	if u := usage().KeyLastUsage; u.Operation != "Encrypt" || time.Since(*u.Timestamp).Abs() > 10*time.Minute ||
		len(*u.KmsRequestId) != 36 {
		t.Errorf("%+v", u)
	}
	s.endKeyStores() // stores what was noted
	if u := usage().KeyLastUsage; u.Operation != "Encrypt" {
		t.Errorf("%+v", u)
	}
	opens(t, s.Client, sealed)
	_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x"), DryRun: aws.Bool(true)})
	wantError(t, err, "DryRunOperationException", "*")
	if u := usage().KeyLastUsage; u.Operation != "Decrypt" {
		t.Errorf("%+v", u)
	}
}

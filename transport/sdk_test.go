package transport_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

var blue = map[string]string{"tenant": "blue", "purpose": "test"}

func TestMainJob(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	for _, test := range []struct {
		name string
		in   kms.GenerateDataKeyWithoutPlaintextInput
		size int
	}{
		{"AES_256", kms.GenerateDataKeyWithoutPlaintextInput{KeySpec: types.DataKeySpecAes256}, 32},
		{"AES_128", kms.GenerateDataKeyWithoutPlaintextInput{KeySpec: types.DataKeySpecAes128}, 16},
		{"1 byte", kms.GenerateDataKeyWithoutPlaintextInput{NumberOfBytes: aws.Int32(1)}, 1},
		{"1024 bytes", kms.GenerateDataKeyWithoutPlaintextInput{NumberOfBytes: aws.Int32(1024)}, 1024},
	} {
		test.in.KeyId, test.in.EncryptionContext = &id, blue
		made, err := s.GenerateDataKeyWithoutPlaintext(t.Context(), &test.in)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if *made.KeyId != arn || len(*made.KeyMaterialId) != 64 {
			t.Errorf("%s: key %s, material %s", test.name, *made.KeyId, *made.KeyMaterialId)
		}
		if made.CiphertextBlob[1] != 2 {
			t.Errorf("%s: form %d, not the one that is made in the token", test.name, made.CiphertextBlob[1])
		}
		opened, err := s.Decrypt(t.Context(),
			&kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, EncryptionContext: blue})
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if len(opened.Plaintext) != test.size || *opened.KeyId != arn || *opened.KeyMaterialId != *made.KeyMaterialId ||
			opened.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
			t.Errorf("%s: %d bytes, %+v", test.name, len(opened.Plaintext), opened)
		}
		again, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob,
			EncryptionContext: blue, KeyId: &arn})
		if err != nil || !bytes.Equal(again.Plaintext, opened.Plaintext) {
			t.Errorf("%s: the second time it is another key, %v", test.name, err)
		}
		for name, wrong := range map[string]map[string]string{
			"none": nil, "value": {"tenant": "red", "purpose": "test"}, "less": {"tenant": "blue"},
			"more": {"tenant": "blue", "purpose": "test", "x": ""}, "case": {"Tenant": "blue", "purpose": "test"},
		} {
			_, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob,
				EncryptionContext: wrong})
			if err == nil {
				t.Errorf("%s: opened with the wrong context (%s)", test.name, name)
			}
			wantError(t, err, "InvalidCiphertextException", "")
		}
	}
}

func TestDataKeyAndEncrypt(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	made, err := s.GenerateDataKey(t.Context(),
		&kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256, EncryptionContext: blue})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Plaintext) != 32 || *made.KeyId != arn || made.CiphertextBlob[1] != 1 ||
		len(*made.KeyMaterialId) != 64 {
		t.Errorf("%+v", made)
	}
	opened, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob,
		EncryptionContext: blue})
	if err != nil || !bytes.Equal(opened.Plaintext, made.Plaintext) {
		t.Errorf("the data key came back changed, %v", err)
	}
	for _, size := range []int{1, 4096} {
		plaintext := bytes.Repeat([]byte("p"), size)
		sealed, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: plaintext})
		if err != nil {
			t.Fatal(err)
		}
		if *sealed.KeyId != arn || sealed.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
			t.Errorf("%+v", sealed)
		}
		opened, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, KeyId: &id})
		if err != nil || !bytes.Equal(opened.Plaintext, plaintext) {
			t.Errorf("%d bytes came back changed, %v", size, err)
		}
	}
}

func TestReEncrypt(t *testing.T) {
	s := newServer(t, options{})
	_, from := s.newKey(t)
	to, toARN := s.newKey(t)
	made, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &from, NumberOfBytes: aws.Int32(13), EncryptionContext: blue})
	if err != nil {
		t.Fatal(err)
	}
	in := kms.ReEncryptInput{CiphertextBlob: made.CiphertextBlob, SourceEncryptionContext: blue, DestinationKeyId: &to,
		DestinationEncryptionContext: map[string]string{"new": "context"}}
	moved, err := s.ReEncrypt(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	if *moved.SourceKeyId != from || *moved.KeyId != toARN || *moved.SourceKeyMaterialId != *made.KeyMaterialId ||
		*moved.DestinationKeyMaterialId == *made.KeyMaterialId {
		t.Errorf("%+v", moved)
	}
	a, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob, EncryptionContext: blue})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: moved.CiphertextBlob,
		EncryptionContext: in.DestinationEncryptionContext})
	if err != nil || !bytes.Equal(a.Plaintext, b.Plaintext) {
		t.Errorf("the data key changed on its way, %v", err)
	}
	in.SourceKeyId = &toARN
	_, err = s.ReEncrypt(t.Context(), &in)
	wantError(t, err, "IncorrectKeyException",
		"The key ID in the request does not identify a CMK that can perform this operation.")
	in.SourceKeyId, in.SourceEncryptionContext = &from, nil
	_, err = s.ReEncrypt(t.Context(), &in)
	wantError(t, err, "InvalidCiphertextException", "")
}

func TestKeyIdentifiers(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	if _, err := s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/my/key_1"),
		TargetKeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{id, arn, "arn:aws:kms:us-east-1:" + account + ":key/" + id,
		"arn:verenc:" + account + ":key/" + id, "alias/my/key_1",
		"arn:aws:kms:us-east-1:" + account + ":alias/my/key_1", "arn:verenc:" + account + ":alias/my/key_1"} {
		out, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: []byte("x")})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := arn
		if strings.HasPrefix(name, "arn:aws:") {
			want = "arn:aws:kms:us-east-1:" + account + ":key/" + id
		}
		if *out.KeyId != want {
			t.Errorf("%s: answered by %s", name, *out.KeyId)
		}
	}
	const absent = "11111111-2222-4333-8444-555555555555"
	for name, message := range map[string]string{
		"nonsense": "Invalid keyId 'nonsense'",
		absent:     "Key 'arn:verenc:" + account + ":key/" + absent + "' does not exist",
		"arn:aws:kms:eu-west-1:" + account + ":key/" + id: "Invalid arn eu-west-1",
		"arn:aws:kms:us-east-1:" + account + ":grant/" + id: "Invalid arn arn:aws:kms:us-east-1:" + account +
			":grant/" + id,
		"alias/none":             "Alias arn:verenc:" + account + ":alias/none is not found.",
		strings.ToUpper(id):      "Invalid keyId '" + strings.ToUpper(id) + "'",
		"arn:verenc:1:key/" + id: "Invalid arn arn:verenc:1:key/" + id,
	} {
		_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: []byte("x")})
		wantError(t, err, "NotFoundException", message)
	}
	// Nobody learns which keys another account has.
	for _, name := range []string{"arn:aws:kms:us-east-1:444455556666:key/" + id, "arn:verenc:444455556666:alias/a"} {
		_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: []byte("x")})
		wantError(t, err, "AccessDeniedException", denial(rootUser, "Encrypt", name, notInReach))
	}
	// Operations on the key itself take no alias (API Reference, KeyId of each).
	_, err := s.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: aws.String("alias/my/key_1")})
	wantError(t, err, "NotFoundException", "Invalid keyId 'alias/my/key_1'")
	// A key belongs to its region.
	_, err = s.client(s.Secret, "eu-west-1").DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	wantError(t, err, "NotFoundException", "Key 'arn:verenc:"+account+":key/"+id+"' does not exist")
}

func TestDescribeKey(t *testing.T) {
	s := newServer(t, options{})
	made, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("for tests"),
		KeySpec:  types.KeySpecSymmetricDefault,
		KeyUsage: types.KeyUsageTypeEncryptDecrypt, Origin: types.OriginTypeAwsKms,
		Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("")}}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: made.KeyMetadata.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*types.KeyMetadata{made.KeyMetadata, out.KeyMetadata} {
		if *m.AWSAccountId != account || *m.Arn != "arn:verenc:"+account+":key/"+*m.KeyId || !m.Enabled ||
			*m.Description != "for tests" ||
			m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.KeyState != types.KeyStateEnabled ||
			m.Origin != types.OriginTypeAwsKms ||
			m.KeyManager != types.KeyManagerTypeCustomer || m.KeySpec != types.KeySpecSymmetricDefault ||
			*m.MultiRegion ||
			!slices.Equal(m.EncryptionAlgorithms, []types.EncryptionAlgorithmSpec{"SYMMETRIC_DEFAULT"}) ||
			m.DeletionDate != nil ||
			m.ValidTo != nil || m.SigningAlgorithms != nil || len(*m.CurrentKeyMaterialId) != 64 ||
			time.Since(*m.CreationDate).Abs() > 10*time.Minute {
			t.Errorf("%+v", m)
		}
	}
	if *made.KeyMetadata.CreationDate != *out.KeyMetadata.CreationDate {
		t.Errorf("created at %v, then at %v", made.KeyMetadata.CreationDate, out.KeyMetadata.CreationDate)
	}
}

func TestListKeysInPages(t *testing.T) {
	s := newServer(t, options{})
	var want []string
	for range 5 {
		id, _ := s.newKey(t)
		want = append(want, id)
	}
	slices.Sort(want)
	var got []string
	pages := kms.NewListKeysPaginator(s, &kms.ListKeysInput{Limit: aws.Int32(2)})
	count := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		count++
		for _, k := range page.Keys {
			if *k.KeyArn != "arn:verenc:"+account+":key/"+*k.KeyId {
				t.Errorf("arn %s", *k.KeyArn)
			}
			got = append(got, *k.KeyId)
		}
	}
	if !slices.Equal(got, want) || count != 3 {
		t.Errorf("%d pages with %v, want 3 with %v", count, got, want)
	}
	for _, marker := range []string{"x", "TGlzdEFsaWFzZXM6YQ"} {
		_, err := s.ListKeys(t.Context(), &kms.ListKeysInput{Marker: &marker})
		wantError(t, err, "InvalidMarkerException", "*")
	}
}

func TestAliases(t *testing.T) {
	s := newServer(t, options{})
	one, _ := s.newKey(t)
	two, _ := s.newKey(t)
	create := func(name, key string) error {
		_, err := s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
		return err
	}
	for _, name := range []string{"alias/b", "alias/a", "alias/c"} {
		if err := create(name, one); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, create("alias/a", two), "AlreadyExistsException",
		"An alias with the name arn:verenc:"+account+":alias/a already exists")
	wantError(t, create("noprefix", one), "ValidationException",
		`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	wantError(t, create("alias/", one), "InvalidAliasNameException", "*")
	wantError(t, create("alias/d", "alias/a"), "ValidationException", "Aliases must refer to keys. Not aliases")
	wantError(t, create("alias/d", "11111111-2222-4333-8444-555555555555"), "NotFoundException", "*")

	if _, err := s.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/b"),
		TargetKeyId: &two}); err != nil {
		t.Fatal(err)
	}
	if out, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/b")}); err != nil ||
		*out.KeyMetadata.KeyId != two {
		t.Errorf("alias/b still names %+v, %v", out, err)
	}
	if _, err := s.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/c")}); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"DeleteAlias": func() error {
			_, err := s.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/c")})
			return err
		},
		"UpdateAlias": func() error {
			_, err := s.UpdateAlias(t.Context(),
				&kms.UpdateAliasInput{AliasName: aws.String("alias/c"), TargetKeyId: &two})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, f(), "NotFoundException", "Alias arn:verenc:"+account+":alias/c is not found.")
		})
	}
	list := func(key *string) (names []string) {
		pages := kms.NewListAliasesPaginator(s, &kms.ListAliasesInput{KeyId: key, Limit: aws.Int32(1)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range page.Aliases {
				if *a.AliasArn != "arn:verenc:"+account+":"+*a.AliasName || a.CreationDate == nil ||
					a.LastUpdatedDate.Before(*a.CreationDate) {
					t.Errorf("%+v", a)
				}
				names = append(names, *a.AliasName+" "+*a.TargetKeyId)
			}
		}
		return names
	}
	if got, want := list(nil), []string{"alias/a " + one, "alias/b " + two}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := list(&two), []string{"alias/b " + two}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for i := range 49 {
		if err := create(fmt.Sprintf("alias/many/%d", i), one); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, create("alias/many/49", one), "LimitExceededException", "*")
}

func TestKeyStates(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	ok(s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &id}))(t)
	sealed := ok(s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")}))(t)
	use := map[string]func() error{
		"Encrypt": func() error {
			_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
			return err
		},
		"Decrypt": func() error {
			_, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			return err
		},
		"ReEncrypt": func() error {
			_, err := s.ReEncrypt(t.Context(),
				&kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, DestinationKeyId: &id})
			return err
		},
		"GenerateDataKey": func() error {
			_, err := s.GenerateDataKey(t.Context(),
				&kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
			return err
		},
		"GenerateDataKeyWithoutPlaintext": func() error {
			_, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
				&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
			return err
		},
	}
	expect := func(state, code, message string) {
		t.Helper()
		for name, f := range use {
			err := f()
			if code == "" {
				if err != nil {
					t.Errorf("%s: %s: %v", state, name, err)
				}
				continue
			}
			wantError(t, err, code, message)
		}
	}
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("enabled", "", "")
	_, err := s.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id})
	wantError(t, err, "KMSInvalidStateException", arn+" is not pending deletion.")

	step(second(s.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id})))
	expect("disabled", "DisabledException", arn+" is disabled.")
	step(second(s.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &arn})))
	expect("enabled again", "", "")

	for days, message := range map[int32]string{6: "greater than or equal to 7", 31: "less than or equal to 30"} {
		_, err := s.ScheduleKeyDeletion(t.Context(),
			&kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: &days})
		wantError(t, err, "ValidationException",
			fmt.Sprintf(
				"1 validation error detected: Value '%d' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value %s",
				days, message))
	}
	scheduled, err := s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id})
	step(err)
	if *scheduled.KeyId != arn || scheduled.KeyState != types.KeyStatePendingDeletion ||
		*scheduled.PendingWindowInDays != 30 ||
		time.Until(*scheduled.DeletionDate).Round(time.Hour) != 30*24*time.Hour {
		t.Errorf("%+v", scheduled)
	}
	expect("pending deletion", "KMSInvalidStateException", arn+" is pending deletion.")
	for name, f := range map[string]func() error{
		"EnableKey":  func() error { return second(s.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id})) },
		"DisableKey": func() error { return second(s.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id})) },
		"ScheduleKeyDeletion": func() error {
			return second(s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}))
		},
		"CreateAlias": func() error {
			return second(s.CreateAlias(t.Context(),
				&kms.CreateAliasInput{AliasName: aws.String("alias/b"), TargetKeyId: &id}))
		},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, f(), "KMSInvalidStateException", arn+" is pending deletion.") })
	}
	described, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/a")})
	step(err)
	if m := described.KeyMetadata; m.Enabled || m.KeyState != types.KeyStatePendingDeletion ||
		!m.DeletionDate.Equal(*scheduled.DeletionDate) {
		t.Errorf("%+v", m)
	}
	cancelled, err := s.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id})
	step(err)
	if *cancelled.KeyId != arn {
		t.Errorf("%+v", cancelled)
	}
	expect("cancelled", "DisabledException", arn+" is disabled.")
	step(second(s.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id})))
	expect("enabled at last", "", "")
}

func second[A, B any](_ A, b B) B { return b }

func TestDeletionDestroysTheMaterial(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	kept, _ := s.newKey(t)
	ok(s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &id}))(t)
	sealed := ok(s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")}))(t)
	if _, err := s.ScheduleKeyDeletion(t.Context(),
		&kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	s.advance(7*24*time.Hour - time.Hour)
	s.reconcile(t)
	if n := len(s.objectsOf(t, id)); n != 2 {
		t.Errorf("an hour before its end the key has %d objects", n)
	}
	s.advance(2 * time.Hour)
	s.reconcile(t)
	if n, m := len(s.objectsOf(t, id)), len(s.objectsOf(t, kept)); n != 0 || m != 2 {
		t.Errorf("after its end the key has %d objects, the other key %d", n, m)
	}
	s.advance(-7*24*time.Hour - time.Hour) // the client's clock is that of its signatures
	_, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	wantError(t, err, "NotFoundException", "Key '"+arn+"' does not exist")
	_, err = s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/a")})
	wantError(t, err, "NotFoundException", "*")
	_, err = s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	wantError(t, err, "AccessDeniedException", denialOfCiphertext(rootUser, "Decrypt", notInReach))
	if out, err := s.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil || len(out.Keys) != 1 ||
		*out.Keys[0].KeyId != kept {
		t.Errorf("%+v, %v", out, err)
	}
}

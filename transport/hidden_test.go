package transport_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm/faults"
)

// TestNobodySeesTheDataKey proves with the recorded PKCS#11 calls of
// GenerateDataKeyWithoutPlaintext that its plaintext never enters this process: no call returns it
// or is given it, and the object that holds it cannot be read.
func TestNobodySeesTheDataKey(t *testing.T) {
	s := newServer(t, options{faults: true})
	id, _ := s.newKey(t)
	// The first one also has the token prove that it can.
	if _, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256}); err != nil {
		t.Fatal(err)
	}
	calls := recordCalls(t, s, func() {
		_, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
		if err != nil {
			t.Fatal(err)
		}
	})
	want := []string{"C_GenerateKey", "C_WrapKey", "C_DestroyObject", "C_EncryptInit", "C_Encrypt"}
	if got := functions(calls); !slices.Equal(got, want) {
		t.Fatalf("the calls are %v, not %v", got, want)
	}
	born := calls[0]
	for attribute, should := range map[uint]bool{pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_TOKEN: false,
		pkcs11.CKA_PRIVATE: true} {
		if _, given := born.Template[attribute]; !given || born.Template.Bool(attribute) != should {
			t.Errorf("attribute %#x of the data key is not %v (given: %v)", attribute, should, given)
		}
	}
	if calls[1].Mechanism != pkcs11.CKM_AES_KEY_WRAP_PAD {
		t.Errorf("the data key is wrapped with mechanism %#x", calls[1].Mechanism)
	}
}

// TestTheRecorderSeesPlaintext: the test above would find a plaintext if there was one. Here each
// operation's plaintext is known, and the recording contains it exactly where the operation returns
// it.
func TestTheRecorderSeesPlaintext(t *testing.T) {
	s := newServer(t, options{faults: true})
	id, _ := s.newKey(t)
	var made *kms.GenerateDataKeyWithoutPlaintextOutput
	hidden := recordCalls(t, s, func() {
		var err error
		made, err = s.GenerateDataKeyWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, NumberOfBytes: aws.Int32(64)})
		if err != nil {
			t.Fatal(err)
		}
	})
	var opened *kms.DecryptOutput
	shown := recordCalls(t, s, func() {
		var err error
		if opened, err = s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob}); err != nil {
			t.Fatal(err)
		}
	})
	carries := func(calls []faults.Call) bool {
		return slices.ContainsFunc(calls, func(c faults.Call) bool { return c.Carries(opened.Plaintext) })
	}
	if carries(hidden) {
		t.Error("the plaintext of GenerateDataKeyWithoutPlaintext crossed a PKCS#11 call")
	}
	if !carries(shown) {
		t.Error("the recorder does not see the plaintext that Decrypt reads")
	}
}

func recordCalls(t *testing.T, s *server, do func()) []faults.Call {
	t.Helper()
	if err := s.Faults.Record(); err != nil {
		t.Fatal(err)
	}
	do()
	s.Faults.StopRecording()
	calls, err := s.Faults.Recorded()
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

func functions(calls []faults.Call) (names []string) {
	for _, c := range calls {
		names = append(names, c.Function)
	}
	return names
}

package main

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestReplicas: a server whose group lacks a member serves with the others, and refuses to start with none.
func TestReplicas(t *testing.T) {
	s := initialised(t)
	first := "VERENC_TOKEN_SERIAL=" + s.soft.Serial
	r := s.with(first, "VERENC_TOKEN_REPLICAS=0000000000000000").serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.GenerateDataKey(t.Context(),
		&kms.GenerateDataKeyInput{KeyId: made.KeyMetadata.KeyId, NumberOfBytes: aws.Int32(8)}); err != nil {
		t.Error(err)
	}
	ready(t, "http://"+r.api+"/readyz")
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	refused(t, s.with("VERENC_TOKEN_LABEL=", "VERENC_TOKEN_SERIAL=1111111111111111",
		"VERENC_TOKEN_REPLICAS=0000000000000000").run(t, "serve"),
		"token is not available", "run verenc doctor")
}

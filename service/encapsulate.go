package service

import (
	"context"
	"fmt"

	"github.com/cloudflare/circl/kem"
	"github.com/cloudflare/circl/kem/mlkem/mlkem1024"
	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
	"github.com/cloudflare/circl/kem/mlkem/mlkem768"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// mlkemSchemes are the parameter sets of ML-KEM by KeySpec.
var mlkemSchemes = map[string]kem.Scheme{
	"ML_KEM_512":  mlkem512.Scheme(),
	"ML_KEM_768":  mlkem768.Scheme(),
	"ML_KEM_1024": mlkem1024.Scheme(),
}

// EncapsulateRequest is the input of Encapsulate.
type EncapsulateRequest struct {
	EncapsulationAlgorithm string   `shape:"EncapsulationAlgorithmSpec" required:"true"`
	KeyId                  string   `shape:"KeyIdType" required:"true"`
	DryRun                 bool     `shape:"NullableBooleanType"`
	GrantTokens            []string `shape:"GrantTokenList"`
}

// EncapsulateResponse is the output of Encapsulate.
type EncapsulateResponse struct {
	EncapsulationAlgorithm     string
	KeyId                      string
	SharedSecret               Secret
	SharedSecretCiphertextBlob []byte
}

// Wipe clears the secret once the answer is written.
func (r *EncapsulateResponse) Wipe() { clear(r.SharedSecret) }

// Encapsulate makes a shared secret of random bytes from the token. It returns the secret in clear,
// and as a ciphertext under the public key of an ML-KEM key (FIPS 203 section 7.2). The ciphertext
// is computed outside the token.
func (s *Service) Encapsulate(
	ctx context.Context, c *iam.Caller, in *EncapsulateRequest,
) (*EncapsulateResponse, error) {
	r := keyRequest{operation: "Encapsulate", keyID: in.KeyId, grantTokens: in.GrantTokens}
	k, scheme, err := s.encapsulation(ctx, c, r, in.EncapsulationAlgorithm)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	public, err := publicKey(k.PublicKey)
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	random, err := token.Random(ctx, scheme.EncapsulationSeedSize())
	if err != nil {
		return nil, tokenError(err)
	}
	defer clear(random)
	ciphertext, secret, err := scheme.EncapsulateDeterministically(public.(kem.PublicKey), random)
	if err != nil {
		return nil, apierror.InternalError(fmt.Errorf("encapsulate: %w", err))
	}
	s.recordUse(c, "Encapsulate", k)
	return &EncapsulateResponse{
		EncapsulationAlgorithm:     in.EncapsulationAlgorithm,
		KeyId:                      k.ARN(s.arns(ctx)),
		SharedSecret:               secret,
		SharedSecretCiphertextBlob: ciphertext,
	}, nil
}

// encapsulation finds the key and its scheme.
func (s *Service) encapsulation(
	ctx context.Context, c *iam.Caller, r keyRequest, algorithm string,
) (*Key, kem.Scheme, error) {
	k, err := s.keyFor(ctx, c, r)
	if err == nil {
		err = s.checkAlgorithm(algorithm, k)
	}
	if err != nil {
		return nil, nil, err
	}
	if reason, cannot := s.can.Missing[k.Spec]; cannot {
		return nil, nil, apierror.New(apierror.UnsupportedOperation, msgTokenCannot, "KeySpec "+k.Spec, reason)
	}
	return k, mlkemSchemes[k.Spec], nil
}

// DecapsulateRequest is the input of Decapsulate.
type DecapsulateRequest struct {
	EncapsulationAlgorithm     string   `shape:"EncapsulationAlgorithmSpec" required:"true"`
	KeyId                      string   `shape:"KeyIdType" required:"true"`
	SharedSecretCiphertextBlob []byte   `shape:"CiphertextType" required:"true"`
	DryRun                     bool     `shape:"NullableBooleanType"`
	GrantTokens                []string `shape:"GrantTokenList"`
}

// DecapsulateResponse is the output of Decapsulate.
type DecapsulateResponse struct {
	EncapsulationAlgorithm string
	KeyId                  string
	SharedSecret           Secret
}

// Wipe clears the secret once the answer is written.
func (r *DecapsulateResponse) Wipe() { clear(r.SharedSecret) }

// Decapsulate recovers a shared secret in the token. A ciphertext of the right length always gives
// 32 bytes: if the key did not make it, they are unrelated to any shared secret (implicit
// rejection, FIPS 203 section 7.3).
func (s *Service) Decapsulate(
	ctx context.Context, c *iam.Caller, in *DecapsulateRequest,
) (*DecapsulateResponse, error) {
	r := keyRequest{operation: "Decapsulate", keyID: in.KeyId, grantTokens: in.GrantTokens}
	k, scheme, err := s.encapsulation(ctx, c, r, in.EncapsulationAlgorithm)
	if err != nil {
		return nil, err
	}
	if len(in.SharedSecretCiphertextBlob) != scheme.CiphertextSize() {
		return nil, &apierror.Error{Code: apierror.InvalidCiphertext}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	private := k.CurrentMaterial().TokenKey(k, RolePair)
	secret, err := token.Decapsulate(ctx, private, keySpecs[k.Spec].pair, in.SharedSecretCiphertextBlob)
	if err != nil {
		return nil, tokenError(err)
	}
	s.recordUse(c, "Decapsulate", k)
	return &DecapsulateResponse{
		EncapsulationAlgorithm: in.EncapsulationAlgorithm,
		KeyId:                  k.ARN(s.arns(ctx)),
		SharedSecret:           secret,
	}, nil
}

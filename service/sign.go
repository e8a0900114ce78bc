package service

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"

	"filippo.io/mldsa"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// The values of MessageType.
const (
	messageRaw        = "RAW" // the default
	messageDigest     = "DIGEST"
	messageExternalMu = "EXTERNAL_MU"
)

// SignRequest is the input of Sign.
type SignRequest struct {
	KeyId            string   `shape:"KeyIdType" required:"true"`
	Message          []byte   `shape:"PlaintextType" required:"true"`
	MessageType      string   `shape:"MessageType"`
	GrantTokens      []string `shape:"GrantTokenList"`
	SigningAlgorithm string   `shape:"SigningAlgorithmSpec" required:"true"`
	DryRun           bool     `shape:"NullableBooleanType"`
}

// SignResponse is the output of Sign.
type SignResponse struct {
	KeyId            string
	Signature        []byte
	SigningAlgorithm string
}

// Sign signs a message, or its digest, with a private key in the token.
func (s *Service) Sign(ctx context.Context, c *iam.Caller, in *SignRequest) (*SignResponse, error) {
	k, scheme, input, err := s.signatureInput(ctx, c, "Sign", in)
	if err != nil {
		return nil, err
	}
	if reason, cannot := s.can.Missing[in.SigningAlgorithm]; cannot {
		return nil, apierror.New(apierror.UnsupportedOperation, msgTokenCannot, in.SigningAlgorithm, reason)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	signature, err := token.Sign(ctx, k.CurrentMaterial().TokenKey(k, RolePair), keySpecs[k.Spec].pair, scheme, input)
	if err != nil {
		return nil, tokenError(err)
	}
	s.recordUse(c, "Sign", k)
	return &SignResponse{KeyId: k.ARN(s.arns(ctx)), Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

func (in *SignRequest) condition(key string, _ *Key) []string {
	return signingCondition(key, in.SigningAlgorithm, in.MessageType)
}

func (in *VerifyRequest) condition(key string, _ *Key) []string {
	return signingCondition(key, in.SigningAlgorithm, in.MessageType)
}

func signingCondition(key, algorithm, messageType string) []string {
	switch key {
	case "kms:signingalgorithm":
		return one(algorithm)
	case "kms:messagetype":
		return one(orElse(messageType, messageRaw))
	}
	return nil
}

// muSize is the size of ML-DSA's message representative in bytes (API Reference, Sign,
// MessageType).
const muSize = 64

// signatureInput finds the key that signs or has signed a message. It returns the scheme and the
// bytes that it takes: a digest, the message itself for Ed25519 and ML-DSA, or μ.
func (s *Service) signatureInput(
	ctx context.Context, c *iam.Caller, op string, in *SignRequest,
) (*Key, hsm.Scheme, []byte, error) {
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   op,
		keyID:       in.KeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{conditions: in},
	})
	if err == nil {
		err = s.checkAlgorithm(in.SigningAlgorithm, k)
	}
	if err != nil {
		return nil, hsm.Scheme{}, nil, err
	}
	scheme, input, err := s.schemeInput(in.SigningAlgorithm, orElse(in.MessageType, messageRaw), in.Message)
	return k, scheme, input, err
}

func (s *Service) schemeInput(algorithm, messageType string, message []byte) (hsm.Scheme, []byte, error) {
	scheme := signingSchemes[algorithm]
	wrong := func() error {
		return apierror.New(apierror.Validation,
			"MessageType %s is not valid for algorithm %s.", messageType, algorithm)
	}
	wrongLength := func() error {
		return apierror.New(apierror.Validation, "Digest is invalid length for algorithm %s.", algorithm)
	}
	switch {
	case messageType == messageExternalMu && scheme.Algorithm == hsm.MLDSA:
		if reason, cannot := s.can.Missing[messageType]; cannot {
			return scheme, nil, apierror.New(apierror.UnsupportedOperation, msgTokenCannot,
				"MessageType "+messageType, reason)
		}
		if len(message) != muSize {
			return scheme, nil, wrongLength()
		}
		return hsm.Scheme{Algorithm: hsm.MLDSAMu}, message, nil
	case messageType == messageExternalMu:
		return scheme, nil, wrong()
	case scheme.Hash == 0:
		if messageType != messageRaw {
			return scheme, nil, wrong()
		}
	case scheme.Algorithm == hsm.HashEdDSA && messageType != messageDigest:
		return scheme, nil, wrong()
	case messageType == messageDigest && len(message) != scheme.Hash.Size():
		return scheme, nil, wrongLength()
	case messageType == messageRaw || scheme.Algorithm == hsm.HashEdDSA:
		// HashEdDSA hashes what is already a digest once more (API Reference, Sign, MessageType).
		h := scheme.Hash.New()
		h.Write(message)
		return scheme, h.Sum(nil), nil
	}
	return scheme, message, nil
}

// VerifyRequest is the input of Verify.
type VerifyRequest struct {
	KeyId            string   `shape:"KeyIdType" required:"true"`
	Message          []byte   `shape:"PlaintextType" required:"true"`
	MessageType      string   `shape:"MessageType"`
	Signature        []byte   `shape:"CiphertextType" required:"true"`
	SigningAlgorithm string   `shape:"SigningAlgorithmSpec" required:"true"`
	GrantTokens      []string `shape:"GrantTokenList"`
	DryRun           bool     `shape:"NullableBooleanType"`
}

// VerifyResponse is the output of Verify.
type VerifyResponse struct {
	KeyId            string
	SignatureValid   bool
	SigningAlgorithm string
}

// Verify checks a signature with the public key; KMSInvalidSignatureException if it is not valid.
func (s *Service) Verify(ctx context.Context, c *iam.Caller, in *VerifyRequest) (*VerifyResponse, error) {
	k, scheme, input, err := s.signatureInput(ctx, c, "Verify", &SignRequest{
		KeyId:            in.KeyId,
		Message:          in.Message,
		MessageType:      in.MessageType,
		GrantTokens:      in.GrantTokens,
		SigningAlgorithm: in.SigningAlgorithm,
	})
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	valid, err := s.verify(ctx, k, scheme, input, in.Signature)
	if err != nil {
		return nil, err
	}
	if !valid {
		return nil, &apierror.Error{Code: apierror.InvalidSignature} // AWS sends no message
	}
	s.recordUse(c, "Verify", k)
	return &VerifyResponse{
		KeyId:            k.ARN(s.arns(ctx)),
		SignatureValid:   true,
		SigningAlgorithm: in.SigningAlgorithm,
	}, nil
}

// verify tells whether a signature is valid. This is computed outside the token, except for
// signatures of μ, which no library supports.
func (s *Service) verify(ctx context.Context, k *Key, scheme hsm.Scheme, input, signature []byte) (bool, error) {
	if scheme.Algorithm != hsm.MLDSAMu {
		valid, err := verifyOnHost(k.PublicKey, scheme, input, signature)
		if err != nil {
			return false, apierror.InternalError(err)
		}
		return valid, nil
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return false, err
	}
	valid, err := token.VerifyMu(ctx, keySpecs[k.Spec].pair, k.PublicKey, input, signature)
	if err != nil {
		return false, tokenError(err)
	}
	return valid, nil
}

// verifyOnHost tells whether a signature is valid. It fails if the public key can't be read.
func verifyOnHost(spki []byte, scheme hsm.Scheme, input, signature []byte) (bool, error) {
	public, err := publicKey(spki)
	if err != nil {
		return false, err
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if scheme.Algorithm == hsm.PSS {
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(public, scheme.Hash, input, signature, options) == nil, nil
		}
		return rsa.VerifyPKCS1v15(public, scheme.Hash, input, signature) == nil, nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, input, signature), nil
	case secp256k1Key:
		return public.verify(input, signature), nil
	case ed25519.PublicKey:
		o := &ed25519.Options{}
		if scheme.Algorithm == hsm.HashEdDSA {
			o.Hash = crypto.SHA512
		}
		return ed25519.VerifyWithOptions(public, input, signature, o) == nil, nil
	case *mldsa.PublicKey:
		return mldsa.Verify(public, input, signature, nil) == nil, nil
	}
	return false, fmt.Errorf("verify signature: the public key is a %T", public)
}

// GetPublicKeyRequest is the input of GetPublicKey.
type GetPublicKeyRequest struct {
	KeyId       string   `shape:"KeyIdType" required:"true"`
	GrantTokens []string `shape:"GrantTokenList"`
}

// GetPublicKeyResponse is the output of GetPublicKey.
type GetPublicKeyResponse struct {
	KeyId                   string
	PublicKey               []byte
	CustomerMasterKeySpec   string
	KeySpec                 string
	KeyUsage                string
	EncryptionAlgorithms    []string `json:",omitempty"`
	EncapsulationAlgorithms []string `json:",omitempty"`
	SigningAlgorithms       []string `json:",omitempty"`
	KeyAgreementAlgorithms  []string `json:",omitempty"`
}

// GetPublicKey returns the public key of an asymmetric key.
func (s *Service) GetPublicKey(
	ctx context.Context, c *iam.Caller, in *GetPublicKeyRequest,
) (*GetPublicKeyResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "GetPublicKey", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	m := s.metadata(ctx, k)
	return &GetPublicKeyResponse{
		KeyId:                   m.Arn,
		PublicKey:               k.PublicKey,
		CustomerMasterKeySpec:   m.CustomerMasterKeySpec,
		KeySpec:                 m.KeySpec,
		KeyUsage:                m.KeyUsage,
		EncryptionAlgorithms:    m.EncryptionAlgorithms,
		EncapsulationAlgorithms: m.EncapsulationAlgorithms,
		SigningAlgorithms:       m.SigningAlgorithms,
		KeyAgreementAlgorithms:  m.KeyAgreementAlgorithms,
	}, nil
}

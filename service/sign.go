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
)

// MessageType says what a message to be signed is.
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
func (s *Service) Sign(ctx context.Context, c *Caller, in *SignRequest) (*SignResponse, error) {
	k, scheme, input, err := s.signatureInput(ctx, c, keyUse{op: "Sign", keyID: in.KeyId, grantTokens: in.GrantTokens,
		algorithm: in.SigningAlgorithm, messageType: in.MessageType}, in.Message)
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
	signature, err := token.Sign(ctx, k.current().key(k, RolePair), keySpecs[k.Spec].pair, scheme, input)
	if err != nil {
		return nil, tokenError(err)
	}
	s.used(c, "Sign", k)
	return &SignResponse{KeyId: k.ARN(s.arns(ctx)), Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

// muSize is the size of ML-DSA's message representative in bytes (API Reference, Sign, MessageType).
const muSize = 64

// signatureInput finds the key and gives the scheme and what it signs: a digest, the message itself for Ed25519 and ML-DSA, or μ.
func (s *Service) signatureInput(ctx context.Context, c *Caller, use keyUse, message []byte) (*Key, hsm.Scheme, []byte, error) {
	k, err := s.keyFor(ctx, c, use)
	if err == nil {
		err = s.checkAlgorithm(use.algorithm, k)
	}
	if err != nil {
		return nil, hsm.Scheme{}, nil, err
	}
	if use.messageType == "" {
		use.messageType = messageRaw
	}
	scheme, input, err := s.schemeInput(use, message)
	return k, scheme, input, err
}

func (s *Service) schemeInput(use keyUse, message []byte) (hsm.Scheme, []byte, error) {
	scheme, kind := signingSchemes[use.algorithm], use.messageType
	wrong := apierror.New(apierror.Validation, "MessageType %s is not valid for algorithm %s.", kind, use.algorithm)
	wrongLength := apierror.New(apierror.Validation, "Digest is invalid length for algorithm %s.", use.algorithm)
	switch {
	case kind == messageExternalMu && scheme.Algorithm == hsm.MLDSA:
		if reason, cannot := s.can.Missing[kind]; cannot {
			return scheme, nil, apierror.New(apierror.UnsupportedOperation, msgTokenCannot, "MessageType "+kind, reason)
		}
		if len(message) != muSize {
			return scheme, nil, wrongLength
		}
		return hsm.Scheme{Algorithm: hsm.MLDSAMu}, message, nil
	case kind == messageExternalMu:
		return scheme, nil, wrong
	case scheme.Hash == 0:
		if kind != messageRaw {
			return scheme, nil, wrong
		}
	case scheme.Algorithm == hsm.HashEdDSA && kind != messageDigest:
		return scheme, nil, wrong
	case kind == messageDigest && len(message) != scheme.Hash.Size():
		return scheme, nil, wrongLength
	case kind == messageRaw || scheme.Algorithm == hsm.HashEdDSA:
		// HashEdDSA hashes what is already a digest once more (API Reference, Sign, MessageType).
		h := scheme.Hash.New()
		h.Write(message)
		message = h.Sum(nil)
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

// Verify checks a signature with the public key; a wrong one is a KMSInvalidSignatureException.
func (s *Service) Verify(ctx context.Context, c *Caller, in *VerifyRequest) (*VerifyResponse, error) {
	k, scheme, input, err := s.signatureInput(ctx, c, keyUse{op: "Verify", keyID: in.KeyId, grantTokens: in.GrantTokens,
		algorithm: in.SigningAlgorithm, messageType: in.MessageType}, in.Message)
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
	s.used(c, "Verify", k)
	return &VerifyResponse{KeyId: k.ARN(s.arns(ctx)), SignatureValid: true, SigningAlgorithm: in.SigningAlgorithm}, nil
}

// verify tells whether a signature is good. The host computes it, but for μ, which no library takes.
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

// verifyOnHost tells whether a signature is good. It fails when the public key can't be read.
func verifyOnHost(spki []byte, scheme hsm.Scheme, input, signature []byte) (bool, error) {
	public, err := publicKey(spki)
	if err != nil {
		return false, err
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if scheme.Algorithm == hsm.PSS {
			return rsa.VerifyPSS(public, scheme.Hash, input, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil, nil
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
func (s *Service) GetPublicKey(ctx context.Context, c *Caller, in *GetPublicKeyRequest) (*GetPublicKeyResponse, error) {
	k, err := s.keyFor(ctx, c, keyUse{op: "GetPublicKey", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	m := s.metadata(ctx, k)
	return &GetPublicKeyResponse{KeyId: m.Arn, PublicKey: k.PublicKey, CustomerMasterKeySpec: m.CustomerMasterKeySpec, KeySpec: m.KeySpec,
		KeyUsage: m.KeyUsage, EncryptionAlgorithms: m.EncryptionAlgorithms, EncapsulationAlgorithms: m.EncapsulationAlgorithms, SigningAlgorithms: m.SigningAlgorithms,
		KeyAgreementAlgorithms: m.KeyAgreementAlgorithms}, nil
}

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
	k, input, err := s.signatureInput(ctx, c, keyUse{op: "Sign", keyID: in.KeyId, grantTokens: in.GrantTokens,
		algorithm: in.SigningAlgorithm, messageType: in.MessageType}, in.Message)
	if err != nil {
		return nil, err
	}
	if reason, cannot := s.can.Missing[in.SigningAlgorithm]; cannot {
		return nil, refuse(CodeUnsupportedOperation, msgTokenCannot, in.SigningAlgorithm, reason)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	signature, err := token.Sign(ctx, k.current().key(k, RolePair), keySpecs[k.Spec].pair, signingSchemes[in.SigningAlgorithm], input)
	if err != nil {
		return nil, tokenError(err)
	}
	s.used(c, "Sign", k)
	return &SignResponse{KeyId: s.arns.key(k), Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

// signatureInput finds the key and gives what its scheme signs: a digest, or the message itself for Ed25519 and ML-DSA.
func (s *Service) signatureInput(ctx context.Context, c *Caller, use keyUse, message []byte) (*Key, []byte, error) {
	k, err := s.keyFor(ctx, c, use)
	if err != nil {
		return nil, nil, err
	}
	if err := s.checkAlgorithm(use.algorithm, k); err != nil {
		return nil, nil, err
	}
	messageType := use.messageType
	if messageType == "" {
		messageType = messageRaw
	}
	scheme := signingSchemes[use.algorithm]
	switch wrong := refuse(CodeValidation, "MessageType %s is not valid for algorithm %s.", messageType, use.algorithm); {
	case messageType == messageExternalMu:
		if scheme.Algorithm == hsm.MLDSA {
			return nil, nil, refuse(CodeUnsupportedOperation, msgTokenCannot, "MessageType "+messageExternalMu, "PKCS#11 v3.2 has no mechanism for it")
		}
		return nil, nil, wrong
	case scheme.Algorithm == hsm.PureEdDSA, scheme.Algorithm == hsm.MLDSA:
		if messageType != messageRaw {
			return nil, nil, wrong
		}
		return k, message, nil
	case scheme.Algorithm == hsm.HashEdDSA && messageType != messageDigest:
		return nil, nil, wrong
	}
	if messageType == messageDigest && len(message) != scheme.Hash.Size() {
		return nil, nil, refuse(CodeValidation, "Digest is invalid length for algorithm %s.", use.algorithm)
	}
	// HashEdDSA hashes what is already a digest once more (API Reference, Sign, MessageType).
	if messageType == messageRaw || scheme.Algorithm == hsm.HashEdDSA {
		h := scheme.Hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	return k, message, nil
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

// Verify checks a signature with the public key, outside the token; a wrong one is a KMSInvalidSignatureException.
func (s *Service) Verify(ctx context.Context, c *Caller, in *VerifyRequest) (*VerifyResponse, error) {
	k, input, err := s.signatureInput(ctx, c, keyUse{op: "Verify", keyID: in.KeyId, grantTokens: in.GrantTokens,
		algorithm: in.SigningAlgorithm, messageType: in.MessageType}, in.Message)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	valid, err := verify(k.PublicKey, signingSchemes[in.SigningAlgorithm], input, in.Signature)
	if err != nil {
		return nil, internal(err)
	}
	if !valid {
		return nil, &Error{Code: CodeInvalidSignature} // AWS sends no message
	}
	s.used(c, "Verify", k)
	return &VerifyResponse{KeyId: s.arns.key(k), SignatureValid: true, SigningAlgorithm: in.SigningAlgorithm}, nil
}

// verify tells whether a signature is good. It fails when the public key can't be read.
func verify(spki []byte, scheme hsm.Scheme, input, signature []byte) (bool, error) {
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
	m := s.metadata(k)
	return &GetPublicKeyResponse{KeyId: m.Arn, PublicKey: k.PublicKey, CustomerMasterKeySpec: m.CustomerMasterKeySpec, KeySpec: m.KeySpec,
		KeyUsage: m.KeyUsage, EncryptionAlgorithms: m.EncryptionAlgorithms, EncapsulationAlgorithms: m.EncapsulationAlgorithms, SigningAlgorithms: m.SigningAlgorithms,
		KeyAgreementAlgorithms: m.KeyAgreementAlgorithms}, nil
}

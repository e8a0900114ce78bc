package service

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/blob"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/quota"
)

// GenerateDataKeyPairRequest is the input of GenerateDataKeyPair.
type GenerateDataKeyPairRequest struct {
	EncryptionContext map[string]string `shape:"EncryptionContextType"`
	KeyId             string            `shape:"KeyIdType" required:"true"`
	KeyPairSpec       string            `shape:"DataKeyPairSpec" required:"true"`
	GrantTokens       []string          `shape:"GrantTokenList"`
	Recipient         *RecipientInfo    `shape:"RecipientInfo"`
	DryRun            bool              `shape:"NullableBooleanType"`
}

// GenerateDataKeyPairResponse is the output of GenerateDataKeyPair.
type GenerateDataKeyPairResponse struct {
	PrivateKeyCiphertextBlob []byte
	PrivateKeyPlaintext      Secret
	PublicKey                []byte
	KeyId                    string
	KeyPairSpec              string
	KeyMaterialId            string `json:",omitempty"`
}

// Wipe clears the private key once the answer is written.
func (r *GenerateDataKeyPairResponse) Wipe() { clear(r.PrivateKeyPlaintext) }

// GenerateDataKeyPair returns a key pair from the token, its private key in clear and encrypted
// under a key.
func (s *Service) GenerateDataKeyPair(
	ctx context.Context, c *iam.Caller, in *GenerateDataKeyPairRequest,
) (*GenerateDataKeyPairResponse, error) {
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	p, err := s.dataKeyPair(ctx, c, "GenerateDataKeyPair", in)
	if err != nil {
		return nil, err
	}
	private := p.private
	if private == nil {
		if private, err = p.token.DecryptWrappedPair(ctx, p.material.pair(p.key), p.box, p.aad); err != nil {
			return nil, tokenError(err)
		}
	}
	s.recordUse(c, "GenerateDataKeyPair", p.key)
	return &GenerateDataKeyPairResponse{
		PrivateKeyCiphertextBlob: append(p.head, p.box...),
		PrivateKeyPlaintext:      private,
		PublicKey:                p.public,
		KeyId:                    p.key.ARN(s.arns(ctx)),
		KeyPairSpec:              in.KeyPairSpec,
		KeyMaterialId:            p.key.materialID(),
	}, nil
}

func (in *GenerateDataKeyPairRequest) condition(key string, _ *Key) []string {
	return pairCondition(key, in.KeyPairSpec)
}

func (in *GenerateDataKeyPairWithoutPlaintextRequest) condition(key string, _ *Key) []string {
	return pairCondition(key, in.KeyPairSpec)
}

func pairCondition(key, spec string) []string {
	if key == "kms:datakeypairspec" {
		return one(spec)
	}
	return encryptionCondition(key, specSymmetric)
}

// GenerateDataKeyPairWithoutPlaintextRequest is the input of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextRequest struct {
	EncryptionContext map[string]string `shape:"EncryptionContextType"`
	KeyId             string            `shape:"KeyIdType" required:"true"`
	KeyPairSpec       string            `shape:"DataKeyPairSpec" required:"true"`
	GrantTokens       []string          `shape:"GrantTokenList"`
	DryRun            bool              `shape:"NullableBooleanType"`
}

// GenerateDataKeyPairWithoutPlaintextResponse is the output of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextResponse struct {
	PrivateKeyCiphertextBlob []byte
	PublicKey                []byte
	KeyId                    string
	KeyPairSpec              string
	KeyMaterialId            string `json:",omitempty"`
}

// GenerateDataKeyPairWithoutPlaintext returns a key pair whose private key is generated and wrapped
// in the token.
func (s *Service) GenerateDataKeyPairWithoutPlaintext(
	ctx context.Context, c *iam.Caller, in *GenerateDataKeyPairWithoutPlaintextRequest,
) (*GenerateDataKeyPairWithoutPlaintextResponse, error) {
	p, err := s.dataKeyPair(ctx, c, "GenerateDataKeyPairWithoutPlaintext", &GenerateDataKeyPairRequest{
		EncryptionContext: in.EncryptionContext,
		KeyId:             in.KeyId,
		KeyPairSpec:       in.KeyPairSpec,
		GrantTokens:       in.GrantTokens,
		DryRun:            in.DryRun,
	})
	if err != nil {
		return nil, err
	}
	clear(p.private)
	s.recordUse(c, "GenerateDataKeyPairWithoutPlaintext", p.key)
	return &GenerateDataKeyPairWithoutPlaintextResponse{
		PrivateKeyCiphertextBlob: append(p.head, p.box...),
		PublicKey:                p.public,
		KeyId:                    p.key.ARN(s.arns(ctx)),
		KeyPairSpec:              in.KeyPairSpec,
		KeyMaterialId:            p.key.materialID(),
	}, nil
}

// dataKeyPair is a key pair with its private key encrypted in box. private is nil if the private
// key never left the token.
type dataKeyPair struct {
	*dataKeyPlan
	public, box, private []byte
}

func (s *Service) dataKeyPair(
	ctx context.Context, c *iam.Caller, op string, in *GenerateDataKeyPairRequest,
) (*dataKeyPair, error) {
	spec := keySpecs[in.KeyPairSpec].pair
	reason, cannot := s.can.Missing[in.KeyPairSpec]
	if spec == 0 || cannot && mlkemSchemes[in.KeyPairSpec] == nil { // pairs of ML-KEM are made outside the token
		if reason == "" {
			reason = "the token has no such keys"
		}
		return nil, apierror.New(apierror.UnsupportedOperation, msgTokenCannot, in.KeyPairSpec, reason)
	}
	form := blob.Sealed
	if s.can.WrapPairs[spec] {
		form = blob.WrappedPrivateKey
	}
	plan, err := s.planDataKey(ctx, c, keyRequest{
		operation:   op,
		keyID:       in.KeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{encryptionContext: in.EncryptionContext, conditions: in},
	}, blob.Header{Form: form})
	if err != nil {
		return nil, err
	}
	if plan.key.CustomKeyStore != "" {
		return nil, apierror.New(apierror.UnsupportedOperation,
			"%s origin is %s which is not valid for this operation.", plan.key.ARN(s.arns(ctx)), plan.key.Origin)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	if err := s.charge(c, quota.DataKeyPair(in.KeyPairSpec)); err != nil {
		return nil, err
	}
	if err := s.spendIV(ctx, plan.key, plan.material); err != nil {
		return nil, err
	}
	p := &dataKeyPair{dataKeyPlan: plan}
	if plan.header.Form == blob.WrappedPrivateKey {
		p.public, p.box, err = plan.token.GenerateWrappedPair(ctx, plan.material.pair(plan.key), spec, plan.aad)
		return p, tokenError(err)
	}
	if p.private, p.public, err = s.openPair(ctx, plan.token, in.KeyPairSpec); err != nil {
		return nil, err
	}
	p.box, err = plan.token.Encrypt(ctx, plan.material.TokenKey(plan.key, RoleSeal), p.private, plan.aad)
	return p, tokenError(err)
}

// pairToken is the part of a Token that openPair needs.
type pairToken interface {
	DataKeyToken
	RandomToken
}

// openPair makes a key pair whose private key leaves the token at once, for KMS keys without a wrap
// key (imported material) and for types of pairs that the token can't wrap: ML-KEM and, with
// SoftHSM, Ed25519. These are made here from random bytes of the token.
func (s *Service) openPair(ctx context.Context, token pairToken, pairSpec string) (private, public []byte, err error) {
	spec, scheme := keySpecs[pairSpec].pair, mlkemSchemes[pairSpec]
	if s.can.WrapPairs[spec] {
		public, private, err = token.GenerateExportedPair(ctx, spec)
		return private, public, tokenError(err)
	}
	size := ed25519.SeedSize
	if scheme != nil {
		size = scheme.SeedSize()
	} else if spec != hsm.Ed25519 {
		return nil, nil, apierror.New(apierror.UnsupportedOperation,
			"The token cannot wrap a private key of type %s.", spec)
	}
	seed, err := token.Random(ctx, size)
	if err != nil {
		return nil, nil, tokenError(err)
	}
	defer clear(seed)
	if scheme != nil {
		private, public, err = mlkemPair(pairSpec, seed)
	} else {
		private, public, err = ed25519Pair(seed)
	}
	if err != nil {
		return nil, nil, apierror.InternalError(err)
	}
	return private, public, nil
}

func ed25519Pair(seed []byte) (private, public []byte, err error) {
	key := ed25519.NewKeyFromSeed(seed)
	defer clear(key)
	if private, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, nil, fmt.Errorf("encode private key: %w", err)
	}
	if public, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, nil, fmt.Errorf("encode public key: %w", err)
	}
	return private, public, nil
}

// mlkemPair returns the private key as its seed (RFC 9935 section 6), as AWS does.
func mlkemPair(spec string, seed []byte) (private, public []byte, err error) {
	key, _ := mlkemSchemes[spec].DeriveKeyPair(seed)
	encoded, err := key.MarshalBinary()
	if err != nil {
		return nil, nil, fmt.Errorf("encode public key: %w", err)
	}
	algorithm := pkix.AlgorithmIdentifier{Algorithm: mlkemOIDs[spec]}
	bits := asn1.BitString{Bytes: encoded, BitLength: 8 * len(encoded)}
	if public, err = asn1.Marshal(subjectPublicKeyInfo{algorithm, bits}); err != nil {
		return nil, nil, fmt.Errorf("encode public key: %w", err)
	}
	choice := append([]byte{0x80, byte(len(seed))}, seed...) // [0] IMPLICIT OCTET STRING
	defer clear(choice)
	if private, err = asn1.Marshal(struct { // RFC 5958 section 2
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{0, algorithm, choice}); err != nil {
		return nil, nil, fmt.Errorf("encode private key: %w", err)
	}
	return private, public, nil
}

package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

const agreementECDH = "ECDH" // the only KeyAgreementAlgorithmSpec

// DeriveSharedSecretRequest is the input of DeriveSharedSecret.
type DeriveSharedSecretRequest struct {
	KeyId                 string         `shape:"KeyIdType" required:"true"`
	KeyAgreementAlgorithm string         `shape:"KeyAgreementAlgorithmSpec" required:"true"`
	PublicKey             []byte         `shape:"PublicKeyType" required:"true"`
	GrantTokens           []string       `shape:"GrantTokenList"`
	DryRun                bool           `shape:"NullableBooleanType"`
	Recipient             *RecipientInfo `shape:"RecipientInfo"`
}

// DeriveSharedSecretResponse is the output of DeriveSharedSecret.
type DeriveSharedSecretResponse struct {
	KeyId                 string
	SharedSecret          Secret
	KeyAgreementAlgorithm string
	KeyOrigin             string
}

// Wipe clears the secret once the answer is written.
func (r *DeriveSharedSecretResponse) Wipe() { clear(r.SharedSecret) }

// DeriveSharedSecret returns the raw ECDH secret (NIST SP 800-56A section 5.7.1.2) of a key in the
// token and a peer's public key.
func (s *Service) DeriveSharedSecret(
	ctx context.Context, c *iam.Caller, in *DeriveSharedSecretRequest,
) (*DeriveSharedSecretResponse, error) {
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   "DeriveSharedSecret",
		keyID:       in.KeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{conditions: in},
	})
	if err != nil {
		return nil, err
	}
	peer, err := peerPoint(in.PublicKey, k)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	secret, err := token.Derive(ctx, k.CurrentMaterial().TokenKey(k, RolePair), keySpecs[k.Spec].pair, peer)
	if err != nil {
		return nil, tokenError(err)
	}
	s.recordUse(c, "DeriveSharedSecret", k)
	return &DeriveSharedSecretResponse{
		KeyId:                 k.ARN(s.arns(ctx)),
		SharedSecret:          secret,
		KeyAgreementAlgorithm: agreementECDH,
		KeyOrigin:             k.Origin,
	}, nil
}

func (in *DeriveSharedSecretRequest) condition(key string, _ *Key) []string {
	if key == "kms:keyagreementalgorithm" {
		return one(in.KeyAgreementAlgorithm)
	}
	return nil
}

// peerPoint returns the peer's uncompressed point, if it is on the curve of the key. crypto/x509
// rejects a point that is on no curve.
func peerPoint(spki []byte, k *Key) ([]byte, error) {
	wrong := apierror.New(apierror.Validation, "PublicKey is not a valid public key for key spec %s.", k.Spec)
	peer, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, apierror.NoMessage(apierror.Validation).WithCause(err) // AWS sends no message
	}
	own, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	theirs, ok := peer.(*ecdsa.PublicKey)
	ours, ec := own.(*ecdsa.PublicKey)
	if !ok || !ec || theirs.Curve != ours.Curve {
		return nil, wrong
	}
	point, err := theirs.ECDH()
	if err != nil {
		return nil, wrong.WithCause(err)
	}
	return point.Bytes(), nil
}

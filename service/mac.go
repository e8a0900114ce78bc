package service

import (
	"context"
	"crypto/subtle"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// GenerateMacRequest is the input of GenerateMac.
type GenerateMacRequest struct {
	Message      []byte   `shape:"PlaintextType" required:"true"`
	KeyId        string   `shape:"KeyIdType" required:"true"`
	MacAlgorithm string   `shape:"MacAlgorithmSpec" required:"true"`
	GrantTokens  []string `shape:"GrantTokenList"`
	DryRun       bool     `shape:"NullableBooleanType"`
}

// GenerateMacResponse is the output of GenerateMac.
type GenerateMacResponse struct {
	Mac          []byte
	MacAlgorithm string
	KeyId        string
}

// GenerateMac computes the HMAC (FIPS 198-1) of a message in the token.
func (s *Service) GenerateMac(
	ctx context.Context, c *iam.Caller, in *GenerateMacRequest,
) (*GenerateMacResponse, error) {
	k, mac, err := s.mac(ctx, c, "GenerateMac", in)
	if err != nil {
		return nil, err
	}
	s.recordUse(c, "GenerateMac", k)
	return &GenerateMacResponse{Mac: mac, MacAlgorithm: in.MacAlgorithm, KeyId: k.ARN(s.arns(ctx))}, nil
}

func (in *GenerateMacRequest) condition(key string, _ *Key) []string {
	return macCondition(key, in.MacAlgorithm)
}

func (in *VerifyMacRequest) condition(key string, _ *Key) []string {
	return macCondition(key, in.MacAlgorithm)
}

func macCondition(key, algorithm string) []string {
	if key == "kms:macalgorithm" {
		return one(algorithm)
	}
	return nil
}

// mac finds the key and computes a MAC with it, for one of the operations.
func (s *Service) mac(ctx context.Context, c *iam.Caller, op string, in *GenerateMacRequest) (*Key, []byte, error) {
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   op,
		keyID:       in.KeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{conditions: in},
	})
	if err != nil {
		return nil, nil, err
	}
	if err := s.checkAlgorithm(in.MacAlgorithm, k); err != nil {
		return nil, nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, nil, err
	}
	mac, err := token.MAC(ctx, k.CurrentMaterial().TokenKey(k, RoleMAC), macHashes[in.MacAlgorithm], in.Message)
	return k, mac, tokenError(err)
}

// VerifyMacRequest is the input of VerifyMac.
type VerifyMacRequest struct {
	Message      []byte   `shape:"PlaintextType" required:"true"`
	KeyId        string   `shape:"KeyIdType" required:"true"`
	MacAlgorithm string   `shape:"MacAlgorithmSpec" required:"true"`
	Mac          []byte   `shape:"CiphertextType" required:"true"`
	GrantTokens  []string `shape:"GrantTokenList"`
	DryRun       bool     `shape:"NullableBooleanType"`
}

// VerifyMacResponse is the output of VerifyMac.
type VerifyMacResponse struct {
	KeyId        string
	MacValid     bool
	MacAlgorithm string
}

// VerifyMac computes the HMAC again and compares it with the given one; KMSInvalidMacException if
// they differ.
func (s *Service) VerifyMac(ctx context.Context, c *iam.Caller, in *VerifyMacRequest) (*VerifyMacResponse, error) {
	k, mac, err := s.mac(ctx, c, "VerifyMac", &GenerateMacRequest{
		Message:      in.Message,
		KeyId:        in.KeyId,
		MacAlgorithm: in.MacAlgorithm,
		GrantTokens:  in.GrantTokens,
		DryRun:       in.DryRun,
	})
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(mac, in.Mac) != 1 {
		return nil, &apierror.Error{Code: apierror.InvalidMac} // AWS sends no message
	}
	s.recordUse(c, "VerifyMac", k)
	return &VerifyMacResponse{KeyId: k.ARN(s.arns(ctx)), MacValid: true, MacAlgorithm: in.MacAlgorithm}, nil
}

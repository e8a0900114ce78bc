package service

import "context"

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

// Encapsulate is for ML-KEM keys (FIPS 203). No token has them yet (PKCS#11 v3.2), so that it refuses every key: those
// of other usages as AWS does.
func (s *Service) Encapsulate(ctx context.Context, c *Caller, in *EncapsulateRequest) (*EncapsulateResponse, error) {
	return nil, s.refuseMLKEM(ctx, c, keyUse{op: "Encapsulate", keyID: in.KeyId, grantTokens: in.GrantTokens, algorithm: in.EncapsulationAlgorithm})
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

// Decapsulate is the other half of Encapsulate, and refuses as it does.
func (s *Service) Decapsulate(ctx context.Context, c *Caller, in *DecapsulateRequest) (*DecapsulateResponse, error) {
	return nil, s.refuseMLKEM(ctx, c, keyUse{op: "Decapsulate", keyID: in.KeyId, grantTokens: in.GrantTokens, algorithm: in.EncapsulationAlgorithm})
}

func (s *Service) refuseMLKEM(ctx context.Context, c *Caller, use keyUse) error {
	k, err := s.keyFor(ctx, c, use)
	if err != nil {
		return err
	}
	return refuse(CodeUnsupportedOperation, msgTokenCannot, "KeySpec "+k.Spec, s.can.Missing[k.Spec])
}

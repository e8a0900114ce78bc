package inspect

import (
	"context"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/iam"
)

func attestationOperations() []service.Operation {
	return []service.Operation{
		ofKey(service.Operation{
			Name:   "GetKeyAttestation",
			Errors: service.ErrorCodes{apierror.UnsupportedOperation, apierror.KeyUnavailable},
		}, func(in *GetKeyAttestationRequest) string { return in.KeyId }, (*Inspector).getKeyAttestation),
	}
}

// GetKeyAttestationRequest is the input of GetKeyAttestation.
type GetKeyAttestationRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// GetKeyAttestationResponse is the output of GetKeyAttestation.
type GetKeyAttestationResponse struct {
	KeyId       string
	Attestation string // a C2SP signed note: see evidence.Attestation
	// VerifierKey is the public key that has signed it, as verenc audit keys prints it. Who takes it
	// from this answer trusts the server that gave it.
	VerifierKey string
}

func (i *Inspector) getKeyAttestation(ctx context.Context, _ *iam.Caller, k *service.Key, _ *GetKeyAttestationRequest) (
	*GetKeyAttestationResponse, error) {
	if i.examiner == nil || i.signer == nil {
		return nil, apierror.New(apierror.UnsupportedOperation,
			"This server keeps no audit log, whose key would sign the attestation.")
	}
	if i.service.StateOf(k) == service.StateUnavailable {
		return nil, apierror.New(apierror.KeyUnavailable, apierror.MessageUnavailable)
	}
	statement, err := i.examiner.Attest(ctx, k.Account, k.Region, k.ID)
	if err != nil {
		return nil, service.FromToken(err)
	}
	origin, signer, err := i.signer(ctx)
	if err != nil {
		return nil, service.FromToken(err)
	}
	signed, err := statement.Sign(ctx, origin, signer)
	if err != nil {
		return nil, service.FromToken(err)
	}
	key, err := audit.VerifierKey(origin, signer.Public())
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	return &GetKeyAttestationResponse{KeyId: k.ID, Attestation: string(signed), VerifierKey: key}, nil
}

package transport

import (
	"bytes"
	"net/http"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/transport/sigv4"
)

// approveTarget is the operation whose requests are kept as proofs.
const approveTarget = ownPrefix + "ApproveRequest"

// proofOf returns what proves that a verified request was signed; nil for one that came with a client certificate only.
func proofOf(r *http.Request, body []byte) (*iam.Proof, error) {
	if _, signed := r.Header["Authorization"]; !signed {
		return nil, nil
	}
	p, err := sigv4.Prove(r, body)
	if err != nil {
		return nil, err
	}
	return &iam.Proof{
		Scope: iam.CredentialScope{AccessKeyID: p.Scope.AccessKeyID, Date: p.Scope.Date, Region: p.Scope.Region,
			Service: p.Scope.Service, SessionToken: p.Scope.SecurityToken},
		At: p.At, Request: p.Request, Signature: p.Signature[:], Body: bytes.Clone(body),
	}, nil
}

// VerifyProof reports whether an approval was signed with a secret. It implements service.Config.VerifyProof.
func VerifyProof(secret []byte, p *iam.Proof) bool {
	proof := sigv4.Proof{
		Scope: sigv4.Scope{AccessKeyID: p.Scope.AccessKeyID, Date: p.Scope.Date, Region: p.Scope.Region,
			Service: p.Scope.Service, SecurityToken: p.Scope.SessionToken},
		At: p.At, Request: p.Request,
	}
	return copy(proof.Signature[:], p.Signature) == len(proof.Signature) &&
		len(p.Signature) == len(proof.Signature) && proof.Verify(secret, "kms", approveTarget, p.Body)
}

package service

import (
	"context"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/quota"
)

// cryptographic are the families whose operations share quotas by the key that they use.
var cryptographic = map[Family]bool{FamilyEncryption: true, FamilyDataKeys: true, FamilySignatures: true,
	FamilyMACs: true, FamilyKeyExchange: true, FamilyRandomNumbers: true}

// limited is an operation within the quotas of its caller. Those that share a quota are counted when
// their key is known.
func (s *Service) limited(c *iam.Caller, op string,
	do func(context.Context) (any, error)) func(context.Context) (any, error) {
	if s.cfg.Quotas == nil {
		return do
	}
	return func(ctx context.Context) (any, error) {
		leave, ok := s.cfg.Quotas.Enter(c.User())
		if !ok {
			return nil, errThrottled()
		}
		defer leave()
		var err error
		switch o := operations[op]; {
		case o == nil || !cryptographic[o.Family]:
			err = s.charge(c, quota.Class(op))
		case o.Key == nil: // GenerateRandom
			err = s.charge(c, quota.Symmetric)
		}
		if err != nil {
			return nil, err
		}
		return do(ctx)
	}
}

// chargeForKey counts the use of a key.
func (s *Service) chargeForKey(c *iam.Caller, op *Operation, k *Key) error {
	if s.cfg.Quotas == nil || !cryptographic[op.Family] {
		return nil
	}
	return s.charge(c, quotaClass(k.Spec))
}

// quotaClass is the class of requests that use a key of a spec.
func quotaClass(spec string) quota.Class {
	switch kind, _, _ := strings.Cut(spec, "_"); {
	case kind == "RSA":
		return quota.RSA
	case kind == "ECC", kind == "SM2":
		return quota.ECC
	case strings.HasPrefix(spec, "ML_DSA"):
		return quota.MLDSA
	case strings.HasPrefix(spec, "ML_KEM"):
		return quota.MLKEM
	}
	return quota.Symmetric
}

// charge counts a request, and refuses one beyond the quotas.
func (s *Service) charge(c *iam.Caller, class quota.Class) error {
	if !s.cfg.Quotas.Allow(c.Account, c.User(), class) {
		return errThrottled()
	}
	return nil
}

func errThrottled() error {
	return apierror.New(apierror.Throttling,
		"You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// IsQuotaClass reports whether requests can be counted as a class.
func IsQuotaClass(class quota.Class) bool {
	if o := operations[string(class)]; o != nil {
		return !cryptographic[o.Family]
	}
	for name, spec := range keySpecs {
		if quotaClass(name) == class || spec.pair != 0 && quota.DataKeyPair(name) == class {
			return true
		}
	}
	return false
}

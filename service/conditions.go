package service

import (
	"context"
	"strconv"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
)

// conditionSource gives the values of the condition keys that come from the members of a request.
// Requests of operations with such keys implement it.
type conditionSource interface {
	// condition returns the values of a condition key of the operation, given in lower case; none
	// if the request does not have it. k is the key that is asked for; nil for an operation without
	// one.
	condition(key string, k *Key) []string
}

// conditions looks up the condition keys that policies ask for, other than those of principals,
// tags and encryption contexts, which package policy knows (AWS pages "Condition keys for AWS KMS"
// and "AWS global condition context keys").
//
// Three kinds of AWS's keys never have a value. kms:ViaService is for requests of AWS services, of
// which there are none here. kms:RecipientAttestation:... is for attestation documents of AWS
// Nitro, which no operation takes. Keys of external key stores are for their proxies, which are not
// supported.
func (s *Service) conditions(ctx context.Context, c *iam.Caller, a *access, r *policy.Request) func(
	[]string, string) []string {
	return func(values []string, key string) []string {
		if key == policy.Approvals || key == policy.ApprovedBy {
			return append(values, a.approvalCondition(c, r, key)...)
		}
		if all, global := s.iam.GlobalConditions(values, c, key); global {
			return all
		}
		return append(values, s.condition(ctx, a, key)...)
	}
}

// one is a list of one value, or of none if it is empty.
func one(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// KeyConditions are the condition keys of all operations on a key, besides the global ones.
var KeyConditions = ConditionKeys{"aws:ResourceTag/", "kms:CallerAccount", "kms:KeyOrigin",
	"kms:KeySpec", "kms:KeyUsage", "kms:MultiRegion", "kms:MultiRegionKeyType",
	"kms:RequestAlias", "kms:ResourceAliases"}

// condition returns the values of a condition key of KMS.
func (s *Service) condition(ctx context.Context, a *access, key string) []string {
	k := a.key
	if k == nil {
		k = a.request.newKey
	}
	if k != nil {
		if v, known := keyCondition(k, key); known {
			return one(v)
		}
	}
	switch key {
	case "kms:requestalias":
		return one(aliasIn(a.request.keyID))
	case "kms:resourcealiases":
		return s.aliasNames(ctx, a.key)
	}
	if o := operations[a.request.operation]; o == nil || !o.hasCondition(key) {
		return nil
	}
	switch key {
	case "kms:grantisforawsresource":
		return one("false") // no AWS service calls here on anybody's behalf
	case "kms:trailingdayswithoutkeyusage":
		return one(s.unusedDays(ctx, a.key))
	}
	if a.request.conditions == nil {
		return nil
	}
	return a.request.conditions.condition(key, a.key)
}

// keyCondition returns the value of a condition key that describes the key itself.
func keyCondition(k *Key, key string) (value string, known bool) {
	switch key {
	case "kms:keyspec", "kms:customermasterkeyspec":
		return k.Spec, true
	case "kms:keyusage", "kms:customermasterkeyusage":
		return k.Usage, true
	case "kms:keyorigin":
		return k.Origin, true
	case "kms:multiregion":
		return strconv.FormatBool(k.multiRegion()), true
	case "kms:multiregionkeytype":
		switch {
		case !k.multiRegion():
			return "", true
		case k.primary():
			return "PRIMARY", true
		}
		return "REPLICA", true
	}
	return "", false
}

func (s *Service) aliasNames(ctx context.Context, k *Key) (names []string) {
	if k == nil {
		return nil
	}
	aliases, err := s.store.Aliases(ctx, k.Account, k.Region, k.ID, "", maxAliases)
	if err != nil {
		return one(unreadable)
	}
	for _, a := range aliases {
		names = append(names, a.Name)
	}
	return names
}

func orElse(v, other string) string {
	if v == "" {
		return other
	}
	return v
}

// decimal is a number that a request has, or empty.
func decimal(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

// encryptionCondition returns the condition key that all operations of symmetric encryption have.
func encryptionCondition(key, algorithm string) []string {
	if key == "kms:encryptionalgorithm" {
		return one(orElse(algorithm, specSymmetric))
	}
	return nil
}

// unreadable is the value of a condition key when the store fails: neither a condition on its
// presence nor one on its absence is met.
const unreadable = "\x00"

// unusedDays is the number of whole days since a key was last used; empty if it never was.
func (s *Service) unusedDays(ctx context.Context, k *Key) string {
	u, err := s.LastUse(ctx, k)
	switch {
	case err != nil:
		return unreadable
	case u == nil:
		return ""
	}
	return strconv.Itoa(int(s.now().Sub(u.At) / day))
}

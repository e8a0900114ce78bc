package service

import (
	"context"
	"strconv"
	"time"
)

// conditions gives the values of condition keys that come neither from principals nor from tags and encryption contexts
// (AWS pages "Condition keys for AWS KMS" and "AWS global condition context keys"). It works only when a policy asks.
//
// Three kinds of AWS's keys never have a value. kms:ViaService is for requests of AWS services, of which there are
// none here. kms:RecipientAttestation:... is for attestation documents of AWS Nitro, which no operation takes. Keys of
// external key stores are for the proxies of these, which are not served.
func (s *Service) conditions(ctx context.Context, c *Caller, a *access) func([]string, string) []string {
	return func(values []string, key string) []string {
		if v, global := s.globalCondition(c, key); global {
			return append(values, v)
		}
		if a.key != nil || a.use.newKey != nil {
			if v, known := keyCondition(a, key); known {
				return appendSome(values, v)
			}
		}
		if v, known := requestCondition(a, key); known {
			return appendSome(values, v)
		}
		return s.listCondition(ctx, values, a, key)
	}
}

func appendSome(values []string, v string) []string {
	if v == "" {
		return values
	}
	return append(values, v)
}

func (s *Service) globalCondition(c *Caller, key string) (string, bool) {
	switch key {
	case "aws:sourceip":
		return c.SourceIP, c.SourceIP != ""
	case "aws:currenttime":
		return s.now().UTC().Format(time.RFC3339), true
	case "aws:epochtime":
		return strconv.FormatInt(s.now().Unix(), 10), true
	case "aws:securetransport":
		return strconv.FormatBool(c.TLS != nil), true
	case "aws:useragent":
		return c.UserAgent, c.UserAgent != ""
	case "aws:requestedregion":
		return c.Region, c.Region != ""
	case "aws:tokenissuetime":
		if c.Session != nil {
			return c.Session.IssuedAt.UTC().Format(time.RFC3339), true
		}
	}
	return "", false
}

// keyCondition is of the key that there is, or is to be made.
func keyCondition(a *access, key string) (string, bool) {
	k := a.key
	multiRegion := false
	if k == nil {
		k, multiRegion = a.use.newKey, a.use.multiRegion
	}
	switch key {
	case "kms:keyspec", "kms:customermasterkeyspec":
		return k.Spec, true
	case "kms:keyusage", "kms:customermasterkeyusage":
		return k.Usage, true
	case "kms:keyorigin":
		return k.Origin, true
	case "kms:multiregion":
		return strconv.FormatBool(k.multiRegion() || multiRegion), true
	case "kms:multiregionkeytype":
		switch {
		case multiRegion, k.multiRegion() && k.primary():
			return "PRIMARY", true
		case k.multiRegion():
			return "REPLICA", true
		}
		return "", true
	}
	return "", false
}

// requestCondition is of a member of the request.
func requestCondition(a *access, key string) (string, bool) {
	u := &a.use
	switch key {
	case "sts:externalid":
		return a.externalID, true
	case "sts:rolesessionname":
		return a.sessionName, true
	case "kms:requestalias":
		return aliasIn(u.keyID), true
	}
	if !a.hasCondition(key) {
		return "", false
	}
	switch key {
	case "kms:encryptionalgorithm":
		return orElse(u.algorithm, specSymmetric), true
	case "kms:signingalgorithm", "kms:macalgorithm", "kms:keyagreementalgorithm":
		return u.algorithm, true
	case "kms:messagetype":
		return orElse(u.messageType, messageRaw), true
	case "kms:datakeypairspec":
		return u.pairSpec, true
	case "kms:bypasspolicylockoutsafetycheck":
		return strconv.FormatBool(u.bypassLockout), true
	case "kms:rotationperiodindays":
		return number(u.rotationPeriod), true
	case "kms:schedulekeydeletionpendingwindowindays":
		return number(u.pendingWindow), true
	case "kms:wrappingalgorithm":
		return u.wrappingAlgorithm, true
	case "kms:wrappingkeyspec":
		return u.wrappingSpec, true
	case "kms:expirationmodel":
		return orElse(u.expirationModel, expires), true
	case "kms:validto":
		if !u.validTo.IsZero() {
			return u.validTo.UTC().Format(time.RFC3339), true
		}
	case "kms:replicaregion":
		return u.replicaRegion, true
	case "kms:primaryregion":
		return u.primaryRegion, true
	case "kms:grantisforawsresource":
		return "false", true // no AWS service calls here on anybody's behalf
	case "kms:reencryptonsamekey":
		// An absent key is another one, or a policy could ask for the absence of others' keys.
		return strconv.FormatBool(u.otherKey != "" && u.otherKey == a.key.ID), true
	case "kms:granteeprincipal", "kms:granteeserviceprincipal", "kms:retiringprincipal", "kms:retiringserviceprincipal",
		"kms:grantconstraintsourcearn":
		return grantCondition(u.grant, key), true
	}
	return "", false
}

func orElse(v, other string) string {
	if v == "" {
		return other
	}
	return v
}

func number(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

// hasCondition tells whether requests of the operation have a condition key, given in lower case.
func (a *access) hasCondition(key string) bool {
	o := operations[a.use.op]
	return o != nil && o.hasCondition(key)
}

func grantCondition(g *Grant, key string) string {
	if g == nil {
		return ""
	}
	service := map[bool]string{true: "service", false: ""}
	switch key {
	case "kms:grantee" + service[g.GranteeIsService] + "principal":
		return g.Grantee
	case "kms:retiring" + service[g.RetiringIsService] + "principal":
		return g.Retiring
	case "kms:grantconstraintsourcearn":
		return g.SourceARN
	}
	return ""
}

// listCondition is of the keys that have several values.
func (s *Service) listCondition(ctx context.Context, values []string, a *access, key string) []string {
	switch g := a.use.grant; key {
	case "kms:grantoperations":
		if g != nil {
			return append(values, g.Operations...)
		}
	case "kms:grantconstrainttype":
		if g != nil && len(g.Equals) > 0 {
			values = append(values, "EncryptionContextEquals")
		}
		if g != nil && len(g.Subset) > 0 {
			values = append(values, "EncryptionContextSubset")
		}
	case "kms:resourcealiases":
		if a.key == nil {
			return values
		}
		aliases, err := s.store.Aliases(ctx, a.key.Account, a.key.Region, a.key.ID, "", maxAliases)
		if err != nil {
			return append(values, unreadable)
		}
		for _, alias := range aliases {
			values = append(values, alias.Name)
		}
	case "kms:trailingdayswithoutkeyusage":
		if a.hasCondition(key) {
			return appendSome(values, s.unusedDays(ctx, a.key))
		}
	case "aws:tagkeys":
		return append(values, a.use.tagKeys...)
	}
	return values
}

// unreadable is the value of a condition key when the store fails: neither a condition on its presence nor one on its
// absence is met.
const unreadable = "\x00"

// unusedDays are the whole days since a key was last used, or empty if it never was.
func (s *Service) unusedDays(ctx context.Context, k *Key) string {
	u, err := s.lastUse(ctx, k)
	switch {
	case err != nil:
		return unreadable
	case u == nil:
		return ""
	}
	return strconv.Itoa(int(s.now().Sub(u.At) / day))
}

package policy

import (
	"maps"
	"slices"
)

// Grant lets one principal use a key for some operations. See AWS page "Grants in AWS KMS".
type Grant struct {
	ID         string
	Grantee    string   // ARN of the grantee principal, or name of the grantee service principal
	Operations []string // names without a prefix: "Decrypt"

	// Constraints. Empty ones constrain nothing.
	EncryptionContextEquals map[string]string
	EncryptionContextSubset map[string]string
	SourceARN               string
}

// Operations that have an encryption context. Only these are bound by constraints on it (API
// Reference, GrantConstraints).
var contextOperations = map[string]bool{
	"Encrypt": true, "Decrypt": true, "ReEncryptFrom": true, "ReEncryptTo": true,
	"GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true,
	"GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
}

// match returns how closely the grant names the caller, if it allows the operation, and why or why
// not.
func (g *Grant) match(e *evaluation) (reach, string) {
	if !slices.Contains(g.Operations, e.operation) {
		return reachNone, "does not have the operation"
	}
	r := reachOf(g.Grantee, e.Principal)
	if r != reachNone && !g.constraintsHold(e) {
		return reachNone, "its constraints do not hold"
	}
	return r, r.String()
}

var sourceARN = newKey("aws:SourceArn")

// constraintsHold compares keys and values case-sensitively (AWS page "Creating grants", using
// grant constraints). The API Reference calls the keys case-insensitive; this is the stricter of
// the two.
func (g *Grant) constraintsHold(e *evaluation) bool {
	if e.Assume != AbsentIsAbsent && g.isConstrained(e) {
		return e.assumed(true)
	}
	if contextOperations[e.operation] {
		if len(g.EncryptionContextEquals) > 0 && !maps.Equal(g.EncryptionContextEquals, e.EncryptionContext) {
			return false
		}
		if !includes(e.EncryptionContext, g.EncryptionContextSubset) {
			return false
		}
	}
	if g.SourceARN != "" && e.operation != "RetireGrant" {
		return slices.Contains(sourceARN.appendValues(nil, e), g.SourceARN)
	}
	return true
}

// isConstrained reports whether the grant's constraints limit the operation.
func (g *Grant) isConstrained(e *evaluation) bool {
	context := len(g.EncryptionContextEquals) > 0 || len(g.EncryptionContextSubset) > 0
	return context && contextOperations[e.operation] || g.SourceARN != "" && e.operation != "RetireGrant"
}

// includes reports whether all pairs of part are in whole.
func includes(whole, part map[string]string) bool {
	for k, v := range part {
		if w, ok := whole[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// Retiring returns the grants under which g can be retired, for the Policies of a RetireGrant
// request: by its grantee if the grant allows that operation, and by the principals, which must be
// its retiring principals and the account of the key (AWS page "Retiring and revoking grants").
func (g *Grant) Retiring(principals ...string) []Grant {
	grants := []Grant{*g}
	for _, principal := range principals {
		grants = append(grants, Grant{ID: g.ID, Grantee: principal, Operations: []string{"RetireGrant"}})
	}
	return grants
}

// Covers reports whether a grantee whose only permission for CreateGrant is g may create the child:
// the child must have no other operations than g, and constraints that are at least as strict (AWS
// page "Creating grants", granting CreateGrant permission).
func (g *Grant) Covers(child *Grant) bool {
	for _, operation := range child.Operations {
		if !slices.Contains(g.Operations, operation) {
			return false
		}
	}
	if len(g.EncryptionContextEquals) > 0 && !maps.Equal(g.EncryptionContextEquals, child.EncryptionContextEquals) {
		return false
	}
	if !includes(child.EncryptionContextSubset, g.EncryptionContextSubset) &&
		!includes(child.EncryptionContextEquals, g.EncryptionContextSubset) {
		return false
	}
	return g.SourceARN == "" || g.SourceARN == child.SourceARN
}

package declaration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/arn"
)

func (p *keyPlan) planGrants(ctx context.Context, s *steps) error {
	k := s.key
	if k.Grants == nil {
		return nil
	}
	has, err := p.Store.GrantsOf(ctx, k.Region, k.ID)
	if err != nil {
		return fmt.Errorf("read the grants of key %s: %w", k.ID, err)
	}
	present := map[string][]string{} // ids, by terms
	for _, g := range has {
		terms := grantOf(g).terms()
		present[terms] = append(present[terms], g.ID)
	}
	for i := range k.Grants {
		g := k.Grants[i].normal()
		terms := g.terms()
		if ids := present[terms]; len(ids) > 0 {
			present[terms] = ids[1:]
			continue
		}
		s.add("grant to "+g.Grantee+g.GranteeService, "CreateGrant", g.request(k.ID))
	}
	for _, g := range has {
		terms := grantOf(g).terms()
		if slices.Contains(present[terms], g.ID) {
			s.add("no grant to "+g.Grantee, "RevokeGrant", map[string]any{"KeyId": k.ID, "GrantId": g.ID})
		}
	}
	return nil
}

// grantOf is a grant as it is declared.
func grantOf(g *service.Grant) Grant {
	d := Grant{Name: g.Name, Grantee: g.Grantee, Retiring: g.Retiring, Operations: g.Operations, Equals: g.Equals,
		Subset: g.Subset, SourceARN: g.SourceARN}
	if g.GranteeIsService {
		d.Grantee, d.GranteeService = "", g.Grantee
	}
	if g.RetiringIsService {
		d.Retiring, d.RetiringService = "", g.Retiring
	}
	return d
}

// normal writes a grant as the service stores it: a principal that is an account is its root user.
func (g Grant) normal() Grant {
	for _, principal := range []*string{&g.Grantee, &g.Retiring} {
		if arn.IsAccount(*principal) {
			*principal = arn.Root(*principal)
		}
	}
	g.Operations = slices.Compact(slices.Sorted(slices.Values(g.Operations)))
	return g
}

// terms are the same for the same grants.
func (g Grant) terms() string {
	for _, context := range []*map[string]string{&g.Equals, &g.Subset} {
		if len(*context) == 0 {
			*context = nil
		}
	}
	text, _ := json.Marshal(g) // a structure of strings always encodes; maps do so in order
	return string(text)
}

func (g Grant) request(keyID string) map[string]any {
	members := map[string]any{"KeyId": keyID, "Operations": g.Operations}
	for name, value := range map[string]string{"Name": g.Name, "GranteePrincipal": g.Grantee,
		"GranteeServicePrincipal": g.GranteeService, "RetiringPrincipal": g.Retiring,
		"RetiringServicePrincipal": g.RetiringService} {
		if value != "" {
			members[name] = value
		}
	}
	constraints := map[string]any{}
	if len(g.Equals) > 0 {
		constraints["EncryptionContextEquals"] = g.Equals
	}
	if len(g.Subset) > 0 {
		constraints["EncryptionContextSubset"] = g.Subset
	}
	if g.SourceARN != "" {
		constraints["SourceArn"] = g.SourceARN
	}
	if len(constraints) > 0 {
		members["Constraints"] = constraints
	}
	return members
}

package main

import (
	"fmt"
	"time"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/oidc"
)

// IssuerConfig is an OpenID Connect issuer whose tokens AssumeRoleWithWebIdentity takes.
type IssuerConfig struct {
	URL       string   `koanf:"url"`
	Audiences []string `koanf:"audiences"`
	CAFile    string   `koanf:"ca_file"`   // default the system's authorities
	JWKSFile  string   `koanf:"jwks_file"` // default the keys are fetched
}

// maxOIDCSkew is more than clocks that are kept right ever differ.
const maxOIDCSkew = 10 * time.Minute

// webIdentities returns what verifies the tokens of the issuers, or nil without issuers. Their files are read again
// when they change.
func (c *Config) webIdentities() (iam.WebIdentities, error) {
	if len(c.OIDCIssuers) == 0 {
		return nil, nil
	}
	cfg := oidc.Config{Skew: c.OIDCSkew, Now: time.Now}
	for _, i := range c.OIDCIssuers {
		cfg.Issuers = append(cfg.Issuers, oidc.Issuer(i))
	}
	v, err := oidc.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("oidc_issuers: %w", err)
	}
	c.run.reload = append(c.run.reload, reloadable{"OpenID Connect issuers", v.Reload})
	return v, nil
}

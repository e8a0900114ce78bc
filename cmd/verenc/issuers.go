package main

import (
	"fmt"
	"time"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/oidc"
)

// IssuerConfig is an OpenID Connect issuer whose tokens AssumeRoleWithWebIdentity takes.
type IssuerConfig struct {
	URL       string   `koanf:"url" doc:"URL of the issuer, https://HOST or https://HOST/PATH, as the claim iss of its tokens has it"`
	Audiences []string `koanf:"audiences" doc:"values of the claim aud that are accepted, at least one"`
	CAFile    string   `koanf:"ca_file" doc:"PEM file of the authorities of the issuer's host; default those of the system"`
	JWKSFile  string   `koanf:"jwks_file" doc:"file with the issuer's keys, for a room without a network; default they are fetched from the issuer"`
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

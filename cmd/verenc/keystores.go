package main

import (
	"context"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
)

// KeyStoreConfig is a token that custom key stores may use, by its cluster id. Its PIN is the
// KeyStorePassword of CreateCustomKeyStore.
type KeyStoreConfig struct {
	ClusterID     string `koanf:"cluster_id" doc:"the CloudHsmClusterId of CreateCustomKeyStore that means this token"`
	Module        string `koanf:"module" doc:"absolute path of its PKCS#11 module; default token.module"`
	InitArguments string `koanf:"init_arguments" doc:"as token.init_arguments, which is the default for the same module"`
	Label         string `koanf:"label" doc:"label of the token; label or serial is required"`
	Serial        string `koanf:"serial" doc:"serial number of the token"`
	TrustAnchor   string `koanf:"trust_anchor_file" doc:"file whose text CreateCustomKeyStore must give as TrustAnchorCertificate; default none"`
	Sessions      int    `koanf:"sessions" doc:"largest number of sessions; default 64"`
	Residency     string `koanf:"residency" doc:"where the material of new keys is kept, as token.residency; default token"`

	trustAnchor string // text of the file
}

// clusters returns the tokens of custom key stores, by cluster id. A token is opened when its key store
// is connected.
func clusters(c *Config, log *zap.Logger) map[string]service.TokenSource {
	all := map[string]service.TokenSource{}
	for _, k := range c.KeyStores {
		open := func(ctx context.Context, pin string) (service.ClosableToken, error) {
			token, err := openToken(ctx, hsm.Config{
				Module: k.Module, InitArguments: k.InitArguments, ModuleCommand: moduleCommand(c),
				Label: k.Label, Serial: k.Serial, PIN: pin, Sessions: k.Sessions, Turns: c.Token.Turns,
				HeldKeys:    c.Token.HeldKeys,
				CallTimeout: c.Token.CallTimeout, MaxStuck: c.Token.MaxStuck, Observe: traceCalls(c),
				OnChange: logToken(log.With(zap.String("cluster", k.ClusterID)), nil),
			}, nil, nil, log)
			if err != nil {
				return nil, err // not a nil *hsm.Group, which is no nil ClosableToken
			}
			return token, nil
		}
		all[k.ClusterID] = service.TokenSource{
			TrustAnchor: k.trustAnchor, Residency: service.Residency(k.Residency), Open: open,
		}
	}
	return all
}

// checkKeyStores checks the settings of key stores, sets their defaults, and reads the trust anchors.
func (c *Config) checkKeyStores() error {
	seen := map[string]bool{}
	for i := range c.KeyStores {
		k := &c.KeyStores[i]
		switch {
		case k.ClusterID == "" || seen[k.ClusterID]:
			return fmt.Errorf("key_stores: entry %d needs a cluster_id of its own", i+1)
		case k.Label == "" && k.Serial == "":
			return fmt.Errorf("key_stores: %s: give the token's label or serial", k.ClusterID)
		}
		seen[k.ClusterID] = true
		if k.Residency == "" {
			k.Residency = string(service.ResidencyToken)
		}
		if err := checkResidency(fmt.Sprintf("key_stores: %s: residency:", k.ClusterID), k.Residency); err != nil {
			return err
		}
		if k.Module == "" {
			k.Module = c.Token.Module
		}
		if k.Module == c.Token.Module && k.InitArguments == "" { // one module is initialised once
			k.InitArguments = c.Token.InitArguments
		}
		if k.TrustAnchor != "" {
			text, err := os.ReadFile(k.TrustAnchor)
			if err != nil {
				return fmt.Errorf("key_stores: %s: read trust_anchor_file: %w", k.ClusterID, err)
			}
			k.trustAnchor = string(text)
		}
	}
	return nil
}

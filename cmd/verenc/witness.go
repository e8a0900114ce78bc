package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/witness"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/evidence"
)

// witnessCommand is the argument that makes this program the process of the witness.
const witnessCommand = "witness"

// The process of the witness ends itself after witnessOrphan, in case its parent has died while a call
// hangs inside the module.
const (
	witnessOrphan = 2 * time.Minute
	exitOrphan    = 3
)

// newWitnessCommand is that process. It reads no configuration: standard input has all that it needs.
func newWitnessCommand() *cobra.Command {
	return &cobra.Command{
		Use: witnessCommand, Args: cobra.NoArgs, Hidden: true,
		Short: "Answer one request of verenc attest --witness or verenc doctor on standard input",
		Long: fmt.Sprintf("It reads one request from standard input and writes one reply to standard output.\n"+
			"Exit codes: 0, a reply was written; 1, there was no request; %d, the token did not answer in %s.",
			exitOrphan, witnessOrphan),
		RunE: func(cmd *cobra.Command, _ []string) error {
			end := time.AfterFunc(witnessOrphan, func() { os.Exit(exitOrphan) })
			defer end.Stop()
			return witness.Serve(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// askWitness asks the witness, in a process of its own, about objects of the token that is configured.
func askWitness(ctx context.Context, c *Config, token hsm.Info, objects []witness.Object) ([]witness.Finding, error) {
	if c.Token.InitArguments != "" {
		return nil, errors.New("the witness could not say: crypto11 does not pass token.init_arguments to the module")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("the witness could not say: %w", err)
	}
	h, err := hsmConfig(c, zap.NewNop())
	if err != nil {
		return nil, fmt.Errorf("the witness could not say: %w", err)
	}
	return witness.Ask(ctx, witness.Config{
		Module: h.Module, Serial: token.Serial, Label: token.Label, PIN: h.PIN,
		Program: self, Args: []string{witnessCommand}, Environ: os.Environ(),
	}, objects)
}

// Reasons why the witness is not asked. They are part of the statement.
const (
	whyWrap    = "crypto11 neither wraps nor unwraps: its attributes are compared only"
	whyDerive  = "crypto11 does not derive: its attributes are compared only"
	whyNothing = "crypto11 has no such operation: its attributes are compared only"
	whySession = "it is a session object, which no other process can see: only the object that wraps it can be compared"
	whyState   = "the key is not enabled, so that it is not used: its attributes are compared only"
	whyCluster = "the key is in a custom key store, whose PIN this command does not have"
)

// keyUser is the part of a token that challenges need; *hsm.Group implements it.
type keyUser interface {
	Decrypt(ctx context.Context, key hsm.Key, box, aad []byte) ([]byte, error)
	MAC(ctx context.Context, key hsm.Key, hash crypto.Hash, message []byte) ([]byte, error)
}

// macHashes are the hashes of HMAC by key spec.
var macHashes = map[string]crypto.Hash{
	"HMAC_224": crypto.SHA224, "HMAC_256": crypto.SHA256, "HMAC_384": crypto.SHA384, "HMAC_512": crypto.SHA512,
}

// addWitness adds to a statement what the witness says. It never fails: whatever goes wrong becomes a
// Failure of the witness.
func addWitness(ctx context.Context, c *Config, token keyUser, a *evidence.Attestation) {
	w := &evidence.AttestedWitness{Implementation: witness.Implementation, Version: witness.Version}
	a.Witness = w
	if a.KeyStore() != "" {
		w.Failure = whyCluster
		return
	}
	var asked []witness.Object
	for _, o := range a.Witnessable() {
		w.Objects = append(w.Objects, evidence.WitnessedObject{
			Role: o.Role, ID: o.ID, Challenge: string(witness.KindNone), Result: string(witness.NotAsked),
			Verdict: evidence.WitnessCouldNotSay, Reason: whySession,
		})
		if !o.Session {
			asked = append(asked, witness.Object{
				ID: o.ID[:], Private: o.Role == service.RolePair, Claimed: witness.Attributes(o.Attributes),
				Challenge: challengeFor(ctx, token, a, o.AttestedObject),
			})
		}
	}
	findings, err := askWitness(ctx, c, a.Token, asked)
	if err != nil {
		w.Failure, w.Objects = oneLine(err), nil
		return
	}
	for i := range w.Objects {
		o := &w.Objects[i]
		for _, f := range findings {
			if string(f.ID) == string(o.ID[:]) {
				o.Read, o.Challenge, o.Result = (*hsm.Attributes)(f.Read), string(f.Challenge), string(f.Result)
				o.Verdict, o.Reason = evidence.WitnessVerdict(f.Verdict), f.Reason
			}
		}
	}
}

// challengeFor returns what the witness has an object do.
func challengeFor(
	ctx context.Context, token keyUser, a *evidence.Attestation, o evidence.AttestedObject,
) witness.Challenge {
	none := func(why string) witness.Challenge { return witness.Challenge{Kind: witness.KindNone, Why: why} }
	if o.Role != service.RoleWrap && a.Key.State != service.StateEnabled {
		return none(whyState)
	}
	switch o.Role {
	case service.RoleSeal:
		return witness.Challenge{Kind: witness.KindSeal, Open: func(box, aad []byte) ([]byte, error) {
			plaintext, err := token.Decrypt(ctx, o.ID, box, aad)
			if errors.Is(err, hsm.ErrAuthentication) {
				return nil, nil
			}
			return plaintext, err
		}}
	case service.RoleMAC:
		hash := macHashes[a.Key.Spec]
		return witness.Challenge{Kind: witness.KindMAC, Hash: hash, MAC: func(message []byte) ([]byte, error) {
			return token.MAC(ctx, o.ID, hash, message)
		}}
	case service.RolePair:
		return pairChallenge(a.Key.Usage, a.PublicKey())
	}
	return none(whyWrap)
}

// pairChallenge returns the challenge for a private key with this public key.
func pairChallenge(usage string, spki []byte) witness.Challenge {
	switch usage {
	case "SIGN_VERIFY":
		return signChallenge(spki)
	case "ENCRYPT_DECRYPT":
		if public, err := x509.ParsePKIXPublicKey(spki); err == nil {
			if public, ok := public.(*rsa.PublicKey); ok {
				return witness.Challenge{Kind: witness.KindDecrypt, Public: public}
			}
		}
	case "KEY_AGREEMENT":
		return witness.Challenge{Kind: witness.KindNone, Why: whyDerive}
	}
	return witness.Challenge{Kind: witness.KindNone, Why: whyNothing}
}

func signChallenge(spki []byte) witness.Challenge {
	return witness.Challenge{Kind: witness.KindSign, Verify: func(digest, signature []byte) (bool, error) {
		return service.VerifyDigest(spki, digest, signature)
	}}
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/witness"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/store"
)

const (
	checkWitness = "witness"
	needWitness  = "verenc attest --witness"
)

// examineWitness has the witness find the audit log's signing key and sign a challenge with it. The
// witness logs in with the PIN that the token has just accepted, so that no wrong PIN is tried twice.
func (e *examination) examineWitness(ctx context.Context, c *Config, token *hsm.Token) {
	if err := databaseFile(c); err != nil {
		e.note(checkWitness, errors.New("there is no database yet that names a key to look at"), needWitness)
		return
	}
	db, err := openStore(ctx, c, false)
	if err != nil { // the check of the database says why
		e.note(checkWitness, errors.New("the database that names a key to look at can't be read"), needWitness)
		return
	}
	finding, err := witnessAuditKey(ctx, c, token, db)
	err = errors.Join(err, db.Close())
	switch {
	case errors.Is(err, service.ErrNoRow):
		e.note(checkWitness, errors.New("there is no audit log yet whose key could be looked at"), needWitness)
	case err != nil:
		e.note(checkWitness, err, needWitness)
	case finding.Verdict == witness.Agrees:
		e.ok(checkWitness, "%s %s finds the audit log's key, reads the same attributes, and has it sign",
			witness.Implementation, witness.Version)
	case finding.Verdict == witness.Disagrees:
		e.bad(checkWitness, fmt.Errorf("%s %s: %s", witness.Implementation, witness.Version, finding.Reason),
			"two implementations see different objects: check the module's version, and that no other token has the same serial number")
	default:
		e.note(checkWitness, fmt.Errorf("the witness could not say: %s", finding.Reason), needWitness)
	}
}

func witnessAuditKey(ctx context.Context, c *Config, token *hsm.Token, db *store.DB) (witness.Finding, error) {
	id, spki, err := evidence.AuditKeys{Store: db}.Newest(ctx)
	if err != nil {
		return witness.Finding{}, err
	}
	claimed, err := token.Attributes(ctx, id)
	if err != nil {
		return witness.Finding{}, fmt.Errorf("read the attributes of the audit log's signing key: %w", err)
	}
	info, err := token.Info()
	if err != nil {
		return witness.Finding{}, err
	}
	findings, err := askWitness(ctx, c, info, []witness.Object{{
		ID: id[:], Private: true, Claimed: witness.Attributes(claimed), Challenge: signChallenge(spki),
	}})
	if err != nil {
		return witness.Finding{}, err
	}
	return findings[0], nil
}

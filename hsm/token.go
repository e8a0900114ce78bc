// Package hsm holds the keys: all that is done with the PKCS#11 token is here, and nothing else is.
// Token has the operations; the connection is kept up by hsm/connection, the cryptographic steps in
// a session are hsm/session's, the self-tests hsm/selftest's, and all C calls hsm/cryptoki's.
//
// What it protects: KMS keys are generated in the token. Those that stay there are CKA_SENSITIVE and
// never CKA_EXTRACTABLE, so neither this process nor an attacker who controls it can read them, only
// use them while connected. A WrappedKey is kept outside of the token. It was extractable only
// between its generation and its wrapping; whoever has it, and the PIN, can use it but not read it,
// since the token unwraps it into nothing that can be read. A data key made by GenerateWrapped, and
// a private key made by GenerateWrappedPair, is also born in the token and leaves it wrapped only.
// Imported keys have been outside of the token already; the comment of Import says which kinds also
// pass through this process's memory.
//
// From whom: from readers of disks, backups, memory dumps and the network. Somebody who can call
// the token with its PIN can use the keys; that is what the PIN file's mode and the service's
// authorisation are for.
//
// What it trusts: the code of the PKCS#11 module it loads into the process (Config.ModuleCommand
// gives it a process of its own), the token behind it, and crypto/rand for initialisation vectors.
// SelfTest tries what a token says it can do, since some have another algorithm under a name.
// Arguments are opaque bytes: hsm knows nothing of AWS, HTTP or databases.
package hsm

import (
	"context"

	"github.com/verenc/kms/hsm/connection"
)

// Token is a connection to one token, kept up until Close. Its methods may be called concurrently;
// each is bounded by Config.CallTimeout and returns errors of the kinds in this package. A call of the
// module may outlive its caller. So callers must not change the bytes of a box or of additional data
// afterwards; of a plaintext or a message, which they may clear, the methods take a copy.
type Token struct{ link *connection.Link }

// Open loads the module, logs in and begins to keep the connection up. It takes
// Config.ConnectTimeout at most.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	l, err := connection.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Token{l}, nil
}

// Close ends the connection. Calls under way are waited for up to Config.CallTimeout; while one
// stays stuck the module is left loaded.
func (t *Token) Close() error { return t.link.Close() }

// Info tells which token is connected.
func (t *Token) Info() (Info, error) { return t.link.Info() }

// Stats returns the counters.
func (t *Token) Stats() Stats { return t.link.Stats() }

// Ping asks the token for one random byte.
func (t *Token) Ping(ctx context.Context) error {
	_, err := t.Random(ctx, 1)
	return err
}

// Random returns n bytes of the token's random number generator (C_GenerateRandom).
func (t *Token) Random(ctx context.Context, n int) ([]byte, error) {
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) { return s.Random(n) })
}

package hsm_test

import (
	"crypto"
	"fmt"
	"os"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// farSessions callers use as many sessions of a token that is farAway.
const (
	farSessions = 64
	farAway     = time.Millisecond
)

// BenchmarkServiceFarToken is the rate of each operation on a network HSM, against what its latency allows: sessions divided by
// the calls of the operation and the time that a call takes when there is no other.
func BenchmarkServiceFarToken(b *testing.B) {
	for b.Loop() {
		soft := softhsm.New(b)
		m := faults.New(b, soft)
		token, err := hsm.Open(b.Context(), hsm.Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, Sessions: farSessions})
		check(b, err)
		measureFar(b, token, m)
		check(b, token.Close())
	}
}

func measureFar(b *testing.B, token *hsm.Token, m *faults.Module) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer out.Flush()
	fmt.Fprintln(out, "operation\tcalls\tµs a call\tallowed/s\tdone/s\tof allowed\t")
	for _, o := range farOperations(b, token) {
		check(b, o.do()) // its handles and sessions are known
		m.ResetCounts()
		check(b, o.do())
		calls := 0
		for _, n := range m.Counts() {
			calls += n
		}
		m.SetLatency(farAway)
		rates := [rounds]float64{}
		alone := [rounds]float64{}
		for i := range rounds {
			alone[i] = rate(b, 1, func(int) error { return o.do() })
			rates[i] = rate(b, farSessions, func(int) error { return o.do() })
		}
		m.SetLatency(0)
		a, r := median(alone), median(rates)
		fmt.Fprintf(out, "%s\t%d\t%.0f\t%.0f\t%.0f\t%.2f\t\n", o.name, calls, 1e6/a/float64(calls), a*farSessions, r, r/a/farSessions)
	}
}

type farOperation struct {
	name string
	do   func() error
}

func farOperations(b *testing.B, token *hsm.Token) []farOperation {
	ctx := b.Context()
	keys, mac, ec := hsm.Pair{Seal: hsm.ObjectID{1}, Wrap: hsm.ObjectID{2}}, hsm.ObjectID{3}, hsm.ObjectID{4}
	check(b, token.GenerateSecretKey(ctx, hsm.SecretKey{ID: keys.Seal, Purpose: hsm.Seal}))
	check(b, token.GenerateSecretKey(ctx, hsm.SecretKey{ID: keys.Wrap, Purpose: hsm.Wrap}))
	check(b, token.GenerateSecretKey(ctx, hsm.SecretKey{ID: mac, Purpose: hsm.MAC256}))
	_, err := token.GenerateKeyPair(ctx, hsm.KeyPair{ID: ec, Type: hsm.P256, Purpose: hsm.SignPair})
	check(b, err)
	aad, plaintext, digest := make([]byte, 71), make([]byte, 32), make([]byte, 32)
	sealed, err := token.Encrypt(ctx, keys.Seal, plaintext, aad)
	check(b, err)
	wrapped, err := token.GenerateWrapped(ctx, keys, 32, aad)
	check(b, err)
	return []farOperation{
		{"Encrypt", func() error { _, err := token.Encrypt(ctx, keys.Seal, plaintext, aad); return err }},
		{"Decrypt", func() error { _, err := token.Decrypt(ctx, keys.Seal, sealed, aad); return err }},
		{"GenerateSealed", func() error { _, err := token.GenerateSealed(ctx, keys.Seal, 32, aad); return err }},
		{"GenerateWrapped", func() error { _, err := token.GenerateWrapped(ctx, keys, 32, aad); return err }},
		{"DecryptWrapped", func() error { _, err := token.DecryptWrapped(ctx, keys, wrapped, 32, aad); return err }},
		{"Sign", func() error {
			_, err := token.Sign(ctx, ec, hsm.P256, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256}, digest)
			return err
		}},
		{"MAC", func() error { _, err := token.MAC(ctx, mac, crypto.SHA256, digest); return err }},
	}
}

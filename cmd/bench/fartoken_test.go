package bench_test

import (
	"crypto"
	"fmt"
	"os"
	"runtime"
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

// BenchmarkServiceFarToken is the rate of each operation on a network HSM, against what its latency
// allows: sessions divided by the calls of the operation and the time that a call takes when there
// is no other. The same calls in bare loops, a session each, show how much of that the machine can
// do. A network HSM computes with processors of its own, and so the token's answers are replayed in
// one part of it; in the other SoftHSM computes them, with the processors that the callers would
// need.
func BenchmarkServiceFarToken(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(hsm.Processors(farAway, runtime.GOMAXPROCS(0)))) // as verenc serve does
	for b.Loop() {
		soft := softhsm.New(b)
		m := faults.New(b, soft)
		token, err := hsm.Open(
			b.Context(),
			hsm.Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, Sessions: farSessions},
		)
		check(b, err)
		measureFar(b, token, m, soft.Serial)
		check(b, token.Close())
	}
}

func measureFar(b *testing.B, token *hsm.Token, m *faults.Module, serial string) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer out.Flush()
	fmt.Fprintln(out, "operation\tcomputed by\tcalls\tµs a call\tallowed/s\traw/s\thsm/s\t"+
		"raw of allowed\thsm of allowed\thsm of raw\t")
	keys, rsa := farKeys(b, token)
	module := rawModule(b, m.Path)
	for _, o := range farOperations(b, token, keys, rsa) {
		raws := newRawTokens(b, &workbench{raw: module, serial: serial, keys: keys, rsa: rsa}, farSessions)
		check(b, o.do()) // its handles and sessions are known
		m.ResetCounts()
		check(b, o.do())
		calls := 0
		for _, n := range m.Counts() {
			calls += n
		}
		for _, computed := range []string{"the token", "SoftHSM here"} {
			if computed == "the token" {
				m.Learn()
				check(b, o.do())
				m.Replay()
			}
			m.SetLatency(farAway)
			var alone, bare, far [rounds]float64
			for i := range rounds {
				alone[i] = rate(b, 1, func(int) error { return o.raw(raws[0]) })
				bare[i] = rate(b, farSessions, func(i int) error { return o.raw(raws[i]) })
				far[i] = rate(b, farSessions, func(int) error { return o.do() })
			}
			m.SetLatency(0)
			m.StopReplay()
			a, r, f := median(alone[:]), median(bare[:]), median(far[:])
			allowed := a * farSessions
			fmt.Fprintf(out, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t\n",
				o.name, computed, calls, 1e6/a/float64(calls), allowed, r, f, r/allowed, f/allowed, f/r)
		}
		for _, r := range raws {
			r.close(b)
		}
	}
}

type farOperation struct {
	name string
	do   func() error
	raw  func(*rawToken) error
}

func farKeys(b *testing.B, token *hsm.Token) (keys hsm.SealingKeys, rsa hsm.ObjectID) {
	keys, rsa = hsm.SealingKeys{Seal: hsm.ObjectID{1}, Wrap: hsm.ObjectID{2}}, hsm.ObjectID{3}
	check(b, token.GenerateSecretKey(b.Context(), hsm.SecretKey{ID: hsm.ObjectID{1}, Purpose: hsm.Seal}))
	check(b, token.GenerateSecretKey(b.Context(), hsm.SecretKey{ID: hsm.ObjectID{2}, Purpose: hsm.Wrap}))
	_, err := token.GenerateKeyPair(b.Context(), hsm.KeyPair{ID: rsa, Type: hsm.RSA2048, Purpose: hsm.SignPair})
	check(b, err)
	return keys, rsa
}

func farOperations(b *testing.B, token *hsm.Token, keys hsm.SealingKeys, rsa hsm.ObjectID) []farOperation {
	ctx, aad, plaintext := b.Context(), make([]byte, 71), make([]byte, 32)
	sealed, err := token.Encrypt(ctx, keys.Seal, plaintext, aad)
	check(b, err)
	wrapped, err := token.GenerateWrapped(ctx, keys, 32, aad)
	check(b, err)
	return []farOperation{
		{"Encrypt", func() error { _, err := token.Encrypt(ctx, keys.Seal, plaintext, aad); return err },
			func(r *rawToken) error { return r.encrypt(aad) }},
		{"Decrypt", func() error { _, err := token.Decrypt(ctx, keys.Seal, sealed, aad); return err },
			func(r *rawToken) error { return r.decrypt(sealed, aad) }},
		{"GenerateSealed", func() error { _, err := token.GenerateSealed(ctx, keys.Seal, 32, aad); return err },
			func(r *rawToken) error { return r.generateDataKey(aad) }},
		{"GenerateWrapped", func() error { _, err := token.GenerateWrapped(ctx, keys, 32, aad); return err },
			func(r *rawToken) error { return r.generateWrapped(aad) }},
		{"DecryptWrapped", func() error { _, err := token.DecryptWrapped(ctx, keys, wrapped, 32, aad); return err },
			func(r *rawToken) error { return r.decryptWrapped(wrapped, aad) }},
		{"Sign (RSA-2048)", func() error {
			_, err := token.Sign(
				ctx, rsa, hsm.RSA2048, hsm.Scheme{Algorithm: hsm.PKCS1v15, Hash: crypto.SHA256}, plaintext,
			)
			return err
		}, func(r *rawToken) error { return r.signRSA() }},
	}
}

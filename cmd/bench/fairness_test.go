package bench_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/quota"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
	"github.com/verenc/kms/transport"
)

// The flood: so many requests for key pairs at a time, of a user whom quotas.concurrent allows a few. What was refused
// is repeated after a pause, as AWS's clients do.
const (
	floodClients  = 64
	floodLimit    = 4
	floodPause    = 100 * time.Millisecond
	slowPair      = 100 * time.Millisecond // for the token to generate one
	victimClients = 4
)

// BenchmarkFairness is what is left for a user when another one floods the server with requests for key pairs that
// take the token long, as RSA pairs of 4,096 bits do: alone, beside the flood, and beside it with quotas.concurrent.
// The token is farAway and computes with processors of its own. So the pairs here are of P-256, and take slowPair in
// which no processor is busy: with RSA pairs of SoftHSM the benchmark would measure this machine's processors.
func BenchmarkFairness(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(hsm.Processors(farAway, runtime.GOMAXPROCS(0)))) // as verenc serve does
	for b.Loop() {
		f := newFairness(b)
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "operation\talone/s\tbeside a flood/s\tof alone\twith a limit/s\tof alone\t")
		pair := map[string]any{"KeyId": f.keyID, "KeyPairSpec": "ECC_NIST_P256"}
		for _, o := range []benchOperation{
			{name: "Encrypt", body: map[string]any{"KeyId": f.keyID, "Plaintext": make([]byte, 32)}},
			{name: "GenerateDataKeyPairWithoutPlaintext", body: pair},
		} {
			var alone, beside, within [rounds]float64
			for i := range rounds {
				alone[i] = f.overHTTP(b, victimClients, f.url, o)
				beside[i] = f.flooded(b, f.url, o, pair)
				within[i] = f.flooded(b, f.limited, o, pair)
			}
			a, n, l := median(alone[:]), median(beside[:]), median(within[:])
			fmt.Fprintf(out, "%s\t%.0f\t%.0f\t%.2f\t%.0f\t%.2f\t\n", o.name, a, n, n/a, l, l/a)
		}
		check(b, out.Flush())
	}
}

// fairness is a server for all, another one with a limit for each, and who floods them.
type fairness struct {
	*workbench
	limited string // address of the server with quotas.concurrent
	flooder aws.Credentials
}

func newFairness(b *testing.B) *fairness {
	soft := softhsm.New(b)
	m := faults.New(b, soft)
	token, err := hsm.Open(b.Context(),
		hsm.Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, Sessions: farSessions})
	check(b, err)
	b.Cleanup(func() { check(b, token.Close()) })
	db, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "kms.db"), Create: true})
	check(b, err)
	b.Cleanup(func() { check(b, db.Close()) })
	f := &fairness{workbench: &workbench{token: token, log: zap.NewNop(),
		can: service.CapabilitiesOf(token.SelfTest(b.Context()))}}
	f.serveFrom(b, db)
	f.keyID, _ = f.newKey(b, db, `{}`)
	quotas, err := quota.New(quota.Config{Concurrent: floodLimit, Now: time.Now})
	check(b, err)
	s, err := service.New(service.Config{Audit: record.NoAudit, Store: db, Token: token, Log: f.log, Can: f.can,
		Quotas: quotas})
	check(b, err)
	handler, err := transport.New(f.config(s))
	check(b, err)
	f.limited = f.serve(b, handler)

	p := &iam.Principal{ARN: "arn:aws:iam::111122223333:user/flooder", Account: "111122223333", Kind: iam.KindUser,
		CreatedAt: time.Now(), PrincipalDetails: iam.PrincipalDetails{Name: "flooder", UniqueID: "AIDAFLOODER",
			Policies: map[string]string{"all": `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`}}}
	check(b, db.PutPrincipal(b.Context(), p))
	c, err := s.IAM().CreateAccessKey(b.Context(), p.Account, p.ARN)
	check(b, err)
	f.flooder = aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: string(c.SecretAccessKey)}
	m.SetLatency(farAway)
	m.SetLatency(slowPair, "C_GenerateKeyPair")
	b.Cleanup(func() { m.SetLatency(0) })
	return f
}

// flooded is overHTTP while the other user has floodClients requests for key pairs under way.
func (f *fairness) flooded(b *testing.B, address string, o benchOperation, pair map[string]any) float64 {
	text, err := json.Marshal(pair)
	check(b, err)
	of := *f.workbench
	of.creds = f.flooder
	var stop atomic.Bool
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop.Store(true)
	for range floodClients {
		c := of.connect(b, address, "GenerateDataKeyPairWithoutPlaintext", string(text))
		flood.Go(func() {
			defer c.Close()
			for !stop.Load() {
				if _, err := c.Do(); err != nil { // it was refused, with an answer that has been read
					time.Sleep(floodPause)
				}
			}
		})
	}
	return f.overHTTP(b, victimClients, address, o)
}

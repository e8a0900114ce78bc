package bench_test

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/quota"
	"github.com/verenc/kms/service/record"
)

// BenchmarkFairness is what is left for a user when another one floods the server with requests for
// RSA pairs of 4,096 bits: alone, beside the flood, and beside it with quotas.concurrent.
func BenchmarkFairness(b *testing.B) {
	const flood, limit = 48, 4
	for b.Loop() {
		w := newWorkbench(b)
		flooder := w.user(b, "flooder")
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "operation\talone/s\tbeside a flood/s\tof alone\twith a limit/s\tof alone\t")
		limited, err := quota.New(quota.Config{Concurrent: limit, Now: time.Now})
		check(b, err)
		_, handler := w.newServer(b, w.store, record.NoAudit, func(c *service.Config) { c.Quotas = limited })
		open, restricted := w.url, w.serve(b, handler)
		pair := map[string]any{"KeyId": w.keyID, "KeyPairSpec": "RSA_2048"}
		for _, o := range append(w.operations(b)[:1], benchOperation{name: "GenerateDataKeyPair", body: pair}) {
			alone := w.overHTTP(b, 4, open, o)
			beside := w.flooded(b, flooder, open, flood, o)
			within := w.flooded(b, flooder, restricted, flood, o)
			fmt.Fprintf(out, "%s\t%.1f\t%.1f\t%.2f\t%.1f\t%.2f\t\n", o.name, alone, beside, beside/alone, within,
				within/alone)
		}
		check(b, out.Flush())
	}
}

// flooded is overHTTP while another user has many requests for RSA pairs under way.
func (w *workbench) flooded(b *testing.B, flooder aws.Credentials, address string, clients int,
	o benchOperation) float64 {
	text, err := json.Marshal(map[string]any{"KeyId": w.keyID, "KeyPairSpec": "RSA_4096"})
	check(b, err)
	root := w.creds
	w.creds = flooder
	request := w.signed(b, "GenerateDataKeyPairWithoutPlaintext", string(text))
	w.creds = root
	var stop atomic.Bool
	var group sync.WaitGroup
	begun := make(chan struct{}, clients)
	for range clients {
		group.Go(func() {
			c := &client{request: request}
			check(b, c.dial(address))
			defer c.conn.Close()
			for begun <- struct{}{}; !stop.Load(); {
				_, _ = c.do() // it may be refused
			}
		})
	}
	for range clients {
		<-begun
	}
	defer group.Wait()
	defer stop.Store(true)
	return w.overHTTP(b, 4, address, o)
}

// user makes a user who may do everything.
func (w *workbench) user(b *testing.B, name string) aws.Credentials {
	p := &iam.Principal{ARN: "arn:aws:iam::111122223333:user/" + name, Account: "111122223333", Kind: iam.KindUser,
		CreatedAt: time.Now(), PrincipalDetails: iam.PrincipalDetails{Name: name, UniqueID: "AIDA" + name,
			Policies: map[string]string{"all": `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`}}}
	check(b, w.store.PutPrincipal(b.Context(), p))
	c, err := w.service.IAM().CreateAccessKey(b.Context(), p.Account, p.ARN)
	check(b, err)
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: string(c.SecretAccessKey)}
}

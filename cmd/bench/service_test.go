package bench_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/verenc/kms/cmd/verenc/lines"
	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/sdktest"
	"github.com/verenc/kms/transport/sigv4"
)

// The benchmark of the whole: each operation over HTTP with SigV4, against the same PKCS#11 calls
// in a bare loop, and against a bare net/http handler that does no more than verify a signature and
// answer JSON. All of it is measured in one run, in turns, and the median of the rounds counts,
// since a machine's speed changes from minute to minute.
const (
	rounds   = 3
	perRound = 700 * time.Millisecond
)

var clientCounts = []int{1, 16, 64}

func BenchmarkService(b *testing.B) {
	for b.Loop() {
		w := newWorkbench(b)
		w.run(b)
	}
}

// BenchmarkAudit compares servers that keep an audit log, on the file system of the temporary
// folder, with the same one that keeps none: in one run, in turns, at auditedClients clients. One
// syncs each record before the answer, one within 50 ms, as verenc does by default with records of
// what changes nothing.
func BenchmarkAudit(b *testing.B) {
	for b.Loop() {
		w := newWorkbench(b)
		w.runAudit(b)
	}
}

const (
	auditedClients = 16
	auditRounds    = 7 // more than rounds, since the difference is small
)

// workbench is a server, the same one with audit logs, a bare handler, and the token below.
type workbench struct {
	token     *hsm.Token
	group     *hsm.Group // of that token
	log       *zap.Logger
	can       service.Capabilities
	raw       cryptoki.Module // of the same token
	serial    string
	url, bare string
	empty     string // answers without looking at the request
	withPages string // the same server as url, with the documentation and the console
	audited   []auditedServer
	creds     aws.Credentials
	aad       []byte

	keys           hsm.SealingKeys
	rsa, ec, mac   hsm.Key
	keyID          string
	rsaKeyID, ecID string
	macID          string
}

// benchOperation is an operation over HTTP, and the same calls on the raw token.
type benchOperation struct {
	name string
	body map[string]any
	raw  func(*rawToken) error
}

func newWorkbench(b *testing.B) *workbench { return newWorkbenchOf(b, 0) }

// newWorkbenchOf is newWorkbench with hsm.Config.Turns.
func newWorkbenchOf(b *testing.B, turns int) *workbench {
	floor := make([]byte, 8<<20) // as verenc serve has it; the bare handler gains as much
	b.Cleanup(func() { runtime.KeepAlive(floor) })
	soft := softhsm.New(b)
	w := &workbench{aad: make([]byte, 12+25+4+30)}
	var err error
	w.token, err = hsm.Open(b.Context(), hsm.Config{
		Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN, Sessions: 130, Turns: turns,
	})
	check(b, err)
	w.group, err = hsm.NewGroup(w.token) // as verenc serve has it
	check(b, err)
	b.Cleanup(func() { check(b, w.group.Close()) })
	w.raw, w.serial = rawModule(b, soft.Module), soft.Serial
	db, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "kms.db"), Create: true})
	check(b, err)
	b.Cleanup(func() { check(b, db.Close()) })
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	check(b, err)
	b.Cleanup(func() { null.Close() })
	w.log = zap.New(
		zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), lines.NewBatch(null), zap.InfoLevel),
	)
	w.can = service.CapabilitiesOf(w.token.SelfTest(b.Context()))
	w.serveFrom(b, db)
	w.bare, w.empty = w.serve(b, bareHandler(w.creds)), w.serve(b, emptyHandler())
	for _, within := range []time.Duration{0, 50 * time.Millisecond} {
		a := auditedServer{within: within, log: w.openLog(b, db, within)}
		_, a.handler = w.newServer(b, db, a.log)
		a.url = w.serve(b, a.handler)
		w.audited = append(w.audited, a)
	}
	w.keyID, w.keys = w.newKey(b, db, `{}`)
	w.rsaKeyID, w.rsa = w.newOneKey(b, db, `{"KeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY"}`)
	w.ecID, w.ec = w.newOneKey(b, db, `{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY"}`)
	w.macID, w.mac = w.newOneKey(b, db, `{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`)
	return w
}

// newServer is a service on a database, and its handler.
func (w *workbench) newServer(b *testing.B, db *store.DB, auditor record.Auditor) (*service.Service, http.Handler) {
	s, err := service.New(service.Config{Audit: auditor, Store: db, Token: w.group, Log: w.log, Can: w.can})
	check(b, err)
	handler, err := transport.New(w.config(s))
	check(b, err)
	return s, handler
}

func (w *workbench) config(s *service.Service) transport.Config {
	return transport.Config{Service: s, Log: w.log, Metrics: prometheus.NewRegistry(), Regions: []string{"us-east-1"},
		AnswerWithin: transport.TimeoutsFor(time.Second, time.Second, time.Second).Answer}
}

// serveFrom makes the server one with an empty database, and an access key in it.
func (w *workbench) serveFrom(b *testing.B, db *store.DB) {
	s, unaudited := w.newServer(b, db, record.NoAudit)
	check(b, s.InitServiceObjects(b.Context()))
	c, err := s.IAM().CreateRootAccessKey(b.Context(), "111122223333")
	check(b, err)
	w.creds = aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: string(c.SecretAccessKey)}
	w.url = w.serve(b, unaudited)
	pages, err := transport.Pages(w.config(s))
	check(b, err)
	w.withPages = w.serve(b, transport.WithPages(unaudited, pages))
}

// auditedServer is a server with an audit log.
type auditedServer struct {
	within  time.Duration // until a record is synced
	url     string
	handler http.Handler
	log     *audit.Log
}

// openLog begins an audit log whose checkpoints the token signs.
func (w *workbench) openLog(b *testing.B, db *store.DB, within time.Duration) *audit.Log {
	signers, err := evidence.AuditKeys{Store: db, Token: w.token, Now: time.Now, Rand: rand.Reader}.Signers(b.Context())
	check(b, err)
	log, err := audit.Open(b.Context(), audit.Config{
		Dir: filepath.Join(b.TempDir(), "audit"), Create: true, Origin: "kms.example.com/bench",
		Signers: signers, SyncWithin: within,
	})
	check(b, err)
	b.Cleanup(func() { check(b, log.Close(context.Background())) })
	return log
}

func (w *workbench) serve(b *testing.B, h http.Handler) string {
	s := httptest.NewServer(h)
	b.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// bareHandler does what every signed JSON service must: read, verify, decode, encode.
func bareHandler(c aws.Credentials) http.Handler {
	derived := sync.Map{}
	v := sigv4.New(sigv4.Config[string]{Service: "kms", Region: func(string) bool { return true },
		Lookup: func(_ context.Context, s sigv4.Scope) (sigv4.Key[string], error) {
			key, ok := derived.Load(s)
			if !ok {
				key = sigv4.SigningKey([]byte(c.SecretAccessKey), s)
				derived.Store(s, key)
			}
			return sigv4.Key[string]{Signing: key.([sha256.Size]byte), Principal: "root"}, nil
		}})
	answer := map[string]any{"KeyId": "arn:aws:kms:us-east-1:111122223333:key/11111111-2222-4333-8444-555555555555",
		"CiphertextBlob": make([]byte, 120), "Plaintext": make([]byte, 32),
		"KeyMaterialId": hex.EncodeToString(make([]byte, 32))}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err == nil {
			_, _, err = v.Verify(r, body, time.Now())
		}
		var in map[string]any
		if err = errors.Join(err, json.Unmarshal(body, &in)); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(rw).Encode(answer)
	})
}

// newKey makes a key over HTTP and tells where it is in the token. The one object of a pair, or of an HMAC
// key, is given as Seal.
func (w *workbench) newKey(b *testing.B, db *store.DB, body string) (string, hsm.SealingKeys) {
	var out struct{ KeyMetadata struct{ KeyId string } }
	check(b, json.Unmarshal(w.call(b, "CreateKey", body), &out))
	k, err := db.Key(b.Context(), "us-east-1", out.KeyMetadata.KeyId)
	check(b, err)
	o := k.Materials[0].Objects
	for _, alone := range []service.Role{service.RolePair, service.RoleMAC} {
		if id, ok := o[alone]; ok {
			return k.ID, hsm.SealingKeys{Seal: id}
		}
	}
	return k.ID, hsm.SealingKeys{Seal: o[service.RoleSeal], Wrap: o[service.RoleWrap]}
}

// newOneKey is newKey for a key that has one object.
func (w *workbench) newOneKey(b *testing.B, db *store.DB, body string) (string, hsm.Key) {
	id, keys := w.newKey(b, db, body)
	return id, keys.Seal
}

// call makes one request and returns the answer's body.
func (w *workbench) call(b *testing.B, operation, body string) []byte {
	c := w.connect(b, w.url, operation, body)
	defer c.Close()
	out, err := c.Do()
	check(b, err)
	return out
}

// connect gives a connection for a request that is signed now. The signature is good for the clock skew of five
// minutes, so that clients sign nothing while they measure: it is the server whose cost counts.
func (w *workbench) connect(b *testing.B, address, operation, body string) *sdktest.Replay {
	c, err := sdktest.NewReplay(w.signed(b, address, operation, body))
	check(b, err)
	return c
}

func (w *workbench) signed(b *testing.B, address, operation, body string) *http.Request {
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/", strings.NewReader(body))
	check(b, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	hash := sha256.Sum256([]byte(body))
	check(
		b,
		v4.NewSigner().SignHTTP(b.Context(), w.creds, r, hex.EncodeToString(hash[:]), "kms", "us-east-1", time.Now()),
	)
	return r
}

func (w *workbench) operations(b *testing.B) []benchOperation {
	encryptionContext := map[string]string{"tenant": "blue", "purpose": "bench"}
	blob := func(operation string, body map[string]any) []byte {
		text, err := json.Marshal(body)
		check(b, err)
		var out struct{ CiphertextBlob []byte }
		check(b, json.Unmarshal(w.call(b, operation, string(text)), &out))
		return out.CiphertextBlob
	}
	dataKey := map[string]any{"KeyId": w.keyID, "KeySpec": "AES_256", "EncryptionContext": encryptionContext}
	sealed, wrapped := blob("GenerateDataKey", dataKey), blob("GenerateDataKeyWithoutPlaintext", dataKey)
	sealedBox, err := w.token.Encrypt(b.Context(), w.keys.Seal, make([]byte, 32), w.aad)
	check(b, err)
	wrappedBox, err := w.token.GenerateWrapped(b.Context(), w.keys, 32, w.aad)
	check(b, err)
	return []benchOperation{
		{
			"Encrypt",
			map[string]any{"KeyId": w.keyID, "Plaintext": make([]byte, 32), "EncryptionContext": encryptionContext},
			func(r *rawToken) error { return r.encrypt(w.aad) },
		},
		{"Decrypt", map[string]any{"CiphertextBlob": sealed, "EncryptionContext": encryptionContext},
			func(r *rawToken) error { return r.decrypt(sealedBox, w.aad) }},
		{"Decrypt of form 2", map[string]any{"CiphertextBlob": wrapped, "EncryptionContext": encryptionContext},
			func(r *rawToken) error { return r.decryptWrapped(wrappedBox, w.aad) }},
		{"GenerateDataKey", dataKey, func(r *rawToken) error { return r.generateDataKey(w.aad) }},
		{"GenerateDataKeyWithoutPlaintext", dataKey, func(r *rawToken) error { return r.generateWrapped(w.aad) }},
		{"Sign (RSA_2048)", map[string]any{"KeyId": w.rsaKeyID, "Message": make([]byte, 32), "MessageType": "DIGEST",
			"SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"},
			func(r *rawToken) error { return r.signRSA() }},
		{"Sign (ECC_NIST_P256)", map[string]any{"KeyId": w.ecID, "Message": make([]byte, 32), "MessageType": "DIGEST",
			"SigningAlgorithm": "ECDSA_SHA_256"},
			func(r *rawToken) error { return r.signECDSA() }},
		{"GenerateMac", map[string]any{"KeyId": w.macID, "Message": make([]byte, 32), "MacAlgorithm": "HMAC_SHA_256"},
			func(r *rawToken) error { return r.generateMAC() }},
	}
}

func (w *workbench) run(b *testing.B) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer out.Flush()
	fmt.Fprintln(out, "clients\toperation\tservice/s\traw token/s\tbare HTTP/s\tof raw\tof bare\t")
	for _, clients := range clientCounts {
		for _, o := range w.operations(b) {
			var served, raw, bare [rounds]float64
			for i := range rounds {
				served[i] = w.overHTTP(b, clients, w.url, o)
				raw[i] = w.onToken(b, clients, o)
				bare[i] = w.overHTTP(b, clients, w.bare, o)
			}
			s, r, h := median(served[:]), median(raw[:]), median(bare[:])
			fmt.Fprintf(out, "%d\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t\n", clients, o.name, s, r, h, s/r, s/h)
		}
	}
}

// runAudit prints the ratio of each pair of neighbours in time, by its median: both saw the same
// machine. On a machine that others use too, the processor time that a request costs, client and
// token included, says more than the rate.
func (w *workbench) runAudit(b *testing.B) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer out.Flush()
	fmt.Fprintln(out, "clients\toperation\tsync within\twithout/s\taudited/s\tratio\tfrom\tto\t"+
		"without CPU us\taudited CPU us\tratio\trecords a sync\t")
	for _, o := range w.operations(b) {
		for _, a := range w.audited {
			w.compareAudited(b, out, o, a)
		}
	}
}

func (w *workbench) compareAudited(b *testing.B, out io.Writer, o benchOperation, a auditedServer) {
	var without, with, ratios, cpuWithout, cpuWith []float64
	before := a.log.Stats()
	for range auditRounds {
		rate, cpu := w.costOverHTTP(b, w.url, o)
		audited, auditedCPU := w.costOverHTTP(b, a.url, o)
		without, with, ratios = append(without, rate), append(with, audited), append(ratios, audited/rate)
		cpuWithout, cpuWith = append(cpuWithout, cpu), append(cpuWith, auditedCPU)
	}
	after := a.log.Stats()
	fmt.Fprintf(out, "%d\t%s\t%v\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.2f\t%.1f\t\n",
		auditedClients, o.name, a.within, median(without), median(with), median(ratios),
		slices.Min(ratios), slices.Max(ratios), median(cpuWithout), median(cpuWith), median(cpuWithout)/median(cpuWith),
		float64(after.Appended-before.Appended)/float64(after.Syncs-before.Syncs))
}

// costOverHTTP is overHTTP with the processor time that a request took in this process, in
// microseconds.
func (w *workbench) costOverHTTP(b *testing.B, address string, o benchOperation) (rate, cpu float64) {
	begun, spent := time.Now(), cpuTime(b)
	rate = w.overHTTP(b, auditedClients, address, o)
	return rate, float64((cpuTime(b) - spent).Microseconds()) / (rate * time.Since(begun).Seconds())
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(rates []float64) float64 {
	slices.Sort(rates)
	return rates[len(rates)/2]
}

func (w *workbench) overHTTP(b *testing.B, clients int, address string, o benchOperation) float64 {
	text, err := json.Marshal(o.body)
	check(b, err)
	operation, _, _ := strings.Cut(o.name, " ")
	all := make([]*sdktest.Replay, clients)
	for i := range all {
		all[i] = w.connect(b, address, operation, string(text))
		defer all[i].Close()
	}
	return rate(b, clients, func(i int) error { _, err := all[i].Do(); return err })
}

func (w *workbench) onToken(b *testing.B, clients int, o benchOperation) float64 {
	all := newRawTokens(b, w, clients)
	defer func() {
		for _, r := range all {
			r.close(b)
		}
	}()
	return rate(b, clients, func(i int) error { return o.raw(all[i]) })
}

// rate counts what the workers do together in a round, a second.
func rate(b *testing.B, workers int, do func(worker int) error) float64 {
	var done atomic.Int64
	var group sync.WaitGroup
	begun := time.Now()
	end := begun.Add(perRound)
	for i := range workers {
		group.Go(func() {
			for time.Now().Before(end) {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(begun).Seconds()
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

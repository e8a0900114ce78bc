package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	_ "github.com/jackc/pgx/v5/stdlib" // of multiply

	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/service/store/postgrestest"
)

const (
	manyKeys     = 1_000_000
	fewKeys      = 10
	scaleClients = 16
	scaleRounds  = 5
	scaleRound   = 2 * time.Second
)

// crowd is a server with a token of its own, whose database has the given number of keys of
// residency wrapped.
type crowd struct {
	keys        int
	server      *running
	url         string
	creds       aws.Credentials
	client      *http.Client
	ready, work time.Duration // from the start of the process until it is ready, and until its first data key
}

// workingSet is how many of the first keys clients use.
type workingSet struct {
	name  string
	where *crowd
	size  int

	cost, rate []float64 // microseconds of the server's processor time a request; requests a second
}

// BenchmarkManyKeys compares GenerateDataKey on a server with 1,000,000 keys with one that has 10:
// the processor time that a request takes in the server's process, SoftHSM included, in turns. It
// also tells the time to start, and the memory. It does so in SQLite and in PostgreSQL.
func BenchmarkManyKeys(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) { manyAndFew(b, func() *site { return newSite(b) }) })
	b.Run("PostgreSQL", func(b *testing.B) {
		manyAndFew(b, func() *site { return newSite(b).with("VERENC_DATABASE=" + postgrestest.NewDatabase(b)) })
	})
}

func manyAndFew(b *testing.B, site func() *site) {
	for b.Loop() {
		few, many := newCrowd(b, site(), fewKeys), newCrowd(b, site(), manyKeys)
		sets := []*workingSet{
			{name: "10 keys", where: few, size: fewKeys},
			{name: "1,000,000 keys, 10 in use", where: many, size: fewKeys},
			{name: "1,000,000 keys, 5,000 in use", where: many, size: 5_000},
			{name: "1,000,000 keys, all in use", where: many, size: manyKeys},
		}
		for _, s := range sets[:3] {
			s.warm(b)
		}
		for range scaleRounds {
			for _, s := range sets[:3] {
				s.measure(b)
			}
		}
		memory := many.memory(b)
		for range scaleRounds { // last, since it takes what the others hold
			sets[3].measure(b)
		}
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "database\tGenerateDataKey/s\tserver CPU us\tcost\t")
		for _, s := range sets {
			fmt.Fprintf(out, "%s\t%.0f\t%.0f\t%.2f\t\n", s.name, middle(s.rate), middle(s.cost),
				middle(s.cost)/middle(sets[0].cost))
		}
		out.Flush()
		for _, c := range []*crowd{few, many} {
			fmt.Printf("%d keys: ready %.2f s after its start, first data key after %.2f s\n", c.keys,
				c.ready.Seconds(), c.work.Seconds())
		}
		fmt.Printf("memory with 5,000 keys held %d MB; after use of all %d MB\n", memory>>20, many.memory(b)>>20)
	}
}

func newCrowd(b *testing.B, s *site, keys int) *crowd {
	s = s.initialise(b).with("VERENC_TOKEN_RESIDENCY=wrapped", "VERENC_AUDIT_DIR=none")
	first := s.serve(b)
	made, err := s.sdk(b, "http://"+first.api, http.DefaultClient).CreateKey(b.Context(), &kms.CreateKeyInput{})
	if err != nil {
		b.Fatal(err)
	}
	first.stop(b)
	if err := multiply(b.Context(), s.database(), *made.KeyMetadata.KeyId, keys); err != nil {
		b.Fatal(err)
	}
	c := &crowd{keys: keys, creds: s.accessKey(b),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: scaleClients}}}
	begun := time.Now()
	c.server = s.serve(b)
	c.url = "http://" + c.server.api
	if status, text := get(b, c.client, c.url+"/readyz"); status != http.StatusOK {
		b.Fatal(text)
	}
	c.ready = time.Since(begun)
	if err := c.generate(b.Context(), 0); err != nil {
		b.Fatal(err)
	}
	c.work = time.Since(begun)
	return c
}

// database is the setting.
func (s *site) database() (value string) {
	for _, pair := range s.env {
		if v, is := strings.CutPrefix(pair, "VERENC_DATABASE="); is {
			value = v
		}
	}
	return value
}

// multiply fills a database with copies of a key: each with an id and names of its own, and so with
// a row, a cache entry and a session object of its own. That the key material is the same is for
// the sake of the hour that it would take to make.
func multiply(ctx context.Context, database, id string, keys int) (err error) {
	driver, many := "sqlite3", "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1)"
	hex := func(digits int, number string) string { return fmt.Sprintf("printf('%%0%dx', %s)", digits, number) }
	if store.IsURL(database) {
		driver, many = "pgx", "WITH n(i) AS (SELECT * FROM generate_series(0, $1::bigint - 1))"
		hex = func(digits int, number string) string {
			return fmt.Sprintf("lpad(to_hex(%s), %d, '0')", number, digits)
		}
	}
	db, err := sql.Open(driver, database)
	if err != nil {
		return err
	}
	defer func() {
		if closed := db.Close(); err == nil {
			err = closed
		}
	}()
	var text string
	if err := db.QueryRowContext(ctx, "SELECT materials FROM keys WHERE id = $1", id).Scan(&text); err != nil {
		return err
	}
	var materials []struct {
		ID      string
		Objects map[string]string
	}
	if err := json.Unmarshal([]byte(text), &materials); err != nil {
		return err
	}
	m := materials[0]
	const same = "account, spec, usage, origin, state, description, policy, created_at, tags, details, key_store"
	copied := fmt.Sprintf("replace(replace(replace(materials, $2, %s), $3, %s), $4, %s)",
		hex(64, "i"), hex(32, "2 * i + 16"), hex(32, "2 * i + 17"))
	_, err = db.ExecContext(ctx, "INSERT INTO keys (region, id, materials, "+same+") "+many+
		" SELECT region, '00000000-0000-4000-8000-' || "+hex(12, "i")+", "+copied+", "+same+
		" FROM n, keys WHERE keys.id = $5", keys, m.ID, m.Objects["seal"], m.Objects["wrap"], id)
	if err == nil {
		_, err = db.ExecContext(ctx, "ANALYZE") // as autovacuum does before long
	}
	return err
}

// generate makes a data key under the key with this number.
func (c *crowd) generate(ctx context.Context, key int) error {
	return generateDataKey(ctx, c.client, c.creds, c.url, fmt.Sprintf("00000000-0000-4000-8000-%012x", key))
}

// generateDataKey is much cheaper for the client than the SDK's.
func generateDataKey(ctx context.Context, client *http.Client, by aws.Credentials, url, key string) error {
	r, err := signed(ctx, by, url, "GenerateDataKey", fmt.Sprintf(`{"KeyId":%q,"KeySpec":"AES_256"}`, key))
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", answer.StatusCode, text)
	}
	return err
}

// cpu is the processor time that the server has taken: utime and stime of proc(5), in ticks of 10 ms.
func (c *crowd) cpu(b *testing.B) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.server.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+2:])
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(string(f))
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is the server's resident set, in bytes.
func (c *crowd) memory(b *testing.B) int64 {
	var pages, resident int64
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.server.cmd.Process.Pid))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pages, &resident)
	}
	if err != nil {
		b.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

// warm uses every key of a set once.
func (s *workingSet) warm(b *testing.B) {
	var next atomic.Int64
	s.clients(b, func(*rand.Rand) (int, bool) { n := int(next.Add(1)) - 1; return n, n < s.size })
}

func (s *workingSet) measure(b *testing.B) {
	begun, spent := time.Now(), s.where.cpu(b)
	end := begun.Add(scaleRound)
	n := s.clients(b, func(r *rand.Rand) (int, bool) { return r.IntN(s.size), time.Now().Before(end) })
	s.cost = append(s.cost, float64((s.where.cpu(b)-spent).Microseconds())/float64(n))
	s.rate = append(s.rate, float64(n)/time.Since(begun).Seconds())
}

// clients makes data keys with all clients until there is no next key, and returns how many were
// made.
func (s *workingSet) clients(b *testing.B, next func(*rand.Rand) (key int, more bool)) int64 {
	var done atomic.Int64
	var group sync.WaitGroup
	for i := range scaleClients {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), uint64(len(s.rate))))
			for {
				key, more := next(r)
				if !more {
					return
				}
				if err := s.where.generate(b.Context(), key); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	return done.Load()
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/store/postgrestest"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// graces are the servers' database_grace. A server decides on nothing that is older than that, and
// than a second, whatever happens to it: it compares before each use. So these bounds hold on a slow
// machine, too. The second is also the bound while the database answers, which the first two servers
// keep by refusing.
var graces = []time.Duration{0, 500 * time.Millisecond, 3 * time.Second}

const (
	promised = time.Second // docs/high-availability.md, "What the servers promise each other"
	region   = "us-east-1"
	grantee  = "arn:aws:iam::111122223333:user/grantee"
)

// cluster is three servers of the real program, on one PostgreSQL and one token.
type cluster struct {
	dir       string // of folders and credentials
	program   string
	residency string // of keys
	began     time.Time

	postgres *postgrestest.Server
	database string // URL, past all links
	soft     softhsm.Token
	nodes    []*node

	root, grantee aws.Credentials

	mu      sync.Mutex
	answers []map[string]answer // guarded by mu: by node and request id
}

// clock is the time since the run began, by the monotonic clock of this process alone.
func (c *cluster) clock() time.Duration { return time.Since(c.began) }

// answered records an answer. Each must have its record in the server's log.
func (c *cluster) answered(node int, requestID string, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[node][requestID] = a
}

// answer is what a client was told.
type answer struct {
	target, code string
	status       int
	at           time.Duration
}

func (c *cluster) bounds() (all []time.Duration) {
	for _, n := range c.nodes {
		all = append(all, n.bound)
	}
	return all
}

// newCluster builds the program, initialises everything, and starts the servers.
func newCluster(t testing.TB, residency string) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir(), residency: residency, began: time.Now()}
	c.program = filepath.Join(c.dir, "verenc")
	if out, err := exec.Command("go", "build", "-o", c.program, "../verenc").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	c.postgres, c.soft = postgrestest.Start(t, "fsync=on"), softhsm.New(t)
	c.database = c.postgres.NewDatabase(t)
	for i, grace := range graces {
		c.answers = append(c.answers, map[string]answer{})
		c.nodes = append(c.nodes, c.newNode(t, i, grace))
		args := []string{"init", "--credentials", c.path("root")}
		if i > 0 {
			args = []string{"audit", "init"}
		}
		c.does(t, i, args...)
	}
	c.does(t, 0, "user", "create", "grantee")
	c.does(t, 0, "access-key", "create", "--user", "grantee", "--credentials", c.path("grantee"))
	c.root, c.grantee = readCredentials(t, c.path("root")), readCredentials(t, c.path("grantee"))
	for _, n := range c.nodes {
		t.Cleanup(func() { n.stop(t) })
		c.start(t, n)
	}
	return c
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) auditDir(i int) string { return c.path("audit-" + nodeName(i)) }

func (c *cluster) newNode(t testing.TB, i int, grace time.Duration) *node {
	t.Helper()
	n := &node{name: nodeName(i), bound: max(grace, promised), authenticated: map[string]bool{},
		module: faults.New(t, c.soft), link: newLink(t, filepath.Join(c.postgres.Dir, ".s.PGSQL.5432"))}
	_, database, _ := strings.Cut(strings.TrimPrefix(c.database, "postgres://"), "/")
	database, _, _ = strings.Cut(database, "?")
	n.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "SOFTHSM2_CONF=" + c.soft.Conf,
		"VERENC_TOKEN_MODULE=" + n.module.Path, "VERENC_TOKEN_LABEL=" + c.soft.Label,
		"VERENC_TOKEN_PIN_FILE=" + c.soft.PINFile, "VERENC_TOKEN_RESIDENCY=" + c.residency,
		"VERENC_DATABASE=postgres://postgres@" + n.link.address() + "/" + database + "?sslmode=disable",
		"VERENC_DATABASE_GRACE=" + grace.String(),
		"VERENC_AUDIT_DIR=" + c.auditDir(i), "VERENC_AUDIT_ORIGIN=node-" + n.name, "VERENC_AUDIT_CHECKPOINT_WITHIN=1s",
		"VERENC_RECONCILE_INTERVAL=1s", "VERENC_SHUTDOWN_TIMEOUT=1m",
		"VERENC_LISTEN=127.0.0.1:0", "VERENC_PRIVATE_LISTEN=127.0.0.1:0"}
	return n
}

// command is the program with the settings of a server.
func (c *cluster) command(i int, args ...string) *exec.Cmd {
	cmd := exec.Command(c.program, args...)
	cmd.Env = c.nodes[i].env
	return cmd
}

// does runs a command that must succeed, and returns its output.
func (c *cluster) does(t testing.TB, i int, args ...string) string {
	t.Helper()
	out, err := c.command(i, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("verenc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (c *cluster) start(t testing.TB, n *node) {
	t.Helper()
	if err := n.run(c.program, filepath.Join(t.ArtifactDir(), "node-"+n.name+".log")); err != nil {
		t.Fatal(err)
	}
}

var credentialLines = regexp.MustCompile(`aws_access_key_id = (\S+)\naws_secret_access_key = (\S+)`)

func readCredentials(t testing.TB, path string) aws.Credentials {
	t.Helper()
	text, err := os.ReadFile(path)
	found := credentialLines.FindStringSubmatch(string(text))
	if err != nil || found == nil {
		t.Fatalf("credentials in %s: %v", path, err)
	}
	return aws.Credentials{AccessKeyID: found[1], SecretAccessKey: found[2]}
}

// attemptTimeout is of one HTTP request. An attempt that is given up has no known outcome.
const attemptTimeout = 4 * time.Second

// client is an AWS SDK's, with its own retries, behind a load balancer.
func (c *cluster) client(who aws.Credentials, r *rand.Rand) *kms.Client {
	return kms.New(kms.Options{BaseEndpoint: aws.String("http://kms.test"), Region: region,
		HTTPClient:  &http.Client{Transport: newBalancer(c, r), Timeout: attemptTimeout},
		Credentials: credentials.NewStaticCredentialsProvider(who.AccessKeyID, who.SecretAccessKey, "")})
}

// healing waits until every server is ready, and tells how long that took, and what was missing last.
func (c *cluster) healing(ctx context.Context) (longest time.Duration, last string, err error) {
	began := time.Now()
	for _, n := range c.nodes {
		for {
			why := n.ready()
			if why == nil {
				break
			}
			last = fmt.Sprintf("node %s: %v", n.name, why)
			select {
			case <-ctx.Done():
				took := time.Since(began).Round(time.Second)
				return 0, last, fmt.Errorf("node %s is not ready after %v: %w", n.name, took, why)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return time.Since(began), last, nil
}

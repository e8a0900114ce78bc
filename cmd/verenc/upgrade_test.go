package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/store/postgrestest"
	"github.com/verenc/kms/transport/sdktest"
)

// withMigrations builds this program with more migrations, as the next version may have them: names
// after the number, and their texts.
func withMigrations(t *testing.T, more ...[2]string) (program string) {
	t.Helper()
	dir := t.TempDir()
	migrations, err := filepath.Abs("../../service/store/migrations/postgres")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadDir(migrations)
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string } // go help build, -overlay
	overlay.Replace = map[string]string{}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for i, m := range more {
		name := fmt.Sprintf("%04d_%s", len(ours)+1+i, m[0])
		overlay.Replace[filepath.Join(migrations, name)] = write(name, m[1])
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "verenc")
	build := exec.Command("go", "build", "-overlay", write("overlay.json", string(text)), "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// balancer spreads requests over servers, as a load balancer does that notices only by a failed request that one
// of them is gone. Clients try again.
type balancer struct {
	http.RoundTripper
	mu        sync.Mutex
	addresses map[string]string // guarded by mu: of the servers by their names
	next      []string          // guarded by mu: those who have not had their turn
}

func (b *balancer) serves(name, address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addresses[name] = address
}

func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	if len(b.next) == 0 {
		for name := range b.addresses {
			b.next = append(b.next, name)
		}
	}
	name := b.next[0]
	address := b.addresses[name]
	b.next = b.next[1:]
	b.mu.Unlock()
	there := r.Clone(r.Context())
	there.Host = cmp.Or(r.Host, r.URL.Host) // it is signed
	there.URL.Host = address
	answer, err := b.RoundTripper.RoundTrip(there)
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.addresses[name] == address && len(b.addresses) > 1 {
			delete(b.addresses, name)
			b.next = nil
		}
	}
	return answer, err
}

// makeAndUse makes keys and uses them, until ctx ends.
func makeAndUse(ctx context.Context, t *testing.T, client *kms.Client, done *atomic.Int64) {
	for ctx.Err() == nil {
		made, err := client.CreateKey(context.WithoutCancel(ctx), &kms.CreateKeyInput{})
		if err != nil {
			t.Errorf("create a key: %v", err)
			return
		}
		for range 5 {
			sealed, err := client.Encrypt(context.WithoutCancel(ctx),
				&kms.EncryptInput{KeyId: made.KeyMetadata.KeyId, Plaintext: []byte("plaintext")})
			if err != nil {
				t.Errorf("encrypt: %v", err)
				return
			}
			in := &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}
			if _, err := client.Decrypt(context.WithoutCancel(ctx), in); err != nil {
				t.Errorf("decrypt: %v", err)
				return
			}
			done.Add(1)
		}
	}
}

// TestUpgrade: servers of two versions share a database under load, and either can be restarted, as long as
// migrations are additive. After a breaking one, the older version refuses to serve.
//
// This version is the older one, and the newer one is what it may become. When there is a release, its
// program takes the place of the older one (CONTRIBUTING.md).
func TestUpgrade(t *testing.T) {
	additive := [2]string{"next.sql",
		"ALTER TABLE keys ADD COLUMN next TEXT NOT NULL DEFAULT ''; CREATE TABLE next (id BIGINT)"}
	breaking := [2]string{"last.breaking.sql", "DROP TABLE next"}
	newer, newest := withMigrations(t, additive), withMigrations(t, additive, breaking)
	// Wrapped keys are no token objects: a process that lists SoftHSM2's objects while another one makes one
	// may never see it.
	nodes := newSite(t).with("VERENC_DATABASE="+postgrestest.NewDatabase(t), "VERENC_TOKEN_RESIDENCY=wrapped").
		nodes(t, "a", "b")
	a, b := nodes[0], nodes[1]
	lb := &balancer{RoundTripper: sdktest.Transport{Transport: &http.Transport{DisableKeepAlives: true}},
		addresses: map[string]string{"a": a.api, "b": b.api}}
	client := kms.New(a.Options(), func(o *kms.Options) {
		o.RetryMaxAttempts, o.HTTPClient = 20, &http.Client{Transport: lb}
	})
	loading, end := context.WithCancel(t.Context())
	var done atomic.Int64
	var loads sync.WaitGroup
	defer loads.Wait() // also after a failure
	defer end()
	for range 2 {
		loads.Go(func() { makeAndUse(loading, t, client, &done) })
	}
	restart := func(n *node, name, program string) *node {
		t.Helper()
		if code := n.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		n.site = n.site.with()
		n.site.program = program
		n = n.site.node(t, name)
		lb.serves(name, n.api)
		before := done.Load()
		until(t, "the load goes on", func() bool { return t.Failed() || done.Load() > before+20 })
		return n
	}
	b = restart(b, "b", newer) // it migrates
	a = restart(a, "a", "")    // the older one starts beside it
	b = restart(b, "b", newer)
	each(t, a, b)
	each(t, b, a)
	a = restart(a, "a", newer)
	end()
	loads.Wait()

	if code := b.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b.site.program = newest
	b = b.site.node(t, "b")
	a.await(t, "database upgraded; requests fail until this server is upgraded, too", "", "")
	until(t, "not ready", func() bool {
		status, _ := get(t, http.DefaultClient, "http://"+a.private+"/readyz")
		return status == http.StatusServiceUnavailable
	})
	if _, err := a.CreateKey(t.Context(), &kms.CreateKeyInput{}); codeOf(err) != "DependencyTimeoutException" {
		t.Errorf("got %v", err)
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	refused(t, a.site.run(t, "serve"), "and only versions of verenc that know schema", "run that version, or a newer one")
	a.site.program = newest
	a = a.site.node(t, "a")
	each(t, a, b)
}

// each: what one server does, the other one knows.
func each(t *testing.T, one, other *node) {
	t.Helper()
	key, err := one.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := key.KeyMetadata.KeyId
	encrypt := func() error {
		_, err := other.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("plaintext")})
		return err
	}
	if err := encrypt(); err != nil {
		t.Error(err)
	}
	if _, err := one.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}); err != nil {
		t.Error(err)
	}
	until(t, "the key is disabled on the other server", func() bool { return codeOf(encrypt()) == "DisabledException" })
}

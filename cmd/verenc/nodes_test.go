package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/verenc/kms/service/store/postgrestest"
	"github.com/verenc/kms/softhsm"
)

// node is one of several servers on one database and one token.
type node struct {
	*running
	*kms.Client
	site *site
}

// ofNode is the site with the settings that each server has of its own.
func (s *site) ofNode(name string) *site {
	return s.with("VERENC_AUDIT_DIR="+s.path("audit-"+name), "VERENC_AUDIT_ORIGIN="+name)
}

func (s *site) node(t testing.TB, name string) *node {
	t.Helper()
	own := s.ofNode(name)
	r := own.serve(t)
	return &node{r, s.sdk(t, "http://"+r.api, http.DefaultClient), own}
}

// newNodes initialises a site on PostgreSQL, and starts a server for each name.
func newNodes(t testing.TB, database string, names ...string) []*node {
	t.Helper()
	s := newSite(t).with("VERENC_DATABASE="+database, "VERENC_DATABASE_GRACE=1h",
		"VERENC_AUDIT_CHECKPOINT_WITHIN=200ms")
	return s.nodes(t, names...)
}

func (s *site) nodes(t testing.TB, names ...string) (nodes []*node) {
	t.Helper()
	for i, name := range names {
		args := []string{"init", "--credentials", s.path("credentials")}
		if i > 0 {
			args = []string{"audit", "init"}
		}
		if r := s.ofNode(name).run(t, args...); r.code != 0 {
			t.Fatal(r)
		}
		nodes = append(nodes, s.node(t, name))
	}
	return nodes
}

// until asks for far longer than promised, so that a slow machine doesn't fail.
func until(t *testing.T, what string, ask func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ask() {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%s: not within 30 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// TestNodes: what one server changes, the other one follows.
func TestNodes(t *testing.T) {
	nodes := newNodes(t, postgrestest.NewDatabase(t), "a", "b")
	a, b := nodes[0], nodes[1]
	key, err := a.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := key.KeyMetadata.KeyId
	box, err := b.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("plaintext")})
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: box.CiphertextBlob})
	if err != nil || string(out.Plaintext) != "plaintext" {
		t.Fatalf("got %v, %v", out, err)
	}
	if _, err := a.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	after := until(t, "the key is disabled on the other server", func() bool {
		_, err := b.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: box.CiphertextBlob})
		return codeOf(err) == "DisabledException"
	})
	t.Logf("disabled after %v", after)
	// One that is killed is missed by nobody, and comes back.
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.wait()
	if _, err := b.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id}); err != nil {
		t.Error(err)
	}
	a = a.site.node(t, "a")
	if _, err := a.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: box.CiphertextBlob}); err != nil {
		t.Error(err)
	}
	nodes[0] = a
	a.site.does(t, "access-key", "delete", a.site.accessKey(t).AccessKeyID)
	for _, n := range nodes {
		until(t, "the access key is gone", func() bool {
			_, err := n.ListKeys(t.Context(), &kms.ListKeysInput{})
			return codeOf(err) == "UnrecognizedClientException"
		})
	}
	for _, n := range nodes {
		if code := n.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	if n := strings.Count(a.records(t, "a")+b.records(t, "b"), `"eventName":"DeleteAccessKey"`); n != 1 {
		t.Errorf("the command has %d records", n)
	}
}

// TestKeyStoresOfNodes: a custom key store is connected and disconnected on every server, without waiting for the next
// reconciliation.
func TestKeyStoresOfNodes(t *testing.T) {
	s, soft := newSite(t), softhsm.New(t)
	stores := s.write(t, "stores.yaml", "key_stores: [{cluster_id: cluster-22222222222, serial: \""+soft.Serial+"\"}]\n",
		0o600)
	nodes := s.with("VERENC_DATABASE="+postgrestest.NewDatabase(t), "VERENC_CONFIG="+stores,
		"VERENC_RECONCILE_INTERVAL=1h").nodes(t, "a", "b")
	a, b := nodes[0], nodes[1]
	made, err := a.CreateCustomKeyStore(t.Context(), &kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("one"),
		CloudHsmClusterId: aws.String("cluster-22222222222"), KeyStorePassword: &soft.PIN,
		TrustAnchorCertificate: aws.String("anchor")})
	if err != nil {
		t.Fatal(err)
	}
	id := made.CustomKeyStoreId
	is := func(n *node, want types.ConnectionStateType) func() bool {
		return func() bool {
			d, err := n.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: id})
			if err != nil {
				t.Fatal(err)
			}
			return d.CustomKeyStores[0].ConnectionState == want
		}
	}
	for range 2 {
		if _, err := a.ConnectCustomKeyStore(t.Context(),
			&kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id}); err != nil {
			t.Fatal(err)
		}
		t.Logf("connected after %v",
			until(t, "connected on the other server", is(b, types.ConnectionStateTypeConnected)))
		until(t, "connected", is(a, types.ConnectionStateTypeConnected))
		if _, err := b.DisconnectCustomKeyStore(t.Context(),
			&kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: id}); err != nil {
			t.Fatal(err)
		}
		t.Logf("disconnected after %v",
			until(t, "disconnected on the other server", is(a, types.ConnectionStateTypeDisconnected)))
	}

	// A connection that has failed on both is made anew on both, however soon after it was disconnected.
	password := func(pin string) {
		if _, err := a.UpdateCustomKeyStore(t.Context(),
			&kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: id, KeyStorePassword: &pin}); err != nil {
			t.Fatal(err)
		}
	}
	connect := func() {
		if _, err := a.ConnectCustomKeyStore(t.Context(),
			&kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id}); err != nil {
			t.Fatal(err)
		}
	}
	password("wrong-pin")
	connect()
	for _, n := range nodes {
		until(t, "failed", is(n, types.ConnectionStateTypeFailed))
	}
	if _, err := a.DisconnectCustomKeyStore(t.Context(),
		&kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: id}); err != nil {
		t.Fatal(err)
	}
	password(soft.PIN)
	connect()
	for _, n := range nodes {
		until(t, "connected after all", is(n, types.ConnectionStateTypeConnected))
	}
}

// TestNodesWithoutDatabase: keys that are known are used while the database is away, and the records say so.
func TestNodesWithoutDatabase(t *testing.T) {
	server := postgrestest.Start(t, "fsync=on")
	n := newNodes(t, server.NewDatabase(t), "a")[0]
	key, err := n.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	use := func() error {
		_, err := n.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("plaintext")})
		return err
	}
	// The server reads its own change, too, several times a second, and forgets the key: the use after that
	// makes it known.
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		if err := use(); err != nil {
			t.Fatal(err)
		}
	}
	server.Signal(t, syscall.SIGKILL)
	n.await(t, "database lost; changes fail until it is back, and uses of keys go on for database_grace", "", "")
	if _, err := n.CreateKey(t.Context(), &kms.CreateKeyInput{}); codeOf(err) != "DependencyTimeoutException" {
		t.Errorf("got %v", err)
	}
	until(t, "old enough to be recorded", func() bool {
		if err := use(); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(n.records(t, "a"), `"metadataAge":"2s"`)
	})
	status, body := get(t, http.DefaultClient, "http://"+n.private+"/readyz")
	if status != http.StatusOK || !strings.Contains(body, `"store":"degraded"`) {
		t.Errorf("got %d %s", status, body)
	}
	server.Restart(t)
	n.await(t, "database connected", "", "")
	healed := until(t, "changes are made again", func() bool {
		_, err := n.CreateKey(t.Context(), &kms.CreateKeyInput{})
		return err == nil
	})
	t.Logf("healed after %v", healed)
	until(t, "ready", func() bool {
		status, body := get(t, http.DefaultClient, "http://"+n.private+"/readyz")
		return status == http.StatusOK && !strings.Contains(body, "store")
	})
}

// records are all records of a server's log.
func (n *node) records(t *testing.T, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.site.path("audit-"+name), "records", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil {
			b.Write(text)
		}
	}
	return b.String()
}

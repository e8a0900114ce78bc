package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/service/store/postgrestest"
)

const alarm = "an audit log is not what it was"

// use makes records at a server.
func (n *node) use(t *testing.T, times int) {
	t.Helper()
	for range times {
		if _, err := n.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
			t.Fatal(err)
		}
	}
}

// folder is that of a server's audit log.
func (s *site) folder(name string) string { return s.path("audit-" + name) }

// verifyAll checks the logs of these servers. The configuration is that of server a.
func (s *site) verifyAll(t *testing.T, names ...string) result {
	t.Helper()
	args := []string{"audit", "verify", "--all"}
	for _, name := range names {
		args = append(args, s.folder(name))
	}
	return s.ofNode("a").run(t, args...)
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// cutLastRecord cuts the last record off a log.
func cutLastRecord(t *testing.T, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "records", "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.TrimRight(text, " \n")
	if err := os.WriteFile(files[0], text[:bytes.LastIndexByte(text, '\n')+1], 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAuditOfNodes has the log of one of two servers go wrong in each way, and puts it right again. The other server
// says so and goes on, and so does verenc audit verify --all.
func TestAuditOfNodes(t *testing.T) {
	nodes := newNodes(t, postgrestest.NewDatabase(t), "a", "b")
	a, b := nodes[0], nodes[1]
	s, folder := a.site, a.site.folder("b")
	b.use(t, 2)
	b.stop(t)
	earlier, newest := s.path("earlier"), s.path("newest")
	copyFolder(t, folder, earlier)
	b = s.node(t, "b")
	b.use(t, 3)
	b.stop(t)
	copyFolder(t, folder, newest)
	if got := s.verifyAll(t, "a", "b"); got.code != 0 || strings.Count(got.stdout, "it continues the database's") != 2 {
		t.Fatal(got)
	}
	for i, test := range []struct {
		name  string
		wrong func(t *testing.T)
		says  []string // of verify --all
	}{
		{"rolled back", func(t *testing.T) {
			copyFolder(t, earlier, folder)
			refused(t, b.site.run(t, "serve"), "but the checkpoint in the database covers", "restore the newest one")
		}, []string{"are missing at the end: checkpoint in the database covers", "restore the newest copy"}},
		{"cut off", func(t *testing.T) {
			cutLastRecord(t, folder)
			refused(t, b.site.run(t, "serve"), "verenc audit verify says where")
		}, []string{"are missing at the end"}},
		{"deleted", func(t *testing.T) {
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
			refused(t, b.site.run(t, "serve"), "verenc audit init makes a log")
			refused(t, b.site.run(t, "audit", "init"), "there is, or was, an audit log with the name b")
			if err := os.Mkdir(folder, 0o700); err != nil { // so that verify can be told of it
				t.Fatal(err)
			}
		}, []string{"no such file or directory", "there is no folder of it", "its server says"}},
		{"rolled back while its server runs", func(t *testing.T) {
			b = s.node(t, "b")
			copyFolder(t, earlier, folder)
			b.await(t, alarm, "audit_log", "b")
			if err := b.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			b.wait()
		}, []string{"are missing at the end: checkpoint in the database covers"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.wrong(t)
			after := until(t, "the other server raises it", func() bool { return len(a.logged(alarm)) > i })
			t.Logf("raised after %v", after)
			line := a.logged(alarm)[i]
			if line["level"] != "error" || line["audit_log"] != "b" || line["fault"] != "broken" || line["advice"] == "" {
				t.Errorf("got %v", line)
			}
			ready(t, "http://"+a.private+"/readyz")
			a.use(t, 1)
			metric := fmt.Sprintf("verenc_audit_witness_faults_total %d\n", i+1)
			if _, body := get(t, http.DefaultClient, "http://"+a.private+"/metrics"); !strings.Contains(body, metric) {
				t.Errorf("the metrics lack %s", metric)
			}
			until(t, "it is in the other server's log", func() bool {
				return strings.Count(a.records(t, "a"), `"eventName":"AuditLogFault"`) == i+1
			})
			got := s.verifyAll(t, "a", "b")
			refused(t, got, "verify: ")
			for _, want := range test.says {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("%q is not in\n%s", want, got.stdout)
				}
			}
		})
		if i == 3 { // the copy is older than what its server has published
			break
		}
		// The cure.
		copyFolder(t, newest, folder)
		b = s.node(t, "b")
		if code := b.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		copyFolder(t, folder, newest)
		if got := s.verifyAll(t, "a", "b"); got.code != 0 {
			t.Fatal(got)
		}
		until(t, "the other server sees that it is over", func() bool {
			return len(a.logged("a fault of an audit log is over")) > i
		})
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// logged are the lines with a message.
func (r *running) logged(msg string) []logLine {
	return slices.DeleteFunc(r.log(), func(l logLine) bool { return l["msg"] != msg })
}

// TestVerifyHonestNodes: what is as it was written passes, while servers run, after one was killed, and after one was
// retired. The time line has the records of both.
func TestVerifyHonestNodes(t *testing.T) {
	nodes := newNodes(t, postgrestest.NewDatabase(t), "a", "b")
	a, b := nodes[0], nodes[1]
	s := a.site
	honest := func(names ...string) string {
		t.Helper()
		got := s.verifyAll(t, names...)
		if got.code != 0 || strings.Contains(got.stdout, "fault") {
			t.Errorf("%v", got)
		}
		return got.stdout
	}
	for range 3 {
		a.use(t, 2)
		b.use(t, 2)
		honest("a", "b")
	}
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wait()
	honest("a", "b")
	b = s.node(t, "b")
	b.use(t, 1)
	until(t, "each log has witnessed the other", func() bool {
		return strings.Count(honest("a", "b"), "that servers of other logs have seen") == 2
	})
	twin := s.with("VERENC_AUDIT_DIR="+s.path("twin"), "VERENC_AUDIT_ORIGIN=a")
	refused(t, twin.run(t, "audit", "init"), "choose another audit.origin")

	keys := []string{"--key", s.ofNode("a").auditKey(t), "--key", s.ofNode("b").auditKey(t)}
	verify := func(args ...string) result {
		t.Helper()
		return s.run(t, append(append([]string{"audit", "verify", s.folder("a"), s.folder("b")}, keys...), args...)...)
	}
	refused(t, verify(), "need --all")
	refused(t, s.run(t, "audit", "verify", "--all", "--without-database", s.folder("a")), "--key is required")
	for _, more := range [][]string{{"--all"}, {"--all", "--without-database"}} {
		if got := verify(more...); got.code != 0 || strings.Count(got.stdout, "are as they were written") != 2 {
			t.Errorf("%v", got)
		}
	}
	got := verify("--all", "--timeline")
	if got.code != 0 || strings.Count(got.stderr, "are as they were written") != 2 {
		t.Errorf("%v", got)
	}
	logs, before := map[string]int{}, time.Time{}
	for line := range strings.Lines(got.stdout) {
		var l struct {
			Log    string
			Record struct {
				EventName string
				EventTime time.Time
			}
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Record.EventTime.Before(before) {
			t.Errorf("out of order: %s", line)
		}
		before = l.Record.EventTime
		if l.Record.EventName == "ListKeys" {
			logs[l.Log]++
		}
	}
	if logs["a"] != 6 || logs["b"] != 7 {
		t.Errorf("the time line has %v", logs)
	}

	// A log that is given up on purpose is missed by nobody.
	b.stop(t)
	refused(t, s.verifyAll(t, "a"), "verify: ")
	s.ofNode("a").does(t, "audit", "retire", "b")
	refused(t, s.ofNode("a").run(t, "audit", "retire", "b"), "no audit log b in use")
	if err := os.RemoveAll(s.folder("b")); err != nil {
		t.Fatal(err)
	}
	honest("a")
	until(t, "the command is recorded", func() bool {
		return strings.Contains(a.records(t, "a"), `"eventName":"RetireAuditLog"`)
	})
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if lines := a.logged(alarm); len(lines) > 0 {
		t.Errorf("got %v", lines)
	}
}

// TestAuditOfOneServer: the database is the witness of a single server's log. A log that was set back is set aside.
func TestAuditOfOneServer(t *testing.T) {
	s := initialised(t)
	use := func(times int) {
		r := s.serve(t)
		(&node{running: r, Client: s.sdk(t, "http://"+r.api, http.DefaultClient)}).use(t, times)
		r.stop(t)
	}
	use(2)
	earlier := s.path("earlier")
	copyFolder(t, s.path("audit"), earlier)
	use(3)
	refused(t, s.run(t, "audit", "quarantine"), "as it was written")
	copyFolder(t, earlier, s.path("audit"))
	refused(t, s.run(t, "serve"), "its latest checkpoint covers 3 records, but the checkpoint in the database covers 6")
	refused(t, s.run(t, "audit", "rotate-key"), "the checkpoint in the database covers 6")
	refused(t, s.run(t, "audit", "verify", "--all", s.path("audit")), "verify: ")
	if text := s.succeeds(t, "audit", "quarantine"); !strings.Contains(text, "records 3 to 5 are missing at the end") {
		t.Error(text)
	}
	use(1)
	s.succeeds(t, "audit", "rotate-key")
	use(1)
	s.succeeds(t, "audit", "verify", "--all", s.path("audit"))
	aside, err := filepath.Glob(s.path("audit") + ".quarantine-*")
	if err != nil || len(aside) != 1 {
		t.Fatal(aside, err)
	}
	got := s.run(t, "audit", "verify", "--all", s.path("audit"), aside[0])
	refused(t, got, "verify: ")
	if !strings.Contains(got.stdout, "records 3 to 5 are missing at the end") {
		t.Errorf("%v", got)
	}

	// A key that somebody has written into the database, and that the token does not have, counts for nothing.
	db, err := store.Open(t.Context(), store.Config{Path: s.path("kms.db")})
	if err != nil {
		t.Fatal(err)
	}
	spki, err := db.ServiceObjectPublic(t.Context(), "audit/1")
	err = errors.Join(err, db.InsertServiceObject(t.Context(), "audit/4", service.ObjectID{4}, time.Now()),
		db.PutServiceObjectPublic(t.Context(), "audit/4", spki), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	refused(t, s.run(t, "audit", "verify", "--all", s.path("audit")), "prove the audit log's signing keys")
	refused(t, s.run(t, "serve"), "verenc: ")
}

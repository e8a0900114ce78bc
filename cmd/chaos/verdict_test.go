package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// persistently repeats what may fail for a moment on a slow machine.
func persistently(t testing.TB, what string, do func() error) {
	t.Helper()
	began := time.Now()
	for {
		err := do()
		if err == nil || isRefusal(err) {
			return // call has complained of a refusal
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %v after all faults: %v", what, patience, err)
		}
	}
}

// readAll reads every register once more. No acknowledged key may be lost.
func (c *caller) readAll(ctx context.Context, t testing.TB) {
	for _, k := range c.keys {
		persistently(t, "describe key "+k.id, func() error { return c.describeKey(ctx, k) })
	}
	for _, a := range c.aliases {
		persistently(t, "describe "+a.name, func() error { return c.describeAlias(ctx, a) })
	}
	for _, g := range c.grants {
		persistently(t, "use grant "+g.id, func() error { return c.encryptUnder(ctx, g) })
	}
}

// checkHistories looks for those that no correct service has.
func (w *world) checkHistories(t testing.TB) (undecided int) {
	for n, h := range w.histories {
		result, info, misfit := h.check(w.c.bounds(), time.Minute)
		if result == porcupine.Ok {
			continue
		}
		if result == porcupine.Unknown {
			undecided++
			continue
		}
		path := filepath.Join(t.ArtifactDir(), fmt.Sprintf("history-%d", n))
		if err := porcupine.VisualizePath(register, info, path+".html"); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(path+".txt", []byte(h.text()), 0o600); err != nil {
			t.Error(err)
		}
		w.violation("%s: its history is not linearizable, with the staleness that is allowed: this does not fit:\n%v\n"+
			"see %s.html; all of it is:\n%s", h.name, misfit, path, h.text())
	}
	return undecided
}

// openAll enables all keys and opens all ciphertexts.
func (c *caller) openAll(ctx context.Context, t testing.TB) {
	for _, k := range c.keys {
		if k.states == nil {
			continue
		}
		persistently(t, "enable key "+k.id, func() error {
			_, err := c.root.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &k.id})
			if err == nil || isRefusal(err) { // it was not to be deleted
				_, err = c.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &k.id})
			}
			return err
		})
	}
	for _, b := range c.boxes {
		began := time.Now()
		for {
			err := c.open(ctx, b)
			if err == nil {
				break
			}
			// Another server may not know yet that the key is enabled.
			if time.Since(began) > patience {
				c.violation("a ciphertext of key %s does not decrypt: %v", b.key.id, err)
				return // the others would take as long
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// checkRotations counts the rotations of each key.
func (c *caller) checkRotations(ctx context.Context, t testing.TB) {
	for _, k := range c.keys {
		var onDemand, automatic int
		persistently(t, "list the rotations of key "+k.id, func() error {
			onDemand, automatic = 0, 0
			pages := kms.NewListKeyRotationsPaginator(c.root, &kms.ListKeyRotationsInput{KeyId: aws.String(k.id)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return err
				}
				for _, r := range page.Rotations {
					if r.RotationType == types.RotationTypeAutomatic {
						automatic++
					} else {
						onDemand++
					}
				}
			}
			return nil
		})
		if onDemand < k.rotations || onDemand > k.rotations+k.perhaps {
			c.violation("key %s has %d rotations on demand: %d were acknowledged, %d may have happened", k.id, onDemand,
				k.rotations, k.perhaps)
		}
		if automatic != k.due {
			c.violation("key %s has %d automatic rotations, and was due %d times", k.id, automatic, k.due)
		}
	}
}

// Rows whose work a crash has broken off.
const (
	unfinished = `SELECT count(*) FROM keys WHERE state IN ('Creating', 'Deleting') OR materials LIKE '%"Scrap"%' OR due_at <= 1`
	agedKeys   = `UPDATE keys SET created_at = 1 WHERE state = 'Creating'`
	agedScrap  = `UPDATE keys SET due_at = 1, materials = (SELECT jsonb_agg(CASE WHEN m ? 'Scrap'
			THEN jsonb_set(m, '{CreatedAt}', '"2026-01-01T00:00:00Z"') ELSE m END ORDER BY n)
		FROM jsonb_array_elements(materials::jsonb) WITH ORDINALITY AS all_of_them (m, n))::text WHERE materials LIKE '%"Scrap"%'`
)

// clear makes what crashes have left old enough to be cleared away, and waits until it is.
func (w *world) clear(t testing.TB) (left int) {
	left = w.c.number(t, unfinished)
	w.c.exec(t, agedKeys)
	w.c.exec(t, agedScrap)
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		n := w.c.number(t, unfinished)
		if n == 0 {
			return left
		}
		if time.Since(began) > patience {
			w.violation("%d rows of what crashes have left are still there after %v", n, patience)
			return left
		}
	}
}

// checkToken compares the database with the token.
func (w *world) checkToken(t testing.TB) {
	if out := w.c.does(t, 0, "doctor", "--reconcile"); !strings.Contains(out, "database and token agree") {
		w.violation("verenc doctor --reconcile: %s", out)
	}
}

// checkLogs verifies the servers' logs, when these have ended, and looks for the record of each answer.
func (w *world) checkLogs(t testing.TB) (answers int) {
	for i := range w.c.nodes {
		args := []string{"audit", "verify", w.c.auditDir(i)}
		for key := range strings.Lines(w.c.does(t, i, "audit", "keys")) {
			args = append(args, "--key", strings.TrimSpace(key))
		}
		if out, err := w.c.command(i, args...).CombinedOutput(); err != nil {
			w.violation("verenc audit verify, node %s: %v\n%s", nodeName(i), err, out)
		}
		recorded := requestIDs(t, w.c.auditDir(i))
		for id, a := range w.c.answers[i] {
			n := recorded[id]
			// Without the database, a server can't find out who asks. That has no record.
			if n == 0 && a.status >= 500 && !w.c.nodes[i].authenticated[id] {
				continue
			}
			answers++
			if n < 1 || n > 2 { // a change that failed after its record has a second one
				w.violation("node %s has answered %s at %v with %d %s, request %q, which has %d records",
					nodeName(i), a.target, a.at, a.status, a.code, id, n)
			}
		}
	}
	return answers
}

// requestIDs counts the records of each request.
func requestIDs(t testing.TB, dir string) map[string]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "records", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("records in %s: %d files, %v", dir, len(files), err)
	}
	all := map[string]int{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var record struct{ RequestID string }
			if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
				t.Fatal(err)
			}
			all[record.RequestID]++
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
		_ = f.Close() // it was only read
	}
	return all
}

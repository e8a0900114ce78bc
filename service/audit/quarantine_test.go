package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// damages are what can happen to a log. Each changes a folder, and has some words of what it makes
// unprovable.
var damages = map[string]func(t *testing.T, dir string) string{
	"a wrong byte": func(t *testing.T, dir string) string {
		name := filepath.Join(dir, recordFile(t, dir, 1))
		text, err := os.ReadFile(name)
		must(t, err)
		text[len(text)/2] ^= 1
		must(t, os.WriteFile(name, text, 0o600))
		return "records/"
	},
	"a torn middle": func(t *testing.T, dir string) string {
		name := filepath.Join(dir, recordFile(t, dir, 0))
		info, err := os.Stat(name)
		must(t, err)
		must(t, os.Truncate(name, info.Size()-40))
		return "not a whole record"
	},
	"a missing file": func(t *testing.T, dir string) string {
		must(t, os.Remove(filepath.Join(dir, recordFile(t, dir, 1))))
		return "are missing before it"
	},
	"no checkpoint": func(t *testing.T, dir string) string {
		must(t, os.Remove(filepath.Join(dir, checkpointFile)))
		return "no checkpoint can be verified"
	},
	"a forged checkpoint": func(t *testing.T, dir string) string {
		name := filepath.Join(dir, checkpointFile)
		text, err := os.ReadFile(name)
		must(t, err)
		text[bytes.IndexByte(text, '\n')+1] ^= 1
		must(t, os.WriteFile(name, text, 0o600))
		return "no checkpoint can be verified"
	},
	"a lost tile": func(t *testing.T, dir string) string {
		must(t, os.RemoveAll(filepath.Join(dir, tileFolder)))
		return "tile/"
	},
}

// recordFile names the file of records with this number.
func recordFile(t *testing.T, dir string, n int) string {
	t.Helper()
	all, err := segments(os.DirFS(dir))
	must(t, err)
	if n >= len(all)-1 {
		t.Fatalf("there are only %d files of records", len(all))
	}
	return all[n].name
}

// quarantineConfig is for the log of sealedLog.
func quarantineConfig(cfg Config, trusted VerifyConfig) QuarantineConfig {
	cfg.Signers = []Signer{ed25519Signer(3)}
	return QuarantineConfig{Log: cfg, Keys: trusted.Keys, Now: t0, First: func(q *Quarantined) (*Record, error) {
		r := record(0)
		r.EventName = "QuarantineAuditLog"
		r.RequestParameters = Object{{Name: "checkpoint", Value: string(q.Report.Checkpoint)}}
		return r, nil
	}}
}

// TestQuarantine: the old log is set aside unchanged, the new one begins with the old one's last
// checkpoint, and the report says what can no longer be proven.
func TestQuarantine(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			whole, trusted, cfg := sealedLog(t, 60, record)
			words := damage(t, cfg.Dir)
			damaged := load(t, cfg.Dir)
			q, err := Quarantine(ctx, quarantineConfig(cfg, trusted))
			must(t, err)
			if text := strings.Join(q.Unproven(), "\n"); !strings.Contains(text, words) || q.Cause == nil {
				t.Errorf("%q is not in: %s", words, text)
			}
			if !strings.Contains(words, "checkpoint") && !bytes.Equal(q.Report.Checkpoint, whole[checkpointFile].Data) {
				t.Errorf("the last checkpoint is %q", q.Report.Checkpoint)
			}
			for name, file := range load(t, q.Dir) {
				if !bytes.Equal(file.Data, damaged[name].Data) {
					t.Errorf("%s changed", name)
				}
				delete(damaged, name)
			}
			if len(damaged) > 0 {
				t.Errorf("the old log lost %d files", len(damaged))
			}
			cfg.Signers = []Signer{ed25519Signer(3)}
			l := reopen(t, cfg)
			must(t, l.Append(ctx, record(1)))
			must(t, l.Close(ctx))
			verify(t, cfg, keyOf(t, ed25519Signer(3)))
			must(t, Read(os.DirFS(cfg.Dir), func(index int64, text []byte) error {
				var r struct {
					EventName         string
					RequestParameters struct{ Checkpoint string }
				}
				must(t, json.Unmarshal(text, &r))
				if index == 0 && (r.EventName != "QuarantineAuditLog" ||
					r.RequestParameters.Checkpoint != string(q.Report.Checkpoint)) {
					t.Errorf("the first record is %s", text)
				}
				return nil
			}))
		})
	}
}

func TestQuarantineRefuses(t *testing.T) {
	_, trusted, cfg := sealedLog(t, 60, record)
	_, err := Quarantine(ctx, quarantineConfig(cfg, trusted))
	wantError(t, err, ErrIntact)
	damages["a wrong byte"](t, cfg.Dir)
	locked, err := openDisk(cfg.Dir)
	must(t, err)
	if _, err = Quarantine(ctx, quarantineConfig(cfg, trusted)); err == nil ||
		!strings.Contains(err.Error(), "another process writes this log") {
		t.Error(err)
	}
	must(t, locked.Close())
	failing := quarantineConfig(cfg, trusted)
	failed := errors.New("no record")
	failing.First = func(*Quarantined) (*Record, error) { return nil, failed }
	_, err = Quarantine(ctx, failing)
	wantError(t, err, failed)
	failing.Log.Dir = filepath.Join(t.TempDir(), "none")
	_, err = Quarantine(ctx, failing)
	wantError(t, err, fs.ErrNotExist)
}

// TestQuarantineBrokenOff: when it is interrupted between two steps, calling it again finishes it.
func TestQuarantineBrokenOff(t *testing.T) {
	_, trusted, cfg := sealedLog(t, 60, record)
	damages["a wrong byte"](t, cfg.Dir)
	made := quarantineConfig(cfg, trusted)
	must(t, os.MkdirAll(filepath.Join(cfg.Dir+nextSuffix, recordFolder), 0o700)) // a new log that was interrupted
	q, err := Quarantine(ctx, made)
	must(t, err)
	must(t, os.Rename(cfg.Dir, cfg.Dir+nextSuffix)) // as if it had not yet taken its place
	again, err := Quarantine(ctx, made)
	must(t, err)
	if again.Dir != q.Dir || len(again.Unproven()) != len(q.Unproven()) {
		t.Errorf("%+v, then %+v", q, again)
	}
	cfg.Signers = []Signer{ed25519Signer(3)}
	must(t, reopen(t, cfg).Close(ctx))
}

package service_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
)

// doomedPlan is the environment variable that makes the test binary the process that is killed.
const doomedPlan = "VERENC_TEST_DOOMED"

// plan is what a doomed process does.
type plan struct {
	Dir, Label string // of the token
	Database   string
	Job        string // of jobs
	Key        string // that the job works on
	Residency  service.Residency
	Stop       int // at which step it stops dead
}

// jobs are what may be interrupted. Their clock starts at the present and can be moved on.
var jobs = map[string]func(ctx context.Context, s *service.Service, p plan, advance func(time.Duration)) error{
	"init": func(ctx context.Context, s *service.Service, _ plan, _ func(time.Duration)) error {
		return s.InitServiceObjects(ctx)
	},
	"create": func(ctx context.Context, s *service.Service, _ plan, _ func(time.Duration)) error {
		_, err := s.CreateKey(ctx, root, &service.CreateKeyRequest{})
		return err
	},
	"rotate": func(ctx context.Context, s *service.Service, p plan, _ func(time.Duration)) error {
		_, err := s.RotateKeyOnDemand(ctx, root, &service.RotateKeyOnDemandRequest{KeyId: p.Key})
		return err
	},
	"persist": func(ctx context.Context, s *service.Service, p plan, _ func(time.Duration)) error {
		_, err := s.MigrateKey(ctx, account, region, p.Key, service.ResidencyToken)
		return err
	},
	"delete": func(ctx context.Context, s *service.Service, p plan, advance func(time.Duration)) error {
		in := &service.ScheduleKeyDeletionRequest{KeyId: p.Key, PendingWindowInDays: 7}
		if _, err := s.ScheduleKeyDeletion(ctx, root, in); err != nil {
			return err
		}
		advance(window)
		return s.Reconcile(ctx)
	},
}

const window = 8 * 24 * time.Hour // past the end of a deletion's waiting period

// stopper counts the steps of a process, and stops it dead at one of them.
type stopper struct{ left int }

func (s *stopper) step(name string) {
	if s.left--; s.left < 0 {
		fmt.Println("stopped", name)
		_, _ = os.Stdin.Read(make([]byte, 1)) // never comes
	}
}

// around takes a step before and after a call.
func (s *stopper) around(name string, call func() error) error {
	s.step("before " + name)
	err := call()
	s.step("after " + name)
	return err
}

// stoppingStore stops around each change that the jobs make.
type stoppingStore struct {
	service.Store
	*stopper
}

func (s stoppingStore) InsertKey(ctx context.Context, k *service.Key) error {
	return s.around("InsertKey", func() error { return s.Store.InsertKey(ctx, k) })
}

func (s stoppingStore) UpdateKey(ctx context.Context, region, id string, change func(*service.Key) error) error {
	return s.around("UpdateKey", func() error {
		return s.Store.UpdateKey(ctx, region, id, func(k *service.Key) error {
			err := change(k)
			s.step("inside UpdateKey")
			return err
		})
	})
}

func (s stoppingStore) ChangeRelatedKeys(
	ctx context.Context, id string, change func([]*service.Key) ([]*service.Key, error),
) error {
	return s.around("ChangeRelatedKeys", func() error { return s.Store.ChangeRelatedKeys(ctx, id, change) })
}

func (s stoppingStore) RemoveKey(ctx context.Context, region, id string) error {
	return s.around("RemoveKey", func() error { return s.Store.RemoveKey(ctx, region, id) })
}

func (s stoppingStore) InsertServiceObject(
	ctx context.Context, purpose string, id service.ObjectID, at time.Time,
) error {
	return s.around("InsertServiceObject", func() error { return s.Store.InsertServiceObject(ctx, purpose, id, at) })
}

func (s stoppingStore) InsertWrappingKey(ctx context.Context, k service.WrappingKey) error {
	return s.around("InsertWrappingKey", func() error { return s.Store.InsertWrappingKey(ctx, k) })
}

func (s stoppingStore) AdoptServiceObject(
	ctx context.Context, purpose string, id service.ObjectID, at time.Time,
) error {
	return s.around("AdoptServiceObject", func() error { return s.Store.AdoptServiceObject(ctx, purpose, id, at) })
}

// stoppingToken stops around each change that the jobs make.
type stoppingToken struct {
	service.Token
	*stopper
}

func (s stoppingToken) GenerateSecretKey(ctx context.Context, k hsm.SecretKey) error {
	return s.around("GenerateSecretKey", func() error { return s.Token.GenerateSecretKey(ctx, k) })
}

func (s stoppingToken) GenerateWrappingKey(ctx context.Context, id service.ObjectID, label string) error {
	return s.around("GenerateWrappingKey", func() error { return s.Token.GenerateWrappingKey(ctx, id, label) })
}

func (s stoppingToken) GenerateWrappedKey(ctx context.Context, k hsm.WrappedKey) (wrapped, spki []byte, err error) {
	err = s.around("GenerateWrappedKey", func() (err error) {
		wrapped, spki, err = s.Token.GenerateWrappedKey(ctx, k)
		return err
	})
	return wrapped, spki, err
}

func (s stoppingToken) Persist(ctx context.Context, k hsm.WrappedKey, id service.ObjectID, label string) error {
	return s.around("Persist", func() error { return s.Token.Persist(ctx, k, id, label) })
}

func (s stoppingToken) Evict(ctx context.Context, k hsm.WrappedKey) error {
	return s.around("Forget", func() error { return s.Token.Evict(ctx, k) })
}

func (s stoppingToken) Destroy(ctx context.Context, ids ...service.ObjectID) error {
	return s.around("Destroy", func() error { return s.Token.Destroy(ctx, ids...) })
}

// runDoomed is the main program of a process that is killed. It says on standard output where it
// stopped, or that it is done.
func runDoomed(text string) error {
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	ctx := context.Background()
	soft, err := softhsm.Open(p.Dir, p.Label)
	if err != nil {
		return err
	}
	token, err := hsm.Open(ctx, hsm.Config{Module: soft.Module, Label: soft.Label, PIN: soft.PIN,
		CallTimeout: time.Minute})
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Path: p.Database})
	if err != nil {
		return err
	}
	var ahead time.Duration
	steps := &stopper{left: p.Stop}
	s, err := service.New(service.Config{
		Audit:     record.NoAudit,
		Store:     stoppingStore{db, steps},
		Token:     stoppingToken{token, steps},
		Log:       zap.NewNop(),
		Residency: p.Residency,
		Now:       func() time.Time { return time.Now().Add(ahead) },
	})
	if err != nil {
		return err
	}
	if err := jobs[p.Job](ctx, s, p, func(d time.Duration) { ahead += d }); err != nil {
		return err
	}
	fmt.Println("done")
	return nil
}

// TestKilledAtEachStep: a process that is killed anywhere in the making, rotation or destruction of
// a key leaves nothing that the next one does not put in order: every key that is there works, and
// every object in the token belongs to a row.
func TestKilledAtEachStep(t *testing.T) {
	for _, test := range []struct {
		job       string
		steps     int               // at least
		before    service.Residency // of the keys that are there
		residency service.Residency // of what the job makes
	}{
		{"init", 4, "", ""},
		{"create", 9, "", ""},
		{"rotate", 9, "", ""},
		{"delete", 12, "", ""},
		{"create", 14, "", service.ResidencyWrapped},
		{"rotate", 14, "", service.ResidencyWrapped},
		{"rotate", 9, service.ResidencyWrapped, ""},
		{"delete", 12, service.ResidencyWrapped, service.ResidencyWrapped},
		{"persist", 12, service.ResidencyWrapped, ""},
	} {
		t.Run(fmt.Sprintf("%s %s %s", test.job, test.before, test.residency), func(t *testing.T) {
			disorder := 0
			for step := 0; ; step++ {
				w := newWorld(t)
				w.residency = test.before
				bystander, victim := w.createKey(t), w.createKey(t)
				where := w.killed(t, plan{Job: test.job, Key: victim, Residency: test.residency, Stop: step})
				was := w.inspect(t)
				disorder += was.unfinished
				now := w.recovered(t, where)
				if !slices.Contains(now.usable, bystander) || !slices.Equal(now.usable, was.usable) {
					t.Errorf("killed %s: keys %v were usable, now %v", where, was.usable, now.usable)
				}
				if where != "done" {
					continue
				}
				keys := map[string]int{"init": 2, "create": 3, "rotate": 2, "persist": 2, "delete": 1}
				if want := keys[test.job]; len(now.usable) != want {
					t.Errorf("a %s that nobody interrupts leaves %d keys, want %d", test.job, len(now.usable), want)
				}
				if step < test.steps {
					t.Errorf("only %d steps", step)
				}
				break
			}
			if test.job != "init" && disorder == 0 {
				t.Error("no step left anything to put in order, so nothing was tested")
			}
		})
	}
}

// world is a token and a database, and nothing else: what a process leaves when it is killed.
type world struct {
	soft     softhsm.Token
	database string

	residency service.Residency // of new keys
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{soft: softhsm.New(t), database: filepath.Join(t.TempDir(), "kms.db")}
	db, err := store.Open(t.Context(), store.Config{Path: w.database, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// killed runs a plan in a process of its own, kills it where it stops, and tells where that was.
func (w *world) killed(t *testing.T, p plan) string {
	t.Helper()
	p.Dir, p.Label, p.Database = filepath.Dir(w.soft.Conf), w.soft.Label, w.database
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), doomedPlan+"="+string(text))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe() // stays open, so that the process waits
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	_ = cmd.Wait()
	where, stopped := strings.CutPrefix(strings.TrimSpace(line), "stopped ")
	if !stopped && where != "done" {
		t.Fatalf("step %d of %s: %q %s", p.Stop, p.Job, line, stderr.String())
	}
	return where
}

// inventory is what there is in store and token.
type inventory struct {
	usable     []string // ids of the keys that are Enabled, in order
	unfinished int      // rows that a reconciler must finish
}

// opened gives f the real parts, as the next process would have them, well after the waiting
// periods.
func (w *world) opened(t *testing.T, f func(*service.Service, *store.DB, *hsm.Token)) {
	t.Helper()
	token, err := hsm.Open(t.Context(), hsm.Config{
		Module: w.soft.Module,
		Label:  w.soft.Label,
		Serial: w.soft.Serial,
		PIN:    w.soft.PIN,

		CallTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	}()
	db, err := store.Open(t.Context(), store.Config{Path: w.database})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := service.New(service.Config{
		Audit:     record.NoAudit,
		Store:     db,
		Token:     token,
		Log:       zap.NewNop(),
		Residency: w.residency,
		Now:       func() time.Time { return time.Now().Add(window) },
	})
	if err != nil {
		t.Fatal(err)
	}
	f(s, db, token)
}

func (w *world) createKey(t *testing.T) (id string) {
	t.Helper()
	w.opened(t, func(s *service.Service, _ *store.DB, _ *hsm.Token) {
		out, err := s.CreateKey(t.Context(), root, &service.CreateKeyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		id = out.KeyMetadata.KeyId
	})
	return id
}

func (w *world) inspect(t *testing.T) (i inventory) {
	t.Helper()
	w.opened(t, func(_ *service.Service, db *store.DB, _ *hsm.Token) { i = take(t, db) })
	return i
}

func take(t *testing.T, db *store.DB) (i inventory) {
	t.Helper()
	future := time.Now().Add(2 * window)
	rows, err := db.UnfinishedKeys(t.Context(), future, future, 100)
	if err != nil {
		t.Fatal(err)
	}
	i.unfinished = len(rows)
	for _, k := range allKeys(t, db) {
		if k.State == service.StateEnabled {
			i.usable = append(i.usable, k.ID)
		}
	}
	return i
}

func allKeys(t *testing.T, db *store.DB) []*service.Key {
	t.Helper()
	keys, err := db.Keys(t.Context(), account, region, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// recovered does what a start does, and checks that all is in order then.
func (w *world) recovered(t *testing.T, where string) (i inventory) {
	t.Helper()
	w.opened(t, func(s *service.Service, db *store.DB, token *hsm.Token) {
		if err := s.InitServiceObjects(t.Context()); err != nil {
			t.Fatalf("killed %s: %v", where, err)
		}
		if err := s.Reconcile(t.Context()); err != nil {
			t.Fatalf("killed %s: %v", where, err)
		}
		i = take(t, db)
		if i.unfinished > 0 {
			t.Errorf("killed %s: %d keys are left unfinished", where, i.unfinished)
		}
		own, err := db.OwnObjects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		named := map[service.ObjectID]bool{}
		for _, id := range own {
			named[id] = true
		}
		for _, k := range allKeys(t, db) {
			for _, m := range k.Materials {
				if len(m.Wrapped) > 0 {
					continue
				}
				for _, id := range m.Objects {
					named[id] = true
				}
			}
		}
		objects, err := token.Objects(t.Context(), "verenc/")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if !named[o.ID] {
				t.Errorf("killed %s: object %s belongs to no row", where, o.Label)
			}
			delete(named, o.ID)
		}
		for id := range named {
			t.Errorf("killed %s: object %s is lost", where, id)
		}
		if _, err := s.IAM().CreateRootAccessKey(t.Context(), account); err != nil {
			t.Errorf("killed %s: %v", where, err)
		}
		for _, id := range i.usable {
			if err := works(t.Context(), s, id); err != nil {
				t.Errorf("killed %s: key %s: %v", where, id, err)
			}
		}
	})
	return i
}

// works uses both objects of a key.
func works(ctx context.Context, s *service.Service, id string) error {
	in := &service.GenerateDataKeyWithoutPlaintextRequest{KeyId: id, KeySpec: "AES_256"}
	out, err := s.GenerateDataKeyWithoutPlaintext(ctx, root, in)
	if err != nil {
		return err
	}
	_, err = s.Decrypt(ctx, root, &service.DecryptRequest{CiphertextBlob: out.CiphertextBlob})
	return err
}

// Package chaos_test runs three real servers on one PostgreSQL and one token, has AWS SDK clients work on
// them, and kills, pauses and cuts off whatever there is. Then it looks for what must not have happened.
// make chaos runs it for minutes; go test runs it for a few seconds.
package chaos_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/softhsm"
)

var (
	duration = flag.Duration("for", 5*time.Second, "how long faults are made")
	seed     = flag.Uint64("seed", 0, "of the faults and the load; 0 draws one. Processes still take turns as they like")
	callers  = flag.Int("callers", 10, "clients at once")
)

func TestMain(m *testing.M) { os.Exit(softhsm.Run(m)) }

// patience is the time after the last fault in which everything must be well again, and for anything
// that is waited for then. What is promised is 2 s; a slow machine starts servers more slowly.
const patience = 2 * time.Minute

// TestChaos is the whole: load, faults, and the search for violations.
func TestChaos(t *testing.T) {
	for *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	residency := [...]string{"token", "wrapped"}[*seed%2]
	w := newWorld(newCluster(t, residency), *seed)
	ctx := context.Background()
	first := newCaller(w, 0)
	if _, _, err := w.c.healing(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.prepare(ctx, t, first)

	loaded, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	end := func() {
		stop()
		load.Wait()
	}
	defer end()
	for n := range *callers {
		load.Go(func() { newCaller(w, uint64(n+1)).run(loaded) })
	}
	faults := &injector{world: w, t: t, r: rand.New(rand.NewPCG(*seed, 1<<32))}
	began := w.c.clock()
	faults.run(began + *duration)
	lasted := w.c.clock() - began

	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	healing, last, err := w.c.healing(patient)
	if err != nil {
		w.violation("%v", err)
	}
	end()
	attempts := w.attempts

	if err == nil {
		first.readAll(ctx, t)
	}
	undecided, left := w.checkHistories(t), 0
	if err == nil {
		w.restart(t) // then no request is under way any more
		first.openAll(ctx, t)
		left = w.clear(t)
		first.checkRotations(ctx, t)
	}
	for _, n := range w.c.nodes {
		n.stop(t)
		for _, text := range n.wrong {
			w.violation("node %s says: %s", n.name, text)
		}
	}
	w.checkToken(t)
	answers := w.checkLogs(t)

	var report strings.Builder
	out := tabwriter.NewWriter(&report, 0, 0, 2, ' ', 0)
	line := func(name string, value any) { fmt.Fprintf(out, "%s\t%v\n", name, value) }
	list := func(heading string, counts map[string]int) {
		line(heading, "")
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			line("  "+name, counts[name])
		}
	}
	line("seed", *seed)
	line("residency of keys", residency)
	line("faults for", lasted.Round(time.Second))
	list("operations", w.operations)
	line("attempts under load", attempts)
	list("failed after the SDK's retries", w.failed)
	list("faults", w.faults)
	line("starts of servers", starts(w.c.nodes))
	line("keys", len(w.keys))
	line("automatic rotations", due(w.automatic))
	line("ciphertexts opened at the end", len(w.boxes))
	line("histories checked", len(w.histories))
	line("  undecided", undecided)
	line("answers with their records", answers)
	line("rows that crashes had left", left)
	line("healing", fmt.Sprint(healing.Round(time.Millisecond), ", ", cmp.Or(last, "nothing was missing")))
	line("violations", len(w.violations))
	_ = out.Flush() // to memory
	t.Logf("\n%s", &report)
	for _, v := range w.violations {
		t.Errorf("seed %d: %s", *seed, v)
	}
}

// restart ends all servers as an operator does, and starts them again.
func (w *world) restart(t testing.TB) {
	t.Helper()
	for _, n := range w.c.nodes {
		n.stop(t)
		w.c.start(t, n)
	}
	patient, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, _, err := w.c.healing(patient); err != nil {
		t.Fatal(err)
	}
}

func due(keys []*key) (n int) {
	for _, k := range keys {
		n += k.due
	}
	return n
}

func starts(nodes []*node) (n int) {
	for _, node := range nodes {
		n += node.starts
	}
	return n
}

// prepare makes what there is to work on.
func (w *world) prepare(ctx context.Context, t testing.TB, c *caller) {
	for _, kind := range []struct {
		list   *[]*key
		n      int
		cycled bool
	}{{&w.steady, steadyKeys, false}, {&w.cycled, cycledKeys, true}, {&w.rotated, rotatedKeys, false},
		{&w.automatic, automaticKeys, false}} {
		for range kind.n {
			if _, err := c.createKey(ctx, kind.list, kind.cycled); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, k := range w.automatic {
		if _, err := c.root.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &k.id}); err != nil {
			t.Fatal(err)
		}
	}
	for range aliasNames {
		c.newAlias()
	}
}

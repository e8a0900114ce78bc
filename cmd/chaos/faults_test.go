package chaos_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// injector makes faults and heals them, several at a time. It runs in the test's own goroutine.
type injector struct {
	*world
	t      testing.TB
	r      *rand.Rand
	active []fault
}

// fault is one that is in force.
type fault struct {
	on    string // what it is a fault of, which has one at a time
	until time.Duration
	heal  func()
}

const (
	mostFaults = 3 // at a time
	faultEvery = 1200 * time.Millisecond
	longPause  = 8 * time.Second // longer than a lease lives without its holder
)

// run makes faults until the time is over, and then heals all.
func (i *injector) run(until time.Duration) {
	for next := time.Duration(0); i.c.clock() < until; time.Sleep(10 * time.Millisecond) {
		now := i.c.clock()
		i.heal(now)
		if now >= next && len(i.active) < mostFaults {
			i.fault(now)
			next = now + i.upTo(2*faultEvery)
		}
	}
	i.heal(time.Duration(1<<63 - 1))
}

// heal ends the faults whose time is over.
func (i *injector) heal(now time.Duration) {
	var rest []fault
	for _, f := range i.active {
		if f.until > now {
			rest = append(rest, f)
			continue
		}
		f.heal()
	}
	i.active = rest
}

func (i *injector) upTo(most time.Duration) time.Duration {
	return time.Duration(i.r.Int64N(int64(most)))
}

// fault makes one, unless what was drawn has one already.
func (i *injector) fault(now time.Duration) {
	at := i.r.IntN(len(i.c.nodes))
	n := i.c.nodes[at]
	lasts := 100*time.Millisecond + i.upTo(4*time.Second)
	switch kind := i.r.IntN(22); {
	case kind < 4:
		i.begin(fault{on: n.name, until: now + restartAfter, heal: func() {}}, "kill -9 of a server", func() {
			n.signal(i.t, syscall.SIGKILL)
		})
	case kind < 8:
		if kind == 4 {
			lasts = longPause
		}
		resume := func() { n.signal(i.t, syscall.SIGCONT) }
		i.begin(fault{on: n.name, until: now + lasts, heal: resume}, "pause of a server", func() {
			n.signal(i.t, syscall.SIGSTOP)
		})
	case kind < 9:
		resume := func() { i.c.postgres.Resume(i.t) }
		i.begin(fault{on: "PostgreSQL", until: now + lasts, heal: resume}, "pause of PostgreSQL", func() {
			i.c.postgres.Hang(i.t)
		})
	case kind < 11:
		restart := func() { i.c.postgres.Restart(i.t) }
		i.begin(fault{on: "PostgreSQL", until: now + lasts/2, heal: restart}, "kill -9 of PostgreSQL", func() {
			i.c.postgres.Signal(i.t, syscall.SIGKILL)
		})
	case kind < 16:
		w, name := cuts, "cut from the database"
		if half := i.r.IntN(3); half == 1 {
			w, name = stalls, "stalled way to the database"
		} else if half == 2 {
			w, name = stallsAnswers, "stalled way from the database"
		}
		i.begin(fault{on: "link " + n.name, until: now + lasts, heal: func() { n.link.set(passes) }}, name, func() {
			n.link.set(w)
		})
	case kind < 19:
		gone := fault{on: "token " + n.name, until: now + lasts, heal: n.module.Plug}
		i.begin(gone, "token gone for a server", n.module.Unplug)
	case kind < 20:
		hangs := fault{on: "token " + n.name, until: now + lasts, heal: n.module.Clear}
		i.begin(hangs, "token hangs for a server", func() {
			n.module.Hang("C_Encrypt")
			n.module.Hang("C_Decrypt")
			n.module.Hang("C_GenerateKey")
		})
	default:
		i.makeDue()
	}
}

func (i *injector) begin(f fault, name string, do func()) {
	for _, other := range i.active {
		if other.on == f.on {
			return
		}
	}
	do()
	i.locked(func() { i.faults[name]++ })
	i.active = append(i.active, f)
}

// makeDue makes the automatic rotation of a key due, whose last one has been made. It is no fault.
func (i *injector) makeDue() {
	for _, f := range i.active {
		if f.on == "PostgreSQL" {
			return
		}
	}
	k, ok := pick(i.world, i.r, &i.automatic)
	if !ok {
		return
	}
	const makeDue = `UPDATE keys SET due_at = 1,
		details = jsonb_set(details::jsonb, '{Rotation,NextAt}', '"2026-01-01T00:00:00Z"')::text WHERE id = $1 AND due_at > $2`
	if n := i.c.exec(i.t, makeDue, k.id, time.Now().UnixNano()); n > 0 {
		k.due++
	}
}

// exec runs a statement, and tells how many rows it has changed.
func (c *cluster) exec(t testing.TB, statement string, args ...any) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	tag, err := conn.Exec(ctx, statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return tag.RowsAffected()
}

func (c *cluster) number(t testing.TB, query string) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

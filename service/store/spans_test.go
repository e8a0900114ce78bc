package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/span"
)

// recorded is a span.Recorder that keeps what is told of it.
type recorded struct {
	mu       sync.Mutex
	children []*recorded
	name     string
	texts    []string // of attributes
	ended    int
	failed   bool
}

func (r *recorded) Child(name string, _ span.Kind, _ time.Time) span.Recorder {
	r.mu.Lock()
	defer r.mu.Unlock()
	child := &recorded{name: name}
	r.children = append(r.children, child)
	return child
}

func (r *recorded) Rename(name string)           { r.name = name }
func (r *recorded) Set(_, value string)          { r.texts = append(r.texts, value) }
func (r *recorded) SetInt(string, int64)         {}
func (r *recorded) End(_ time.Time, failed bool) { r.ended, r.failed = r.ended+1, failed }

// TestSpans: each statement of a traced request has a span, which ends once and has no values; what the cache answers
// has none.
func TestSpans(t *testing.T) { onBoth(t, testSpans) }

func testSpans(t *testing.T, database string) {
	d := open(t, database, true)
	k := newKey("k1")
	for _, test := range []struct {
		name        string
		do          func(context.Context) error
		first, last string // statements; none when both are empty
		fails       bool
	}{
		{"insert", func(ctx context.Context) error { return d.InsertKey(ctx, k) }, "BEGIN", "COMMIT", false},
		{"insert again", func(ctx context.Context) error {
			if err := d.InsertKey(ctx, k); !errors.Is(err, service.ErrExists) {
				t.Errorf("got %v", err)
			}
			return nil
		}, "BEGIN", "INSERT", true},
		{"read", func(ctx context.Context) error { _, err := d.Key(ctx, region, k.ID); return err }, "SELECT",
			"SELECT", false},
		{"read from memory", func(ctx context.Context) error { _, err := d.Key(ctx, region, k.ID); return err }, "",
			"", false},
		{"list", func(ctx context.Context) error { _, err := d.Keys(ctx, account, region, "", 10); return err }, "SELECT",
			"SELECT", false},
		{"update", func(ctx context.Context) error {
			return d.UpdateKey(ctx, region, k.ID, func(k *service.Key) error { k.Description = "new"; return nil })
		}, "BEGIN", "COMMIT", false},
	} {
		r := &recorded{}
		traced, _ := span.New(t.Context(), r)
		must(t, test.do(traced))
		if test.first == "" {
			if len(r.children) > 0 {
				t.Errorf("%s has spans: %s", test.name, r.children[0].name)
			}
			continue
		}
		if n := len(r.children); n == 0 || r.children[0].name != "store "+test.first ||
			r.children[n-1].name != "store "+test.last {
			t.Fatalf("%s has %d spans, and not %s to %s", test.name, n, test.first, test.last)
		}
		for _, s := range r.children {
			if s.ended != 1 {
				t.Errorf("%s: %s ended %d times", test.name, s.name, s.ended)
			}
			for _, text := range s.texts {
				for _, value := range []string{k.ID, k.Description, account, k.Policy} {
					if strings.Contains(text, value) {
						t.Errorf("%s: %s has the value %q", test.name, s.name, value)
					}
				}
			}
		}
		if failed := slices.ContainsFunc(r.children, func(s *recorded) bool { return s.failed }); failed != test.fails {
			t.Errorf("%s: a span failed: %t", test.name, failed)
		}
	}
}

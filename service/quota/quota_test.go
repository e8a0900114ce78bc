package quota_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verenc/kms/service/quota"
)

func newLimiter(t testing.TB, cfg quota.Config) *quota.Limiter {
	t.Helper()
	l, err := quota.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRates(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := newLimiter(t, quota.Config{Now: func() time.Time { return now },
		Account: quota.Rates{quota.Symmetric: 5}, Principal: quota.Rates{quota.Symmetric: 3, "ListKeys": 0.5}})
	want := func(principal string, class quota.Class, n int) {
		t.Helper()
		allowed := 0
		for range n + 10 {
			if l.Allow("111122223333", principal, class) {
				allowed++
			}
		}
		if allowed != n {
			t.Errorf("%s: %d of %s were allowed, and not %d", principal, allowed, class, n)
		}
	}
	want("alice", quota.Symmetric, 3)
	want("bob", quota.Symmetric, 2) // of the account's 5
	want("carol", quota.Symmetric, 0)
	want("alice", "ListKeys", 1)
	want("bob", "ListKeys", 1)
	now = now.Add(time.Second)
	want("carol", quota.Symmetric, 3) // what was refused before took nothing of the others
	want("alice", "ListKeys", 0)
	now = now.Add(time.Second)
	want("alice", "ListKeys", 1)
	if !l.Allow("444455556666", "dora", quota.Symmetric) || !l.Allow("111122223333", "alice", quota.RSA) {
		t.Error("another account and another class are limited")
	}
}

func TestConcurrent(t *testing.T) {
	l := newLimiter(t, quota.Config{Now: time.Now, Concurrent: 2})
	first, _ := l.Enter("alice")
	_, second := l.Enter("alice")
	_, third := l.Enter("alice")
	_, bob := l.Enter("bob")
	if !second || third || !bob {
		t.Error(second, third, bob)
	}
	first()
	if _, ok := l.Enter("alice"); !ok {
		t.Error("what has ended counts")
	}
}

func TestNothingIsLimited(t *testing.T) {
	var l *quota.Limiter
	if l = newLimiter(t, quota.Config{}); l != nil || !l.Allow("a", "b", quota.RSA) {
		t.Error("limited")
	}
	leave, ok := l.Enter("b")
	if !ok {
		t.Error("limited")
	}
	leave()
}

// TestMemoryIsBounded: a caller that makes up principals can't take memory without end.
func TestMemoryIsBounded(t *testing.T) {
	l := newLimiter(t, quota.Config{Now: time.Now, Principal: quota.Rates{quota.Symmetric: 1}})
	var group sync.WaitGroup
	for w := range 3 {
		group.Go(func() {
			for i := range 10_000 {
				l.Allow("111122223333", fmt.Sprint(w, i), quota.Symmetric)
			}
		})
	}
	group.Wait()
	if n := l.Buckets(); n > 20_000 {
		t.Errorf("%d buckets", n)
	}
}

func TestParse(t *testing.T) {
	known := func(c quota.Class) bool {
		return c == quota.Symmetric || c == "ListKeys" || c == quota.DataKeyPair("RSA_4096")
	}
	rates, err := quota.Parse([]string{"symmetric=5500", " ListKeys = 0.5 ", "data-key-pair-rsa-4096=0.1"}, known)
	if err != nil || len(rates) != 3 || rates["ListKeys"] != 0.5 || rates[quota.Symmetric] != 5500 {
		t.Errorf("%v, %v", rates, err)
	}
	for element, problem := range map[string]string{
		"rsa=1": "neither a class nor an operation", "": "neither", "symmetric": "is not like", "symmetric=0": "is not like",
		"symmetric=-1": "is not like", "symmetric=NaN": "is not like", "symmetric=Inf": "is not like",
		"symmetric=many": "is not like", "ListKeys=2": "twice",
	} {
		if _, err := quota.Parse([]string{"ListKeys=1", element}, known); err == nil ||
			!strings.Contains(err.Error(), problem) {
			t.Errorf("%q: %v", element, err)
		}
	}
}

package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
)

const (
	account = "111122223333"
	region  = "us-east-1"
)

var (
	ctx = context.Background()
	t0  = time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
)

func newKey(id string) *service.Key {
	return &service.Key{
		ID: id, Account: account, Region: region, Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT",
		Origin: "AWS_KMS",
		State:  service.StateEnabled, Description: "ключ \x00 'quoted'", Policy: "{\n}", CreatedAt: t0,
		Materials: []service.Material{{Ordinal: 1, ID: strings.Repeat("ab", 32), CreatedAt: t0,
			Objects: map[service.Role]service.ObjectID{service.RoleSeal: {1, 2, 255}, service.RoleWrap: {3}}}},
		Tags: []service.Tag{{TagKey: "a", TagValue: ""}, {TagKey: "b", TagValue: "ü"}},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// contract holds what the comment of service.Store promises, for every implementation.
func contract(t *testing.T, open func(*testing.T) service.Store) {
	for name, test := range map[string]func(*testing.T, service.Store){
		"key":            testKey,
		"pending":        testPendingRecords,
		"update":         testUpdateKey,
		"remove":         testRemoveKey,
		"list keys":      testKeys,
		"unfinished":     testUnfinishedKeys,
		"alias":          testAlias,
		"alias limit":    testAliasLimit,
		"list aliases":   testAliases,
		"access key":     testAccessKey,
		"of a user":      testAccessKeyOfUser,
		"access key use": testAccessKeyUse,
		"principal":      testPrincipal,
		"gone principal": testRemovePrincipal,
		"certificate":    testCertificate,
		"service object": testServiceObject,
		"serialisable":   testSerialisable,
		"fresh reads":    testFreshReads,
		"cancelled":      testCancelled,
		"grants":         testGrants,
		"retirable":      testRetirableGrants,
		"key stores":     testKeyStores,
		"wrapping keys":  testWrappingKeys,
		"uses":           testUses,
		"related keys":   testRelatedKeys,
		"due":            testDue,
		"any text":       testAnyText,
		"own objects":    testOwnObjects,
		"leases":         testLeaseIVs,
		"guards":         testGuards,
		"approvals":      testApprovals,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			must(t, s.Ping(ctx))
			test(t, s)
		})
	}
}

func testKey(t *testing.T, s service.Store) {
	k := newKey("k1")
	_, err := s.Key(ctx, region, "k1")
	wantError(t, err, service.ErrNoRow)
	must(t, s.InsertKey(ctx, k))
	for range 2 { // from the file, and from memory
		got, err := s.Key(ctx, region, "k1")
		must(t, err)
		if !reflect.DeepEqual(got, k) {
			t.Errorf("got  %+v\nwant %+v", got, k)
		}
	}
	wantError(t, s.InsertKey(ctx, k), service.ErrExists)
	_, err = s.Key(ctx, "eu-west-1", "k1")
	wantError(t, err, service.ErrNoRow)
	other := newKey("k1")
	other.Region = "eu-west-1"
	must(t, s.InsertKey(ctx, other))
}

// testAnyText: text comes back as it was, whatever its bytes, and names are in the order of their bytes.
func testAnyText(t *testing.T, s service.Store) {
	texts := []string{"", "\x00", "\x1a", "\x1a00", "a\xffb\xc3", "\u00e4\x00\U0001f511", strings.Repeat("\x00", 8192)}
	for i, text := range texts {
		k := newKey(fmt.Sprint("k", i))
		k.Description, k.Policy, k.Tags = text, "p"+text, nil
		must(t, s.InsertKey(ctx, k))
		if got, err := s.Key(ctx, region, k.ID); err != nil || got.Description != text || got.Policy != "p"+text {
			t.Errorf("got %+v, %v, want %q", got, err, text)
		}
	}
	names := []string{"-", "/", "A", "B", "_", "a", "b", "\u00e4"}
	for _, name := range names {
		must(t, s.InsertAlias(ctx, newAlias(name, "k1"), 50))
	}
	var got []string
	for after := ""; ; {
		page, err := s.Aliases(ctx, account, region, "", after, 3)
		must(t, err)
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, strings.TrimPrefix(a.Name, "alias/"))
			after = a.Name
		}
	}
	if !reflect.DeepEqual(got, names) {
		t.Errorf("got %q, want %q", got, names)
	}
}

func testOwnObjects(t *testing.T, s service.Store) {
	must(t, s.InsertServiceObject(ctx, "x", service.ObjectID{1}, t0))
	wantError(t, s.PutServiceObjectPublic(ctx, "y", []byte{1}), service.ErrNoRow)
	_, err := s.ServiceObjectPublic(ctx, "x")
	wantError(t, err, service.ErrNoRow)
	must(t, s.PutServiceObjectPublic(ctx, "x", []byte{0, 255}))
	if spki, err := s.ServiceObjectPublic(ctx, "x"); err != nil || string(spki) != "\x00\xff" {
		t.Errorf("got %x, %v", spki, err)
	}
	must(t, s.InsertWrappingKey(ctx, service.WrappingKey{ObjectID: service.ObjectID{0xab}, ExpiresAt: t0}))
	must(t, s.InsertWrappingKey(ctx, service.WrappingKey{ObjectID: service.ObjectID{3}, ExpiresAt: t0, KeyStore: "cks-1"}))
	want := map[string]service.ObjectID{"x": {1}, "import/AB" + strings.Repeat("0", 30): {0xab}}
	if got, err := s.OwnObjects(ctx); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	must(t, s.AdoptServiceObject(ctx, "z", service.ObjectID{0xab}, t0))
	wantError(t, s.AdoptServiceObject(ctx, "z", service.ObjectID{0xab}, t0), service.ErrNoRow)
	want = map[string]service.ObjectID{"x": {1}, "z": {0xab}}
	if got, err := s.OwnObjects(ctx); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

// testLeaseIVs leases from many goroutines: none may be lost.
func testLeaseIVs(t *testing.T, s service.Store) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				if _, err := s.LeaseIVs(ctx, []string{"a", "b"}, 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	totals, err := s.LeaseIVs(ctx, []string{"b", "c"}, 1)
	if err != nil || !reflect.DeepEqual(totals, []int64{201, 1}) {
		t.Errorf("got %v, %v", totals, err)
	}
}

func testUpdateKey(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	before, err := s.Key(ctx, region, "k1")
	must(t, err)

	refused := errors.New("refused")
	wantError(t, s.UpdateKey(ctx, region, "k1", func(k *service.Key) error {
		k.State = service.StateDisabled
		return refused
	}), refused)
	if k, _ := s.Key(ctx, region, "k1"); k.State != service.StateEnabled {
		t.Error("a refused change was written")
	}

	want := newKey("k1")
	change := func(k *service.Key) error {
		k.State, k.DeletionAt, k.Description = service.StatePendingDeletion, t0.Add(time.Hour), "new"
		k.Materials = append(k.Materials,
			service.Material{Ordinal: 2, ID: "two", CreatedAt: t0, Objects: map[service.Role]service.ObjectID{}})
		k.Tags = nil
		return nil
	}
	must(t, change(want))
	must(t, s.UpdateKey(ctx, region, "k1", change))
	got, err := s.Key(ctx, region, "k1")
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if before.State != service.StateEnabled || len(before.Materials) != 1 {
		t.Error("the change modified a key that was given out before")
	}
	wantError(t, s.UpdateKey(ctx, region, "none", change), service.ErrNoRow)
}

func testRemoveKey(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	must(t, s.InsertAlias(ctx, newAlias("a", "k1"), 50))
	_, err := s.Alias(ctx, account, region, "alias/a")
	must(t, err)
	must(t, s.RemoveKey(ctx, region, "k1"))
	_, err = s.Key(ctx, region, "k1")
	wantError(t, err, service.ErrNoRow)
	_, err = s.Alias(ctx, account, region, "alias/a")
	wantError(t, err, service.ErrNoRow)
	must(t, s.RemoveKey(ctx, region, "k1"))
}

func testKeys(t *testing.T, s service.Store) {
	for i := range 7 {
		k := newKey(fmt.Sprintf("k%d", i))
		switch i {
		case 2:
			k.State = service.StateCreating
		case 3:
			k.State = service.StateDeleting
		case 4:
			k.Account = "444455556666"
		}
		must(t, s.InsertKey(ctx, k))
	}
	list := func(after string, limit int) (ids string) {
		keys, err := s.Keys(ctx, account, region, after, limit)
		must(t, err)
		for _, k := range keys {
			ids += k.ID + " "
		}
		return ids
	}
	for _, test := range []struct {
		after string
		limit int
		want  string
	}{{"", 10, "k0 k1 k5 k6 "}, {"", 2, "k0 k1 "}, {"k1", 2, "k5 k6 "}, {"k3", 1, "k5 "}, {"k6", 9, ""}} {
		if got := list(test.after, test.limit); got != test.want {
			t.Errorf("after %q, %d: got %q, want %q", test.after, test.limit, got, test.want)
		}
	}
}

// wantUnfinished inserts keys and checks which of them come to the reconciler.
func wantUnfinished(t *testing.T, s service.Store, keys map[string]func(*service.Key), want ...string) {
	t.Helper()
	for id, change := range keys {
		k := newKey(id)
		change(k)
		must(t, s.InsertKey(ctx, k))
	}
	unfinished, err := s.UnfinishedKeys(ctx, t0, t0, 10)
	must(t, err)
	var got []string
	for _, k := range unfinished {
		got = append(got, k.ID)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func testUnfinishedKeys(t *testing.T, s service.Store) {
	wantUnfinished(t, s, map[string]func(*service.Key){
		"enabled":      func(k *service.Key) {},
		"creating-old": func(k *service.Key) { k.State, k.CreatedAt = service.StateCreating, t0.Add(-time.Nanosecond) },
		"creating-new": func(k *service.Key) { k.State = service.StateCreating },
		"deleting":     func(k *service.Key) { k.State = service.StateDeleting },
		"due":          func(k *service.Key) { k.State, k.DeletionAt = service.StatePendingDeletion, t0 },
		"not due":      func(k *service.Key) { k.State, k.DeletionAt = service.StatePendingDeletion, t0.Add(1) },
	}, "creating-old", "deleting", "due")
	if keys, err := s.UnfinishedKeys(ctx, t0, t0, 2); err != nil || len(keys) != 2 {
		t.Errorf("limit 2: %d keys, %v", len(keys), err)
	}
}

func testAccessKey(t *testing.T, s service.Store) {
	k := &iam.AccessKey{ID: "AKIAAAAAAAAAAAAAAAAA", Account: account, PrincipalARN: "arn:aws:iam::111122223333:root",
		SealedSecret: []byte{0, 1, 255}, Enabled: true, CreatedAt: t0}
	_, err := s.AccessKey(ctx, k.ID)
	wantError(t, err, service.ErrNoRow)
	must(t, s.InsertAccessKey(ctx, k, 2))
	wantError(t, s.InsertAccessKey(ctx, k, 2), service.ErrExists)
	got, err := s.AccessKey(ctx, k.ID)
	must(t, err)
	if !reflect.DeepEqual(got, k) {
		t.Errorf("got %+v", got)
	}
}

func testServiceObject(t *testing.T, s service.Store) {
	_, err := s.ServiceObject(ctx, "x")
	wantError(t, err, service.ErrNoRow)
	must(t, s.InsertServiceObject(ctx, "x", service.ObjectID{1, 2, 3}, t0))
	wantError(t, s.InsertServiceObject(ctx, "x", service.ObjectID{4}, t0), service.ErrExists)
	if id, err := s.ServiceObject(ctx, "x"); err != nil || id != (service.ObjectID{1, 2, 3}) {
		t.Errorf("got %v, %v", id, err)
	}
}

// testSerialisable adds tags from many goroutines: none may be lost.
func testSerialisable(t *testing.T, s service.Store) {
	k := newKey("k1")
	k.Tags = nil
	must(t, s.InsertKey(ctx, k))
	const writers, each = 8, 10
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				err := s.UpdateKey(ctx, region, "k1", func(k *service.Key) error {
					k.Tags = append(k.Tags, service.Tag{TagKey: fmt.Sprint(w, i)})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if k, err := s.Key(ctx, region, "k1"); err != nil || len(k.Tags) != writers*each {
		t.Errorf("%d tags, %v", len(k.Tags), err)
	}
}

// testFreshReads reads while another goroutine writes: whoever reads after a write returned sees
// it, or a later one.
func testFreshReads(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	var written atomic.Int64
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := written.Load()
				k, err := s.Key(ctx, region, "k1")
				if err != nil {
					t.Error(err)
					return
				}
				if got := int64(len(k.Description)); k.Description != "ключ \x00 'quoted'" && got < least {
					t.Errorf("read %d after %d was written", got, least)
					return
				}
			}
		})
	}
	for i := range 200 {
		must(t, s.UpdateKey(ctx, region, "k1", func(k *service.Key) error {
			k.Description = strings.Repeat("x", i+1)
			return nil
		}))
		written.Store(int64(i + 1))
	}
	close(done)
	readers.Wait()
}

// testCancelled: a change whose caller has gone before it began is not made.
func testCancelled(t *testing.T, s service.Store) {
	gone, cancel := context.WithCancel(ctx)
	cancel()
	wantError(t, s.InsertKey(gone, newKey("k1")), context.Canceled)
	_, err := s.Key(ctx, region, "k1")
	wantError(t, err, service.ErrNoRow)
}

func testPendingRecords(t *testing.T, s service.Store) {
	if all, err := s.PendingRecords(ctx, 10); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	for i := range 3 {
		must(t, s.InsertPendingRecord(ctx, fmt.Appendf(nil, `{"n":%d}`, i)))
	}
	first, err := s.PendingRecords(ctx, 2)
	must(t, err)
	if len(first) != 2 || string(first[0].Record) != `{"n":0}` || string(first[1].Record) != `{"n":1}` ||
		first[0].Number >= first[1].Number {
		t.Errorf("%+v", first)
	}
	must(t, s.RemovePendingRecord(ctx, first[0].Number))
	must(t, s.RemovePendingRecord(ctx, first[0].Number))
	rest, err := s.PendingRecords(ctx, 10)
	must(t, err)
	if len(rest) != 2 || rest[0].Number != first[1].Number || string(rest[1].Record) != `{"n":2}` {
		t.Errorf("%+v", rest)
	}
	if err := s.InsertPendingRecord(ctx, []byte("{")); err == nil {
		t.Error("a record that is no JSON is kept")
	}
}

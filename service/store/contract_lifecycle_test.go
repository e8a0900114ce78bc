package store

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/verenc/kms/service"
)

const otherRegion = "eu-west-1"

// newGrant is a grant on a key, with all that a grant can have.
func newGrant(id, keyID string) *service.Grant {
	return &service.Grant{
		ID: id, Region: region, KeyID: keyID, Account: account, Name: "n",
		Grantee:  "arn:aws:iam::111122223333:role/ü",
		Retiring: "retirer",
		Issuer:   "arn:aws:iam::111122223333:root", CreatedAt: t0, Secret: []byte{0, 255},
		GrantTerms: service.GrantTerms{
			Operations: []string{"Decrypt"}, Equals: map[string]string{"a": ""}, Subset: map[string]string{"b": "ü"},
			SourceARN: "arn:x", RetiringIsService: true,
		},
	}
}

func idsOf(grants []*service.Grant) (ids string) {
	for _, g := range grants {
		ids += g.ID + " "
	}
	return ids
}

func testGrants(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	must(t, s.InsertKey(ctx, newKey("k2")))
	_, err := s.Grant(ctx, "g1")
	wantError(t, err, service.ErrNoRow)
	wantError(t, s.InsertGrant(ctx, newGrant("g1", "none"), 9), service.ErrNoRow)
	list := func(want string) {
		t.Helper()
		for range 2 { // from the file, and from memory
			if all, err := s.GrantsOf(ctx, region, "k1"); err != nil || idsOf(all) != want {
				t.Errorf("got %q, want %q, %v", idsOf(all), want, err)
			}
		}
	}
	list("")
	for _, id := range []string{"g3", "g1", "g2"} {
		must(t, s.InsertGrant(ctx, newGrant(id, "k1"), 3))
	}
	list("g1 g2 g3 ")
	wantError(t, s.InsertGrant(ctx, newGrant("g4", "k1"), 3), service.ErrLimit)
	must(t, s.InsertGrant(ctx, newGrant("h1", "k2"), 3))
	wantError(t, s.InsertGrant(ctx, newGrant("g1", "k2"), 3), service.ErrExists)
	if g, err := s.Grant(ctx, "g1"); err != nil || !reflect.DeepEqual(g, newGrant("g1", "k1")) {
		t.Errorf("got %+v, %v", g, err)
	}
	if all, err := s.GrantsOf(ctx, otherRegion, "k1"); err != nil || len(all) != 0 {
		t.Errorf("%d grants in another region, %v", len(all), err)
	}
	must(t, s.DeleteGrant(ctx, newGrant("g2", "k1")))
	wantError(t, s.DeleteGrant(ctx, newGrant("g2", "k1")), service.ErrNoRow)
	list("g1 g3 ")
	must(t, s.RemoveKey(ctx, region, "k1")) // with its grants
	list("")
	_, err = s.Grant(ctx, "g1")
	wantError(t, err, service.ErrNoRow)
}

func testRetirableGrants(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	other := newKey("k1")
	other.Region = otherRegion
	must(t, s.InsertKey(ctx, other))
	for i, retiring := range []string{"a", "b", "a", "", "a"} {
		g := newGrant(fmt.Sprintf("g%d", i), "k1")
		g.Retiring = retiring
		must(t, s.InsertGrant(ctx, g, 9))
	}
	far := newGrant("h0", "k1")
	far.Region, far.Retiring = otherRegion, "a"
	must(t, s.InsertGrant(ctx, far, 9))
	for _, test := range []struct {
		region, principal, after string
		limit                    int
		want                     string
	}{
		{region, "a", "", 9, "g0 g2 g4 "}, {region, "a", "", 2, "g0 g2 "}, {region, "a", "g2", 2, "g4 "},
		{region, "b", "", 9, "g1 "},
		{otherRegion, "a", "", 9, "h0 "}, {region, "", "", 9, ""}, {region, "c", "", 9, ""},
	} {
		all, err := s.RetirableGrants(ctx, test.region, test.principal, test.after, test.limit)
		if err != nil || idsOf(all) != test.want {
			t.Errorf("%+v: got %q, %v", test, idsOf(all), err)
		}
	}
}

func newKeyStore(id, name, cluster string) *service.KeyStore {
	return &service.KeyStore{
		ID: id, Account: account, Region: region, Name: name, ClusterID: cluster, TrustAnchor: "anchor",
		SealedPassword: []byte{1, 0}, ConnectionError: "INTERNAL_ERROR", CreatedAt: t0,
	}
}

func testKeyStores(t *testing.T, s service.Store) {
	_, err := s.KeyStore(ctx, "s1")
	wantError(t, err, service.ErrNoRow)
	must(t, s.InsertKeyStore(ctx, newKeyStore("s2", "two", "c2"), 2))
	must(t, s.InsertKeyStore(ctx, newKeyStore("s1", "one", "c1"), 2))
	wantError(t, s.InsertKeyStore(ctx, newKeyStore("s3", "three", "c3"), 2), service.ErrLimit)
	wantError(t, s.InsertKeyStore(ctx, newKeyStore("s3", "one", "c3"), 9), service.ErrExists)
	wantError(t, s.InsertKeyStore(ctx, newKeyStore("s3", "three", "c1"), 9), service.ErrExists)
	far := newKeyStore("s0", "one", "c1") // name and cluster are unique in a region
	far.Region = otherRegion
	must(t, s.InsertKeyStore(ctx, far, 2))
	if got, err := s.KeyStore(ctx, "s1"); err != nil || !reflect.DeepEqual(got, newKeyStore("s1", "one", "c1")) {
		t.Errorf("got %+v, %v", got, err)
	}
	list := func(account, region, want string) {
		t.Helper()
		all, err := s.KeyStores(ctx, account, region)
		must(t, err)
		got := ""
		for _, k := range all {
			got += k.ID + " "
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	list(account, region, "s1 s2 ")
	list(account, otherRegion, "s0 ")
	list("444455556666", region, "")
	list("", "", "s0 s1 s2 ")

	refused := errors.New("refused")
	rename := func(name string, outcome error) error {
		return s.UpdateKeyStore(ctx, "s1", func(k *service.KeyStore) error {
			k.Name = name
			return outcome
		})
	}
	wantError(t, rename("lost", refused), refused)
	wantError(t, rename("two", nil), service.ErrExists)
	wantError(t, s.UpdateKeyStore(ctx, "none", func(*service.KeyStore) error { return nil }), service.ErrNoRow)
	change := func(k *service.KeyStore) error {
		k.Name, k.ClusterID, k.TrustAnchor, k.SealedPassword = "new", "c9", "other", []byte{9}
		k.Connected, k.ConnectionError, k.Connections = true, "", 3
		return nil
	}
	want := newKeyStore("s1", "one", "c1")
	must(t, change(want))
	must(t, s.UpdateKeyStore(ctx, "s1", change))
	if got, err := s.KeyStore(ctx, "s1"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}

	k := newKey("k1")
	k.CustomKeyStore = "s1"
	must(t, s.InsertKey(ctx, k))
	wantError(t, s.RemoveKeyStore(ctx, "s1"), service.ErrLimit)
	must(t, s.RemoveKey(ctx, region, "k1"))
	must(t, s.RemoveKeyStore(ctx, "s1"))
	wantError(t, s.RemoveKeyStore(ctx, "s1"), service.ErrNoRow)
	list("", "", "s0 s2 ")
}

func testWrappingKeys(t *testing.T, s service.Store) {
	for i := range byte(4) {
		k := service.WrappingKey{ObjectID: service.ObjectID{i}, ExpiresAt: t0.Add(time.Duration(i))}
		must(t, s.InsertWrappingKey(ctx, k))
	}
	again := service.WrappingKey{ObjectID: service.ObjectID{1}, ExpiresAt: t0}
	wantError(t, s.InsertWrappingKey(ctx, again), service.ErrExists)
	expired := func(before time.Time, limit int, want ...byte) {
		t.Helper()
		keys, err := s.ExpiredWrappingKeys(ctx, before, limit)
		must(t, err)
		var got []byte
		for _, k := range keys {
			got = append(got, k.ObjectID[0])
			if !k.ExpiresAt.Equal(t0.Add(time.Duration(k.ObjectID[0]))) {
				t.Errorf("%+v", k)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	expired(t0, 9)
	expired(t0.Add(3), 9, 0, 1, 2)
	expired(t0.Add(3), 2, 0, 1)
	must(t, s.RemoveWrappingKey(ctx, service.ObjectID{1}))
	must(t, s.RemoveWrappingKey(ctx, service.ObjectID{1}))
	expired(t0.Add(time.Hour), 9, 0, 2, 3)
}

func testUses(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	must(t, s.InsertKey(ctx, newKey("k2")))
	use := func(key, op string, at time.Time) service.KeyUse {
		return service.KeyUse{Region: region, KeyID: key, Operation: op, At: at, EventID: "e" + op, RequestID: "r" + op}
	}
	want := func(u service.KeyUse) {
		t.Helper()
		if got, err := s.LastUse(ctx, u.Region, u.KeyID); err != nil || !reflect.DeepEqual(got, &u) {
			t.Errorf("got %+v, %v, want %+v", got, err, u)
		}
	}
	_, err := s.LastUse(ctx, region, "k1")
	wantError(t, err, service.ErrNoRow)
	must(t, s.RecordUses(ctx, nil))
	first := use("k1", "Encrypt", t0)
	must(t, s.RecordUses(ctx, []service.KeyUse{first, use("gone", "Encrypt", t0), use("k2", "Sign", t0)}))
	want(first)
	want(use("k2", "Sign", t0))
	must(t, s.RecordUses(ctx, []service.KeyUse{use("k1", "Verify", t0.Add(-1))})) // older
	want(first)
	must(t, s.RecordUses(ctx, []service.KeyUse{use("k1", "Decrypt", t0.Add(1))}))
	want(use("k1", "Decrypt", t0.Add(1)))
	must(t, s.RemoveKey(ctx, region, "k1"))
	_, err = s.LastUse(ctx, region, "k1")
	wantError(t, err, service.ErrNoRow)
}

func testRelatedKeys(t *testing.T, s service.Store) {
	const id = "mrk-1"
	for i, r := range []string{"us-east-1", "ap-south-1", "eu-west-1"} {
		k := newKey(id)
		k.Region, k.PrimaryRegion = r, "us-east-1"
		if i == 2 {
			k.State = service.StateDeleting
		}
		must(t, s.InsertKey(ctx, k))
	}
	must(t, s.InsertKey(ctx, newKey("mrk-2")))
	list := func(want string) []*service.Key {
		t.Helper()
		keys, err := s.RelatedKeys(ctx, id)
		must(t, err)
		got := ""
		for _, k := range keys {
			got += k.Region + " "
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		return keys
	}
	list("ap-south-1 eu-west-1 us-east-1 ")
	if keys, err := s.RelatedKeys(ctx, "mrk-none"); err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if k, err := s.Key(ctx, region, id); err != nil || k.Description == "all" { // now it is in memory
		t.Errorf("%+v, %v", k, err)
	}
	refused := errors.New("refused")
	wantError(t, s.ChangeRelatedKeys(ctx, id, func(keys []*service.Key) ([]*service.Key, error) {
		keys[0].Description = "lost"
		return keys, refused
	}), refused)
	must(t, s.ChangeRelatedKeys(ctx, id, func(keys []*service.Key) ([]*service.Key, error) {
		added := *keys[0]
		added.Region = "sa-east-1"
		for _, k := range keys {
			k.Description = "all"
		}
		return append(keys[1:], &added), nil // the first is not to be written
	}))
	for _, k := range list("ap-south-1 eu-west-1 sa-east-1 us-east-1 ") {
		if changed := k.Description == "all"; changed != (k.Region == "us-east-1" || k.Region == "eu-west-1") {
			t.Errorf("%s has description %q", k.Region, k.Description)
		}
	}
	if k, err := s.Key(ctx, region, id); err != nil || k.Description != "all" {
		t.Errorf("the change is not seen: %+v, %v", k, err)
	}
	// One write that fails undoes the others.
	must(t, s.InsertKey(ctx, newKey("mrk-3")))
	err := s.ChangeRelatedKeys(ctx, id, func(keys []*service.Key) ([]*service.Key, error) {
		taken := *keys[0]
		taken.ID, taken.Region = "mrk-3", "ca-west-1"
		for _, k := range keys {
			k.Description = "half"
		}
		twice := taken
		return append(keys, &taken, &twice), nil
	})
	wantError(t, err, service.ErrExists)
	for _, k := range list("ap-south-1 eu-west-1 sa-east-1 us-east-1 ") {
		if k.Description == "half" {
			t.Errorf("a part of the change was made, in %s", k.Region)
		}
	}
}

// testDue: keys come to the reconciler when a rotation, an expiry or broken-off material is due.
func testDue(t *testing.T, s service.Store) {
	wantUnfinished(t, s, map[string]func(*service.Key){
		"rotates": func(k *service.Key) { k.Rotation = service.Rotation{PeriodDays: 90, NextAt: t0} },
		"later":   func(k *service.Key) { k.Rotation = service.Rotation{PeriodDays: 90, NextAt: t0.Add(1)} },
		"disabled": func(k *service.Key) {
			k.State, k.Rotation = service.StateDisabled, service.Rotation{PeriodDays: 90, NextAt: t0}
		},
		"replica": func(k *service.Key) {
			k.PrimaryRegion, k.Rotation = otherRegion, service.Rotation{PeriodDays: 90, NextAt: t0}
		},
		"expires": func(k *service.Key) { k.Materials[0].ExpiresAt = t0 },
		"expired": func(k *service.Key) { k.Materials[0].ExpiresAt, k.Materials[0].Objects = t0, nil },
		"broken off": func(k *service.Key) {
			k.Materials[0].Scrap, k.Materials[0].CreatedAt = true, t0.Add(-time.Hour)
		},
		"being made": func(k *service.Key) { k.Materials[0].Scrap, k.Materials[0].CreatedAt = true, t0 },
	}, "broken off", "expires", "rotates")
}

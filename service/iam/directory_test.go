package iam_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
)

// clearSealer only binds secrets to their uses, and counts how often one is opened.
type clearSealer struct{ opened int }

func (*clearSealer) Seal(_ context.Context, secret []byte, use string) ([]byte, error) {
	return append([]byte(use+"|"), secret...), nil
}

func (s *clearSealer) Open(_ context.Context, sealed []byte, use string) ([]byte, error) {
	s.opened++
	secret, ok := bytes.CutPrefix(sealed, []byte(use+"|"))
	if !ok {
		return nil, iam.ErrNotAuthentic
	}
	return bytes.Clone(secret), nil
}

const (
	account = "111122223333"
	region  = "us-east-1"
)

// newDirectory returns a directory on an empty database.
func newDirectory(t *testing.T) (*iam.Directory, *store.DB) {
	t.Helper()
	return openDirectory(t, &clearSealer{}, func() time.Time { return t0 })
}

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func openDirectory(t *testing.T, sealer iam.Sealer, now func() time.Time) (*iam.Directory, *store.DB) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	dir, err := iam.New(iam.Config{Store: db, Sealer: sealer, Now: now, Rand: rand.Reader,
		Records: record.New(record.Config{Auditor: record.NoAudit, Now: now})})
	if err != nil {
		t.Fatal(err)
	}
	return dir, db
}

const (
	identityText = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}`
	trustText    = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + account +
		`"},"Action":"sts:AssumeRole"}}`
)

func plainPrincipal(kind iam.PrincipalKind, path, name string) *iam.Principal {
	p := &iam.Principal{ARN: iam.PrincipalARN(account, kind, path, name), Account: account, Kind: kind,
		PrincipalDetails: iam.PrincipalDetails{Name: name}}
	if kind == iam.KindRole {
		p.Trust = trustText
	}
	return p
}

func createPrincipal(t *testing.T, dir *iam.Directory, p *iam.Principal) *iam.Principal {
	t.Helper()
	created, err := dir.CreatePrincipal(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// wantWords checks that an error says all of it.
func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

// forgetful is a store that can't tell whose access keys and certificates there are.
type forgetful struct{ *store.DB }

var errForgotten = errors.New("forgotten")

func (forgetful) AccessKey(context.Context, string) (*iam.AccessKey, error) { return nil, errForgotten }

func (forgetful) Certificate(context.Context, string) (*iam.Certificate, error) {
	return nil, errForgotten
}

// TestNobodyToAsk: a command is not run if it can't be known whose account it concerns, and so whose guard to ask.
func TestNobodyToAsk(t *testing.T) {
	sealer, now, name := &clearSealer{}, func() time.Time { return t0 }, strings.Repeat("ab", 32)
	dir, db := openDirectory(t, sealer, now)
	user := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "app"))
	key, err := dir.CreateAccessKey(t.Context(), account, user.ARN)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.MapCertificate(t.Context(), name, user); err != nil {
		t.Fatal(err)
	}
	authorised := 0
	records := record.New(record.Config{Auditor: record.NoAudit, Now: now, Operator: &record.Operator{},
		NewID:     func() (string, error) { return "id", nil },
		Authorise: func(context.Context, *record.Command) error { authorised++; return nil }})
	blind, err := iam.New(iam.Config{Store: forgetful{db}, Sealer: sealer, Now: now, Rand: rand.Reader,
		Records: records})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"disable": blind.EnableAccessKey(t.Context(), key.AccessKeyID, false),
		"delete":  blind.DeleteAccessKey(t.Context(), key.AccessKeyID),
		"unmap":   blind.UnmapCertificate(t.Context(), name),
	} {
		if !errors.Is(err, errForgotten) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if k, err := db.AccessKey(t.Context(), key.AccessKeyID); err != nil || !k.Enabled || authorised != 0 {
		t.Errorf("%+v, %v, authorised %d times", k, err, authorised)
	}
	if _, err := db.Certificate(t.Context(), name); err != nil {
		t.Error(err)
	}
}

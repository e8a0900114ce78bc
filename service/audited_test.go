package service

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/record"
)

// countingAuditor counts records and keeps none.
type countingAuditor struct{ records int }

func (a *countingAuditor) Append(context.Context, *audit.Record) error {
	a.records++
	return errors.New("not kept")
}

// unrequested are changes that no request of a client asks for: cleaning up, counters, last uses, and what becomes of
// approval requests by a call that has a record of its own.
var unrequested = []string{"AdoptServiceObject", "InsertApprovalRequest", "InsertPendingRecord", "InsertServiceObject", "LeaseIVs",
	"PutServiceObjectPublic",
	"RecordAccessKeyUses", "RecordUses", "RemovePendingRecord", "RemoveWrappingKey",
	"SpendApprovals"}

// TestEveryChangeIsRecordedFirst: a method of the Store that changes something writes the record of
// the request before, and does nothing without it. Whether a new method does must be decided here.
func TestEveryChangeIsRecordedFirst(t *testing.T) {
	store := reflect.TypeFor[Store]()
	decided := 0
	for i := range store.NumMethod() {
		name := store.Method(i).Name
		if !slices.ContainsFunc(changingVerbs, func(verb string) bool { return strings.HasPrefix(name, verb) }) {
			continue
		}
		decided++
		auditor := &countingAuditor{}
		before := 0
		_, _ = record.New(record.Config{Auditor: auditor, Now: time.Now}).Request(t.Context(), &record.Request{},
			func(ctx context.Context) (any, error) {
				err := callWithNothing(ctx, auditedStore{}, name) // its Store is nil: it panics when it is reached
				before = auditor.records
				if before == 1 && !apierror.Is(err, apierror.Internal) {
					t.Errorf("%s goes on without a record: %v", name, err)
				}
				return nil, err
			})
		if recorded := before == 1; recorded == slices.Contains(unrequested, name) {
			t.Errorf("%s: %d records before the change", name, before)
		}
	}
	if decided < 20 {
		t.Errorf("only %d methods change something", decided)
	}
}

// changingVerbs begin the names of methods that change something.
var changingVerbs = []string{"Adopt", "Change", "Delete", "Enable", "Insert", "Lease", "Put", "Record", "Reject", "Remove",
	"Spend", "Update"}

// callWithNothing calls a method with zero arguments, and gives its error.
func callWithNothing(ctx context.Context, s auditedStore, name string) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it reached the store")
		}
	}()
	m := reflect.ValueOf(s).MethodByName(name)
	in := []reflect.Value{reflect.ValueOf(ctx)}
	for i := 1; i < m.Type().NumIn(); i++ {
		in = append(in, reflect.Zero(m.Type().In(i)))
	}
	out := m.Call(in)
	err, _ = out[len(out)-1].Interface().(error)
	return err
}

// TestBytesAreDecidedOn: bytes in a request are secrets, plaintexts or ciphertexts, unless they are
// named here.
func TestBytesAreDecidedOn(t *testing.T) {
	public := []string{"PublicKey"}
	s, found := reflect.TypeFor[*Service](), 0
	for i := range s.NumMethod() {
		m := s.Method(i)
		if m.Type.NumIn() != 4 || !strings.HasSuffix(m.Type.In(3).String(), m.Name+"Request") {
			continue
		}
		in := reflect.New(m.Type.In(3).Elem())
		for j := range in.Elem().NumField() {
			f := in.Elem().Type().Field(j)
			secret := f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Uint8 &&
				!slices.Contains(public, f.Name) ||
				strings.Contains(f.Name, "Password") || strings.Contains(f.Name, "GrantToken") ||
				strings.Contains(f.Name, "Credential") || f.Name == "Recipient"
			if !secret {
				continue
			}
			found++
			if f.Type.Kind() == reflect.Pointer {
				in.Elem().Field(j).Set(reflect.New(f.Type.Elem()))
			} else if f.Type.Kind() == reflect.String {
				in.Elem().Field(j).SetString("secret")
			} else {
				in.Elem().Field(j).Set(reflect.MakeSlice(f.Type, 1, 1))
			}
		}
		if got := record.Parameters(in.Interface()); len(got) != 0 {
			t.Errorf("%s: a record shows %v", m.Name, got)
		}
	}
	if found < 35 {
		t.Errorf("only %d members are secrets", found)
	}
}

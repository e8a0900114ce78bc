package transport_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service"
)

// stateTable is AWS's (page "Key states of AWS KMS keys"). Deletion is PendingDeletion and
// PendingReplicaDeletion; Creating is not here, since clients of this service see no key before it
// is made. A key that is Unavailable is in a custom key store, where there are only symmetric keys,
// so that n/a is in some cells. The numbers are those of AWS's notes:
//
//	1  DisabledException: is disabled
//	3  KMSInvalidStateException: is pending deletion, or pending replica deletion
//	4  KMSInvalidStateException: is not pending deletion
//	5  KMSInvalidStateException: is pending import
//	6  UnsupportedOperationException: the origin is EXTERNAL
//	7  succeeds, unless the key has imported material or is in a custom key store: UnsupportedOperationException
//	9  succeeds for keys of EXTERNAL origin, else UnsupportedOperationException
//	11 KMSInvalidStateException: is unavailable
//	15 KMSInvalidStateException: is updating
//
// Where AWS lets note 2 or 3 hold it is 3, as AWS does it. Rotation of imported material is newer than AWS's table:
// GetKeyRotationStatus succeeds for it, and note 6 does not hold there any more.
const stateTable = `
                                     Enabled Disabled Deletion PendingImport Unavailable Updating
CancelKeyDeletion                    4       4        OK       4             4           4
CreateAlias                          OK      OK       3        OK            OK          OK
CreateGrant                          OK      1        3        5             OK          OK
Encrypt                              OK      1        3        5             11          OK
Decrypt                              OK      1        3        5             11          OK
ReEncrypt                            OK      1        3        5             11          OK
GenerateDataKey                      OK      1        3        5             11          OK
GenerateDataKeyWithoutPlaintext      OK      1        3        5             11          OK
GenerateDataKeyPair                  OK      1        3        5             11          OK
GenerateDataKeyPairWithoutPlaintext  OK      1        3        5             11          OK
Sign                                 OK      1        3        5             n/a         OK
Verify                               OK      1        3        5             n/a         OK
GenerateMac                          OK      1        3        5             n/a         OK
VerifyMac                            OK      1        3        5             n/a         OK
DeriveSharedSecret                   OK      1        3        5             n/a         OK
GetPublicKey                         OK      1        3        5             n/a         OK
DeleteAlias                          OK      OK       OK       OK            OK          OK
DescribeKey                          OK      OK       OK       OK            OK          OK
GetKeyPolicy                         OK      OK       OK       OK            OK          OK
PutKeyPolicy                         OK      OK       OK       OK            OK          OK
ListAliases                          OK      OK       OK       OK            OK          OK
ListGrants                           OK      OK       OK       OK            OK          OK
ListKeyPolicies                      OK      OK       OK       OK            OK          OK
ListResourceTags                     OK      OK       OK       OK            OK          OK
RetireGrant                          OK      OK       OK       OK            OK          OK
RevokeGrant                          OK      OK       OK       OK            OK          OK
GetKeyLastUsage                      OK      OK       OK       OK            OK          OK
ListKeyRotations                     7       7        7        OK            7           7
DeleteImportedKeyMaterial            9       9        9        OK            n/a         15
DisableKey                           OK      OK       3        5             OK          15
EnableKey                            OK      OK       3        5             OK          15
EnableKeyRotation                    7       1        3        6             7           7
DisableKeyRotation                   7       1        3        6             7           7
RotateKeyOnDemand                    7       1        3        5             7           15
GetKeyRotationStatus                 7       7        7        OK            7           7
GetParametersForImport               9       9        3        OK            9           15
ImportKeyMaterial                    9       9        3        OK            9           OK
ReplicateKey                         OK      1        3        5             n/a         15
UpdatePrimaryRegion                  OK      1        3        5             n/a         OK
ScheduleKeyDeletion                  OK      OK       3        OK            OK          15
TagResource                          OK      OK       3        OK            OK          OK
UntagResource                        OK      OK       3        OK            OK          OK
UpdateKeyDescription                 OK      OK       3        OK            OK          OK
UpdateAlias                          OK      OK       3        OK            OK          OK
`

// notes returns the error of a note: its code, and its message behind the key's ARN.
var notes = map[string][2]string{
	"1":  {"DisabledException", " is disabled."},
	"3":  {"KMSInvalidStateException", " is pending deletion."},
	"3r": {"KMSInvalidStateException", " is pending replica deletion."},
	"4":  {"KMSInvalidStateException", " is not pending deletion."},
	"5":  {"KMSInvalidStateException", " is pending import."},
	"6":  {"UnsupportedOperationException", " origin is EXTERNAL which is not valid for this operation."},
	"7":  {"UnsupportedOperationException", " origin is AWS_CLOUDHSM which is not valid for this operation."},
	"9":  {"UnsupportedOperationException", " origin is AWS_KMS which is not valid for this operation."},
	"11": {"KMSInvalidStateException", " is unavailable."},
	"15": {"KMSInvalidStateException", " is updating."},
}

// readStateTable returns the cells: operation, column, note.
func readStateTable() (operations []string, cells map[string]map[string]string) {
	lines := strings.Split(strings.Trim(stateTable, "\n"), "\n")
	columns := strings.Fields(lines[0])
	cells = map[string]map[string]string{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		cells[fields[0]] = map[string]string{}
		for i, column := range columns {
			cells[fields[0]][column] = fields[i+1]
		}
		operations = append(operations, fields[0])
	}
	return operations, cells
}

// inState puts a key into a state for the time of a call.
func (f *fixture) inState(t *testing.T, id string, state service.KeyState, call func() error) error {
	t.Helper()
	shared := ok(f.Store.Key(t.Context(), region, id))(t)
	saved := *shared
	put := func(change func(*service.Key)) {
		t.Helper()
		if err := f.Store.UpdateKey(t.Context(), region, id, func(k *service.Key) error {
			change(k)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(func(k *service.Key) {
		k.State = state
		switch state {
		case service.StatePendingDeletion:
			k.DeletionAt = time.Now().Add(7 * 24 * time.Hour)
		case service.StatePendingReplicaDeletion:
			k.PendingWindow = 7
		}
	})
	err := call()
	put(func(k *service.Key) { *k = saved })
	return err
}

func (f *fixture) wantNote(t *testing.T, err error, id, note string) {
	t.Helper()
	if note == "OK" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	want, known := notes[note]
	if !known {
		t.Fatalf("there is no note %s", note)
	}
	wantError(t, err, want[0], "arn:verenc:"+account+":key/"+id+want[1])
}

// keyOf is the key that a request is for; an alias's is the symmetric one.
func (f *fixture) keyOf(in any) string {
	if member := keyMember(in); member != "" {
		return reflect.ValueOf(in).Elem().FieldByName(member).Elem().String()
	}
	return f.symmetric
}

// TestKeyStateTable tries each operation on a key in each state.
func TestKeyStateTable(t *testing.T) {
	f := newFixture(t)
	operations, cells := readStateTable()
	for _, column := range []struct {
		name   string
		states []service.KeyState
	}{
		{"Enabled", []service.KeyState{service.StateEnabled}},
		{"Disabled", []service.KeyState{service.StateDisabled}},
		{"Deletion", []service.KeyState{service.StatePendingDeletion, service.StatePendingReplicaDeletion}},
		{"PendingImport", []service.KeyState{service.StatePendingImport}},
		{"Updating", []service.KeyState{service.StateUpdating}},
	} {
		for _, state := range column.states {
			t.Run(string(state), func(t *testing.T) {
				for _, op := range operations {
					t.Run(op, func(t *testing.T) {
						f.tryCell(t, op, state, cells[op][column.name])
					})
				}
			})
		}
	}
	t.Run("Unavailable", func(t *testing.T) { f.tryUnavailable(t, operations, cells) })
}

// externalOnly are the operations of note 9.
var externalOnly = []string{"DeleteImportedKeyMaterial", "GetParametersForImport", "ImportKeyMaterial"}

func (f *fixture) tryCell(t *testing.T, op string, state service.KeyState, note string) {
	g := *f
	defer func() { f.names = g.names }()
	g.t = t
	if state == service.StatePendingImport { // a state of imported keys
		g.symmetric = f.external
	}
	g.waiting = f.external // DeleteImportedKeyMaterial; the row comes back after each call
	if note == "3" && state == service.StatePendingReplicaDeletion {
		note = "3r"
	}
	if note == "7" { // the keys are not of that kind
		note = "OK"
	}
	in := g.request(op)
	id := g.keyOf(in)
	if slices.Contains(externalOnly, op) {
		if state != service.StatePendingImport { // a key of another origin is refused in every state
			set(in, "KeyId", &g.symmetric)
			err := f.inState(t, g.symmetric, state, func() error { return invoke(t.Context(), f.Client, op, in) })
			f.wantNote(t, err, g.symmetric, "9")
			set(in, "KeyId", &g.external)
		}
		if note == "9" {
			note = "OK"
		}
		if op == "DeleteImportedKeyMaterial" && note == "OK" {
			// The material goes for good: a key of its own.
			other := *f.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal}).KeyId
			set(in, "KeyId", &other)
			id = other
		}
	}
	if op == "EnableKeyRotation" && note == "6" {
		set(in, "KeyId", &f.external)
	}
	err := f.inState(t, id, state, func() error { return invoke(t.Context(), f.Client, op, in) })
	f.wantNote(t, err, id, note)
}

// tryUnavailable is the column of a key whose custom key store is disconnected.
func (f *fixture) tryUnavailable(t *testing.T, operations []string, cells map[string]map[string]string) {
	g := *f
	g.t = t
	g.symmetric, g.external, g.waiting = f.stored, f.stored, f.stored
	g.sealed = ok(f.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &f.stored, Plaintext: []byte("x")}))(t).CiphertextBlob
	made := map[string]any{}
	for _, op := range operations {
		if cells[op]["Unavailable"] != "n/a" {
			made[op] = g.request(op)
			if member := keyMember(made[op]); member != "" {
				set(made[op], member, &f.stored)
			}
		}
	}
	f.names = g.names
	ok(f.DisconnectCustomKeyStore(t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &f.keyStore}))(t)
	if m := ok(f.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &f.stored}))(t).
		KeyMetadata; m.KeyState != types.KeyStateUnavailable || m.Enabled {
		t.Errorf("%+v", m)
	}
	for _, op := range operations {
		note := cells[op]["Unavailable"]
		if note == "n/a" {
			continue
		}
		t.Run(op, func(t *testing.T) {
			err := f.inState(t, f.stored, service.StateEnabled, func() error {
				return invoke(t.Context(), f.Client, op, made[op])
			})
			if note == "9" {
				note = "7" // the origin is neither
			}
			f.wantNote(t, err, f.stored, note)
		})
	}
	// Note 13: a key that is pending deletion stays so.
	ok(f.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &f.stored,
		PendingWindowInDays: aws.Int32(7)}))(t)
	ok(f.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &f.stored}))(t)
	// Note 12: the change shows when the key store is connected again.
	ok(f.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &f.stored}))(t)
	ok(f.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &f.keyStore}))(t)
	f.connected(t, f.keyStore, types.ConnectionStateTypeConnected)
	if m := ok(f.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &f.stored}))(t).
		KeyMetadata; m.KeyState != types.KeyStateEnabled {
		t.Errorf("%+v", m)
	}
	opened := ok(f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: g.sealed}))(t)
	if string(opened.Plaintext) != "x" || len(*opened.KeyMaterialId) != 64 {
		t.Errorf("%+v", opened)
	}
}

package transport_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/verenc/kms/service"
)

// orderTable says, for each operation that is for some keys only, what it answers for a key of
// another kind in a state: the number is a note of AWS's table of key states (see notes); "kind" is
// what it answers for that key when it is enabled. So it tells which of the two is looked at first.
const orderTable = `
operation                            Disabled  PendingDeletion  PendingImport
Decapsulate                          1         3                5
Decrypt                              1         3                5
DeleteImportedKeyMaterial            kind      kind             kind
DeriveSharedSecret                   1         3                5
DisableKeyRotation                   1         3                kind
EnableKeyRotation                    1         3                kind
Encapsulate                          1         3                5
Encrypt                              1         3                5
GenerateDataKey                      1         3                5
GenerateDataKeyPair                  1         3                5
GenerateDataKeyPairWithoutPlaintext  1         3                5
GenerateDataKeyWithoutPlaintext      1         3                5
GenerateMac                          1         3                5
GetParametersForImport               kind      kind             kind
GetPublicKey                         1         3                5
ImportKeyMaterial                    kind      kind             kind
ListKeyRotations                     kind      kind             kind
ReEncrypt                            1         3                5
ReplicateKey                         1         3                5
RotateKeyOnDemand                    1         3                5
Sign                                 1         3                5
UpdatePrimaryRegion                  1         3                5
Verify                               1         3                5
VerifyMac                            1         3                5
`

// anyKind are the operations on keys of every kind.
var anyKind = []string{"CancelKeyDeletion", "CreateAlias", "CreateGrant", "DeleteAlias", "DescribeKey", "DisableKey",
	"EnableKey", "GetKeyLastUsage", "GetKeyPolicy",
	"GetKeyRotationStatus", // but for custom key stores; see TestKeyStateTable
	"ListAliases", "ListGrants", "ListKeyPolicies", "ListResourceTags", "PutKeyPolicy", "RetireGrant", "RevokeGrant",
	"ScheduleKeyDeletion", "TagResource",
	"UntagResource", "UpdateAlias", "UpdateKeyDescription"}

// wrongKind are the codes of answers for a key of another kind.
var wrongKind = []string{"InvalidKeyUsageException", "IncorrectKeyException", "UnsupportedOperationException"}

// TestOrderOfChecks tries each operation on every kind of key that it is not for, in each state.
func TestOrderOfChecks(t *testing.T) {
	f := newFixture(t)
	lines := strings.Split(strings.Trim(orderTable, "\n"), "\n")
	states := strings.Fields(lines[0])[1:]
	var ordered []string
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		op := cells[0]
		ordered = append(ordered, op)
		wrong := 0
		for kind, id := range map[string]string{"symmetric": f.symmetric, "rsa": f.rsa, "signing": f.signing,
			"mac": f.mac, "agreeing": f.agreeing, "encapsulating": f.encapsulating} {
			call := func() error {
				in := f.request(op)
				if op == "ReEncrypt" {
					set(in, "SourceKeyId", &id)
				} else {
					set(in, "KeyId", &id)
				}
				return invoke(t.Context(), f.Client, op, in)
			}
			err := call()
			var enabled smithy.APIError
			if !errors.As(err, &enabled) || !slices.Contains(wrongKind, enabled.ErrorCode()) {
				continue // it is for such keys
			}
			wrong++
			for i, state := range states {
				t.Run(op+"/"+kind+"/"+state, func(t *testing.T) {
					if cells[i+1] == "kind" {
						wantError(t, f.inState(t, id, service.KeyState(state), call), enabled.ErrorCode(),
							enabled.ErrorMessage())
					} else {
						f.wantNote(t, f.inState(t, id, service.KeyState(state), call), id, cells[i+1])
					}
				})
			}
		}
		if wrong == 0 {
			t.Errorf("%s is for every kind of key", op)
		}
	}
	for _, op := range operationNames() {
		if keyMember(f.request(op)) != "" && slices.Contains(ordered, op) == slices.Contains(anyKind, op) {
			t.Errorf("%s is not in one of the table and anyKind", op)
		}
	}
}

package transport_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestServiceEventsAreRecorded: what the service does by itself is recorded before its first
// change, and does not happen without a record.
func TestServiceEventsAreRecorded(t *testing.T) {
	a := newAudited(t)
	for _, test := range []struct {
		event  string
		origin types.OriginType
		later  time.Duration
		ask    func(id string) error
		done   func(id string) bool
	}{
		{"DeleteExpiredKeyMaterial", types.OriginTypeExternal, 2 * time.Hour, func(id string) error {
			in := a.importInput(t, a.Client, id, "RSAES_OAEP_SHA_256", "RSA_2048", randomBytes(32))
			in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires,
				aws.Time(time.Now().Add(time.Hour))
			_, err := a.ImportKeyMaterial(t.Context(), in)
			return err
		}, func(id string) bool {
			return len(a.objectsOf(t, id)) == 0
		}},
		{"RotateKey", types.OriginTypeAwsKms, 91 * 24 * time.Hour, func(id string) error {
			_, err := a.EnableKeyRotation(t.Context(),
				&kms.EnableKeyRotationInput{KeyId: &id, RotationPeriodInDays: aws.Int32(90)})
			return err
		}, func(id string) bool {
			out, err := a.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: &id})
			return err == nil && len(out.Rotations) == 1 && out.Rotations[0].RotationType == types.RotationTypeAutomatic
		}},
		{"DeleteKey", types.OriginTypeAwsKms, 8 * 24 * time.Hour, func(id string) error {
			_, err := a.ScheduleKeyDeletion(t.Context(),
				&kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
			return err
		}, func(id string) bool {
			_, err := a.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
			return err != nil && strings.Contains(err.Error(), "NotFoundException")
		}},
	} {
		made := ok(a.CreateKey(t.Context(), &kms.CreateKeyInput{Origin: test.origin}))(t).KeyMetadata
		id, arn := *made.KeyId, *made.Arn
		if err := test.ask(id); err != nil {
			t.Fatal(err)
		}
		a.begin(t, test.event)
		a.reconcile(t)
		if early := a.end(t); len(early) != 0 || test.done(id) {
			t.Errorf("%s before its time: %+v", test.event, early)
		}

		a.age(test.later)
		a.silence(true)
		if err := a.Service.Reconcile(t.Context()); err == nil {
			t.Errorf("%s: went on without a record", test.event)
		}
		a.silence(false)
		if test.done(id) {
			t.Errorf("%s: done without a record", test.event)
		}

		a.begin(t, test.event)
		a.reconcile(t)
		records := a.end(t)
		if len(records) != 1 {
			t.Fatalf("%s: %d records: %+v", test.event, len(records), records)
		}
		e := records[0]
		if e.EventType != "AwsServiceEvent" || e.UserIdentity.Type != "AWSService" || e.ErrorCode != "" || e.ReadOnly ||
			!uuidPattern.MatchString(e.EventID) ||
			e.RequestID != "" || e.RequestParameters != nil || e.AWSRegion != region || len(e.Resources) != 1 ||
			e.Resources[0].ARN != arn {
			text, _ := json.Marshal(e)
			t.Errorf("%s: %s", test.event, text)
		}
		if !test.done(id) {
			t.Errorf("%s: recorded and not done", test.event)
		}

		a.begin(t, test.event)
		a.reconcile(t)
		if again := a.end(t); len(again) != 0 {
			t.Errorf("%s: recorded twice: %+v", test.event, again)
		}
	}
}

func (a *audited) silence(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.silent = on
}

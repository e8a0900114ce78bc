package policy

import (
	"strings"
	"testing"
)

func TestCheckNames(t *testing.T) {
	actions := []string{"kms:Decrypt", "kms:ScheduleKeyDeletion", "sts:AssumeRole", "verenc:CreateUser"}
	for statement, want := range map[string]string{
		`"Action": ["KMS:schedulekeydeletion", "kms:Sched*", "*", "kms:*", "verenc:Create*"]`: "",
		`"NotAction": "kms:Decrypt"`:                          "",
		`"Action": ["s3:GetObject", "sts:AssumeRol?"]`:        "",
		`"Action": ["kms:Decrypt", "kms:SheduleKeyDeletion"]`: "shedulekeydeletion; the nearest is kms:ScheduleKeyDeletion",
		`"NotAction": "kms:SheduleKeyDeletion"`:               "the nearest is kms:ScheduleKeyDeletion",
		`"Action": "kms:Shed*"`:                               "no action is named kms:shed*",
		`"Action": "sts:AssumRole"`:                           "the nearest is sts:AssumeRole",
		`"Action": "verenc:Decrypt"`:                          "verenc:decrypt",
		`"Action": "*", "Condition": {"NumericLessThan": {"verenc:Aprovals": "1"}}`: "verenc:aprovals; the nearest is " +
			"verenc:Approvals",
		`"Action": "*", "Condition": {"NumericLessThan": {"VERENC:approvals": "1", "verenc:CredentialAge": "1"}}`: "",
		`"Action": "*", "Condition": {"StringEquals": {"kms:nothing": "1"}}`:                                      "",
	} {
		d, err := Parse(IdentityPolicy, `{"Statement": {"Effect": "Deny", "Resource": "*", `+statement+`}}`)
		if err != nil {
			t.Fatal(err)
		}
		err = d.CheckNames(actions)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

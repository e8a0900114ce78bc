package transport_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/iam"
)

// TestWhoCanApprove tries those who can't.
func TestWhoCanApprove(t *testing.T) {
	c := newCustody(t, 1, "kms:ScheduleKeyDeletion")
	role := c.role(t, account, "admin", iam.PrincipalDetails{Trust: trusting(c.alice.ARN, c.bob.ARN),
		Policies: map[string]string{"all": identityPolicy("kms:*", mayApprove)}})
	number, _ := wantsApproval(t, c.schedule(t, c.alice.Client, 7))
	second := c.signing(t, account, c.alice.ARN) // another access key of the same user
	session := c.mustAssume(t, c.alice.Secret, sts.AssumeRoleInput{RoleArn: &role})
	for name, who := range map[string]aws.Credentials{"herself": c.alice.Secret, "her second access key": second.Secret,
		"herself in a role": session} {
		if code, message := c.approve(t, who, number); code != "AccessDeniedException" ||
			!strings.Contains(message, "is behind the call") {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
	powerless := c.user(t, account, "powerless", identityPolicy("kms:*"))
	stranger := c.user(t, otherAccount, "stranger", identityPolicy("*"))
	if code, _ := c.approve(t, powerless.Secret, number); code != "AccessDeniedException" {
		t.Error(code)
	}
	if code, _ := c.approve(t, stranger.Secret, number); code != "NotFoundException" {
		t.Error(code)
	}
	digest := c.approvalRequest(t, c.bob.Secret, number).Request.Digest
	wrong := strings.Repeat("0", len(digest))
	wrong = `{"RequestId":` + number + `,"Digest":"` + wrong + `"}`
	if code, _ := c.own(t, c.bob.Secret, "ApproveRequest", wrong, nil); code != "ValidationException" {
		t.Error(code)
	}
	if _, have := wantsApproval(t, c.schedule(t, c.alice.Client, 7)); have != "0/1" {
		t.Error(have)
	}

	// The other way round: what she asks for in the role, she can't approve of as herself; bob can.
	c.role(t, account, "admin", iam.PrincipalDetails{Trust: trusting(c.alice.ARN, c.bob.ARN),
		Policies: map[string]string{"all": identityPolicy("kms:*", mayApprove)}})
	session = c.mustAssume(t, c.alice.Secret, sts.AssumeRoleInput{RoleArn: &role})
	number, _ = wantsApproval(t, c.schedule(t, c.client(session, region), 7))
	if code, _ := c.approve(t, c.alice.Secret, number); code != "AccessDeniedException" {
		t.Error(code)
	}
	of := c.mustAssume(t, c.bob.Secret, sts.AssumeRoleInput{RoleArn: &role})
	if code, _ := c.approve(t, of, number); code != "AccessDeniedException" {
		t.Errorf("a session of the same role: %s", code)
	}
	if chain := c.approvalRequest(t, c.bob.Secret, number).Request.CallerChain; fmt.Sprint(chain) != "["+c.alice.ARN+"]" {
		t.Error(chain)
	}
	c.mustApprove(t, c.bob.Secret, number)
	if err := c.schedule(t, c.client(session, region), 7); err != nil {
		t.Error(err)
	}
}

// TestOnePersonIsOneApprover: whoever approves as a user and in a role has approved once.
func TestOnePersonIsOneApprover(t *testing.T) {
	c := newCustody(t, 2, "kms:ScheduleKeyDeletion")
	role := c.role(t, account, "approver", iam.PrincipalDetails{Trust: trusting(c.bob.ARN),
		Policies: map[string]string{"approve": identityPolicy(mayApprove)}})
	number, _ := wantsApproval(t, c.schedule(t, c.alice.Client, 7))
	c.mustApprove(t, c.bob.Secret, number)
	c.mustApprove(t, c.mustAssume(t, c.bob.Secret, sts.AssumeRoleInput{RoleArn: &role}), number)
	if _, have := wantsApproval(t, c.schedule(t, c.alice.Client, 7)); have != "1/2" {
		t.Error(have)
	}
}

// TestApprovalsThatCountNoMore: an approval is judged again when it is used.
func TestApprovalsThatCountNoMore(t *testing.T) {
	c := newCustody(t, 1, "kms:ScheduleKeyDeletion")
	ctx := t.Context()
	for _, test := range []struct {
		name string
		end  func(number string) error
	}{
		{"the approver is removed", func(string) error { return c.Store.RemovePrincipal(ctx, c.bob.ARN) }},
		{"the approver loses the permission", func(string) error {
			return c.Store.PutPrincipal(ctx, &iam.Principal{ARN: c.bob.ARN, Account: account, Kind: iam.KindUser,
				CreatedAt: c.Now(), PrincipalDetails: iam.PrincipalDetails{Name: "bob", UniqueID: "AIDABOB"}})
		}},
		{"the access key is disabled", func(string) error {
			return c.Store.EnableAccessKey(ctx, c.bob.Secret.AccessKeyID, false)
		}},
		{"it is withdrawn", func(number string) error {
			code, message := c.own(t, c.alice.Secret, "RejectRequest", `{"RequestId":`+number+`}`, nil)
			if code, _ := c.approve(t, c.carol.Secret, number); code != "KMSInvalidStateException" {
				t.Error(code)
			}
			return map[bool]error{false: errors.New(message)}[code == ""]
		}},
		{"the time is over", func(number string) error {
			c.age(25 * time.Hour)
			if code, _ := c.approve(t, c.carol.Secret, number); code != "KMSInvalidStateException" {
				t.Error(code)
			}
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.bob = c.user(t, account, "bob", identityPolicy("kms:*", mayApprove))
			number, _ := wantsApproval(t, c.schedule(t, c.alice.Client, 8))
			c.mustApprove(t, c.bob.Secret, number)
			if err := test.end(number); err != nil {
				t.Fatal(err)
			}
			if _, have := wantsApproval(t, c.schedule(t, c.alice.Client, 8)); have != "0/1" {
				t.Error(have)
			}
			if _, err := c.Store.ApprovalRequest(ctx, account, atoi(t, number)); err != nil {
				t.Error(err)
			}
			// The next one begins without it.
			if r, err := c.Store.OpenApprovalRequest(ctx, c.approvalRequest(t, c.alice.Secret, number).Request.Digest,
				c.serviceNow()); err == nil && r.Stored == approval.Pending {
				if err := c.Store.RejectApprovalRequest(ctx, account, r.Number, "test", c.serviceNow()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestApprovalWithANewAccessKey: whose approval counts no more can approve again.
func TestApprovalWithANewAccessKey(t *testing.T) {
	c := newCustody(t, 1, "kms:ScheduleKeyDeletion")
	number, _ := wantsApproval(t, c.schedule(t, c.alice.Client, 7))
	c.mustApprove(t, c.bob.Secret, number)
	rotated := c.signing(t, account, c.bob.ARN).Secret
	if err := c.Store.RemoveAccessKey(t.Context(), c.bob.Secret.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	if again, have := wantsApproval(t, c.schedule(t, c.alice.Client, 7)); again != number || have != "0/1" {
		t.Error(again, have)
	}
	c.mustApprove(t, rotated, number)
	if err := c.schedule(t, c.alice.Client, 7); err != nil {
		t.Error(err)
	}
}

// TestRequestsOfASharedRole: whoever shares a role sees, and withdraws, their own requests only.
func TestRequestsOfASharedRole(t *testing.T) {
	c := newCustody(t, 1, "kms:ScheduleKeyDeletion")
	dave := c.user(t, account, "dave", identityPolicy("sts:AssumeRole"))
	role := c.role(t, account, "worker", iam.PrincipalDetails{Trust: trusting(c.alice.ARN, dave.ARN),
		Policies: map[string]string{"all": identityPolicy("kms:*")}})
	of := func(who *person) aws.Credentials {
		return c.mustAssume(t, who.Secret, sts.AssumeRoleInput{RoleArn: &role})
	}
	mine, others := of(c.alice), of(dave)
	number, _ := wantsApproval(t, c.schedule(t, c.client(mine, region), 7))
	for _, operation := range []string{"GetApprovalRequest", "RejectRequest"} {
		if code, message := c.own(t, others, operation, `{"RequestId":`+number+`}`, nil); code != "AccessDeniedException" {
			t.Errorf("%s: %s %s", operation, code, message)
		}
	}
	if r := c.approvalRequest(t, of(c.alice), number); r.Request.State != "PENDING" {
		t.Errorf("%+v", r)
	}
	if code, message := c.own(t, mine, "RejectRequest", `{"RequestId":`+number+`}`, nil); code != "" {
		t.Error(code, message)
	}
}

// TestForgedApprovals: whoever can write to the database can't approve by it.
func TestForgedApprovals(t *testing.T) {
	c := newCustody(t, 1, "kms:ScheduleKeyDeletion")
	ctx := t.Context()
	first, _ := wantsApproval(t, c.schedule(t, c.alice.Client, 7))
	c.mustApprove(t, c.bob.Secret, first)
	real := ok(c.Store.ApprovalRequest(ctx, account, atoi(t, first)))(t)
	var other *approval.Request
	renamed := func(p iam.Proof) iam.Proof {
		p.Body = fmt.Appendf(nil, `{"RequestId":%d,"Digest":%q}`, other.Number, other.Digest)
		return p
	}
	days := int32(7)
	for name, forge := range map[string]func(*approval.Approval){
		"the approval of another call": func(*approval.Approval) {},
		"another approver":             func(a *approval.Approval) { a.Approver = c.carol.ARN },
		"no proof":                     func(a *approval.Approval) { a.Proof = nil },
		"another body":                 func(a *approval.Approval) { p := renamed(*a.Proof); a.Proof = &p },
		"another body and its hash": func(a *approval.Approval) {
			p := renamed(*a.Proof)
			hash := sha256.Sum256(p.Body)
			p.Request = p.Request[:len(p.Request)-64] + hex.EncodeToString(hash[:])
			a.Proof = &p
		},
		"another access key": func(a *approval.Approval) {
			p := renamed(*a.Proof)
			p.Scope.AccessKeyID = c.carol.Secret.AccessKeyID
			a.Proof, a.Approver = &p, c.carol.ARN
		},
	} {
		days++
		number, _ := wantsApproval(t, c.schedule(t, c.alice.Client, days))
		other = ok(c.Store.ApprovalRequest(ctx, account, atoi(t, number)))(t)
		forged := *real.Approvals[0]
		forged.Request = other.Number
		forge(&forged)
		if err := c.Store.PutApproval(ctx, &forged, c.serviceNow()); err != nil {
			t.Fatal(err)
		}
		if _, have := wantsApproval(t, c.schedule(t, c.alice.Client, days)); have != "0/1" {
			t.Errorf("%s: %s", name, have)
		}
	}
	if err := c.schedule(t, c.alice.Client, 7); err != nil { // the one that is real
		t.Error(err)
	}
}

func atoi(t testing.TB, s string) (n int64) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestConditionsOnApprovers: key policies and identity policies ask for approvals, too, and for certain approvers.
func TestConditionsOnApprovers(t *testing.T) {
	c := newCustody(t, 1, "kms:Nothing")
	ctx := t.Context()
	asks := keyPolicy(statement{Sid: "asks", Effect: "Deny", Principal: "*", Action: "kms:PutKeyPolicy",
		Condition: map[string]any{"NumericLessThan": map[string]any{"verenc:Approvals": "1"}}},
		statement{Effect: "Deny", Principal: "*", Action: "kms:DisableKey",
			Condition: map[string]any{
				"ForAllValues:StringNotEquals": map[string]any{"verenc:ApprovedBy": c.carol.ARN}}})
	ok(c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &c.key, Policy: &asks}))(t) // it leaves control

	disable := func() error {
		_, err := c.alice.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &c.key})
		return err
	}
	number, _ := wantsApproval(t, disable())
	if err := disable(); !strings.Contains(err.Error(), "is among "+c.carol.ARN) {
		t.Error(err)
	}
	c.mustApprove(t, c.bob.Secret, number)
	if _, have := wantsApproval(t, disable()); have != "1/1" {
		t.Error(have)
	}
	c.mustApprove(t, c.carol.Secret, number)
	if err := disable(); err != nil {
		t.Error(err)
	}

	// The approver sees what becomes of the policy.
	open := keyPolicy()
	put := func() error {
		_, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &c.key, Policy: &open})
		return err
	}
	number, _ = wantsApproval(t, put())
	shown := c.approvalRequest(t, c.bob.Secret, number)
	if len(shown.Changes) != 1 || shown.Changes[0].Document != "key policy" ||
		!strings.Contains(shown.Changes[0].Difference, `-      "Sid": "asks"`) {
		t.Errorf("%+v", shown)
	}
	c.mustApprove(t, c.bob.Secret, number)
	if err := put(); err != nil {
		t.Error(err)
	}
}

package transport_test

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/iam"
)

// needs is a guard that denies actions without so many approvals.
func needs(approvals int, actions ...string) string {
	return document(statement{Effect: "Deny", Action: actions, Resource: "*", Condition: map[string]any{
		"NumericLessThan": map[string]any{"verenc:Approvals": fmt.Sprint(approvals)}}})
}

func (s *server) guard(t testing.TB, document string) {
	t.Helper()
	g := &iam.Guard{Account: account, Document: document, ChangedAt: s.Now()}
	if err := s.Store.PutGuard(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

var requestNumber = regexp.MustCompile(`Approval request (\d+): the same call is allowed once when (\d+) of .* have approved, until \S+; (\d+) have\.`)

// wantsApproval checks that a call was denied for want of approvals, and gives the number of its request, and how many
// approvals are needed and there.
func wantsApproval(t testing.TB, err error) (number, approvals string) {
	t.Helper()
	wantError(t, err, "AccessDeniedException", "*")
	m := requestNumber.FindStringSubmatch(fmt.Sprint(err))
	if m == nil {
		t.Fatalf("the denial names no request: %v", err)
	}
	return m[1], m[3] + "/" + m[2]
}

type approvalRequest struct {
	Request struct {
		RequestId                                                        int
		State, Digest, OperationName, KeyArn, Requester, EndedBy, Region string
		ApprovedBy, EligibleApprovers, CallerChain                       []string
		ApprovalsNeeded                                                  int
	}
	Parameters string
	Changes    []struct{ Document, Difference string }
}

func (s *server) approvalRequest(t testing.TB, c aws.Credentials, number string) (r approvalRequest) {
	t.Helper()
	if code, message := s.own(t, c, "GetApprovalRequest", `{"RequestId":`+number+`}`, &r); code != "" {
		t.Fatal(code, message)
	}
	return r
}

// approve approves of a request as it is shown to somebody who may see it.
func (s *server) approve(t testing.TB, c aws.Credentials, number string) (code, message string) {
	t.Helper()
	var r approvalRequest
	if code, message := s.own(t, c, "GetApprovalRequest", `{"RequestId":`+number+`}`, &r); code != "" {
		return code, message
	}
	return s.own(t, c, "ApproveRequest", `{"RequestId":`+number+`,"Digest":"`+r.Request.Digest+`"}`, nil)
}

func (s *server) mustApprove(t testing.TB, c aws.Credentials, number string) {
	t.Helper()
	if code, message := s.approve(t, c, number); code != "" {
		t.Fatalf("%s: %s", code, message)
	}
}

const mayApprove = "verenc:Approve"

// custody is a server whose guard asks for approvals, with people.
type custody struct {
	*server
	alice, bob, carol *person // all may do everything, and approve
	key               string
}

func newCustody(t *testing.T, approvals int, actions ...string) *custody {
	s := newServer(t, options{})
	c := &custody{server: s}
	all := identityPolicy("kms:*", mayApprove, "sts:AssumeRole")
	c.alice, c.bob, c.carol = s.user(t, account, "alice", all), s.user(t, account, "bob", all),
		s.user(t, account, "carol", all)
	c.key, _ = s.newKey(t)
	s.guard(t, needs(approvals, actions...))
	return c
}

func (c *custody) schedule(t testing.TB, who *kms.Client, days int32) error {
	_, err := who.ScheduleKeyDeletion(t.Context(),
		&kms.ScheduleKeyDeletionInput{KeyId: &c.key, PendingWindowInDays: &days})
	return err
}

// cancel makes the key one that can be destroyed again.
func (c *custody) cancel(t testing.TB) {
	t.Helper()
	if _, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &c.key}); err != nil {
		t.Fatal(err)
	}
}

func TestTwoPeopleDestroyAKey(t *testing.T) {
	c := newCustody(t, 2, "kms:ScheduleKeyDeletion")
	number, have := wantsApproval(t, c.schedule(t, c.alice.Client, 7))
	if have != "0/2" {
		t.Error(have)
	}
	if again, _ := wantsApproval(t, c.schedule(t, c.alice.Client, 7)); again != number {
		t.Errorf("the same call has the requests %s and %s", number, again)
	}
	byARN := "arn:verenc:" + account + ":key/" + c.key
	_, err := c.alice.ScheduleKeyDeletion(t.Context(),
		&kms.ScheduleKeyDeletionInput{KeyId: &byARN, PendingWindowInDays: aws.Int32(7)})
	if again, _ := wantsApproval(t, err); again != number {
		t.Errorf("the same call, by the key's ARN, has the requests %s and %s", number, again)
	}
	c.mustApprove(t, c.bob.Secret, number)
	c.mustApprove(t, c.bob.Secret, number) // which counts once
	if _, have := wantsApproval(t, c.schedule(t, c.alice.Client, 7)); have != "1/2" {
		t.Error(have)
	}
	c.mustApprove(t, c.Secret, number) // the root user
	r := c.approvalRequest(t, c.alice.Secret, number).Request
	if r.State != "APPROVED" || r.OperationName != "ScheduleKeyDeletion" || !strings.HasSuffix(r.KeyArn, c.key) ||
		r.Requester != c.alice.ARN || fmt.Sprint(r.ApprovedBy) != fmt.Sprintf("[%s %s]", c.bob.ARN, iamARN(account, "root")) {
		t.Errorf("%+v", r)
	}

	// A changed call and another caller need approvals of their own.
	for _, err := range []error{c.schedule(t, c.alice.Client, 8), c.schedule(t, c.carol.Client, 7),
		c.schedule(t, c.Client, 7)} {
		if other, have := wantsApproval(t, err); other == number || have != "0/2" {
			t.Errorf("request %s, %s", other, have)
		}
	}
	if err := c.schedule(t, c.alice.Client, 7); err != nil {
		t.Fatal(err)
	}
	if r := c.approvalRequest(t, c.alice.Secret, number).Request; r.State != "USED" || r.EndedBy != c.alice.ARN ||
		len(r.ApprovedBy) != 2 {
		t.Errorf("%+v", r)
	}
	c.cancel(t)
	if replay, _ := wantsApproval(t, c.schedule(t, c.alice.Client, 7)); replay == number {
		t.Error("the approvals were used twice")
	}
}

// TestApprovalsOfOneOnly: of many equal calls at the same time, one is made.
func TestApprovalsOfOneOnly(t *testing.T) {
	c := newCustody(t, 1, "kms:GenerateRandom", "kms:Sign")
	random := func(ctx context.Context) error {
		_, err := c.alice.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})
		return err
	}
	number, _ := wantsApproval(t, random(t.Context()))
	var approved sync.WaitGroup
	for _, who := range []*person{c.bob, c.carol} { // two approvers race, too
		approved.Go(func() {
			if code, message := c.approve(t, who.Secret, number); code != "" {
				t.Error(code, message)
			}
		})
	}
	approved.Wait()
	if r := c.approvalRequest(t, c.bob.Secret, number).Request; len(r.ApprovedBy) != 2 {
		t.Errorf("%+v", r)
	}
	var made atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if random(t.Context()) == nil {
				made.Add(1)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 {
		t.Errorf("%d calls were made", made.Load())
	}
}

// TestFailedCallsSpendNothing: a call that fails before it has changed anything leaves the approvals as they are.
func TestFailedCallsSpendNothing(t *testing.T) {
	c := newCustody(t, 1, "kms:EnableKeyRotation", "kms:ReEncrypt*", "kms:CreateAlias", "kms:CreateKey", "kms:TagResource")
	ctx := t.Context()
	ok(c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &c.key}))(t)
	rotate := func() error {
		_, err := c.alice.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &c.key})
		return err
	}
	number, _ := wantsApproval(t, rotate())
	c.mustApprove(t, c.bob.Secret, number)
	wantError(t, rotate(), "DisabledException", "*")
	ok(c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &c.key}))(t)
	if err := rotate(); err != nil {
		t.Error(err)
	}

	// A call that needs two permissions, on two resources, has a request for each.
	alias := func() error {
		in := &kms.CreateAliasInput{AliasName: aws.String("alias/two"), TargetKeyId: &c.key}
		_, err := c.alice.CreateAlias(ctx, in)
		return err
	}
	first, _ := wantsApproval(t, alias())
	c.mustApprove(t, c.bob.Secret, first)
	second, _ := wantsApproval(t, alias())
	c.mustApprove(t, c.bob.Secret, second)
	if err := alias(); err != nil || first == second {
		t.Error(first, second, err)
	}
	// Two permissions on one resource have one request.
	tagged := func() error {
		in := &kms.CreateKeyInput{Tags: tags("a", "b")}
		_, err := c.alice.CreateKey(ctx, in)
		return err
	}
	number, _ = wantsApproval(t, tagged())
	c.mustApprove(t, c.bob.Secret, number)
	if err := tagged(); err != nil {
		t.Error(err)
	}
}

// TestPendingRequestsAreBounded: nobody fills the database with requests.
func TestPendingRequestsAreBounded(t *testing.T) {
	c := newCustody(t, 1, "kms:CreateKey")
	create := func(n int) error {
		_, err := c.alice.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String(fmt.Sprint(n))})
		return err
	}
	for n := range 100 {
		wantsApproval(t, create(n))
	}
	err := create(100)
	wantError(t, err, "AccessDeniedException", "*")
	if !strings.Contains(err.Error(), "has 100 approval requests") {
		t.Error(err)
	}
	wantsApproval(t, create(99)) // which is there
	var list struct {
		Requests   []struct{ RequestId int }
		NextMarker string
	}
	seen := map[int]bool{}
	for marker := ""; ; marker = `,"Marker":"` + list.NextMarker + `"` {
		list.NextMarker = ""
		body := `{"Limit":30,"State":"PENDING"` + marker + `}`
		if code, message := c.own(t, c.bob.Secret, "ListApprovalRequests", body, &list); code != "" {
			t.Fatal(code, message)
		}
		for _, r := range list.Requests {
			seen[r.RequestId] = true
		}
		if list.NextMarker == "" {
			break
		}
	}
	if len(seen) != 100 {
		t.Errorf("%d are listed", len(seen))
	}
}

// TestSecretsAreHashed: what a call has of plaintexts is neither shown nor stored.
func TestSecretsAreHashed(t *testing.T) {
	c := newCustody(t, 1, "kms:Encrypt")
	const plaintext = "a plaintext to be kept"
	encrypt := func(text string) error {
		_, err := c.alice.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &c.key, Plaintext: []byte(text),
			EncryptionContext: map[string]string{"tenant": "blue"}})
		return err
	}
	number, _ := wantsApproval(t, encrypt(plaintext))
	if other, _ := wantsApproval(t, encrypt("another")); other == number {
		t.Error("another plaintext is the same call")
	}
	shown := c.approvalRequest(t, c.bob.Secret, number).Parameters
	stored := fmt.Sprintf("%+v", ok(c.Store.ApprovalRequest(t.Context(), account, atoi(t, number)))(t))
	if strings.Contains(shown, "YSBwbGFpbnRleHQ") || strings.Contains(stored, plaintext) ||
		!strings.Contains(shown, `"tenant": "blue"`) || !strings.Contains(shown, `"Bytes": 22`) {
		t.Errorf("%s\n%s", shown, stored)
	}
}

// TestGuard: the guard limits everybody, the root user and other accounts too, and no policy weakens it.
func TestGuard(t *testing.T) {
	s := newServer(t, options{})
	ctx := t.Context()
	key, keyARN := s.newKey(t)
	stranger := s.user(t, otherAccount, "stranger", identityPolicy("kms:*"))
	policy := keyPolicy(statement{Principal: principals(stranger.ARN), Action: "kms:Encrypt"})
	ok(s.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, Policy: &policy}))(t)
	encrypt := func(c *kms.Client, key string) error {
		_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		return err
	}
	for _, err := range []error{encrypt(s.Client, key), encrypt(stranger.Client, keyARN)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.guard(t, identityPolicy("kms:DescribeKey", "kms:List*"))
	err := encrypt(s.Client, key)
	wantError(t, err, "AccessDeniedException", "*")
	if !strings.Contains(err.Error(), "because no guard allows the kms:Encrypt action") {
		t.Error(err)
	}
	wantError(t, encrypt(stranger.Client, keyARN), "AccessDeniedException", "*")
	ok(s.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key}))(t)
	s.guard(t, document(statement{Effect: "Deny", Action: "kms:Encrypt", Resource: "*"}))
	if err = encrypt(s.Client, key); !strings.Contains(fmt.Sprint(err), "with an explicit deny in a guard") {
		t.Error(err)
	}
	ok(s.ListKeys(ctx, &kms.ListKeysInput{}))(t)
	if err := s.Store.RemoveGuard(ctx, account); err != nil {
		t.Fatal(err)
	}
	if err := encrypt(s.Client, key); err != nil {
		t.Error(err)
	}
}

// TestApprovalsAreSpentBeforeTheEffect: when the record of an approved call can't be written, the call is not made, and
// its approvals are gone: a crash at that point can't leave a call that was made with approvals that can be used again.
func TestApprovalsAreSpentBeforeTheEffect(t *testing.T) {
	a := newAudited(t)
	ctx := t.Context()
	bob := a.user(t, account, "bob", identityPolicy(mayApprove))
	key, _ := a.newKey(t)
	a.server.guard(t, needs(1, "kms:ScheduleKeyDeletion"))
	c := &custody{server: a.server, key: key}
	number, _ := wantsApproval(t, c.schedule(t, a.Client, 7))
	c.mustApprove(t, bob.Secret, number)
	a.silence(true)
	wantError(t, c.schedule(t, a.Client, 7), "KMSInternalException", "*")
	a.silence(false)
	if k := ok(a.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key}))(t); k.KeyMetadata.DeletionDate != nil {
		t.Error("the call was made without a record")
	}
	if r := c.approvalRequest(t, bob.Secret, number); r.Request.State != "USED" {
		t.Errorf("%+v", r)
	}
	second, have := wantsApproval(t, c.schedule(t, a.Client, 7))
	if second == number || have != "0/1" {
		t.Error(second, have)
	}
	c.mustApprove(t, bob.Secret, second)
	backup := filepath.Join(t.TempDir(), "backup")
	if err := a.Store.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if err := c.schedule(t, a.Client, 7); err != nil {
		t.Fatal(err)
	}

	// A database that was set back to before the use lets the call be made again. The log has both uses, which name the
	// same request.
	if err := a.Store.Rewind(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if err := c.schedule(t, a.Client, 7); err != nil {
		t.Fatal(err)
	}
	uses := 0
	for _, e := range ok(a.records())(t) {
		if e.EventName == "ScheduleKeyDeletion" && e.ErrorCode == "" {
			uses++
			if n := fmt.Sprint(e.AdditionalEventData["approvalRequests"]); n != "["+second+"]" ||
				fmt.Sprint(e.AdditionalEventData["approvedBy"]) != "["+bob.ARN+"]" {
				t.Errorf("%+v", e.AdditionalEventData)
			}
		}
		if e.EventName == "ApproveRequest" && (e.ReadOnly || e.EventSource != "verenc") {
			t.Errorf("%+v", e)
		}
	}
	if uses != 2 {
		t.Errorf("%d uses are recorded", uses)
	}
}

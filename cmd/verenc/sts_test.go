package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/store"
)

// TestClientsAssumeRoles: the AWS CLI and boto3 ask who they are, assume a role, and use the temporary credentials.
func TestClientsAssumeRoles(t *testing.T) {
	s := initialised(t)
	const alice, role, session = "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/reader",
		"arn:aws:sts::111122223333:assumed-role/reader/cli"
	s.giveTo(t, alice, &iam.Principal{ARN: role, Kind: iam.KindRole,
		PrincipalDetails: iam.PrincipalDetails{Name: "reader", UniqueID: "AROAREADER",
			Trust: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + alice +
				`"},"Action":"sts:AssumeRole"}}`,
			Policies: map[string]string{
				"read": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`}}})
	r := s.serve(t)
	url := "http://" + r.api
	t.Parallel() // no earlier: a new token must not meet another test's process that reads SoftHSM2's configuration

	t.Run("CLI", func(t *testing.T) {
		var assumed struct {
			Credentials     struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }
			AssumedRoleUser struct{ AssumedRoleId, Arn string }
		}
		cli := func(into any, args ...string) result {
			t.Helper()
			cmd := s.client(t, awsCLI, append([]string{"--endpoint-url", url, "--output", "json"}, args...)...)
			if c := assumed.Credentials; c.AccessKeyId != "" {
				cmd.Env = append(cmd.Env, "AWS_ACCESS_KEY_ID="+c.AccessKeyId,
					"AWS_SECRET_ACCESS_KEY="+c.SecretAccessKey, "AWS_SESSION_TOKEN="+c.SessionToken)
			}
			got := runCommand(t, cmd)
			if into != nil && got.code == 0 {
				if err := json.Unmarshal([]byte(got.stdout), into); err != nil {
					t.Errorf("%v: %v", err, got)
				}
			}
			return got
		}
		var who struct{ UserId, Account, Arn string }
		if got := cli(&who, "sts", "get-caller-identity"); got.code != 0 || who.Arn != alice ||
			who.Account != "111122223333" || who.UserId != "AIDAALICE" {
			t.Errorf("%+v %v", who, got)
		}
		if got := cli(nil, "sts", "assume-role", "--role-arn", role+"2", "--role-session-name",
			"cli"); got.code != 254 ||
			!strings.Contains(got.stderr,
				"An error occurred (AccessDenied) when calling the AssumeRole operation: User: "+alice+
					" is not authorized") {
			t.Error(got)
		}
		got := cli(&assumed, "sts", "assume-role", "--role-arn", role, "--role-session-name", "cli")
		if got.code != 0 || assumed.AssumedRoleUser.Arn != session ||
			!strings.HasPrefix(assumed.Credentials.AccessKeyId, "ASIA") || assumed.Credentials.SessionToken == "" {
			t.Errorf("%+v %v", assumed, got)
		}
		if got := cli(&who, "sts", "get-caller-identity"); got.code != 0 || who.Arn != session {
			t.Errorf("%+v %v", who, got)
		}
		if got := cli(nil, "kms", "list-keys"); got.code != 0 {
			t.Error(got)
		}
		if got := cli(nil, "kms", "create-key"); got.code != 254 ||
			!strings.Contains(got.stderr, "User: "+session+" is not authorized to perform: kms:CreateKey") {
			t.Error(got)
		}
	})
	t.Run("boto3", func(t *testing.T) {
		job, err := filepath.Abs("testdata/boto3_role.py")
		if err != nil {
			t.Fatal(err)
		}
		if got := runCommand(t, s.client(t, python, job, url, role)); got.code != 0 {
			t.Error(got)
		}
	})
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	checkServerLog(t, r, s.accessKey(t).SecretAccessKey, s.soft.PIN)
}

// giveTo gives the site's access key to a user, and adds other principals.
func (s *site) giveTo(t *testing.T, user string, others ...*iam.Principal) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: s.path("kms.db")})
	if err != nil {
		t.Fatal(err)
	}
	name := user[strings.LastIndex(user, "/")+1:]
	for _, p := range append(others, &iam.Principal{ARN: user, Kind: iam.KindUser,
		PrincipalDetails: iam.PrincipalDetails{Name: name, UniqueID: "AIDA" + strings.ToUpper(name)}}) {
		p.Account, p.CreatedAt = "111122223333", time.Now()
		if err := db.PutPrincipal(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	k, err := db.AccessKey(t.Context(), s.accessKey(t).AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	changed := *k
	changed.PrincipalARN = user
	if err := db.RemoveAccessKey(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	if err := db.InsertAccessKey(t.Context(), &changed, 2); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

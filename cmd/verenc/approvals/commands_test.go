package approvals

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// run runs a command with these variables, and gives what it prints.
func run(t *testing.T, env map[string]string, args ...string) (string, error) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
		"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_CA_BUNDLE",
		"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} {
		t.Setenv(name, env[name])
	}
	var out bytes.Buffer
	cmd := NewCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// TestWhatAServerSays: texts of a server don't pass for lines of the output, or move the cursor.
func TestWhatAServerSays(t *testing.T) {
	entry := `{"RequestId":1,"State":"PENDING","OperationName":"Sign\u001b[2J","KeyArn":"arn\nrequest: 2","Requester":"a",` +
		`"Digest":"d\u0007","ApprovalsNeeded":2,"ApprovedBy":["b"],"CreationDate":1.5,"ExpirationDate":86400}`
	answers := map[string]string{
		"Verenc.GetApprovalRequest": `{"Request":` + entry + `,"Parameters":"{\n \"a\": \"\u001b[31m\"\n}",` +
			`"Changes":[{"Document":"guard","Difference":"-a\n+b\r"}]}`,
		"Verenc.ListApprovalRequests": `{"Requests":[` + entry + `]}`,
		"Verenc.ApproveRequest":       `{"Request":` + entry + `}`,
	}
	var authorization string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		answer := answers[r.Header.Get("X-Amz-Target")]
		if answer == "" {
			w.WriteHeader(http.StatusBadRequest)
			answer = `{"__type":"NotFoundException","message":"none\u001b[1m"}`
		}
		fmt.Fprint(w, answer)
	}))
	defer s.Close()
	env := map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1",
		"AWS_ENDPOINT_URL_KMS": s.URL, "AWS_ENDPOINT_URL": "http://nowhere.invalid"}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"show", "1"}, []string{`"arn\nrequest: 2"`, `\x1b[31m`, `"+b\r"`, "1 of 2", "1970-01-02T00:00:00Z"}},
		{[]string{"list", "--state", "pending"}, []string{`"Sign\x1b[2J"`, "1/2"}},
		{[]string{"approve", "1", "--digest", "d"}, []string{"request 1 is PENDING, with 1 of 2 approvals\n"}},
	} {
		out, err := run(t, env, test.args...)
		if err != nil || strings.ContainsAny(out, "\x1b\x07\r") {
			t.Errorf("%v: %q, %v", test.args, out, err)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v: %q is not in %s", test.args, want, out)
			}
		}
	}
	if !strings.Contains(authorization, "Credential=AKIA/") || !strings.Contains(authorization, "/eu-west-1/kms/") {
		t.Error(authorization)
	}
	if _, err := run(t, env, "reject", "1"); err == nil || err.Error() != `NotFoundException: "none\x1b[1m"` {
		t.Error(err)
	}
}

func TestWhatIsMissing(t *testing.T) {
	keys := map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
	for _, test := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{keys, []string{"list"}, "name the server by --endpoint"},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_CONFIG_FILE": "/nonexistent"},
			[]string{"list", "--endpoint", "http://127.0.0.1:1"}, "set AWS_SHARED_CREDENTIALS_FILE"},
		{keys, []string{"show", "x", "--endpoint", "http://127.0.0.1:1"}, `"x" is no number`},
		{keys, []string{"show", "0", "--endpoint", "http://127.0.0.1:1"}, `"0" is no number`},
		{keys, []string{"approve", "1", "--endpoint", "http://127.0.0.1:1"}, `"digest" not set`},
		{keys, nil, "name a subcommand"},
	} {
		if _, err := run(t, test.env, test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %q", test.args, err, test.want)
		}
	}
}

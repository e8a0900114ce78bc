// Package approvals has the commands by which people approve of calls: verenc approval. They are clients of a server,
// as AWS's command line is: they need neither its database nor its token, and send requests that are signed with the
// credentials of whoever runs them.
//
// What it protects: the credentials, which are in the environment and go nowhere, and the approver, who approves of the
// call that was shown and of no other. It trusts the server that it is pointed at no more than AWS's clients do: what a
// server says is printed with its control characters quoted.
package approvals

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
)

const (
	requestTimeout = time.Minute
	maxAnswer      = 4 << 20 // bytes; a request for approval has up to a policy or two
)

// client calls Verenc's own operations.
type client struct {
	endpoint    string
	region      string
	credentials aws.Credentials
	http        *http.Client
	now         func() time.Time
}

// readProfile reads the profile of whoever calls from the files that AWS's clients read. Only access keys in it are
// used.
func readProfile(ctx context.Context, env func(string) string) (config.SharedConfig, error) {
	profile := cmp.Or(env("AWS_PROFILE"), env("AWS_DEFAULT_PROFILE"), config.DefaultSharedConfigProfile)
	files := func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles = []string{cmp.Or(env("AWS_SHARED_CREDENTIALS_FILE"),
			config.DefaultSharedCredentialsFilename())}
		o.ConfigFiles = []string{cmp.Or(env("AWS_CONFIG_FILE"), config.DefaultSharedConfigFilename())}
	}
	const advice = "set AWS_SHARED_CREDENTIALS_FILE to a file with your own access key, or AWS_ACCESS_KEY_ID and " +
		"AWS_SECRET_ACCESS_KEY to it"
	c, err := config.LoadSharedConfigProfile(ctx, profile, files)
	if err != nil {
		return c, fmt.Errorf("%s: %w", advice, err)
	}
	if !c.Credentials.HasKeys() {
		return c, fmt.Errorf("profile %s has no access key: %s", profile, advice)
	}
	return c, nil
}

// newClient makes a client of the variables that AWS's clients take. endpoint is the flag's.
func newClient(ctx context.Context, endpoint string, env func(string) string) (*client, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := env(name); v != "" {
				return v
			}
		}
		return ""
	}
	c := &client{endpoint: endpoint, region: first("AWS_REGION", "AWS_DEFAULT_REGION"), now: time.Now,
		http: &http.Client{Timeout: requestTimeout}}
	if c.endpoint == "" {
		c.endpoint = first("AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL")
	}
	if c.endpoint == "" {
		return nil, errors.New("name the server by --endpoint or AWS_ENDPOINT_URL, such as https://kms.example.com")
	}
	c.credentials = aws.Credentials{AccessKeyID: env("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: env("AWS_SECRET_ACCESS_KEY"), SessionToken: env("AWS_SESSION_TOKEN")}
	if !c.credentials.HasKeys() {
		profile, err := readProfile(ctx, env)
		if err != nil {
			return nil, err
		}
		if c.credentials = profile.Credentials; c.region == "" {
			c.region = profile.Region
		}
	}
	if c.region == "" {
		c.region = "us-east-1"
	}
	if bundle := env("AWS_CA_BUNDLE"); bundle != "" {
		text, err := os.ReadFile(bundle)
		if err != nil {
			return nil, fmt.Errorf("AWS_CA_BUNDLE: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("AWS_CA_BUNDLE: %s has no certificate in PEM", bundle)
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: roots}
		c.http.Transport = t
	}
	return c, nil
}

// call sends a signed request, and decodes its answer.
func (c *client) call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	url := strings.TrimSuffix(c.endpoint, "/") + "/"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Verenc."+operation)
	hash := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(ctx, c.credentials, r, hex.EncodeToString(hash[:]), "kms", c.region, c.now())
	if err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		var failure struct {
			Type    string `json:"__type"`
			Message string
		}
		if json.Unmarshal(text, &failure) != nil || failure.Type == "" {
			return fmt.Errorf("%s answers %s: is it a Verenc server?", c.endpoint, answer.Status)
		}
		return fmt.Errorf("%s: %s", printable(failure.Type), printable(failure.Message))
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

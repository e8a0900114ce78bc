package transport_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func (f *fortress) attackBySignature(t *testing.T) {
	const forged = "The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	body := fmt.Sprintf(`{"KeyId":%q}`, f.id)
	bad := func(name, code, message string, after func(*http.Request)) attack {
		return attack{name: name, body: body, after: after, code: code, message: message}
	}
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	f.repel(t,
		bad("other bytes", "InvalidSignatureException", forged, func(r *http.Request) {
			h := r.Header.Get("Authorization")
			flipped := byte('0')
			if h[len(h)-1] == flipped {
				flipped = '1'
			}
			r.Header.Set("Authorization", h[:len(h)-1]+string(flipped))
		}),
		bad("cut off", "InvalidSignatureException", forged, func(r *http.Request) {
			h := r.Header.Get("Authorization")
			r.Header.Set("Authorization", h[:len(h)-2])
		}),
		bad("of another body", "InvalidSignatureException", forged, func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(body, "KeyId", "KeyIt", 1)))
		}),
		bad("of another operation", "InvalidSignatureException", forged, func(r *http.Request) {
			r.Header.Set("X-Amz-Target", "TrentService.DisableKey")
		}),
		bad("unknown access key", "UnrecognizedClientException",
			"The security token included in the request is invalid.",
			replace(f.Secret.AccessKeyID, "AKIAAAAAAAAAAAAAAAAA")),
		bad("session token of a long-term key", "UnrecognizedClientException",
			"The security token included in the request is invalid.",
			func(r *http.Request) {
				r.Header.Set("X-Amz-Security-Token", "dG9rZW4gb2Ygc29tZWJvZHk")
				signRequest(t, r, f.Secret, "kms", body, time.Now())
			}),
		bad("another region", "InvalidSignatureException",
			"Credential should be scoped to a valid region, not 'us-east-2'. ", replace(region, "us-east-2")),
		bad("another service", "InvalidSignatureException", "Credential should be scoped to correct service: 'kms'. ",
			replace("/kms/", "/s3/")),
		bad("no Authorization", "MissingAuthenticationTokenException", "Missing Authentication Token",
			func(r *http.Request) { r.Header.Del("Authorization") }),
		bad("two Authorizations", "IncompleteSignatureException", "Only one Authorization header is allowed.",
			func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }),
		bad("Basic", "IncompleteSignatureException", "*", func(r *http.Request) {
			r.SetBasicAuth(f.Secret.AccessKeyID, f.Secret.SecretAccessKey)
		}),
		bad("presigned query", "MissingAuthenticationTokenException", "Missing Authentication Token",
			func(r *http.Request) {
				r.Header.Del("Authorization")
				hash := sha256.Sum256([]byte(body))
				signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), f.Secret, r, hex.EncodeToString(hash[:]),
					"kms", region, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if r.URL, err = r.URL.Parse(signed); err != nil {
					t.Fatal(err)
				}
			}),
		attack{name: "6 minutes old", body: body, at: -6 * time.Minute, code: "InvalidSignatureException",
			message: "*"},
		attack{name: "6 minutes ahead", body: body, at: 6 * time.Minute, code: "InvalidSignatureException",
			message: "*"},
		attack{name: "4 minutes old", body: body, at: -4 * time.Minute},
		attack{name: "4 minutes ahead", body: body, at: 4 * time.Minute},
	)
	// The server's clock may be the one that is wrong; the SDK's correction of it needs the words.
	for ahead, words := range map[time.Duration]string{6 * time.Minute: "Signature expired: ",
		-6 * time.Minute: "Signature not yet current: "} {
		f.advance(ahead)
		_, err := f.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &f.id})
		f.advance(-ahead)
		wantError(t, err, "InvalidSignatureException", "*")
		if err != nil && !strings.Contains(err.Error(), words) {
			t.Errorf("%v does not say %q", err, words)
		}
	}
	f.stands(t)
}

package transport_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/transport"
)

// TestPanicsAreRecorded: an operation that panics is answered and recorded as a failure.
func TestPanicsAreRecorded(t *testing.T) {
	a := newAudited(t)
	id, _ := a.newKey(t)
	e, err := a.one(t, "Encrypt", func() error {
		panicking := kms.New(a.Client.Options(), func(o *kms.Options) {
			o.BaseEndpoint = aws.String(panickingServer(t, a))
		})
		_, err := panicking.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
		return err
	})
	wantError(t, err, "KMSInternalException", "*")
	if e.ErrorCode != "KMSInternalException" || e.EventName != "Encrypt" {
		t.Errorf("%+v", e)
	}
}

// panickingServer is a server with the log of another, whose token panics.
func panickingServer(t *testing.T, a *audited) string {
	t.Helper()
	s, err := service.New(service.Config{Audit: a, Store: a.Store, Token: panickingToken{a.Token}, Log: zap.NewNop(),
		Can: canOf(a.Token, false)})
	if err != nil {
		t.Fatal(err)
	}
	h, err := transport.New(transport.Config{Service: s, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
		Regions: []string{region}})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(h)
	t.Cleanup(listener.Close)
	return listener.URL
}

type panickingToken struct{ service.Token }

// Encrypt panics; Decrypt, which authentication needs, does not.
func (panickingToken) Encrypt(context.Context, hsm.Key, []byte, []byte) ([]byte, error) {
	panic("a bug")
}

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/verenc/kms/transport/sdktest"
)

// attempt is one HTTP request of an SDK's call, and its answer.
type attempt struct {
	node       int
	start, end time.Duration // before it was sent, and after the whole answer has come
	status     int           // 0: there was no answer, or only a part of one
	code       string        // of an error, as KMS has it
	body       []byte
}

func (a *attempt) outcome() outcome {
	switch {
	case a.status == http.StatusOK:
		return done
	case a.status >= 400 && a.status < 500:
		return refused
	}
	return unknown
}

// writes is a write that the attempt has made, or may have made.
func (a *attempt) writes(what string, from values, to string) event {
	return event{what: what, node: a.node, start: a.start, end: a.end, outcome: a.outcome(), write: true, from: from,
		to: to}
}

type attemptsKey struct{}

// withAttempts has balancers collect the attempts of a call.
func withAttempts(ctx context.Context) (context.Context, *[]attempt) {
	var all []attempt
	return context.WithValue(ctx, attemptsKey{}, &all), &all
}

// balancer sends each attempt to some server, as a load balancer does that knows which of them listen.
type balancer struct {
	c    *cluster
	r    *rand.Rand // of the one caller
	base http.RoundTripper
}

var errNoServer = errors.New("no server listens")

func newBalancer(c *cluster, r *rand.Rand) *balancer {
	return &balancer{c: c, r: r, base: sdktest.Transport{Transport: &http.Transport{}}}
}

// RoundTrip implements http.RoundTripper.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	first := b.r.IntN(len(b.c.nodes))
	for i := range b.c.nodes {
		node := (first + i) % len(b.c.nodes)
		if address := b.c.nodes[node].api(); address != "" {
			return b.send(r, node, address)
		}
	}
	return nil, errNoServer
}

func (b *balancer) send(r *http.Request, node int, address string) (*http.Response, error) {
	sent := r.Clone(r.Context())
	sent.Host, sent.URL.Host = r.URL.Host, address // the client has signed its own name for the service
	a := attempt{node: node, start: b.c.clock()}
	resp, err := b.base.RoundTrip(sent)
	if err == nil {
		var closed error
		a.body, err = io.ReadAll(resp.Body)
		closed = resp.Body.Close()
		err = errors.Join(err, closed)
		resp.Body = io.NopCloser(bytes.NewReader(a.body))
	}
	a.end = b.c.clock()
	if err == nil {
		a.status = resp.StatusCode
		if a.status != http.StatusOK {
			a.code = errorCode(a.body)
		}
		b.c.answered(node, resp.Header.Get("X-Amzn-Requestid"), answer{
			target: r.Header.Get("X-Amz-Target"), code: a.code, status: a.status, at: a.end})
	} else {
		resp = nil
	}
	if all, ok := r.Context().Value(attemptsKey{}).(*[]attempt); ok {
		*all = append(*all, a)
	}
	return resp, err
}

func errorCode(body []byte) string {
	var e struct {
		Type string `json:"__type"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Type[strings.LastIndex(e.Type, "#")+1:]
}

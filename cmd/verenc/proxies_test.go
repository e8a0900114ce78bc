package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	credentialsprovider "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/pires/go-proxyproto"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/transport/sdktest"
)

// All addresses 127.x.x.x are this machine's. The proxy is 127.0.0.1; policies let in the first one
// of the others.
const (
	letIn   = "127.0.0.7"
	keptOut = "127.0.0.8"
)

const letInCondition = `"Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.7/32"}}`

// behindProxies is a site whose access key is of a user that may list keys, and assume a role that may,
// from letIn only.
func behindProxies(t *testing.T) *site {
	t.Helper()
	s := initialised(t)
	s.write(t, "list.json", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*",`+
		letInCondition+`}}`, 0o600)
	s.write(t, "trust.json", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+userARN+`app"},`+
		`"Action":"sts:AssumeRole",`+letInCondition+`}}`, 0o600)
	s.does(t, "user", "create", "app", "--policy", "list=list.json")
	s.does(t, "role", "create", "reader", "--trust", "trust.json", "--policy", "list=list.json")
	s.does(t, "access-key", "create", "--user", "app", "--credentials", s.path("app"))
	return s
}

// from is a client that connects from an address and sends an X-Forwarded-For of its own.
func (s *site) from(t *testing.T, address, url, forged string, trust *tls.Config) aws.Config {
	t.Helper()
	key := credentials.FindStringSubmatch(read(t, s.path("app")))
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	connections := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: trust}
	t.Cleanup(connections.CloseIdleConnections)
	return aws.Config{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1,
		Credentials: credentialsprovider.NewStaticCredentialsProvider(key[1], key[2], ""),
		HTTPClient:  &http.Client{Transport: forging{sdktest.Transport{Transport: connections}, forged}}}
}

type forging struct {
	http.RoundTripper
	forwarded string
}

func (f forging) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.forwarded != "" {
		r = r.Clone(r.Context())
		r.Header.Set("X-Forwarded-For", f.forwarded)
	}
	return f.RoundTripper.RoundTrip(r)
}

// calls makes a request of each service.
func calls(ctx context.Context, c aws.Config) (list, assume error) {
	_, list = kms.NewFromConfig(c).ListKeys(ctx, &kms.ListKeysInput{})
	_, assume = sts.NewFromConfig(c).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(roleARN + "reader"),
		RoleSessionName: aws.String("test")})
	return list, assume
}

// sources counts the source addresses in the records of the requests.
func (s *site) sources(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	err := audit.Read(os.DirFS(s.path("audit")), func(_ int64, text []byte) error {
		var r audit.Record
		err := json.Unmarshal(text, &r)
		if r.EventName == "ListKeys" || r.EventName == "AssumeRole" {
			counts[r.SourceIPAddress]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// TestForwardedFor: behind an HTTP proxy, the address in policies and records is the client's, and
// never one that a client made up.
func TestForwardedFor(t *testing.T) {
	s := behindProxies(t)
	refused(t, s.with("VERENC_TRUSTED_PROXIES=127.0.0.1/8,haproxy").run(t, "serve"),
		"trusted_proxies", "give 127.0.0.0/8", "haproxy")
	r := s.with("VERENC_TRUSTED_PROXIES=127.0.0.1").serve(t)
	target := &url.URL{Scheme: "http", Host: r.api}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host // it is signed
		p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
		p.SetXForwarded()
	}})
	t.Cleanup(proxy.Close)
	direct := target.String()
	for _, c := range []struct {
		name, from, url, forged string
		ok                      bool
	}{
		{"through the proxy", letIn, proxy.URL, "", true},
		{"through the proxy, from elsewhere", keptOut, proxy.URL, "", false},
		{"forged through the proxy", keptOut, proxy.URL, letIn, false},
		{"forged through the proxy, and a proxy too", keptOut, proxy.URL, letIn + ", 127.0.0.1", false},
		{"forged the other way", letIn, proxy.URL, keptOut, true},
		{"rubbish through the proxy", letIn, proxy.URL, "unknown, ,", true},
		{"direct", letIn, direct, "", true},
		{"direct, from elsewhere", keptOut, direct, "", false},
		{"forged directly", keptOut, direct, letIn, false},
	} {
		list, assume := calls(t.Context(), s.from(t, c.from, c.url, c.forged, nil))
		if c.ok && (list != nil || assume != nil) ||
			!c.ok && (codeOf(list) != "AccessDeniedException" || codeOf(assume) != "AccessDenied") {
			t.Errorf("%s: got %v, %v", c.name, list, assume)
		}
	}
	// A proxy that does not do its work is not taken for its clients.
	list, assume := calls(t.Context(), s.from(t, "127.0.0.1", direct, "", nil))
	if codeOf(list) != "AccessDeniedException" || !strings.Contains(list.Error(), "does not say which address") ||
		codeOf(assume) != "AccessDeniedException" {
		t.Errorf("a proxy without the header: got %v, %v", list, assume)
	}
	if status, _ := get(t, http.DefaultClient, direct+"/healthz"); status != http.StatusOK {
		t.Errorf("its health check: %d", status)
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	got := s.sources(t)
	if got[letIn] != 8 || got[keptOut] != 10 || len(got) != 2 {
		t.Errorf("the records have %v", got)
	}
	contains(t, r.text(t), `"source_ip":"`+letIn, `"source_ip":"`+keptOut, "X-Forwarded-For from the trusted proxy")
}

// TestProxyProtocol does the same with a proxy that forwards TLS connections as they are.
func TestProxyProtocol(t *testing.T) {
	s := behindProxies(t)
	refused(t, s.with("VERENC_PROXY_PROTOCOL=true").run(t, "serve"), "proxy_protocol", "trusted_proxies")
	certificate, key, pool := selfSigned(t, s)
	r := s.with("VERENC_TRUSTED_PROXIES=127.0.0.1", "VERENC_PROXY_PROTOCOL=true", "VERENC_TLS_CERT="+certificate,
		"VERENC_TLS_KEY="+key).serve(t)
	honest := forwardTCP(t, r.api, func(client net.Conn) *proxyproto.Header {
		return proxyproto.HeaderProxyFromAddrs(2, client.RemoteAddr(), client.LocalAddr())
	})
	old := forwardTCP(t, r.api, func(client net.Conn) *proxyproto.Header {
		return proxyproto.HeaderProxyFromAddrs(1, client.RemoteAddr(), client.LocalAddr())
	})
	silent := forwardTCP(t, r.api, func(net.Conn) *proxyproto.Header { return nil })
	const closed = "no answer"
	for _, c := range []struct{ name, from, to, forged, want string }{
		{"version 2", letIn, honest, "", ""},
		{"version 2, from elsewhere", keptOut, honest, "", "AccessDeniedException"},
		{"version 1", letIn, old, "", ""},
		{"version 1, from elsewhere", keptOut, old, "", "AccessDeniedException"},
		{"a forged header is not read", keptOut, honest, letIn, "AccessDeniedException"},
		{"direct", letIn, r.api, "", ""},
		{"direct, from elsewhere", keptOut, r.api, letIn, "AccessDeniedException"},
		{"a proxy that says nothing", letIn, silent, "", closed},
		{"direct, from the proxy", "127.0.0.1", r.api, "", closed},
	} {
		list, _ := calls(t.Context(), s.from(t, c.from, "https://"+c.to, c.forged, &tls.Config{RootCAs: pool}))
		got := codeOf(list)
		if list != nil && got == "" {
			got = closed
		}
		if got != c.want {
			t.Errorf("%s: got %v, want %q", c.name, list, c.want)
		}
	}
	// What anybody else sends in front of TLS is no TLS.
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(keptOut)}}).DialContext(t.Context(), "tcp", r.api)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	forged := &net.TCPAddr{IP: net.ParseIP(letIn), Port: 4000}
	if _, err := proxyproto.HeaderProxyFromAddrs(2, forged, forged).WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
	if err := secured.HandshakeContext(t.Context()); err == nil {
		t.Error("a forged header was accepted")
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := s.sources(t); got[letIn] != 6 || got[keptOut] != 8 || len(got) != 2 {
		t.Errorf("the records have %v", got)
	}
}

// forwardTCP is a proxy of connections, which begins each with a header. It returns its address.
func forwardTCP(t *testing.T, to string, header func(client net.Conn) *proxyproto.Header) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			open.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", to)
				if err != nil {
					return // the client sees it
				}
				defer server.Close()
				if h := header(client); h != nil {
					if _, err := h.WriteTo(server); err != nil {
						return
					}
				}
				var ways sync.WaitGroup
				for _, way := range [][2]net.Conn{{server, client}, {client, server}} {
					ways.Go(func() {
						_, _ = io.Copy(way[0], way[1]) // either end may close
						_ = way[0].(*net.TCPConn).CloseWrite()
					})
				}
				ways.Wait()
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		open.Wait()
	})
	return l.Addr().String()
}

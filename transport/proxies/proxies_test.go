package proxies

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

func trusting(t testing.TB, networks ...string) Trusted {
	t.Helper()
	all, err := Parse(networks)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestParse(t *testing.T) {
	all := trusting(t, "10.0.0.0/28", "192.0.2.1", "2001:db8::/64", "::1")
	if got := len(all); got != 4 {
		t.Errorf("%d networks", got)
	}
	for text, want := range map[string]string{
		"0.0.0.0/0":             "everybody",
		"::/0":                  "everybody",
		"10.0.0.1/8":            "give 10.0.0.0/8",
		"::ffff:10.0.0.0/104":   "IPv4",
		"::ffff:10.0.0.1":       "IPv4",
		"haproxy.example.com":   "not a network",
		"fe80::1%eth0":          "not a network",
		"10.0.0.0/33":           "not a network",
		"":                      "not a network",
		"10.0.0.0/8,10.0.0.0/9": "not a network",
	} {
		if _, err := Parse([]string{"127.0.0.1", text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestClientIP: an address that a client made up is never its address.
func TestClientIP(t *testing.T) {
	proxies := trusting(t, "10.0.0.0/28", "2001:db8:1::/64")
	const refused = ""
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"direct", "198.51.100.7:4000", nil, "198.51.100.7"},
		{"direct, with a forged header", "198.51.100.7:4000", []string{"10.1.2.3"}, "198.51.100.7"},
		{"direct, with a forged header of a proxy", "198.51.100.7:4000", []string{"10.1.2.3, 10.0.0.1"}, "198.51.100.7"},
		{"direct, with rubbish", "198.51.100.7:4000", []string{"rubbish"}, "198.51.100.7"},
		{"direct, IPv6", "[2001:db8:2::1]:4000", []string{"10.1.2.3"}, "2001:db8:2::1"},
		{"direct, IPv4 in IPv6", "[::ffff:198.51.100.7]:4000", []string{"10.1.2.3"}, "198.51.100.7"},
		{"direct, link local", "[fe80::1%eth0]:4000", []string{"10.1.2.3"}, "fe80::1"},

		{"proxied", "10.0.0.1:4000", []string{"198.51.100.7"}, "198.51.100.7"},
		{"proxied from IPv4 in IPv6", "[::ffff:10.0.0.1]:4000", []string{"198.51.100.7"}, "198.51.100.7"},
		{"proxied with IPv6", "[2001:db8:1::5]:4000", []string{"2001:db8:2::1"}, "2001:db8:2::1"},
		{"a forged one in front", "10.0.0.1:4000", []string{"10.1.2.3, 198.51.100.7"}, "198.51.100.7"},
		{"a forged one in a header of its own", "10.0.0.1:4000", []string{"10.1.2.3", "198.51.100.7"}, "198.51.100.7"},
		{"a forged proxy in front", "10.0.0.1:4000", []string{"10.0.0.2, 198.51.100.7"}, "198.51.100.7"},
		{"rubbish in front", "10.0.0.1:4000", []string{"\x00;,,unknown,198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.0.0.1:4000", []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		{"two proxies, with a forged one in front", "10.0.0.1:4000", []string{"10.1.2.3,198.51.100.7,10.0.0.2"}, "198.51.100.7"},
		{"two proxies, the other one not trusted", "10.0.0.1:4000", []string{"198.51.100.7, 10.0.0.16"}, "10.0.0.16"},
		{"a proxy as the client", "10.0.0.1:4000", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"a port", "10.0.0.1:4000", []string{"198.51.100.7:1234"}, "198.51.100.7"},
		{"brackets", "10.0.0.1:4000", []string{"[2001:db8:2::1]"}, "2001:db8:2::1"},
		{"brackets and a port", "10.0.0.1:4000", []string{"[2001:db8:2::1]:1234"}, "2001:db8:2::1"},
		{"long IPv6", "10.0.0.1:4000", []string{"2001:0DB8:0002:0:0:0:0:0001"}, "2001:db8:2::1"},
		{"IPv4 in IPv6", "10.0.0.1:4000", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"a proxy's IPv4 in IPv6", "10.0.0.1:4000", []string{"198.51.100.7, ::ffff:10.0.0.2"}, "198.51.100.7"},
		{"spaces and tabs", "10.0.0.1:4000", []string{"\t 198.51.100.7 \t"}, "198.51.100.7"},

		{"no header", "10.0.0.1:4000", nil, refused},
		{"an empty header", "10.0.0.1:4000", []string{""}, refused},
		{"rubbish", "10.0.0.1:4000", []string{"unknown"}, refused},
		{"rubbish at the end", "10.0.0.1:4000", []string{"198.51.100.7, _hidden"}, refused},
		{"nothing at the end", "10.0.0.1:4000", []string{"198.51.100.7,"}, refused},
		{"an empty header at the end", "10.0.0.1:4000", []string{"198.51.100.7", ""}, refused},
		{"rubbish before a proxy", "10.0.0.1:4000", []string{"198.51.100.7, unknown, 10.0.0.2"}, refused},
		{"a network", "10.0.0.1:4000", []string{"198.51.100.0/24"}, refused},
		{"leading zeros", "10.0.0.1:4000", []string{"198.051.100.007"}, refused},
		{"brackets around IPv4", "10.0.0.1:4000", []string{"[198.51.100.7]"}, refused},
		{"a zone", "10.0.0.1:4000", []string{"fe80::1%eth0"}, refused},
		{"a bad port", "10.0.0.1:4000", []string{"198.51.100.7:99999"}, refused},
		{"no IP", "@", []string{"198.51.100.7"}, refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.forwarded
			r.Header.Set("Forwarded", "for=10.1.2.3") // is nobody's business
			r.Header.Set("X-Real-Ip", "10.1.2.3")
			got, err := proxies.ClientIP(r)
			if got != c.want || (err != nil) != (c.want == refused) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.RemoteAddr = "10.0.0.1:4000"
	r.Header.Set("X-Forwarded-For", "198.51.100.7")
	if got, err := Trusted(nil).ClientIP(r); got != "10.0.0.1" || err != nil {
		t.Errorf("nobody is trusted, and got %q, %v", got, err)
	}
}

// FuzzClientIP: what stands in front of a trusted proxy's entry changes nothing.
func FuzzClientIP(f *testing.F) {
	for _, s := range []string{"", "10.1.2.3", "10.0.0.1", "[::1]:1, x", ",,", "\xff"} {
		f.Add(s)
	}
	proxies := trusting(f, "10.0.0.0/28")
	f.Fuzz(func(t *testing.T, sent string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-For"] = "10.0.0.1:4000", []string{sent + ", 198.51.100.7"}
		if got, err := proxies.ClientIP(r); got != "198.51.100.7" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		r.Header["X-Forwarded-For"] = []string{sent}
		got, err := proxies.ClientIP(r)
		if (got == "") != (err != nil) || err == nil && net.ParseIP(got) == nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestListener: trusted proxies must tell the address, and nobody else can.
func TestListener(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// All addresses of the loopback interface are this machine's: 127.0.0.1 is the proxy.
	l := trusting(t, "127.0.0.1").Listener(plain, time.Minute)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ip, err := Peer(r)
		if err != nil {
			ip = err.Error()
		}
		_, _ = io.WriteString(w, ip) // the test sees what is missing
	})}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = server.Close() }) // nothing is left to be served

	v2 := func(h *proxyproto.Header) string {
		h.Version = 2
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	tcp := func(s string) *net.TCPAddr { return &net.TCPAddr{IP: net.ParseIP(s), Port: 4000} }
	for _, c := range []struct{ name, from, header, want string }{
		{"version 1", "127.0.0.1", "PROXY TCP4 198.51.100.7 127.0.0.1 4000 8600\r\n", "198.51.100.7"},
		{"version 1, IPv6", "127.0.0.1", "PROXY TCP6 2001:db8::1 ::1 4000 8600\r\n", "2001:db8::1"},
		{"version 2", "127.0.0.1", v2(&proxyproto.Header{Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
			SourceAddr: tcp("198.51.100.7"), DestinationAddr: tcp("127.0.0.1")}), "198.51.100.7"},
		{"version 2, IPv4 in IPv6", "127.0.0.1", v2(&proxyproto.Header{Command: proxyproto.PROXY,
			TransportProtocol: proxyproto.TCPv6, SourceAddr: tcp("::ffff:198.51.100.7"), DestinationAddr: tcp("::1")}),
			"198.51.100.7"},
		{"a health check of the proxy", "127.0.0.1", v2(&proxyproto.Header{Command: proxyproto.LOCAL,
			TransportProtocol: proxyproto.UNSPEC}), "127.0.0.1"},
		{"nobody", "127.0.0.2", "", "127.0.0.2"},

		{"no header", "127.0.0.1", "", "closed"},
		{"an unknown client", "127.0.0.1", "PROXY UNKNOWN\r\n", "closed"},
		{"a datagram", "127.0.0.1", v2(&proxyproto.Header{Command: proxyproto.PROXY,
			TransportProtocol: proxyproto.UDPv4, SourceAddr: &net.UDPAddr{IP: net.ParseIP("198.51.100.7")},
			DestinationAddr: &net.UDPAddr{IP: net.ParseIP("127.0.0.1")}}), "closed"},
		{"rubbish", "127.0.0.1", "PROXY TCP4 rubbish\r\n", "closed"},
		{"a header for each of two", "127.0.0.1", "PROXY TCP4 198.51.100.7 127.0.0.1 4000 8600\r\n" +
			"PROXY TCP4 10.1.2.3 127.0.0.1 4000 8600\r\n", "400"},
		{"forged", "127.0.0.2", "PROXY TCP4 10.1.2.3 127.0.0.1 4000 8600\r\n", "400"},
		{"forged, version 2", "127.0.0.2", v2(&proxyproto.Header{Command: proxyproto.PROXY,
			TransportProtocol: proxyproto.TCPv4, SourceAddr: tcp("10.1.2.3"), DestinationAddr: tcp("127.0.0.1")}), "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
			conn, err := d.DialContext(t.Context(), "tcp", plain.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.header+"GET / HTTP/1.1\r\nHost: kms\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got := answer(conn)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// answer is the body of an answer, or its status, or "closed".
func answer(conn net.Conn) string {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "closed"
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.Status[:3]
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// TestListenerTimeout: a proxy that sends nothing occupies a connection for no longer than the timeout.
func TestListenerTimeout(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := trusting(t, "127.0.0.1").Listener(plain, time.Millisecond)
	defer l.Close()
	client, err := net.Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, proxyproto.ErrNoProxyProtocol) {
		t.Errorf("got %v", err)
	}
}

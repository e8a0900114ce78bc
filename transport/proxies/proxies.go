// Package proxies finds out the address of a client whose connection comes through load balancers.
//
// A proxy tells it in one of two ways: in the header X-Forwarded-For, or in front of the connection's
// first byte with the PROXY protocol. Anybody can write either, so both are read on connections from
// trusted proxies only, and of X-Forwarded-For no more than what trusted proxies have written. What a
// trusted proxy sends must be readable: a request or a connection without an address is refused, since
// the proxy's own address could open what a policy keeps for a network.
package proxies

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
)

// Trusted are the networks of trusted proxies. It is empty when nobody is trusted.
type Trusted []netip.Prefix

// Parse reads networks, such as 10.0.0.0/28 or 2001:db8::/64, and single addresses.
func Parse(networks []string) (Trusted, error) {
	var all Trusted
	var problems []error
	for _, text := range networks {
		p, err := netip.ParsePrefix(text)
		if addr, single := netip.ParseAddr(text); single == nil && addr.Zone() == "" {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil:
			err = fmt.Errorf("%q is not a network such as 10.0.0.0/28", text)
		case p.Bits() == 0:
			err = fmt.Errorf("%s is everybody, and who is trusted can make up addresses: give the proxies' own", text)
		case p.Addr().Is4In6():
			err = fmt.Errorf("%s: write it as a network of IPv4", text)
		case p != p.Masked():
			err = fmt.Errorf("%s is not a network: give %s, or one address", text, p.Masked())
		}
		problems = append(problems, err)
		all = append(all, p)
	}
	return all, errors.Join(problems...)
}

// has tells whether a proxy is trusted. An IPv4 address may be written as one of IPv6.
func (t Trusted) has(a netip.Addr) bool {
	a = plain(a)
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(a) })
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Peer returns the IP address of the other end of a request's connection, which the PROXY protocol may
// have told.
func Peer(r *http.Request) (string, error) {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "", fmt.Errorf("the connection's address %q is not one of IP", r.RemoteAddr)
	}
	var room [64]byte
	text := plain(a.Addr()).AppendTo(room[:0])
	if begun := strings.TrimPrefix(r.RemoteAddr, "["); strings.HasPrefix(begun, string(text)) {
		return begun[:len(text)], nil // nearly always, without a copy
	}
	return string(text), nil
}

// ClientIP returns the IP address of the client that made a request: the peer's, or the one in
// X-Forwarded-For if the peer is trusted. That header lists the client and then proxies, and each
// proxy adds its peer at the end, behind what the client may have sent. So it is read from the end, and
// the first address that is no trusted proxy's is the client's. If all are, it is the first of the list.
func (t Trusted) ClientIP(r *http.Request) (string, error) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !t.has(peer.Addr()) {
		return Peer(r)
	}
	var a netip.Addr
	chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(chain) {
		if a, err = parseForwarded(strings.Trim(text, " \t")); err != nil {
			return "", fmt.Errorf("X-Forwarded-For from the trusted proxy %s: %w", peer.Addr(), err)
		}
		if !t.has(a) {
			break
		}
	}
	return plain(a).String(), nil
}

// parseForwarded reads one address, as proxies write it: with or without a port, with or without the
// brackets of IPv6.
func parseForwarded(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		if inside, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inside, "]") {
			if a, err = netip.ParseAddr(strings.TrimSuffix(inside, "]")); err == nil && !a.Is6() {
				err = errNoAddress
			}
		} else {
			var withPort netip.AddrPort
			withPort, err = netip.ParseAddrPort(text)
			a = withPort.Addr()
		}
	}
	if err != nil || a.Zone() != "" { // a zone means something on the proxy's machine only
		return netip.Addr{}, errNoAddress
	}
	return a, nil
}

var errNoAddress = errors.New("it holds something else than an IP address, or nothing")

// Listener reads the PROXY protocol, version 1 or 2, on the connections of trusted proxies, each of
// which must begin with it within the timeout. Others are left as they are: what they send instead of
// a request is a bad request.
func (t Trusted) Listener(l net.Listener, timeout time.Duration) net.Listener {
	return &proxyproto.Listener{Listener: l, ReadHeaderTimeout: timeout, ValidateHeader: checkHeader,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if peer, err := netip.ParseAddrPort(o.Upstream.String()); err != nil || !t.has(peer.Addr()) {
				return proxyproto.SKIP, nil
			}
			return proxyproto.REQUIRE, nil
		}}
}

// checkHeader accepts the address of a TCP connection, and the connections of a proxy's own, such as
// its health checks. Version 1 has no word for the latter: UNKNOWN says that the proxy doesn't know its client.
func checkHeader(h *proxyproto.Header) error {
	if _, tcp := h.SourceAddr.(*net.TCPAddr); tcp || h.Version == 2 && h.Command.IsLocal() {
		return nil
	}
	return errors.New("PROXY protocol: it doesn't tell the address of a TCP connection")
}

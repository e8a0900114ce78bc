package reset

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Path is where Handler serves a reset, by POST. Header must be set, to any value.
const (
	Path   = "/_verenc/reset"
	Header = "X-Verenc-Reset"
)

// Handler serves resets, and lets next answer all other requests. A reset needs no signature; it must come from this
// machine, and not from a web page in a browser here, whose requests come from this machine as well. So
//
//   - the client's address must be a loopback address,
//   - so must the Host, or be localhost: a page's own name may be made to resolve to 127.0.0.1,
//   - Header must be set, which a form can't do, and a script of another origin only after a preflight, which fails,
//   - Origin, which browsers send with every POST, and Sec-Fetch-Site must not be there.
func (p *Point) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != Path {
			p.gate.RLock()
			defer p.gate.RUnlock()
			next.ServeHTTP(w, r)
			return
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "use POST", http.StatusMethodNotAllowed)
			return
		}
		if why := refusal(r); why != "" {
			http.Error(w, why, http.StatusForbidden)
			return
		}
		if err := p.Reset(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError) // to a developer, of throw-away keys
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// refusal says why a request may not reset; empty: it may.
func refusal(r *http.Request) string {
	switch {
	case !IsLoopback(hostOf(r.RemoteAddr)):
		return "a reset must come from this machine"
	case !IsLoopback(hostOf(r.Host)):
		return "a reset must name this server localhost, or by a loopback address"
	case r.Header.Get(Header) == "":
		return "a reset needs the header " + Header
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		return "a web page may not reset"
	}
	return ""
}

// hostOf returns the host of host:port, or of a host alone.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

// IsLoopback tells whether a host is localhost or a loopback address.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Package console serves the page: the API reference with Try it out, and the user manual, below
// /docs, and the console below /console.
//
// What it protects: the secret of whoever signs in. A secret stays in the memory of one tab of the
// browser, as a key that scripts can use and not read; requests are signed there. Nothing is
// stored, there are no cookies and no sessions, and a strict Content-Security-Policy lets a page
// load scripts and styles from this server only, call nothing else, be in no frame, and turn no
// text into HTML. What the service answers is shown as text.
//
// What it trusts: the Reference that it is given, the texts that are built in, and the browser. It
// has no more rights than any client: Try it out and the console send requests to POST / like them,
// signed by whoever has signed in. What they may not do is shown as not allowed. Package transport
// logs and counts the requests for pages.
//
// Pages are rendered and compressed when they are first asked for, and kept.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config is what the pages are made of.
type Config struct {
	Reference Reference // required
	// Cannot says what the token can't do of an operation. It is asked once for each; nil is for
	// pages of no token.
	Cannot func(operation string) []string
	Region string // that the form for signing in proposes
	// KeySpecs has the KeyUsages of each KeySpec that the console offers for a new key.
	KeySpecs map[string][]string
}

// Handler serves the pages.
type Handler struct {
	files map[string]*file // by path
}

// file is a page or an asset, made when it is first asked for.
type file struct {
	route     string // its address, with a name in the place of what differs between pages of a kind
	kind      string // Content-Type
	immutable bool
	make      func() (*made, error)
}

type made struct {
	plain, zipped []byte
	tag           string
}

// New returns a Handler. It fails when a text can't be read, or an example is none of its
// operation.
func New(cfg Config) (*Handler, error) {
	s, err := newSite(cfg, true)
	if err != nil {
		return nil, err
	}
	h := &Handler{files: map[string]*file{}}
	for _, p := range s.paths() {
		makePage := func() (*made, error) {
			body, err := s.render(p)
			if err != nil {
				return nil, err
			}
			return compress(body)
		}
		h.files[p] = &file{route: s.route(p), kind: "text/html; charset=utf-8", make: sync.OnceValues(makePage)}
	}
	for name, body := range s.assets.files {
		h.files[s.assets.path(name)] = &file{route: assetRoute, kind: kinds[path.Ext(name)], immutable: true,
			make: sync.OnceValues(func() (*made, error) { return compress(body) })}
	}
	return h, nil
}

func compress(body []byte) (*made, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(body); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &made{plain: body, zipped: b.Bytes(), tag: hex.EncodeToString(sum[:12])}, nil
}

// Serves tells whether a request is for a page. Others are for the API, or for nobody.
func Serves(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.URL.Path == "/" || below(r.URL.Path, "/docs") || below(r.URL.Path, "/console"))
}

func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// policy is the Content-Security-Policy of every answer. Plots come in answers to requests that are
// signed, so a page shows them by blob: addresses; an image runs no script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; " +
	"base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// redirects are addresses that lead to others.
var redirects = map[string]string{"/": "/docs", "/docs/": "/docs", "/console/": "/console"}

// Routes of what is no page.
const (
	assetRoute    = "/docs/assets/{asset}"
	redirectRoute = "redirect"
	unknownRoute  = "unknown"
)

// Route tells which kind of page a request is for. There are few, so that they can be a label of a metric.
func (h *Handler) Route(r *http.Request) string {
	if redirects[r.URL.Path] != "" {
		return redirectRoute
	}
	if f := h.file(r.URL.Path); f != nil {
		return f.route
	}
	return unknownRoute
}

// file finds a page or an asset, or nil.
func (h *Handler) file(address string) *file {
	if below(address, "/console") {
		p := consolePageAt(address)
		if p == nil {
			return nil
		}
		address = p.Path
	}
	return h.files[address]
}

// ServeHTTP answers GET and HEAD.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	if target := redirects[r.URL.Path]; target != "" {
		http.Redirect(w, r, target, http.StatusFound)
		return
	}
	f := h.file(r.URL.Path)
	if f == nil {
		const where = "The reference begins at /docs, the console at /console."
		http.Error(w, "There is no such page. "+where, http.StatusNotFound)
		return
	}
	m, err := f.make()
	if err != nil {
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	m.serve(w, r, f)
}

func (m *made) serve(w http.ResponseWriter, r *http.Request, f *file) {
	header := w.Header()
	body, tag := m.plain, m.tag
	if acceptsGzip(r) {
		body, tag = m.zipped, m.tag+"-gzip"
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Type", f.kind)
	header.Set("Vary", "Accept-Encoding")
	header.Set("ETag", `"`+tag+`"`)
	header.Set("Cache-Control", "no-cache") // ask whether it is still the same
	if f.immutable {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Header.Get("Range") != "" { // nothing here is so large that a part of it is of use
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	header.Set("Content-Length", strconv.Itoa(len(body))) // which ServeContent leaves out for what is compressed
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reads Accept-Encoding (RFC 9110 section 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return !zeroWeight.MatchString(weight)
		}
	}
	return false
}

var zeroWeight = regexp.MustCompile(`^\s*q=0(\.0*)?\s*$`)

// Package console serves the page: the API reference with Try it out, and the user manual, below
// /docs, and the console for keys below /console.
//
// What it protects: the secret of whoever signs in. A secret stays in the memory of one tab of the
// browser, as a key that scripts can use and not read; requests are signed there. Nothing is
// stored, there are no cookies and no sessions, and a strict Content-Security-Policy lets a page
// load scripts and styles from this server only, call nothing else, be in no frame, and turn no
// text into HTML. What the service answers is shown as text.
//
// What it trusts: the Reference that it is given, the texts that are built in, and the browser. It
// has no more rights than any client: Try it out and the console send requests to POST / like them,
// signed by whoever has signed in. What they may not do is shown as not allowed.
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
		h.files[p] = &file{kind: "text/html; charset=utf-8", make: sync.OnceValues(func() (*made, error) {
			body, err := s.render(p)
			if err != nil {
				return nil, err
			}
			return compress(body)
		})}
	}
	for name, body := range s.assets.files {
		h.files[s.assets.path(name)] = &file{kind: kinds[path.Ext(name)], immutable: true,
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

// ServeHTTP answers GET and HEAD.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	switch r.URL.Path {
	case "/", "/docs/":
		http.Redirect(w, r, "/docs", http.StatusFound)
		return
	case "/console/":
		http.Redirect(w, r, "/console", http.StatusFound)
		return
	}
	address := r.URL.Path
	if p := consolePageAt(address); p != nil {
		address = p.Path
	} else if below(address, "/console") {
		address = ""
	}
	f, known := h.files[address]
	if !known {
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

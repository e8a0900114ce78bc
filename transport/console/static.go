package console

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// suffix ends the names of pages in files.
const suffix = ".html"

// Write writes the pages below a folder, which it makes: those of no particular server, without Try
// it out. They link to each other by relative addresses.
func Write(dir string, reference Reference) error {
	s, err := newSite(Config{Reference: reference}, false)
	if err != nil {
		return err
	}
	for _, p := range s.paths() {
		body, err := s.render(p)
		if err != nil {
			return err
		}
		name := s.fileOf(p)
		body = s.relative(body, strings.Count(name, "/"))
		if err := write(filepath.Join(dir, filepath.FromSlash(name)), body); err != nil {
			return err
		}
	}
	for name, body := range map[string][]byte{"style.css": s.assets.files["style.css"],
		"icon.svg": s.assets.files["icon.svg"], staticScript: s.static()} {
		if err := write(filepath.Join(dir, "assets", s.assets.hash, name), body); err != nil {
			return err
		}
	}
	return nil
}

// staticScript is the script of pages in files.
const staticScript = "static.js"

// ofModule are the lines that only a module can have.
var ofModule = regexp.MustCompile(`(?m)^import .*\n|^export `)

// static makes the script of pages in files, with the index of the search in it: browsers load neither modules nor data
// from files.
func (s *site) static() []byte {
	var b bytes.Buffer
	b.WriteString("(() => {\n")
	for _, name := range []string{"elements.js", "search.js"} {
		b.Write(ofModule.ReplaceAll(s.assets.files[name], nil))
	}
	b.WriteString("startSearch(new URL(\"../../\", document.currentScript.src), () => ")
	b.Write(s.assets.files[indexFile])
	b.WriteString(");\n})();\n")
	return b.Bytes()
}

// fileOf names the file of an address: index.html, Encrypt.html, manual/index.html,
// manual/grants.html.
func (s *site) fileOf(address string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(address, "/docs"), "/")
	switch {
	case strings.HasPrefix(name, "assets/"):
		return name
	case name == "":
		return "index" + suffix
	case name == "manual":
		return "manual/index" + suffix
	}
	return name + suffix
}

// address is one of ours in an attribute. In a text its quotation mark would be escaped.
var address = regexp.MustCompile(` (href|src)="(/docs[^"#]*)`)

// toConsole is a link to the console, which pages in files don't have.
var toConsole = regexp.MustCompile(`<a href="/console[^"]*">([^<]*)</a>`)

// relative rewrites the addresses in a page that is so many folders down.
func (s *site) relative(page []byte, depth int) []byte {
	page = toConsole.ReplaceAll(page, []byte("$1"))
	return address.ReplaceAllFunc(page, func(found []byte) []byte {
		m := address.FindSubmatch(found)
		link := strings.Repeat("../", depth) + s.fileOf(string(m[2]))
		return fmt.Appendf(nil, ` %s="%s`, m[1], link)
	})
}

func write(name string, body []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, body, 0o644)
}

// Package version says what this program was built from. Most of it is in the build information that
// the Go linker puts into every program, so that go version -m and scanners read the same.
package version

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"text/tabwriter"
)

// release and commit are set by the linker in a release, with -X. A release is built without the Git
// repository, so that the same sources give the same bytes wherever they are.
var release, commit string

// Info is what a program was built from.
type Info struct {
	Version  string   `json:"version"`          // of a release, or Go's own for a build from a repository, or (devel)
	Commit   string   `json:"commit,omitempty"` // Git's; with the suffix -dirty when files differed from it
	Go       string   `json:"go"`               // go1.26.8, for example
	Platform string   `json:"platform"`         // linux/amd64, for example
	Library  *Library `json:"token_library,omitempty"`
	Tokens   []Token  `json:"tokens,omitempty"`
	Modules  []Module `json:"modules"` // what is linked in, in the order of their paths
}

// Module is a Go module that is linked in.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// Library is the PKCS#11 module of the token, as C_GetInfo describes it at run time.
type Library struct {
	Path         string `json:"path"`
	Manufacturer string `json:"manufacturer"`
	Description  string `json:"description"`
	Version      string `json:"version"`
	Cryptoki     string `json:"cryptoki"` // version of PKCS#11 that it implements
}

// Token is a token that the library offers.
type Token struct {
	Label        string `json:"label"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Serial       string `json:"serial"`
	Firmware     string `json:"firmware"`
}

// Read returns what this program was built from, without a token library.
func Read() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return read(build, release, commit)
}

func read(build *debug.BuildInfo, release, commit string) Info {
	i := Info{Version: build.Main.Version, Go: build.GoVersion, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Modules: []Module{}}
	dirty := ""
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision":
			i.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if i.Commit != "" {
		i.Commit += dirty
	}
	if release != "" {
		i.Version, i.Commit = release, commit
	}
	if i.Version == "" {
		i.Version = "(devel)"
	}
	for _, m := range build.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		i.Modules = append(i.Modules, Module{m.Path, m.Version})
	}
	return i
}

// String is one line for people.
func (i Info) String() string {
	s := "verenc " + i.Version
	if i.Commit != "" {
		s += " (" + i.Commit + ")"
	}
	return s + " " + i.Go + " " + i.Platform
}

// WriteText writes everything for people.
func (i Info) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, i)
	if l := i.Library; l != nil {
		fmt.Fprintf(w, "\ntoken library\t%s\n\t%s, %s %s, PKCS#11 %s\n", l.Path, l.Manufacturer, l.Description,
			l.Version, l.Cryptoki)
	}
	for _, t := range i.Tokens {
		fmt.Fprintf(w, "token\t%q (serial %s), %s %s, firmware %s\n", t.Label, t.Serial, t.Manufacturer, t.Model,
			t.Firmware)
	}
	fmt.Fprintln(w, "\nmodules")
	for _, m := range i.Modules {
		fmt.Fprintf(w, "%s\t%s\n", m.Path, m.Version)
	}
	return w.Flush()
}

// WriteJSON writes everything for programs.
func (i Info) WriteJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(i)
}

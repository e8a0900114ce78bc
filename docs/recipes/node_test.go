package recipes

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// packages are those of package-lock.json, which the pages' programs in JavaScript import.
type packages struct {
	dir     string // has them once a page needs them
	install sync.Once
}

// link gives the packages to the programs of a folder. Their install scripts are not run: none is needed.
func (p *packages) link(t *testing.T, dir string) {
	t.Helper()
	programs, err := filepath.Glob(filepath.Join(dir, "*.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	if len(programs) == 0 {
		return
	}
	p.install.Do(func() {
		for _, name := range []string{"package.json", "package-lock.json"} {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(p.dir, name), content)
		}
		run(t, p.dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
	})
	if err := os.Symlink(filepath.Join(p.dir, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
}

// TestPackages: what the pages say to install is what package.json has.
func TestPackages(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`npm install ([^`]+)`").FindAllStringSubmatch(string(text), -1) {
			for name := range strings.FieldsSeq(m[1]) {
				said[name] = true
			}
		}
	}
	content, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Dependencies map[string]string }
	if err := json.Unmarshal(content, &list); err != nil {
		t.Fatal(err)
	}
	names, pinned := slices.Sorted(maps.Keys(said)), slices.Sorted(maps.Keys(list.Dependencies))
	if len(names) == 0 || !slices.Equal(names, pinned) {
		t.Errorf("the pages install %q, and package.json has %q", names, pinned)
	}
}

// Command release makes the files of a release from binaries that are built already: .deb and .rpm packages, SPDX bills
// of materials, and SHA256SUMS. It is run by make release. The same inputs give the same bytes.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is what a release is made of.
type release struct {
	version string    // v1.2.3, as Git and Go write it
	made    time.Time // of the commit: no file has a later one
	root    string    // of the source tree
	out     string    // where the files go
	man     string    // folder with manual pages and completions, see verenc docs --man and verenc completion
}

func run(args []string) error {
	var r release
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&r.version, "version", "", "version, with v in front")
	flags.StringVar(&r.root, "root", ".", "folder of the source tree")
	flags.StringVar(&r.out, "out", "dist", "folder with the binaries verenc-VERSION-linux-ARCH, which gets the other files")
	flags.StringVar(&r.man, "manual", "", "folder with the manual pages and completions")
	seconds := flags.Int64("time", 0, "time of the commit, in seconds since 1970")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r.made = time.Unix(*seconds, 0).UTC()
	if !strings.HasPrefix(r.version, "v") || r.man == "" || flags.NArg() != 0 {
		return errors.New("give -version v1.2.3 and -manual DIR, and no arguments")
	}
	binaries, err := filepath.Glob(filepath.Join(r.out, "verenc-"+r.version+"-linux-*"))
	if err != nil {
		return err
	}
	binaries = slices.DeleteFunc(binaries, func(path string) bool { return strings.HasSuffix(path, ".json") })
	if len(binaries) == 0 {
		return fmt.Errorf("no binary of %s in %s", r.version, r.out)
	}
	for _, path := range binaries {
		if err := r.describe(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return checksums(r.out)
}

// describe makes what belongs to one binary.
func (r release) describe(path string) error {
	b, err := inspect(path)
	if err != nil {
		return err
	}
	if err := r.writeSBOM(b); err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	for _, format := range []string{"deb", "rpm"} {
		if err := r.writePackage(b, format); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

// checksums writes SHA256SUMS over all other files of a folder, for sha256sum -c.
func checksums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		if e.Name() == "SHA256SUMS" || e.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

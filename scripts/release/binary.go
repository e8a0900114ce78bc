package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"golang.org/x/mod/semver"
)

// binary is a program for one architecture.
type binary struct {
	path   string
	arch   string // Go's name
	glibc  string // oldest version of glibc that has all that it calls, such as 2.34
	sum    [sha256.Size]byte
	build  *buildinfo.BuildInfo
	linked []string // shared libraries
}

// architectures are those that are released.
var architectures = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

var glibcVersion = regexp.MustCompile(`^GLIBC_(2\.[0-9]+)(\.[0-9]+)?$`)

// inspect reads what a binary is. A binary that could not load a PKCS#11 module, which takes the dynamic linker, is an
// error.
func inspect(path string) (*binary, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := &binary{path: path, sum: sha256.Sum256(content)}
	if b.build, err = buildinfo.ReadFile(path); err != nil {
		return nil, err
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if b.arch = architectures[f.Machine]; b.arch == "" {
		return nil, fmt.Errorf("it is for %v, which is not released", f.Machine)
	}
	if b.linked, err = f.ImportedLibraries(); err != nil {
		return nil, err
	}
	needs, err := f.DynamicVersionNeeds()
	if err != nil {
		return nil, err
	}
	for _, n := range needs {
		for _, v := range n.Needs {
			if m := glibcVersion.FindStringSubmatch(v.Dep); m != nil && semver.Compare("v"+m[1], "v"+b.glibc) > 0 {
				b.glibc = m[1]
			}
		}
	}
	if b.glibc == "" {
		return nil, errors.New("it is not linked with glibc, so it can't load a PKCS#11 module")
	}
	if minor, err := strconv.Atoi(b.glibc[2:]); err != nil || minor > 34 {
		return nil, fmt.Errorf("it needs glibc %s; releases are for 2.34, that of RHEL 9, and later", b.glibc)
	}
	return b, nil
}

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// systemFolders of a package.
const (
	documentation = "/usr/share/doc/verenc/"
	configuration = "/etc/verenc"
	state         = "/var/lib/verenc"
	account       = "verenc" // user and group, which preinstall makes
)

// writePackage writes one package of a binary: format is deb or rpm.
func (r release) writePackage(b *binary, format string) (err error) {
	contents, err := r.contents(b, format)
	if err != nil {
		return err
	}
	script := func(name string) string { return filepath.Join(r.root, "scripts/deploy", name+".sh") }
	libc, passwd := "libc6 (>= "+b.glibc+")", "passwd"
	if format == "rpm" {
		libc, passwd = "glibc >= "+b.glibc, "shadow-utils"
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "verenc", Arch: b.arch, Platform: "linux", Version: r.version, Section: "net", Priority: "optional",
		Maintainer: "The Verenc KMS authors", Homepage: "https://github.com/verenc/kms",
		License: "Apache-2.0", MTime: r.made,
		Description: "AWS-KMS-compatible key service on a PKCS#11 token\n" +
			"Verenc KMS serves the API of AWS KMS to unmodified AWS clients, with keys that\n" +
			"are generated in an HSM and never leave it in clear.",
		Overridables: nfpm.Overridables{
			Contents: contents,
			Depends:  []string{libc, passwd},
			Scripts: nfpm.Scripts{PreInstall: script("preinstall"), PostInstall: script("postinstall"),
				PreRemove: script("preremove"), PostRemove: script("postremove")},
			RPM: nfpm.RPM{BuildHost: "verenc", Summary: "AWS-KMS-compatible key service on a PKCS#11 token"},
		},
	})
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(r.out, packager.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return packager.Package(info, out)
}

// contents lists the files of a package.
func (r release) contents(b *binary, format string) (files.Contents, error) {
	var all files.Contents
	add := func(source, destination, kind, group string, mode os.FileMode) {
		all = append(all, &files.Content{Source: source, Destination: destination, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: group, Mode: mode, MTime: r.made}})
	}
	deploy := func(name string) string { return filepath.Join(r.root, "scripts/deploy", name) }
	add(b.path, "/usr/bin/verenc", files.TypeFile, "root", 0o755)
	add(deploy("verenc-admin"), "/usr/sbin/verenc-admin", files.TypeFile, "root", 0o755)
	add(deploy("verenc.service"), "/usr/lib/systemd/system/verenc.service", files.TypeFile, "root", 0o644)
	add("", configuration, files.TypeDir, account, 0o750)
	add(deploy("verenc.yaml"), configuration+"/verenc.yaml", files.TypeConfigNoReplace, account, 0o640)
	add(deploy("default"), "/etc/default/verenc", files.TypeConfigNoReplace, "root", 0o644)
	for _, example := range []string{"softhsm2.conf", "alerts.yaml", "dashboard.json"} {
		add(deploy(example), documentation+"examples/"+example, files.TypeFile, "root", 0o644)
	}
	all = append(all, &files.Content{Destination: state, Type: files.TypeDir,
		FileInfo: &files.ContentFileInfo{Owner: account, Group: account, Mode: 0o700, MTime: r.made}})
	for source, name := range map[string]string{"LICENSE": "copyright", "CHANGELOG.md": "CHANGELOG.md",
		"docs/install.md": "install.md"} {
		add(filepath.Join(r.root, source), documentation+name, files.TypeFile, "root", 0o644)
	}
	pages, err := os.ReadDir(r.man)
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		destination := "/usr/share/man/man1/" + page.Name()
		switch source := page.Name(); {
		case source == "verenc.bash":
			destination = "/usr/share/bash-completion/completions/verenc"
		case source == "verenc.zsh":
			destination = "/usr/share/zsh/vendor-completions/_verenc" // Debian's folder
			if format == "rpm" {
				destination = "/usr/share/zsh/site-functions/_verenc"
			}
		case source == "verenc.fish":
			destination = "/usr/share/fish/vendor_completions.d/verenc.fish"
		case !strings.HasSuffix(source, ".1"):
			return nil, errors.New(source + " is neither a manual page nor a completion")
		}
		add(filepath.Join(r.man, page.Name()), destination, files.TypeFile, "root", 0o644)
	}
	return all, nil
}

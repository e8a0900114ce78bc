package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

// writeSBOM writes what a binary is made of as SPDX 2.3 in JSON. The modules and their hashes are those that the linker
// has put into the binary; SQLite's C code comes with its Go module.
func (r release) writeSBOM(b *binary) error {
	name := filepath.Base(b.path)
	root := common.ElementID("verenc")
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: "https://github.com/verenc/kms/spdx/" + name + "-" + hex.EncodeToString(b.sum[:]),
		CreationInfo: &spdx.CreationInfo{Created: r.made.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "verenc-release"}}},
		Packages: []*spdx.Package{{
			PackageName: "github.com/verenc/kms", PackageSPDXIdentifier: root, PackageVersion: r.version,
			PackageFileName: name, PackageDownloadLocation: "https://github.com/verenc/kms",
			PrimaryPackagePurpose: "APPLICATION", PackageLicenseDeclared: "Apache-2.0", PackageCopyrightText: "NOASSERTION",
			PackageLicenseConcluded: "NOASSERTION",
			PackageChecksums:        []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(b.sum[:])}},
			PackageExternalReferences: []*spdx.PackageExternalReference{
				purl("pkg:golang/github.com/verenc/kms@" + r.version)},
		}},
		Relationships: []*spdx.Relationship{{RefA: common.MakeDocElementID("", "DOCUMENT"),
			RefB: common.MakeDocElementID("", string(root)), Relationship: common.TypeRelationshipDescribe}},
	}
	add := func(id common.ElementID, p *spdx.Package) {
		p.PackageSPDXIdentifier, p.PackageCopyrightText = id, "NOASSERTION"
		p.PackageLicenseConcluded, p.PackageLicenseDeclared = "NOASSERTION", "NOASSERTION"
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships, &spdx.Relationship{
			RefA: common.MakeDocElementID("", string(root)), RefB: common.MakeDocElementID("", string(id)),
			Relationship: common.TypeRelationshipDependsOn})
	}
	goVersion := b.build.GoVersion
	add("std", &spdx.Package{PackageName: "stdlib", PackageVersion: goVersion,
		PackageDownloadLocation: "https://go.dev/dl/",
		PackageExternalReferences: []*spdx.PackageExternalReference{
			purl("pkg:golang/stdlib@" + goVersion[len("go"):])}})
	for i, m := range b.build.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(common.ElementID(fmt.Sprintf("module-%d", i+1)), &spdx.Package{
			PackageName: m.Path, PackageVersion: m.Version, PackageDownloadLocation: "https://" + m.Path,
			PackageComment: "go.sum: " + m.Sum,
			PackageExternalReferences: []*spdx.PackageExternalReference{
				purl("pkg:golang/" + m.Path + "@" + m.Version)}})
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		return err
	}
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.path+".spdx.json", append(text, '\n'), 0o644)
}

// purl is a package URL, by which scanners look for vulnerabilities.
func purl(url string) *spdx.PackageExternalReference {
	return &spdx.PackageExternalReference{Category: common.CategoryPackageManager,
		RefType: common.TypePackageManagerPURL, Locator: url}
}

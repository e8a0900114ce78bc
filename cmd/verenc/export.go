package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/declaration"
	"github.com/verenc/kms/service/iam"
)

func (m principalCommands) export() *cobra.Command {
	return m.command("export", "Print all users, roles, guards and keys as a declaration for verenc apply; no secrets, no key material",
		func(j *job) error {
			return declaration.Export(j.ctx, j.out, j.directory, j.store, func(what string) {
				fmt.Fprintln(j.notes, "left out:", what) // advice: if nobody can read it, nothing is lost
			})
		})
}

// showPrincipal prints a principal as its declaration, and what declarations leave out.
func (j *job) showPrincipal(kind iam.PrincipalKind) error {
	p, err := j.find(kind, j.args[0])
	if err != nil {
		return err
	}
	keys, err := j.directory.AccessKeys(j.ctx, p.ARN)
	if err != nil {
		return err
	}
	var described [][2]string
	for _, k := range keys {
		row := describeAccessKey(k)
		described = append(described, [2]string{k.ID, row[1] + ", last used " + row[3] + ", expires " + row[4]})
	}
	certificates, err := j.directory.Certificates(j.ctx)
	if err != nil {
		return err
	}
	return declaration.WritePrincipal(j.out, p, described, certificates)
}

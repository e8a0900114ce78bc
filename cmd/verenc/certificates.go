package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/declaration"
	"github.com/verenc/kms/service/iam"
)

func (m principalCommands) certificates() *cobra.Command {
	var user string
	mapped := m.changing("map CERTIFICATE",
		"Map a client certificate (PEM file or fingerprint), or all of a name (spiffe://..., dns:HOST or "+
			"subject:CN=...), to the user whom it is to prove",
		func(j *job) error { return j.mapCertificate(user) })
	mapped.Flags().StringVar(&user, "user", "", "name of the user")
	_ = mapped.MarkFlagRequired("user") // the flag exists
	return group("certificate", "Map client certificates to users", mapped,
		m.changing("unmap CERTIFICATE", "Remove the mapping of a certificate (PEM file or fingerprint), or of a name",
			(*job).unmapCertificate),
		namesCommand(),
		m.command("list", "List the certificates and their users", (*job).listCertificates))
}

func (j *job) mapCertificate(user string) error {
	p, err := j.find(iam.KindUser, user)
	if err != nil {
		return err
	}
	name, err := certificateName(j.args[0])
	if err != nil {
		return err
	}
	return j.directory.MapCertificate(j.ctx, name, p)
}

func (j *job) unmapCertificate() error {
	name, err := certificateName(j.args[0])
	if err != nil {
		return err
	}
	return j.directory.UnmapCertificate(j.ctx, name)
}

func (j *job) listCertificates() error {
	all, err := j.directory.Certificates(j.ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"CERTIFICATE", "CREATED", "USER"}}
	for _, c := range all {
		rows = append(rows, []string{c.Name, reportDate(c.CreatedAt), c.PrincipalARN})
	}
	return table(j.out, rows)
}

// namesCommand prints what a certificate can be mapped by.
func namesCommand() *cobra.Command {
	return &cobra.Command{Use: "names FILE", Args: cobra.ExactArgs(1),
		Short: "Print the names that the certificate in a PEM file can be mapped by",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := declaration.CertificateOfFile(args[0])
			if err != nil {
				return err
			}
			for _, name := range iam.CertificateNames(c) {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
					return err
				}
			}
			return nil
		}}
}

// certificateName returns the name of certificates that is given itself, or the fingerprint of one in a PEM file.
func certificateName(argument string) (string, error) {
	name, err := iam.ParseCertificateName(argument)
	if err == nil || iam.HasNamePrefix(argument) {
		return name, err
	}
	return declaration.FingerprintOfFile(argument)
}

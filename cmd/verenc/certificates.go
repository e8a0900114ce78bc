package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/declaration"
	"github.com/verenc/kms/service/iam"
)

func (m principalCommands) certificates() *cobra.Command {
	var user string
	mapped := m.changing("map CERTIFICATE",
		"Map a client certificate (PEM file or fingerprint) to the user whom it is to prove",
		func(j *job) error { return j.mapCertificate(user) })
	mapped.Flags().StringVar(&user, "user", "", "name of the user")
	_ = mapped.MarkFlagRequired("user") // the flag exists
	return group("certificate", "Map client certificates to users", mapped,
		m.changing("unmap CERTIFICATE", "Remove the mapping of a certificate (PEM file or fingerprint)",
			(*job).unmapCertificate),
		m.command("list", "List the certificates and their users", (*job).listCertificates))
}

func (j *job) mapCertificate(user string) error {
	p, err := j.find(iam.KindUser, user)
	if err != nil {
		return err
	}
	fingerprint, err := fingerprintOf(j.args[0])
	if err != nil {
		return err
	}
	return j.directory.MapCertificate(j.ctx, fingerprint, p)
}

func (j *job) unmapCertificate() error {
	fingerprint, err := fingerprintOf(j.args[0])
	if err != nil {
		return err
	}
	return j.directory.UnmapCertificate(j.ctx, fingerprint)
}

func (j *job) listCertificates() error {
	all, err := j.directory.Certificates(j.ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"FINGERPRINT", "CREATED", "USER"}}
	for _, c := range all {
		rows = append(rows, []string{c.Fingerprint, c.CreatedAt.Format(time.RFC3339), c.PrincipalARN})
	}
	return table(j.out, rows)
}

// fingerprintOf returns a fingerprint that is given itself or by a PEM file.
func fingerprintOf(argument string) (string, error) {
	if fingerprint, err := iam.ParseFingerprint(argument); err == nil {
		return fingerprint, nil
	}
	return declaration.FingerprintOfFile(argument)
}

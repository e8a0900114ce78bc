package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
)

func (m principalCommands) accessKeys() *cobra.Command {
	return group("access-key", "Create, rotate, disable, enable, delete and list access keys",
		m.createAccessKey(), m.rotateAccessKey(), m.listAccessKeys(),
		m.changing("disable ID", "Disable an access key", func(j *job) error {
			return j.directory.EnableAccessKey(j.ctx, j.args[0], false)
		}),
		m.changing("enable ID", "Enable an access key", func(j *job) error {
			return j.directory.EnableAccessKey(j.ctx, j.args[0], true)
		}),
		m.changing("delete ID", "Delete an access key", func(j *job) error {
			return j.directory.DeleteAccessKey(j.ctx, j.args[0])
		}))
}

// newKeyFlags are the flags of commands that make an access key.
type newKeyFlags struct {
	user        string
	credentials string // path of the file to write
	expires     string
}

func (f *newKeyFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.user, "user", "", "name of the user")
	cmd.Flags().StringVar(&f.credentials, "credentials", "",
		"write the access key to this file, in the form of an AWS credentials file, instead of standard output")
	cmd.Flags().StringVar(&f.expires, "expires", "",
		"when the access key ends: a number of days such as 90d, or a date such as 2027-01-31 (UTC); default never, or "+
			"as access_key_days of the user says")
	_ = cmd.MarkFlagRequired("user") // the flag exists
}

// lifetime returns what --expires says.
func (f *newKeyFlags) lifetime() (iam.Lifetime, error) {
	if f.expires == "" {
		return iam.Lifetime{}, nil
	}
	if text, isDays := strings.CutSuffix(f.expires, "d"); isDays {
		if days, err := strconv.Atoi(text); err == nil && days > 0 && days <= maxDays {
			return iam.Lifetime{Days: days}, nil
		}
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(form, f.expires); err == nil {
			return iam.Lifetime{Until: at}, nil
		}
	}
	return iam.Lifetime{}, fmt.Errorf("--expires: %q is neither a number of days such as 90d, of %d at most, nor a date "+
		"such as 2027-01-31 or 2027-01-31T12:00:00Z", f.expires, maxDays)
}

// maxDays keeps a slip of the pen from making an access key that never ends.
const maxDays = 3650

func (m principalCommands) createAccessKey() *cobra.Command {
	var f newKeyFlags
	cmd := m.tokenCommand("create", "Create an access key of a user, whose secret is shown only now",
		func(j *job) error {
			return j.createAccessKey(&f)
		})
	f.addTo(cmd)
	return cmd
}

func (j *job) createAccessKey(f *newKeyFlags) error {
	p, err := j.find(iam.KindUser, f.user)
	if err != nil {
		return err
	}
	lasts, err := f.lifetime()
	if err != nil {
		return err
	}
	return j.writeCredential(f.credentials, func() (*iam.Credential, error) {
		return j.directory.CreateAccessKeyFor(j.ctx, p.Account, p.ARN, lasts)
	})
}

// writeCredential makes an access key and writes it to a file or to standard output. If that fails,
// the access key is deleted.
func (j *job) writeCredential(path string, create func() (*iam.Credential, error)) error {
	file, err := newCredentialFile(path, j.out)
	if err != nil {
		return err
	}
	cred, err := create()
	if err != nil {
		return err
	}
	defer clear(cred.SecretAccessKey)
	if err := file.write(cred); err != nil {
		err = fmt.Errorf("%w (the access key is deleted again)", err)
		return errors.Join(err, j.directory.DeleteAccessKey(j.ctx, cred.AccessKeyID))
	}
	return nil
}

func (m principalCommands) rotateAccessKey() *cobra.Command {
	var f newKeyFlags
	var keep, remove bool
	cmd := m.tokenCommand("rotate", "Create a user's second access key, and disable the first", func(j *job) error {
		return j.rotateAccessKey(&f, keep, remove)
	})
	f.addTo(cmd)
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the first access key enabled")
	cmd.Flags().BoolVar(&remove, "delete", false, "delete the first access key")
	cmd.MarkFlagsMutuallyExclusive("keep", "delete")
	return cmd
}

func (j *job) rotateAccessKey(f *newKeyFlags, keep, remove bool) error {
	p, err := j.find(iam.KindUser, f.user)
	if err != nil {
		return err
	}
	lasts, err := f.lifetime()
	if err != nil {
		return err
	}
	var first string
	err = j.writeCredential(f.credentials, func() (created *iam.Credential, err error) {
		created, first, err = j.directory.RotateAccessKey(j.ctx, p, lasts)
		return created, err
	})
	switch {
	case err != nil:
		return err
	case remove:
		return j.directory.DeleteAccessKey(j.ctx, first)
	case !keep:
		err = j.directory.EnableAccessKey(j.ctx, first, false)
	}
	if err == nil {
		_, err = fmt.Fprintf(j.notes, "When nothing needs it any more: verenc access-key delete %s\n", first)
	}
	return err
}

func (m principalCommands) listAccessKeys() *cobra.Command {
	var user string
	cmd := m.command("list", "List access keys with their last uses, which servers store from time to time",
		func(j *job) error { return j.listAccessKeys(user) })
	cmd.Flags().StringVar(&user, "user", "", "name of a user; default all users, and the root of the account")
	return cmd
}

func (j *job) listAccessKeys(user string) error {
	principals, err := j.directory.Principals(j.ctx)
	if err != nil {
		return err
	}
	arns := []string{arn.Root(j.config.Account)}
	for _, p := range principals {
		arns = append(arns, p.ARN)
	}
	if user != "" {
		p, err := j.find(iam.KindUser, user)
		if err != nil {
			return err
		}
		arns = []string{p.ARN}
	}
	rows := [][]string{{"ID", "STATUS", "CREATED", "LAST USED", "EXPIRES", "PRINCIPAL"}}
	for _, principal := range arns {
		keys, err := j.directory.AccessKeys(j.ctx, principal)
		if err != nil {
			return err
		}
		for _, k := range keys {
			rows = append(rows, append(describeAccessKey(k), principal))
		}
	}
	return table(j.out, rows)
}

// describeAccessKey returns id, status, creation, last use and end.
func describeAccessKey(k iam.AccessKeyStatus) []string {
	status, last := "disabled", reportDate(time.Time{})
	switch {
	case k.Expired(time.Now()):
		status = "expired"
	case k.Enabled:
		status = "enabled"
	}
	if k.LastUse != nil {
		last = reportDate(k.LastUse.At) + " " + k.LastUse.Service + " " + k.LastUse.Region
	}
	return []string{k.ID, status, reportDate(k.CreatedAt), last, reportDate(k.ExpiresAt)}
}

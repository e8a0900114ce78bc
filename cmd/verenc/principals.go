package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service"
)

// job is one run of a command that manages principals.
type job struct {
	ctx     context.Context
	args    []string
	config  *Config
	service *service.Service
	out     io.Writer // what was asked for
	notes   io.Writer // what else there is to say
}

// management makes commands. They work on the database, beside servers that run, which see each change within a second.
type management struct {
	config func(*cobra.Command) (*Config, error) // reads it; it is not checked yet
}

// commands are all that manage principals.
func (m management) commands() []*cobra.Command {
	return []*cobra.Command{m.principals(service.KindUser), m.principals(service.KindRole), m.accessKeys(), m.certificates(),
		m.apply(), m.export(), m.policies()}
}

// group is a command that has others.
func group(name, short string, members ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return fmt.Errorf("%s: name what to do (%s --help)", cmd.Name(), cmd.CommandPath())
	}}
	g.AddCommand(members...)
	return g
}

// command needs the database alone. Its arguments are named in use, behind its name.
func (m management) command(use, short string, run func(*job) error) *cobra.Command {
	return m.running(use, short, openDatabase, run)
}

// sealing needs the token, too.
func (m management) sealing(use, short string, run func(*job) error) *cobra.Command {
	return m.running(use, short, func(ctx context.Context, c *Config) (*parts, error) {
		if err := c.Token.check(); err != nil {
			return nil, err
		}
		return openForCommand(ctx, c, false)
	}, run)
}

func (m management) running(use, short string, open func(context.Context, *Config) (*parts, error), run func(*job) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(len(strings.Fields(use)) - 1), RunE: func(cmd *cobra.Command, args []string) (err error) {
		c, err := m.config(cmd)
		if err == nil {
			err = c.check()
		}
		if err != nil {
			return err
		}
		p, err := open(cmd.Context(), c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.close()) }()
		return run(&job{cmd.Context(), args, c, p.service, cmd.OutOrStdout(), cmd.ErrOrStderr()})
	}}
}

// openDatabase opens what commands need that do without the token.
func openDatabase(ctx context.Context, c *Config) (p *parts, err error) {
	p = &parts{}
	if p.log, err = newLogger(c.commandLevel); err != nil {
		return nil, err
	}
	if p.store, err = openStore(ctx, c, false); err != nil {
		return nil, err
	}
	if err = p.newService(c, operator()); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// principalFlags are of verenc user create and verenc role create.
type principalFlags struct {
	path, boundary, trust string
	tags, policies        []string
	maxSession            time.Duration
}

func (m management) principals(kind service.PrincipalKind) *cobra.Command {
	var f principalFlags
	create := m.command("create NAME", "Create a "+string(kind), func(j *job) error { return j.createPrincipal(kind, &f) })
	flags := create.Flags()
	flags.StringVar(&f.path, "path", "/", "path in the ARN before the name; it begins and ends with /")
	flags.StringArrayVar(&f.tags, "tag", nil, "KEY=VALUE; may be repeated")
	flags.StringArrayVar(&f.policies, "policy", nil, "NAME=FILE of an identity policy, in JSON or YAML; may be repeated")
	flags.StringVar(&f.boundary, "boundary", "", "file of the permissions boundary")
	if kind == service.KindRole {
		flags.StringVar(&f.trust, "trust", "", "file of the trust policy, which says who may assume the role")
		flags.DurationVar(&f.maxSession, "max-session", time.Hour, "longest session")
	}
	return group(string(kind), "Create, delete and show "+string(kind)+"s; verenc apply changes them", create,
		m.command("delete NAME", "Delete a "+string(kind)+" with its access keys and certificates", func(j *job) error {
			p, err := j.find(kind, j.args[0])
			if err != nil {
				return err
			}
			return j.service.DeletePrincipal(j.ctx, p.ARN)
		}),
		m.command("list", "List the "+string(kind)+"s of all accounts", func(j *job) error { return j.listPrincipals(kind) }),
		m.command("show NAME", "Show a "+string(kind)+", as YAML", func(j *job) error { return j.showPrincipal(kind) }))
}

func (j *job) find(kind service.PrincipalKind, name string) (*service.Principal, error) {
	return j.service.FindPrincipal(j.ctx, j.config.Account, kind, name)
}

func (j *job) createPrincipal(kind service.PrincipalKind, f *principalFlags) (err error) {
	name := j.args[0]
	p := &service.Principal{ARN: service.PrincipalARN(j.config.Account, kind, f.path, name), Account: j.config.Account, Kind: kind,
		PrincipalDetails: service.PrincipalDetails{Name: name, MaxSession: int32(f.maxSession / time.Second)}}
	if p.Tags, err = pairs("tag", f.tags); err != nil {
		return err
	}
	if p.Policies, err = pairs("policy", f.policies); err != nil {
		return err
	}
	for name, path := range p.Policies {
		if p.Policies[name], err = readPolicy(path); err != nil {
			return err
		}
	}
	if p.Boundary, err = readPolicy(f.boundary); err != nil {
		return err
	}
	if p.Trust, err = readPolicy(f.trust); err != nil {
		return err
	}
	created, err := j.service.CreatePrincipal(j.ctx, p)
	if err == nil {
		_, err = fmt.Fprintln(j.out, created.ARN)
	}
	return err
}

// pairs reads flags of the form NAME=VALUE.
func pairs(flag string, texts []string) (map[string]string, error) {
	m := make(map[string]string, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := m[name]; !ok || twice {
			return nil, fmt.Errorf("--%s %s: give NAME=VALUE, and each name once", flag, text)
		}
		m[name] = value
	}
	return m, nil
}

// table prints rows of columns.
func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func (j *job) listPrincipals(kind service.PrincipalKind) error {
	all, err := j.service.Principals(j.ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"ARN", "ID", "CREATED"}}
	for _, p := range all {
		if p.Kind == kind {
			rows = append(rows, []string{p.ARN, p.UniqueID, p.CreatedAt.Format(time.RFC3339)})
		}
	}
	return table(j.out, rows)
}

func (m management) accessKeys() *cobra.Command {
	var user, credentials, of string
	var keep, remove bool
	create := m.sealing("create", "Create an access key of a user, whose secret is shown this once", func(j *job) error { return j.createAccessKey(user, credentials) })
	rotate := m.sealing("rotate", "Create a user's second access key, and disable the first", func(j *job) error {
		return j.rotateAccessKey(user, credentials, keep, remove)
	})
	for _, c := range []*cobra.Command{create, rotate} {
		c.Flags().StringVar(&user, "user", "", "name of the user")
		c.Flags().StringVar(&credentials, "credentials", "", "write the access key to this file, in the form of an AWS credentials file, instead of standard output")
		_ = c.MarkFlagRequired("user") // there is such a flag
	}
	rotate.Flags().BoolVar(&keep, "keep", false, "leave the first access key enabled")
	rotate.Flags().BoolVar(&remove, "delete", false, "delete the first access key")
	rotate.MarkFlagsMutuallyExclusive("keep", "delete")
	list := m.command("list", "List access keys with their last uses, which servers write down now and then", func(j *job) error { return j.listAccessKeys(of) })
	list.Flags().StringVar(&of, "user", "", "name of a user; default all users, and the root of the account")
	return group("access-key", "Create, rotate, disable, enable, delete and list access keys", create, rotate, list,
		m.command("disable ID", "Disable an access key", func(j *job) error { return j.service.EnableAccessKey(j.ctx, j.args[0], false) }),
		m.command("enable ID", "Enable an access key", func(j *job) error { return j.service.EnableAccessKey(j.ctx, j.args[0], true) }),
		m.command("delete ID", "Delete an access key", func(j *job) error { return j.service.DeleteAccessKey(j.ctx, j.args[0]) }))
}

func (j *job) createAccessKey(user, path string) error {
	p, err := j.find(service.KindUser, user)
	if err != nil {
		return err
	}
	return j.keepCredential(path, func() (*service.Credential, error) { return j.service.CreateAccessKey(j.ctx, p.Account, p.ARN) })
}

// keepCredential makes an access key and writes it down. One that can't be written down is deleted.
func (j *job) keepCredential(path string, create func() (*service.Credential, error)) error {
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
		return errors.Join(fmt.Errorf("%w (it is deleted again)", err), j.service.DeleteAccessKey(j.ctx, cred.AccessKeyID))
	}
	return nil
}

func (j *job) rotateAccessKey(user, path string, keep, remove bool) error {
	p, err := j.find(service.KindUser, user)
	if err != nil {
		return err
	}
	var first string
	err = j.keepCredential(path, func() (created *service.Credential, err error) {
		created, first, err = j.service.RotateAccessKey(j.ctx, p)
		return created, err
	})
	switch {
	case err != nil:
		return err
	case remove:
		return j.service.DeleteAccessKey(j.ctx, first)
	case !keep:
		err = j.service.EnableAccessKey(j.ctx, first, false)
	}
	if err == nil {
		_, err = fmt.Fprintf(j.notes, "When nothing needs it any more: verenc access-key delete %s\n", first)
	}
	return err
}

func (j *job) listAccessKeys(user string) error {
	principals, err := j.service.Principals(j.ctx)
	if err != nil {
		return err
	}
	arns := []string{"arn:aws:iam::" + j.config.Account + ":root"}
	for _, p := range principals {
		arns = append(arns, p.ARN)
	}
	if user != "" {
		p, err := j.find(service.KindUser, user)
		if err != nil {
			return err
		}
		arns = []string{p.ARN}
	}
	rows := [][]string{{"ID", "STATUS", "CREATED", "LAST USED", "PRINCIPAL"}}
	for _, arn := range arns {
		keys, err := j.service.AccessKeys(j.ctx, arn)
		if err != nil {
			return err
		}
		for _, k := range keys {
			rows = append(rows, append(describeAccessKey(k), arn))
		}
	}
	return table(j.out, rows)
}

// describeAccessKey gives id, status, creation and last use.
func describeAccessKey(k service.AccessKeyStatus) []string {
	status, last := "disabled", "never"
	if k.Enabled {
		status = "enabled"
	}
	if k.LastUse != nil {
		last = k.LastUse.At.Format(time.RFC3339) + " " + k.LastUse.Service + " " + k.LastUse.Region
	}
	return []string{k.ID, status, k.CreatedAt.Format(time.RFC3339), last}
}

func (m management) certificates() *cobra.Command {
	var user string
	add := m.command("map CERTIFICATE", "Let a client certificate (PEM file or fingerprint) prove that its holder is a user", func(j *job) error {
		p, err := j.find(service.KindUser, user)
		if err != nil {
			return err
		}
		fingerprint, err := certificateNamed(j.args[0])
		if err != nil {
			return err
		}
		return j.service.MapCertificate(j.ctx, fingerprint, p)
	})
	add.Flags().StringVar(&user, "user", "", "name of the user")
	_ = add.MarkFlagRequired("user") // there is such a flag
	return group("certificate", "Map client certificates to users", add,
		m.command("unmap CERTIFICATE", "End what a certificate (PEM file or fingerprint) proves", func(j *job) error {
			fingerprint, err := certificateNamed(j.args[0])
			if err != nil {
				return err
			}
			return j.service.UnmapCertificate(j.ctx, fingerprint)
		}),
		m.command("list", "List the certificates and their users", func(j *job) error {
			all, err := j.service.Certificates(j.ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"FINGERPRINT", "CREATED", "USER"}}
			for _, c := range all {
				rows = append(rows, []string{c.Fingerprint, c.CreatedAt.Format(time.RFC3339), c.PrincipalARN})
			}
			return table(j.out, rows)
		}))
}

// certificateNamed reads a fingerprint, or makes that of a PEM file.
func certificateNamed(name string) (string, error) {
	if fingerprint, err := service.ParseFingerprint(name); err == nil {
		return fingerprint, nil
	}
	return certificateFile(name)
}

func certificateFile(path string) (string, error) {
	text, err := readFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("%s does not begin with a certificate in PEM", path)
	}
	return service.Fingerprint(block.Bytes), nil
}

const maxFile = 1 << 20 // bytes of a policy or certificate

// readFile is os.ReadFile with a limit.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

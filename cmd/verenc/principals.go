package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/declaration"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/store"
)

// principalCommands makes the commands that manage principals. They work on the database, beside
// running servers, which see each change within a second.
type principalCommands struct {
	config func(*cobra.Command) (*Config, error) // reads the configuration, which is not checked yet
}

// all returns the commands.
func (m principalCommands) all() []*cobra.Command {
	return []*cobra.Command{m.principals(iam.KindUser), m.principals(iam.KindRole), m.accessKeys(), m.certificates(),
		m.apply(), m.export(), m.policies(), m.breakGlass()}
}

// job is one run of such a command.
type job struct {
	ctx       context.Context
	args      []string
	config    *Config
	directory *iam.Directory
	service   *service.Service // for what concerns keys, too
	store     *store.DB
	out       io.Writer // results
	notes     io.Writer // advice
}

// group is a command that has subcommands.
func group(name, short string, members ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return fmt.Errorf("%s: name a subcommand (%s --help lists them)", cmd.Name(), cmd.CommandPath())
	}}
	g.AddCommand(members...)
	return g
}

// command makes a command that needs only the database. use is its name and the names of its
// arguments.
func (m principalCommands) command(use, short string, run func(*job) error) *cobra.Command {
	return m.commandWith(use, short, openDatabase, run)
}

// changing makes a command that changes something, which a guard may limit.
func (m principalCommands) changing(use, short string, run func(*job) error) *cobra.Command {
	return m.commandWith(use, short, openGuarded, run)
}

// tokenCommand makes a command that needs the token, too.
func (m principalCommands) tokenCommand(use, short string, run func(*job) error) *cobra.Command {
	return m.commandWith(use, short, func(ctx context.Context, c *Config) (*components, error) {
		if err := c.Token.check(); err != nil {
			return nil, err
		}
		return openForCommand(ctx, c, false)
	}, run)
}

func (m principalCommands) commandWith(use, short string, open func(context.Context, *Config) (*components, error),
	run func(*job) error) *cobra.Command {
	arguments := len(strings.Fields(use)) - 1
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(arguments)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := m.config(cmd)
		if err == nil {
			err = c.check()
		}
		if err != nil {
			return err
		}
		return m.run(cmd, c, args, open, run)
	}
	return cmd
}

// run runs a command on what open opens.
func (m principalCommands) run(cmd *cobra.Command, c *Config, args []string,
	open func(context.Context, *Config) (*components, error), run func(*job) error) (err error) {
	p, err := open(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return run(&job{ctx: cmd.Context(), args: args, config: c, directory: p.service.IAM(), service: p.service,
		store: p.store, out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr()})
}

// openDatabase opens what a command needs that does not use the token.
func openDatabase(ctx context.Context, c *Config) (p *components, err error) {
	p = &components{}
	if err = p.openLog(c.commandLevel); err != nil {
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

// openGuarded is openDatabase for commands that a guard may limit. If there is a guard, it opens the token, too: the
// signatures of approvals are verified with secrets that the token has sealed.
func openGuarded(ctx context.Context, c *Config) (*components, error) {
	p, err := openDatabase(ctx, c)
	if err != nil {
		return nil, err
	}
	guards, err := p.store.Guards(ctx)
	if err == nil && len(guards) == 0 {
		return p, nil
	}
	if err = errors.Join(err, p.close()); err != nil {
		return nil, err
	}
	if err := c.Token.check(); err != nil {
		return nil, fmt.Errorf("an account has a guard, so that the command needs the token: %w", err)
	}
	return openForCommand(ctx, c, false)
}

// principalFlags are the flags of verenc user create and verenc role create.
type principalFlags struct {
	path, boundary, trust string
	tags, policies        []string
	maxSession            time.Duration
	accessKeyDays         int32
}

func (m principalCommands) principals(kind iam.PrincipalKind) *cobra.Command {
	var f principalFlags
	create := m.changing("create NAME", "Create a "+string(kind), func(j *job) error {
		return j.createPrincipal(kind, &f)
	})
	flags := create.Flags()
	flags.StringVar(&f.path, "path", "/", "path in the ARN before the name; it begins and ends with /")
	flags.StringArrayVar(&f.tags, "tag", nil, "KEY=VALUE; may be repeated")
	flags.StringArrayVar(&f.policies, "policy", nil,
		"NAME=FILE of an identity policy, in JSON or YAML; may be repeated")
	flags.StringVar(&f.boundary, "boundary", "", "file of the permissions boundary")
	if kind == iam.KindRole {
		flags.StringVar(&f.trust, "trust", "", "file of the trust policy, which says who may assume the role")
		flags.DurationVar(&f.maxSession, "max-session", time.Hour, "longest session")
	} else {
		flags.Int32Var(&f.accessKeyDays, "access-key-days", 0, "how many days access keys last; 0: they need not end")
	}
	return group(string(kind), "Create, delete and show "+string(kind)+"s; verenc apply changes them", create,
		m.changing("delete NAME", "Delete a "+string(kind)+" with its access keys and certificates",
			func(j *job) error { return j.deletePrincipal(kind) }),
		m.command("list", "List the "+string(kind)+"s of all accounts", func(j *job) error {
			return j.listPrincipals(kind)
		}),
		m.command("show NAME", "Show a "+string(kind)+", as YAML", func(j *job) error { return j.showPrincipal(kind) }))
}

func (j *job) find(kind iam.PrincipalKind, name string) (*iam.Principal, error) {
	return j.directory.FindPrincipal(j.ctx, j.config.Account, kind, name)
}

func (j *job) createPrincipal(kind iam.PrincipalKind, f *principalFlags) (err error) {
	name := j.args[0]
	p := &iam.Principal{ARN: iam.PrincipalARN(j.config.Account, kind, f.path, name),
		Account: j.config.Account, Kind: kind,
		PrincipalDetails: iam.PrincipalDetails{Name: name, MaxSession: int32(f.maxSession / time.Second),
			AccessKeyDays: f.accessKeyDays}}
	if p.Tags, err = pairs("tag", f.tags); err != nil {
		return err
	}
	if p.Policies, err = pairs("policy", f.policies); err != nil {
		return err
	}
	for name, path := range p.Policies {
		if p.Policies[name], err = declaration.ReadPolicy(path); err != nil {
			return err
		}
	}
	if p.Boundary, err = declaration.ReadPolicy(f.boundary); err != nil {
		return err
	}
	if p.Trust, err = declaration.ReadPolicy(f.trust); err != nil {
		return err
	}
	created, err := j.directory.CreatePrincipal(j.ctx, p)
	if err == nil {
		_, err = fmt.Fprintln(j.out, created.ARN)
	}
	return err
}

func (j *job) deletePrincipal(kind iam.PrincipalKind) error {
	p, err := j.find(kind, j.args[0])
	if err != nil {
		return err
	}
	return j.directory.DeletePrincipal(j.ctx, p.ARN)
}

func (j *job) listPrincipals(kind iam.PrincipalKind) error {
	all, err := j.directory.Principals(j.ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"ARN", "ID", "CREATED"}}
	for _, p := range all {
		if p.Kind == kind {
			rows = append(rows, []string{p.ARN, p.UniqueID, reportDate(p.CreatedAt)})
		}
	}
	return table(j.out, rows)
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

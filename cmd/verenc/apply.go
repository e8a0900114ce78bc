package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/declaration"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/transport"
)

func (m principalCommands) apply() *cobra.Command {
	var path string
	var prune, dry bool
	cmd := &cobra.Command{Use: "apply", Args: cobra.NoArgs,
		Short: "Create and change users, roles and keys as a file declares them; repeating it changes nothing"}
	cmd.Flags().StringVarP(&path, "file", "f", "", "YAML file with the declaration; - is standard input")
	cmd.Flags().BoolVar(&prune, "prune", false,
		"remove the users and roles of the declared accounts that the file does not declare; keys are never removed")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only print what would change")
	_ = cmd.MarkFlagRequired("file") // the flag exists
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := m.config(cmd)
		if err == nil {
			err = c.check()
		}
		if err != nil {
			return err
		}
		d, err := readDeclaration(path)
		if err != nil {
			return err
		}
		open := openGuarded
		if len(d.Keys) > 0 && !dry { // keys are made in the token
			open = openTested
		}
		return m.run(cmd, c, nil, open, func(j *job) error { return j.apply(d, prune, dry) })
	}
	return cmd
}

// openTested opens the token, too, and finds out what it can do.
func openTested(ctx context.Context, c *Config) (p *components, err error) {
	if err := c.Token.check(); err != nil {
		return nil, err
	}
	if p, err = openComponents(ctx, c, false); err != nil {
		return nil, err
	}
	if p.can, err = selfTest(ctx, c, p); err == nil {
		if err = checkToken(ctx, p.store, p.token); err == nil {
			err = p.newService(c, operator())
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

const maxDeclaration = 16 << 20 // bytes

// readDeclaration reads a file, or standard input when path is -.
func readDeclaration(path string) (*declaration.Declaration, error) {
	in := os.Stdin
	if path == "-" {
		path = "stdin"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxDeclaration+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxDeclaration {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", path, maxDeclaration)
	}
	d, err := declaration.Read(path, text)
	if err != nil {
		return nil, fmt.Errorf("nothing was changed:\n%w", err)
	}
	return d, nil
}

func (j *job) apply(d *declaration.Declaration, prune, dry bool) (err error) {
	planner := declaration.Planner{Service: j.service, Store: j.store, Decode: transport.Decode}
	changes, end, err := planner.Plan(j.ctx, d, prune)
	if err != nil {
		return fmt.Errorf("nothing was changed:\n%w", err)
	}
	if !dry {
		err := iam.Apply(j.ctx, changes)
		if err != nil {
			err = fmt.Errorf("%w (apply the file again to continue)", err)
		}
		if err = errors.Join(err, end(context.WithoutCancel(j.ctx))); err != nil {
			return err
		}
	}
	return printChanges(j.out, changes, dry)
}

func printChanges(out io.Writer, changes []iam.Change, dry bool) error {
	var b strings.Builder
	for _, c := range changes {
		line := c.Verb + " " + c.What
		if len(c.Details) > 0 {
			line += ": " + strings.Join(c.Details, ", ")
		}
		fmt.Fprintln(&b, line)
	}
	switch {
	case len(changes) == 0:
		fmt.Fprintln(&b, "nothing to change")
	case dry:
		fmt.Fprintf(&b, "%d to change; nothing was changed\n", len(changes))
	default:
		fmt.Fprintf(&b, "%d changed\n", len(changes))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

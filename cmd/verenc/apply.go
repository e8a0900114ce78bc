package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/iam"
)

func (m principalCommands) apply() *cobra.Command {
	var path string
	var prune, dry bool
	cmd := m.command("apply", "Create and change users and roles as a file declares them; repeating it changes nothing",
		func(j *job) error { return j.apply(path, prune, dry) })
	cmd.Flags().StringVarP(&path, "file", "f", "", "YAML file with the declaration; - is standard input")
	cmd.Flags().BoolVar(&prune, "prune", false,
		"remove the users and roles of the declared accounts that the file does not declare")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only print what would change")
	_ = cmd.MarkFlagRequired("file") // the flag exists
	return cmd
}

const maxDeclaration = 16 << 20 // bytes

func (j *job) apply(path string, prune, dry bool) error {
	in := os.Stdin
	if path == "-" {
		path = "stdin"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxDeclaration+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxDeclaration {
		return fmt.Errorf("read %s: it has more than %d bytes", path, maxDeclaration)
	}
	declaration, err := readDeclaration(path, text)
	if err != nil {
		return fmt.Errorf("nothing was changed:\n%w", err)
	}
	changes, err := j.directory.Plan(j.ctx, declaration, prune)
	if err != nil {
		return fmt.Errorf("nothing was changed:\n%w", err)
	}
	if !dry {
		if err := j.directory.Apply(j.ctx, changes); err != nil {
			return fmt.Errorf("%w (apply the file again to continue)", err)
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

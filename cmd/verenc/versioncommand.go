package main

import (
	"github.com/spf13/cobra"

	"github.com/verenc/kms/cmd/verenc/version"
	"github.com/verenc/kms/hsm"
)

// newVersionCommand makes the command that says what the program was built from and, with a
// configuration, which token library it loads. It needs no PIN.
func newVersionCommand(config func(*cobra.Command) (*Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Args: cobra.NoArgs,
		Short: "Print the version, the Go modules in it and, with a token.module, the library's version and tokens",
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config(cmd)
		if err != nil {
			return err
		}
		info := version.Read()
		if c.Token.Module != "" {
			if err := addLibrary(&info, c); err != nil {
				return err
			}
		}
		if *asJSON {
			return info.WriteJSON(cmd.OutOrStdout())
		}
		return info.WriteText(cmd.OutOrStdout())
	}
	return cmd
}

// addLibrary asks the token library, in a process of its own: one that crashes leaves an error.
func addLibrary(info *version.Info, c *Config) error {
	l, tokens, err := hsm.DescribeLibrary(c.Token.Module, c.Token.InitArguments, hostCommand())
	if err != nil {
		return err
	}
	info.Library = &version.Library{Path: c.Token.Module, Manufacturer: l.Manufacturer, Description: l.Description,
		Version: l.Version, Cryptoki: l.Cryptoki}
	for _, t := range tokens {
		info.Tokens = append(info.Tokens, version.Token(t))
	}
	return nil
}

package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/verenc/kms/transport"
)

// newDocsCommand makes the command that writes the documentation into files. It needs no
// configuration.
func newDocsCommand() *cobra.Command {
	docs := &cobra.Command{
		Use: "docs", Args: cobra.NoArgs,
		Short: "Write the API reference and the manual as HTML files, or manual pages of the commands",
	}
	dir := docs.Flags().String("out", "", "folder for the HTML files, which is made; index.html is the first page")
	man := docs.Flags().String("man", "", "folder for a manual page of each command, which is made")
	docs.MarkFlagsOneRequired("out", "man")
	docs.RunE = func(cmd *cobra.Command, _ []string) error {
		var errs []error
		if *dir != "" {
			errs = append(errs, transport.WritePages(*dir))
		}
		if *man != "" {
			errs = append(errs, writeManual(cmd.Root(), *man))
		}
		return errors.Join(errs...)
	}
	return docs
}

// writeManual writes a page of section 1 for each command. Their date is that of SOURCE_DATE_EPOCH, if it is set.
func writeManual(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Verenc KMS", Manual: "Verenc KMS"}, dir)
}

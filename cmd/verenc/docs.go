package main

import (
	"github.com/spf13/cobra"

	"github.com/verenc/kms/transport"
)

// newDocsCommand makes the command that writes the documentation into files. It needs no
// configuration.
func newDocsCommand() *cobra.Command {
	docs := &cobra.Command{
		Use: "docs", Args: cobra.NoArgs,
		Short: "Write the API reference and the manual as HTML files",
	}
	dir := docs.Flags().String("out", "", "folder for the files, which is made; index.html is the first page")
	if err := docs.MarkFlagRequired("out"); err != nil {
		panic(err) // the flag is there
	}
	docs.RunE = func(*cobra.Command, []string) error { return transport.WritePages(*dir) }
	return docs
}

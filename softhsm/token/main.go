// Command token creates the SoftHSM2 token of the demo, or finds it, and prints shell lines that
// point verenc at it. The PIN is in a file of mode 0600 beside the token, and is not printed.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/verenc/kms/softhsm"
)

func main() {
	dir := flag.String("dir", "", "folder of the token; made if it is not there")
	label := flag.String("label", "verenc", "label of the token")
	flag.Parse()
	if err := run(*dir, *label); err != nil {
		fmt.Fprintln(os.Stderr, "token:", err)
		os.Exit(1)
	}
}

func run(dir, label string) error {
	if dir == "" {
		return fmt.Errorf("give a folder with -dir")
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	t, err := softhsm.Open(absolute, label)
	if err != nil {
		return err
	}
	fmt.Printf("export SOFTHSM2_CONF=%q VERENC_TOKEN_MODULE=%q VERENC_TOKEN_LABEL=%q VERENC_TOKEN_PIN_FILE=%q\n",
		t.Conf, t.Module, t.Label, t.PINFile)
	return nil
}

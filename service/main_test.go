package service_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/verenc/kms/softhsm"
)

// TestMain also is the program that TestKilledAtEachStep kills.
func TestMain(m *testing.M) {
	if plan := os.Getenv(doomedPlan); plan != "" {
		if err := runDoomed(plan); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(softhsm.Run(m))
}

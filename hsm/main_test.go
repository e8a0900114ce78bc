package hsm

import (
	"os"
	"testing"

	"github.com/verenc/kms/softhsm"
)

// testHost is the argument with which the test binary is the process of a module.
const testHost = "host-pkcs11-module"

func TestMain(m *testing.M) {
	if os.Getenv(judgeSerial) != "" {
		os.Exit(judge(os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == testHost {
		if err := HostModule(); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(softhsm.Run(m))
}

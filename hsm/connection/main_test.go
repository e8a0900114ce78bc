package connection

import (
	"os"
	"testing"

	"github.com/verenc/kms/softhsm"
)

func TestMain(m *testing.M) { os.Exit(softhsm.Run(m)) }

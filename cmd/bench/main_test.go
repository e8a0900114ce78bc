// Package bench_test has the benchmarks of the whole service: each operation over HTTP against the
// same PKCS#11 calls in a bare loop, what the audit log costs, and a token that is far away. make
// bench runs them.
package bench_test

import (
	"os"
	"testing"

	"github.com/verenc/kms/softhsm"
)

func TestMain(m *testing.M) { os.Exit(softhsm.Run(m)) }

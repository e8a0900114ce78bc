//go:build !linux

package audit

import "os"

type syncedFile struct{ *os.File }

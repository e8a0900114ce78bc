package audit

import (
	"os"
	"syscall"
)

// syncedFile syncs a file's data, and of its metadata only the size. That saves a commit of the
// file system.
type syncedFile struct{ *os.File }

func (f syncedFile) Sync() error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

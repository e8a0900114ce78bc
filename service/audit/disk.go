package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// disk is what the writer needs of the log's folder. rootDisk implements it; tests have others.
type disk interface {
	fs.FS
	// openData opens a file for writing and creates it if it does not exist.
	openData(name string) (dataFile, error)
	// replace writes data to a file, completely or not at all, and creates the folders above it.
	// The file is on the disk once its folder is synced too.
	replace(name string, data []byte) error
	remove(name string) error
	// syncFolder makes the names in a folder durable.
	syncFolder(name string) error
	Close() error
}

type dataFile interface {
	io.WriterAt
	Truncate(size int64) error
	// Sync returns when what was written, and the file's size, is on the disk.
	Sync() error
	Close() error
}

const temporary = ".tmp"

// rootDisk is a folder of the file system, locked for one writer. Its files have mode 0600.
type rootDisk struct {
	root *os.Root
	lock *os.File
	fs.FS
}

// ErrInUse is of a log that another process has open for writing.
var ErrInUse = errors.New("another process writes this log")

func openDisk(dir string) (_ *rootDisk, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	lock, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	return &rootDisk{root, lock, root.FS()}, nil
}

func (d *rootDisk) Close() error { return errors.Join(d.lock.Close(), d.root.Close()) }

func (d *rootDisk) openData(name string) (dataFile, error) {
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return syncedFile{f}, nil
}

func (d *rootDisk) replace(name string, data []byte) (err error) {
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.root.Rename(name+temporary, name)
}

func (d *rootDisk) remove(name string) error { return d.root.Remove(name) }

func (d *rootDisk) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

const atOnce = 32 // files that are written

// replaceAll writes files and makes them and the folders above them durable. It writes many at
// once, so that their syncs share the file system's work.
func replaceAll(d disk, files ...namedData) error {
	var writing errgroup.Group
	writing.SetLimit(atOnce)
	for _, f := range files {
		writing.Go(func() error {
			if err := d.replace(f.name, f.data); err != nil {
				return fmt.Errorf("write %s: %w", f.name, err)
			}
			return nil
		})
	}
	if err := writing.Wait(); err != nil {
		return err
	}
	folders := map[string]bool{".": true}
	for _, f := range files {
		for folder := path.Dir(f.name); folder != "."; folder = path.Dir(folder) {
			folders[folder] = true
		}
	}
	for folder := range folders {
		if err := d.syncFolder(folder); err != nil {
			return fmt.Errorf("sync folder %s: %w", folder, err)
		}
	}
	return nil
}

type namedData struct {
	name string
	data []byte
}

// readSmall reads a file of at most limit bytes.
func readSmall(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/verenc/kms/service"
)

// initOptions are the flags of verenc init.
type initOptions struct {
	credentials  string
	addAccessKey bool
}

// runInit makes what a server needs, and prints or writes the access key this once.
func runInit(ctx context.Context, c *Config, o initOptions, out io.Writer) (err error) {
	_, statErr := os.Stat(c.Database)
	switch exists := statErr == nil; {
	case exists && !o.addAccessKey:
		return fmt.Errorf("init: %s is there already; --add-access-key makes one more access key in it", c.Database)
	case !exists && o.addAccessKey:
		return fmt.Errorf("init: --add-access-key: %w", statErr)
	}
	keep, err := newCredentialFile(o.credentials, out)
	if err != nil {
		return err
	}
	p, err := openForCommand(ctx, c, !o.addAccessKey)
	if err != nil {
		return errors.Join(err, keep.discard())
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.service.InitServiceObjects(ctx); err != nil {
		return errors.Join(err, keep.discard())
	}
	cred, err := p.service.CreateRootAccessKey(ctx, c.Account)
	if err != nil {
		return errors.Join(err, keep.discard())
	}
	defer clear(cred.SecretAccessKey)
	if err := keep.write(cred); err != nil {
		return fmt.Errorf("init: %w (verenc init --add-access-key makes another)", err)
	}
	return nil
}

// credentialFile is where an access key goes. It is made before the key, so that no key is lost to a bad path.
type credentialFile struct {
	path string
	w    io.Writer
	file *os.File // nil for standard output
}

func newCredentialFile(path string, out io.Writer) (*credentialFile, error) {
	if path == "" {
		return &credentialFile{w: out}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already: move it away, or name another file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("create the credentials file: %w", err)
	}
	return &credentialFile{path: path, w: f, file: f}, nil
}

func (f *credentialFile) discard() error {
	if f.file == nil {
		return nil
	}
	return errors.Join(f.file.Close(), os.Remove(f.path))
}

func (f *credentialFile) write(cred *service.Credential) error {
	text := fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", cred.AccessKeyID, []byte(cred.SecretAccessKey))
	defer clear(text)
	_, err := f.w.Write(text)
	if f.file != nil {
		err = errors.Join(err, f.file.Sync(), f.file.Close())
	}
	if err != nil {
		return fmt.Errorf("write the access key %s: %w", cred.AccessKeyID, err)
	}
	return nil
}

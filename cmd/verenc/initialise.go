package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/store"
)

// initOptions are the flags of verenc init.
type initOptions struct {
	credentials  string
	addAccessKey bool
	ifMissing    bool

	notes io.Writer // for what is not an error
}

// runInit creates what a server needs, and prints or writes the access key, this one time.
func runInit(ctx context.Context, c *Config, o initOptions, out io.Writer) (err error) {
	if !store.IsURL(c.Database) { // a server is asked when it is opened
		_, statErr := os.Stat(c.Database)
		switch exists := statErr == nil; {
		case exists && !o.addAccessKey:
			if err := store.CheckFile(ctx, c.Database); err != nil {
				return fmt.Errorf("init: %w", err)
			}
			return fmt.Errorf("init: %s is there already; --add-access-key makes one more access key in it", c.Database)
		case !exists && o.addAccessKey:
			return fmt.Errorf("init: --add-access-key: %w", statErr)
		}
	}
	keep, err := newCredentialFile(o.credentials, out)
	if err != nil {
		return err
	}
	p, err := openForCommand(ctx, c, !o.addAccessKey)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.service.InitServiceObjects(ctx); err != nil {
		return err
	}
	cred, err := p.service.IAM().CreateRootAccessKey(ctx, c.Account)
	if err != nil {
		return err
	}
	defer clear(cred.SecretAccessKey)
	if err := keep.write(cred); err != nil {
		return fmt.Errorf("init: %w (verenc init --add-access-key makes another)", err)
	}
	if !o.addAccessKey {
		noteForeignObjects(ctx, p, o.notes)
	}
	return nil
}

// noteForeignObjects tells of objects in the token that a new database does not know. If they are another database's,
// each of the two takes the other's for left over. It is advice: what it can't find out fails nothing.
func noteForeignObjects(ctx context.Context, p *components, notes io.Writer) {
	inv, err := evidence.TakeInventory(ctx, p.store, p.token)
	switch {
	case err != nil:
		fmt.Fprintf(notes, "note: whether another database of Verenc uses the token could not be found out: %v\n", err)
		return
	case len(inv.OrphanObjects) == 0:
		return
	}
	fmt.Fprintf(notes, "note: the token has objects of another database of Verenc, or of one that is gone: "+
		"%d, such as %s. If the other database is in use, give this one a token of its own.\n",
		len(inv.OrphanObjects), inv.OrphanObjects[0].Label)
}

// completeInit makes what is missing of what a server needs, for a container that does so before each start. It makes
// no access key: nobody would see it, or everybody who reads the container's log. An audit log whose name the database
// knows was lost: it is not begun again.
func completeInit(ctx context.Context, c *Config, notes io.Writer) (err error) {
	create, err := databaseMissing(ctx, c)
	if err != nil {
		return err
	}
	p, err := openComponents(ctx, c, create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.newService(c, operator()); err != nil {
		return err
	}
	if err := p.service.InitServiceObjects(ctx); err != nil {
		return err
	}
	if create {
		noteForeignObjects(ctx, p, notes)
	}
	if c.Audit.Dir == noAudit || !isMissing(c.Audit.Dir) {
		return nil
	}
	log, err := openAudit(ctx, c, p, true)
	if err != nil {
		return err
	}
	return p.closeAudit(log)
}

// databaseMissing reports whether the database is still to be made.
func databaseMissing(ctx context.Context, c *Config) (bool, error) {
	if !store.IsURL(c.Database) {
		return isMissing(c.Database), nil
	}
	db, err := openStore(ctx, c, false)
	if errors.Is(err, store.ErrEmpty) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, db.Close()
}

// credentialFile is where an access key is written: a file with a path, or w.
type credentialFile struct {
	path string
	w    io.Writer
}

// newCredentialFile checks that the file can be created, so that no key is lost because of a bad
// path. The file itself is created only when there is something to write, so that a failure before
// that leaves none behind.
func newCredentialFile(path string, out io.Writer) (*credentialFile, error) {
	if path == "" {
		return &credentialFile{w: out}, nil
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s is there already: move it away, or name another file", path)
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".verenc-*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return nil, fmt.Errorf("create the credentials file: %w", err)
	}
	return &credentialFile{path: path}, nil
}

func (f *credentialFile) write(cred *iam.Credential) error {
	text := fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", cred.AccessKeyID,
		[]byte(cred.SecretAccessKey))
	if cred.SessionToken != "" {
		text = fmt.Appendf(text, "aws_session_token = %s\n", cred.SessionToken)
	}
	defer clear(text)
	var err error
	if f.path == "" {
		_, err = f.w.Write(text)
	} else {
		err = writeNew(f.path, text)
	}
	if err != nil {
		return fmt.Errorf("write the access key %s: %w", cred.AccessKeyID, err)
	}
	return nil
}

// writeNew writes a file of mode 600, which must not exist yet.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/verenc/kms/cmd/verenc/environment"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/reset"
)

// devServer is one run of verenc dev.
type devServer struct {
	o   devOptions
	out io.Writer
	end context.CancelFunc // ends the server

	environment environment.Environment
	point       *reset.Point

	started  func() bool // the command starts now; false when it must not
	commands sync.WaitGroup
	failure  error // of the command, or of the output; set before commands is done
}

// Files of the folder of data. Those of the access key are made for its owner only.
const (
	devCredentials = "aws-credentials"
	devChosen      = "chosen-access-key" // id of the access key that the user chose
)

// open makes what is missing in the folder, applies the seed, and opens everything for a server.
func (s *devServer) open(ctx context.Context, c *Config) (p *components, err error) {
	soft, err := softhsm.Open(filepath.Join(s.o.data, "token"), "verenc")
	if errors.Is(err, softhsm.ErrNotInstalled) {
		return nil, fmt.Errorf("%w: install SoftHSM2 (Debian, Ubuntu: apt-get install softhsm2; Fedora, RHEL: "+
			"dnf install softhsm; Alpine: apk add softhsm; macOS: brew install softhsm)", err)
	}
	if err != nil {
		return nil, err
	}
	c.Token.Module, c.Token.Label, c.Token.PINFile = soft.Module, soft.Label, soft.PINFile
	c.Database, c.Audit.Dir = filepath.Join(s.o.data, "verenc.db"), filepath.Join(s.o.data, "audit")
	chosen := c.Token.Residency
	if chosen == "" {
		c.Token.Residency = string(service.ResidencyToken)
	}
	if err := errors.Join(c.Token.check(), c.check()); err != nil {
		return nil, err
	}
	if p, err = openComponents(ctx, c, isMissing(c.Database)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.can, err = selfTest(ctx, c, p); err != nil {
		return p, err
	}
	if chosen == "" && p.can.KeepWrapped {
		// SoftHSM2 keeps a token object in a file, which it syncs when the object is made and looks at with each use.
		c.Token.Residency = string(service.ResidencyWrapped)
	}
	if err := checkToken(ctx, p.store, p.token); err != nil {
		return p, err
	}
	if err := p.newService(c, operator()); err != nil {
		return p, err
	}
	if err := s.prepare(ctx, c, p); err != nil {
		return p, err
	}
	operated := p.service
	token := reset.Keep(p.token)
	backup := filepath.Join(s.o.data, "reset.db")
	if err := os.Remove(backup); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an earlier run
		return p, err
	}
	s.point, err = reset.Mark(ctx, p.store, token, backup, func(ctx context.Context) error {
		return operated.Records().WriteCommand(ctx, "ResetDevelopmentServer", nil)
	})
	if err != nil {
		return p, err
	}
	c.run.token = token
	if p.audit, err = openAudit(ctx, c, p, false); err != nil {
		return p, err
	}
	if err := p.newService(c, nil); err != nil {
		return p, err
	}
	p.service.DeliverRecords(ctx)
	return p, nil
}

func isMissing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// prepare makes the audit log, the service's objects and the access key, and applies the seed.
func (s *devServer) prepare(ctx context.Context, c *Config, p *components) error {
	if err := p.service.InitServiceObjects(ctx); err != nil {
		return err
	}
	if isMissing(c.Audit.Dir) {
		log, err := openAudit(ctx, c, p, true)
		if err != nil {
			return err
		}
		if err := p.closeAudit(log); err != nil {
			return err
		}
	}
	if err := s.makeAccessKey(ctx, c, p); err != nil {
		return err
	}
	if s.o.seed == "" {
		return nil
	}
	d, err := readDeclaration(s.o.seed)
	if err != nil {
		return err
	}
	j := job{ctx: ctx, config: c, directory: p.service.IAM(), service: p.service, store: p.store, out: io.Discard}
	return j.apply(d, false, false)
}

var credentialsFile = regexp.MustCompile(`aws_access_key_id = (\S+)\naws_secret_access_key = (\S+)\n`)

// makeAccessKey makes the access key that the user has chosen, finds that of an earlier run, or makes a random one.
// A chosen one is gone when the next run has none, or another: that may serve others.
func (s *devServer) makeAccessKey(ctx context.Context, c *Config, p *components) error {
	directory, chosen := p.service.IAM(), filepath.Join(s.o.data, devChosen)
	if old, err := os.ReadFile(chosen); err == nil {
		if _, err := p.store.AccessKey(ctx, string(old)); err == nil {
			if err := directory.DeleteAccessKey(ctx, string(old)); err != nil {
				return err
			}
		}
		if err := os.Remove(chosen); err != nil {
			return err
		}
	}
	e := &s.environment
	if e.AccessKeyID, e.SecretKey = s.o.accessKey, s.o.secretKey; e.AccessKeyID != "" {
		if err := writeNew(chosen, []byte(e.AccessKeyID)); err != nil {
			return err
		}
		return directory.PutRootAccessKey(ctx, c.Account,
			&iam.Credential{AccessKeyID: e.AccessKeyID, SecretAccessKey: []byte(e.SecretKey)})
	}
	path := filepath.Join(s.o.data, devCredentials)
	if text, err := os.ReadFile(path); err == nil {
		if found := credentialsFile.FindStringSubmatch(string(text)); found != nil {
			if _, err := p.store.AccessKey(ctx, found[1]); err == nil {
				e.AccessKeyID, e.SecretKey = found[1], found[2]
				return nil
			}
		}
		return fmt.Errorf("dev: %s has no access key of the database beside it: move the file away", path)
	}
	credential, err := directory.CreateRootAccessKey(ctx, c.Account)
	if err != nil {
		return err
	}
	e.AccessKeyID, e.SecretKey = credential.AccessKeyID, string(credential.SecretAccessKey)
	file, err := newCredentialFile(path, nil)
	if err != nil {
		return err
	}
	return file.write(credential)
}

// handler adds the reset.
func (s *devServer) handler(next http.Handler) http.Handler { return s.point.Handler(next) }

// serving says where the server is: in a file descriptor, on standard output, or to a command.
func (s *devServer) serving(c *Config, address net.Addr) {
	e := &s.environment
	e.URL, e.Region = "http://"+reachable(address), "us-east-1"
	if c.TLSCert != "" {
		e.URL = "https://" + reachable(address)
	}
	if len(c.Regions) > 0 && c.Regions[0] != "*" {
		e.Region = c.Regions[0]
	}
	switch {
	case s.o.exec:
		s.commands.Go(func() {
			defer s.end()
			s.failure = e.Run(s.o.argv, s.started)
		})
		return
	case s.o.envFile != 0:
		f := os.NewFile(uintptr(s.o.envFile), "environment")
		_, err := io.WriteString(f, e.Lines())
		s.failure = errors.Join(err, f.Close())
	default:
		_, s.failure = fmt.Fprint(s.out, s.greeting(c))
	}
	if s.failure != nil {
		s.end()
	}
}

// reachable is an address at which clients on this machine find a listener.
func reachable(address net.Addr) string {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
	}
	return address.String()
}

func (s *devServer) greeting(c *Config) string {
	folder := s.o.data
	if s.o.temporary {
		folder += ", which is removed at the end"
	}
	key := "below"
	if s.o.accessKey == "" {
		key = "in " + filepath.Join(s.o.data, devCredentials) + ":\nits whole text can be pasted into the form"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Verenc KMS serves on %s, with arn_format: %s. Data: %s.\n"+
		"Open %s/ in a browser for the documentation, where each operation can be tried out, and for\n"+
		"the console, to create and administer keys. Sign in with the access key %s.\n"+
		"Or paste into another terminal:\n\n",
		s.environment.URL, c.ARNFormat, folder, s.environment.URL, key)
	for line := range strings.Lines(s.environment.Lines()) {
		b.WriteString("  " + line)
	}
	b.WriteString("  kms() { aws --endpoint-url \"$AWS_ENDPOINT_URL_KMS\" kms \"$@\"; }\n" +
		"  key=$(kms create-key --query KeyMetadata.KeyId --output text)\n" +
		"  kms generate-data-key-without-plaintext --key-id \"$key\" --key-spec AES_256\n\nCtrl-C stops it.\n")
	return b.String()
}

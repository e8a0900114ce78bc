package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/cmd/verenc/environment"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/softhsm/reset"
)

// The access key of a development server, besides --access-key and --secret-key.
const (
	devAccessKeyVariable = envPrefix + "DEV_ACCESS_KEY"
	devSecretKeyVariable = envPrefix + "DEV_SECRET_KEY"
	devPIDVariable       = envPrefix + "DEV_PID" // which --print-env prints
)

const devLong = `A development server needs this program and SoftHSM2. It makes a token, a database, an audit log and an access
key in a temporary folder, which it removes at the end, and serves every region. Its other settings are those of
verenc serve, by flag and environment variable, with these defaults: account 000000000000, regions *, arn_format aws,
no private listener, log_level warn. It reads no configuration file, and makes the token, the database and the audit
log itself.

  verenc dev                                     serves until Ctrl-C; prints lines for another shell
  verenc dev --seed keys.yaml --exec -- pytest   runs a command, and ends with its exit status
  eval "$(verenc dev --print-env)"               serves in the background; kill $VERENC_DEV_PID ends it

POST /_verenc/reset, with the header X-Verenc-Reset, brings the state back that the server had when it began to
serve:

  curl -X POST -H 'X-Verenc-Reset: 1' http://127.0.0.1:8600/_verenc/reset`

// devOptions are the flags of verenc dev.
type devOptions struct {
	data, seed           string
	accessKey, secretKey string
	exec, printEnv       bool
	argv                 []string
	envFile              int // file descriptor to write the lines to and close; 0 for none
	temporary            bool
}

func newDevCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{Use: "dev", Long: devLong, Args: cobra.ArbitraryArgs,
		Short: "Serve throw-away keys in SoftHSM2, for tests and CI"}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows is the command's
	f.StringVar(&o.data, "data", "", "folder to keep token, database and audit log in; default a temporary one")
	f.StringVar(&o.seed, "seed", "", "YAML file with users, roles and keys, as for verenc apply")
	f.StringVar(&o.accessKey, "access-key", "",
		"access key id of the account's root user; for throw-away keys only, like --secret-key ["+
			devAccessKeyVariable+"]")
	f.StringVar(&o.secretKey, "secret-key", "", "its secret access key; default a random one ["+
		devSecretKeyVariable+"]")
	f.BoolVar(&o.exec, "exec", false, "run the command that follows, and end with its exit status")
	f.BoolVar(&o.printEnv, "print-env", false, "serve in the background, and print only lines for eval")
	f.IntVar(&o.envFile, "env-file-descriptor", 0, "") // of the process in the background
	_ = f.MarkHidden("env-file-descriptor")            // the flag exists
	f.BoolVar(&o.temporary, "temporary", false, "")    // the folder is to be removed
	_ = f.MarkHidden("temporary")                      // the flag exists
	cmd.MarkFlagsMutuallyExclusive("exec", "print-env")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.argv = args; o.exec != (len(args) > 0) {
			return errors.New("dev: --exec and a command go together: verenc dev --exec -- pytest")
		}
		if f := cmd.Flags().Lookup("config"); f != nil && f.Changed {
			return errors.New("dev: it reads no configuration file")
		}
		c, err := devConfig(cmd, o.exec)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP) // a terminal that is closed
		defer stop()
		return runDev(ctx, c, o, cmd.OutOrStdout())
	}
	return cmd
}

// devConfig reads the settings. Those of the token, the database and the audit log are still to be made.
func devConfig(cmd *cobra.Command, exec bool) (*Config, error) {
	base := defaults()
	if exec {
		base.Listen = "127.0.0.1:0" // the command is told where
	}
	base.Account, base.Regions, base.ARNFormat, base.PrivateListen = "000000000000", []string{"*"}, "aws", ""
	// SoftHSM2 keeps a token object in a file, which it syncs when the object is made and looks at with each use.
	base.Token.Residency = string(service.ResidencyWrapped)
	c, err := readConfigOver(base, "", cmd.Flags(), os.Environ)
	if err != nil {
		return nil, err
	}
	c.LogLevel = c.commandLevel
	for _, made := range []struct{ key, value, base string }{
		{"token.module", c.Token.Module, base.Token.Module}, {"token.label", c.Token.Label, base.Token.Label},
		{"token.serial", c.Token.Serial, base.Token.Serial}, {"token.pin_file", c.Token.PINFile, base.Token.PINFile},
		{"database", c.Database, base.Database}, {"audit.dir", c.Audit.Dir, base.Audit.Dir},
	} {
		if made.value != made.base {
			return nil, fmt.Errorf("dev: it makes a token, a database and an audit log itself: unset %s", made.key)
		}
	}
	return c, nil
}

// devAccessKey is what an access key of the user's choice may be.
var (
	devAccessKeyID = regexp.MustCompile(`^\w{1,128}$`)
	devSecretKey   = regexp.MustCompile(`^[!-~]{1,128}$`)
)

// readAccessKey completes the options from the environment, and checks them. A key that is easily guessed must not
// be reachable by others.
func (o *devOptions) readAccessKey(listen string) error {
	if o.accessKey == "" && o.secretKey == "" {
		o.accessKey, o.secretKey = os.Getenv(devAccessKeyVariable), os.Getenv(devSecretKeyVariable)
	}
	if o.accessKey == "" && o.secretKey == "" {
		return nil
	}
	if !devAccessKeyID.MatchString(o.accessKey) || !devSecretKey.MatchString(o.secretKey) {
		return errors.New("dev: --access-key and --secret-key: give both, of up to 128 characters: " +
			"letters, digits and _ for the first, printable ones for the second")
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil || !reset.IsLoopback(host) {
		return fmt.Errorf("dev: an access key of your choice is for a loopback address only, and listen is %s", listen)
	}
	return nil
}

// runDev makes what is missing, and serves.
func runDev(ctx context.Context, c *Config, o devOptions, out io.Writer) (err error) {
	if err := o.readAccessKey(c.Listen); err != nil {
		return err
	}
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "verenc-dev-"); err != nil {
			return err
		}
		o.temporary = true
	} else if o.data, err = filepath.Abs(o.data); err == nil {
		err = os.MkdirAll(o.data, 0o700)
	}
	if err != nil {
		return err
	}
	if o.printEnv && o.envFile == 0 { // and not in the process in the background
		lines, pid, err := environment.Background(ctx, backgroundArgs(&o), filepath.Join(o.data, "verenc.log"))
		if err != nil {
			return errors.Join(err, o.removeTemporary())
		}
		_, err = fmt.Fprintf(out, "%sexport %s=%d\n", lines, devPIDVariable, pid)
		return err
	}
	defer func() {
		if removed := o.removeTemporary(); removed != nil {
			err = errors.Join(err, removed)
		}
	}()
	s := devServer{o: o, out: out}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s.end = end
	// Once a command runs, signals are for it, and the server ends after it.
	s.started = context.AfterFunc(ctx, end)
	defer s.started()
	c.run.handler, c.run.serving = s.handler, s.serving
	err = serveOn(serving, c, s.open)
	s.commands.Wait()
	if err == nil {
		return s.failure // an *environment.ExitError says nothing more
	}
	return errors.Join(err, s.failure)
}

func (o *devOptions) removeTemporary() error {
	if !o.temporary {
		return nil
	}
	return os.RemoveAll(o.data)
}

// backgroundArgs are the arguments of the server in the background: those of this one, and where its data is.
func backgroundArgs(o *devOptions) []string {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
		return a == "--print-env" || a == "--print-env=true"
	})
	args = append(args, "--data="+o.data, "--env-file-descriptor=3")
	if o.temporary {
		args = append(args, "--temporary")
	}
	return args
}

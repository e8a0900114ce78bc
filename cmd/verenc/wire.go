package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/verenc/kms/cmd/verenc/lines"
	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/audit/witness"
	"github.com/verenc/kms/service/destruction"
	"github.com/verenc/kms/service/quota"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/transport"
)

// components are what a command opens, in the order in which they are opened.
type components struct {
	log     *zap.Logger
	batched *zap.Logger     // the same, with lines that are written in batches
	level   zap.AtomicLevel // of log
	token   *hsm.Group
	store   *store.DB
	audit   *audit.Log // nil when no log is kept
	witness *witness.Witness
	service *service.Service

	can      service.Capabilities // of the token, in a server
	shutdown time.Duration
}

func parseLevel(level string) (zapcore.Level, error) {
	parsed, err := zapcore.ParseLevel(level)
	if err != nil {
		err = fmt.Errorf("log_level: %w (give debug, info, warn or error)", err)
	}
	return parsed, err
}

// openLog makes the loggers, which write to the standard error.
func (p *components) openLog(level string) error {
	parsed, err := parseLevel(level)
	if err != nil {
		return err
	}
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.MillisDurationEncoder
	encoder, batch := zapcore.NewJSONEncoder(c), lines.NewBatch(os.Stderr)
	p.level = zap.NewAtomicLevelAt(parsed)
	p.log = zap.New(zapcore.NewCore(encoder, batch.AtOnce(), p.level))
	p.batched = zap.New(zapcore.NewCore(encoder, batch, p.level))
	return nil
}

// Of the lines of requests without an error, log_requests: sampled keeps so many in each second, and then each of so
// many. The numbers are those of zap.NewProductionConfig.
const (
	sampledFirst = 100
	sampledEach  = 100
)

// succeeded returns the logger of requests that end without an error.
func succeeded(log *zap.Logger, which string) *zap.Logger {
	switch which {
	case logErrors:
		return zap.NewNop()
	case logSampled:
		return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(core, time.Second, sampledFirst, sampledEach)
		}))
	}
	return log
}

// hsmConfig returns the configuration of a token. It reads the PIN.
func hsmConfig(c *Config, log *zap.Logger) (hsm.Config, error) {
	renewed, origin := renewedPIN(c), pinOrigin(c) // before readPIN, which removes the variable
	pin, err := readPIN(c)
	return hsm.Config{
		Module: c.Token.Module, InitArguments: c.Token.InitArguments, Label: c.Token.Label,
		Serial: c.Token.Serial, PIN: pin, PINOrigin: origin, RenewedPIN: renewed,
		Profile: c.Token.Profile, Sessions: c.Token.Sessions, Turns: c.Token.Turns, HeldKeys: c.Token.HeldKeys,
		ConnectTimeout: c.Token.Connect, CallTimeout: c.Token.CallTimeout, GenerateTimeout: c.Token.GenerateTimeout,
		MaxStuck:      c.Token.MaxStuck,
		ModuleCommand: moduleCommand(c), ForcePIN: c.run.forcePIN, OnChange: logToken(log, c.run.connected),
		Observe:     traceCalls(c),
		OnNotice:    func(notice string) { log.Warn(notice) },
		GiveUpAfter: giveUpAfter(c), OnGiveUp: c.run.giveUp,
	}, err
}

// moduleCommand returns the command that runs the PKCS#11 module in a process of its own, if the
// configuration says so.
func moduleCommand(c *Config) []string {
	if !c.Token.Isolate {
		return nil
	}
	return hostCommand()
}

// hostCommand returns the command that runs this program as the process of a module.
func hostCommand() []string {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	return []string{program, moduleHost}
}

// moduleHost is the hidden command of that process.
const moduleHost = "pkcs11-module"

func giveUpAfter(c *Config) time.Duration {
	if c.run.giveUp == nil { // a command exits by itself
		return 0
	}
	return c.Token.RestartAfter
}

// logToken returns a function that logs when a token is lost and when it is back, and then also
// notifies connected.
func logToken(log *zap.Logger, connected chan<- struct{}) func(error) {
	return func(err error) {
		if err != nil {
			log.Error("token lost; reconnecting", zap.Error(err))
			return
		}
		log.Info("token connected")
		select {
		case connected <- struct{}{}:
		default: // a notification is pending, or nobody waits for one
		}
	}
}

// openToken opens a token and its replicas. A replica that is not available joins later; the others
// serve without it. A token without replicas is a group of one, which notices the objects that
// other processes make.
func openToken(ctx context.Context, first hsm.Config, replicas []string, connected chan<- struct{},
	log *zap.Logger) (*hsm.Group, error) {
	if len(replicas) == 0 {
		alone, err := hsm.Open(ctx, first)
		if err != nil {
			return nil, err
		}
		return hsm.NewGroup(alone)
	}
	var members []*hsm.Token
	var errs []error
	for i, serial := range append([]string{first.Serial}, replicas...) {
		member := first
		if member.Serial = serial; i > 0 {
			member.Label = ""
		}
		member.OnChange, member.AllowUnavailable = logToken(log.With(zap.String("serial", serial)), connected), true
		t, err := hsm.Open(ctx, member)
		if err != nil {
			errs = append(errs, fmt.Errorf("token %s: %w", serial, err))
			continue
		}
		members = append(members, t)
	}
	if errs != nil {
		for _, t := range members {
			errs = append(errs, t.Close())
		}
		return nil, errors.Join(errs...)
	}
	group, err := hsm.NewGroup(members...)
	if err == nil && !group.Stats().Connected {
		return nil, errors.Join(group.Ping(ctx), group.Close()) // Ping returns the reason
	}
	return group, err
}

// openComponents opens the token and the database. With create it creates the database; otherwise there
// must be one.
func openComponents(ctx context.Context, c *Config, create bool) (p *components, err error) {
	p = &components{shutdown: c.ShutdownTimeout}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if err = p.openLog(c.commandLevel); err != nil {
		return p, err
	}
	c.run.databaseChanged = logDatabase(p.log, c.DatabaseGrace)
	if err := keepDatabasePassword(c); err != nil {
		return p, err
	}
	h, err := hsmConfig(c, p.log)
	if err != nil {
		return p, err
	}
	if p.token, err = openToken(ctx, h, c.Token.Replicas, c.run.connected, p.log); errors.Is(err, hsm.ErrPIN) {
		return p, err // it says what to do, and doctor would try the same PIN again
	} else if err != nil {
		return p, fmt.Errorf("%w (run verenc doctor)", err)
	}
	p.store, err = openStore(ctx, c, create)
	return p, err
}

// open opens everything for a server.
func open(ctx context.Context, c *Config) (p *components, err error) {
	if p, err = openComponents(ctx, c, false); err != nil {
		return p, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.can, err = selfTest(ctx, c, p); err != nil {
		return p, err
	}
	if err = checkToken(ctx, p.store, p.token); err != nil {
		return p, err
	}
	if err := databaseExposed(c); err != nil {
		p.log.Warn("the database is exposed", zap.Error(err), zap.String("advice", exposedAdvice))
	}
	if c.Audit.Dir == noAudit {
		p.log.Warn("no audit log is kept: audit.dir is none")
	} else if p.audit, err = openAudit(ctx, c, p, false); err != nil {
		reportAudit(ctx, c, p, err)
		if errors.Is(err, audit.ErrInUse) {
			err = fmt.Errorf("%w (give each server an audit.dir of its own)", err)
		}
		return p, err
	}
	if err := p.newService(c, nil); err != nil || p.audit == nil {
		return p, err
	}
	p.service.DeliverRecords(ctx) // the records of commands precede that of the first request
	return p, nil
}

// tokenless is the token of commands that need only the database. Calling it is a mistake of ours,
// and panics.
type tokenless struct{ service.Token }

// newService returns the service of a server, or of an operator's command. Only one process writes
// an audit log, so a command leaves its records in the database.
func (p *components) newService(c *Config, by *record.Operator) (err error) {
	cfg := service.Config{Store: p.store, Token: tokenless{}, Log: p.log, Audit: auditor(p.audit), Can: p.can,
		Residency: service.Residency(c.Token.Residency), RequireHiddenDataKeys: c.Token.RequireHiddenDataKeys,
		TokenSources: clusters(c, p.log), ARNFormat: arn.Format(c.ARNFormat), Regions: c.Regions}
	if cfg.Quotas, err = quota.New(quota.Config{Account: c.Quotas.account, Principal: c.Quotas.principal,
		Concurrent: c.Quotas.Concurrent, Now: time.Now}); err != nil {
		return err
	}
	cfg.ApprovalsExpire, cfg.VerifyProof = c.Approval.ExpiresAfter, transport.VerifyProof
	if p.token != nil {
		cfg.Token = p.token
	}
	if c.run.token != nil {
		cfg.Token = c.run.token
	}
	if cfg.Operator = by; by != nil && c.Audit.Dir != noAudit {
		cfg.Audit = record.Outbox{Store: p.store}
	}
	if c.Audit.Dir != noAudit && c.run.token == nil { // verenc dev keeps objects that it was asked to destroy
		cfg.Certify = func(ctx context.Context, d *destruction.Statement) ([]byte, error) {
			origin, signer, err := currentSigner(ctx, c, p)
			if err != nil {
				return nil, err
			}
			return d.Sign(ctx, origin, signer)
		}
	}
	cfg.MetadataAge, cfg.Shared = p.store.Age, store.IsURL(c.Database)
	if by == nil {
		if cfg.WebIdentities, err = c.webIdentities(); err != nil {
			return err
		}
	}
	p.service, err = service.New(cfg)
	return err
}

// operator returns who runs this process.
func operator() *record.Operator {
	o := &record.Operator{UserID: strconv.Itoa(os.Getuid())}
	if u, err := user.Current(); err == nil {
		o.Name = u.Username
	}
	o.Host, _ = os.Hostname() // an empty name is better than no record
	return o
}

// openForCommand opens what commands need that change the database, possibly while a server runs.
// With create it creates the database and the log.
func openForCommand(ctx context.Context, c *Config, create bool) (p *components, err error) {
	if p, err = openComponents(ctx, c, create); err != nil {
		return p, err
	}
	if err = p.newService(c, operator()); err == nil && create && c.Audit.Dir != noAudit {
		var log *audit.Log
		if log, err = openAudit(ctx, c, p, true); err == nil {
			err = p.closeAudit(log)
		}
	}
	if err != nil {
		err = errors.Join(err, p.close())
	}
	return p, err
}

// selfTest returns what the token can do. It refuses a token that cannot do what everything needs.
func selfTest(ctx context.Context, c *Config, p *components) (service.Capabilities, error) {
	checks := p.token.SelfTest(ctx)
	var failures []string
	for _, check := range checks {
		switch v := judge(check); {
		case !v.starts:
			failures = append(failures, v.text)
		case v.mark == markBad, v.mark == markWarn:
			p.log.Warn("the token does less than is promised", zap.String("check", check.Name),
				zap.String("advice", v.advice), zap.Error(check.Err))
		case v.mark == markNote:
			p.log.Info("the token can't do everything", zap.String("check", check.Name),
				zap.String("needed_for", check.Need), zap.Error(check.Err))
		}
	}
	if failures != nil {
		return service.Capabilities{}, fmt.Errorf("self-test of the token: %s (run verenc doctor)",
			strings.Join(failures, "; "))
	}
	can := service.CapabilitiesOf(checks)
	if c.Token.Residency == string(service.ResidencyWrapped) && !can.KeepWrapped {
		return can, fmt.Errorf(
			"token.residency: wrapped needs a token that passes the self-test %q (run verenc doctor)",
			selftest.CheckInside)
	}
	return can, nil
}

func (p *components) close() error {
	var errs []error
	if p.service != nil {
		errs = append(errs, p.service.Close())
	}
	if p.audit != nil {
		errs = append(errs, p.closeAudit(p.audit))
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.token != nil {
		errs = append(errs, p.token.Close())
	}
	if p.log != nil {
		_ = p.log.Sync() // a terminal cannot be synced
	}
	return errors.Join(errs...)
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// reloadable is something in files that may change while a server runs. reload tells whether it has
// changed; after an error everything stays as it was.
type reloadable struct {
	name   string
	reload func() (changed bool, err error)
}

// reloader reads files again: on SIGHUP, and when they have changed.
type reloader struct {
	parts []reloadable
	log   *zap.Logger
	// problems has the last error of each part that has one: one line of the log for each is enough.
	problems map[string]string

	hangup chan os.Signal
	ticks  *time.Ticker
}

// lookEvery is how often files are looked at. Looking works for every kind of file: those that are
// replaced, linked anew as in Kubernetes, or on a network's file system.
const lookEvery = 5 * time.Second

// newReloader returns the reloader of a server. SIGHUP does not end the process from now on.
func newReloader(c *Config, p *components) *reloader {
	r := &reloader{log: p.log, problems: map[string]string{}, hangup: make(chan os.Signal, 1),
		ticks: time.NewTicker(lookEvery), parts: c.run.reload}
	if c.run.file != "" {
		settings := &settingsFile{inForce: *c, level: p.level, log: p.log}
		settings.text, _ = os.ReadFile(c.run.file) // reload tells what is wrong with it
		r.parts = append(r.parts, reloadable{"settings", settings.reload})
	}
	signal.Notify(r.hangup, syscall.SIGHUP)
	return r
}

func (r *reloader) run(ctx context.Context) {
	defer signal.Stop(r.hangup)
	defer r.ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.ticks.C:
			r.look()
		case <-r.hangup:
			clear(r.problems) // who asks is told again
			r.look()
			r.log.Info("read the files again, as SIGHUP asks")
		}
	}
}

func (r *reloader) look() {
	for _, part := range r.parts {
		changed, err := part.reload()
		switch {
		case err != nil && r.problems[part.name] != err.Error():
			r.log.Error("a changed file can't be used; its old contents stay in force", zap.String("what", part.name),
				zap.Error(err))
		case err == nil && changed:
			r.log.Info("a changed file was read and is in force", zap.String("what", part.name))
		}
		if delete(r.problems, part.name); err != nil {
			r.problems[part.name] = err.Error()
		}
	}
}

// secretFile is a file with a value that may change. Without a path the value is empty.
type secretFile struct {
	setting, path string
	check         func(text string) error // nil: every text will do
	text          atomic.Pointer[string]
}

func (f *secretFile) value() string {
	if text := f.text.Load(); text != nil {
		return *text
	}
	return ""
}

func (f *secretFile) reload() (changed bool, err error) {
	if f.path == "" {
		return false, nil
	}
	read, err := os.ReadFile(f.path)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", f.setting, err)
	}
	text := string(bytes.TrimSpace(read))
	if text == f.value() {
		return false, nil
	}
	if text == "" {
		return false, fmt.Errorf("read %s: %s is empty", f.setting, f.path)
	}
	if f.check != nil {
		if err := f.check(text); err != nil {
			return false, fmt.Errorf("read %s: %w", f.setting, err)
		}
	}
	f.text.Store(&text)
	return true, nil
}

// settingsFile is the file of the settings. The log level is the only setting that a server changes
// while it runs.
type settingsFile struct {
	inForce Config
	level   zap.AtomicLevel
	log     *zap.Logger
	text    []byte
}

func (f *settingsFile) reload() (changed bool, err error) {
	text, err := os.ReadFile(f.inForce.run.file)
	if err != nil {
		return false, fmt.Errorf("read configuration: %w", err)
	}
	if bytes.Equal(text, f.text) {
		return false, nil
	}
	c, err := f.inForce.run.load()
	if err != nil {
		return false, err
	}
	level, err := parseLevel(c.LogLevel)
	if err != nil {
		return false, err
	}
	f.level.SetLevel(level)
	f.inForce.LogLevel, f.text = c.LogLevel, text
	if waiting := differences(&f.inForce, c); len(waiting) > 0 {
		f.log.Warn("these settings are used after a restart", zap.Strings("settings", waiting))
	}
	return true, nil
}

// differences are the names of the settings that differ.
func differences(a, b *Config) (names []string) {
	of := settings(b)
	for i, s := range settings(a) {
		if !reflect.DeepEqual(s.value.Interface(), of[i].value.Interface()) {
			names = append(names, s.key)
		}
	}
	if !reflect.DeepEqual(a.KeyStores, b.KeyStores) {
		names = append(names, "key_stores")
	}
	if !reflect.DeepEqual(a.OIDCIssuers, b.OIDCIssuers) {
		names = append(names, "oidc_issuers")
	}
	return names
}

package main

import (
	"strings"
	"testing"
)

// TestCommandsAreQuiet: a command that prints something, perhaps a secret, writes nothing else to
// the terminal, unless log_level is set.
func TestCommandsAreQuiet(t *testing.T) {
	s := newSite(t)
	for _, args := range [][]string{{"init"}, {"init", "--add-access-key"}, {"user", "create", "app"},
		{"access-key", "create", "--user", "app"},
		{"export"}, {"audit", "keys"}, {"audit", "rotate-key"}, {"report"}, {"backup", s.path("copy.db")},
		{"doctor", "--reconcile"}, {"config"}} {
		if got := s.run(t, args...); got.code != 0 || got.stderr != "" ||
			got.stdout == "" && args[0] != "user" && args[0] != "backup" && args[1] != "rotate-key" {
			t.Errorf("verenc %s: %v", strings.Join(args, " "), got)
		}
	}
	secret := func(got result) bool { return credentials.MatchString(got.stdout) }
	talking := s.with("VERENC_LOG_LEVEL=debug").run(t, "access-key", "create", "--user", "app")
	if !secret(talking) || !strings.Contains(talking.stderr, `"token connected"`) {
		t.Errorf("with log_level debug: %v", talking)
	}
	if got := s.run(t, "--log-level", "info", "init", "--add-access-key"); !secret(got) ||
		!strings.Contains(got.stderr, `"token connected"`) {
		t.Errorf("with --log-level info: %v", got)
	}
	// A server logs at info.
	r := s.serve(t)
	r.await(t, "token connected", "", "")
}

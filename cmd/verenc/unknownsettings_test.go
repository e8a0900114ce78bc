package main

import (
	"errors"
	"strings"
	"testing"
)

// TestUnknownSettings: the error names each unknown setting as the file does, and the one that may be meant.
func TestUnknownSettings(t *testing.T) {
	for yaml, want := range map[string]string{
		"databse: x":                             "databse is not a setting: did you mean database? (verenc config lists",
		"datbse: x":                              "datbse is not a setting: did you mean database? (verenc",
		"dtbse: x":                               "dtbse is not a setting (verenc",
		"lisen: x":                               "lisen is not a setting: did you mean listen? (verenc",
		"password: x":                            "password is not a setting (verenc",
		"token: {pim_file: x}":                   "token.pim_file is not a setting: did you mean token.pin_file? (verenc",
		"tokn: {pin_file: x}":                    "tokn is not a setting: did you mean token? (verenc",
		"key_stores: [{cluster_id: a, lbel: b}]": "key_stores[0].lbel is not a setting: did you mean key_stores[0].label? (verenc",
		"databse: x\ntokn: {}\ntoken: {sessions: many}": "databse is not a setting: did you mean database?; tokn is not a setting: " +
			"did you mean token?",
	} {
		_, err := nameUnknown(load(t, yaml+"\n", nil))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "main.") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", yaml, err, want)
		}
		if strings.Contains(yaml, "many") && !strings.Contains(err.Error(), "token.sessions") {
			t.Errorf("%s: got %v", yaml, err)
		}
	}
	if _, err := nameUnknown(load(t, "token: {sessions: many}\n", nil)); err == nil ||
		!strings.Contains(err.Error(), "sessions") {
		t.Errorf("got %v", err)
	}
	other := errors.New("another")
	if _, err := nameUnknown(nil, other); err != other {
		t.Errorf("got %v", err)
	}
	s := newSite(t)
	path := s.write(t, "verenc.yaml", "databse: x\n", 0o600)
	for _, args := range [][]string{{"config"}, {"doctor"}, {"user", "list"}} {
		refused(t, s.run(t, append(args, "--config", path)...), "databse is not a setting: did you mean database?")
	}
}

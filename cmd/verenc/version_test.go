package main

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/cmd/verenc/version"
)

// TestVersion: without a configuration the program describes itself; with one it describes the token library too,
// and needs no PIN for it.
func TestVersion(t *testing.T) {
	s := newSite(t)
	s.env = nil
	for _, args := range [][]string{{"--version"}, {"version"}} {
		if r := s.run(t, args...); r.code != 0 || !strings.HasPrefix(r.stdout, "verenc ") ||
			!strings.Contains(r.stdout, runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH+"\n") {
			t.Error(args, r)
		}
	}
	var i version.Info
	readJSON := func(args ...string) {
		t.Helper()
		i = version.Info{}
		if r := s.run(t, append([]string{"version", "--json"}, args...)...); r.code != 0 ||
			json.Unmarshal([]byte(r.stdout), &i) != nil {
			t.Fatal(r)
		}
	}
	readJSON()
	if i.Library != nil || i.Version == "" || i.Go != runtime.Version() || len(i.Modules) < 10 {
		t.Errorf("%+v", i)
	}
	readJSON("-c", s.write(t, "verenc.yaml", "token: {module: "+s.soft.Module+"}\n", 0o600))
	if i.Library == nil || i.Library.Manufacturer != "SoftHSM" || i.Library.Version == "" || i.Library.Cryptoki == "" {
		t.Errorf("%+v", i.Library)
	}
	if !slices.ContainsFunc(i.Tokens, func(token version.Token) bool {
		return token.Label == s.soft.Label && token.Firmware != ""
	}) {
		t.Errorf("%+v", i.Tokens)
	}
	refused(t, s.run(t, "version", "--token-module", s.path("none.so")), "load PKCS#11 module", "none.so")
}

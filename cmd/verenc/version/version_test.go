package version

import (
	"encoding/json"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
)

// TestRead: a release says what the linker was told, another build what Go knows.
func TestRead(t *testing.T) {
	build := &debug.BuildInfo{GoVersion: "go1.99", Main: debug.Module{Version: "v0.0.0-2026+dirty"},
		Deps: []*debug.Module{{Path: "example.com/a", Version: "v1"},
			{Path: "example.com/b", Version: "v1", Replace: &debug.Module{Path: "example.com/c", Version: "v2"}}},
		Settings: []debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "abc"}}}
	if i := read(build, "", ""); i.Version != "v0.0.0-2026+dirty" || i.Commit != "abc-dirty" || i.Go != "go1.99" ||
		!reflect.DeepEqual(i.Modules, []Module{{"example.com/a", "v1"}, {"example.com/c", "v2"}}) {
		t.Errorf("%+v", i)
	}
	if i := read(build, "v1.2.3", "def"); i.Version != "v1.2.3" || i.Commit != "def" {
		t.Errorf("%+v", i)
	}
	if i := read(&debug.BuildInfo{}, "", ""); i.Version != "(devel)" || i.Commit != "" {
		t.Errorf("%+v", i)
	}
}

// TestWrite: the text and the JSON have the same content.
func TestWrite(t *testing.T) {
	i := Info{Version: "v1.2.3", Commit: "def", Go: "go1.99", Platform: "plan9/arm",
		Library: &Library{"/lib/x.so", "Acme", "Token", "4.5", "2.40"},
		Tokens:  []Token{{"blue", "Acme", "Nine", "0007", "6.7"}},
		Modules: []Module{{"example.com/a", "v1"}}}
	var text, object strings.Builder
	if err := i.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if want := `verenc v1.2.3 (def) go1.99 plan9/arm

token library  /lib/x.so
               Acme, Token 4.5, PKCS#11 2.40
token          "blue" (serial 0007), Acme Nine, firmware 6.7

modules
example.com/a  v1
`; text.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", text.String(), want)
	}
	if err := i.WriteJSON(&object); err != nil {
		t.Fatal(err)
	}
	var again Info
	if err := json.Unmarshal([]byte(object.String()), &again); err != nil || !reflect.DeepEqual(again, i) {
		t.Errorf("%+v, %v", again, err)
	}
}

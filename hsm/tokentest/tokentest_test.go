package tokentest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm/tokens"
)

// Environment of the process that runs the suite on a token.
const (
	childModule = "TOKENTEST_MODULE"
	childLabel  = "TOKENTEST_LABEL"
	childPIN    = "TOKENTEST_PIN"
)

var update = flag.Bool("update", false, "write the table of docs/tokens.md anew")

func TestMain(m *testing.M) {
	if os.Getenv(childModule) == "" {
		os.Exit(m.Run())
	}
	run := child
	if len(os.Args) > 1 && os.Args[1] == moduleHost {
		run = hsm.HostModule
	} else if os.Getenv(childHeals) != "" {
		run = func() error { return heals(os.Stdin, os.Stdout) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child runs the suite and prints its results as JSON.
func child() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	results, err := Run(
		ctx,
		hsm.Config{Module: os.Getenv(childModule), Label: os.Getenv(childLabel), PIN: os.Getenv(childPIN),
			CallTimeout: time.Minute, GenerateTimeout: 5 * time.Minute},
	)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// onToken runs the suite on a token, in a process that has its environment.
func onToken(t *testing.T, token *tokens.Token) (results []Result) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := token.Command(t.Context(), self)
	cmd.Env = append(cmd.Env, childModule+"="+token.Module, childLabel+"="+token.Label, childPIN+"="+token.PIN)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return results
}

// TestTokens runs the suite on all kinds of tokens. What the self-test says that a token can do
// works; what it says that it can't, the Token's own method answers with ErrUnsupported.
func TestTokens(t *testing.T) {
	kinds := tokens.Kinds()
	all := map[string][]Result{}
	for _, kind := range kinds {
		t.Run(kind.Name, func(t *testing.T) {
			results := onToken(t, kind.New(t))
			for _, r := range results {
				if !r.Works && !r.Refused {
					t.Errorf("%s: what the token can't do is no ErrUnsupported: %s", r.Capability, r.Error)
				}
				if r.SelfTest != r.Works {
					t.Errorf("%s: the self-test says %v, the suite %v: %s", r.Capability, r.SelfTest, r.Works, r.Error)
				}
			}
			all[kind.Name] = results
		})
	}
	if t.Failed() {
		return
	}
	// SoftHSM can do all but this, and so can it behind p11-kit's proxy; the others have no AES-GCM
	// and can't be used.
	serves := map[string]bool{"softhsm": true, "softhsm-sqlite": true, "p11-kit-proxy": true}
	without := map[string]bool{"data key pairs of Ed25519": true, "Ed25519ph": true}
	for kind, results := range all {
		for _, r := range results {
			if r.Works == without[r.Capability] && serves[kind] {
				t.Errorf("%s: %s: %v %s", kind, r.Capability, r.Works, r.Error)
			}
			if r.Capability == "AES-256-GCM" && r.Works != serves[kind] {
				t.Errorf("%s: AES-GCM works: %v", kind, r.Works)
			}
		}
	}
	checkTable(t, tableOf(kinds, all))
}

// tableOf is the capabilities of each kind as a Markdown table.
func tableOf(kinds []tokens.Kind, all map[string][]Result) string {
	var b strings.Builder
	b.WriteString("| capability |")
	for _, k := range kinds {
		b.WriteString(" " + k.Name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(kinds)) + "\n")
	for i, c := range capabilities {
		b.WriteString("| " + c.name + " |")
		for _, k := range kinds {
			mark := "no"
			if all[k.Name][i].Works {
				mark = "yes"
			}
			b.WriteString(" " + mark + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

const docs = "../../docs/tokens.md"

// checkTable compares docs/tokens.md with what was measured.
func checkTable(t *testing.T, measured string) {
	t.Helper()
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	begin := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "| capability |") })
	if begin < 0 {
		t.Fatalf("there is no table in %s", docs)
	}
	end := begin
	for end < len(lines) && strings.HasPrefix(lines[end], "|") {
		end++
	}
	if got := strings.Join(lines[begin:end], ""); got != measured {
		if *update {
			text := strings.Join(lines[:begin], "") + measured + strings.Join(lines[end:], "")
			if err := os.WriteFile(docs, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Errorf(
			"the table of %s is\n%swhat was measured is\n%s(go test ./hsm/tokentest -update writes it)", docs,
			got, measured,
		)
	}
}

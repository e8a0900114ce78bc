package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const settingsPage = root + "/docs/settings.md"

// TestSettingsPage: docs/settings.md has every setting with its type, default and meaning, as the structures of the
// configuration have them. go test ./cmd/verenc -run TestSettingsPage -update writes its tables anew.
func TestSettingsPage(t *testing.T) {
	page := read(t, settingsPage)
	for section, table := range settingsTables() {
		begin, end := "<!-- generated: "+section+" -->\n", "<!-- end -->"
		before, rest, found := strings.Cut(page, begin)
		got, after, ended := strings.Cut(rest, end)
		switch {
		case !found || !ended:
			t.Errorf("docs/settings.md has no table %s: add %q and %q", section, begin, end)
		case got != table && *update:
			page = before + begin + table + end + after
		case got != table:
			t.Errorf("the table %s differs from the settings: run go test ./cmd/verenc -run TestSettingsPage -update\n%s",
				section, firstDifference(got, table))
		}
	}
	if *update {
		if err := os.WriteFile(settingsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name := range otherVariables {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/settings.md does not have the variable %s", name)
		}
	}
}

// settingsTables are the tables by the section of the file; that of settings without one is "server".
func settingsTables() map[string]string {
	const head = "| setting | type | default | meaning |\n|---|---|---|---|\n"
	tables := map[string]string{}
	c := defaults()
	for _, s := range settings(&c) {
		section, _, nested := strings.Cut(s.key, ".")
		if !nested {
			section = "server"
		}
		if tables[section] == "" {
			tables[section] = head
		}
		value := fmt.Sprint(s.value.Interface())
		if list, ok := s.value.Interface().([]string); ok {
			value = strings.Join(list, ", ")
		}
		tables[section] += row(s, value)
	}
	for section, entry := range map[string]any{"key_stores": &KeyStoreConfig{}, "oidc_issuers": &IssuerConfig{}} {
		tables[section] = head
		for _, s := range leaves(section+".", reflect.ValueOf(entry).Elem()) {
			tables[section] += row(s, "") // what they mean says what their default is
		}
	}
	return tables
}

func row(s setting, text string) string {
	if text != "" {
		text = "`" + text + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", s.key, typeName(s.value.Interface()), text,
		strings.NewReplacer("|", `\|`, "*", `\*`).Replace(s.doc))
}

// typeName is what a setting's value is in YAML.
func typeName(value any) string {
	switch value.(type) {
	case bool:
		return "true or false"
	case int, float64:
		return "number"
	case time.Duration:
		return "time"
	case []string:
		return "list"
	}
	return "text"
}

func firstDifference(got, want string) string {
	old := strings.Split(got, "\n")
	for line := range strings.SplitSeq(want, "\n") {
		if !slices.Contains(old, line) {
			return "it lacks " + line
		}
	}
	return "it has a line too many, or they are in another order"
}

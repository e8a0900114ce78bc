package main

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/go-viper/mapstructure/v2"
)

// nameUnknown returns a configuration and its error as they are, unless the error is of unknown settings. The error
// then names them, and for each the setting that may be meant.
func nameUnknown(c *Config, err error) (*Config, error) {
	var problems []string
	found := false
	for _, e := range decodeErrors(err) {
		// mapstructure has no type of its own for these.
		keys, unknown := strings.CutPrefix(e.Unwrap().Error(), "has invalid keys: ")
		if !unknown {
			problems = append(problems, e.Error())
			continue
		}
		found = true
		for key := range strings.SplitSeq(keys, ", ") {
			problems = append(problems, describeUnknown(e.Name(), key))
		}
	}
	if !found {
		return c, err
	}
	return c, fmt.Errorf("read configuration: %s (verenc config lists the settings)", strings.Join(problems, "; "))
}

// decodeErrors returns the errors of settings that err is made of.
func decodeErrors(err error) (all []*mapstructure.DecodeError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, decodeErrors(e)...)
		}
		return all
	}
	if e, ok := err.(*mapstructure.DecodeError); ok {
		return append(all, e)
	}
	if err == nil {
		return nil
	}
	return decodeErrors(errors.Unwrap(err))
}

var index = regexp.MustCompile(`\[\d+\]`)

// describeUnknown tells of a key that a section doesn't have. A section is as mapstructure names it: token,
// key_stores[0], or the name of the type for the whole.
func describeUnknown(section, key string) string {
	within, prefix := reflect.TypeFor[Config](), ""
	if section != within.String() {
		prefix = section + "."
		for name := range strings.SplitSeq(index.ReplaceAllString(section, ""), ".") {
			within = sectionOf(within, name)
		}
	}
	nearest, distance := "", 3 // more than two wrong letters are another word
	for i := range within.NumField() {
		known := within.Field(i).Tag.Get("koanf")
		if d := editDistance(key, known); known != "" && d < distance {
			nearest, distance = known, d
		}
	}
	text := prefix + key + " is not a setting"
	if nearest != "" {
		text += ": did you mean " + prefix + nearest + "?"
	}
	return text
}

// sectionOf returns the structure of a section, or of a list's elements; an empty one if there is none.
func sectionOf(within reflect.Type, name string) reflect.Type {
	for i := range within.NumField() {
		if f := within.Field(i); f.Tag.Get("koanf") == name {
			if within = f.Type; within.Kind() == reflect.Slice {
				within = within.Elem()
			}
			if within.Kind() == reflect.Struct {
				return within
			}
		}
	}
	return reflect.TypeFor[struct{}]()
}

// editDistance is the Levenshtein distance: how many letters are inserted, removed or replaced.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // of the distances from a[:i] to b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

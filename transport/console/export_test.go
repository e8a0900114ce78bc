package console

import (
	"fmt"
	"slices"
)

// Lacking lists what has no text, and the texts of what there is not.
func Lacking(r Reference) (lacking []string) {
	s, err := newSite(Config{Reference: r}, true)
	if err != nil {
		return []string{err.Error()}
	}
	lack := func(format string, args ...any) { lacking = append(lacking, fmt.Sprintf(format, args...)) }
	var members func(string, []*member)
	members = func(where string, all []*member) {
		for _, m := range all {
			if m.Text == "" {
				lack("%s: %s has no text", where, m.Name)
			}
			members(where+"."+m.Name, m.Nested())
		}
	}
	names := map[string]bool{}
	for _, op := range s.operations {
		names[op.Name] = true
		t := s.texts.operations[op.Name]
		if t == nil || t.Summary == "" || t.Description == "" || len(t.Example) == 0 {
			lack("%s: no summary, no description or no example", op.Name)
			continue
		}
		members(op.Name+" request", op.Request)
		members(op.Name+" response", op.Response)
		for _, e := range op.Errors {
			if e.Text == "" || s.texts.errors[e.Code].Text == "" {
				lack("%s: %s has no text", op.Name, e.Code)
			}
		}
		for _, c := range op.Conditions {
			if c.Text == "" {
				lack("%s: %s has no text", op.Name, c.Key)
			}
		}
		for name := range t.Parameters {
			if !slices.ContainsFunc(op.Request, func(m *member) bool { return m.Name == name }) {
				lack("%s: there is no parameter %s", op.Name, name)
			}
		}
		for name := range t.Response {
			if !slices.ContainsFunc(op.Response, func(m *member) bool { return m.Name == name }) {
				lack("%s: there is no response element %s", op.Name, name)
			}
		}
		for code := range t.Errors {
			if !slices.Contains(op.Operation.Errors, code) {
				lack("%s: there is no error %s", op.Name, code)
			}
		}
	}
	for name := range s.texts.operations {
		if !names[name] {
			lack("there is no operation %s", name)
		}
	}
	slices.Sort(lacking)
	return lacking
}

// RequestsOf gives the examples by operation, each as JSON, curl, CLI, Python and Go.
func RequestsOf(r Reference) (map[string][5]string, error) {
	s, err := newSite(Config{Reference: r}, true)
	if err != nil {
		return nil, err
	}
	all := map[string][5]string{}
	for _, op := range s.operations {
		e := op.Example
		all[op.Name] = [...]string{e.JSON, e.Curl, e.CLI, e.Python, e.Go}
	}
	return all, nil
}

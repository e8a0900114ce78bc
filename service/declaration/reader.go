package declaration

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader collects what a file declares and what is wrong with it.
type reader struct {
	path        string
	declaration Declaration
	problems    []error
}

func (r *reader) place(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", r.path, n.Line, n.Column)
}

func (r *reader) addProblem(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s: %s", r.place(n), fmt.Sprintf(format, args...)))
}

// mapping calls each for the members of a mapping. Their names must be scalars and unique. No value
// is an empty mapping.
func (r *reader) mapping(n *yaml.Node, what string, each func(key, value *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.addProblem(n, "%s must be a mapping (anchors and aliases are not supported)", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			r.addProblem(key, "%s has a name that is not a scalar", what)
		case seen[key.Value]:
			r.addProblem(key, "%s has %q twice", what, key.Value)
		default:
			seen[key.Value] = true
			each(key, n.Content[i+1])
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// fields reads a mapping whose members have known names.
func (r *reader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	r.mapping(n, what, func(key, value *yaml.Node) {
		read := known[key.Value]
		if read == nil {
			var names []string
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			r.addProblem(key, "%s has no field %q: it may have %s", what, key.Value, strings.Join(names, ", "))
			return
		}
		read(value)
	})
}

// text returns a scalar as it is written.
func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || isNull(n) || n.ShortTag() == "!!binary" {
		r.addProblem(n, "%s must be a string", what)
		return ""
	}
	return n.Value
}

// texts reads a mapping of names to what read returns for their values, and adds their places.
func (r *reader) texts(n *yaml.Node, what string, places map[string]*yaml.Node,
	read func(*yaml.Node, string) string) map[string]string {
	m := map[string]string{}
	r.mapping(n, what, func(key, value *yaml.Node) {
		field := what + "." + key.Value
		places[field] = key
		m[key.Value] = read(value, field)
	})
	return m
}

// reference reads a mapping that has one member, of one of the given names. A value of another kind
// has no name.
func (r *reader) reference(n *yaml.Node, what string, names ...string) (name, value string) {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || !slices.Contains(names, n.Content[0].Value) {
		return "", ""
	}
	return n.Content[0].Value, r.text(n.Content[1], what)
}

// resolve returns a path that is relative to the file.
func (r *reader) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(r.path), path)
}

// policy returns the JSON of a policy, which is in another file, or is written here as a mapping or
// as a string of JSON.
func (r *reader) policy(n *yaml.Node, what string) string {
	if name, path := r.reference(n, what, "file"); name != "" {
		text, err := ReadPolicy(r.resolve(path))
		if err != nil {
			r.addProblem(n, "%s: %v", what, err)
		}
		return text
	}
	if n.Kind == yaml.ScalarNode {
		if n.Value == "" && !isNull(n) {
			r.addProblem(n, "%s must be a policy, not an empty string", what)
		}
		return r.text(n, what)
	}
	text, err := jsonOf(nil, n)
	if err != nil {
		r.addProblem(n, "%s: %v", what, err)
	}
	return string(text)
}

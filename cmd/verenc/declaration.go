package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/verenc/kms/service"
)

// A declaration of principals is a YAML file:
//
//	accounts:
//	  "111122223333":
//	    users:
//	      app:
//	        path: /service/                # default /
//	        tags: {team: blue}
//	        policies:                      # identity policies by name
//	          decrypt: {file: decrypt.json}  # relative to this file; in JSON or YAML
//	          list:                        # or here
//	            Version: "2012-10-17"
//	            Statement: {Effect: Allow, Action: "kms:ListKeys", Resource: "*"}
//	        boundary: {file: boundary.json}
//	        certificates: [{file: app.pem}, {fingerprint: 00:11:...}]
//	    roles:
//	      auditor:
//	        trust: {file: trust.json}
//	        max_session: 3600              # seconds
//
// What it says of a principal is all that there is of it, but for its access keys.

// readDeclaration reads such a file, or says all that is wrong with it, each with its place.
func readDeclaration(path string, text []byte) (*service.Declaration, error) {
	r := declarationReader{path: path}
	if root, err := parseYAML(text); err != nil {
		r.problems = append(r.problems, fmt.Errorf("%s: %w", path, err))
	} else {
		r.fields(root, "the file", map[string]func(*yaml.Node){
			"accounts": func(n *yaml.Node) { r.mapping(n, "accounts", r.account) },
		})
		if len(r.declaration.Accounts) == 0 && r.problems == nil {
			r.complain(root, "there are no accounts")
		}
	}
	return &r.declaration, errors.Join(r.problems...)
}

// parseYAML reads the one document of a text.
func parseYAML(text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	if err := d.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, err
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document")
	}
	return document.Content[0], nil
}

// declarationReader collects what a file declares, and what is wrong with it.
type declarationReader struct {
	path        string
	declaration service.Declaration
	problems    []error
}

func (r *declarationReader) place(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", r.path, n.Line, n.Column)
}

func (r *declarationReader) complain(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s: %s", r.place(n), fmt.Sprintf(format, args...)))
}

// mapping calls each for the members of a mapping, whose names are scalars and unique. Nothing is an empty one.
func (r *declarationReader) mapping(n *yaml.Node, what string, each func(key, value *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.complain(n, "%s must be a mapping (anchors and aliases are not taken)", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			r.complain(key, "%s has a name that is no text", what)
		case seen[key.Value]:
			r.complain(key, "%s has %q twice", what, key.Value)
		default:
			seen[key.Value] = true
			each(key, n.Content[i+1])
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// fields is mapping for names that are known.
func (r *declarationReader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	r.mapping(n, what, func(key, value *yaml.Node) {
		read := known[key.Value]
		if read == nil {
			var names []string
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			r.complain(key, "%s has no field %q: it may have %s", what, key.Value, strings.Join(names, ", "))
			return
		}
		read(value)
	})
}

// text reads a scalar as it is written.
func (r *declarationReader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || isNull(n) || n.ShortTag() == "!!binary" {
		r.complain(n, "%s must be a text", what)
		return ""
	}
	return n.Value
}

func (r *declarationReader) account(key, value *yaml.Node) {
	if !isAccount(key.Value) {
		r.complain(key, "account %q is not 12 digits", key.Value)
		return
	}
	r.declaration.Accounts = append(r.declaration.Accounts, key.Value)
	all := func(kind service.PrincipalKind) func(*yaml.Node) {
		return func(n *yaml.Node) {
			r.mapping(n, string(kind)+"s", func(name, value *yaml.Node) { r.principal(key.Value, kind, name, value) })
		}
	}
	r.fields(value, "account "+key.Value, map[string]func(*yaml.Node){"users": all(service.KindUser), "roles": all(service.KindRole)})
}

func (r *declarationReader) principal(account string, kind service.PrincipalKind, name, value *yaml.Node) {
	d := service.Declared{Place: r.place(name)}
	d.Account, d.Kind, d.Name = account, kind, name.Value
	path, what := "/", fmt.Sprintf("%s %s", kind, name.Value)
	places := map[string]*yaml.Node{} // of fields
	before := len(r.problems)

	fields := map[string]func(*yaml.Node){
		"path": func(n *yaml.Node) {
			places["path"] = n
			path = r.text(n, "path")
		},
		"tags": func(n *yaml.Node) {
			places["tags"] = n
			d.Tags = r.texts(n, "tags", places, r.text)
		},
		"policies": func(n *yaml.Node) {
			places["policies"] = n
			d.Policies = r.texts(n, "policies", places, r.policy)
		},
		"boundary": func(n *yaml.Node) {
			places["boundary"] = n
			d.Boundary = r.policy(n, "boundary")
		},
	}
	if kind == service.KindUser {
		fields["certificates"] = func(n *yaml.Node) { d.Certificates = r.certificates(n) }
	} else {
		fields["trust"] = func(n *yaml.Node) {
			places["trust"] = n
			d.Trust = r.policy(n, "trust")
		}
		fields["max_session"] = func(n *yaml.Node) {
			places["max_session"] = n
			d.MaxSession = r.seconds(n)
		}
	}
	r.fields(value, what, fields)
	d.ARN = service.PrincipalARN(account, kind, path, d.Name)
	if len(r.problems) == before { // else the rest may follow from what could not be read
		for _, problem := range d.Problems() {
			place := places[problem.Field]
			if place == nil {
				place = name
			}
			r.complain(place, "%s: %s: %s", what, problem.Field, problem.Text)
		}
	}
	r.declaration.Principals = append(r.declaration.Principals, d)
}

// texts reads a mapping of names to what read makes of the values, and notes their places.
func (r *declarationReader) texts(n *yaml.Node, what string, places map[string]*yaml.Node, read func(*yaml.Node, string) string) map[string]string {
	m := map[string]string{}
	r.mapping(n, what, func(key, value *yaml.Node) {
		field := what + "." + key.Value
		places[field] = key
		m[key.Value] = read(value, field)
	})
	return m
}

func (r *declarationReader) seconds(n *yaml.Node) int32 {
	v, err := strconv.ParseInt(r.text(n, "max_session"), 10, 32)
	if err != nil {
		r.complain(n, "max_session must be a number of seconds")
	}
	return int32(v)
}

// reference reads the mapping of one of some names to a text.
func (r *declarationReader) reference(n *yaml.Node, what string, names ...string) (name, value string) {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || !slices.Contains(names, n.Content[0].Value) {
		return "", ""
	}
	return n.Content[0].Value, r.text(n.Content[1], what)
}

// beside is a path as the file means it.
func (r *declarationReader) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(r.path), path)
}

func (r *declarationReader) certificates(n *yaml.Node) (fingerprints []string) {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.complain(n, "certificates must be a list")
		return nil
	}
	for _, item := range n.Content {
		name, value := r.reference(item, "a certificate", "file", "fingerprint")
		var fingerprint string
		var err error
		switch name {
		case "file":
			fingerprint, err = certificateFile(r.beside(value))
		case "fingerprint":
			fingerprint, err = service.ParseFingerprint(value)
		default:
			err = errors.New("a certificate must have a file or a fingerprint")
		}
		if err != nil {
			r.complain(item, "%v", err)
			continue
		}
		fingerprints = append(fingerprints, fingerprint)
	}
	return fingerprints
}

// policy gives the JSON of a policy, which is in another file, or here as a mapping, or here as a text of JSON.
func (r *declarationReader) policy(n *yaml.Node, what string) string {
	if name, path := r.reference(n, what, "file"); name != "" {
		text, err := readPolicy(r.beside(path))
		if err != nil {
			r.complain(n, "%s: %v", what, err)
		}
		return text
	}
	if n.Kind == yaml.ScalarNode {
		if n.Value == "" && !isNull(n) {
			r.complain(n, "%s must be a policy, not an empty text", what)
		}
		return r.text(n, what)
	}
	text, err := jsonOf(nil, n)
	if err != nil {
		r.complain(n, "%s: %v", what, err)
	}
	return string(text)
}

// readPolicy reads a file of JSON or YAML; no path is no policy.
func readPolicy(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := readFile(path)
	if err != nil || json.Valid(text) {
		return string(text), err
	}
	root, err := parseYAML(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if text, err = jsonOf(nil, root); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(text), nil
}

// jsonOf appends the JSON of a YAML value, with members in their order.
func jsonOf(b []byte, n *yaml.Node) (_ []byte, err error) {
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				b = append(b, ',')
			}
			if n.Content[i].Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: a name must be a text", n.Content[i].Line)
			}
			b = append(quoteJSON(b, n.Content[i].Value), ':')
			if b, err = jsonOf(b, n.Content[i+1]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case yaml.SequenceNode:
		b = append(b, '[')
		for i, item := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = jsonOf(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case yaml.ScalarNode:
		return jsonOfScalar(b, n)
	}
	return nil, fmt.Errorf("line %d: anchors and aliases are not taken", n.Line)
}

func jsonOfScalar(b []byte, n *yaml.Node) ([]byte, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp": // a date without quotes is a text, as in Version
		return quoteJSON(b, n.Value), nil
	case "!!null":
		return append(b, "null"...), nil
	case "!!bool":
		return append(b, strings.ToLower(n.Value)...), nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return append(b, n.Value...), nil
		}
	}
	return nil, fmt.Errorf("line %d: %q needs quotes", n.Line, n.Value)
}

func quoteJSON(b []byte, s string) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

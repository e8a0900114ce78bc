package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/verenc/kms/service/iam"
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
// It is complete: a principal loses what the file does not mention, except its access keys.

// readDeclaration reads such a file, or returns everything that is wrong with it, with its places.
func readDeclaration(path string, text []byte) (*iam.Declaration, error) {
	r := declarationReader{path: path}
	if root, err := parseYAML(text); err != nil {
		r.problems = append(r.problems, fmt.Errorf("%s: %w", path, err))
	} else {
		r.fields(root, "the file", map[string]func(*yaml.Node){
			"accounts": func(n *yaml.Node) { r.mapping(n, "accounts", r.account) },
		})
		if len(r.declaration.Accounts) == 0 && r.problems == nil {
			r.addProblem(root, "there are no accounts")
		}
	}
	return &r.declaration, errors.Join(r.problems...)
}

// parseYAML reads a text of one document.
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

// declarationReader collects what a file declares and what is wrong with it.
type declarationReader struct {
	path        string
	declaration iam.Declaration
	problems    []error
}

func (r *declarationReader) place(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", r.path, n.Line, n.Column)
}

func (r *declarationReader) addProblem(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s: %s", r.place(n), fmt.Sprintf(format, args...)))
}

// mapping calls each for the members of a mapping. Their names must be scalars and unique. No value
// is an empty mapping.
func (r *declarationReader) mapping(n *yaml.Node, what string, each func(key, value *yaml.Node)) {
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
func (r *declarationReader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
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
func (r *declarationReader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || isNull(n) || n.ShortTag() == "!!binary" {
		r.addProblem(n, "%s must be a string", what)
		return ""
	}
	return n.Value
}

func (r *declarationReader) account(key, value *yaml.Node) {
	if !isAccount(key.Value) {
		r.addProblem(key, "account %q is not 12 digits", key.Value)
		return
	}
	r.declaration.Accounts = append(r.declaration.Accounts, key.Value)
	all := func(kind iam.PrincipalKind) func(*yaml.Node) {
		return func(n *yaml.Node) {
			r.mapping(n, string(kind)+"s", func(name, value *yaml.Node) { r.principal(key.Value, kind, name, value) })
		}
	}
	r.fields(value, "account "+key.Value, map[string]func(*yaml.Node){
		"users": all(iam.KindUser),
		"roles": all(iam.KindRole),
	})
}

func (r *declarationReader) principal(account string, kind iam.PrincipalKind, name, value *yaml.Node) {
	d := iam.Declared{Place: r.place(name)}
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
	if kind == iam.KindUser {
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
	d.ARN = iam.PrincipalARN(account, kind, path, d.Name)
	if len(r.problems) == before { // or problems may follow from what could not be read
		for _, problem := range d.Problems() {
			place := places[problem.Field]
			if place == nil {
				place = name
			}
			r.addProblem(place, "%s: %s: %s", what, problem.Field, problem.Text)
		}
	}
	r.declaration.Principals = append(r.declaration.Principals, d)
}

// texts reads a mapping of names to what read returns for their values, and adds their places.
func (r *declarationReader) texts(n *yaml.Node, what string, places map[string]*yaml.Node,
	read func(*yaml.Node, string) string) map[string]string {
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
		r.addProblem(n, "max_session must be a number of seconds")
	}
	return int32(v)
}

// reference reads a mapping that has one member, of one of the given names. A value of another kind
// has no name.
func (r *declarationReader) reference(n *yaml.Node, what string, names ...string) (name, value string) {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || !slices.Contains(names, n.Content[0].Value) {
		return "", ""
	}
	return n.Content[0].Value, r.text(n.Content[1], what)
}

// resolve returns a path that is relative to the file.
func (r *declarationReader) resolve(path string) string {
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
		r.addProblem(n, "certificates must be a list")
		return nil
	}
	for _, item := range n.Content {
		name, value := r.reference(item, "a certificate", "file", "fingerprint")
		var fingerprint string
		var err error
		switch name {
		case "file":
			fingerprint, err = fingerprintOfFile(r.resolve(value))
		case "fingerprint":
			fingerprint, err = iam.ParseFingerprint(value)
		default:
			err = errors.New("a certificate must have a file or a fingerprint")
		}
		if err != nil {
			r.addProblem(item, "%v", err)
			continue
		}
		fingerprints = append(fingerprints, fingerprint)
	}
	return fingerprints
}

// policy returns the JSON of a policy, which is in another file, or is written here as a mapping or
// as a string of JSON.
func (r *declarationReader) policy(n *yaml.Node, what string) string {
	if name, path := r.reference(n, what, "file"); name != "" {
		text, err := readPolicy(r.resolve(path))
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

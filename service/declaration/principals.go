package declaration

import (
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
)

func (r *reader) account(key, value *yaml.Node) {
	if !arn.IsAccount(key.Value) {
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
		"keys":  func(n *yaml.Node) { r.keys(key.Value, n) },
		"guard": func(n *yaml.Node) { r.guard(key.Value, n) },
	})
}

// guard reads an account's guard. An empty mapping says that there is to be none.
func (r *reader) guard(account string, n *yaml.Node) {
	g := iam.DeclaredGuard{Account: account, Place: r.place(n)}
	if n.Kind != yaml.MappingNode || len(n.Content) > 0 {
		if g.Document = r.policy(n, "guard"); g.Document == "" {
			return // which is a problem already
		}
	}
	r.declaration.Guards = append(r.declaration.Guards, g)
}

func (r *reader) principal(account string, kind iam.PrincipalKind, name, value *yaml.Node) {
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

func (r *reader) seconds(n *yaml.Node) int32 {
	v, err := strconv.ParseInt(r.text(n, "max_session"), 10, 32)
	if err != nil {
		r.addProblem(n, "max_session must be a number of seconds")
	}
	return int32(v)
}

func (r *reader) certificates(n *yaml.Node) (fingerprints []string) {
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
			fingerprint, err = FingerprintOfFile(r.resolve(value))
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

// FingerprintOfFile returns the fingerprint of the certificate in a PEM file.
func FingerprintOfFile(path string) (string, error) {
	text, err := ReadFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("%s does not begin with a certificate in PEM", path)
	}
	return iam.Fingerprint(block.Bytes), nil
}

package declaration

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
		fields["access_key_days"] = func(n *yaml.Node) {
			places["access_key_days"] = n
			d.AccessKeyDays = r.number(n, "access_key_days", "days")
		}
	} else {
		fields["trust"] = func(n *yaml.Node) {
			places["trust"] = n
			d.Trust = r.policy(n, "trust")
		}
		fields["max_session"] = func(n *yaml.Node) {
			places["max_session"] = n
			d.MaxSession = r.number(n, "max_session", "seconds")
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

func (r *reader) number(n *yaml.Node, what, unit string) int32 {
	v, err := strconv.ParseInt(r.text(n, what), 10, 32)
	if err != nil {
		r.addProblem(n, "%s must be a number of %s", what, unit)
	}
	return int32(v)
}

func (r *reader) certificates(n *yaml.Node) (names []string) {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.addProblem(n, "certificates must be a list")
		return nil
	}
	for _, item := range n.Content {
		form, value := r.reference(item, "a certificate", "file", "fingerprint", "spiffe_id", "dns", "subject")
		name, err := r.certificate(form, value)
		if err != nil {
			r.addProblem(item, "%v", err)
			continue
		}
		names = append(names, name)
	}
	return names
}

// nameForms are the fields that name certificates by something else than a fingerprint, and the prefixes of these names
// in iam. A SPIFFE ID is shown with its prefix.
var nameForms = []struct{ field, prefix, shown string }{{"spiffe_id", "spiffe://", "spiffe://"}, {"dns", "dns:", ""},
	{"subject", "subject:", ""}}

// certificate returns the name of the certificates that one member of a list declares.
func (r *reader) certificate(form, value string) (string, error) {
	switch form {
	case "file":
		return FingerprintOfFile(r.resolve(value))
	case "fingerprint":
		if iam.HasNamePrefix(value) {
			return "", fmt.Errorf("%q is not a fingerprint", value)
		}
		return iam.ParseCertificateName(value)
	}
	for _, f := range nameForms {
		if form != f.field {
			continue
		}
		if f.shown != "" && !strings.HasPrefix(value, f.shown) {
			return "", fmt.Errorf("%q is not a SPIFFE ID: it does not begin with %s", value, f.shown)
		}
		return iam.ParseCertificateName(f.prefix + strings.TrimPrefix(value, f.shown))
	}
	return "", errors.New("a certificate must have a file, a fingerprint, a spiffe_id, a dns name or a subject")
}

// FingerprintOfFile returns the fingerprint of the certificate in a PEM file.
func FingerprintOfFile(path string) (string, error) {
	der, err := derOfFile(path)
	if err != nil {
		return "", err
	}
	return iam.Fingerprint(der), nil
}

// CertificateOfFile returns the certificate in a PEM file.
func CertificateOfFile(path string) (*x509.Certificate, error) {
	der, err := derOfFile(path)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}

func derOfFile(path string) ([]byte, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s does not begin with a certificate in PEM", path)
	}
	return block.Bytes, nil
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/verenc/kms/service/iam"
)

func (m principalCommands) export() *cobra.Command {
	return m.command("export", "Print all users and roles as a declaration for verenc apply", func(j *job) error {
		principals, err := j.directory.Principals(j.ctx)
		if err != nil {
			return err
		}
		certificates, err := j.directory.Certificates(j.ctx)
		if err != nil {
			return err
		}
		root, err := declarationOf(principals, certificates)
		if err != nil {
			return err
		}
		return writeYAML(j.out, root)
	})
}

// declarationOf makes the declaration of principals, which are in order of their ARNs.
func declarationOf(principals []*iam.Principal, certificates []*iam.Certificate) (*yaml.Node, error) {
	accounts := emptyMapping()
	for _, p := range principals {
		declared, err := declare(p, certificates)
		if err != nil {
			return nil, err
		}
		put(within(within(accounts, p.Account), string(p.Kind)+"s"), p.Name, declared)
	}
	root := emptyMapping()
	put(root, "accounts", accounts)
	return root, nil
}

// showPrincipal prints a principal as its declaration, and what declarations leave out.
func (j *job) showPrincipal(kind iam.PrincipalKind) error {
	p, err := j.find(kind, j.args[0])
	if err != nil {
		return err
	}
	shown := emptyMapping()
	put(shown, "arn", textNode(p.ARN))
	put(shown, "id", textNode(p.UniqueID))
	put(shown, "created", textNode(p.CreatedAt.Format(time.RFC3339)))
	keys, err := j.directory.AccessKeys(j.ctx, p.ARN)
	if err != nil {
		return err
	}
	for _, k := range keys {
		row := describeAccessKey(k)
		put(within(shown, "access_keys"), k.ID, textNode(row[1]+", last used "+row[3]))
	}
	certificates, err := j.directory.Certificates(j.ctx)
	if err != nil {
		return err
	}
	declared, err := declare(p, certificates)
	if err != nil {
		return err
	}
	shown.Content = append(shown.Content, declared.Content...)
	return writeYAML(j.out, shown)
}

// declare makes a principal's part of the declaration. The certificates are those of all principals.
func declare(p *iam.Principal, certificates []*iam.Certificate) (*yaml.Node, error) {
	d := emptyMapping()
	if path := p.Path(); path != "/" {
		put(d, "path", textNode(path))
	}
	for _, key := range slices.Sorted(maps.Keys(p.Tags)) {
		put(within(d, "tags"), key, textNode(p.Tags[key]))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Policies)) {
		if err := putPolicy(within(d, "policies"), name, p.Policies[name]); err != nil {
			return nil, fmt.Errorf("policy %s of %s: %w", name, p.ARN, err)
		}
	}
	if err := putPolicy(d, "boundary", p.Boundary); err != nil {
		return nil, fmt.Errorf("boundary of %s: %w", p.ARN, err)
	}
	if err := putPolicy(d, "trust", p.Trust); err != nil {
		return nil, fmt.Errorf("trust policy of %s: %w", p.ARN, err)
	}
	if p.MaxSession != 0 {
		put(d, "max_session", &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.Itoa(int(p.MaxSession))})
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, c := range certificates {
		if c.PrincipalARN == p.ARN {
			item := emptyMapping()
			put(item, "fingerprint", textNode(c.Fingerprint))
			list.Content = append(list.Content, item)
		}
	}
	if list.Content != nil {
		put(d, "certificates", list)
	}
	return d, nil
}

func emptyMapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

func put(mapping *yaml.Node, name string, value *yaml.Node) {
	mapping.Content = append(mapping.Content, textNode(name), value)
}

// within returns the last member of a mapping if it has this name; otherwise it adds a member.
func within(mapping *yaml.Node, name string) *yaml.Node {
	if n := len(mapping.Content); n > 0 && mapping.Content[n-2].Value == name {
		return mapping.Content[n-1]
	}
	inner := emptyMapping()
	put(mapping, name, inner)
	return inner
}

// textNode returns a string node. A string that would span lines, or contains invisible characters,
// is in double quotes with escapes.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// putPolicy adds a policy's JSON as YAML. An empty text is no policy.
func putPolicy(mapping *yaml.Node, name, text string) error {
	if text == "" {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	n, err := yamlOf(d)
	if err == nil {
		put(mapping, name, n)
	}
	return err
}

// yamlOf reads the next JSON value and keeps the order of members.
func yamlOf(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		for d.More() {
			item, err := yamlOf(d) // in an object: a name, then a value
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		_, err := d.Token() // the closing delimiter
		return n, err
	case string:
		return textNode(t), nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: t.String()}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(token)}, nil // true or false; no policy contains null
}

func writeYAML(out io.Writer, root *yaml.Node) error {
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	return e.Close()
}

package declaration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/iam"
)

// Export writes the principals, guards and keys of all accounts as a declaration. It has no secrets and no key
// material, and leaves out what no declaration can bring back, which omitted is told: keys that are to be deleted, and
// those of custom key stores. The same principals and keys are always written in the same bytes.
func Export(ctx context.Context, out io.Writer, directory *iam.Directory, store Store, omitted func(string)) error {
	principals, err := directory.Principals(ctx)
	if err != nil {
		return err
	}
	certificates, err := directory.Certificates(ctx)
	if err != nil {
		return err
	}
	all := accounts{}
	if err := all.addPrincipals(principals, certificates); err != nil {
		return err
	}
	guards, err := directory.Guards(ctx)
	if err != nil {
		return err
	}
	for _, g := range guards {
		if err := putPolicy(all.of(g.Account), "guard", g.Document); err != nil {
			return fmt.Errorf("guard of account %s: %w", g.Account, err)
		}
	}
	err = evidence.EachKey(ctx, store, func(k *service.Key) error {
		if why := whyOmitted(k); why != "" {
			omitted("key " + k.Region + "/" + k.ID + " " + why)
			return nil
		}
		declared, err := declareKey(ctx, k, store)
		if err != nil {
			return fmt.Errorf("key %s: %w", k.ID, err)
		}
		put(within(within(all.of(k.Account), "keys"), k.Region), k.ID, declared)
		return nil
	})
	if err != nil {
		return err
	}
	return writeYAML(out, all.root())
}

// accounts are the parts of a declaration by account.
type accounts map[string]*yaml.Node

func (a accounts) of(account string) *yaml.Node {
	if a[account] == nil {
		a[account] = emptyMapping()
	}
	return a[account]
}

// addPrincipals adds principals, which are in order of their ARNs: in an account, roles come before users.
func (a accounts) addPrincipals(principals []*iam.Principal, certificates []*iam.Certificate) error {
	for _, p := range principals {
		declared, err := declare(p, certificates)
		if err != nil {
			return err
		}
		put(within(a.of(p.Account), string(p.Kind)+"s"), p.Name, declared)
	}
	return nil
}

func (a accounts) root() *yaml.Node {
	all := emptyMapping()
	for _, name := range slices.Sorted(maps.Keys(a)) {
		put(all, name, a[name])
	}
	root := emptyMapping()
	put(root, "accounts", all)
	return root
}

// whyOmitted says why a key is not exported; empty: it is.
func whyOmitted(k *service.Key) string {
	switch {
	case k.CustomKeyStore != "":
		return "is in the custom key store " + k.CustomKeyStore
	case k.State == service.StateCreating, k.State == service.StateDeleting, k.State == service.StatePendingDeletion,
		k.State == service.StatePendingReplicaDeletion:
		return "is in state " + string(k.State)
	}
	return ""
}

// declareKey makes a key's part of the declaration. Whether a key with imported material is enabled is left out:
// where the file is applied, it waits for its material first.
func declareKey(ctx context.Context, k *service.Key, store Store) (*yaml.Node, error) {
	d := emptyMapping()
	isReplica := k.PrimaryRegion != "" && k.PrimaryRegion != k.Region
	if isReplica {
		put(d, "primary", textNode(k.PrimaryRegion))
	} else {
		put(d, "spec", textNode(k.Spec))
		put(d, "usage", textNode(k.Usage))
		if k.Origin != originKMS {
			put(d, "origin", textNode(k.Origin))
		}
	}
	if k.Description != "" {
		put(d, "description", textNode(k.Description))
	}
	if k.State == service.StateDisabled && k.Origin == originKMS {
		put(d, "enabled", plainNode("false"))
	}
	if k.Rotation.PeriodDays > 0 && !isReplica {
		put(d, "rotation", plainNode(strconv.Itoa(int(k.Rotation.PeriodDays))))
	}
	if err := putPolicy(d, "policy", k.Policy); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	tags := map[string]string{}
	for _, t := range k.Tags {
		tags[t.TagKey] = t.TagValue
	}
	putTexts(d, "tags", tags)
	aliases, err := store.Aliases(ctx, k.Account, k.Region, k.ID, "", manyAliases) // in order
	if err != nil {
		return nil, fmt.Errorf("read aliases: %w", err)
	}
	var names []string
	for _, a := range aliases {
		names = append(names, a.Name)
	}
	putList(d, "aliases", names)
	rows, err := store.GrantsOf(ctx, k.Region, k.ID)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	grants := make([]Grant, 0, len(rows))
	for _, g := range rows {
		grants = append(grants, grantOf(g))
	}
	// Their ids are random, so that the order of rows is not the same everywhere.
	slices.SortFunc(grants, func(a, b Grant) int { return strings.Compare(a.terms(), b.terms()) })
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range grants {
		list.Content = append(list.Content, declareGrant(&grants[i]))
	}
	if list.Content != nil {
		put(d, "grants", list)
	}
	return d, nil
}

func declareGrant(g *Grant) *yaml.Node {
	d := emptyMapping()
	text := func(name, value string) {
		if value != "" {
			put(d, name, textNode(value))
		}
	}
	text("name", g.Name)
	text("grantee", g.Grantee)
	text("grantee_service", g.GranteeService)
	text("retiring", g.Retiring)
	text("retiring_service", g.RetiringService)
	putList(d, "operations", g.Operations)
	putTexts(d, "context_equals", g.Equals)
	putTexts(d, "context_subset", g.Subset)
	text("source_arn", g.SourceARN)
	return d
}

// WritePrincipal writes a principal as its declaration, after what declarations leave out. accessKeys are their ids
// with what is said of each; certificates are those of all principals.
func WritePrincipal(out io.Writer, p *iam.Principal, accessKeys [][2]string, certificates []*iam.Certificate) error {
	shown := emptyMapping()
	put(shown, "arn", textNode(p.ARN))
	put(shown, "id", textNode(p.UniqueID))
	put(shown, "created", textNode(p.CreatedAt.Format(time.RFC3339)))
	for _, k := range accessKeys {
		put(within(shown, "access_keys"), k[0], textNode(k[1]))
	}
	declared, err := declare(p, certificates)
	if err != nil {
		return err
	}
	shown.Content = append(shown.Content, declared.Content...)
	return writeYAML(out, shown)
}

// declare makes a principal's part of the declaration. The certificates are those of all principals.
func declare(p *iam.Principal, certificates []*iam.Certificate) (*yaml.Node, error) {
	d := emptyMapping()
	if path := p.Path(); path != "/" {
		put(d, "path", textNode(path))
	}
	putTexts(d, "tags", p.Tags)
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
		put(d, "max_session", plainNode(strconv.Itoa(int(p.MaxSession))))
	}
	if p.AccessKeyDays != 0 {
		put(d, "access_key_days", plainNode(strconv.Itoa(int(p.AccessKeyDays))))
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, c := range certificates {
		if c.PrincipalARN == p.ARN {
			item := emptyMapping()
			form, value := "fingerprint", c.Name
			for _, f := range nameForms {
				if text, ok := strings.CutPrefix(c.Name, f.prefix); ok {
					form, value = f.field, f.shown+text
				}
			}
			put(item, form, textNode(value))
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

// putTexts adds a mapping of texts, in order of their names, if there are any.
func putTexts(mapping *yaml.Node, name string, texts map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		put(within(mapping, name), key, textNode(texts[key]))
	}
}

// putList adds a list of texts, if there are any.
func putList(mapping *yaml.Node, name string, texts []string) {
	if len(texts) == 0 {
		return
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, text := range texts {
		list.Content = append(list.Content, textNode(text))
	}
	put(mapping, name, list)
}

// plainNode returns a number or a truth value.
func plainNode(value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: value} }

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
		return plainNode(t.String()), nil
	}
	return plainNode(fmt.Sprint(token)), nil // true or false; no policy contains null
}

func writeYAML(out io.Writer, root *yaml.Node) error {
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	return e.Close()
}

package policy

import (
	"encoding/json"
	"slices"
	"strings"
)

type jsonKind int

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonString
	jsonList
	jsonObject
)

// maxDepth limits how deep objects and lists may be nested. The deepest in the policy language is a
// list of condition values: 6.
const maxDepth = 8

// node is a JSON value that keeps the order of members. Of two members with the same name,
// encoding/json would keep the last.
type node struct {
	kind    jsonKind
	text    string // of a string, number or boolean
	items   []node // of a list
	members []member
}

type member struct {
	name  string
	value node
}

func parseJSON(text string) (*node, error) {
	if !json.Valid([]byte(text)) {
		return nil, malformed("Syntax errors in policy.")
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	n, err := readNode(d, 0)
	return &n, err
}

func readNode(d *json.Decoder, depth int) (n node, err error) {
	if depth > maxDepth {
		return n, malformed("The policy is nested too deeply.")
	}
	token, err := d.Token()
	if err != nil {
		return n, malformed("Syntax errors in policy.")
	}
	switch t := token.(type) {
	case string:
		return node{kind: jsonString, text: t}, nil
	case json.Number:
		return node{kind: jsonNumber, text: t.String()}, nil
	case bool:
		n.kind, n.text = jsonBool, "false"
		if t {
			n.text = "true"
		}
		return n, nil
	case json.Delim:
		if t == '[' {
			n.kind = jsonList
			for d.More() {
				item, err := readNode(d, depth+1)
				if err != nil {
					return n, err
				}
				n.items = append(n.items, item)
			}
		} else if err := readMembers(d, depth, &n); err != nil {
			return n, err
		}
		_, err = d.Token() // the closing delimiter
	}
	return n, err
}

func readMembers(d *json.Decoder, depth int, n *node) error {
	n.kind = jsonObject
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return malformed("Syntax errors in policy.")
		}
		name, _ := token.(string)
		if seen[name] {
			return malformed("The policy has the element %s twice in one object.", printable(name))
		}
		seen[name] = true
		value, err := readNode(d, depth+1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{name, value})
	}
	return nil
}

// printable returns a name from the policy in the form in which an error may repeat it, without what is
// long or unprintable.
func printable(name string) string {
	if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == '"' }) {
		return "with an unusual name"
	}
	return `"` + name + `"`
}

// object returns an object's members, which must be among the names.
func (n *node) object(what string, names ...string) (map[string]*node, error) {
	if n.kind != jsonObject {
		return nil, malformed("%s must be an object.", what)
	}
	members := make(map[string]*node, len(n.members))
	for i := range n.members {
		m := &n.members[i]
		if !slices.Contains(names, m.name) {
			return nil, malformed("%s must not have the element %s.", what, printable(m.name))
		}
		members[m.name] = &m.value
	}
	return members, nil
}

// list returns the items of a list, or a single value as a list of one. There must be at least one,
// and all must be of the kinds.
func (n *node) list(what string, kinds ...jsonKind) ([]node, error) {
	items := []node{*n}
	if n.kind == jsonList {
		items = n.items
	}
	if len(items) == 0 {
		return nil, malformed("%s must not be empty.", what)
	}
	for i := range items {
		if !slices.Contains(kinds, items[i].kind) {
			return nil, malformed("%s has a value of the wrong type.", what)
		}
	}
	return items, nil
}

// strings returns a string, or a list of strings. None may be empty.
func (n *node) strings(what string) ([]string, error) {
	items, err := n.list(what, jsonString)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(items))
	for i := range items {
		if texts[i] = items[i].text; texts[i] == "" {
			return nil, malformed("%s has an empty string.", what)
		}
	}
	return texts, nil
}

package console

import (
	"fmt"
	"html/template"
	"reflect"
	"strings"
)

// kind is how a member looks in JSON, and which field it gets in a form.
type kind string

const (
	kindString    kind = "string"
	kindBlob      kind = "blob" // in base64
	kindBoolean   kind = "boolean"
	kindInteger   kind = "integer"
	kindTimestamp kind = "timestamp" // seconds since 1970
	kindMap       kind = "map"       // of strings
	kindList      kind = "list"
	kindStructure kind = "structure"
)

// member is a member of a request or a response. Its tags make it the description from which a
// page's script makes a form.
type member struct {
	Name      string    `json:"name,omitempty"` // empty for the elements of a list
	Kind      kind      `json:"kind"`
	Shape     string    `json:"shape,omitempty"`
	Required  bool      `json:"required,omitempty"`
	Min       int       `json:"min,omitempty"`
	Max       int       `json:"max,omitempty"`
	Pattern   string    `json:"-"`
	Values    []string  `json:"values,omitempty"`
	Sensitive bool      `json:"sensitive,omitempty"`
	Element   *member   `json:"element,omitempty"` // of a list
	Members   []*member `json:"members,omitempty"` // of a structure

	structure string        // name of the structure's type
	Anchor    string        `json:"-"`
	Text      template.HTML `json:"-"`
}

// membersOf lists the members of a structure in the order in which it declares them. The list is
// never nil, which JSON would show.
func membersOf(t reflect.Type, constraint func(string) Constraint) []*member {
	all := []*member{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		m := newMember(f.Type, f.Tag.Get("shape"), constraint)
		m.Name, m.Required = name, f.Tag.Get("required") == "true"
		all = append(all, m)
	}
	return all
}

func newMember(t reflect.Type, shape string, constraint func(string) Constraint) *member {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	c := constraint(shape)
	m := &member{Shape: shape, Min: c.Min, Max: c.Max, Pattern: c.Pattern, Values: c.Values, Sensitive: c.Sensitive}
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		m.Kind = kindBlob
	case t.Name() == "Timestamp":
		m.Kind = kindTimestamp
	case t.Kind() == reflect.String:
		m.Kind = kindString
	case t.Kind() == reflect.Bool:
		m.Kind = kindBoolean
	case t.Kind() == reflect.Int32:
		m.Kind = kindInteger
	case t.Kind() == reflect.Map:
		m.Kind = kindMap
	case t.Kind() == reflect.Slice:
		m.Kind = kindList
		m.Element = newMember(t.Elem(), c.Element, constraint)
	case t.Kind() == reflect.Struct:
		m.Kind, m.structure = kindStructure, t.Name()
		m.Members = membersOf(t, constraint)
	default:
		panic(fmt.Sprintf("no member can have the type %s", t))
	}
	return m
}

// Type names a member's type for readers.
func (m *member) Type() string {
	switch m.Kind {
	case kindBlob:
		return "Blob (base64)"
	case kindTimestamp:
		return "Timestamp (seconds since 1970)"
	case kindMap:
		return "Map of String to String"
	case kindList:
		return "List of " + m.Element.Type()
	case kindStructure:
		return m.structure
	}
	return strings.ToUpper(string(m.Kind[:1])) + string(m.Kind[1:])
}

// Nested lists the members of a structure, or of the structures in a list.
func (m *member) Nested() []*member {
	if m.Element != nil {
		return m.Element.Members
	}
	return m.Members
}

// Allowed lists the allowed values of a member or of its elements.
func (m *member) Allowed() []string {
	if m.Element != nil {
		return m.Element.Values
	}
	return m.Values
}

// Constraints says in words what a member's value must keep to.
func (m *member) Constraints() (all []string) {
	all = m.limits()
	if m.Element != nil {
		for _, c := range m.Element.limits() {
			all = append(all, "Each element: "+c)
		}
	}
	return all
}

// Patterns lists the patterns that a member's value or elements must match.
func (m *member) Patterns() (all []string) {
	if m.Pattern != "" {
		all = append(all, m.Pattern)
	}
	if m.Element != nil && m.Element.Pattern != "" {
		all = append(all, m.Element.Pattern)
	}
	return all
}

var units = map[kind]string{kindString: "characters", kindBlob: "bytes", kindList: "elements", kindMap: "entries"}

func (m *member) limits() []string {
	unit := units[m.Kind]
	switch {
	case m.Max == 0 && m.Min == 0:
		return nil
	case unit == "":
		return []string{fmt.Sprintf("%s to %s", group(m.Min), group(m.Max))}
	case m.Min == m.Max:
		return []string{fmt.Sprintf("%s %s", group(m.Max), unit)}
	case m.Min == 0:
		return []string{fmt.Sprintf("at most %s %s", group(m.Max), unit)}
	case m.Max == 0:
		return []string{fmt.Sprintf("at least %s %s", group(m.Min), unit)}
	}
	return []string{fmt.Sprintf("%s to %s %s", group(m.Min), group(m.Max), unit)}
}

// group writes a number with commas between thousands.
func group(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// describe gives each member its anchor and its text; text finds one by the name of the enclosing
// structure, which is empty for a member of the request or response, and the member's.
func describe(members []*member, prefix, structure string, text func(structure, name string) template.HTML) {
	for _, m := range members {
		m.Anchor, m.Text = prefix+"-"+m.Name, text(structure, m.Name)
		nested := m.structure
		if m.Element != nil {
			nested = m.Element.structure
		}
		describe(m.Nested(), m.Anchor, nested, text)
	}
}

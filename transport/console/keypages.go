package console

import (
	"maps"
	"slices"
	"strings"
)

// consolePage is a page of the console. Its script makes what it shows, in assets/console/console.js.
type consolePage struct {
	Path  string // one that ends with a slash is for all addresses below it
	Title string
	Area  string // the entry of the console's navigation bar that the page belongs to
	// Cannot is an operation, of which the page says what the token can't do. It may be empty.
	Cannot string
}

// consolePages are the pages of the console. The navigation bar has their areas in this order, and
// leads to the first page of each.
var consolePages = []consolePage{
	{Path: "/console", Title: "Keys", Area: "Keys"},
	{Path: "/console/create", Title: "Create a key", Area: "Keys", Cannot: "CreateKey"},
	{Path: "/console/keys/", Title: "Key", Area: "Keys"}, // and the id of a key
	{Path: "/console/principals", Title: "Users and roles", Area: "Users and roles"},
	{Path: "/console/principals/", Title: "Principal", Area: "Users and roles"}, // and its ARN
	{Path: "/console/audit", Title: "Audit log", Area: "Audit log"},
	{Path: "/console/report", Title: "Report", Area: "Report"},
}

// consolePageAt finds the page of an address, or nil.
func consolePageAt(address string) *consolePage {
	for i := range consolePages {
		p := &consolePages[i]
		if isRoot := strings.HasSuffix(p.Path, "/"); p.Path == address && !isRoot ||
			isRoot && len(address) > len(p.Path) && strings.HasPrefix(address, p.Path) {
			return p
		}
	}
	return nil
}

// ConsoleAreas lists the first page of each area, for the navigation bar.
func (v *view) ConsoleAreas() (first []consolePage) {
	for _, p := range consolePages {
		if !slices.ContainsFunc(first, func(f consolePage) bool { return f.Area == p.Area }) {
			first = append(first, p)
		}
	}
	return first
}

// consoleSchema is what the scripts of the console know of the service.
type consoleSchema struct {
	KeySpecs []keySpec        `json:"keySpecs"`
	Uses     map[string][]use `json:"uses"` // by KeyUsage
}

// use is an operation that uses keys.
type use struct {
	Operation string `json:"operation"`
	Text      string `json:"text"`
}

type keySpec struct {
	Name   string   `json:"name"`
	Usages []string `json:"usages"`
}

// firstSpecs are those to choose when in doubt, which are offered before the others.
var firstSpecs = []string{"SYMMETRIC_DEFAULT", "ECC_NIST_P256", "HMAC_256", "ML_DSA_65", "ML_KEM_768"}

func (s *site) consolePage(v *view, p *consolePage) {
	v.Console, v.Title = p, p.Title
	if s.cfg.Cannot != nil && p.Cannot != "" {
		v.Cannot = s.cfg.Cannot(p.Cannot)
	}
	schema := consoleSchema{KeySpecs: []keySpec{}, Uses: map[string][]use{}}
	listed := map[string]bool{}
	for _, name := range slices.Concat(firstSpecs, slices.Sorted(maps.Keys(s.cfg.KeySpecs))) {
		if usages := s.cfg.KeySpecs[name]; usages != nil && !listed[name] {
			listed[name] = true
			schema.KeySpecs = append(schema.KeySpecs, keySpec{Name: name, Usages: usages})
		}
	}
	for _, f := range s.families {
		for _, op := range f.Operations {
			for _, usage := range op.Usages {
				schema.Uses[usage] = append(schema.Uses[usage], use{op.Name, op.plain})
			}
		}
	}
	v.Schema = schema
}

package console

import (
	"maps"
	"slices"
)

// The pages of the console, besides /console.
const (
	newKeyPage = "/console/create"
	keyPages   = "/console/keys/" // and the id of a key
)

// consoleScripts are the modules that only pages of the console need.
var consoleScripts = []string{"console.js", "createkey.js", "dialog.js", "jsonerror.js", "keygrants.js", "keynames.js",
	"keypage.js", "keypolicy.js", "keyrotation.js", "keystate.js", "keytable.js", "parts.js"}

// consoleSchema is what the scripts of the console know of the service.
type consoleSchema struct {
	KeySpecs []keySpec           `json:"keySpecs"`
	Uses     map[string][]string `json:"uses"` // the operations that use keys, by KeyUsage
}

type keySpec struct {
	Name   string   `json:"name"`
	Usages []string `json:"usages"`
}

// commonSpec is the KeySpec of a key that is created without one.
const commonSpec = "SYMMETRIC_DEFAULT"

func (s *site) consolePage(v *view) {
	v.Console, v.Title = true, "Keys"
	switch v.Path {
	case newKeyPage:
		v.Title = "Create a key"
		if s.cfg.Cannot != nil {
			v.Cannot = s.cfg.Cannot("CreateKey")
		}
	case keyPages:
		v.Title = "Key"
	}
	schema := consoleSchema{KeySpecs: []keySpec{}, Uses: map[string][]string{}}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.KeySpecs)) {
		spec := keySpec{Name: name, Usages: s.cfg.KeySpecs[name]}
		if name == commonSpec {
			schema.KeySpecs = slices.Insert(schema.KeySpecs, 0, spec)
			continue
		}
		schema.KeySpecs = append(schema.KeySpecs, spec)
	}
	for _, op := range s.operations {
		for _, usage := range op.Usages {
			schema.Uses[usage] = append(schema.Uses[usage], op.Name)
		}
	}
	v.Schema = schema
}

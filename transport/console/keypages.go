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
var consoleScripts = []string{"console/auditproof.js", "console/console.js", "console/createkey.js",
	"console/dialog.js", "console/jsonerror.js", "console/keygrants.js", "console/keynames.js", "console/keypage.js", "console/keypolicy.js",
	"console/keyrotation.js", "console/keystate.js", "console/keytable.js", "console/parts.js"}

// consoleSchema is what the scripts of the console know of the service.
type consoleSchema struct {
	KeySpecs []keySpec           `json:"keySpecs"`
	Uses     map[string][]string `json:"uses"` // the operations that use keys, by KeyUsage
}

type keySpec struct {
	Name   string   `json:"name"`
	Usages []string `json:"usages"`
}

// firstSpecs are those to choose when in doubt, which are offered before the others.
var firstSpecs = []string{"SYMMETRIC_DEFAULT", "ECC_NIST_P256", "HMAC_256", "ML_DSA_65", "ML_KEM_768"}

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
	listed := map[string]bool{}
	for _, name := range slices.Concat(firstSpecs, slices.Sorted(maps.Keys(s.cfg.KeySpecs))) {
		if usages := s.cfg.KeySpecs[name]; usages != nil && !listed[name] {
			listed[name] = true
			schema.KeySpecs = append(schema.KeySpecs, keySpec{Name: name, Usages: usages})
		}
	}
	for _, op := range s.operations {
		for _, usage := range op.Usages {
			schema.Uses[usage] = append(schema.Uses[usage], op.Name)
		}
	}
	v.Schema = schema
}

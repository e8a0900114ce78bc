package service

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// KeySpecs returns the KeySpecs that the token can do, each with the KeyUsages that its keys can have.
func (s *Service) KeySpecs() map[string][]string {
	all := map[string][]string{}
	for name, spec := range keySpecs {
		for usage := range spec.algorithms {
			if s.can.Missing[name] == "" && s.can.Missing[name+"/"+usage] == "" {
				all[name] = append(all[name], usage)
			}
		}
		slices.Sort(all[name])
	}
	return all
}

// Cannot says what the token can't do of an operation, as its self-test found: of the values that
// members of its requests allow, of the keys that it is for, and of the secrecy of what it makes.
func (s *Service) Cannot(o *Operation, values []string) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(s.can.Missing)) {
		spec, usage, _ := strings.Cut(name, "/")
		concerns := slices.ContainsFunc(values, func(v string) bool {
			return v == spec || v == "ML_KEM" && strings.HasPrefix(spec, v)
		})
		if usage != "" {
			concerns = o.Key == nil && concerns || o.Key != nil && slices.Contains(o.Key.Usages, usage)
			spec += " for " + usage
		}
		if concerns {
			all = append(all, fmt.Sprintf("%s: %s.", spec, s.can.Missing[name]))
		}
	}
	wraps := func(value string) bool {
		_, known := importAlgorithms[value]
		return known
	}
	if o.Key != nil && o.Key.Kind == importable && slices.ContainsFunc(values, wraps) {
		for spec := range keySpecs {
			if err := s.canImport(spec, ""); err != nil {
				all = append(all, fmt.Sprintf("%s: its key material can't be imported.", spec))
			}
		}
	}
	if o.WithoutPlaintext && slices.Contains(values, "AES_256") {
		for size, can := range s.can.WrapDataKeys {
			if !can {
				why := failsTest(DataKeyChecks[size])
				all = append(all, fmt.Sprintf("Keeping data keys of %d bytes to itself: %s.", size, why))
			}
		}
	}
	slices.Sort(all)
	return all
}

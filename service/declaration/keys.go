package declaration

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

// Values of origin.
const (
	originKMS      = "AWS_KMS"
	originExternal = "EXTERNAL"
)

const (
	specSymmetric   = "SYMMETRIC_DEFAULT"
	usageOfSpec     = "ENCRYPT_DECRYPT" // the default of specSymmetric
	aliasPrefix     = "alias/"
	maxMaterial     = 8 << 10 // bytes: more than the PKCS#8 DER of an RSA-4096 key
	multiRegionMark = "mrk-"
)

var regionPattern = regexp.MustCompile(`^([a-z]+-){2,3}\d+$`)

// keys reads the keys of an account.
func (r *reader) keys(account string, n *yaml.Node) {
	r.mapping(n, "keys", func(region, value *yaml.Node) {
		if !regionPattern.MatchString(region.Value) {
			r.addProblem(region, "keys: %q is not a region such as us-east-1", region.Value)
			return
		}
		r.mapping(value, "keys of "+region.Value, func(id, value *yaml.Node) {
			if !arn.IsKeyID(id.Value) {
				r.addProblem(id, "key id %q is neither a UUID in lower case nor mrk- and 32 hex digits", id.Value)
				return
			}
			r.key(&Key{Account: account, Region: region.Value, ID: id.Value, Place: r.place(id)}, id, value)
		})
	})
}

func (r *reader) key(k *Key, id, value *yaml.Node) {
	what := "key " + k.ID
	before := len(r.problems)
	text := func(into *string, name string) func(*yaml.Node) {
		return func(n *yaml.Node) { *into = r.text(n, what+": "+name) }
	}
	r.fields(value, what, map[string]func(*yaml.Node){
		"spec":    text(&k.Spec, "spec"),
		"usage":   text(&k.Usage, "usage"),
		"primary": text(&k.Primary, "primary"),
		"origin": func(n *yaml.Node) {
			k.Origin = r.text(n, what+": origin")
			if k.Origin != originKMS && k.Origin != originExternal {
				r.addProblem(n, "%s: origin must be %s or %s: keys of a custom key store are not declared", what,
					originKMS, originExternal)
			}
		},
		"description": func(n *yaml.Node) {
			description := r.text(n, what+": description")
			k.Description = &description
		},
		"enabled": func(n *yaml.Node) {
			enabled, err := strconv.ParseBool(n.Value)
			if n.ShortTag() != "!!bool" || err != nil {
				r.addProblem(n, "%s: enabled must be true or false", what)
			}
			k.Enabled = &enabled
		},
		"rotation": func(n *yaml.Node) {
			days, err := strconv.Atoi(n.Value)
			if n.ShortTag() != "!!int" || err != nil || days != 0 && (days < 90 || days > 2560) {
				r.addProblem(n, "%s: rotation must be 90 to 2560 days, or 0", what)
			}
			k.RotationDays = &days
		},
		"policy": func(n *yaml.Node) {
			problems := len(r.problems)
			document := r.policy(n, what+": policy")
			k.Policy = &document
			if len(r.problems) > problems {
				return
			}
			if _, err := policy.Parse(policy.KeyPolicy, document); err != nil {
				r.addProblem(n, "%s: policy: %v", what, err)
			}
		},
		"tags": func(n *yaml.Node) {
			k.Tags = r.texts(n, what+": tags", map[string]*yaml.Node{}, r.text)
		},
		"aliases": func(n *yaml.Node) {
			k.Aliases = []string{}
			r.list(n, what+": aliases", func(item *yaml.Node) { k.Aliases = append(k.Aliases, r.alias(item, what)) })
		},
		"grants": func(n *yaml.Node) {
			k.Grants = []Grant{}
			r.list(n, what+": grants", func(item *yaml.Node) { k.Grants = append(k.Grants, r.grant(item, what)) })
		},
		"material": func(n *yaml.Node) { k.Material = r.material(n, what) },
	})
	if len(r.problems) == before { // or problems may follow from what could not be read
		for _, problem := range k.problems() {
			r.addProblem(id, "%s: %s", what, problem)
		}
	}
	r.declaration.Keys = append(r.declaration.Keys, k)
}

// problems completes the declaration with the defaults, and returns what is wrong with it as a whole.
func (k *Key) problems() (problems []string) {
	if k.Primary != "" {
		if !strings.HasPrefix(k.ID, multiRegionMark) || k.Primary == k.Region {
			problems = append(problems, "primary is for replicas of a multi-Region key, whose id begins with mrk-, "+
				"and names another region")
		}
		if k.Spec+k.Usage+k.Origin != "" || k.RotationDays != nil {
			problems = append(problems, "a replica has spec, usage, origin and rotation of its primary key")
		}
		return problems
	}
	if k.Spec == "" {
		k.Spec = specSymmetric
	}
	if k.Usage == "" && k.Spec == specSymmetric {
		k.Usage = usageOfSpec
	}
	if _, _, err := service.SpecAndUsage(&service.CreateKeyRequest{KeySpec: k.Spec, KeyUsage: k.Usage}); err != nil {
		problems = append(problems, err.Error())
	}
	switch {
	case k.Material != nil && k.Origin == originKMS:
		problems = append(problems, "a key with material has the origin "+originExternal)
	case k.Material != nil:
		k.Origin = originExternal
	case k.Origin == "":
		k.Origin = originKMS
	}
	return problems
}

// list reads a sequence. No value is an empty one.
func (r *reader) list(n *yaml.Node, what string, each func(*yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.addProblem(n, "%s must be a list", what)
		return
	}
	for _, item := range n.Content {
		each(item)
	}
}

func (r *reader) alias(n *yaml.Node, what string) string {
	name := r.text(n, what+": an alias")
	if err := service.CheckAliasName(name); err != nil && name != "" {
		r.addProblem(n, "%s: alias %q is not %s and a name of letters, digits, /, _ and -, or is reserved", what, name,
			aliasPrefix)
	}
	return name
}

func (r *reader) grant(n *yaml.Node, what string) (g Grant) {
	what += ": a grant"
	text := func(into *string, name string) func(*yaml.Node) {
		return func(n *yaml.Node) { *into = r.text(n, what+": "+name) }
	}
	context := func(into *map[string]string, name string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			*into = r.texts(n, what+": "+name, map[string]*yaml.Node{}, r.text)
		}
	}
	before := len(r.problems)
	r.fields(n, what, map[string]func(*yaml.Node){
		"name":             text(&g.Name, "name"),
		"grantee":          text(&g.Grantee, "grantee"),
		"grantee_service":  text(&g.GranteeService, "grantee_service"),
		"retiring":         text(&g.Retiring, "retiring"),
		"retiring_service": text(&g.RetiringService, "retiring_service"),
		"source_arn":       text(&g.SourceARN, "source_arn"),
		"context_equals":   context(&g.Equals, "context_equals"),
		"context_subset":   context(&g.Subset, "context_subset"),
		"operations": func(n *yaml.Node) {
			r.list(n, what+": operations", func(item *yaml.Node) {
				g.Operations = append(g.Operations, r.text(item, what+": an operation"))
			})
		},
	})
	if len(r.problems) > before {
		return g
	}
	slices.Sort(g.Operations)
	if (g.Grantee == "") == (g.GranteeService == "") || g.Retiring != "" && g.RetiringService != "" ||
		len(g.Operations) == 0 {
		r.addProblem(n, "%s needs operations, and grantee or grantee_service; it may have retiring or retiring_service",
			what)
	}
	return g
}

// material reads base64. Its errors do not repeat it.
func (r *reader) material(n *yaml.Node, what string) []byte {
	text := strings.Join(strings.Fields(r.text(n, what+": material")), "")
	material, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(material) == 0 || len(material) > maxMaterial {
		r.addProblem(n, "%s: material must be the base64 of up to %d bytes", what, maxMaterial)
	}
	return material
}

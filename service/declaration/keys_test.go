package declaration

import (
	"strings"
	"testing"
)

// TestReadKeysRefuses: each mistake is told with its place, and key material is never repeated.
func TestReadKeysRefuses(t *testing.T) {
	const id = "11111111-2222-4333-8444-555555555555"
	key := func(fields string) string {
		return "accounts:\n  '111122223333':\n    keys:\n      us-east-1:\n        " + id + ": {" + fields + "}"
	}
	mrk := func(fields string) string { return strings.Replace(key(fields), id, "mrk-"+strings.Repeat("a", 32), 1) }
	for _, test := range []struct{ name, text, want string }{
		{"region", strings.Replace(key(""), "us-east-1", "here", 1), `f.yaml:4:7: keys: "here" is not a region`},
		{"id", strings.Replace(key(""), id, "alias/a", 1), `f.yaml:5:9: key id "alias/a" is neither a UUID`},
		{"upper case", strings.Replace(key(""), "11111111", "AAAAAAAA", 1), `is neither a UUID in lower case`},
		{"list", strings.Replace(key(""), "{}", "[]", 1), "f.yaml:5:47: key " + id + " must be a mapping"},
		{"field", key("alias: a"), "f.yaml:5:48: key " + id + ` has no field "alias": it may have aliases, description, `},
		{"twice", key("spec: RSA_2048, spec: RSA_4096"), `has "spec" twice`},
		{"spec", key("spec: RSA_1024, usage: SIGN_VERIFY"), "KeyUsage SIGN_VERIFY is not compatible with KeySpec RSA_1024"},
		{"usage", key("spec: RSA_2048"), "You must specify a KeyUsage value"},
		{"origin", key("origin: AWS_CLOUDHSM"), "f.yaml:5:56: key " + id + ": origin must be AWS_KMS or EXTERNAL"},
		{"enabled", key("enabled: maybe"), "enabled must be true or false"},
		{"rotation", key("rotation: 1"), "rotation must be 90 to 2560 days, or 0"},
		{"rotation in words", key("rotation: 1y"), "rotation must be 90 to 2560 days, or 0"},
		{"policy", key("policy: {Statement: {Effect: Allow}}"), "f.yaml:5:56: key " + id + ": policy: "},
		{"aliases", key("aliases: alias/a"), "aliases must be a list"},
		{"alias", key("aliases: [a]"), `f.yaml:5:58: key ` + id + `: alias "a" is not alias/ and a name`},
		{"reserved alias", key("aliases: [alias/aws/kms]"), "or is reserved"},
		{"grant", key("grants: [{grantee: a}]"), "f.yaml:5:57: key " + id + ": a grant needs operations"},
		{"grant's field", key("grants: [{grantees: a}]"), `a grant has no field "grantees"`},
		{"two grantees", key("grants: [{grantee: a, grantee_service: b, operations: [Decrypt]}]"), "grantee or grantee_service"},
		{"material", key("material: 'secret!'"), "f.yaml:5:58: key " + id + ": material must be the base64"},
		{"large material", key("material: " + strings.Repeat("AAAA", 4000)), "of up to 8192 bytes"},
		{"material of a generated key", key("origin: AWS_KMS, material: c2VjcmV0IQ=="), "has the origin EXTERNAL"},
		{"replica", key("primary: eu-west-1"), "primary is for replicas of a multi-Region key"},
		{"replica of itself", mrk("primary: us-east-1"), "names another region"},
		{"replica's spec", mrk("primary: eu-west-1, spec: RSA_2048"), "a replica has spec, usage, origin and rotation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := Read("dir/f.yaml", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q; %+v", err, test.want, d)
			}
			if strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("more than one problem: %v", err)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2Vj") {
				t.Errorf("key material is in the error: %v", err)
			}
		})
	}
}

// TestReadKeys: what is not declared is nil, and what has a default has it.
func TestReadKeys(t *testing.T) {
	d, err := Read("f.yaml", []byte(`
accounts:
  111122223333:
    keys:
      us-east-1:
        11111111-2222-4333-8444-000000000001:
        11111111-2222-4333-8444-000000000002: {material: "c2Vj\ncmV0", tags: {}, aliases: [], grants: [], enabled: false}
`))
	if err != nil || len(d.Keys) != 2 {
		t.Fatalf("%+v, %v", d, err)
	}
	bare, full := d.Keys[0], d.Keys[1]
	if bare.Spec != "SYMMETRIC_DEFAULT" || bare.Usage != "ENCRYPT_DECRYPT" || bare.Origin != "AWS_KMS" ||
		bare.Tags != nil || bare.Aliases != nil || bare.Grants != nil || bare.Enabled != nil || bare.Policy != nil ||
		bare.Material != nil {
		t.Errorf("%+v", bare)
	}
	if full.Origin != "EXTERNAL" || string(full.Material) != "secret" || full.Tags == nil || full.Aliases == nil ||
		full.Grants == nil || full.Enabled == nil || *full.Enabled {
		t.Errorf("%+v", full)
	}
}

// Package declaration reads and writes the file of verenc apply, verenc export and verenc dev --seed, and plans
// the changes that make the keys of a server what the file declares. The principals are planned by package iam.
//
// It trusts the file as it trusts a command's arguments: whoever writes it administers the service. It is strict
// all the same, so that a mistake is told, with its line, before anything is changed.
//
// The file is YAML:
//
//	accounts:
//	  "111122223333":
//	    users:
//	      app:
//	        path: /service/                # default /
//	        tags: {team: blue}
//	        policies:                      # identity policies by name
//	          decrypt: {file: decrypt.json}  # relative to this file; in JSON or YAML
//	          list:                        # or here
//	            Version: "2012-10-17"
//	            Statement: {Effect: Allow, Action: "kms:ListKeys", Resource: "*"}
//	        boundary: {file: boundary.json}
//	        certificates:                  # client certificates that prove the user
//	          - {file: app.pem}
//	          - {fingerprint: 00:11:...}
//	          - {spiffe_id: spiffe://example.org/ns/shop/sa/orders}  # or .../* for all below a path
//	          - {dns: orders.example.org}
//	          - {subject: "CN=orders,O=Example"}
//	        access_key_days: 90            # how long access keys last that are made from now on
//	    roles:
//	      auditor:
//	        trust: {file: trust.json}
//	        max_session: 3600              # seconds
//	    guard: {file: guard.json}            # restricts everybody; {} removes it
//	    keys:
//	      us-east-1:                       # region
//	        1234abcd-12ab-34cd-56ef-1234567890ab:  # key id: a UUID, or mrk- and 32 hex digits
//	          spec: SYMMETRIC_DEFAULT      # KeySpec; the default
//	          usage: ENCRYPT_DECRYPT       # KeyUsage; the default of SYMMETRIC_DEFAULT
//	          description: orders
//	          enabled: true
//	          rotation: 365                # days; 0 is off
//	          policy: {file: orders.json}  # a new key has AWS's default key policy otherwise
//	          tags: {team: blue}
//	          aliases: [alias/orders]
//	          grants:
//	            - name: worker
//	              grantee: arn:aws:iam::111122223333:role/worker  # or grantee_service
//	              retiring: arn:aws:iam::111122223333:root        # or retiring_service
//	              operations: [Decrypt]
//	              context_equals: {tenant: blue}  # or context_subset
//	              source_arn: arn:aws:...
//	        mrk-...: {primary: eu-west-1}  # a replica of a multi-Region key
//	        5678abcd-...: {spec: HMAC_256, usage: GENERATE_VERIFY_MAC, material: q83vEjRWeJA...}
//	        9abcdef0-...: {origin: EXTERNAL}  # its material is imported by other means
//
// The guard of an account that the file does not mention stays as it is. A principal is declared completely: it loses
// what the file does not mention, except its access keys. Of a key, what the file does not mention stays as it is, and
// what it mentions is complete: tags: {} removes all tags. Spec, usage, origin, primary and material of a key that
// exists can't be changed, and no key is ever deleted.
//
// material is base64: the bytes of a symmetric or HMAC key, or the PKCS#8 DER of a private key. It is for tests:
// whoever reads the file has the key. Such a key has the origin EXTERNAL and is marked; see service.Material.
package declaration

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/verenc/kms/service/iam"
)

// Declaration is what a file declares: the wanted state of principals and keys.
type Declaration struct {
	iam.Declaration
	Keys []*Key
}

// Key is the wanted state of one key. What is nil is not declared, and stays as it is.
type Key struct {
	Account, Region, ID string
	Place               string // of the declaration, for errors

	Spec, Usage, Origin string
	Primary             string // region of the primary key, of a replica
	Description         *string
	Enabled             *bool
	RotationDays        *int
	Policy              *string // JSON
	Tags                map[string]string
	Aliases             []string
	Grants              []Grant
	Material            []byte
}

// Grant is the wanted state of a grant on a key.
type Grant struct {
	Name                      string
	Grantee, GranteeService   string
	Retiring, RetiringService string
	Operations                []string
	Equals, Subset            map[string]string // of the encryption context
	SourceARN                 string
}

// Read reads a file, or returns everything that is wrong with it, with its places. path is the file's, for places
// and for files that it names.
func Read(path string, text []byte) (*Declaration, error) {
	r := reader{path: path}
	if root, err := parseYAML(text); err != nil {
		r.problems = append(r.problems, fmt.Errorf("%s: %w", path, err))
	} else {
		r.fields(root, "the file", map[string]func(*yaml.Node){
			"accounts": func(n *yaml.Node) { r.mapping(n, "accounts", r.account) },
		})
		if len(r.declaration.Accounts) == 0 && r.problems == nil {
			r.addProblem(root, "there are no accounts")
		}
	}
	return &r.declaration, errors.Join(r.problems...)
}

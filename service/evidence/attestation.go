package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/statement"
)

// The first line of an attestation is its format and version. An attestation with a Witness is of
// version 2, so that readers of version 1 refuse it. One without is of version 1, as it was before
// there was a witness.
const (
	attestationHead          = "verenc-kms attestation v1\n"
	attestationHeadWitnessed = "verenc-kms attestation v2\n"
)

// Attestation is a statement of where a key's material is and what can be done with it, as the token
// itself says at the time of the statement. Whoever relies on it trusts the token, this program, and
// the signing key.
type Attestation struct {
	Time  time.Time // of the statement
	Key   AttestedKey
	Token hsm.Info
	// Materials are all key materials that the key has, oldest first.
	Materials []AttestedMaterial
	// Witness is what a second PKCS#11 implementation says of the objects; nil when it was not asked.
	Witness *AttestedWitness `json:",omitempty"`

	publicKey []byte // see PublicKey
	keyStore  string // see KeyStore
}

// AttestedKey is what the database says of the key.
type AttestedKey struct {
	ARN             string
	ID              string
	Account         string
	Region          string
	Spec            string
	Usage           string
	Origin          string
	State           service.KeyState
	CreatedAt       time.Time
	PolicySHA256    string // of the key policy's text, in hex
	GuardSHA256     string `json:",omitempty"` // of the text of the account's guard, in hex; empty: it has none
	PublicKeySHA256 string `json:",omitempty"` // of an asymmetric key's SubjectPublicKeyInfo, in hex
}

// AttestedMaterial is one of a key's materials.
type AttestedMaterial struct {
	Ordinal      uint32
	ID           string
	Current      bool // new ciphertexts are made with it
	CreatedAt    time.Time
	RotatedAt    time.Time `json:",omitzero"`
	RotationType string    `json:",omitempty"`
	ExpiresAt    time.Time `json:",omitzero"`
	// Known tells that a declaration has the material in clear; see service.Material.
	Known bool `json:",omitempty"`
	// Objects are the material's objects in the token; none while imported material is not there.
	Objects []AttestedObject
	// WrappedUnder is the token object that wrapped the material, when the material is kept outside of
	// the token. Objects are then the session objects through which it is used.
	WrappedUnder *AttestedObject `json:",omitempty"`
}

// AttestedObject is one object as the token describes it.
type AttestedObject struct {
	Role service.Role
	ID   service.ObjectID // CKA_ID
	hsm.Attributes
}

// BornInToken tells whether, as the token says, every object was generated in it and could never be
// read or wrapped.
func (a *Attestation) BornInToken() bool {
	objects := 0
	for _, m := range a.Materials {
		for _, o := range m.Objects {
			if !o.Local || !o.NeverExtractable || !o.AlwaysSensitive || !o.Sensitive || o.Extractable {
				return false
			}
			objects++
		}
	}
	return objects > 0
}

// roleResidency is the role, in statements, of the object under which keys of residency wrapped are
// wrapped.
const roleResidency service.Role = "residency"

// inspector is a token that describes itself and its objects; *hsm.Token is one.
type inspector interface {
	Attributes(ctx context.Context, key hsm.Key) (hsm.Attributes, error)
	Info() (hsm.Info, error)
}

// Attest reads a key's objects from its token. The key is named by its id, an alias or an ARN; account
// and region are those of a name that has none. No policy is asked.
func (e *Examiner) Attest(ctx context.Context, account, region, name string) (*Attestation, error) {
	k, token, err := e.Service.KeyAndToken(ctx, account, region, name)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", name, err)
	}
	inspected, ok := token.(inspector)
	if !ok {
		return nil, fmt.Errorf("attest %s: its token tells no attributes", name)
	}
	guard, err := e.Service.IAM().Guard(ctx, k.Account)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", name, err)
	}
	a := &Attestation{
		Time: e.Now().UTC().Truncate(time.Second), Key: e.attestedKey(k, guard),
		publicKey: k.PublicKey, keyStore: k.CustomKeyStore,
	}
	if a.Token, err = inspected.Info(); err != nil {
		return nil, fmt.Errorf("ask the token who it is: %w", err)
	}
	for i := range k.Materials {
		if k.Materials[i].Scrap {
			continue
		}
		m, err := attestedMaterial(ctx, inspected, k, &k.Materials[i])
		if err != nil {
			return nil, err
		}
		a.Materials = append(a.Materials, m)
	}
	return a, nil
}

func (e *Examiner) attestedKey(k *service.Key, guard *iam.Guard) AttestedKey {
	a := AttestedKey{
		ARN: k.ARN(e.ARNFormat.Form()), ID: k.ID, Account: k.Account, Region: k.Region, Spec: k.Spec, Usage: k.Usage,
		Origin: k.Origin, State: k.State, CreatedAt: k.CreatedAt.UTC(),
		PolicySHA256: statement.SHA256([]byte(k.Policy)),
	}
	if k.PublicKey != nil {
		a.PublicKeySHA256 = statement.SHA256(k.PublicKey)
	}
	if guard.Document != "" {
		a.GuardSHA256 = statement.SHA256([]byte(guard.Document))
	}
	return a
}

func attestedMaterial(
	ctx context.Context, token inspector, k *service.Key, m *service.Material,
) (AttestedMaterial, error) {
	a := AttestedMaterial{
		Ordinal: m.Ordinal, ID: m.ID, Current: m == k.CurrentMaterial(), CreatedAt: m.CreatedAt.UTC(),
		RotatedAt: m.RotatedAt.UTC(), RotationType: m.RotationType, ExpiresAt: m.ExpiresAt.UTC(),
		Known: len(m.Known) > 0,
	}
	for _, role := range []service.Role{service.RoleSeal, service.RoleWrap, service.RolePair, service.RoleMAC} {
		id, has := m.Objects[role]
		if !has {
			continue
		}
		attributes, err := token.Attributes(ctx, m.TokenKey(k, role))
		if err != nil {
			return a, fmt.Errorf("read the attributes of the %s key of key %s, material %d: %w",
				role, k.ID, m.Ordinal, err)
		}
		a.Objects = append(a.Objects, AttestedObject{role, id, attributes})
	}
	if isWrapped(m) {
		attributes, err := token.Attributes(ctx, m.WrappedBy)
		if err != nil {
			return a, fmt.Errorf("read the attributes of the object that wraps keys: %w", err)
		}
		a.WrappedUnder = &AttestedObject{roleResidency, m.WrappedBy, attributes}
	}
	return a, nil
}

// isWrapped tells whether a material is kept outside of the token, wrapped.
func isWrapped(m *service.Material) bool { return m.WrappedBy != service.ObjectID{} }

// Sign returns the statement as a C2SP signed note. The signer is a key of an audit log, whose origin
// is the signer's name.
func (a *Attestation) Sign(ctx context.Context, origin string, signer audit.Signer) ([]byte, error) {
	return statement.Sign(ctx, a.head(), a, origin, signer)
}

func (a *Attestation) head() string {
	if a.Witness != nil {
		return attestationHeadWitnessed
	}
	return attestationHead
}

// VerifyAttestation returns the statement of an attestation that one of the verifier keys has signed.
// It needs nothing else.
func VerifyAttestation(signed []byte, keys ...string) (*Attestation, error) {
	a := &Attestation{}
	err := statement.Open(signed, keys, a, attestationHead, attestationHeadWitnessed)
	if err == nil && !bytes.HasPrefix(signed, []byte(a.head())) {
		err = errors.New("it is not spelled as it would be written")
	}
	if err == nil {
		err = a.checkWitness()
	}
	if err != nil {
		return nil, fmt.Errorf("verify attestation: %w", err)
	}
	return a, nil
}

package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
)

// The first line of an attestation is its format and version. One with a Witness is of version 2, so that readers of version 1 say
// that they don't know it; one without is what it always was.
const (
	attestationHead  = "verenc-kms attestation v1\n"
	attestationHead2 = "verenc-kms attestation v2\n"
)

// Attestation is a statement of where a key's material is and what can be done with it, as the token itself says at the
// time of the statement. Who believes it trusts the token, this program's reading of it, and the signing key.
type Attestation struct {
	Time  time.Time // of the statement
	Key   AttestedKey
	Token hsm.Info
	// Materials are all generations that the key has, oldest first.
	Materials []AttestedMaterial
	// Witness is what a second implementation says of the objects, if it was asked.
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
	State           KeyState
	CreatedAt       time.Time
	PolicySHA256    string // of the key policy's text, in hex
	PublicKeySHA256 string `json:",omitempty"` // of an asymmetric key's SubjectPublicKeyInfo, in hex
}

// AttestedMaterial is one generation of key material.
type AttestedMaterial struct {
	Ordinal      uint32
	ID           string
	Current      bool // new ciphertexts are made with it
	CreatedAt    time.Time
	RotatedAt    time.Time `json:",omitzero"`
	RotationType string    `json:",omitempty"`
	ExpiresAt    time.Time `json:",omitzero"`
	// Objects are the material's objects in the token; none while imported material is not there.
	Objects []AttestedObject
	// WrappedUnder is, of a material that is kept outside of the token, the token object that wrapped it. Objects are then the
	// session objects that it is used through.
	WrappedUnder *AttestedObject `json:",omitempty"`
}

// AttestedObject is one object as the token describes it.
type AttestedObject struct {
	Role Role
	ID   ObjectID // CKA_ID
	hsm.Attributes
}

// BornInToken tells whether the token says of every object that it was generated in it, and could never be read or wrapped.
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

// inspector is a Token that tells of itself and its objects; *hsm.Token is one.
type inspector interface {
	Attributes(ctx context.Context, key hsm.Key) (hsm.Attributes, error)
	Info() (hsm.Info, error)
}

// Attest reads a key's objects from its token. The key is named by its id, an alias or an ARN; what the name does not say is
// taken from account and region. It is for whoever administers the service: no policy is asked.
func (s *Service) Attest(ctx context.Context, account, region, name string) (*Attestation, error) {
	k, err := s.find(ctx, account, region, name)
	if err != nil {
		return nil, fmt.Errorf("find key %s: %w", name, err)
	}
	if err := s.openHere(ctx, k); err != nil {
		return nil, fmt.Errorf("attest %s: %w", name, err)
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", name, err)
	}
	inspected, ok := token.(inspector)
	if !ok {
		return nil, fmt.Errorf("attest %s: its token tells no attributes", name)
	}
	policySum := sha256.Sum256([]byte(k.Policy))
	a := &Attestation{Time: s.now().UTC().Truncate(time.Second), Key: AttestedKey{ARN: k.ARN(s.canonical), ID: k.ID, Account: k.Account, Region: k.Region,
		Spec: k.Spec, Usage: k.Usage, Origin: k.Origin, State: k.State, CreatedAt: k.CreatedAt.UTC(), PolicySHA256: hex.EncodeToString(policySum[:])},
		publicKey: k.PublicKey, keyStore: k.CustomKeyStore}
	if k.PublicKey != nil {
		sum := sha256.Sum256(k.PublicKey)
		a.Key.PublicKeySHA256 = hex.EncodeToString(sum[:])
	}
	if a.Token, err = inspected.Info(); err != nil {
		return nil, fmt.Errorf("ask the token who it is: %w", err)
	}
	for i := range k.Materials {
		m := &k.Materials[i]
		if m.Scrap {
			continue
		}
		attested := AttestedMaterial{Ordinal: m.Ordinal, ID: m.ID, Current: m == k.current(), CreatedAt: m.CreatedAt.UTC(), RotatedAt: m.RotatedAt.UTC(),
			RotationType: m.RotationType, ExpiresAt: m.ExpiresAt.UTC()}
		for _, role := range []Role{RoleSeal, RoleWrap, RolePair, RoleMAC} {
			id, has := m.Objects[role]
			if !has {
				continue
			}
			attributes, err := inspected.Attributes(ctx, m.key(k, role))
			if err != nil {
				return nil, fmt.Errorf("read the attributes of %s: %w", objectLabel(k, m, role), err)
			}
			attested.Objects = append(attested.Objects, AttestedObject{role, id, attributes})
		}
		if m.isWrapped() {
			attributes, err := inspected.Attributes(ctx, m.WrappedBy)
			if err != nil {
				return nil, fmt.Errorf("read the attributes of the object that wraps keys: %w", err)
			}
			attested.WrappedUnder = &AttestedObject{roleResidency, m.WrappedBy, attributes}
		}
		a.Materials = append(a.Materials, attested)
	}
	return a, nil
}

// find is resolve without a caller.
func (s *Service) find(ctx context.Context, account, region, name string) (*Key, error) {
	resource := name
	if a, isARN := arn.Parse(name); isARN {
		account, resource = a.Account, a.Resource
		if a.Region != "" {
			region = a.Region
		}
	}
	if strings.HasPrefix(resource, aliasPrefix) {
		alias, err := s.store.Alias(ctx, account, region, resource)
		if err != nil {
			return nil, err
		}
		resource = alias.KeyID
	}
	k, err := s.store.Key(ctx, region, strings.TrimPrefix(resource, "key/"))
	if err == nil && k.Account != account {
		err = ErrNoRow
	}
	return k, err
}

// Sign makes a C2SP signed note of the statement, signed by a key of an audit log, whose origin is the signer's name.
func (a *Attestation) Sign(ctx context.Context, origin string, signer audit.Signer) ([]byte, error) {
	text, err := a.text()
	if err != nil {
		return nil, err
	}
	return audit.SignNote(ctx, origin, signer, text)
}

// text is the head and the statement as indented JSON, which is the only spelling that is accepted.
func (a *Attestation) text() (string, error) {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write attestation: %w", err)
	}
	head := attestationHead
	if a.Witness != nil {
		head = attestationHead2
	}
	return head + string(text) + "\n", nil
}

// VerifyAttestation gives the statement of an attestation that one of the verifier keys has signed. It is offline.
func VerifyAttestation(signed []byte, keys ...string) (*Attestation, error) {
	text, err := audit.OpenNote(signed, keys...)
	if err != nil {
		return nil, fmt.Errorf("verify attestation: %w", err)
	}
	body, ok := strings.CutPrefix(text, attestationHead)
	if !ok {
		body, ok = strings.CutPrefix(text, attestationHead2)
	}
	if !ok {
		return nil, errors.New("verify attestation: what is signed is no attestation of this version")
	}
	a := &Attestation{}
	d := json.NewDecoder(bytes.NewReader([]byte(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("verify attestation: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("verify attestation: there is something behind the statement")
	}
	if again, err := a.text(); err != nil || again != text {
		return nil, errors.Join(errors.New("verify attestation: it is not spelled as it would be written"), err)
	}
	if err := a.checkWitness(); err != nil {
		return nil, fmt.Errorf("verify attestation: %w", err)
	}
	return a, nil
}

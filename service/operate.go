package service

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

// This file has what commands do with keys. They need a Service that has an Operator. No policy is asked but the
// account's guard (decideBy), and what changes is recorded as the operator's.

var errNoOperator = errors.New("only an operator's command does this")

// Operate runs an operation for the operator, as the root user of an account. The request is one that
// Operation.NewRequest made.
func (s *Service) Operate(ctx context.Context, account, region, operation string, request any) (any, error) {
	o := operations[operation]
	if o == nil {
		return nil, fmt.Errorf("there is no operation %s", operation)
	}
	var out any
	err := s.operate(ctx, account, region, operation, request, func(ctx context.Context, c *iam.Caller) (err error) {
		out, err = o.serve(ctx, s, c, request)
		return err
	})
	return out, err
}

// operate runs do as the operator's command, and keeps a record of it.
func (s *Service) operate(ctx context.Context, account, region, operation string, request any,
	do func(context.Context, *iam.Caller) error) error {
	if s.cfg.Operator == nil {
		return fmt.Errorf("%s: %w", operation, errNoOperator)
	}
	c := operatorOf(account, region)
	c.Call = operations[operation].call(request)
	return s.records.Command(ctx, operation, nil, record.Parameters(request),
		func(ctx context.Context) error { return do(ctx, c) })
}

// CreateKeyNamed is CreateKey for the operator, with a key id that is given: a UUID, or that of a multi-Region
// primary key. No region may have a key of the account, or of another one, with the id of a multi-Region key.
func (s *Service) CreateKeyNamed(ctx context.Context, account, region, id string, in *CreateKeyRequest) error {
	if !arn.IsKeyID(id) || strings.HasPrefix(id, "mrk-") != in.MultiRegion {
		return fmt.Errorf("create key: %q is no key id, or not that of such a key", id)
	}
	return s.operate(ctx, account, region, "CreateKey", in, func(ctx context.Context, c *iam.Caller) error {
		c.Call.Input = &struct {
			KeyId string
			*CreateKeyRequest
		}{id, in}
		k, err := s.newKey(ctx, c, in)
		if err != nil {
			return err
		}
		k.ID = id
		related, err := s.store.RelatedKeys(ctx, id)
		if err != nil {
			return apierror.FromStore(err)
		}
		taken := func(r *Key) bool { return in.MultiRegion || r.Region == region }
		if i := slices.IndexFunc(related, taken); i >= 0 {
			return fmt.Errorf("create key: region %s has a key %s already", related[i].Region, id)
		}
		_, err = s.create(ctx, k)
		return err
	})
}

// An Importer imports key material that the operator has in clear, such as that of a test. The material takes the
// way of GetParametersForImport and ImportKeyMaterial: it is wrapped under a key pair of the token and unwrapped
// there. One pair serves all imports of an Importer.
type Importer struct {
	s      *Service
	pair   importToken // names no key
	public *rsa.PublicKey
}

// NewImporter returns an Importer. It makes the key pair at the first import, so an unused one costs nothing.
func (s *Service) NewImporter() *Importer { return &Importer{s: s} }

// wrappingSpec is the WrappingKeySpec of an Importer's pair. RSA_2048 is too short for OAEP of P-521 keys, which
// RSA_AES_KEY_WRAP takes all the same.
const wrappingSpec = "RSA_2048"

// importPreference is the order in which an Importer tries the AlgorithmSpecs.
var importPreference = []string{"RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256",
	"RSA_AES_KEY_WRAP_SHA_1"}

// Import imports the material of a key whose origin is EXTERNAL: the bytes of a symmetric or HMAC key, or the
// PKCS#8 DER of a private key. It marks it as known; see Material.Known. It never expires.
func (i *Importer) Import(ctx context.Context, account, region, id string, material []byte) error {
	k, err := i.s.store.Key(ctx, region, id)
	if err != nil {
		return fmt.Errorf("import material of key %s: %w", id, err)
	}
	if i.public == nil {
		if err := i.makePair(ctx); err != nil {
			return fmt.Errorf("import material of key %s: %w", id, err)
		}
	}
	algorithm := slices.IndexFunc(importPreference, func(a string) bool {
		return i.s.checkWrapping(a, wrappingSpec, k) == nil
	})
	if algorithm < 0 {
		return fmt.Errorf("import material of key %s: %w", id, i.s.canImport(k.Spec, ""))
	}
	t := i.pair
	t.Region, t.KeyID, t.Algorithm = region, id, importPreference[algorithm]
	in := &ImportKeyMaterialRequest{KeyId: id, ExpirationModel: doesNotExpire}
	if in.EncryptedKeyMaterial, err = wrapOnHost(i.public, t.Algorithm, material); err != nil {
		return fmt.Errorf("import material of key %s: %w", id, err)
	}
	if in.ImportToken, err = i.s.sealImportToken(ctx, &t); err != nil {
		return fmt.Errorf("import material of key %s: %w", id, err)
	}
	return i.s.operate(ctx, account, region, "ImportKeyMaterial", in,
		func(ctx context.Context, c *iam.Caller) error {
			known := KnownMaterial(id, material)
			c.Call.KeyMembers, c.Call.Input = []int{0}, &struct { // without what is drawn anew each time
				KeyId    string
				Material []byte
			}{id, known}
			_, err := i.s.importMaterial(ctx, c, in, known)
			return err
		})
}

func (i *Importer) makePair(ctx context.Context) error {
	i.pair.Spec = wrappingSpec
	spki, err := i.s.makeWrappingPair(ctx, &i.pair, "declaration")
	if err != nil {
		return err
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return fmt.Errorf("read the public key of the wrapping pair: %w", err)
	}
	i.public = public.(*rsa.PublicKey) // which wrappingSpec says
	return nil
}

// Close destroys the key pair. What it can't destroy, the reconciler of a server does within a day.
func (i *Importer) Close(ctx context.Context) error {
	if i.pair.Spec == "" {
		return nil
	}
	if err := i.s.token.Destroy(ctx, i.pair.Wrapping); err != nil {
		return fmt.Errorf("destroy the wrapping pair: %w", err)
	}
	return i.s.store.RemoveWrappingKey(ctx, i.pair.Wrapping)
}

// KnownMaterial is what Material.Known has for the material of a key: a hash by which a declaration's material
// is compared with the key's. It is salted with the key's id.
func KnownMaterial(id string, material []byte) []byte {
	sum := sha256.Sum256(append([]byte("verenc-kms/known-material/1|"+id+"|"), material...))
	return sum[:]
}

// wrapOnHost wraps key material as a client does (AWS page "Importing key material step 3").
func wrapOnHost(public *rsa.PublicKey, algorithm string, material []byte) ([]byte, error) {
	newHash := map[hsm.ImportAlgorithm]func() hash.Hash{hsm.OAEPSHA1: sha1.New, hsm.RSAAESKeyWrapSHA1: sha1.New,
		hsm.OAEPSHA256: sha256.New, hsm.RSAAESKeyWrapSHA256: sha256.New}[importAlgorithms[algorithm]]
	if isOAEP(importAlgorithms[algorithm]) {
		return rsa.EncryptOAEP(newHash(), rand.Reader, public, material, nil)
	}
	kek := make([]byte, 32)
	defer clear(kek)
	_, _ = rand.Read(kek) // never fails
	kwp, err := subtle.NewKWP(kek)
	if err != nil {
		return nil, err
	}
	wrapped, err := kwp.Wrap(material)
	if err != nil {
		return nil, fmt.Errorf("wrap the key material: %w", err)
	}
	sealed, err := rsa.EncryptOAEP(newHash(), rand.Reader, public, kek, nil)
	return append(sealed, wrapped...), err
}

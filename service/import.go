package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/destruction"
	"github.com/verenc/kms/service/iam"
)

const (
	importTokenLife = 24 * time.Hour // API Reference, GetParametersForImport
	maxValidity     = 365            // days; API Reference, ImportKeyMaterial, ValidTo

	expires       = "KEY_MATERIAL_EXPIRES"
	doesNotExpire = "KEY_MATERIAL_DOES_NOT_EXPIRE"
	importNew     = "NEW_KEY_MATERIAL"
	importAgain   = "EXISTING_KEY_MATERIAL"
)

// importAlgorithms are the HSM's algorithms by AlgorithmSpec. RSAES_PKCS1_V1_5 is not among them:
// AWS has refused it since 2023.
var importAlgorithms = map[string]hsm.ImportAlgorithm{
	"RSAES_OAEP_SHA_1": hsm.OAEPSHA1, "RSAES_OAEP_SHA_256": hsm.OAEPSHA256,
	"RSA_AES_KEY_WRAP_SHA_1": hsm.RSAAESKeyWrapSHA1, "RSA_AES_KEY_WRAP_SHA_256": hsm.RSAAESKeyWrapSHA256,
}

// WrappingKey is a token object that exists for a limited time: a key pair that
// GetParametersForImport made, or an object that will become one of the service's own.
type WrappingKey struct {
	ObjectID  ObjectID
	ExpiresAt time.Time
	KeyStore  string // CustomKeyStoreId of its token; empty for the service's own
}

// checkWrapping refuses a wrapping algorithm that AWS does not allow for the key (AWS page "Select
// a wrapping algorithm").
func (s *Service) checkWrapping(algorithm, wrappingSpec string, k *Key) error {
	wrong := apierror.New(apierror.UnsupportedOperation,
		"Wrapping algorithm %s with wrapping key spec %s is not valid for key spec %s.",
		algorithm, wrappingSpec, k.Spec)
	a, known := importAlgorithms[algorithm]
	if !known || keySpecs[wrappingSpec].pair == 0 {
		return wrong
	}
	if !wraps(algorithm, k.Spec) || isOAEP(a) && k.Spec == "ECC_NIST_P521" && wrappingSpec == "RSA_2048" {
		return wrong
	}
	return s.canImport(k.Spec, algorithm)
}

func isOAEP(a hsm.ImportAlgorithm) bool { return a == hsm.OAEPSHA1 || a == hsm.OAEPSHA256 }

// wraps tells whether AWS wraps key material of a KeySpec with an algorithm.
func wraps(algorithm, spec string) bool {
	if isOAEP(importAlgorithms[algorithm]) {
		return rsaSizes[spec] == 0
	}
	return keySpecs[spec].pair != 0
}

// GetParametersForImportRequest is the input of GetParametersForImport.
type GetParametersForImportRequest struct {
	KeyId             string `shape:"KeyIdType" required:"true"`
	WrappingAlgorithm string `shape:"AlgorithmSpec" required:"true"`
	WrappingKeySpec   string `shape:"WrappingKeySpec" required:"true"`
}

// GetParametersForImportResponse is the output of GetParametersForImport.
type GetParametersForImportResponse struct {
	KeyId             string
	ImportToken       []byte
	PublicKey         []byte
	ParametersValidTo Timestamp
}

// importToken is what ImportToken holds, sealed by the token.
type importToken struct {
	Region, KeyID  string
	Wrapping       ObjectID
	Spec           string // WrappingKeySpec
	Algorithm      string // AlgorithmSpec
	ExpiresAt      time.Time
	CustomKeyStore string `json:",omitempty"`
}

const importTokenData = "verenc-kms/import-token/1" // additional data of the seal

// GetParametersForImport makes an RSA key pair in the token, to wrap key material for one key. The
// pair is destroyed when the import token expires.
func (s *Service) GetParametersForImport(
	ctx context.Context, c *iam.Caller, in *GetParametersForImportRequest,
) (*GetParametersForImportResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   "GetParametersForImport",
		keyID:       in.KeyId,
		policyInput: policyInput{conditions: in},
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkWrapping(in.WrappingAlgorithm, in.WrappingKeySpec, k); err != nil {
		return nil, err
	}
	t := importToken{Region: k.Region, KeyID: k.ID, Spec: in.WrappingKeySpec, Algorithm: in.WrappingAlgorithm}
	public, err := s.makeWrappingPair(ctx, &t, k.ID)
	if err != nil {
		return nil, err
	}
	sealed, err := s.sealImportToken(ctx, &t)
	if err != nil {
		return nil, err
	}
	return &GetParametersForImportResponse{
		KeyId:             k.ARN(s.arns(ctx)),
		ImportToken:       sealed,
		PublicKey:         public,
		ParametersValidTo: Timestamp(t.ExpiresAt),
	}, nil
}

// makeWrappingPair makes the key pair of t.Spec that t is to name, and returns its public key. name is the last
// part of its label.
func (s *Service) makeWrappingPair(ctx context.Context, t *importToken, name string) (public []byte, err error) {
	t.ExpiresAt = s.now().Add(importTokenLife)
	if _, err := io.ReadFull(s.cfg.Rand, t.Wrapping[:]); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("draw an object id: %w", err))
	}
	if err := s.store.InsertWrappingKey(ctx, WrappingKey{ObjectID: t.Wrapping, ExpiresAt: t.ExpiresAt}); err != nil {
		return nil, apierror.FromStore(err)
	}
	public, err = s.token.GenerateKeyPair(ctx, hsm.KeyPair{
		ID:      t.Wrapping,
		Label:   "verenc/import/" + name,
		Type:    keySpecs[t.Spec].pair,
		Purpose: hsm.UnwrapPair,
	})
	return public, dependencyError(err)
}

func (s *Service) sealImportToken(ctx context.Context, t *importToken) ([]byte, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	return s.sealForSelf(ctx, text, importTokenData)
}

func (in *GetParametersForImportRequest) condition(key string, _ *Key) []string {
	switch key {
	case "kms:wrappingalgorithm":
		return one(in.WrappingAlgorithm)
	case "kms:wrappingkeyspec":
		return one(in.WrappingKeySpec)
	}
	return nil
}

func (s *Service) openImportToken(ctx context.Context, sealed []byte, k *Key) (t importToken, err error) {
	text, err := s.openForSelf(ctx, sealed, importTokenData)
	if errors.Is(err, hsm.ErrAuthentication) {
		return t, apierror.NoMessage(apierror.InvalidImportToken).WithCause(err)
	}
	if err != nil {
		return t, dependencyError(err)
	}
	if err := json.Unmarshal(text, &t); err != nil || t.KeyID != k.ID || t.Region != k.Region {
		return t, apierror.NoMessage(apierror.InvalidImportToken).WithCause(err)
	}
	if !s.now().Before(t.ExpiresAt) {
		return t, &apierror.Error{Code: apierror.ExpiredImportToken}
	}
	return t, nil
}

// ImportKeyMaterialRequest is the input of ImportKeyMaterial.
type ImportKeyMaterialRequest struct {
	KeyId                  string    `shape:"KeyIdType" required:"true"`
	ImportToken            []byte    `shape:"CiphertextType" required:"true"`
	EncryptedKeyMaterial   []byte    `shape:"CiphertextType" required:"true"`
	ValidTo                Timestamp `shape:"DateType"`
	ExpirationModel        string    `shape:"ExpirationModelType"`
	ImportType             string    `shape:"ImportType"`
	KeyMaterialDescription string    `shape:"KeyMaterialDescriptionType"`
	KeyMaterialId          string    `shape:"BackingKeyIdType"`
}

// ImportKeyMaterialResponse is the output of ImportKeyMaterial.
type ImportKeyMaterialResponse struct {
	KeyId         string
	KeyMaterialId string `json:",omitempty"`
}

func (in *ImportKeyMaterialRequest) condition(key string, _ *Key) []string {
	switch at := time.Time(in.ValidTo); {
	case key == "kms:expirationmodel":
		return one(orElse(in.ExpirationModel, expires))
	case key == "kms:validto" && !at.IsZero():
		return one(at.UTC().Format(time.RFC3339))
	}
	return nil
}

// ImportKeyMaterial unwraps key material into the token. From then on it is like any other
// material.
func (s *Service) ImportKeyMaterial(
	ctx context.Context, c *iam.Caller, in *ImportKeyMaterialRequest,
) (*ImportKeyMaterialResponse, error) {
	return s.importMaterial(ctx, c, in, nil)
}

// importMaterial is ImportKeyMaterial. known marks material that a declaration has in clear; see Material.Known.
func (s *Service) importMaterial(
	ctx context.Context, c *iam.Caller, in *ImportKeyMaterialRequest, known []byte,
) (*ImportKeyMaterialResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   "ImportKeyMaterial",
		keyID:       in.KeyId,
		policyInput: policyInput{conditions: in},
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkValidTo(in); err != nil {
		return nil, err
	}
	t, err := s.openImportToken(ctx, in.ImportToken, k)
	if err != nil {
		return nil, err
	}
	if err := s.canImport(k.Spec, t.Algorithm); err != nil { // it may be another token than when the import began
		return nil, err
	}
	isNew, err := s.importType(ctx, in, k)
	if err != nil {
		return nil, err
	}
	m, err := s.addScrap(ctx, "ImportKeyMaterial", k, wrapping{})
	if err != nil {
		return nil, err
	}
	imported, err := s.unwrap(ctx, k, m, t, in.EncryptedKeyMaterial)
	if err == nil {
		id := materialID(k, imported.CheckValue)
		a := adoption{ordinal: m.Ordinal, id: id, public: imported.Public, isNew: isNew, known: known, request: in}
		err = s.updateShared(ctx, "ImportKeyMaterial", k, func(keys []*Key) error {
			return s.adopt(ctx, keys, k.Region, a)
		})
		m.ID = id
	}
	s.dropScrap(ctx, k, m, err) // after success this is the material that was replaced, if any
	if err != nil {
		return nil, err
	}
	out := &ImportKeyMaterialResponse{KeyId: k.ARN(s.arns(ctx))}
	if k.symmetric() {
		out.KeyMaterialId = m.ID
	}
	return out, nil
}

// unwrap makes the token object of imported material.
func (s *Service) unwrap(
	ctx context.Context, k *Key, m *Material, t importToken, wrapped []byte,
) (hsm.Imported, error) {
	in := hsm.Import{
		Wrapping:     t.Wrapping,
		WrappingType: keySpecs[t.Spec].pair,
		Algorithm:    importAlgorithms[t.Algorithm],
		Wrapped:      wrapped,
	}
	role := rolesOf(k)[0]
	id, label := m.Objects[role], objectLabel(k, m, role)
	if role == RolePair {
		pair := keyPair(k, id, label)
		in.Pair = &pair
	} else {
		secret := secretKey(k, id, label, role)
		in.Secret = &secret
	}
	imported, err := s.token.Import(ctx, in)
	switch {
	case errors.Is(err, hsm.ErrMaterial):
		return imported, apierror.NoMessage(apierror.IncorrectKeyMaterial).WithCause(err)
	case errors.Is(err, hsm.ErrNoObject): // the wrapping key is gone
		return imported, apierror.NoMessage(apierror.ExpiredImportToken).WithCause(err)
	}
	return imported, dependencyError(err)
}

// materialID identifies imported material. It is the same for the same key and material, and
// reveals nothing of it.
func materialID(k *Key, checkValue []byte) string {
	sum := sha256.Sum256(append([]byte("verenc-kms/material/1|"+k.ID+"|"), checkValue...))
	return hex.EncodeToString(sum[:])
}

func (s *Service) checkValidTo(in *ImportKeyMaterialRequest) error {
	at := time.Time(in.ValidTo)
	switch {
	case in.ExpirationModel == doesNotExpire && !at.IsZero():
		return apierror.New(apierror.Validation,
			"A validTo date must not be set if the ExpirationModel is %s", doesNotExpire)
	case in.ExpirationModel == doesNotExpire:
		return nil
	case at.IsZero():
		return apierror.New(apierror.Validation, "A validTo date must be set if the ExpirationModel is %s", expires)
	case !at.After(s.now()) || at.After(s.now().Add(maxValidity*day)):
		return apierror.New(apierror.Validation,
			"The validTo date must be in the future and at most %d days ahead.", maxValidity)
	}
	return nil
}

// importType tells whether new material is imported, and refuses an import that the key does not
// allow.
func (s *Service) importType(ctx context.Context, in *ImportKeyMaterialRequest, k *Key) (isNew bool, err error) {
	if !k.symmetric() && (in.ImportType != "" || in.KeyMaterialDescription != "" || in.KeyMaterialId != "") {
		return false, apierror.New(apierror.UnsupportedOperation,
			"ImportType, KeyMaterialDescription and KeyMaterialId are valid only for symmetric encryption keys.")
	}
	isNew = in.ImportType == importNew || in.ImportType == "" && k.CurrentMaterial() == nil
	switch {
	case isNew && in.KeyMaterialId != "":
		return false, apierror.New(apierror.Validation,
			"KeyMaterialId must not be set if the ImportType is %s", importNew)
	case isNew && k.multiRegion() && !k.primary():
		return false, apierror.New(apierror.UnsupportedOperation,
			"%s is not a multi-region primary key.", k.ARN(s.arns(ctx)))
	}
	return isNew, nil
}

// adoption is imported material that is to become one of the key's materials.
type adoption struct {
	ordinal uint32 // of the scrap material that it is still
	id      string
	public  []byte // of an asymmetric key
	isNew   bool
	known   []byte // see Material.Known
	request *ImportKeyMaterialRequest
}

// adopt makes a scrap material one of the key's materials: a new one, or the objects of a material
// that the key had before. The objects that it replaces become scrap.
func (s *Service) adopt(ctx context.Context, keys []*Key, region string, a adoption) error {
	k, id, in := keys[slices.IndexFunc(keys, func(k *Key) bool { return k.Region == region })], a.id, a.request
	scrap, ok := k.material(a.ordinal)
	if !ok || !scrap.Scrap {
		return apierror.InternalError(errors.New("the material was undone while it was imported"))
	}
	known := slices.IndexFunc(k.Materials, func(m Material) bool { return m.ID == id && !m.Scrap })
	switch {
	case known < 0 && !a.isNew,
		known >= 0 && in.ImportType == importNew,
		in.KeyMaterialId != "" && in.KeyMaterialId != id:
		return &apierror.Error{Code: apierror.IncorrectKeyMaterial}
	case known < 0:
		if p := k.pending(); p != nil {
			return apierror.New(apierror.InvalidState, "New key material (id: %s) cannot be imported into KMS key %s, "+
				"because another key material (id: %s) is pending rotation.", id, k.ARN(s.arns(ctx)), p.ID)
		}
		first := k.CurrentMaterial() == nil
		scrap.Scrap, scrap.ID, scrap.Pending = false, id, !first
		setImport(scrap, a)
		scrap.ImportedAt = scrap.CreatedAt
		for _, replica := range keys {
			if replica != k {
				replica.Materials = append(replica.Materials,
					Material{Ordinal: a.ordinal, ID: id, CreatedAt: scrap.CreatedAt, Pending: !first})
			}
		}
	default:
		m := &k.Materials[known]
		made := scrap.Objects
		scrap.takeObjects(m)
		m.Objects, m.ImportedAt = made, scrap.CreatedAt
		setImport(m, a)
	}
	if len(a.public) > 0 {
		for _, related := range keys {
			related.PublicKey = a.public
		}
	}
	if k.State == StatePendingImport && k.complete() {
		k.State = StateEnabled
	}
	return nil
}

func setImport(m *Material, a adoption) {
	in := a.request
	m.ExpiresAt = time.Time(in.ValidTo)
	if a.known != nil { // once known, always known
		m.Known = a.known
	}
	if in.KeyMaterialDescription != "" {
		m.Description = in.KeyMaterialDescription
	}
}

// complete tells whether the key has all of its material, other than material that is pending
// rotation.
func (k *Key) complete() bool {
	for i := range k.Materials {
		if m := &k.Materials[i]; !m.Scrap && !m.Pending && !m.present() {
			return false
		}
	}
	return k.CurrentMaterial() != nil
}

func expirationModel(m *Material) string {
	if m.ExpiresAt.IsZero() {
		return doesNotExpire
	}
	return expires
}

// DeleteImportedKeyMaterialRequest is the input of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialRequest struct {
	KeyId         string `shape:"KeyIdType" required:"true"`
	KeyMaterialId string `shape:"BackingKeyIdType"`
}

// DeleteImportedKeyMaterialResponse is the output of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialResponse struct {
	KeyId         string
	KeyMaterialId string `json:",omitempty"`
}

// DeleteImportedKeyMaterial destroys imported material; the key can't be used until it is imported
// again.
func (s *Service) DeleteImportedKeyMaterial(
	ctx context.Context, c *iam.Caller, in *DeleteImportedKeyMaterialRequest,
) (*DeleteImportedKeyMaterialResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "DeleteImportedKeyMaterial", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	out := &DeleteImportedKeyMaterialResponse{KeyId: k.ARN(s.arns(ctx))}
	m := k.CurrentMaterial()
	if in.KeyMaterialId != "" {
		i := slices.IndexFunc(k.Materials, func(m Material) bool { return m.ID == in.KeyMaterialId && !m.Scrap })
		if i < 0 {
			return nil, apierror.New(apierror.NotFound,
				"Key material %s is not associated with %s.", in.KeyMaterialId, out.KeyId)
		}
		m = &k.Materials[i]
	}
	if m == nil {
		return out, nil
	}
	if k.symmetric() {
		out.KeyMaterialId = m.ID
	}
	return out, s.removeImported(ctx, k, m.ID, s.destructionRequest(c, "DeleteImportedKeyMaterial"))
}

// removeImported takes the token objects away from an imported material, and destroys them.
func (s *Service) removeImported(ctx context.Context, k *Key, id string, asked *destruction.Request) error {
	var scrap Material
	err := s.updateKey(ctx, "DeleteImportedKeyMaterial", k, func(k *Key) error {
		scrap = Material{} // of a run that met another change
		i := slices.IndexFunc(k.Materials, func(m Material) bool { return m.ID == id && !m.Scrap })
		if i < 0 || !k.Materials[i].present() {
			return nil
		}
		m := &k.Materials[i]
		last := k.Materials[len(k.Materials)-1].Ordinal
		scrap = Material{Ordinal: last + 1, ID: id, CreatedAt: s.now(), Scrap: true, Destruction: asked}
		scrap.takeObjects(m)
		m.ExpiresAt = time.Time{}
		if m.Pending && (!k.multiRegion() || k.primary()) {
			k.Materials = slices.Delete(k.Materials, i, i+1)
		} else if !m.Pending && k.State != StatePendingDeletion && k.State != StatePendingReplicaDeletion {
			k.State = StatePendingImport
		}
		k.Materials = append(k.Materials, scrap)
		return nil
	})
	if err != nil || !scrap.Scrap {
		return err
	}
	s.dropScrap(ctx, k, &scrap, nil)
	return nil
}

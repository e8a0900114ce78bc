package service

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/keystore"
)

// A custom key store is another PKCS#11 token. The configuration names it by a cluster id. Its user
// PIN is the KeyStorePassword, which is stored sealed by the service's own token and tried once for
// each connection.

const (
	maxKeyStores     = 10             // AWS page "Resource quotas"
	keyStoreCloudHSM = "AWS_CLOUDHSM" // also the origin of the keys in it
)

// KeyStore is a custom key store: another PKCS#11 token, named in the configuration by its cluster
// id.
type KeyStore struct {
	ID              string // CustomKeyStoreId: cks- and 16 hex digits
	Account         string
	Region          string
	Name            string
	ClusterID       string
	TrustAnchor     string
	SealedPassword  []byte // the token's user PIN, sealed by the service's token and bound to ID
	Connected       bool   // the last of ConnectCustomKeyStore and DisconnectCustomKeyStore was the former
	Connections     int64  // how often ConnectCustomKeyStore was answered: the number of the connection
	ConnectionError string // ConnectionErrorCode of the last failed connection
	CreatedAt       time.Time
}

// XksProxyAuthenticationCredential authenticates to an external key store proxy.
type XksProxyAuthenticationCredential struct {
	AccessKeyId        string `shape:"XksProxyAuthenticationAccessKeyIdType" required:"true"`
	RawSecretAccessKey string `shape:"XksProxyAuthenticationRawSecretAccessKeyType" required:"true"`
}

// CreateCustomKeyStoreRequest is the input of CreateCustomKeyStore.
type CreateCustomKeyStoreRequest struct {
	CustomKeyStoreName               string                            `shape:"CustomKeyStoreNameType" required:"true"`
	CloudHsmClusterId                string                            `shape:"CloudHsmClusterIdType"`
	TrustAnchorCertificate           string                            `shape:"TrustAnchorCertificateType"`
	KeyStorePassword                 string                            `shape:"KeyStorePasswordType"`
	CustomKeyStoreType               string                            `shape:"CustomKeyStoreType"`
	XksProxyUriEndpoint              string                            `shape:"XksProxyUriEndpointType"`
	XksProxyUriPath                  string                            `shape:"XksProxyUriPathType"`
	XksProxyVpcEndpointServiceName   string                            `shape:"XksProxyVpcEndpointServiceNameType"`
	XksProxyVpcEndpointServiceOwner  string                            `shape:"AccountIdType"`
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredential `shape:"XksProxyAuthenticationCredentialType"`
	XksProxyConnectivity             string                            `shape:"XksProxyConnectivityType"`
}

// CreateCustomKeyStoreResponse is the output of CreateCustomKeyStore.
type CreateCustomKeyStoreResponse struct {
	CustomKeyStoreId string
}

// CreateCustomKeyStore registers a token that the configuration names. It is not connected yet.
func (s *Service) CreateCustomKeyStore(
	ctx context.Context, c *iam.Caller, in *CreateCustomKeyStoreRequest,
) (*CreateCustomKeyStoreResponse, error) {
	if err := s.authoriseAccount(ctx, c, "CreateCustomKeyStore"); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreType != "" && in.CustomKeyStoreType != keyStoreCloudHSM {
		return nil, apierror.New(apierror.XksProxyUnreachable, "External key stores need a proxy, "+
			"which this service does not call: use a PKCS#11 token, with CustomKeyStoreType %s.", keyStoreCloudHSM)
	}
	if in.CloudHsmClusterId == "" || in.KeyStorePassword == "" || in.TrustAnchorCertificate == "" {
		return nil, apierror.New(apierror.Validation, "CloudHsmClusterId, KeyStorePassword and TrustAnchorCertificate "+
			"are required for a custom key store of type %s.", keyStoreCloudHSM)
	}
	source, named := s.cfg.TokenSources[in.CloudHsmClusterId]
	if !named {
		return nil, noCluster(in.CloudHsmClusterId)
	}
	if source.TrustAnchor != "" && source.TrustAnchor != in.TrustAnchorCertificate {
		return nil, apierror.New(apierror.IncorrectTrustAnchor,
			"The trust anchor certificate is not that of cluster %s.", in.CloudHsmClusterId)
	}
	var random [8]byte
	if _, err := io.ReadFull(s.cfg.Rand, random[:]); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("draw a key store id: %w", err))
	}
	store := &KeyStore{
		ID:          "cks-" + hex.EncodeToString(random[:]),
		Account:     c.Account,
		Region:      c.Region,
		Name:        in.CustomKeyStoreName,
		ClusterID:   in.CloudHsmClusterId,
		TrustAnchor: in.TrustAnchorCertificate,
		CreatedAt:   s.now(),
	}
	var err error
	store.SealedPassword, err = s.sealForSelf(ctx, []byte(in.KeyStorePassword), keyStoreData(store.ID))
	if err != nil {
		return nil, err
	}
	switch err := s.store.InsertKeyStore(ctx, store, maxKeyStores); {
	case errors.Is(err, ErrExists):
		return nil, s.keyStoreConflict(ctx, store)
	case errors.Is(err, ErrLimit):
		return nil, apierror.New(apierror.LimitExceeded,
			"The account has %d custom key stores, the most that it can have.", maxKeyStores)
	case err != nil:
		return nil, apierror.FromStore(err)
	}
	return &CreateCustomKeyStoreResponse{CustomKeyStoreId: store.ID}, nil
}

// keyStoreConflict is the error for a custom key store whose name or cluster another one has.
func (s *Service) keyStoreConflict(ctx context.Context, store *KeyStore) error {
	all, err := s.store.KeyStores(ctx, store.Account, store.Region)
	if err != nil {
		return apierror.FromStore(err)
	}
	for _, other := range all {
		if other.ID != store.ID && other.ClusterID == store.ClusterID {
			return apierror.New(apierror.CloudHsmClusterInUse,
				"The cluster %s is associated with custom key store %s.", store.ClusterID, other.ID)
		}
	}
	return apierror.New(apierror.KeyStoreNameInUse, "The custom key store name %s is in use.", store.Name)
}

// keyStoreFor authorises an operation on a custom key store and finds it.
func (s *Service) keyStoreFor(ctx context.Context, c *iam.Caller, op, id string) (*KeyStore, error) {
	if err := s.authoriseAccount(ctx, c, op); err != nil {
		return nil, err
	}
	return s.keyStore(ctx, c, id)
}

func (s *Service) keyStore(ctx context.Context, c *iam.Caller, id string) (*KeyStore, error) {
	store, err := s.store.KeyStore(ctx, id)
	if errors.Is(err, ErrNoRow) || err == nil && (store.Account != c.Account || store.Region != c.Region) {
		return nil, noCustomKeyStore(id)
	}
	return store, apierror.FromStore(err)
}

func noCluster(id string) error {
	return apierror.New(apierror.CloudHsmClusterNotFound,
		"The cluster %s is not in the configuration (key_stores).", id)
}

func noCustomKeyStore(id string) error {
	return apierror.New(apierror.CustomKeyStoreNotFound, "Custom key store %s does not exist.", id)
}

func wrongKeyStoreState(id string, state keystore.State) error {
	return apierror.New(apierror.CustomKeyStoreInvalidState, "The connection state of custom key store %s is %s, "+
		"which is not valid for this operation.", id, state)
}

// ConnectCustomKeyStoreRequest is the input of ConnectCustomKeyStore.
type ConnectCustomKeyStoreRequest struct {
	CustomKeyStoreId string `shape:"CustomKeyStoreIdType" required:"true"`
}

// ConnectCustomKeyStore begins to connect; DescribeCustomKeyStores tells how it ends.
func (s *Service) ConnectCustomKeyStore(
	ctx context.Context, c *iam.Caller, in *ConnectCustomKeyStoreRequest,
) (*Empty, error) {
	store, err := s.keyStoreFor(ctx, c, "ConnectCustomKeyStore", in.CustomKeyStoreId)
	if err != nil {
		return nil, err
	}
	s.connecting.Lock()
	defer s.connecting.Unlock()
	err = s.store.UpdateKeyStore(ctx, store.ID, func(k *KeyStore) error {
		if k.Connected { // also one whose connection has failed: it must be disconnected first
			return wrongKeyStoreState(k.ID, s.keyStoreStatus(k).State)
		}
		k.Connected = true
		k.Connections++
		store = k
		return nil
	})
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	s.connectKeyStore(ctx, store)
	return &Empty{}, nil
}

// DisconnectCustomKeyStoreRequest is the input of DisconnectCustomKeyStore.
type DisconnectCustomKeyStoreRequest struct {
	CustomKeyStoreId string `shape:"CustomKeyStoreIdType" required:"true"`
}

// DisconnectCustomKeyStore ends the connection. Keys in the store are Unavailable afterwards.
func (s *Service) DisconnectCustomKeyStore(
	ctx context.Context, c *iam.Caller, in *DisconnectCustomKeyStoreRequest,
) (*Empty, error) {
	store, err := s.keyStoreFor(ctx, c, "DisconnectCustomKeyStore", in.CustomKeyStoreId)
	if err != nil {
		return nil, err
	}
	s.connecting.Lock()
	defer s.connecting.Unlock()
	err = s.store.UpdateKeyStore(ctx, store.ID, func(k *KeyStore) error {
		if !k.Connected {
			return wrongKeyStoreState(k.ID, keystore.Disconnected)
		}
		k.Connected = false
		return nil
	})
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	s.disconnectKeyStore(store.ID)
	return &Empty{}, nil
}

// UpdateCustomKeyStoreRequest is the input of UpdateCustomKeyStore.
type UpdateCustomKeyStoreRequest struct {
	CustomKeyStoreId                 string                            `shape:"CustomKeyStoreIdType" required:"true"`
	NewCustomKeyStoreName            string                            `shape:"CustomKeyStoreNameType"`
	KeyStorePassword                 string                            `shape:"KeyStorePasswordType"`
	CloudHsmClusterId                string                            `shape:"CloudHsmClusterIdType"`
	XksProxyUriEndpoint              string                            `shape:"XksProxyUriEndpointType"`
	XksProxyUriPath                  string                            `shape:"XksProxyUriPathType"`
	XksProxyVpcEndpointServiceName   string                            `shape:"XksProxyVpcEndpointServiceNameType"`
	XksProxyVpcEndpointServiceOwner  string                            `shape:"AccountIdType"`
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredential `shape:"XksProxyAuthenticationCredentialType"`
	XksProxyConnectivity             string                            `shape:"XksProxyConnectivityType"`
}

// UpdateCustomKeyStore changes a disconnected store's name, password or cluster.
func (s *Service) UpdateCustomKeyStore(
	ctx context.Context, c *iam.Caller, in *UpdateCustomKeyStoreRequest,
) (*Empty, error) {
	store, err := s.keyStoreFor(ctx, c, "UpdateCustomKeyStore", in.CustomKeyStoreId)
	if err != nil {
		return nil, err
	}
	if in.hasProxy() {
		return nil, apierror.New(apierror.XksProxyInvalidConfiguration,
			"Custom key store %s is not an external key store.", store.ID)
	}
	state := s.keyStoreStatus(store).State
	if state != keystore.Disconnected && (in.KeyStorePassword != "" || in.CloudHsmClusterId != "") {
		return nil, wrongKeyStoreState(store.ID, state)
	}
	source, named := s.cfg.TokenSources[in.CloudHsmClusterId]
	if in.CloudHsmClusterId != "" && !named {
		return nil, noCluster(in.CloudHsmClusterId)
	}
	if source.TrustAnchor != "" && source.TrustAnchor != store.TrustAnchor {
		return nil, apierror.New(apierror.CloudHsmClusterNotRelated,
			"The cluster %s has another trust anchor certificate than custom key store %s.",
			in.CloudHsmClusterId, store.ID)
	}
	changed := *store
	if in.NewCustomKeyStoreName != "" {
		changed.Name = in.NewCustomKeyStoreName
	}
	if in.CloudHsmClusterId != "" {
		changed.ClusterID = in.CloudHsmClusterId
	}
	if in.KeyStorePassword != "" {
		changed.SealedPassword, err = s.sealForSelf(ctx, []byte(in.KeyStorePassword), keyStoreData(store.ID))
		if err != nil {
			return nil, err
		}
	}
	err = s.store.UpdateKeyStore(ctx, store.ID, func(k *KeyStore) error {
		k.Name, k.ClusterID, k.SealedPassword = changed.Name, changed.ClusterID, changed.SealedPassword
		return nil
	})
	if errors.Is(err, ErrExists) {
		return nil, s.keyStoreConflict(ctx, &changed)
	}
	return &Empty{}, apierror.FromStore(err)
}

// hasProxy tells whether the request has a member of external key stores.
func (in *UpdateCustomKeyStoreRequest) hasProxy() bool {
	return in.XksProxyUriEndpoint != "" ||
		in.XksProxyUriPath != "" ||
		in.XksProxyVpcEndpointServiceName != "" ||
		in.XksProxyVpcEndpointServiceOwner != "" ||
		in.XksProxyAuthenticationCredential != nil ||
		in.XksProxyConnectivity != ""
}

// DeleteCustomKeyStoreRequest is the input of DeleteCustomKeyStore.
type DeleteCustomKeyStoreRequest struct {
	CustomKeyStoreId string `shape:"CustomKeyStoreIdType" required:"true"`
}

// DeleteCustomKeyStore deletes a disconnected store that has no keys. The token stays as it is.
func (s *Service) DeleteCustomKeyStore(
	ctx context.Context, c *iam.Caller, in *DeleteCustomKeyStoreRequest,
) (*Empty, error) {
	store, err := s.keyStoreFor(ctx, c, "DeleteCustomKeyStore", in.CustomKeyStoreId)
	if err != nil {
		return nil, err
	}
	if state := s.keyStoreStatus(store).State; state != keystore.Disconnected {
		return nil, wrongKeyStoreState(store.ID, state)
	}
	err = s.store.RemoveKeyStore(ctx, store.ID)
	if errors.Is(err, ErrLimit) {
		return nil, apierror.New(apierror.CustomKeyStoreHasCMKs, "Custom key store %s contains KMS keys.", store.ID)
	}
	if errors.Is(err, ErrNoRow) {
		return nil, noCustomKeyStore(store.ID)
	}
	return &Empty{}, apierror.FromStore(err)
}

// DescribeCustomKeyStoresRequest is the input of DescribeCustomKeyStores.
type DescribeCustomKeyStoresRequest struct {
	CustomKeyStoreId   string `shape:"CustomKeyStoreIdType"`
	CustomKeyStoreName string `shape:"CustomKeyStoreNameType"`
	Limit              int32  `shape:"LimitType"`
	Marker             string `shape:"MarkerType"`
}

// CustomKeyStoresListEntry is one custom key store.
type CustomKeyStoresListEntry struct {
	CustomKeyStoreId       string
	CustomKeyStoreName     string
	CloudHsmClusterId      string
	TrustAnchorCertificate string
	ConnectionState        string
	ConnectionErrorCode    string `json:",omitempty"`
	CreationDate           Timestamp
	CustomKeyStoreType     string
}

// DescribeCustomKeyStoresResponse is the output of DescribeCustomKeyStores.
type DescribeCustomKeyStoresResponse struct {
	CustomKeyStores []CustomKeyStoresListEntry
	NextMarker      string `json:",omitempty"`
	Truncated       bool
}

// DescribeCustomKeyStores returns the account's custom key stores in the region, or one by id or
// name.
func (s *Service) DescribeCustomKeyStores(
	ctx context.Context, c *iam.Caller, in *DescribeCustomKeyStoresRequest,
) (*DescribeCustomKeyStoresResponse, error) {
	if err := s.authoriseAccount(ctx, c, "DescribeCustomKeyStores"); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreId != "" && in.CustomKeyStoreName != "" {
		return nil, apierror.New(apierror.Validation,
			"Specify either CustomKeyStoreId or CustomKeyStoreName, not both.")
	}
	p, err := newPage("DescribeCustomKeyStores", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	all, err := s.store.KeyStores(ctx, c.Account, c.Region)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	var wanted []*KeyStore
	for _, store := range all {
		if (in.CustomKeyStoreId == "" || store.ID == in.CustomKeyStoreId) &&
			(in.CustomKeyStoreName == "" || store.Name == in.CustomKeyStoreName) {
			wanted = append(wanted, store)
		}
	}
	if asked := in.CustomKeyStoreId + in.CustomKeyStoreName; asked != "" && len(wanted) == 0 {
		return nil, noCustomKeyStore(asked)
	}
	list, next := pageOf(p, wanted, func(k *KeyStore) string { return k.ID })
	out := &DescribeCustomKeyStoresResponse{
		CustomKeyStores: []CustomKeyStoresListEntry{},
		NextMarker:      next,
		Truncated:       next != "",
	}
	for _, store := range list {
		status := s.keyStoreStatus(store)
		out.CustomKeyStores = append(out.CustomKeyStores, CustomKeyStoresListEntry{
			CustomKeyStoreId:       store.ID,
			CustomKeyStoreName:     store.Name,
			CloudHsmClusterId:      store.ClusterID,
			TrustAnchorCertificate: store.TrustAnchor,
			ConnectionState:        string(status.State),
			ConnectionErrorCode:    status.ErrorCode,
			CreationDate:           Timestamp(store.CreatedAt),
			CustomKeyStoreType:     keyStoreCloudHSM,
		})
	}
	return out, nil
}

package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
)

// ConnectionState of a custom key store.
const (
	storeConnected    = "CONNECTED"
	storeConnecting   = "CONNECTING"
	storeFailed       = "FAILED"
	storeDisconnected = "DISCONNECTED"

	connectTimeout = 30 * time.Second
)

// ClosableToken is the token of a custom key store.
type ClosableToken interface {
	Token
	Close() error
}

// TokenSource is a token that the configuration names for custom key stores.
type TokenSource struct {
	// Open connects to the token with a user PIN. Its errors are those of hsm.Open.
	Open func(ctx context.Context, pin string) (ClosableToken, error)
	// TrustAnchor is the certificate that CreateCustomKeyStore must be given, in PEM; empty takes any.
	TrustAnchor string
	// Residency is where new key material of custom key stores lives that use it; default ResidencyToken.
	Residency Residency
}

// keyStores holds the connections to custom key stores.
type keyStores struct {
	mu      sync.Mutex
	open    map[string]*connection // guarded by mu, by CustomKeyStoreId
	closed  bool                   // guarded by mu
	running sync.WaitGroup         // the goroutines that connect
}

type connection struct {
	state string
	token ClosableToken // when CONNECTED
	fault string        // ConnectionErrorCode, when FAILED
}

func (s *keyStores) connected(id string) bool {
	_, err := s.token(id)
	return err == nil
}

var errStoreDisconnected = errors.New("the custom key store is not connected")

func (s *keyStores) token(id string) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.open[id]; c != nil && c.state == storeConnected {
		return c.token, nil
	}
	return nil, errStoreDisconnected
}

func (s *keyStores) status(id string) connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.open[id]; c != nil {
		return *c
	}
	return connection{state: storeDisconnected}
}

// begin marks a store as CONNECTING, unless it is that or connected already.
func (s *keyStores) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.open[id]; s.closed || c != nil && c.state != storeFailed {
		return false
	}
	s.open[id] = &connection{state: storeConnecting}
	s.running.Add(1)
	return true
}

// end keeps the outcome of a connection, or closes it when nobody wants it any more.
func (s *keyStores) end(id string, outcome connection) error {
	s.mu.Lock()
	c := s.open[id]
	if wanted := c != nil && c.state == storeConnecting && !s.closed; wanted {
		*c = outcome
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	if outcome.token == nil {
		return nil
	}
	return outcome.token.Close()
}

// drop forgets a connection and closes it.
func (s *keyStores) drop(id string) error {
	s.mu.Lock()
	c := s.open[id]
	delete(s.open, id)
	s.mu.Unlock()
	if c == nil || c.token == nil {
		return nil
	}
	return c.token.Close()
}

// closeAll ends all connections; no other begins.
func (s *keyStores) closeAll() error {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = map[string]*connection{}
	s.mu.Unlock()
	s.running.Wait()
	var errs []error
	for _, c := range open {
		if c.token != nil {
			errs = append(errs, c.token.Close())
		}
	}
	return errors.Join(errs...)
}

// tokenIn gives the token of a custom key store that is connected, or the service's own.
func (s *Service) tokenIn(keyStore string) (Token, error) {
	if keyStore == "" {
		return s.token, nil
	}
	return s.keyStores.token(keyStore)
}

// tokenOf gives the token that a key's material is in.
func (s *Service) tokenOf(k *Key) (Token, error) {
	t, err := s.tokenIn(k.CustomKeyStore)
	if err != nil {
		return nil, apierror.New(apierror.KeyUnavailable, apierror.MessageUnavailable).WithCause(err)
	}
	return t, nil
}

// connect opens a custom key store's token.
func (s *Service) connect(ctx context.Context, store *KeyStore) {
	defer s.keyStores.running.Done()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	token, err := s.openKeyStore(ctx, store)
	outcome := connection{state: storeConnected, token: token}
	if err != nil {
		outcome = connection{state: storeFailed, fault: connectionFault(err)}
		s.log.Warn("custom key store can't be connected", zap.String("store", store.ID), zap.String("code", outcome.fault), zap.Error(err))
	}
	if err := s.keyStores.end(store.ID, outcome); err != nil {
		s.log.Warn("close a custom key store", zap.String("store", store.ID), zap.Error(err))
	}
}

func (s *Service) openKeyStore(ctx context.Context, store *KeyStore) (ClosableToken, error) {
	cluster, named := s.cfg.TokenSources[store.ClusterID]
	if !named {
		return nil, errUnknownCluster
	}
	pin, err := s.openForSelf(ctx, store.SealedPassword, keyStoreData(store.ID))
	if err != nil {
		return nil, fmt.Errorf("unseal the password: %w", err)
	}
	defer clear(pin)
	return cluster.Open(ctx, string(pin))
}

// openHere connects a key's custom key store for a command, as a server would: unless its owner has it disconnected.
func (s *Service) openHere(ctx context.Context, k *Key) error {
	id := k.CustomKeyStore
	if id == "" || s.keyStores.connected(id) {
		return nil
	}
	store, err := s.store.KeyStore(ctx, id)
	if err != nil {
		return fmt.Errorf("read custom key store %s: %w", id, err)
	}
	if !store.Connected {
		return fmt.Errorf("the key is in the custom key store %s, which is disconnected: ConnectCustomKeyStore connects it", id)
	}
	if s.keyStores.begin(id) {
		s.connect(ctx, store)
	}
	if status := s.keyStores.status(id); status.state != storeConnected {
		return fmt.Errorf("connect the custom key store %s: %s %s", id, status.state, status.fault)
	}
	return nil
}

// Close ends the connections to custom key stores. A Service that Run has served is closed already.
func (s *Service) Close() error { return s.keyStores.closeAll() }

var errUnknownCluster = errors.New("the configuration names no such cluster")

func keyStoreData(id string) string { return "verenc-kms/key-store/1|" + id }

// connectionFault gives the ConnectionErrorCode of a failed connection.
func connectionFault(err error) string {
	switch {
	case errors.Is(err, errUnknownCluster):
		return "CLUSTER_NOT_FOUND"
	case errors.Is(err, hsm.ErrPIN):
		return "INVALID_CREDENTIALS"
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrTimeout):
		return "NETWORK_ERRORS"
	}
	return "INTERNAL_ERROR"
}

// syncKeyStores connects and disconnects what the store says and this process has not done yet: at the start, and
// when another process took the request.
func (s *Service) syncKeyStores(ctx context.Context) error {
	all, err := s.store.KeyStores(ctx, "", "")
	if err != nil {
		return fmt.Errorf("read custom key stores: %w", err)
	}
	wanted := map[string]bool{}
	for _, store := range all {
		if !store.Connected {
			continue
		}
		wanted[store.ID] = true
		if s.keyStores.status(store.ID).state == storeDisconnected && s.keyStores.begin(store.ID) {
			go s.connect(context.WithoutCancel(ctx), store)
		}
	}
	var errs []error
	s.keyStores.mu.Lock()
	var dropped []string
	for id := range s.keyStores.open {
		if !wanted[id] {
			dropped = append(dropped, id)
		}
	}
	s.keyStores.mu.Unlock()
	for _, id := range dropped {
		errs = append(errs, s.keyStores.drop(id))
	}
	return errors.Join(errs...)
}

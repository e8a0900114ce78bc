package service

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/keystore"
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
	// Residency is where the custom key stores that use this token keep new key material; default
	// ResidencyToken.
	Residency Residency
}

// tokenIn returns the token of a custom key store that is connected, or the service's own.
func (s *Service) tokenIn(keyStore string) (Token, error) {
	if keyStore == "" {
		return s.token, nil
	}
	return s.keyStores.Token(keyStore)
}

// tokenOf returns the token that holds a key's material.
func (s *Service) tokenOf(k *Key) (Token, error) {
	t, err := s.tokenIn(k.CustomKeyStore)
	if err != nil {
		return nil, apierror.New(apierror.KeyUnavailable, apierror.MessageUnavailable).WithCause(err)
	}
	return t, nil
}

// keyStoreOpener returns what opens the token of a custom key store.
func (s *Service) keyStoreOpener(store *KeyStore) keystore.OpenFunc[ClosableToken] {
	return func(ctx context.Context) (ClosableToken, error) {
		source, named := s.cfg.TokenSources[store.ClusterID]
		if !named {
			return nil, keystore.ErrUnknownCluster
		}
		pin, err := s.openForSelf(ctx, store.SealedPassword, keyStoreData(store.ID))
		if err != nil {
			return nil, fmt.Errorf("unseal the password: %w", err)
		}
		defer clear(pin)
		return source.Open(ctx, string(pin))
	}
}

// keyStoreData binds a sealed password to its custom key store.
func keyStoreData(id string) string { return "verenc-kms/key-store/1|" + id }

// connectKeyStoreOf connects a key's custom key store for a command, as a server would: unless its
// owner has disconnected it.
func (s *Service) connectKeyStoreOf(ctx context.Context, k *Key) error {
	id := k.CustomKeyStore
	if id == "" || s.keyStores.Status(id).State == keystore.Connected {
		return nil
	}
	store, err := s.store.KeyStore(ctx, id)
	if err != nil {
		return fmt.Errorf("read custom key store %s: %w", id, err)
	}
	if !store.Connected {
		return fmt.Errorf("the key is in the custom key store %s, which is disconnected: "+
			"ConnectCustomKeyStore connects it", id)
	}
	if attempt := s.keyStores.Begin(id, store.Connections); attempt != nil {
		attempt.Open(ctx, s.keyStoreOpener(store))
	}
	if status := s.keyStores.Status(id); status.State != keystore.Connected {
		return fmt.Errorf("connect the custom key store %s: %s %s", id, status.State, status.ErrorCode)
	}
	return nil
}

// keepKeyStores syncs at once, after each change, and every interval, until ctx ends.
func (s *Service) keepKeyStores(ctx context.Context, interval time.Duration) {
	for {
		if err := s.syncKeyStores(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("connect custom key stores; it is tried again", zap.Duration("in", interval), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.store.KeyStoresChanged():
		case <-time.After(interval):
		}
	}
}

// syncKeyStores connects and disconnects custom key stores as the database says: at the start, and
// after another process has handled ConnectCustomKeyStore or DisconnectCustomKeyStore.
func (s *Service) syncKeyStores(ctx context.Context) error {
	s.connecting.Lock() // not between a request's change of a row and what it does to the connection
	defer s.connecting.Unlock()
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
		if status := s.keyStores.Status(store.ID); status.State != keystore.Disconnected &&
			status.Connection == store.Connections {
			continue // a failed one, too: its owner has to disconnect it first
		}
		s.connectKeyStore(ctx, store)
	}
	return s.keyStores.DisconnectOthers(wanted)
}

// connectKeyStore begins to connect a custom key store, and ends the connection that was there before another process
// has handled DisconnectCustomKeyStore and ConnectCustomKeyStore. The caller holds s.connecting.
func (s *Service) connectKeyStore(ctx context.Context, store *KeyStore) {
	s.disconnectKeyStore(store.ID)
	if attempt := s.keyStores.Begin(store.ID, store.Connections); attempt != nil {
		go attempt.Open(context.WithoutCancel(ctx), s.keyStoreOpener(store))
	}
}

func (s *Service) disconnectKeyStore(id string) {
	if err := s.keyStores.Disconnect(id); err != nil {
		s.log.Warn("close a custom key store", zap.String("store", id), zap.Error(err))
	}
}

// keyStoreStatus is the status of a custom key store with this row. Until this process has begun the connection that
// another one was asked for, it is Connecting.
func (s *Service) keyStoreStatus(k *KeyStore) keystore.Status {
	status := s.keyStores.Status(k.ID)
	switch {
	case !k.Connected:
		return keystore.Status{State: keystore.Disconnected}
	case status.State == keystore.Disconnected, status.Connection != k.Connections:
		return keystore.Status{State: keystore.Connecting}
	}
	return status
}

// Close ends the connections to custom key stores. After Run has returned it does nothing.
func (s *Service) Close() error { return s.keyStores.Close() }

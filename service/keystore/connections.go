// Package keystore holds the connections to the tokens of custom key stores. Each key store is
// CONNECTING, CONNECTED, FAILED or DISCONNECTED. Every process has connections of its own.
//
// The package knows a token as something that can be opened and closed. Package service says which
// key stores there are, and how their tokens are opened.
package keystore

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
)

// State is a ConnectionState (API Reference of AWS KMS, CustomKeyStoresListEntry).
type State string

// The states of a connection.
const (
	Connected    State = "CONNECTED"
	Connecting   State = "CONNECTING"
	Failed       State = "FAILED"
	Disconnected State = "DISCONNECTED"
)

// Status is the state of a connection.
type Status struct {
	State      State
	ErrorCode  string // ConnectionErrorCode, when it is Failed
	Connection int64  // the number that Begin was given, unless it is Disconnected
}

var (
	// ErrDisconnected is the error of Token for a custom key store that is not connected.
	ErrDisconnected = errors.New("the custom key store is not connected")
	// ErrUnknownCluster is what an OpenFunc returns when the configuration does not name the key
	// store's cluster.
	ErrUnknownCluster = errors.New("the configuration names no such cluster")
)

// openTimeout is how long a connection may take.
const openTimeout = 30 * time.Second

// OpenFunc opens a token. Its errors are those of hsm.Open, ErrUnknownCluster, or others.
type OpenFunc[T io.Closer] func(context.Context) (T, error)

// Connections are the connections to the tokens of custom key stores, by CustomKeyStoreId. Its methods
// may be called concurrently.
type Connections[T io.Closer] struct {
	log     *zap.Logger
	opening sync.WaitGroup // attempts under way

	mu     sync.Mutex
	byID   map[string]*connection[T] // guarded by mu
	closed bool                      // guarded by mu
}

type connection[T io.Closer] struct {
	Status
	token T // when Connected
}

// New returns Connections without any.
func New[T io.Closer](log *zap.Logger) *Connections[T] {
	return &Connections[T]{log: log, byID: map[string]*connection[T]{}}
}

// Token returns the token of a connected key store, or ErrDisconnected.
func (c *Connections[T]) Token(id string) (token T, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.byID[id]; one != nil && one.State == Connected {
		return one.token, nil
	}
	return token, ErrDisconnected
}

// Status returns the status of a key store.
func (c *Connections[T]) Status(id string) Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.byID[id]; one != nil {
		return one.Status
	}
	return Status{State: Disconnected}
}

// Attempt is an attempt to connect. Open must be called, once.
type Attempt[T io.Closer] struct {
	all *Connections[T]
	id  string
	own *connection[T]
}

// Begin makes a key store Connecting, as the connection with a number, and returns the attempt, or nil when the key
// store is Connecting or Connected, or c is closed.
func (c *Connections[T]) Begin(id string, number int64) *Attempt[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.byID[id]; c.closed || one != nil && one.State != Failed {
		return nil
	}
	a := &Attempt[T]{all: c, id: id, own: &connection[T]{Status: Status{State: Connecting, Connection: number}}}
	c.byID[id] = a.own
	c.opening.Add(1)
	return a
}

// Open opens the key store's token, within 30 seconds, and makes the key store Connected or Failed. A
// token that is no longer wanted, because of Close or Disconnect, is closed.
func (a *Attempt[T]) Open(ctx context.Context, open OpenFunc[T]) {
	defer a.all.opening.Done()
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	log := a.all.log.With(zap.String("store", a.id))
	token, err := open(ctx)
	if err != nil {
		code := errorCode(err)
		log.Warn("custom key store can't be connected", zap.String("code", code), zap.Error(err))
		a.end(connection[T]{Status: Status{State: Failed, ErrorCode: code}})
		return
	}
	if a.end(connection[T]{Status{State: Connected}, token}) {
		return
	}
	if err := token.Close(); err != nil {
		log.Warn("close a custom key store", zap.Error(err))
	}
}

// end keeps the outcome of an attempt, unless it is no longer wanted.
func (a *Attempt[T]) end(outcome connection[T]) bool {
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	wanted := a.all.byID[a.id] == a.own
	if wanted {
		outcome.Connection = a.own.Connection
		*a.own = outcome
	}
	return wanted
}

// Disconnect makes a key store Disconnected and closes its token. Its error is that of closing.
func (c *Connections[T]) Disconnect(id string) error {
	c.mu.Lock()
	one := c.byID[id]
	delete(c.byID, id)
	c.mu.Unlock()
	return one.close()
}

// DisconnectOthers makes all key stores Disconnected but those to keep, and closes their tokens.
func (c *Connections[T]) DisconnectOthers(keep map[string]bool) error {
	c.mu.Lock()
	var others []*connection[T]
	for id, one := range c.byID {
		if !keep[id] {
			others = append(others, one)
			delete(c.byID, id)
		}
	}
	c.mu.Unlock()
	return closeAll(others)
}

// Close makes all key stores Disconnected, waits for attempts under way to end, and closes the tokens.
// No other attempt begins.
func (c *Connections[T]) Close() error {
	c.mu.Lock()
	c.closed = true
	all := slices.Collect(maps.Values(c.byID))
	clear(c.byID)
	c.mu.Unlock()
	c.opening.Wait()
	return closeAll(all)
}

func (one *connection[T]) close() error {
	if one == nil || one.State != Connected {
		return nil
	}
	return one.token.Close()
}

func closeAll[T io.Closer](connections []*connection[T]) error {
	var errs []error
	for _, one := range connections {
		errs = append(errs, one.close())
	}
	return errors.Join(errs...)
}

// errorCode is the ConnectionErrorCode for an error of an OpenFunc.
func errorCode(err error) string {
	switch {
	case errors.Is(err, ErrUnknownCluster):
		return "CLUSTER_NOT_FOUND"
	case errors.Is(err, hsm.ErrPIN):
		return "INVALID_CREDENTIALS"
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrTimeout):
		return "NETWORK_ERRORS"
	}
	return "INTERNAL_ERROR"
}

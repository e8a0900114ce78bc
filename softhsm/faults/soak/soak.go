package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

type config struct {
	soft       softhsm.Token
	seed       uint64
	callers    int
	operations int64 // how many; 0: until the context ends
	reuse      bool  // of session handles
}

// soak is a token under load, and what its keys have made.
type soak struct {
	cfg    config
	module *faults.Module
	token  *hsm.Token
	report *report
	begun  atomic.Int64 // operations

	keys    hsm.SealingKeys
	outside []hsm.WrappedKey // more keys than are held unwrapped
	mac     hsm.ObjectID
	macOf   []byte // of message
	signer  hsm.ObjectID
	public  *ecdsa.PublicKey

	mu      sync.Mutex
	boxes   []box                 // guarded by mu: to be opened again and again
	objects map[hsm.ObjectID]bool // guarded by mu: whether a key must exist; keys whose state is unknown are not in it
	alive   int                   // guarded by mu: how many must exist
}

// box is a ciphertext. The plaintext of a wrapped one is known once it was opened.
type box struct {
	sealed, aad, plaintext []byte
	wrapped                bool
	outside                int // the wrapped key that made it, counted from 1; 0: made by keys
}

const (
	mostBoxes   = 200
	mostKeys    = 100
	wrappedSize = 32 // bytes
	outsideKeys = 5
	heldKeys    = 2
	patience    = time.Minute
)

var message = []byte("message")

// run makes the keys, runs the callers and the faults until the end, and inspects what is left.
func run(ctx context.Context, dir string, cfg config) (*report, error) {
	m, err := faults.Build(dir, cfg.soft.Module)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if cfg.reuse {
		m.ReuseHandles()
	}
	m.SetSeed(cfg.seed)
	defer m.Clear() // or Close would wait for ever
	s := &soak{cfg: cfg, module: m, report: newReport(), objects: map[hsm.ObjectID]bool{}}
	if err := s.makeKeys(); err != nil {
		return nil, err
	}
	err = hsm.ErrTimeout
	for errors.Is(err, hsm.ErrTimeout) { // for it is short, and the machine may be busy
		s.token, err = hsm.Open(context.Background(),
			hsm.Config{Module: m.Path, Serial: cfg.soft.Serial, PIN: cfg.soft.PIN, Sessions: cfg.callers / 2,
				HeldKeys:    heldKeys,
				CallTimeout: 250 * time.Millisecond, GenerateTimeout: 2 * time.Second,
				ConnectTimeout: time.Second,
				MaxStuck:       8, KeepAlive: 50 * time.Millisecond, RetryMin: 10 * time.Millisecond})
	}
	if err != nil {
		return nil, err
	}
	if !s.prove() {
		return nil, errors.Join(errors.New("a token that is well does not wrap a data key"), s.token.Close())
	}
	begun := time.Now()
	s.load(ctx)
	s.report.lasted = time.Since(begun)
	s.calm()
	s.inspect()
	return s.report, s.token.Close()
}

// prove has the token prove what it can do. A fault in its first proof would mean that it can't.
func (s *soak) prove() bool {
	patient, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return retry(patient, func() bool {
		_, err := s.token.GenerateWrapped(context.Background(), s.keys, wrappedSize, nil)
		return err == nil
	})
}

func newID(r *rand.Rand) (id hsm.ObjectID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// makeKeys makes the keys over a connection of its own, with long timeouts.
func (s *soak) makeKeys() (err error) {
	token, err := hsm.Open(context.Background(),
		hsm.Config{Module: s.module.Path, Serial: s.cfg.soft.Serial, PIN: s.cfg.soft.PIN, CallTimeout: time.Minute,
			GenerateTimeout: time.Minute, ConnectTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, token.Close()) }()
	ctx, r := context.Background(), rand.New(rand.NewPCG(s.cfg.seed, 0))
	seal, wrap := newID(r), newID(r)
	s.keys, s.mac, s.signer = hsm.SealingKeys{Seal: seal, Wrap: wrap}, newID(r), newID(r)
	for id, purpose := range map[hsm.ObjectID]hsm.Purpose{seal: hsm.Seal, wrap: hsm.Wrap, s.mac: hsm.MAC256} {
		err = errors.Join(err, token.GenerateSecretKey(ctx, hsm.SecretKey{ID: id, Purpose: purpose}))
		s.objects[id] = true
	}
	spki, failed := token.GenerateKeyPair(ctx, hsm.KeyPair{ID: s.signer, Type: hsm.P256, Purpose: hsm.SignPair})
	s.objects[s.signer] = true
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return err
	}
	s.public = public.(*ecdsa.PublicKey)
	if s.macOf, err = token.MAC(ctx, s.mac, crypto.SHA256, message); err != nil {
		return err
	}
	return s.makeOutside(ctx, token, r)
}

// makeOutside makes wrapped keys, which are not token objects.
func (s *soak) makeOutside(ctx context.Context, token *hsm.Token, r *rand.Rand) error {
	under := newID(r)
	if err := token.GenerateWrappingKey(ctx, under, ""); err != nil {
		return err
	}
	s.objects[under] = true
	for range outsideKeys {
		k := hsm.WrappedKey{Name: newID(r), Under: under, Purpose: hsm.Seal}
		var err error
		if k.Wrapped, _, err = token.GenerateWrappedKey(ctx, k); err != nil {
			return err
		}
		s.outside = append(s.outside, k)
	}
	return nil
}

// load runs the callers and the faults.
func (s *soak) load(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var callers, breaker sync.WaitGroup
	for i := range s.cfg.callers {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(s.cfg.seed, uint64(i)+1))
			for ctx.Err() == nil {
				if n := s.begun.Add(1); s.cfg.operations > 0 && n > s.cfg.operations {
					return
				}
				if !s.operate(r) { // as clients do
					time.Sleep(time.Duration(r.IntN(int(20 * time.Millisecond))))
				}
			}
		})
	}
	breaker.Go(func() {
		r := rand.New(rand.NewPCG(s.cfg.seed, 1<<32))
		for ctx.Err() == nil {
			s.causeFault(ctx, r)
		}
	})
	callers.Wait()
	cancel()
	breaker.Wait()
}

// operate does one operation and checks its answer. It reports whether it succeeded.
func (s *soak) operate(r *rand.Rand) bool {
	ctx := context.Background()
	aad := []byte{byte(r.Uint32())}
	switch r.IntN(14) {
	case 0:
		plaintext := bytes.Repeat(aad, 1+r.IntN(64))
		sealed, err := s.token.Encrypt(ctx, s.keys.Seal, plaintext, aad)
		return s.keep("Encrypt", box{sealed: sealed, aad: aad, plaintext: plaintext}, err)
	case 1:
		made, err := s.token.GenerateSealed(ctx, s.keys.Seal, 32, aad)
		return s.keep("GenerateSealed", box{sealed: made.Box, aad: aad, plaintext: made.Plaintext}, err)
	case 2, 3:
		sealed, err := s.token.GenerateWrapped(ctx, s.keys, wrappedSize, aad)
		return s.keep("GenerateWrapped", box{sealed: sealed, aad: aad, wrapped: true}, err)
	case 4:
		return s.forge(r)
	case 5:
		mac, err := s.token.MAC(ctx, s.mac, crypto.SHA256, message)
		if err == nil && !bytes.Equal(mac, s.macOf) {
			s.report.wrongAnswer("MAC: %x, not %x", mac, s.macOf)
		}
		return s.report.done("MAC", err)
	case 6:
		digest := sha256.Sum256(aad)
		signature, err := s.token.Sign(ctx, s.signer, hsm.P256,
			hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256}, digest[:])
		if err == nil && !ecdsa.VerifyASN1(s.public, digest[:], signature) {
			s.report.wrongAnswer("Sign: %x does not verify", signature)
		}
		return s.report.done("Sign", err)
	case 7:
		return s.createAndDestroy(r)
	case 8, 9:
		key := r.IntN(outsideKeys)
		sealed, err := s.token.Encrypt(ctx, s.outside[key], aad, aad)
		return s.keep("Encrypt outside", box{sealed: sealed, aad: aad, plaintext: aad, outside: key + 1}, err)
	}
	return s.openOne(r)
}

// keep adds a new box to those that are opened again.
func (s *soak) keep(operation string, b box, err error) bool {
	if !s.report.done(operation, err) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.boxes) < mostBoxes {
		s.boxes = append(s.boxes, b)
	} else {
		s.boxes[int(b.sealed[0])%mostBoxes] = b
	}
	return true
}

func (s *soak) draw(r *rand.Rand) (box, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.boxes) == 0 {
		return box{}, -1
	}
	i := r.IntN(len(s.boxes))
	return s.boxes[i], i
}

func (s *soak) open(b box) (plaintext []byte, err error) {
	if b.wrapped {
		return s.token.DecryptWrapped(context.Background(), s.keys, b.sealed, wrappedSize, b.aad)
	}
	key := s.keys.Seal
	if b.outside > 0 {
		key = s.outside[b.outside-1]
	}
	return s.token.Decrypt(context.Background(), key, b.sealed, b.aad)
}

func (s *soak) openOne(r *rand.Rand) bool {
	b, i := s.draw(r)
	if i < 0 {
		return true
	}
	return s.check(b, i)
}

func (s *soak) check(b box, i int) bool {
	plaintext, err := s.open(b)
	if err == nil && b.plaintext != nil && !bytes.Equal(plaintext, b.plaintext) {
		s.report.wrongAnswer("Decrypt: %x, not %x", plaintext, b.plaintext)
	}
	if err == nil && b.plaintext == nil {
		s.mu.Lock()
		if bytes.Equal(s.boxes[i].sealed, b.sealed) && s.boxes[i].plaintext == nil {
			s.boxes[i].plaintext = plaintext
		}
		s.mu.Unlock()
	}
	return s.report.done(map[bool]string{false: "Decrypt", true: "DecryptWrapped"}[b.wrapped], err)
}

// forge requests what must be refused for exactly one reason.
func (s *soak) forge(r *rand.Rand) bool {
	b, i := s.draw(r)
	if i < 0 {
		return true
	}
	b.sealed = bytes.Clone(b.sealed)
	b.sealed[r.IntN(len(b.sealed))] ^= 1
	_, err := s.open(b)
	if errors.Is(err, hsm.ErrAuthentication) {
		return s.report.done("forgery", nil)
	}
	if err == nil {
		s.report.wrongAnswer("a changed box was opened")
	}
	return s.report.done("forgery", err)
}

// createAndDestroy makes a key, uses it, and usually destroys it, because searches take long when
// there are many keys.
func (s *soak) createAndDestroy(r *rand.Rand) bool {
	ctx, id := context.Background(), newID(r)
	if !s.report.done("GenerateSecretKey", s.token.GenerateSecretKey(ctx, hsm.SecretKey{ID: id, Purpose: hsm.Seal})) {
		return false
	}
	keys := s.know(id, true)
	_, err := s.token.Encrypt(ctx, id, message, nil)
	ok := s.report.done("Encrypt", err)
	if r.IntN(10) == 0 && keys < mostKeys {
		return ok
	}
	s.forget(id)
	if !s.report.done("Destroy", s.token.Destroy(ctx, id)) {
		return false
	}
	s.know(id, false)
	if _, err := s.token.Encrypt(ctx, id, message, nil); err == nil {
		s.report.wrongAnswer("a destroyed key encrypts")
	}
	return ok
}

// know records whether a key must exist, and returns how many must.
func (s *soak) know(id hsm.ObjectID, exists bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[id] = exists
	if exists {
		s.alive++
	}
	return s.alive
}

func (s *soak) forget(id hsm.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, id)
	s.alive--
}

// calm ends all faults and waits until the token works again.
func (s *soak) calm() {
	s.module.Clear()
	s.module.Plug()
	s.module.LimitSessions(-1)
	s.module.SetLatency(0)
	for tries := 0; tries < 20; { // several successes in a row, since a fault may not be noticed yet
		err := s.token.Destroy(context.Background(), hsm.ObjectID{})
		if tries++; err != nil || s.token.Stats().Stuck > 0 {
			tries = 0
			time.Sleep(time.Millisecond)
		}
	}
}

// inspect looks for what is wrong, lost or leaked. It tries again what fails, since the timeouts of a
// soak are short for a busy machine: patience is for all of it.
func (s *soak) inspect() {
	patient, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i, b := range s.boxes {
		if !retry(patient, func() bool { return s.check(b, i) }) {
			s.report.wrongAnswer("a box does not open on a token that is well")
		}
	}
	var objects []hsm.Object
	var err error
	retry(patient, func() bool {
		objects, err = s.token.Objects(context.Background(), "")
		return err == nil
	})
	if err != nil {
		s.report.lost = append(s.report.lost, fmt.Sprintf("all: %v", err))
	}
	there := map[hsm.ObjectID]bool{}
	for _, o := range objects {
		there[o.ID] = true
	}
	for id, exists := range s.objects {
		if exists && !there[id] {
			s.report.lost = append(s.report.lost, id.String())
		}
		if !exists && there[id] {
			s.report.wrongAnswer("%s was destroyed and exists", id)
		}
	}
	for _, k := range s.outside {
		var err error
		if !retry(patient, func() bool { err = s.token.Evict(context.Background(), k); return err == nil }) {
			s.report.wrongAnswer("forget a key that is held: %v", err)
		}
	}
	retry(patient, func() bool { // calls that were late still have their sessions
		s.report.stats = s.token.Stats()
		s.report.leaked = s.module.Sessions() - s.report.stats.Sessions - 1 // the login's
		return s.report.stats.Stuck == 0 && s.report.leaked == 0
	})
	s.report.usage = s.module.Usage()
}

// retry calls f until it succeeds or ctx ends.
func retry(ctx context.Context, f func() bool) bool {
	for !f() {
		if ctx.Err() != nil {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

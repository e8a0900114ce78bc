package witness

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// Serve is the child's work: one request from in, one reply to out. It must be all that its process
// does. It fails when the request is none; whatever the token does is in the reply. It may leave
// the token logged in, for the end of the process to end that.
func Serve(in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(io.LimitReader(in, maxText+1))
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	r, err := decodeRequest(text)
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	text, err = testify(r).encode()
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	_, err = out.Write(text)
	return err
}

// testify opens the token and answers for each object.
func testify(r *request) *reply {
	out := &reply{Format: format, Objects: []answer{}}
	var w *witness
	err := recovered(func() (err error) {
		w, err = open(r)
		return err
	})
	if err != nil {
		out.Failure = cut(err.Error())
		return out
	}
	for _, q := range r.Objects {
		out.Objects = append(out.Objects, w.answer(q))
	}
	if !w.stuck {
		if err := recovered(w.token.Close); err != nil {
			return &reply{Format: format, Failure: cut("log out: " + err.Error()), Objects: []answer{}}
		}
	}
	return out
}

// witness is a token as crypto11 sees it.
type witness struct {
	token       *crypto11.Context
	certificate *x509.Certificate // see findPair
	stuck       bool              // a session was not given back, for which Close would wait
}

const (
	sessions    = 4
	sessionWait = 5 * time.Second
	ivSize      = 12 // bytes, NIST SP 800-38D section 8.2.2
)

func open(r *request) (*witness, error) {
	token, err := crypto11.Configure(
		&crypto11.Config{Path: r.Module, TokenSerial: r.Serial, TokenLabel: r.Label, Pin: string(r.PIN),
			MaxSessions: sessions, PoolWaitTimeout: sessionWait, GCMIVLength: ivSize},
	)
	if err != nil {
		return nil, fmt.Errorf("open the token: %w", err)
	}
	return &witness{token: token}, nil
}

// answer tells of one object.
func (w *witness) answer(q question) answer {
	a := answer{ID: q.ID}
	var key any
	err := recovered(func() (err error) {
		if key, err = w.find(q); err == nil && key != nil {
			a.Attributes, err = w.read(key)
		}
		return err
	})
	if err != nil {
		a.Attributes, a.Failure = nil, cut(err.Error())
		return a
	}
	if key == nil || q.Challenge.Kind == KindNone {
		return a
	}
	err = recovered(func() (err error) {
		a.Answer, err = w.take(key, q.Challenge)
		if err == nil && len(a.Answer) > maxAnswer {
			err = fmt.Errorf("an answer of %d bytes", len(a.Answer))
		}
		return err
	})
	if err != nil {
		a.Answer, a.ChallengeFailure = nil, cut(err.Error())
	}
	return a
}

// find gives the only key with a CKA_ID, nil when there is none.
func (w *witness) find(q question) (any, error) {
	if q.Private {
		pairs, err := w.findPairs(q.ID)
		if err != nil {
			return nil, fmt.Errorf("find the private key: %w", err)
		}
		return only(pairs)
	}
	keys, err := w.token.FindKeys(q.ID, nil)
	if err != nil {
		return nil, fmt.Errorf("find the secret key: %w", err)
	}
	return only(keys)
}

func only[T any](keys []T) (any, error) {
	switch len(keys) {
	case 0:
		return nil, nil
	case 1:
		return keys[0], nil
	}
	return nil, fmt.Errorf("%d keys have this CKA_ID", len(keys))
}

// findPairs finds private keys. crypto11 gives none without a public key object or a certificate of
// the same CKA_ID, and the service keeps public keys in its database. So one gets a certificate
// here: a session object, which ends with this process. It certifies a key of no use, since
// crypto11 does not look at it, and the published public key is who asks' to check with.
func (w *witness) findPairs(id []byte) ([]crypto11.Signer, error) {
	pairs, err := w.token.FindKeyPairs(id, nil)
	if err != nil || len(pairs) > 0 {
		return pairs, err
	}
	if w.certificate == nil {
		if w.certificate, err = placeholder(); err != nil {
			return nil, err
		}
	}
	template, err := crypto11.NewAttributeSetWithID(id)
	if err == nil {
		err = template.Set(crypto11.CkaToken, false)
	}
	if err == nil {
		err = w.token.ImportCertificateWithAttributes(template, w.certificate)
	}
	if err != nil {
		return nil, fmt.Errorf("make a session object for it: %w", err)
	}
	if made, err := w.token.FindCertificate(id, nil, nil); err != nil || made == nil {
		return nil, errors.Join(errors.New("the session object for it is not found"), err)
	}
	return w.token.FindKeyPairs(id, nil)
}

// placeholder makes a certificate of a key that is thrown away.
func placeholder() (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// read reads one attribute after the other, since a token may not have them all.
func (w *witness) read(key any) (*rawAttributes, error) {
	a := &rawAttributes{}
	for attribute, set := range map[uint]func([]byte) error{
		pkcs11.CKA_LABEL:             func(v []byte) error { return setLabel(&a.Label, v) },
		pkcs11.CKA_KEY_TYPE:          func(v []byte) error { return setNumber(&a.KeyType, v) },
		pkcs11.CKA_KEY_GEN_MECHANISM: func(v []byte) error { return setNumber(&a.Mechanism, v) },
		pkcs11.CKA_LOCAL:             func(v []byte) error { return setTruth(&a.Local, v) },
		pkcs11.CKA_SENSITIVE:         func(v []byte) error { return setTruth(&a.Sensitive, v) },
		pkcs11.CKA_ALWAYS_SENSITIVE:  func(v []byte) error { return setTruth(&a.AlwaysSensitive, v) },
		pkcs11.CKA_EXTRACTABLE:       func(v []byte) error { return setTruth(&a.Extractable, v) },
		pkcs11.CKA_NEVER_EXTRACTABLE: func(v []byte) error { return setTruth(&a.NeverExtractable, v) },
	} {
		value, err := w.token.GetAttribute(key, attribute)
		if errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)) || err == nil && value == nil {
			continue
		}
		if err == nil {
			err = set(value.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("read attribute %#x: %w", attribute, err)
		}
	}
	return a, nil
}

func setLabel(to *[]byte, value []byte) error {
	if len(value) > maxLabel {
		return fmt.Errorf("a label of %d bytes", len(value))
	}
	*to = value
	return nil
}

// setNumber reads a CK_ULONG.
func setNumber(to **uint64, value []byte) error {
	var n uint64
	switch len(value) {
	case 0:
		return nil
	case 4:
		n = uint64(binary.NativeEndian.Uint32(value))
	case 8:
		n = binary.NativeEndian.Uint64(value)
	default:
		return fmt.Errorf("a number of %d bytes", len(value))
	}
	*to = &n
	return nil
}

// setTruth reads a CK_BBOOL.
func setTruth(to *bool, value []byte) error {
	if len(value) > 1 {
		return fmt.Errorf("a truth value of %d bytes", len(value))
	}
	*to = len(value) == 1 && value[0] == 1
	return nil
}

// take has a key take a challenge.
func (w *witness) take(key any, c challenge) ([]byte, error) {
	secret, _ := key.(*crypto11.SecretKey)
	switch c.Kind {
	case KindSign:
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, errors.New("the key can't sign")
		}
		digest := sha256.Sum256(message(c.Nonce))
		return signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	case KindDecrypt:
		decrypter, ok := key.(crypto.Decrypter)
		if !ok {
			return nil, errors.New("the key can't decrypt")
		}
		return decrypt(decrypter, c.Ciphertexts)
	case KindSeal:
		if secret == nil {
			return nil, errors.New("the key can't seal")
		}
		return seal(secret, c.Nonce)
	case KindMAC:
		if secret == nil {
			return nil, errors.New("the key can't make a MAC")
		}
		return w.mac(secret, macHashes[c.Hash].mechanism, c.Nonce)
	}
	return nil, errors.New("the challenge is unknown")
}

// decrypt gives the first plaintext that the token finds.
func decrypt(key crypto.Decrypter, ciphertexts [][]byte) ([]byte, error) {
	var errs []error
	for i, hash := range oaepHashes {
		plaintext, err := key.Decrypt(rand.Reader, ciphertexts[i], &rsa.OAEPOptions{Hash: hash})
		if err == nil {
			return plaintext, nil
		}
		errs = append(errs, fmt.Errorf("RSAES-OAEP with %v: %w", hash, err))
	}
	return nil, errors.Join(errs...)
}

// seal seals a nonce, and opens the box again. Seal panics when the token fails.
func seal(key *crypto11.SecretKey, nonce []byte) ([]byte, error) {
	aead, err := key.NewGCM()
	if err != nil {
		return nil, err
	}
	iv := make([]byte, ivSize)
	if _, err := io.ReadFull(rand.Reader, iv); err != nil {
		return nil, err
	}
	ciphertext := aead.Seal(nil, iv, nonce, []byte(purpose))
	opened, err := aead.Open(nil, iv, ciphertext, []byte(purpose))
	switch {
	case err != nil:
		return nil, err
	case !bytes.Equal(opened, nonce):
		return nil, errors.New("the key does not open what it has sealed")
	}
	return append(iv, ciphertext...), nil
}

// mac makes a MAC. crypto11 keeps the session of one that fails, and panics.
func (w *witness) mac(key *crypto11.SecretKey, mechanism int, nonce []byte) (mac []byte, err error) {
	h, err := key.NewHMAC(mechanism, 0)
	if err != nil {
		return nil, err
	}
	stuck := w.stuck
	w.stuck = true
	if _, err := h.Write(message(nonce)); err != nil {
		return nil, err
	}
	mac = h.Sum(nil)
	w.stuck = stuck
	return mac, nil
}

// recovered makes an error of a panic; crypto11 panics where an interface of the standard library
// has no error.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("crypto11 panics: %v", p)
		}
	}()
	return f()
}

// cut makes words short enough for a reply, and of valid UTF-8.
func cut(words string) string {
	return strings.ToValidUTF8(words[:min(len(words), maxWords/4)], "?")
}

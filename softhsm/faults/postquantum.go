package faults

import (
	"bytes"
	"crypto/mlkem"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
)

// What the module sends, up to the end of the connection: a letter, the parameter set as in
// CKA_PARAMETER_SET, a seed, and the input that the letter needs. The answer is the public key
// ('P'), the signature of a message ('S') or of a representative ('M'), or a byte that says whether
// the signature of a representative is valid ('V'; the input is the public key and the
// representative). For ML-KEM it is the public key ('K'), or the secret of a ciphertext ('D').
const (
	pqSeed    = 64 // bytes; ML-DSA uses the first 32
	pqMessage = 1 << 16
)

var mldsaSets = map[byte]mldsa.Parameters{1: mldsa.MLDSA44(), 2: mldsa.MLDSA65(), 3: mldsa.MLDSA87()}

// AddPostQuantum adds ML-DSA and ML-KEM of PKCS#11 v3.2 to the token until the test's end: key
// pairs, CKM_ML_DSA without a parameter, CKM_ML_DSA_EXTERNAL_MU of the draft of v3.3, which also
// verifies, and C_DecapsulateKey. Its keys are objects of the inner token and last as long as
// others; the computation happens here (see module/postquantum.c). Signatures are deterministic,
// and that of a representative is verified by making it again.
func (m *Module) AddPostQuantum(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var keys pqKeys
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // it is closed
			}
			all.Go(func() {
				defer c.Close()
				if err := keys.answer(c); err != nil {
					t.Errorf("ML-DSA or ML-KEM of the token: %v", err)
				}
			})
		}
	})
	m.control.pqPort.Store(uint64(listener.Addr().(*net.TCPAddr).Port))
	t.Cleanup(func() {
		m.control.pqPort.Store(0)
		listener.Close()
		all.Wait()
	})
}

// pqKeys are the keys that have signed or returned their public key, by public key.
type pqKeys struct{ known sync.Map }

func (k *pqKeys) answer(c io.ReadWriter) error {
	request, err := io.ReadAll(io.LimitReader(c, 2+pqSeed+pqMessage))
	if err != nil {
		return err
	}
	if len(request) < 2+pqSeed {
		return fmt.Errorf("a request of %d bytes", len(request))
	}
	what, set, seed, rest := request[0], request[1], request[2:2+pqSeed], request[2+pqSeed:]
	var answer []byte
	if what == 'K' || what == 'D' {
		answer, err = answerMLKEM(what, set, seed, rest)
	} else {
		answer, err = k.answerMLDSA(what, mldsaSets[set], seed[:mldsa.PrivateKeySize], rest)
	}
	if err == nil {
		_, err = c.Write(answer)
	}
	return err
}

func (k *pqKeys) answerMLDSA(what byte, set mldsa.Parameters, seed, rest []byte) ([]byte, error) {
	if what == 'V' {
		public, mu, signature := rest[:set.PublicKeySize()], rest[set.PublicKeySize():len(rest)-set.SignatureSize()],
			rest[len(rest)-set.SignatureSize():]
		key, known := k.known.Load(string(public))
		if !known {
			return []byte{0}, nil
		}
		want, err := key.(*mldsa.PrivateKey).SignDeterministic(mu, mldsacrypto.MLDSAMu)
		if err != nil || !bytes.Equal(want, signature) {
			return []byte{0}, err
		}
		return []byte{1}, nil
	}
	key, err := mldsa.NewPrivateKey(set, seed)
	if err != nil {
		return nil, err
	}
	k.known.Store(string(key.PublicKey().Bytes()), key)
	switch what {
	case 'P':
		return key.PublicKey().Bytes(), nil
	case 'S':
		return key.SignDeterministic(rest, nil)
	case 'M':
		return key.SignDeterministic(rest, mldsacrypto.MLDSAMu)
	}
	return nil, fmt.Errorf("asked for %q", what)
}

// answerMLKEM leaves to the standard library what it supports.
func answerMLKEM(what, set byte, seed, ciphertext []byte) ([]byte, error) {
	switch set {
	case 1:
		public, private := mlkem512.Scheme().DeriveKeyPair(seed)
		if what == 'K' {
			return public.MarshalBinary()
		}
		return mlkem512.Scheme().Decapsulate(private, ciphertext)
	case 2:
		key, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, err
		}
		if what == 'K' {
			return key.EncapsulationKey().Bytes(), nil
		}
		return key.Decapsulate(ciphertext)
	case 3:
		key, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, err
		}
		if what == 'K' {
			return key.EncapsulationKey().Bytes(), nil
		}
		return key.Decapsulate(ciphertext)
	}
	return nil, fmt.Errorf("parameter set %d", set)
}

package faults

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
)

// What the module sends: a letter, the parameter set as in CKA_PARAMETER_SET, a seed, and what the letter asks about, to the
// connection's end. The answer is the public key ('P'), the signature of a message ('S') or of a representative ('M'), or a
// byte that tells whether a signature of a representative is good ('V', behind public key and representative).
const (
	mldsaSeed    = 64 // bytes, of which ML-DSA takes the first 32
	mldsaMessage = 1 << 16
)

var mldsaSets = map[byte]mldsa.Parameters{1: mldsa.MLDSA44(), 2: mldsa.MLDSA65(), 3: mldsa.MLDSA87()}

// AddMLDSA gives the token ML-DSA of PKCS#11 v3.2 until the test's end: CKM_ML_DSA_KEY_PAIR_GEN, CKM_ML_DSA without a parameter,
// and CKM_ML_DSA_EXTERNAL_MU of v3.3's draft, which verifies too. Its keys are the inner token's, and stay as its others do; the
// arithmetic is done here (see module/mldsa.c). Signatures are deterministic, and a representative's is verified by making it once more.
func (m *Module) AddMLDSA(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var keys mldsaKeys
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
					t.Errorf("ML-DSA of the token: %v", err)
				}
			})
		}
	})
	m.control.mldsaPort.Store(uint64(listener.Addr().(*net.TCPAddr).Port))
	t.Cleanup(func() {
		m.control.mldsaPort.Store(0)
		listener.Close()
		all.Wait()
	})
}

// mldsaKeys are those that have signed or told their public key, by that.
type mldsaKeys struct{ known sync.Map }

func (k *mldsaKeys) answer(c io.ReadWriter) error {
	request, err := io.ReadAll(io.LimitReader(c, 2+mldsaSeed+mldsaMessage))
	if err != nil {
		return err
	}
	if len(request) < 2+mldsaSeed {
		return fmt.Errorf("a request of %d bytes", len(request))
	}
	set, seed, rest := mldsaSets[request[1]], request[2:2+mldsa.PrivateKeySize], request[2+mldsaSeed:]
	answer, err := k.compute(request[0], set, seed, rest)
	if err == nil {
		_, err = c.Write(answer)
	}
	return err
}

func (k *mldsaKeys) compute(what byte, set mldsa.Parameters, seed, rest []byte) ([]byte, error) {
	if what == 'V' {
		public, mu, signature := rest[:set.PublicKeySize()], rest[set.PublicKeySize():len(rest)-set.SignatureSize()], rest[len(rest)-set.SignatureSize():]
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

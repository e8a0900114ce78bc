package faults

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"filippo.io/mldsa"
)

// mldsaRequest is what the module sends: 'P' for the public key or 'S' for a signature, the parameter set as in
// CKA_PARAMETER_SET, a seed, and the message to the connection's end. The answer is the bytes asked for.
const (
	mldsaSeed    = 64 // bytes, of which ML-DSA takes the first 32
	mldsaMessage = 1 << 16
)

var mldsaSets = map[byte]mldsa.Parameters{1: mldsa.MLDSA44(), 2: mldsa.MLDSA65(), 3: mldsa.MLDSA87()}

// AddMLDSA gives the token ML-DSA of PKCS#11 v3.2 until the test's end: CKM_ML_DSA_KEY_PAIR_GEN, and CKM_ML_DSA without a
// parameter. Its keys are the inner token's, and stay as its others do; the arithmetic is done here (see module/mldsa.c).
func (m *Module) AddMLDSA(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // it is closed
			}
			all.Go(func() {
				defer c.Close()
				if err := answerMLDSA(c); err != nil {
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

func answerMLDSA(c io.ReadWriter) error {
	request, err := io.ReadAll(io.LimitReader(c, 2+mldsaSeed+mldsaMessage))
	if err != nil {
		return err
	}
	if len(request) < 2+mldsaSeed {
		return fmt.Errorf("a request of %d bytes", len(request))
	}
	key, err := mldsa.NewPrivateKey(mldsaSets[request[1]], request[2:2+mldsa.PrivateKeySize])
	if err != nil {
		return err
	}
	answer := key.PublicKey().Bytes()
	if request[0] == 'S' {
		if answer, err = key.Sign(nil, request[2+mldsaSeed:], nil); err != nil {
			return err
		}
	}
	_, err = c.Write(answer)
	return err
}

package service

import (
	"testing"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/selftest"
)

// TestImportsNeedAESKWP: a token without AES-KWP takes curves' keys under OAEP, and not under
// RSA_AES_KEY_WRAP.
func TestImportsNeedAESKWP(t *testing.T) {
	checks := []selftest.Check{
		{Name: selftest.CheckImportCurve},
		{Name: selftest.CheckImportEd25519},
		{Name: selftest.CheckKWP, Err: hsm.ErrUnsupported},
	}
	can := CapabilitiesOf(checks)
	for _, spec := range []string{"ECC_NIST_P256", "ECC_NIST_EDWARDS25519"} {
		for algorithm, refused := range map[string]bool{"RSAES_OAEP_SHA_256": false, "RSA_AES_KEY_WRAP_SHA_256": true} {
			if _, no := can.NoImport[[2]string{spec, algorithm}]; no != refused {
				t.Errorf("%s under %s is refused: %v", spec, algorithm, no)
			}
		}
	}
}

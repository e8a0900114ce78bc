package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/service"
)

// Marks of findings.
const (
	markOK   = "ok"
	markNote = "note" // the server can do without
	markWarn = "warn" // the server starts, and does less than it promises
	markBad  = "BAD"
)

// verdict is what one self-test of a token means for a server.
type verdict struct {
	mark   string
	starts bool   // a server starts nevertheless
	text   string // what was tried, and what came of it
	advice string
}

// judge is the one judgement of self-tests, of doctor and of serve.
func judge(c selftest.Check) verdict {
	if c.Err == nil {
		return verdict{mark: markOK, starts: true, text: c.Name}
	}
	text := fmt.Sprintf("%s: %s", c.Name, oneLine(c.Err))
	switch {
	case !c.Optional:
		return verdict{markBad, false, text, "cure: allow it in the token's policy or firmware; needed for: " + c.Need}
	case c.Name == selftest.CheckObjects:
		return verdict{markBad, true, text, "cure: make room in the token and let it be written to; not possible without: " + c.Need}
	case isDataKeyCheck(c.Name):
		return verdict{markWarn, true, text, "the data keys pass through the server's memory instead, or are refused with token.require_hidden_data_keys; not possible without: " + c.Need}
	}
	return verdict{markNote, true, text, "needed for: " + c.Need}
}

func isDataKeyCheck(name string) bool {
	for _, check := range service.DataKeyChecks {
		if check == name {
			return true
		}
	}
	return false
}

// moduleHints say where modules that are known by their file's name look for their configuration.
var moduleHints = []struct{ file, hint string }{
	{"libsofthsm2", "SOFTHSM2_CONF names the configuration of SoftHSM2, whose directories.tokendir must be there and be readable"},
	{"p11-kit-client", "P11_KIT_SERVER_ADDRESS names the socket of p11-kit server"},
	{"p11-kit-proxy", "p11-kit list-modules shows what the proxy offers"},
	{"libopencryptoki", "pkcsslotd must run, and the user be in the group pkcs11"},
	{"libtpm2_pkcs11", "TPM2_PKCS11_STORE names the folder of the tokens, TPM2_PKCS11_TCTI the TPM"},
	{"libcryptoki2", "ChrystokiConfigurationPath names the folder of Luna's Chrystoki.conf"},
	{"libcknfast", "the hardserver must run; CKNFAST_ variables are in nShield's manual"},
	{"libsoftokn3", "token.init_arguments is NSS's configdir string"},
	{"yubihsm_pkcs11", "YUBIHSM_PKCS11_CONF names the file with the connector's address"},
	{"libkmsp11", "KMS_PKCS11_CONFIG names the configuration"},
	{"libcs_pkcs11", "CS_PKCS11_R3_CFG names the configuration of Utimaco's client"},
	{"libcloudhsm_pkcs11", "configure-pkcs11 makes the client's configuration"},
}

// moduleHint is empty for a module that is not known.
func moduleHint(path string) string {
	name := strings.ToLower(filepath.Base(path))
	for _, h := range moduleHints {
		if strings.HasPrefix(name, h.file) {
			return "; " + h.hint
		}
	}
	return ""
}

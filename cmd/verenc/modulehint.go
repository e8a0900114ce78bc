package main

import (
	"path/filepath"
	"strings"
)

// moduleHints say where well-known modules look for their configuration.
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

// moduleHint returns the hint for a module, by its file name; empty when there is none.
func moduleHint(path string) string {
	name := strings.ToLower(filepath.Base(path))
	for _, h := range moduleHints {
		if strings.HasPrefix(name, h.file) {
			return "; " + h.hint
		}
	}
	return ""
}

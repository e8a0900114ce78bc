// Package softhsm makes SoftHSM2 tokens: temporary ones for tests, and those of verenc dev.
//
// It protects nothing: SoftHSM2 keeps its keys in files, and computes in the process that uses it.
// It stands in for a network HSM that takes the same calls. Of the server's commands only verenc dev
// uses it. SoftHSM2 itself is not linked: it is loaded like any other module.
package softhsm

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// Token is an initialised token and what is needed to use it.
type Token struct {
	Module  string // absolute path of the PKCS#11 module
	Conf    string // SoftHSM2's configuration file, for SOFTHSM2_CONF
	Label   string
	Serial  string
	PIN     string
	PINFile string // of mode 0600
}

// modules are the paths of SoftHSM2 in distributions.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// ErrNotInstalled is the error of FindModule and Open when SoftHSM2 is not there.
var ErrNotInstalled = errors.New("SoftHSM2 is not installed: no module is")

// FindModule returns the path of SoftHSM2's PKCS#11 module. VERENC_SOFTHSM_MODULE overrides the
// usual paths.
func FindModule() (string, error) {
	candidates := modules
	if path := os.Getenv("VERENC_SOFTHSM_MODULE"); path != "" {
		candidates = []string{path}
	}
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w at %s (VERENC_SOFTHSM_MODULE names another place)", ErrNotInstalled,
		strings.Join(candidates, ", "))
}

// Open returns the token with this label in dir, and creates it the first time. Its user PIN is
// random and kept in a file.
func Open(dir, label string) (Token, error) {
	module, err := FindModule()
	if err != nil {
		return Token{}, err
	}
	t := Token{Module: module, Conf: filepath.Join(dir, "softhsm2.conf"), Label: label,
		PINFile: filepath.Join(dir, label+".pin")}
	if err := configure(dir, t.Conf); err != nil {
		return Token{}, err
	}
	pin, err := os.ReadFile(t.PINFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		t.PIN = randomHex(8)
	case err != nil:
		return Token{}, fmt.Errorf("read PIN: %w", err)
	default:
		t.PIN = strings.TrimSpace(string(pin))
	}
	if t.Serial, err = initialise(&t); err != nil {
		return Token{}, fmt.Errorf("initialise token %s: %w", label, err)
	}
	return t, nil
}

// configure writes SoftHSM2's configuration and points this process's SoftHSM2 at it.
func configure(dir, conf string) error {
	tokens := filepath.Join(dir, "tokens")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return fmt.Errorf("make token folder: %w", err)
	}
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write SoftHSM2 configuration: %w", err)
	}
	return os.Setenv("SOFTHSM2_CONF", conf) // read by C_Initialize
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

var (
	mu     sync.Mutex
	module *pkcs11.Ctx // guarded by mu: stays initialised until Finalize
	ours   bool        // guarded by mu: C_Initialize was called here, and not by another user of the module
)

// Finalize ends this process's use of SoftHSM2, so that the folders of its tokens can be removed. Every connection to
// them must be closed. Open begins anew, also in another folder.
func Finalize() error {
	mu.Lock()
	defer mu.Unlock()
	if module == nil {
		return nil
	}
	var err error
	if ours {
		err = module.Finalize()
	}
	module.Destroy()
	module = nil
	return err
}

// initialise finds the token by its label, or creates it in the free slot, and returns its serial
// number. A token with a PIN file is complete, since the file is written last; one without is left
// over from an interrupted attempt.
func initialise(t *Token) (serial string, err error) {
	mu.Lock()
	defer mu.Unlock()
	if module == nil {
		ctx := pkcs11.New(t.Module)
		if ctx == nil {
			return "", fmt.Errorf("load %s", t.Module)
		}
		err := ctx.Initialize()
		if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
			return "", fmt.Errorf("C_Initialize: %w", err)
		}
		module, ours = ctx, err == nil
	}
	slots, err := module.GetSlotList(true)
	if err != nil {
		return "", fmt.Errorf("C_GetSlotList: %w", err)
	}
	var free uint
	found := false
	for _, slot := range slots {
		info, err := module.GetTokenInfo(slot)
		if err != nil {
			return "", fmt.Errorf("C_GetTokenInfo: %w", err)
		}
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			free, found = slot, true
		} else if info.Label == t.Label {
			if _, err := os.Stat(t.PINFile); err != nil {
				return "", fmt.Errorf("its PIN is lost: remove the folder %s", filepath.Dir(t.PINFile))
			}
			return info.SerialNumber, nil
		}
	}
	if !found {
		return "", errors.New("there is no free slot")
	}
	if err := setUp(free, t); err != nil {
		return "", err
	}
	return serialOf(t.Label)
}

// setUp does what softhsm2-util --init-token does, without a PIN on a command line.
func setUp(slot uint, t *Token) (err error) {
	so := randomHex(8) // nobody needs it again
	if err := module.InitToken(slot, so, t.Label); err != nil {
		return fmt.Errorf("C_InitToken: %w", err)
	}
	session, err := module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("C_OpenSession: %w", err)
	}
	defer func() { err = errors.Join(err, module.CloseSession(session)) }()
	if err := module.Login(session, pkcs11.CKU_SO, so); err != nil {
		return fmt.Errorf("C_Login: %w", err)
	}
	if err := module.InitPIN(session, t.PIN); err != nil {
		return fmt.Errorf("C_InitPIN: %w", err)
	}
	if err := module.Logout(session); err != nil {
		return fmt.Errorf("C_Logout: %w", err)
	}
	return os.WriteFile(t.PINFile, []byte(t.PIN+"\n"), 0o600)
}

func serialOf(label string) (string, error) {
	slots, err := module.GetSlotList(true)
	if err != nil {
		return "", fmt.Errorf("C_GetSlotList: %w", err)
	}
	for _, slot := range slots {
		if info, err := module.GetTokenInfo(slot); err == nil && info.Label == label {
			return info.SerialNumber, nil
		}
	}
	return "", errors.New("the new token is not listed")
}

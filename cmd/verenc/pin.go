package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pinVariable and pinCredential are where the PIN can be, besides token.pin_file.
const (
	pinVariable   = envPrefix + "TOKEN_PIN"
	pinCredential = "verenc-pin" // in systemd's $CREDENTIALS_DIRECTORY
)

// readPIN reads the user PIN from token.pin_file, from VERENC_TOKEN_PIN (which it removes from the
// environment), or from the systemd credential verenc-pin. The PIN is never a flag or a setting, so
// that no list of processes shows it.
func readPIN(c *Config) (string, error) {
	path := c.Token.PINFile
	if path == "" {
		if pin, given := os.LookupEnv(pinVariable); given {
			if pin == "" {
				return "", fmt.Errorf("read PIN: %s is empty", pinVariable)
			}
			return pin, os.Unsetenv(pinVariable)
		}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
			path = filepath.Join(dir, pinCredential)
		}
	}
	if path == "" {
		return "", fmt.Errorf("read PIN: set token.pin_file, %s or the systemd credential %s", pinVariable,
			pinCredential)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read PIN: %w", err)
	}
	// systemd lets the service's user read a credential by an ACL, which shows as a permission of
	// the group.
	if c.Token.PINFile != "" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("read PIN: others may read %s: run chmod 600 on it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read PIN: %w", err)
	}
	pin := strings.TrimRight(string(text), "\r\n")
	if pin == "" {
		return "", fmt.Errorf("read PIN: %s is empty", path)
	}
	return pin, nil
}

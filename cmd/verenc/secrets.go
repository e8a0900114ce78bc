package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Where the PIN and the password of the database may be, besides token.pin_file and
// database_password_file. They are never flags or settings, so that no process list shows them.
const (
	pinVariable                = envPrefix + "TOKEN_PIN"
	pinCredential              = "verenc-pin" // in systemd's $CREDENTIALS_DIRECTORY
	databasePasswordVariable   = envPrefix + "DATABASE_PASSWORD"
	databasePasswordCredential = "verenc-database-password"
)

// readPIN gets the user PIN from token.pin_file, from VERENC_TOKEN_PIN (which it removes from the
// environment), or from the systemd credential verenc-pin.
func readPIN(c *Config) (string, error) {
	pin, err := readSecret(c.Token.PINFile, pinVariable, pinCredential)
	if err == nil && pin == "" {
		err = fmt.Errorf("set token.pin_file, %s or the systemd credential %s", pinVariable, pinCredential)
	}
	if err != nil {
		return "", fmt.Errorf("read PIN: %w", err)
	}
	return pin, nil
}

// pinIsInVariable tells whether readPIN finds the PIN in the environment. It must come before readPIN, which removes it
// there.
func pinIsInVariable(c *Config) bool {
	_, given := os.LookupEnv(pinVariable)
	return given && c.Token.PINFile == ""
}

// pinOrigin says where readPIN finds the PIN.
func pinOrigin(c *Config) string {
	switch {
	case c.Token.PINFile != "":
		return "the file " + c.Token.PINFile
	case pinIsInVariable(c):
		return pinVariable
	}
	return "the systemd credential " + pinCredential
}

// renewedPIN returns how a server reads the PIN before a login, since it may have been changed; nil for
// a PIN from the environment, which is read once.
func renewedPIN(c *Config) func() (string, error) {
	if pinIsInVariable(c) {
		return nil
	}
	return func() (string, error) { return readPIN(c) }
}

// readDatabasePassword gets the password of the PostgreSQL user in the same ways. There may be none:
// the server may know its user by other means.
func readDatabasePassword(c *Config) (string, error) {
	password, err := readSecret(c.DatabasePassword, databasePasswordVariable, databasePasswordCredential)
	if err != nil {
		return "", fmt.Errorf("read the password of the database: %w", err)
	}
	return password, nil
}

// readSecret reads a file, a variable, which it removes from the environment, or a systemd credential;
// "" is none of them.
func readSecret(file, variable, credential string) (string, error) {
	path := file
	if path == "" {
		if secret, given := os.LookupEnv(variable); given {
			if secret == "" {
				return "", fmt.Errorf("%s is empty", variable)
			}
			return secret, os.Unsetenv(variable)
		}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
			path = filepath.Join(dir, credential)
		}
	}
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if file == "" && errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// systemd lets the service's user read a credential by an ACL, which shows as a right of the group.
	if file != "" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("others may read %s: run chmod 600 on it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

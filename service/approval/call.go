package approval

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/verenc/kms/service/record"
)

// Call is what approvals are for: who wants to do what, with everything that the request has.
type Call struct {
	Source    string // of the operation: kms.amazonaws.com, or verenc for a command
	Operation string
	Region    string   `json:",omitempty"`
	KeyID     string   `json:",omitempty"` // the key; empty for what concerns none
	Resources []string `json:",omitempty"` // of a command: ARNs
	// Everywhere is a command that concerns all accounts.
	Everywhere bool     `json:",omitempty"`
	Caller     []string // the principals behind the call, as iam.Identity.Behind returns them
	// Parameters are those of the request, as JSON with its members in order; see Canonical.
	Parameters json.RawMessage `json:",omitempty"`
}

// Digest names the call: two calls have the same one if they do the same, for the same caller. It is the SHA-256, in
// hex, of the call's account and its JSON.
func (c *Call) Digest(account string) (string, error) {
	text, err := json.Marshal(struct {
		Version int
		Account string
		*Call
	}{1, account, c})
	if err != nil {
		return "", fmt.Errorf("digest of a call: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Canonical returns the members of a request that are set as JSON, in the order of their names. Of bytes it has a hash:
// no plaintext, no key material and no password is stored or shown. Two requests have the same JSON if all their
// members are equal.
func Canonical(in any) (json.RawMessage, error) {
	v, err := canonical(reflect.ValueOf(in), false)
	if err != nil {
		return nil, fmt.Errorf("parameters of a call: %w", err)
	}
	return json.Marshal(v)
}

// canonical returns what JSON has of a value: maps for structures, which encoding/json writes in order. What is secret
// is hashed as a whole.
func canonical(v reflect.Value, secret bool) (any, error) {
	switch t := v.Type(); {
	case t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer:
		return canonical(v.Elem(), secret)
	case t.Kind() == reflect.Struct && t.ConvertibleTo(reflect.TypeFor[time.Time]()):
		return v.Convert(reflect.TypeFor[time.Time]()).Interface().(time.Time).UTC().Format(time.RFC3339Nano), nil
	case t.Kind() == reflect.Struct:
		members := map[string]any{}
		for i := range t.NumField() {
			f := v.Field(i)
			if f.IsZero() {
				continue
			}
			member, err := canonical(f, secret || record.IsSecret(t.Field(i)))
			if err != nil {
				return nil, err
			}
			members[t.Field(i).Name] = member
		}
		return members, nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return hashed(v.Bytes(), secret)
	case t.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			var err error
			if list[i], err = canonical(v.Index(i), secret); err != nil {
				return nil, err
			}
		}
		return list, nil
	case t.Kind() == reflect.String && secret:
		return hashed([]byte(v.String()), secret)
	}
	return v.Interface(), nil
}

// slowness is the number of iterations by which the hash of a secret is made slow to guess: some 30 ms.
const slowness = 100_000

// hashed describes bytes by their length and hash. Secrets, of which some can be guessed, have a slow one.
func hashed(b []byte, secret bool) (any, error) {
	sum := sha256.Sum256(b)
	name, hash := "SHA256", sum[:]
	if secret {
		var err error
		name = "PBKDF2-SHA256"
		if hash, err = pbkdf2.Key(sha256.New, string(b), []byte("verenc-kms/approval/1"), slowness, 32); err != nil {
			return nil, err
		}
	}
	return map[string]any{"Bytes": len(b), name: hex.EncodeToString(hash)}, nil
}

package faults

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Call is one call as its caller sees it. PINs and mechanism parameters are not recorded.
//
// In the trace file it is a JSON object on a line.
type Call struct {
	Function  string
	RV        uint
	Session   uint
	Mechanism uint
	Objects   []uint // handles passed in, then handles returned

	// Template is what a creation or a search asks for, or the values that C_GetAttributeValue
	// returns. For a key pair it is that of the private key, and Public is that of the public key.
	Template, Public Template

	Input     Bytes // data, ciphertext, wrapped key or seed
	Signature Bytes // to be verified
	Output    Bytes // of a call that succeeded
}

// Template has the values of attributes by type, a CKA_ constant.
type Template map[uint]Bytes

// Bytes are written in hexadecimal in the trace file.
type Bytes []byte

// UnmarshalText reads hexadecimal digits.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode(nil, text)
	return err
}

// Bool returns the value of a CK_BBOOL attribute, false if it is missing.
func (t Template) Bool(attribute uint) bool { return len(t[attribute]) == 1 && t[attribute][0] != 0 }

// Carries reports whether the bytes crossed the module's border in this call, in either direction.
func (c Call) Carries(secret []byte) bool {
	found := bytes.Contains(c.Input, secret) || bytes.Contains(c.Signature, secret) || bytes.Contains(c.Output, secret)
	for _, t := range []Template{c.Template, c.Public} {
		for _, value := range t {
			found = found || bytes.Contains(value, secret)
		}
	}
	return found
}

// Record starts a new recording of all calls, including the secrets that they carry.
func (m *Module) Record() error {
	f, err := os.OpenFile(m.trace(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("record calls: %w", err)
	}
	m.control.recording.Store(1)
	return f.Close()
}

// StopRecording ends the recording; Recorded still returns it.
func (m *Module) StopRecording() { m.control.recording.Store(0) }

func (m *Module) trace() string { return m.Path + ".trace" }

// Recorded returns the calls that have ended since Record, in the order in which they ended.
func (m *Module) Recorded() ([]Call, error) {
	f, err := os.Open(m.trace())
	if err != nil {
		return nil, fmt.Errorf("read recorded calls: %w", err)
	}
	defer f.Close()
	var calls []Call
	lines := json.NewDecoder(f)
	for {
		var c Call
		if err := lines.Decode(&c); errors.Is(err, io.EOF) {
			return calls, nil
		} else if err != nil {
			return nil, fmt.Errorf("read recorded calls: %w", err)
		}
		calls = append(calls, c)
	}
}

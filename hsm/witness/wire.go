package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"github.com/miekg/pkcs11"
)

// format is the version of the request and the reply. Both ends are the same program, so that there
// is only one.
const format = 1

// Limits of a request and a reply.
const (
	maxText    = 4 << 20 // bytes of JSON
	maxObjects = 1024
	maxID      = 64      // bytes of CKA_ID
	maxLabel   = 4096    // bytes of CKA_LABEL
	maxAnswer  = 1 << 10 // bytes; the longest is a signature of RSA-4096
	maxWords   = 1 << 10 // bytes of a failure, a path, a PIN
)

// request is what the child is asked:
//
//	{"Format":1,"Module":"/usr/lib/x.so","Serial":"0123","Label":"","PIN":"MTIzNA==","Objects":[...]}
type request struct {
	Format  int
	Module  string
	Serial  string // one of Serial and Label
	Label   string
	PIN     []byte // text would not keep what is no UTF-8, and a wrong PIN counts
	Objects []question
}

type question struct {
	ID        []byte
	Private   bool
	Challenge challenge
}

// challenge is what a key is to do. Which members there are depends on the kind.
type challenge struct {
	Kind        Kind
	Nonce       []byte   // sign, seal, MAC: 32 bytes
	Hash        string   // MAC: SHA-224 and so on
	Ciphertexts [][]byte // decrypt: RSAES-OAEP of the same nonce with SHA-256 and with SHA-1, since few tokens can both
}

// reply is what the child says. With a Failure it has nothing else to say.
type reply struct {
	Format  int
	Failure string
	Objects []answer
}

type answer struct {
	ID      []byte
	Failure string // why nothing is known of the object
	// Attributes is nil when there is no such object.
	Attributes       *rawAttributes
	Answer           []byte
	ChallengeFailure string
}

// rawAttributes are attributes as the token gives them; nil is one that it does not have.
type rawAttributes struct {
	Label            []byte
	KeyType          *uint64
	Mechanism        *uint64
	Local            bool
	Sensitive        bool
	AlwaysSensitive  bool
	Extractable      bool
	NeverExtractable bool
}

// Names of key types, and of the mechanisms that generate keys, as package hsm spells them.
var (
	keyTypeNames = map[uint64]string{pkcs11.CKK_AES: "CKK_AES", pkcs11.CKK_GENERIC_SECRET: "CKK_GENERIC_SECRET",
		pkcs11.CKK_RSA: "CKK_RSA", pkcs11.CKK_EC: "CKK_EC"}
	mechanismNames = map[uint64]string{
		pkcs11.CKM_AES_KEY_GEN:            "CKM_AES_KEY_GEN",
		pkcs11.CKM_GENERIC_SECRET_KEY_GEN: "CKM_GENERIC_SECRET_KEY_GEN",
		pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN:  "CKM_RSA_PKCS_KEY_PAIR_GEN",
		pkcs11.CKM_EC_KEY_PAIR_GEN:        "CKM_EC_KEY_PAIR_GEN",
		// CK_UNAVAILABLE_INFORMATION, of keys that were not generated in the token
		math.MaxUint64: "", math.MaxUint32: "",
	}
)

func (r rawAttributes) named() Attributes {
	return Attributes{
		Label: string(r.Label), KeyType: named(keyTypeNames, r.KeyType),
		Mechanism: named(mechanismNames, r.Mechanism), Local: r.Local, Sensitive: r.Sensitive,
		AlwaysSensitive: r.AlwaysSensitive, Extractable: r.Extractable, NeverExtractable: r.NeverExtractable,
	}
}

func named(names map[uint64]string, value *uint64) string {
	if value == nil {
		return ""
	}
	if name, known := names[*value]; known {
		return name
	}
	return fmt.Sprintf("%#x", *value)
}

func (r *request) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return encode(r)
}

func (r *reply) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return encode(r)
}

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("%d bytes of JSON are more than %d", len(text), maxText)
	}
	return text, err
}

func decodeRequest(text []byte) (*request, error) {
	r := &request{}
	if err := decode(text, r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return r, nil
}

func decodeReply(text []byte) (*reply, error) {
	r := &reply{}
	if err := decode(text, r); err != nil {
		return nil, fmt.Errorf("read the reply: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("read the reply: %w", err)
	}
	return r, nil
}

// decode accepts only what encode writes: no other spelling, nothing unknown, nothing twice,
// nothing missing. Its errors do not quote the text, which may hold the PIN.
func decode(text []byte, v any) error {
	if len(text) > maxText {
		return fmt.Errorf("more than %d bytes of JSON", maxText)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New("it is not of this form")
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is something behind it")
	}
	if again, err := encode(v); err != nil || !bytes.Equal(again, text) {
		return errors.New("it is not spelled as it would be written")
	}
	return nil
}

func (r *request) check() error {
	switch {
	case r.Format != format:
		return fmt.Errorf("format %d is unknown", r.Format)
	case r.Module == "" || len(r.Module) > maxWords || len(r.Serial) > maxWords ||
		len(r.Label) > maxWords || len(r.PIN) > maxWords:
		return fmt.Errorf("module, serial, label or PIN is missing or has more than %d bytes", maxWords)
	case !utf8.ValidString(r.Module + r.Serial + r.Label):
		return errors.New("module, serial or label is no UTF-8")
	case (r.Serial == "") == (r.Label == ""):
		return errors.New("give the token's serial number or its label")
	case len(r.Objects) > maxObjects:
		return fmt.Errorf("%d objects are more than %d", len(r.Objects), maxObjects)
	}
	for _, q := range r.Objects {
		if err := checkID(q.ID); err != nil {
			return err
		}
		if err := q.Challenge.check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *reply) check() error {
	switch {
	case r.Format != format:
		return fmt.Errorf("format %d is unknown", r.Format)
	case len(r.Failure) > maxWords:
		return fmt.Errorf("a failure of more than %d bytes", maxWords)
	case len(r.Objects) > maxObjects || r.Failure != "" && len(r.Objects) > 0:
		return errors.New("too many objects")
	}
	for _, a := range r.Objects {
		if err := checkID(a.ID); err != nil {
			return err
		}
		switch {
		case len(a.Failure) > maxWords || len(a.ChallengeFailure) > maxWords:
			return fmt.Errorf("a failure of more than %d bytes", maxWords)
		case len(a.Answer) > maxAnswer:
			return fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		case a.Attributes == nil && (a.Answer != nil || a.ChallengeFailure != ""):
			return errors.New("an answer of no object")
		case a.Attributes != nil && (len(a.Attributes.Label) > maxLabel || a.Failure != ""):
			return fmt.Errorf("a label of more than %d bytes, or attributes of a failure", maxLabel)
		}
	}
	return nil
}

func checkID(id []byte) error {
	if len(id) == 0 || len(id) > maxID {
		return fmt.Errorf("a CKA_ID of %d bytes", len(id))
	}
	return nil
}

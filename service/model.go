package service

import "time"

// AccessKey is a SigV4 credential. Its secret is stored sealed by the token and bound to ID.
type AccessKey struct {
	ID           string // 20 characters, "AKIA..."
	Account      string
	PrincipalARN string
	SealedSecret []byte
	Enabled      bool
	CreatedAt    time.Time
}

// PrincipalKind is what a principal is.
type PrincipalKind string

// Kinds of principals that are stored. The root principal of an account is not: it is always there.
const (
	KindUser PrincipalKind = "user"
	KindRole PrincipalKind = "role"
)

// Principal is a user or a role.
type Principal struct {
	ARN       string // arn:aws:iam::<account>:user/<path><name>, or :role/
	Account   string
	Kind      PrincipalKind
	CreatedAt time.Time
	PrincipalDetails
}

// PrincipalDetails is the part of a principal that no query asks for.
type PrincipalDetails struct {
	Name       string
	UniqueID   string            // AIDA or AROA and 16 characters; never used again
	Tags       map[string]string `json:",omitempty"`
	Policies   map[string]string `json:",omitempty"` // identity policies by name
	Boundary   string            `json:",omitempty"` // permissions boundary
	Trust      string            `json:",omitempty"` // of a role: who may assume it
	MaxSession int32             `json:",omitempty"` // of a role, in seconds
}

// AccessKeyUse is the last request that an access key has signed.
type AccessKeyUse struct {
	ID      string
	At      time.Time
	Region  string
	Service string // kms or sts
}

// Certificate maps a client certificate to a principal.
type Certificate struct {
	Fingerprint  string // SHA-256 of the DER, in hex
	PrincipalARN string
	CreatedAt    time.Time
}

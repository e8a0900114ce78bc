package evidence

import (
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/approval"
)

// Report is an auditor's summary of an account's keys in a region.
type Report struct {
	Account    string
	Region     string
	Time       time.Time
	Findings   []Finding    // the gravest first
	Keys       []KeySummary // in order of id
	AccessKeys []AccessKeySummary
	Guard      *GuardSummary `json:",omitempty"` // of the account; nil when it has none
	// Approvals are the newest requests for approval, of calls and commands; see package approval.
	Approvals []ApprovalSummary `json:",omitempty"`
	// BreakGlass are the newest openings of the sealed credential, the newest first. They are of all accounts.
	BreakGlass []BreakGlassSummary `json:",omitempty"`
}

// GuardSummary describes what restricts every caller of the account but break-glass.
type GuardSummary struct {
	SHA256     string // of its text, in hex, as attestations have it
	ChangedAt  time.Time
	Statements []StatementSummary
}

// ApprovalSummary describes a call or a command that needed approvals.
type ApprovalSummary struct {
	Number     int64
	State      approval.State
	Operation  string
	KeyID      string `json:",omitempty"`
	Requester  string
	CreatedAt  time.Time
	ExpiresAt  time.Time
	ApprovedBy []string  // whose approvals count, or counted
	EndedBy    string    `json:",omitempty"`
	EndedAt    time.Time `json:",omitzero"`
}

// BreakGlassSummary describes an opening of the sealed credential. The credential in force has signed Account, Reason
// and Operator; they are empty when one before it has.
type BreakGlassSummary struct {
	ID       string
	OpenedAt time.Time
	Until    time.Time
	ClosedAt time.Time `json:",omitzero"` // zero when it was not closed before its time
	UsedAt   time.Time `json:",omitzero"` // of the first request; zero when there was none
	Account  string    `json:",omitempty"`
	Reason   string    `json:",omitempty"`
	Operator string    `json:",omitempty"`
}

// Severity of a finding.
type Severity string

// The severities, the gravest first.
const (
	High   Severity = "high"
	Medium Severity = "medium"
	Low    Severity = "low"
)

var severities = []Severity{High, Medium, Low}

// Finding is something that an auditor would ask about.
type Finding struct {
	Severity Severity
	About    string // a key's id, an access key's id or a principal's ARN
	Text     string
}

// KeySummary describes one key.
type KeySummary struct {
	ID          string
	ARN         string
	Aliases     []string
	Description string
	State       service.KeyState
	Spec        string
	Usage       string
	Origin      string
	// KnownMaterial tells that a declaration has material of the key in clear; see service.Material.
	KnownMaterial bool `json:",omitempty"`
	CreatedAt     time.Time
	DeletionAt    time.Time `json:",omitzero"`
	Rotation      RotationSummary
	LastUse       *UseSummary // nil when it was never used
	Access        KeyAccess
}

// RotationSummary tells how old a key's material is.
type RotationSummary struct {
	PeriodDays int32     // of automatic rotation; 0 when it is off
	NextAt     time.Time `json:",omitzero"`
	LastAt     time.Time `json:",omitzero"` // zero when it never rotated
	AgeDays    int       // of the current material; -1 when there is none
}

// UseSummary describes the last successful cryptographic operation with a key.
type UseSummary struct {
	Operation string
	At        time.Time
	EventID   string // of its audit record
}

// KeyAccess tells who may use a key.
type KeyAccess struct {
	Statements []StatementSummary // of the key policy
	// IdentityPolicies tells whether the key policy leaves it to the account's identity policies to
	// allow something.
	IdentityPolicies bool
	// Principals are the users and roles of this service that may do something with the key, all
	// policies and grants taken together, when they give no encryption context and meet no other
	// condition.
	Principals []PrincipalAccess
	Grants     []GrantSummary
}

// StatementSummary describes a statement of a key policy.
type StatementSummary struct {
	Sid         string `json:",omitempty"`
	Effect      string
	Principals  []string // "all but X" for a NotPrincipal
	Actions     []string // "all but X" for a NotAction
	Conditional bool     // it has a Condition
}

// PrincipalAccess is what a principal may do with a key.
type PrincipalAccess struct {
	ARN        string
	Everything bool     // every permission that exists on a key
	Operations []string // permissions, without their prefix kms:
}

// GrantSummary describes a grant.
type GrantSummary struct {
	ID          string
	Name        string `json:",omitempty"`
	Grantee     string
	Operations  []string
	Constrained bool // by an encryption context or a source
	CreatedAt   time.Time
}

// AccessKeySummary describes an access key of one of the account's principals.
type AccessKeySummary struct {
	ID        string
	Principal string
	Enabled   bool
	CreatedAt time.Time
	ExpiresAt time.Time `json:",omitzero"` // zero when it never expires
	LastUsed  time.Time `json:",omitzero"` // zero when it never signed a request
}

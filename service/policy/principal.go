package policy

import (
	"regexp"
	"slices"
	"strings"
)

// PrincipalType is the kind of identity of a caller: a value of the condition key aws:PrincipalType
// (AWS page "IAM policy elements: Variables and tags", principal key values), or AWSService.
type PrincipalType string

// The types of principals.
const (
	RootUser      PrincipalType = "Account"
	User          PrincipalType = "User"
	RoleSession   PrincipalType = "AssumedRole"
	FederatedUser PrincipalType = "FederatedUser"
	WebIdentity   PrincipalType = "WebIdentity" // of AssumeRoleWithWebIdentity, before it has a role
	AWSService    PrincipalType = "AWSService"
	// BreakGlass is not AWS's: it is allowed everything, whatever policies say, for as long as its credentials
	// last.
	BreakGlass PrincipalType = "VerencBreakGlass"
)

// Principal is the caller of a request.
type Principal struct {
	Type PrincipalType
	// ARN is the caller's: arn:aws:iam::<account>:root, ...:user/<path><name>,
	// arn:aws:sts::<account>:assumed-role/<role>/<session>, ...:federated-user/<name>; or a service's name such as
	// dynamodb.amazonaws.com. Of a web identity it is that of its issuer: arn:aws:iam::<account>:oidc-provider/<host>.
	ARN     string
	Account string // 12 digits; empty for a service
	// IssuerARN is the ARN of the role that a session is of
	// (arn:aws:iam::<account>:role/<path><name>), or of the user who federated. It is empty for
	// others.
	IssuerARN string
	UserName  string            // of a user: aws:username
	UserID    string            // aws:userid; of a role session <role id>:<session name>
	Tags      map[string]string // aws:PrincipalTag/...
}

// policyARN returns the value of aws:PrincipalArn: for a session, that of its role.
func (p *Principal) policyARN() string {
	if p.Type == RoleSession {
		return p.IssuerARN
	}
	return p.ARN
}

// reach is how closely a statement or a grant names the caller. A greater value is closer.
type reach int

const (
	reachNone    reach = iota
	reachAccount       // the caller's account, which may allow by identity policies
	reachIssuer        // the role of the session, which permissions boundaries and session policies limit
	reachCaller        // the caller itself, or everyone
)

// principals is a Principal or NotPrincipal element.
type principals struct {
	not      bool
	everyone bool
	accounts []string // 12 digits: "AWS" account ids and root ARNs
	arns     []string // other "AWS" ARNs
	services []string
	// federated are the "Federated" identity providers: ARNs, or HOST/PATH.
	federated []string
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	// AWS page "AWS JSON policy elements: Principal". A name may not contain a wildcard.
	accountARNPattern = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):root$`)
	principalPattern  = regexp.MustCompile(`^arn:aws[a-z-]*:(iam::[0-9]{12}:(user|role)/([!-)+->@-~]*/)?[\w+=,.@-]+|sts::[0-9]{12}:(assumed-role/[\w+=,.@-]+/[\w+=,.@-]+|federated-user/[\w+=,.@-]+))$`)
	servicePattern    = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
)

// ErrInvalidPrincipals is Parse's error for a principal that is not valid, in AWS's words.
var (
	ErrInvalidPrincipals = malformed("Policy contains a statement with one or more invalid principals.")
	errNoPrincipal       = malformed("Policy contains a statement with no principal.")
)

// principals compiles an element whose name is Principal or NotPrincipal. Values of CanonicalUser are allowed, but no
// caller of this service has one. Federated matters in trust policies only.
func (c *compiler) principals(name string, n *node) (*principals, error) {
	p := &principals{not: name == "NotPrincipal"}
	if n.kind == jsonString && n.text == "*" {
		p.everyone = true
		return p, nil
	}
	if n.kind != jsonObject {
		return nil, malformed(`%s must be "*" or an object.`, name)
	}
	members, err := n.object(name, "AWS", "Service", "Federated", "CanonicalUser")
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, malformed("%s must not be empty.", name)
	}
	for kind, value := range members {
		texts, err := value.strings(name)
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			if !p.add(kind, text) {
				return nil, ErrInvalidPrincipals
			}
		}
	}
	return p, nil
}

// add adds one value of a principal element, if it is valid.
func (p *principals) add(kind, text string) bool {
	switch kind {
	case "AWS":
		if text == "*" {
			p.everyone = true
		} else if account := accountOf(text); account != "" {
			p.accounts = append(p.accounts, account)
		} else if principalPattern.MatchString(text) {
			p.arns = append(p.arns, text)
		} else {
			return false
		}
	case "Service":
		if !servicePattern.MatchString(text) {
			return false
		}
		p.services = append(p.services, text)
	case "Federated":
		p.federated = append(p.federated, strings.TrimSuffix(strings.TrimPrefix(text, "https://"), "/"))
	}
	return true
}

// accountOf returns the account that an account id or a root ARN names, or "".
func accountOf(s string) string {
	if accountPattern.MatchString(s) {
		return s
	}
	if strings.HasSuffix(s, ":root") { // or every grant would try the slow pattern
		if m := accountARNPattern.FindStringSubmatch(s); m != nil {
			return m[1]
		}
	}
	return ""
}

// reach returns how closely the listed principals name the caller.
func (p *principals) reach(caller *Principal) reach {
	switch {
	case caller.Type == WebIdentity:
		return p.reachWebIdentity(caller)
	case p.everyone:
		return reachCaller
	case caller.Type == AWSService:
		if slices.Contains(p.services, caller.ARN) {
			return reachCaller
		}
		return reachNone
	case slices.Contains(p.arns, caller.ARN):
		return reachCaller
	case caller.IssuerARN != "" && slices.Contains(p.arns, caller.IssuerARN):
		return reachIssuer
	case !slices.Contains(p.accounts, caller.Account):
		return reachNone
	case caller.Type == RootUser:
		return reachCaller
	}
	return reachAccount
}

// reachWebIdentity is reach for a web identity, whose issuer must be named. Whoever writes "*" into a trust policy does
// not think of everybody who has an account at some issuer.
func (p *principals) reachWebIdentity(caller *Principal) reach {
	_, issuer, _ := strings.Cut(caller.ARN, ":oidc-provider/")
	if slices.Contains(p.federated, caller.ARN) || slices.Contains(p.federated, issuer) {
		return reachCaller
	}
	return reachNone
}

// match is reach for Principal and for NotPrincipal (AWS page "AWS JSON policy elements:
// NotPrincipal"). An Allow with NotPrincipal does not apply to anybody who is named in any way. A
// Deny with NotPrincipal spares only a caller who is named together with its account and, for a
// session, with its role or user.
func (p *principals) match(caller *Principal, allow bool) reach {
	named := p.reach(caller)
	switch {
	case caller.Type == WebIdentity && allow && p.not:
		return reachNone // the issuer must be named
	case caller.Type == WebIdentity && !allow && p.everyone:
		named = reachCaller
	}
	switch {
	case !p.not:
		return named
	case allow && named != reachNone, !allow && named == reachCaller && p.namesIssuerToo(caller):
		return reachNone
	}
	return reachCaller
}

// namesIssuerToo reports whether, besides the caller, its account and its issuer are named too.
func (p *principals) namesIssuerToo(caller *Principal) bool {
	if p.everyone || caller.Type == AWSService || caller.Type == WebIdentity {
		return true
	}
	return slices.Contains(p.accounts, caller.Account) &&
		(caller.IssuerARN == "" || slices.Contains(p.arns, caller.IssuerARN))
}

// reachOf is reach for a principal as grants name it: one ARN, account id or service.
func reachOf(grantee string, caller *Principal) reach {
	switch {
	case grantee == "":
		return reachNone
	case grantee == caller.ARN:
		return reachCaller
	case grantee == caller.IssuerARN:
		return reachIssuer
	case caller.Account == "" || accountOf(grantee) != caller.Account:
		return reachNone
	case caller.Type == RootUser:
		return reachCaller
	}
	return reachAccount
}

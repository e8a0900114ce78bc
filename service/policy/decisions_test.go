package policy

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	account      = "111122223333"
	otherAccount = "444455556666"
	keyARN       = "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	verencARN    = "arn:verenc:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// ownAccountOnly are the operations of the cases that callers of other accounts can't be allowed.
var ownAccountOnly = map[string]bool{"CreateAlias": true, "DisableKey": true, "EnableKey": true, "GetKeyPolicy": true,
	"PutKeyPolicy": true, "ScheduleKeyDeletion": true, "TagResource": true}

func user(account, name string) *Principal {
	return &Principal{Type: User, ARN: "arn:aws:iam::" + account + ":user/" + name, Account: account, UserName: name,
		UserID: "AIDA" + strings.ToUpper(name)}
}

func rootUser(account string) *Principal {
	return &Principal{Type: RootUser, ARN: "arn:aws:iam::" + account + ":root", Account: account, UserID: account}
}

func session(account, path, role, name string) *Principal {
	return &Principal{Type: RoleSession, ARN: "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + name,
		Account:   account,
		IssuerARN: "arn:aws:iam::" + account + ":role/" + path + role,
		UserID:    "AROA" + strings.ToUpper(role) + ":" + name}
}

// callers are the principals of the decision tables.
var callers = map[string]*Principal{
	"root":   rootUser(account),
	"alice":  user(account, "alice"),
	"bob":    user(account, "bob"),
	"dev/s1": session(account, "team/", "Dev", "s1"),
	"dev/s2": session(account, "team/", "Dev", "s2"),
	"fed": {Type: FederatedUser, ARN: "arn:aws:sts::" + account + ":federated-user/alice", Account: account,
		IssuerARN: "arn:aws:iam::" + account + ":user/alice", UserID: account + ":alice"},
	"other-root": rootUser(otherAccount),
	"carol":      user(otherAccount, "carol"),
	"ops/s1":     session(otherAccount, "", "Ops", "s1"),
	"dynamodb":   {Type: AWSService, ARN: "dynamodb.amazonaws.com"},
}

// shorthand is what policies in the tables may write.
var shorthand = strings.NewReplacer(
	"@root", "arn:aws:iam::111122223333:root",
	"@alice", "arn:aws:iam::111122223333:user/alice",
	"@bob", "arn:aws:iam::111122223333:user/bob",
	"@dev/s1", "arn:aws:sts::111122223333:assumed-role/Dev/s1",
	"@dev/s2", "arn:aws:sts::111122223333:assumed-role/Dev/s2",
	"@dev", "arn:aws:iam::111122223333:role/team/Dev",
	"@fed", "arn:aws:sts::111122223333:federated-user/alice",
	"@other-root", "arn:aws:iam::444455556666:root",
	"@carol", "arn:aws:iam::444455556666:user/carol",
	"@ops/s1", "arn:aws:sts::444455556666:assumed-role/Ops/s1",
	"@ops", "arn:aws:iam::444455556666:role/Ops",
	"@key", keyARN,
)

var sourceNames = map[string]Source{"key": FromKeyPolicy, "identity": FromIdentityPolicy, "boundary": FromBoundary,
	"session": FromSessionPolicy, "grant": FromGrant, "root": FromRootUser}

// scenario is a group of a decision table: policies, under which cases are decided.
type scenario struct {
	name       string
	version    string
	noKey      bool
	statements map[string][]map[string]any // by source
	grants     []Grant
}

func (s *scenario) add(t *testing.T, source, text string) {
	t.Helper()
	statement := map[string]any{"Effect": "Allow"}
	if err := json.Unmarshal([]byte(shorthand.Replace(text)), &statement); err != nil {
		t.Fatalf("%s: %s: %v", s.name, text, err)
	}
	orDefault := func(name, other, value string) {
		if statement[name] == nil && statement[other] == nil {
			statement[name] = value
		}
	}
	orDefault("Action", "NotAction", "kms:*")
	orDefault("Resource", "NotResource", "*")
	if source == "key" {
		orDefault("Principal", "NotPrincipal", "*")
	}
	s.statements[source] = append(s.statements[source], statement)
}

func (s *scenario) document(t *testing.T, source string) []*Document {
	t.Helper()
	if s.statements[source] == nil {
		return nil
	}
	text, err := json.Marshal(map[string]any{"Version": s.version, "Statement": s.statements[source]})
	if err != nil {
		t.Fatal(err)
	}
	kind := IdentityPolicy
	if source == "key" {
		kind = KeyPolicy
	}
	d, err := Parse(kind, string(text))
	if err != nil {
		t.Fatalf("%s: %s policy: %v", s.name, source, err)
	}
	return []*Document{d}
}

func (s *scenario) policies(t *testing.T) *Policies {
	t.Helper()
	p := &Policies{Identity: s.document(t, "identity"), Boundary: s.document(t, "boundary"),
		Session: s.document(t, "session"), Grants: s.grants}
	if s.noKey {
		return p
	}
	p.Key = &Document{}
	if d := s.document(t, "key"); d != nil {
		p.Key = d[0]
	}
	return p
}

// request parses a case's caller, operation and facts, such as context.Department=IT or aws:SourceIp=203.0.113.1.
func (s *scenario) request(t *testing.T, caller, operation string, facts []string) *Request {
	t.Helper()
	principal := callers[caller]
	if principal == nil {
		t.Fatalf("%s: no caller is named %s", s.name, caller)
	}
	copied := *principal
	r := &Request{Action: "kms:" + operation, CrossAccount: !ownAccountOnly[operation],
		Resources: []string{keyARN, verencARN}, ResourceAccount: account,
		Principal: &copied}
	if s.noKey {
		r.Resources, r.ResourceAccount = []string{"*"}, copied.Account
	}
	values := make(map[string][]string)
	set := func(m *map[string]string, name, value string) {
		if *m == nil {
			*m = make(map[string]string)
		}
		(*m)[name] = value
	}
	for _, fact := range facts {
		name, value, ok := strings.Cut(fact, "=")
		value, err := url.PathUnescape(value)
		if !ok || err != nil {
			t.Fatalf("%s: %q is not a fact", s.name, fact)
		}
		family, member, _ := strings.Cut(name, ".")
		switch family {
		case "context":
			set(&r.EncryptionContext, member, value)
		case "resource-tag":
			set(&r.ResourceTags, member, value)
		case "request-tag":
			set(&r.RequestTags, member, value)
		case "caller-tag":
			set(&copied.Tags, member, value)
		case "resource":
			r.Resources = []string{shorthand.Replace(value)}
		default:
			values[strings.ToLower(name)] = append(values[strings.ToLower(name)], value)
		}
	}
	r.Lookup = func(dst []string, key string) []string { return append(dst, values[key]...) }
	return r
}

// check decides one case: "allow <by> <caller> <operation> <facts>"; "deny" for a denial because nothing allows,
// "deny!" for an explicit one.
func (s *scenario) check(t *testing.T, line string, p *Policies) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) < 4 {
		t.Fatalf("%s: %q is not a case", s.name, line)
	}
	r := s.request(t, words[2], words[3], words[4:])
	by, ok := sourceNames[words[1]]
	if !ok {
		t.Fatalf("%s: %q has no source", s.name, line)
	}
	d := Evaluate(p, r)
	if d.Allowed != (words[0] == "allow") || d.Explicit != (words[0] == "deny!") || d.By != by {
		explained := ""
		_, steps := Explain(p, r)
		for _, step := range steps {
			explained += fmt.Sprintf("\n\t%+v", step)
		}
		t.Errorf("%s: %s: got %+v%s", s.name, line, d, explained)
	}
	checkAssumptions(t, p, r, d)
	if explained, steps := Explain(p, r); explained != d {
		t.Errorf("%s: %s: Explain decides %+v, Evaluate %+v", s.name, line, explained, d)
	} else if d.Statement >= 0 {
		decided := false
		for _, step := range steps {
			decided = decided || step.By == d.By && step.Document == d.Document && step.Statement == d.Statement &&
				step.Applies && step.Deny == d.Explicit
		}
		if !decided {
			t.Errorf("%s: %s: no step of Explain is the deciding one", s.name, line)
		}
	}
}

// checkAssumptions tries a request of which only the caller, the action and the resource are known.
func checkAssumptions(t *testing.T, p *Policies, r *Request, d Decision) {
	t.Helper()
	unknown := *r
	unknown.EncryptionContext, unknown.RequestTags, unknown.Lookup = nil, nil, nil
	unknown.Assume = Favourable
	if best := Evaluate(p, &unknown); d.Allowed && !best.Allowed {
		t.Errorf("%+v is allowed, but never with the best that is assumed: %+v", r, best)
	}
	unknown.Assume = Unfavourable
	if worst := Evaluate(p, &unknown); !d.Allowed && worst.Allowed {
		t.Errorf("%+v is denied, but allowed with the worst that is assumed: %+v", r, worst)
	}
}

// TestDecisions runs the decision tables in testdata. Their lines are:
//
//	page NAME            the page of AWS's documentation that the groups below come from
//	group NAME           a new group, without policies
//	version V            of the policies; otherwise 2012-10-17
//	nokey                the operation has no key
//	key STATEMENT        one more statement; also identity, boundary, session. Elements left out allow all.
//	grant GRANT          one more grant
//	retiring PRINCIPALS  the last grant is to be retired; these may, and the grantee if its operations say so
//	allow, deny, deny!   a case; see check
func TestDecisions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) { cases += runTable(t, string(text)) })
	}
	if cases < 300 {
		t.Errorf("%d cases; the tables must have 300", cases)
	}
	t.Logf("%d cases", cases)
}

func runTable(t *testing.T, text string) (cases int) {
	var page string
	var s *scenario
	var p *Policies
	for i, line := range strings.Split(text, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		if word != "" && word[0] != '#' && word != "page" && word != "group" && (s == nil || page == "") {
			t.Fatalf("line %d is in no group of a page", i+1)
		}
		switch word {
		case "page":
			page, s = rest, nil
		case "group":
			s = &scenario{name: page + ": " + rest, version: version2012, statements: make(map[string][]map[string]any)}
			p = nil
		case "version":
			s.version = rest
		case "nokey":
			s.noKey = true
		case "key", "identity", "boundary", "session":
			s.add(t, word, rest)
		case "grant":
			var g Grant
			if err := json.Unmarshal([]byte(shorthand.Replace(rest)), &g); err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
			s.grants = append(s.grants, g)
		case "retiring":
			last := len(s.grants) - 1
			s.grants = append(s.grants[:last], s.grants[last].Retiring(strings.Fields(shorthand.Replace(rest))...)...)
		case "allow", "deny", "deny!":
			if p == nil {
				p = s.policies(t)
			}
			s.check(t, line, p)
			cases++
		case "", "#":
		default:
			t.Fatalf("line %d: %q", i+1, line)
		}
	}
	return cases
}

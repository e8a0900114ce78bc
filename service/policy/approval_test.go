package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func guardOf(t *testing.T, statements string) *Document {
	t.Helper()
	d, err := Parse(IdentityPolicy, `{"Version":"2012-10-17","Statement":[`+statements+`]}`)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// statement of a guard, with a condition.
func guardStatement(effect, action, condition string) string {
	return fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":"*","Condition":{%s}}`, effect, action, condition)
}

// rootRequest is one of the root user, whom nothing but a guard limits.
func rootRequest(approvals string, by ...string) *Request {
	return &Request{Action: "kms:CreateKey", Resources: []string{"*"}, ResourceAccount: "111122223333",
		Principal: &Principal{Type: RootUser, ARN: "arn:aws:iam::111122223333:root", Account: "111122223333"},
		Lookup: func(values []string, key string) []string {
			switch key {
			case Approvals:
				return append(values, approvals)
			case ApprovedBy:
				return append(values, by...)
			}
			return values
		}}
}

func TestGuardsRestrict(t *testing.T) {
	list, all := `{"Effect":"Allow","Action":"kms:List*","Resource":"*"}`, `{"Effect":"Allow","Action":"*","Resource":"*"}`
	deny := `{"Effect":"Deny","Action":"kms:Delete*","Resource":"*"}`
	for name, test := range map[string]struct {
		guards []string
		denied bool
	}{
		"none":                           {nil, false},
		"only denies something else":     {[]string{deny}, false},
		"allows everything":              {[]string{all}, false},
		"allows something else":          {[]string{list}, true},
		"one of two allows":              {[]string{all, list}, true},
		"one allows and one denies less": {[]string{all, deny}, false},
		"denies":                         {[]string{all + "," + strings.Replace(deny, "Delete", "Create", 1)}, true},
	} {
		p := &Policies{}
		for _, g := range test.guards {
			p.Guard = append(p.Guard, guardOf(t, g))
		}
		d := Evaluate(p, rootRequest("0"))
		if d.Allowed == test.denied || test.denied && d.By != FromGuard {
			t.Errorf("%s: %+v", name, d)
		}
		if e, steps := Explain(p, rootRequest("0")); e != d || len(test.guards) > 0 && steps[0].By != FromGuard {
			t.Errorf("%s: it is explained as %+v, %+v", name, e, steps)
		}
	}
}

func TestMissingApprovals(t *testing.T) {
	const carol, dave = "arn:aws:iam::111122223333:user/carol", "arn:aws:iam::111122223333:user/dave"
	for name, test := range map[string]struct {
		statements string
		want       Missing
		helps      bool
	}{
		"a number": {guardStatement("Deny", "kms:*", `"NumericLessThan":{"verenc:Approvals":"3"}`), Missing{3, nil},
			true},
		"allowed with a number": {guardStatement("Allow", "kms:*", `"NumericGreaterThanEquals":{"verenc:Approvals":2}`),
			Missing{2, nil}, true},
		"certain approvers": {guardStatement("Deny", "kms:*",
			`"ForAllValues:StringNotEquals":{"verenc:ApprovedBy":["`+dave+`","`+carol+`"]}`),
			Missing{1, []string{carol, dave}}, true},
		"both": {guardStatement("Allow", "kms:*", `"NumericGreaterThan":{"verenc:Approvals":1},`+
			`"ForAnyValue:ArnLike":{"verenc:ApprovedBy":"`+carol+`"}`), Missing{2, []string{carol}}, true},
		"too many": {guardStatement("Deny", "kms:*", `"NumericLessThan":{"verenc:Approvals":"11"}`), Missing{}, false},
		"another denial": {guardStatement("Deny", "kms:*", `"NumericLessThan":{"verenc:Approvals":"1"}`) +
			`,{"Effect":"Deny","Action":"kms:*","Resource":"*"}`, Missing{}, false},
		"another condition": {guardStatement("Deny", "kms:*", `"NumericLessThan":{"verenc:Approvals":"1"},"Null":{"aws:SourceIp":"true"}`) +
			"," + guardStatement("Deny", "kms:*", `"Null":{"aws:SourceIp":"true"}`), Missing{}, false},
	} {
		p := &Policies{Guard: []*Document{guardOf(t, test.statements)}}
		r := rootRequest("0")
		if Evaluate(p, r).Allowed {
			t.Errorf("%s: it is allowed without", name)
		}
		m, helps := MissingApprovals(p, r)
		if helps != test.helps || m.Approvals != test.want.Approvals || !slices.Equal(m.By, test.want.By) {
			t.Errorf("%s: %+v, %t", name, m, helps)
		}
		if helps && !Evaluate(p, rootRequest(fmt.Sprint(m.Approvals), slices.Concat(m.By, []string{"x"})...)).Allowed {
			t.Errorf("%s: what is missing does not help", name)
		}
	}
}

// TestApprovalsOpenNothingElse: who asks which approvals are missing assumes nothing of the rest of the request.
func TestApprovalsOpenNothingElse(t *testing.T) {
	p := &Policies{Guard: []*Document{guardOf(t, guardStatement("Allow", "kms:*",
		`"NumericGreaterThanEquals":{"verenc:Approvals":1},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}`))}}
	if m, helps := MissingApprovals(p, rootRequest("0")); helps {
		t.Errorf("%+v would help without an address", m)
	}
}

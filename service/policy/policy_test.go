package policy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func parse(t testing.TB, kind Kind, text string) *Document {
	t.Helper()
	d, err := Parse(kind, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// keyStatement is a key policy with one statement, of which element replaces or adds to what is usual.
func keyStatement(element string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"` +
		element + `}]}`
}

func keyPrincipal(principal string) string {
	return `{"Statement":{"Effect":"Allow","Principal":` + principal + `,"Action":"kms:*","Resource":"*"}}`
}

func keyCondition(condition string) string { return keyStatement(`,"Condition":` + condition) }

func TestMalformed(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, test := range []struct{ text, want string }{
		{``, "Syntax errors"},
		{`{`, "Syntax errors"},
		{`[]`, "The policy must be an object"},
		{`"x"`, "The policy must be an object"},
		{`null`, "The policy must be an object"},
		{`{} {}`, "Syntax errors"},
		{`{"Statement":[],}`, "Syntax errors"},
		{"\xff", "UTF-8"},
		{strings.Repeat(" ", MaxSize) + `{}`, "32768"},
		{strings.Repeat(`{"Statement":`, 20) + `1` + strings.Repeat(`}`, 20), "nested too deeply"},
		{strings.Repeat(`[`, 16000) + strings.Repeat(`]`, 16000), ""},
		{`{}`, "no Statement"},
		{`{"Statement":[]}`, "Statement must not be empty"},
		{`{"Statement":"x"}`, "Statement has a value of the wrong type"},
		{`{"Statement":[[]]}`, "Statement has a value of the wrong type"},
		{`{"Statement":null}`, "Statement has a value of the wrong type"},
		{`{"statement":[]}`, `must not have the element "statement"`},
		{`{"Statement":[],"` + long + `":1}`, "unusual name"},
		{`{"Version":"2012-10-18","Statement":[]}`, "Version must be"},
		{`{"Version":20121017,"Statement":[]}`, "Version must be"},
		{`{"Version":null,"Statement":[]}`, "Version must be"},
		{`{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}`, `"Version" twice`},
		{`{"Id":1,"Statement":[]}`, "Id must be a string"},

		{keyStatement(`,"Effect":"Deny"`), `"Effect" twice`},
		{keyStatement(`,"Extra":1`), `"Extra"`},
		{keyStatement(`,"Sid":1`), "Sid must be a string"},
		{keyStatement(`,"NotAction":"kms:*"`), "both Action and NotAction"},
		{keyStatement(`,"NotResource":"*"`), "both Resource and NotResource"},
		{keyStatement(`,"NotPrincipal":"*"`), "both Principal and NotPrincipal"},
		{`{"Statement":{"Principal":"*","Action":"kms:*","Resource":"*"}}`, "Effect must be"},
		{`{"Statement":{"Effect":"allow","Principal":"*","Action":"kms:*","Resource":"*"}}`, "Effect must be"},
		{`{"Statement":{"Effect":true,"Principal":"*","Action":"kms:*","Resource":"*"}}`, "Effect must be"},
		{`{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`, "no principal"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Resource":"*"}}`, "Action or NotAction"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*"}}`, "Resource or NotResource"},

		{keyPrincipal(`"x"`), `Principal must be "*"`},
		{keyPrincipal(`["*"]`), `Principal must be "*"`},
		{keyPrincipal(`{}`), "Principal must not be empty"},
		{keyPrincipal(`{"AWS":[]}`), "Principal must not be empty"},
		{keyPrincipal(`{"AWS":""}`), "empty string"},
		{keyPrincipal(`{"AWS":1}`), "wrong type"},
		{keyPrincipal(`{"aws":"*"}`), `"aws"`},
		{keyPrincipal(`{"AWS":"*","AWS":"*"}`), `"AWS" twice`},
		{keyPrincipal(`{"AWS":"11112222333"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"alice"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"arn:aws:iam::111122223333:user/*"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"arn:aws:iam::111122223333:user/a*/b"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"arn:aws:iam::111122223333:role/"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"arn:aws:iam::*:root"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"arn:aws:iam::111122223333:group/g"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"arn:aws:sts::111122223333:assumed-role/Dev/*"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"arn:aws:sts::111122223333:assumed-role/Dev"}`), "invalid principals"},
		{keyPrincipal(`{"AWS":"` + long + `"}`), "invalid principals"},
		{keyPrincipal(`{"Service":"*"}`), "invalid principals"},
		{keyPrincipal(`{"Service":"dynamodb"}`), "invalid principals"},

		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":[],"Resource":"*"}}`, "Action must not be empty"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"Decrypt","Resource":"*"}}`, "not an action"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"*:*","Resource":"*"}}`, "not an action"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:","Resource":"*"}}`, "not an action"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:${aws:username}","Resource":"*"}}`,
			"not an action"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","NotAction":["kms:*",1],"Resource":"*"}}`,
			"NotAction has a value of the wrong type"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":{"a":1},"Resource":"*"}}`,
			"Action has a value of the wrong type"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"key/1"}}`, "ARN format"},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":""}}`, "empty string"},
		{
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:::key/${"}}`,
			"closing brace"},
		{
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:::key/${}"}}`,
			"no name"},

		{keyCondition(`[]`), "Condition must be an object"},
		{keyCondition(`{"StringEquals":[]}`), "at least one key"},
		{keyCondition(`{"StringEquals":{}}`), "at least one key"},
		{keyCondition(`{"StringEqual":{"k:a":"1"}}`), `operator "StringEqual" is not known`},
		{keyCondition(`{"ForSomeValues:StringEquals":{"k:a":"1"}}`), "not known"},
		{keyCondition(`{"ForAllValues:ForAnyValue:StringEquals":{"k:a":"1"}}`), "not known"},
		{keyCondition(`{"NullIfExists":{"k:a":"true"}}`), "not known"},
		{keyCondition(`{"ForAllValues:Null":{"k:a":"true"}}`), "not known"},
		{keyCondition(`{"` + long + `":{"k:a":"true"}}`), "unusual name"},
		{keyCondition(`{"StringEquals":{"k:a":"1","k:a":"2"}}`), `"k:a" twice`},
		{keyCondition(`{"StringEquals":{"k:a":"1","K:A":"2"}}`), "a key twice"},
		{keyCondition(`{"StringEquals":{"k:a":"1"},"stringequals":{"k:a":"2"}}`), "a key twice"},
		{keyCondition(`{"StringEquals":{"":"1"}}`), "empty one"},
		{keyCondition(`{"StringEquals":{"k:a":[]}}`), "must not be empty"},
		{keyCondition(`{"StringEquals":{"k:a":null}}`), "wrong type"},
		{keyCondition(`{"StringEquals":{"k:a":{"b":1}}}`), "wrong type"},
		{keyCondition(`{"StringEquals":{"k:a":[["x"]]}}`), "wrong type"},
		{keyCondition(`{"StringEquals":{"k:a":"${aws:username, anonymous}"}}`), "single quotes"},
		{keyCondition(`{"StringEquals":{"k:a":"${aws:username"}}`), "closing brace"},
		{keyCondition(`{"StringLike":{"k:a":"*` + strings.Repeat("?", 1025) + `*"}}`), "too long"},
		{keyCondition(`{"StringLike":{"k:a":["*` + strings.Repeat("?", 1000) + `*","*a?` + strings.Repeat("b", 30) +
			`*"]}}`), "too long"},
		{keyCondition(`{"StringLike":{"k:a":"*a?${aws:username}*"}}`), "has a variable"},
		{keyCondition(`{"NumericEquals":{"k:a":"ten"}}`), "NumericEquals: A value must be an integer"},
		{keyCondition(`{"NumericEquals":{"k:a":"0x10"}}`), "must be an integer"},
		{keyCondition(`{"NumericEquals":{"k:a":"NaN"}}`), "must be an integer"},
		{keyCondition(`{"NumericEquals":{"k:a":1e999}}`), "must be an integer"},
		{keyCondition(`{"NumericEquals":{"k:a":"${k:n}"}}`), "must be an integer"},
		{keyCondition(`{"DateLessThan":{"k:a":"tomorrow"}}`), "must be a date"},
		{keyCondition(`{"DateLessThan":{"k:a":"2026-13-01"}}`), "must be a date"},
		{keyCondition(`{"DateLessThan":{"k:a":"2026-02-30T00:00:00Z"}}`), "must be a date"},
		{keyCondition(`{"DateLessThan":{"k:a":"2026-*"}}`), "must be a date"},
		{keyCondition(`{"Bool":{"k:a":"yes"}}`), "true or false"},
		{keyCondition(`{"Bool":{"k:a":1}}`), "true or false"},
		{keyCondition(`{"Null":{"k:a":"maybe"}}`), "true or false"},
		{keyCondition(`{"BinaryEquals":{"k:a":"=="}}`), "base64"},
		{keyCondition(`{"IpAddress":{"k:a":"203.0.113.0/33"}}`), "CIDR"},
		{keyCondition(`{"IpAddress":{"k:a":"203.0.113"}}`), "CIDR"},
		{keyCondition(`{"NotIpAddress":{"k:a":"*"}}`), "CIDR"},
		{keyCondition(`{"ArnEquals":{"k:a":"alice"}}`), "ARN format"},
		{keyCondition(`{"ArnEquals":{"k:a":"arn:aws:${aws:username"}}`), "closing brace"},
		{keyCondition(`{"ArnEquals":{"k:a":"arn:aws:${aws:username}:a"}}`), "ARN format"},
		{keyCondition(`{"ArnEquals":{"k:a":"arn:aws:kms:us-east-1"}}`), "ARN format"},
		{keyCondition(`{"ArnLike":{"k:a":"arn:verenc:111122223333"}}`), "ARN format"},
		{keyCondition(`{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"1"}}`), "OverlyPermissiveCondition"},
		{keyCondition(`{"ForAllValues:StringEquals":{"aws:RequestTag/a":"1"}}`), "OverlyPermissiveCondition"},
	} {
		d, err := Parse(KeyPolicy, test.text)
		shown := test.text
		if len(shown) > 200 {
			shown = shown[:200]
		}
		switch {
		case err == nil:
			t.Errorf("%s: parsed as %+v; want an error", shown, d)
		case !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: error %q; want %q", shown, err, test.want)
		case len(err.Error()) > 300:
			t.Errorf("%s: the error has %d bytes", shown, len(err.Error()))
		}
	}
	for _, test := range []struct{ elements, want string }{
		{`"Principal":"*"`, "Principal must not be in an identity policy"},
		{`"NotPrincipal":{"AWS":"111122223333"}`, "NotPrincipal must not be in an identity policy"},
		{`"Sid":"with space"`, "only letters and digits"},
		{`"Resource":"key/1"`, "ARN format"},
	} {
		text := `{"Statement":{"Effect":"Allow","Action":"kms:*",` + test.elements + `}}`
		if _, err := Parse(IdentityPolicy, text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v", text, err)
		}
	}
	text := `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"kms:*","Resource":"*"},{"Sid":"a","Effect":"Deny","Action":"kms:*","Resource":"*"}]}`
	if _, err := Parse(IdentityPolicy, text); err == nil || !strings.Contains(err.Error(), "Statement 2: the Sid") {
		t.Errorf("%s: error %v", text, err)
	}
}

func TestWellFormed(t *testing.T) {
	for _, text := range []string{
		keyStatement(``),
		keyPrincipal(`{"AWS":["*","111122223333","arn:aws-us-gov:iam::111122223333:root","arn:aws:iam::111122223333:user/a/b/c@example.com"],"Service":["kms.amazonaws.com"]}`),
		keyCondition(`{}`),
		`{"Statement":[{"Sid":"same Sid","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},{"Sid":"same Sid","Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}]}`,
		keyCondition(
			`{"StringEquals":{"kms:EncryptionContext:a b":["1",2,true]},"ForAnyValue:StringLikeIfExists":{"k:a":""}}`),
		keyCondition(`{"StringLike":{"k:a":["` + strings.Repeat("?", 2000) + `*` + strings.Repeat("?", 2000) + `","*` +
			strings.Repeat("?a", 512) + `*","?${aws:username}*${aws:userid}*?"]}}`),
		keyCondition(`{"ArnLike":{"k:a":["*","arn:aws:kms:*:*:key/${aws:username}","arn:verenc:*:key/*"]}}`),
		`{"Version":"2008-10-17","Id":"x","Statement":[{"Sid":"","Effect":"Deny","NotPrincipal":{"AWS":"*"},"NotAction":"*","NotResource":"arn:aws:kms:${"}]}`,
	} {
		parse(t, KeyPolicy, text)
	}
	// IAM does not refuse what KMS calls overly permissive.
	parse(t, IdentityPolicy, `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:RequestTag/a":"1"}}}}`)
}

// FuzzParse holds that no text makes Parse panic, that errors are short, and that what parses means the same when
// it is written without white space.
func FuzzParse(f *testing.F) {
	f.Add(keyStatement(``), true)
	f.Add(keyPrincipal(`{"AWS":["arn:aws:iam::111122223333:role/a"],"Service":"kms.amazonaws.com"}`), true)
	f.Add(keyCondition(`{"StringLike":{"aws:PrincipalTag/x":["a*b?${*}${aws:username, 'none'}"]},"Null":{"k:a":true}}`),
		true)
	f.Add(keyCondition(
		`{"IpAddress":{"aws:SourceIp":["203.0.113.0/24","::1"]},"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}`),
		true)
	f.Add(`{"Statement":{"Effect":"Deny","NotAction":["kms:*"],"NotResource":"arn:aws:kms:us-*"}}`, false)
	f.Fuzz(func(t *testing.T, text string, key bool) {
		kind := IdentityPolicy
		if key {
			kind = KeyPolicy
		}
		d, err := Parse(kind, text)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(kind, compact.String())
		if err != nil {
			t.Fatalf("compacted: %v", err)
		}
		if a, b := describe(d), describe(again); !reflect.DeepEqual(a, b) {
			t.Errorf("compacted it means %v, not %v", b, a)
		}
	})
}

// describe returns what can be compared of a document: all but functions.
func describe(d *Document) []any {
	var parts []any
	for _, s := range d.statements {
		s.conditions = append([]condition(nil), s.conditions...)
		for i := range s.conditions {
			c := &s.conditions[i]
			switch v := c.values.(type) {
			case *ordered[string]:
				c.values = texts{{text: strings.Join(v.values, " ")}}
			case *ordered[float64]:
				parts = append(parts, v.values)
				c.values = nil
			case *ordered[int64]:
				parts = append(parts, v.values)
				c.values = nil
			}
		}
		parts = append(parts, s)
	}
	return parts
}

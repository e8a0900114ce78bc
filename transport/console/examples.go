package console

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"go/format"
	"regexp"
	"strconv"
	"strings"
)

// Addresses of the examples: those of make run.
const (
	exampleEndpoint = "http://127.0.0.1:8600"
	exampleRegion   = "us-east-1"
)

// example is a request in the forms that clients write it in: the first two of an operation that
// AWS's clients don't have. assets/commands.js makes the first
// two in the browser, of other requests and for the server's own address; a test compares them.
type example struct{ JSON, Curl, CLI, Python, Go string }

// newExample makes an example of a request in JSON. It fails when the request has a member that the
// operation lacks.
func newExample(op *operationPage, request json.RawMessage) (*example, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(request, &values); err != nil {
		return nil, err
	}
	e := &example{}
	var names []string
	for _, m := range op.Request {
		raw, given := values[m.Name]
		if !given {
			continue
		}
		delete(values, m.Name)
		names = append(names, m.Name)
		value, err := m.read(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		e.CLI += " \\\n    " + option(m, value)
		e.Python += fmt.Sprintf("\n    %s=%s,", m.Name, python(m, value))
		e.Go += fmt.Sprintf("\n\t%s: %s,", m.Name, golang(m, value, true))
	}
	for name := range values {
		return nil, fmt.Errorf("the operation has no member %s", name)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, ordered(names, request), "", "  "); err != nil {
		return nil, err
	}
	e.JSON = b.String()
	e.Curl = curl(op.Target, e.JSON)
	if !op.OfAWS {
		return &example{JSON: e.JSON, Curl: e.Curl}, nil
	}
	e.CLI = "aws kms " + kebab(op.Name) + " --endpoint-url " + exampleEndpoint + " --region " + exampleRegion + e.CLI
	e.Python = fmt.Sprintf("import boto3\n\nkms = boto3.client(\"kms\", endpoint_url=%q, region_name=%q)\nanswer = kms.%s(%s)",
		exampleEndpoint, exampleRegion, snake(op.Name), closed(e.Python))
	if strings.Contains(e.Python, "base64.") {
		e.Python = "import base64\n" + e.Python
	}
	code := fmt.Sprintf(`// cfg, err := config.LoadDefaultConfig(ctx)
client := kms.NewFromConfig(cfg, func(o *kms.Options) {
	o.BaseEndpoint = aws.String(%q)
})
out, err := client.%s(ctx, &kms.%sInput{%s})`, exampleEndpoint, op.Name, op.Name, closed(e.Go))
	formatted, err := format.Source([]byte(code))
	e.Go = string(formatted)
	return e, err
}

// closed ends a list of lines before its bracket.
func closed(lines string) string {
	if lines == "" {
		return ""
	}
	return lines + "\n"
}

// ordered writes the members of an object in this order.
func ordered(names []string, object json.RawMessage) []byte {
	var values map[string]json.RawMessage
	_ = json.Unmarshal(object, &values) // which its caller has done
	var parts []string
	for _, name := range names {
		parts = append(parts, strconv.Quote(name)+":"+string(values[name]))
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

// read gives a member's value as a Go value: string, []byte, bool, json.Number, pairs or []any.
func (m *member) read(raw json.RawMessage) (any, error) {
	switch m.Kind {
	case kindString:
		return readAs[string](raw)
	case kindBlob:
		return readAs[[]byte](raw)
	case kindBoolean:
		return readAs[bool](raw)
	case kindInteger, kindTimestamp:
		return readAs[json.Number](raw)
	case kindMap:
		return readPairs(raw, func(string) *member { return &member{Kind: kindString} })
	case kindStructure:
		return readPairs(raw, func(name string) *member {
			for _, n := range m.Members {
				if n.Name == name {
					return n
				}
			}
			return nil
		})
	}
	elements, err := readAs[[]json.RawMessage](raw)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(elements))
	for i, e := range elements {
		if list[i], err = m.Element.read(e); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func readAs[T any](raw json.RawMessage) (v T, err error) {
	err = json.Unmarshal(raw, &v)
	return v, err
}

// pair is a member of an object.
type pair struct {
	name   string
	member *member
	value  any
}

// readPairs reads an object in its order.
func readPairs(raw json.RawMessage, find func(string) *member) (all []pair, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%s is no object", raw)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		p := pair{name: name.(string), member: find(name.(string))}
		if p.member == nil {
			return nil, fmt.Errorf("the structure has no member %s", p.name)
		}
		if p.value, err = p.member.read(value); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func curl(target, body string) string {
	return "curl --aws-sigv4 aws:amz:" + exampleRegion + ":kms --user \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" \\\n" +
		"    -H 'Content-Type: application/x-amz-json-1.1' -H 'X-Amz-Target: " + target + "' \\\n" +
		"    -d " + shell(
		body,
	) + " " + exampleEndpoint + "/"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=,@+-]+$`)

// shell quotes a word for a POSIX shell, if it must be.
func shell(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// option is a member as the AWS CLI takes it.
func option(m *member, value any) string {
	name := "--" + kebab(m.Name)
	switch v := value.(type) {
	case bool:
		if !v {
			name = "--no-" + kebab(m.Name)
		}
		return name
	case string:
		if strings.HasPrefix(v, "-") {
			return name + "=" + shell(v)
		}
		return name + " " + shell(v)
	case []byte:
		return name + " " + shell(base64.StdEncoding.EncodeToString(v))
	case json.Number:
		return name + " " + v.String()
	}
	return name + " " + shell(plainJSON(value))
}

// plainJSON writes lists and pairs as JSON.
func plainJSON(value any) string {
	switch v := value.(type) {
	case []any:
		return "[" + each(v, plainJSON) + "]"
	case []pair:
		return "{" + each(v, func(p pair) string { return plainJSON(p.name) + ":" + plainJSON(p.value) }) + "}"
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		panic(err) // it came from JSON
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func each[T any](values []T, f func(T) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = f(v)
	}
	return strings.Join(parts, ",")
}

var (
	wordStart = regexp.MustCompile(`(.)([A-Z][a-z]+)`)
	wordEnd   = regexp.MustCompile(`([a-z0-9])([A-Z])`)
)

// separate writes a name in lower case with its words apart, as botocore does
// (botocore.xform_name).
func separate(name, separator string) string {
	name = wordStart.ReplaceAllString(name, "${1}"+separator+"${2}")
	return strings.ToLower(wordEnd.ReplaceAllString(name, "${1}"+separator+"${2}"))
}

func kebab(name string) string { return separate(name, "-") }

func snake(name string) string { return separate(name, "_") }

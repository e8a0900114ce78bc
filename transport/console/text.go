package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
)

//go:embed text
var textFiles embed.FS

// markdown leaves out raw HTML, as goldmark does by default.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.Table),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
)

// texts are the words of the pages, which folder text holds.
type texts struct {
	operations map[string]*operationText
	members    map[string]string // by name of member, or of structure and member: KeyMetadata.KeyState
	errors     map[string]errorText
	conditions map[string]string
	manual     []*manualText
}

// operationText is text/operations/<Operation>.md.
type operationText struct {
	Summary, Description         string
	Parameters, Response, Errors map[string]string
	Example                      json.RawMessage
}

// errorText is what text/errors.md says of an error.
type errorText struct {
	Text  string
	Retry bool
}

// manualText is a page of the manual.
type manualText struct {
	Name  string // in its address
	Title string
	Text  string
}

func readTexts(files fs.FS) (*texts, error) {
	t := &texts{operations: map[string]*operationText{}, errors: map[string]errorText{}}
	names, err := fs.Glob(files, "text/operations/*.md")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		op, err := parseOperation(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		t.operations[strings.TrimSuffix(path.Base(name), ".md")] = op
	}
	lists := map[string]map[string]string{}
	for _, name := range []string{"members", "errors", "conditions"} {
		text, err := fs.ReadFile(files, "text/"+name+".md")
		if err != nil {
			return nil, err
		}
		if lists[name], err = parseList(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	t.members, t.conditions = lists["members"], lists["conditions"]
	for heading, text := range lists["errors"] {
		code, advice, _ := strings.Cut(heading, " ")
		if advice != "(retry)" && advice != "(do not retry)" {
			return nil, fmt.Errorf("errors: %s: write (retry) or (do not retry) behind the code", heading)
		}
		t.errors[code] = errorText{Text: text, Retry: advice == "(retry)"}
	}
	return t, t.readManual(files)
}

func (t *texts) readManual(files fs.FS) error {
	names, err := fs.Glob(files, "text/manual/*.md")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		title, rest, _ := strings.Cut(string(text), "\n")
		title, isTitle := strings.CutPrefix(title, "# ")
		_, base, numbered := strings.Cut(strings.TrimSuffix(path.Base(name), ".md"), "-")
		if !isTitle || !numbered {
			return fmt.Errorf("%s: a page of the manual is NN-name.md and begins with its title", name)
		}
		t.manual = append(t.manual, &manualText{Name: base, Title: title, Text: rest})
	}
	return nil
}

// parseOperation reads a summary, a description and the sections Parameters, Response, Errors and
// Example.
func parseOperation(text string) (*operationText, error) {
	sections := strings.Split("\n"+text, "\n## ")
	op := &operationText{}
	op.Summary, op.Description, _ = strings.Cut(strings.TrimSpace(sections[0]), "\n\n")
	op.Summary = strings.ReplaceAll(op.Summary, "\n", " ")
	op.Description = strings.TrimPrefix(op.Description, "Description: ")
	for _, section := range sections[1:] {
		var err error
		title, body, _ := strings.Cut(section, "\n")
		switch title {
		case "Parameters":
			op.Parameters, err = parseList(body)
		case "Response":
			op.Response, err = parseList(body)
		case "Errors":
			op.Errors, err = parseList(body)
		case "Example":
			op.Example, err = parseExample(body)
		default:
			err = fmt.Errorf("there is no section %s", title)
		}
		if err != nil {
			return nil, err
		}
	}
	return op, nil
}

var item = regexp.MustCompile(`^- ([^\s:]+(?::[^\s:]+)*(?: \([a-z ]+\))?): (.+)$`)

// parseList reads lines of the form "- Name: text". A line that begins with two blanks continues
// the text.
func parseList(text string) (map[string]string, error) {
	all, last := map[string]string{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n ")
		m := item.FindStringSubmatch(line)
		switch {
		case m != nil:
			if last = m[1]; all[last] != "" {
				return nil, fmt.Errorf("%s is there twice", last)
			}
			all[last] = m[2]
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "  ") && last != "":
			all[last] += " " + strings.TrimSpace(line)
		default:
			return nil, fmt.Errorf("%q is no item of a list", line)
		}
	}
	return all, nil
}

func parseExample(text string) (json.RawMessage, error) {
	_, text, found := strings.Cut(text, "```json\n")
	text, _, ended := strings.Cut(text, "```")
	if !found || !ended || !json.Valid([]byte(text)) {
		return nil, fmt.Errorf("the example is not a block of JSON")
	}
	return json.RawMessage(text), nil
}

// blocks renders Markdown.
func blocks(text string) template.HTML {
	var b bytes.Buffer
	if err := markdown.Convert([]byte(text), &b); err != nil {
		panic(err) // a buffer takes everything
	}
	return template.HTML(b.String())
}

// phrase renders Markdown of one paragraph, without the paragraph.
func phrase(text string) template.HTML {
	html := strings.TrimSpace(string(blocks(text)))
	inner, found := strings.CutPrefix(html, "<p>")
	if inner, ended := strings.CutSuffix(inner, "</p>"); found && ended && !strings.Contains(inner, "<p>") {
		return template.HTML(inner)
	}
	return template.HTML(html)
}

// member finds the text of a member: the operation's own, then that of the structure, then that of
// the name.
func (t *texts) member(own map[string]string, structure, name string) string {
	for _, text := range []string{own[join(structure, name)], t.members[join(structure, name)], t.members[name]} {
		if text != "" {
			return text
		}
	}
	return ""
}

// conditionNamed gives the name under which the texts have a condition key: one that ends in ":" or
// "/" has a word there for the name behind it.
func (t *texts) conditionNamed(key string) string {
	if strings.HasSuffix(key, ":") || strings.HasSuffix(key, "/") {
		for name := range t.conditions {
			if strings.HasPrefix(name, key) {
				return name
			}
		}
	}
	return key
}

func join(structure, name string) string {
	if structure == "" {
		return name
	}
	return structure + "." + name
}

package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"path"
	"regexp"
	"slices"
	"strings"
)

//go:embed templates
var templateFiles embed.FS

// site is all pages, from which they are rendered one by one.
type site struct {
	cfg        Config
	texts      *texts
	assets     *assets
	templates  *template.Template
	operations []*operationPage
	families   []family
	live       bool // served, and not written to files: with Try it out
}

// family is the operations below one heading.
type family struct {
	Name       string
	Operations []*operationPage
}

// operationPage is what the page of an operation shows.
type operationPage struct {
	Operation
	Request, Response    []*member
	Summary, Description template.HTML
	Errors               []errorEntry
	Conditions           []conditionEntry
	Example              *example
	Syntax               string
	plain                string // the summary, without code
}

// errorEntry is an error with its meaning, for an operation or in general.
type errorEntry struct {
	Code  string
	Retry bool
	Text  template.HTML
}

type conditionEntry struct {
	Key  string
	Text template.HTML
}

func newSite(cfg Config, live bool) (*site, error) {
	s := &site{cfg: cfg, live: live}
	var err error
	if s.texts, err = readTexts(textFiles); err != nil {
		return nil, fmt.Errorf("read texts: %w", err)
	}
	for _, name := range cfg.Reference.Families {
		s.families = append(s.families, family{Name: name})
	}
	for i := range cfg.Reference.Operations {
		op, err := s.operation(&cfg.Reference.Operations[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.Reference.Operations[i].Name, err)
		}
		s.operations = append(s.operations, op)
		at := slices.IndexFunc(s.families, func(f family) bool { return f.Name == op.Family })
		if at < 0 {
			at = len(s.families)
			s.families = append(s.families, family{Name: op.Family})
		}
		s.families[at].Operations = append(s.families[at].Operations, op)
	}
	end := ""
	if !live {
		end = suffix
	}
	index, err := json.Marshal(s.index(end))
	if err != nil {
		return nil, err
	}
	if s.assets, err = newAssets(index); err != nil {
		return nil, err
	}
	functions := template.FuncMap{"asset": s.assets.path, "join": strings.Join, "words": words, "slug": slug}
	s.templates, err = template.New("").Funcs(functions).ParseFS(templateFiles, "templates/*.html")
	return s, err
}

func (s *site) operation(op *Operation) (*operationPage, error) {
	t := s.texts.operations[op.Name]
	if t == nil {
		t = &operationText{}
	}
	constraint := s.cfg.Reference.Constraint
	p := &operationPage{Operation: *op, Request: membersOf(op.Request, constraint),
		Response: membersOf(op.Response, constraint),
		Summary:  phrase(t.Summary), Description: blocks(t.Description), plain: strings.ReplaceAll(t.Summary, "`", "")}
	describe(p.Request, "Parameters", "", func(structure, name string) template.HTML {
		return phrase(s.texts.member(t.Parameters, structure, name))
	})
	describe(p.Response, "Response", "", func(structure, name string) template.HTML {
		return phrase(s.texts.member(t.Response, structure, name))
	})
	for _, code := range op.Errors {
		general := s.texts.errors[code]
		text := t.Errors[code]
		if text == "" {
			text = general.Text
		}
		p.Errors = append(p.Errors, errorEntry{Code: code, Retry: general.Retry, Text: phrase(text)})
	}
	for _, key := range op.Conditions {
		key = s.texts.conditionNamed(key)
		p.Conditions = append(p.Conditions, conditionEntry{Key: key, Text: phrase(s.texts.conditions[key])})
	}
	p.Syntax = syntax(p.Request, "")
	request := t.Example
	if request == nil {
		request = json.RawMessage("{}")
	}
	var err error
	p.Example, err = newExample(p, request)
	return p, err
}

// syntax draws a request with the kinds of its members.
func syntax(members []*member, indent string) string {
	if len(members) == 0 {
		return "{}"
	}
	var b strings.Builder
	b.WriteString("{\n")
	for i, m := range members {
		fmt.Fprintf(&b, "%s  %q: %s", indent, m.Name, m.syntax(indent+"  "))
		if i < len(members)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	return b.String() + indent + "}"
}

func (m *member) syntax(indent string) string {
	switch m.Kind {
	case kindBoolean:
		return "boolean"
	case kindInteger, kindTimestamp:
		return "number"
	case kindBlob:
		return `"base64"`
	case kindMap:
		return `{"string": "string"}`
	case kindList:
		return "[" + m.Element.syntax(indent) + "]"
	case kindStructure:
		return syntax(m.Members, indent)
	}
	return `"string"`
}

// view is what a template gets.
type view struct {
	*site
	Path      string // of the page
	Title     string
	Operation *operationPage
	Cannot    []string // what this token can't do
	Schema    any      // for the page's script
	Errors    []errorEntry
	Keys      []conditionEntry
	Body      template.HTML
	Manual    *manualText
	Previous  *manualText
	Next      *manualText
	Console   *consolePage // nil for other pages
}

// Families lists the families of operations, for templates.
func (v *view) Families() []family { return v.families }

// Live tells whether the page is served, and not in a file.
func (v *view) Live() bool { return v.live }

// ManualPages lists the pages of the manual.
func (v *view) ManualPages() []*manualText { return v.texts.manual }

// Region is the one that the form for signing in proposes.
func (v *view) Region() string { return v.cfg.Region }

// areas are the parts of the site.
var areas = []string{"/console", "/docs", "/docs/manual"}

// Within is the attribute of a link to one of areas that tells whether it has the page. Of two that have it, it is the
// smaller one.
func (v *view) Within(area string) template.HTMLAttr {
	has := ""
	for _, a := range areas {
		if below(v.Path, a) && len(a) > len(has) {
			has = a
		}
	}
	switch {
	case has != area:
		return ""
	case v.Path == area:
		return ` aria-current="page"`
	}
	return ` aria-current="true"`
}

// At is the attribute of a link to a page that tells whether it is this one.
func (v *view) At(folder, name string) template.HTMLAttr {
	if v.Path != folder+name {
		return ""
	}
	return ` aria-current="page"`
}

// Scripts lists the modules of a page that is served, the one that it begins with first.
func (v *view) Scripts() (all []string) {
	for name := range v.assets.files {
		ofConsole := strings.HasPrefix(name, "console/")
		if path.Ext(name) == ".js" && name != firstScript && (v.Console != nil || !ofConsole) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return append([]string{firstScript}, all...)
}

const firstScript = "page.js"

// schema is what a page's script makes its form and shows its answer with.
type schema struct {
	Operation string          `json:"operation"`
	Target    string          `json:"target"`
	OfAWS     bool            `json:"ofAWS"`
	Request   []*member       `json:"request"`
	Response  []*member       `json:"response"`
	Example   json.RawMessage `json:"example"`
}

// paths lists the pages.
func (s *site) paths() []string {
	all := []string{"/docs", "/docs/errors", "/docs/condition-keys", "/docs/manual"}
	for _, op := range s.operations {
		all = append(all, "/docs/"+op.Name)
	}
	for _, m := range s.texts.manual {
		all = append(all, "/docs/manual/"+m.Name)
	}
	if s.live {
		for _, p := range consolePages {
			all = append(all, p.Path)
		}
	}
	return all
}

// route is the address of one of paths, with a name in the place of what differs between pages of a kind.
func (s *site) route(address string) string {
	switch name := strings.TrimPrefix(address, "/docs/"); {
	case slices.ContainsFunc(s.operations, func(op *operationPage) bool { return op.Name == name }):
		return "/docs/{operation}"
	case strings.HasPrefix(name, "manual/"):
		return "/docs/manual/{chapter}"
	case strings.HasSuffix(address, "/"):
		return address + "{id}"
	}
	return address
}

// render makes one of paths.
func (s *site) render(address string) ([]byte, error) {
	v, page := &view{site: s, Path: address}, "console.html"
	if at := slices.IndexFunc(consolePages, func(p consolePage) bool { return p.Path == address }); at >= 0 {
		s.consolePage(v, &consolePages[at])
	} else {
		page = s.docsPage(v, strings.TrimPrefix(address, "/docs/"))
	}
	var b bytes.Buffer
	err := s.templates.ExecuteTemplate(&b, page, v)
	return b.Bytes(), err
}

// docsPage fills in what a page below /docs shows, and gives its template.
func (s *site) docsPage(v *view, name string) string {
	switch name {
	case "/docs":
		v.Title = "API reference"
		return "index.html"
	case "errors":
		v.Title, v.Errors = "Errors", s.allErrors()
		return "errors.html"
	case "condition-keys":
		v.Title, v.Keys = "Condition keys", s.allConditions()
		return "conditions.html"
	case "manual":
		v.Title = "User manual"
		return "manual.html"
	}
	if chapter, isManual := strings.CutPrefix(name, "manual/"); isManual {
		s.chapter(v, chapter)
		return "chapter.html"
	}
	at := slices.IndexFunc(s.operations, func(op *operationPage) bool { return op.Name == name })
	op := s.operations[at]
	v.Operation, v.Title = op, op.Name
	if s.cfg.Cannot != nil {
		v.Cannot = s.cfg.Cannot(name)
	}
	v.Schema = schema{op.Name, op.Target, op.OfAWS, op.Request, op.Response, json.RawMessage(op.Example.JSON)}
	return "operation.html"
}

func (s *site) chapter(v *view, name string) {
	all := s.texts.manual
	at := slices.IndexFunc(all, func(m *manualText) bool { return m.Name == name })
	v.Manual = all[at]
	v.Title, v.Body = v.Manual.Title, scrollable(blocks(v.Manual.Text))
	if at > 0 {
		v.Previous = all[at-1]
	}
	if at < len(all)-1 {
		v.Next = all[at+1]
	}
}

func (s *site) allErrors() (all []errorEntry) {
	for code, e := range s.texts.errors {
		all = append(all, errorEntry{Code: code, Retry: e.Retry, Text: phrase(e.Text)})
	}
	slices.SortFunc(all, func(a, b errorEntry) int { return strings.Compare(a.Code, b.Code) })
	return all
}

func (s *site) allConditions() (all []conditionEntry) {
	for key, text := range s.texts.conditions {
		all = append(all, conditionEntry{Key: key, Text: phrase(text)})
	}
	slices.SortFunc(all, func(a, b conditionEntry) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// scrollable lets wide tables be scrolled, with the keyboard, too. They are goldmark's: no text can
// have a tag.
func scrollable(body template.HTML) template.HTML {
	parts := strings.Split(string(body), "<table>")
	for i := 1; i < len(parts); i++ {
		region := fmt.Sprintf(`<div class="wide" role="region" aria-label="Table %d" tabindex="0"><table>`, i)
		parts[i] = region + strings.Replace(parts[i], "</table>", "</table></div>", 1)
	}
	return template.HTML(strings.Join(parts, ""))
}

// slug makes an id of a heading.
func slug(heading string) string { return strings.ReplaceAll(strings.ToLower(heading), " ", "-") }

var wordBreak = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// words lets a name of several words break between them.
func words(name string) template.HTML {
	return template.HTML(wordBreak.ReplaceAllString(template.HTMLEscapeString(name), "$1<wbr>$2"))
}

package console

import (
	"regexp"
	"strings"
)

// entry is one of the search index: a page, or a place on one.
type entry struct {
	Path  string `json:"path"` // relative to /docs/
	Title string `json:"title"`
	Text  string `json:"text"`
}

var headings = regexp.MustCompile(`(?m)^##+ (.+)$`)

// index lists what the search finds; suffix ends the names of pages.
func (s *site) index(suffix string) (all []entry) {
	for _, op := range s.operations {
		page := op.Name + suffix
		all = append(all, entry{page, op.Name, op.plain})
		all = appendMembers(all, op.Request, page, "parameter of "+op.Name)
		all = appendMembers(all, op.Response, page, "response element of "+op.Name)
	}
	for _, m := range s.texts.manual {
		var titles []string
		for _, h := range headings.FindAllStringSubmatch(m.Text, -1) {
			titles = append(titles, h[1])
		}
		all = append(all, entry{"manual/" + m.Name + suffix, m.Title, "manual: " + strings.Join(titles, ", ")})
	}
	for _, e := range s.allErrors() {
		all = append(all, entry{"errors" + suffix + "#" + e.Code, e.Code, "error"})
	}
	for _, c := range s.allConditions() {
		all = append(all, entry{"condition-keys" + suffix + "#" + c.Key, c.Key, "condition key"})
	}
	return all
}

func appendMembers(all []entry, members []*member, page, text string) []entry {
	for _, m := range members {
		all = append(all, entry{page + "#" + m.Anchor, m.Name, text})
		all = appendMembers(all, m.Nested(), page, text)
	}
	return all
}

package declaration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const maxFile = 1 << 20 // bytes of a policy or a certificate

// ReadFile is os.ReadFile for a file of up to 1 MiB.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

// ReadPolicy reads a policy from a file of JSON or YAML, and returns its JSON. Without a path there
// is no policy.
func ReadPolicy(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := ReadFile(path)
	if err != nil || json.Valid(text) {
		return string(text), err
	}
	root, err := parseYAML(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if text, err = jsonOf(nil, root); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(text), nil
}

// parseYAML reads a text of one document.
func parseYAML(text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	if err := d.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, err
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document")
	}
	return document.Content[0], nil
}

// jsonOf appends the JSON of a YAML value, with its members in their order.
func jsonOf(b []byte, n *yaml.Node) (_ []byte, err error) {
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				b = append(b, ',')
			}
			if n.Content[i].Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: a name must be a scalar", n.Content[i].Line)
			}
			b = append(quoteJSON(b, n.Content[i].Value), ':')
			if b, err = jsonOf(b, n.Content[i+1]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case yaml.SequenceNode:
		b = append(b, '[')
		for i, item := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = jsonOf(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case yaml.ScalarNode:
		return jsonOfScalar(b, n)
	}
	return nil, fmt.Errorf("line %d: anchors and aliases are not supported", n.Line)
}

func jsonOfScalar(b []byte, n *yaml.Node) ([]byte, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp": // a date without quotes is a text, as in Version
		return quoteJSON(b, n.Value), nil
	case "!!null":
		return append(b, "null"...), nil
	case "!!bool":
		return append(b, strings.ToLower(n.Value)...), nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return append(b, n.Value...), nil
		}
	}
	return nil, fmt.Errorf("line %d: %q needs quotes", n.Line, n.Value)
}

func quoteJSON(b []byte, s string) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

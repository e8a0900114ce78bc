package plot

import (
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// elements reads SVG, and returns the names of its elements and its text.
func elements(t *testing.T, svg string) (names map[string]int, text string) {
	t.Helper()
	names = map[string]int{}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return names, text
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			names[token.Name.Local]++
			for _, a := range token.Attr {
				name := strings.ToLower(a.Name.Local)
				if strings.HasPrefix(name, "on") || strings.Contains(name, "href") || strings.Contains(a.Value, "url(") {
					t.Errorf("attribute %s=%q", name, a.Value)
				}
			}
		case xml.CharData:
			text += string(token) + "\n"
		}
	}
}

const hostile = `<script>alert(1)</script>&"'`

// TestPlots: what is drawn is SVG without scripts, with its texts, in both schemes.
func TestPlots(t *testing.T) {
	for _, scheme := range []Scheme{Light, Dark} {
		lines, err := Lines(scheme, []string{"10:00", "10:01", "10:02"}, []string{"requests", hostile},
			[][]float64{{0, 12.5, 3}, {math.NaN(), 1, math.Inf(1)}})
		if err != nil {
			t.Fatal(err)
		}
		bars, err := Bars(scheme, []string{"first", hostile, "last"}, []float64{3, 0, 1_000_000})
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			svg  string
			want []string
		}{
			"lines": {lines, []string{"10:00", "10:02", "requests", hostile}},
			"bars":  {bars, []string{"first", hostile, "last", "1000000"}},
		} {
			names, text := elements(t, c.svg)
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s of %s lacks %q:\n%s", name, scheme, want, text)
				}
			}
			for element := range names {
				switch element {
				case "svg", "path", "text", "circle", "rect", "g":
				default:
					t.Errorf("%s has an element %s", name, element)
				}
			}
			picture := filepath.Join(t.ArtifactDir(), name+string(scheme)+".svg")
			if err := os.WriteFile(picture, []byte(c.svg), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Index(bars, ">first<") > strings.Index(bars, ">last<") &&
			strings.Contains(bars, "NaN") {
			t.Error("the bars are not numbers")
		}
	}
	for _, empty := range []func() (string, error){
		func() (string, error) { return Lines(Light, nil, []string{"a"}, [][]float64{{}}) },
		func() (string, error) { return Bars(Light, nil, nil) },
		func() (string, error) { return Lines(Dark, []string{"a"}, []string{"a"}, [][]float64{{math.NaN()}}) },
		func() (string, error) { return Lines(Dark, []string{"a"}, []string{"a"}, [][]float64{{0}}) },
	} {
		svg, err := empty()
		if err != nil {
			t.Fatal(err)
		}
		elements(t, svg)
	}
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "1000000": 1e6, "12.3": 12.34, "123": 123.4, "0.0012": 0.0012,
		"–": math.NaN(), "1.5e-05": 0.000015} {
		if got := Number(v); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
}

// Package plot draws numbers as SVG: lines over time, and bars. What it draws has no scripts and refers
// to nothing outside of it, so that a page may show it as an image.
//
// It trusts whoever calls it with the number of points and bars, which are drawn as they are. Texts
// are escaped.
package plot

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/go-analyze/charts"
)

// Scheme is a scheme of colours, that of the page around a plot.
type Scheme string

// The schemes.
const (
	Light Scheme = "LIGHT"
	Dark  Scheme = "DARK"
)

// Sizes in pixels. A page makes plots as wide as it has room, with all that is in them.
const (
	width      = 640
	lineHeight = 260
	barHeight  = 44 // of one bar
	barsMore   = 60 // of the axis and the space around
	fontSize   = 12 // points
)

// Lines draws series over the same labels, which are times mostly. All series must have a value for
// each label; NaN leaves a gap. The name of a series that is alone is not drawn.
func Lines(scheme Scheme, labels, names []string, series [][]float64) (string, error) {
	theme := themes[scheme]
	o := charts.NewLineChartOptionWithData(finite(series))
	o.Theme, o.Symbol.Shape, o.LineStrokeWidth = theme, charts.SymbolNone, 2
	o.XAxis.Labels, o.XAxis.LabelCount, o.XAxis.BoundaryGap = labels, 5, charts.Ptr(false)
	o.XAxis.LabelFontStyle.FontSize = fontSize
	o.YAxis[0].Min, o.YAxis[0].LabelFontStyle.FontSize = charts.Ptr(0.0), fontSize
	o.Legend.SeriesNames, o.Legend.Symbol = names, charts.SymbolSquare
	o.Legend.FontStyle.FontSize, o.Legend.Show = fontSize, charts.Ptr(len(names) > 1)
	o.ValueFormatter = short
	return draw(theme, lineHeight, func(p *charts.Painter) error { return p.LineChart(o) })
}

// Bars draws a bar for each label, the first at the top.
func Bars(scheme Scheme, labels []string, values []float64) (string, error) {
	theme := themes[scheme]
	o := charts.NewBarChartOptionWithData([][]float64{backward(values)})
	o.Theme, o.Horizontal = theme, true
	o.CategoryAxis.Labels, o.CategoryAxis.LabelFontStyle.FontSize = backward(labels), fontSize
	o.ValueAxis[0].Min, o.ValueAxis[0].LabelFontStyle.FontSize = charts.Ptr(0.0), fontSize
	o.SeriesList[0].Label.Show = charts.Ptr(true)
	o.SeriesList[0].Label.ValueFormatter = Number
	o.Legend.Show = charts.Ptr(false)
	o.ValueFormatter = short
	height := barHeight*len(labels) + barsMore
	return draw(theme, height, func(p *charts.Painter) error { return p.BarChart(o) })
}

func draw(theme charts.ColorPalette, height int, chart func(*charts.Painter) error) (string, error) {
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: width, Height: height,
		Theme: theme})
	if err := chart(p); err != nil {
		return "", fmt.Errorf("draw plot: %w", err)
	}
	svg, err := p.Bytes()
	if err != nil {
		return "", fmt.Errorf("draw plot: %w", err)
	}
	return string(svg), nil
}

// short writes the value at a mark of an axis, where there is little room.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return Number(v)
}

// Number writes a value with three digits, or all of those before its point.
func Number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v == math.Trunc(v) || math.Abs(v) >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// finite replaces what is no number by what the library leaves out.
func finite(series [][]float64) [][]float64 {
	out := make([][]float64, len(series))
	for i, values := range series {
		for _, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				v = charts.GetNullValue()
			}
			out[i] = append(out[i], v)
		}
	}
	return out
}

// backward returns what the library draws from the bottom up.
func backward[T any](all []T) []T {
	all = slices.Clone(all)
	slices.Reverse(all)
	return all
}

// themes are the colours of the pages' style sheet. A line or bar differs from its background by at
// least 3 to 1, and a text by 4.5 to 1 (WCAG 2.2, 1.4.11 and 1.4.3).
var themes = map[Scheme]charts.ColorPalette{
	Light: theme(false, "#ffffff", "#1c2127", "#d9dee4", "#0b5cad", "#b3261e"),
	Dark:  theme(true, "#11161c", "#e4e8ed", "#2d3641", "#7ab8ff", "#ff8f85"),
}

func theme(dark bool, background, text, grid string, series ...string) charts.ColorPalette {
	o := charts.ThemeOption{IsDarkMode: dark, BackgroundColor: charts.ParseColor(background),
		TextColor: charts.ParseColor(text), AxisStrokeColor: charts.ParseColor(grid),
		AxisSplitLineColor: charts.ParseColor(grid)}
	for _, color := range series {
		o.SeriesColors = append(o.SeriesColors, charts.ParseColor(color))
	}
	return charts.MakeTheme(o)
}

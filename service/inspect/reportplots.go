package inspect

import (
	"time"

	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/plot"
)

// drawing draws the plots of one report.
type drawing struct {
	scheme plot.Scheme
	plots  []Plot
	err    error // the first
}

// A period is what the numbers of the server are drawn of.
type period struct {
	step   time.Duration
	steps  int
	format string // of times
}

const usualPeriod = "HOUR"

var periods = map[string]period{
	"TEN_MINUTES": {10 * time.Second, 60, "15:04:05"},
	usualPeriod:   {time.Minute, 60, "15:04"},
	"DAY":         {30 * time.Minute, 48, "15:04"},
}

// server draws what this server has done.
func (d *drawing) server(h *history.History, name string) {
	if name == "" {
		name = usualPeriod
	}
	p := periods[name]
	steps := h.Steps(p.step, p.steps)
	var labels []string
	for _, s := range steps {
		labels = append(labels, s.Begin.UTC().Format(p.format))
	}
	lines := func(name, title, note string, columns []string, values ...func(history.Step) float64) {
		series := make([][]float64, len(values))
		for i, value := range values {
			for _, s := range steps {
				series[i] = append(series[i], value(s))
			}
		}
		svg, err := plot.Lines(d.scheme, labels, columns, series)
		d.add(Plot{Name: name, Title: title, Note: note, SVG: svg, Columns: append([]string{"Time (UTC)"}, columns...)},
			labels, series, err)
	}
	lines("requests", "Operations per second", "", []string{"operations"},
		func(s history.Step) float64 { return s.Requests })
	lines("errors", "Errors per second",
		"Refused: what the client may not do or asked wrongly. Failed: the token or the database was not available.",
		[]string{"refused", "failed"}, func(s history.Step) float64 { return s.Refused },
		func(s history.Step) float64 { return s.Failed })
	lines("token", "Latency of the token in milliseconds",
		"The longest of the short calls that this server makes to the token every ten seconds.",
		[]string{"milliseconds"}, func(s history.Step) float64 { return 1000 * s.TokenCall })
	lines("audit", "Records in the audit log", "", []string{"records"},
		func(s history.Step) float64 { return s.Records })
}

// keys draws what keys there are.
func (d *drawing) keys(c *evidence.Census) {
	bars := func(name, title string, all []evidence.Count) {
		var labels []string
		var values []float64
		for _, one := range all {
			labels = append(labels, one.Name)
			values = append(values, float64(one.Keys))
		}
		svg, err := plot.Bars(d.scheme, labels, values)
		d.add(Plot{Name: name, Title: title, SVG: svg, Columns: []string{"", "Keys"}}, labels, [][]float64{values}, err)
	}
	bars("specs", "Keys by spec", c.Specs)
	bars("states", "Keys by state", c.States)
	bars("ages", "Keys by the age of their material", c.Ages)
	bars("rotations", "Keys by their next automatic rotation", c.Rotations)
}

// add adds a plot with its numbers.
func (d *drawing) add(p Plot, labels []string, series [][]float64, err error) {
	if d.err == nil {
		d.err = err
	}
	for i, label := range labels {
		row := PlotRow{Label: label}
		for _, values := range series {
			row.Values = append(row.Values, plot.Number(values[i]))
		}
		p.Rows = append(p.Rows, row)
	}
	if p.Rows == nil {
		p.Rows = []PlotRow{}
	}
	d.plots = append(d.plots, p)
}

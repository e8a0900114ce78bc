package inspect

import (
	"context"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/plot"
)

func reportOperations() []service.Operation {
	return []service.Operation{
		ofAccount(service.Operation{
			Name:   "GetReport",
			Errors: service.ErrorCodes{apierror.UnsupportedOperation},
		}, (*Inspector).getReport),
	}
}

// GetReportRequest is the input of GetReport.
type GetReportRequest struct {
	Period      string `shape:"ReportPeriodType"` // of the numbers of the server; default HOUR
	ColorScheme string `shape:"ColorSchemeType"`  // of the plots; default LIGHT
}

// GetReportResponse is the output of GetReport.
type GetReportResponse struct {
	AccountId string
	Region    string
	// CreationDate is when keys were counted, at most a minute ago.
	CreationDate service.Timestamp
	KeyCount     int32
	MoreKeys     bool // there are more keys than were counted
	// Findings are those of evidence.Report, the gravest first.
	Findings []FindingEntry
	// FindingsOmitted tells that there are too many keys and principals to judge them all in a request.
	FindingsOmitted bool
	Plots           []Plot
}

// FindingEntry is something that an auditor would ask about.
type FindingEntry struct {
	Severity string
	About    string // a key's id, an access key's id or a principal's ARN
	Text     string
}

// Plot is a picture of numbers, and the numbers.
type Plot struct {
	Name    string
	Title   string
	Note    string `json:",omitempty"`
	SVG     string
	Columns []string // of the numbers; the first is that of the labels
	Rows    []PlotRow
}

// PlotRow has the values of one label.
type PlotRow struct {
	Label  string
	Values []string
}

// What is counted and judged for one report.
const (
	maxCounted = 10_000 // keys
	maxJudged  = 1_000  // keys times principals
	maxAge     = time.Minute
	maxKept    = 64 // reports
)

// reports makes reports, one at a time, and keeps them for a minute.
type reports struct {
	service  *service.Service
	examiner *evidence.Examiner
	history  *history.History
	now      func() time.Time

	turn chan struct{}          // has an element while nobody makes a report; guards kept
	kept map[[2]string]*counted // by account and region
}

// counted is what a report has of an account's keys in a region.
type counted struct {
	census   *evidence.Census
	findings []evidence.Finding
	omitted  bool
}

func newReports(cfg Config) *reports {
	r := &reports{service: cfg.Service, examiner: cfg.Examiner, history: cfg.History, now: cfg.Now,
		turn: make(chan struct{}, 1), kept: map[[2]string]*counted{}}
	r.turn <- struct{}{}
	return r
}

func (i *Inspector) getReport(ctx context.Context, c *iam.Caller, in *GetReportRequest) (*GetReportResponse, error) {
	if i.reports.examiner == nil {
		return nil, apierror.New(apierror.UnsupportedOperation, "This server makes no report.")
	}
	k, err := i.reports.of(ctx, c.Account, c.Region)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	out := &GetReportResponse{AccountId: k.census.Account, Region: k.census.Region,
		CreationDate: service.Timestamp(k.census.Time), KeyCount: int32(k.census.Keys), MoreKeys: k.census.More,
		Findings: []FindingEntry{}, FindingsOmitted: k.omitted}
	for _, f := range k.findings {
		out.Findings = append(out.Findings, FindingEntry{string(f.Severity), f.About, f.Text})
	}
	d := drawing{scheme: plot.Light}
	if in.ColorScheme != "" {
		d.scheme = plot.Scheme(in.ColorScheme)
	}
	if i.reports.history != nil && i.operates(c) {
		d.server(i.reports.history, in.Period)
	}
	d.keys(k.census)
	if d.err != nil {
		return nil, apierror.InternalError(d.err)
	}
	out.Plots = d.plots
	return out, nil
}

// of returns what was counted a short time ago, or counts.
func (r *reports) of(ctx context.Context, account, region string) (*counted, error) {
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	of := [2]string{account, region}
	if k := r.kept[of]; k != nil && r.now().Sub(k.census.Time) < maxAge {
		return k, nil
	}
	k, err := r.count(ctx, account, region)
	if err != nil {
		return nil, err
	}
	if len(r.kept) == maxKept {
		clear(r.kept)
	}
	r.kept[of] = k
	return k, nil
}

func (r *reports) count(ctx context.Context, account, region string) (*counted, error) {
	census, err := r.examiner.Census(ctx, account, region, maxCounted)
	if err != nil {
		return nil, err
	}
	k := &counted{census: census}
	principals, err := r.service.IAM().Principals(ctx)
	if err != nil {
		return nil, err
	}
	own := 0
	for _, p := range principals {
		if p.Account == account {
			own++
		}
	}
	if k.omitted = census.More || (census.Keys+1)*own > maxJudged; k.omitted {
		return k, nil
	}
	report, err := r.examiner.Report(ctx, account, region)
	if err != nil {
		return nil, err
	}
	k.findings = report.Findings
	return k, nil
}

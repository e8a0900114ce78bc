package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/evidence"
)

// reportFormats write a report, by the value of --format.
var reportFormats = map[string]func(io.Writer, *evidence.Report) error{
	"text": reportText, "json": reportJSON, "html": reportHTML,
}

func newReportCommand(with withConfig) *cobra.Command {
	var region, format string
	cmd := &cobra.Command{
		Use: "report", Args: cobra.NoArgs,
		Short: "Print an auditor's summary: keys, their age and use, who may use them, and what to look at",
		RunE: with(func(cmd *cobra.Command, c *Config) error {
			write, known := reportFormats[format]
			if !known {
				return fmt.Errorf("report: --format %s is not text, json or html", format)
			}
			r, err := makeReport(cmd.Context(), c, regionOf(c, region))
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), r)
		}),
	}
	cmd.Flags().StringVar(&region, "region", "", "region of the keys; default the first of the regions")
	cmd.Flags().StringVar(&format, "format", "text", "text, json or html")
	return cmd
}

func makeReport(ctx context.Context, c *Config, region string) (_ *evidence.Report, err error) {
	p, err := openForCommand(ctx, c, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return p.examiner(c).Report(ctx, c.Account, region)
}

func reportJSON(out io.Writer, r *evidence.Report) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

//go:embed report.html
var reportPage string

// reportFuncs are the functions of the template, which reportText uses, too.
var reportFuncs = template.FuncMap{
	"condition": reportCondition, "date": reportDate, "list": reportList, "may": reportOperations, "plain": reportPlain,
	"rotation": reportRotation, "use": reportUse,
}

var reportTemplate = template.Must(template.New("report").Funcs(reportFuncs).Parse(reportPage))

func reportHTML(out io.Writer, r *evidence.Report) error { return reportTemplate.Execute(out, r) }

// reportPlain replaces control characters in what a client has written. The template escapes the rest.
func reportPlain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// reportDate writes a time in a table, of reports and of commands alike.
func reportDate(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}

func reportList(all []string) string { return strings.Join(all, ", ") }

// reportCondition is what follows a statement's actions.
func reportCondition(s evidence.StatementSummary) string {
	if s.Conditional {
		return ", under a condition"
	}
	return ""
}

func reportOperations(p evidence.PrincipalAccess) string {
	if p.Everything {
		return "everything"
	}
	return reportList(p.Operations)
}

func reportRotation(r evidence.RotationSummary) string {
	if r.AgeDays < 0 {
		return "no key material"
	}
	schedule := "not automatic"
	if r.PeriodDays > 0 {
		schedule = fmt.Sprintf("every %d days, next %s", r.PeriodDays, reportDate(r.NextAt))
	}
	return fmt.Sprintf("material %d days old, last rotated %s; %s", r.AgeDays, reportDate(r.LastAt), schedule)
}

func reportUse(u *evidence.UseSummary) string {
	if u == nil {
		return "never"
	}
	return fmt.Sprintf("%s, %s", reportDate(u.At), u.Operation)
}

// reportText writes a report as text. It quotes what clients have chosen, so that no name can pass for
// a line of the report.
func reportText(out io.Writer, r *evidence.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "account %s, region %s, %s: %d keys, %d findings\n\n",
		r.Account, r.Region, reportDate(r.Time), len(r.Keys), len(r.Findings))
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Severity, f.About, f.Text)
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		fmt.Fprintf(w, "\nkey %s  %s\n", k.ID, reportList(k.Aliases))
		for _, line := range [][2]string{
			{"state", string(k.State)},
			{"kind", k.Spec + ", " + k.Usage + ", origin " + k.Origin},
			{"description", fmt.Sprintf("%q", k.Description)},
			{"created", reportDate(k.CreatedAt)},
			{"rotation", reportRotation(k.Rotation)},
			{"last use", reportUse(k.LastUse)},
			{"identity policies", map[bool]string{true: "may allow", false: "can't allow"}[k.Access.IdentityPolicies]},
		} {
			fmt.Fprintf(w, "  %s\t%s\n", line[0], line[1])
		}
		for _, s := range k.Access.Statements {
			fmt.Fprintf(w, "  key policy\t%s %q: %q%s\n", s.Effect, s.Principals, s.Actions, reportCondition(s))
		}
		for _, p := range k.Access.Principals {
			fmt.Fprintf(w, "  may use it\t%s: %s\n", p.ARN, reportOperations(p))
		}
		for _, g := range k.Access.Grants {
			fmt.Fprintf(w, "  grant\t%s: %s (%.8s, %s)\n",
				g.Grantee, reportList(g.Operations), g.ID, reportDate(g.CreatedAt))
		}
	}
	if r.Guard != nil {
		fmt.Fprintf(w, "\nguard of the account, changed %s\n", reportDate(r.Guard.ChangedAt))
		for _, s := range r.Guard.Statements {
			fmt.Fprintf(w, "  %s %q\t%q%s\n", s.Effect, s.Sid, s.Actions, reportCondition(s))
		}
	}
	if len(r.Approvals) > 0 {
		fmt.Fprintln(w, "\napproval request\tstate\toperation\tkey\trequester\tmade\tapproved by\tended by")
	}
	for _, a := range r.Approvals {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%q\t%s\t%s\t%q\n", a.Number, a.State, a.Operation, a.KeyID, a.Requester,
			reportDate(a.CreatedAt), reportList(a.ApprovedBy), a.EndedBy)
	}
	if len(r.BreakGlass) > 0 {
		fmt.Fprintln(w, "\nbreak-glass\topened\tuntil\tclosed\tfirst used\tby\treason")
	}
	for _, o := range r.BreakGlass {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%q\t%q\n", o.ID, reportDate(o.OpenedAt), reportDate(o.Until),
			reportDate(o.ClosedAt), reportDate(o.UsedAt), o.Operator, o.Reason)
	}
	if len(r.AccessKeys) > 0 {
		fmt.Fprintln(w, "\naccess key\tprincipal\tenabled\tcreated\tlast used\texpires")
	}
	for _, k := range r.AccessKeys {
		fmt.Fprintf(w, "%s\t%s\t%t\t%s\t%s\t%s\n", k.ID, k.Principal, k.Enabled, reportDate(k.CreatedAt),
			reportDate(k.LastUsed), reportDate(k.ExpiresAt))
	}
	return w.Flush()
}

// examiner describes the keys of the service.
func (p *components) examiner(c *Config) *evidence.Examiner {
	return &evidence.Examiner{Service: p.service, Store: p.store, ARNFormat: arn.Format(c.ARNFormat), Now: time.Now}
}

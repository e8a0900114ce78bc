package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/verenc/kms/cmd/verenc/terminal"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
)

// breakGlass are the commands of the sealed credential.
func (m principalCommands) breakGlass() *cobra.Command {
	var shares, threshold int
	var replace bool
	initialise := m.changing("init", "Make the sealed credential, and show each share once to its holder",
		func(j *job) error { return j.initBreakGlass(shares, threshold, replace) })
	initialise.Flags().IntVar(&shares, "shares", 0, fmt.Sprintf("how many people get a share; at most %d",
		breakglass.MaxShares))
	initialise.Flags().IntVar(&threshold, "threshold", 0, "how many of them are needed to open; at least 2")
	initialise.Flags().BoolVar(&replace, "replace", false,
		"replace the credential that there is: its shares are worth nothing from then on, and its openings end")

	var lasts time.Duration
	var reason, credentials string
	open := m.tokenCommand("open", "Ask for shares, and give credentials that open everything for a time",
		func(j *job) error { return j.openBreakGlass(lasts, reason, credentials) })
	open.Flags().DurationVar(&lasts, "for", time.Hour, fmt.Sprintf("how long it is open; at most %v",
		breakglass.MaxOpening))
	open.Flags().StringVar(&reason, "reason", "", "why, for the audit log; required")
	open.Flags().StringVar(&credentials, "credentials", "",
		"write the credentials to this file, in the form of an AWS credentials file, instead of standard output")
	for cmd, flags := range map[*cobra.Command][]string{initialise: {"shares", "threshold"}, open: {"reason"}} {
		for _, name := range flags {
			_ = cmd.MarkFlagRequired(name) // the flag exists
		}
	}
	return group("break-glass", "Open everything for a limited time, when nobody else can", initialise, open,
		m.command("close", "End what is open, before its time", (*job).closeBreakGlass),
		m.command("status", "Show whether there is a sealed credential, and its openings", (*job).showBreakGlass))
}

func (j *job) initBreakGlass(shares, threshold int, replace bool) (err error) {
	old, err := j.directory.BreakGlassKey(j.ctx)
	switch {
	case err == nil && !replace:
		return fmt.Errorf("break-glass init: there is the credential %s: --replace makes another in its place",
			old.ID())
	case err != nil && !errors.Is(err, iam.ErrNoRow):
		return err
	}
	k, all, err := breakglass.Split(shares, threshold, time.Now())
	if err != nil {
		return fmt.Errorf("break-glass init: %w", err)
	}
	tty, err := terminal.Open()
	if err != nil {
		return fmt.Errorf("break-glass init: %w", err)
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	shown := ""
	err = j.directory.PutBreakGlass(j.ctx, k, func(ctx context.Context) error {
		shown = ": nothing was changed, and the shares are worth nothing"
		for _, s := range all {
			text, err := s.Text()
			if err != nil {
				return err
			}
			if err := tty.Show(ctx, fmt.Sprintf("Share %d of %d of credential %s, for one holder alone.\n"+
				"%d shares open everything. Write it down; it is not shown again.\n\n%s", s.Number, shares, k.ID(),
				threshold, text), "Press Enter when it is written down: "); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("break-glass init: %w%s", err, shown)
	}
	_, err = fmt.Fprintf(j.out, "credential %s is in force: %d of %d shares open it\n", k.ID(), threshold, shares)
	return err
}

// mistakes is how often something may be entered that is no share.
const mistakes = 5

// maxReason is the longest reason, in bytes.
const maxReason = 500

func (j *job) openBreakGlass(lasts time.Duration, reason, credentials string) (err error) {
	if lasts <= 0 || lasts > breakglass.MaxOpening {
		return fmt.Errorf("break-glass open: --for %v is not up to %v", lasts, breakglass.MaxOpening)
	}
	if strings.TrimSpace(reason) == "" || len(reason) > maxReason {
		return fmt.Errorf("break-glass open: give a --reason of up to %d bytes", maxReason)
	}
	file, err := newCredentialFile(credentials, j.out)
	if err != nil {
		return err
	}
	k, err := j.directory.BreakGlassKey(j.ctx)
	if errors.Is(err, iam.ErrNoRow) {
		return errors.New("break-glass open: there is no sealed credential: verenc break-glass init makes one")
	}
	if err != nil {
		return err
	}
	signed, err := j.signOpening(k, lasts, reason)
	if err != nil {
		err = fmt.Errorf("break-glass open: %w", err)
		return errors.Join(err, j.directory.RefusedOpening(context.WithoutCancel(j.ctx), err))
	}
	opened, err := j.directory.OpenBreakGlass(j.ctx, signed)
	if err != nil {
		return err
	}
	defer clear(opened.SecretAccessKey)
	err = file.write(&iam.Credential{AccessKeyID: opened.AccessKeyID, SecretAccessKey: opened.SecretAccessKey,
		SessionToken: opened.SessionToken})
	if err != nil {
		return errors.Join(err, j.closeBreakGlass())
	}
	_, err = fmt.Fprintf(j.notes, "everything is open until %s: verenc break-glass close ends it sooner\n",
		opened.Expiration.UTC().Format(time.RFC3339))
	return err
}

// signOpening asks for shares and signs an opening with what they make.
func (j *job) signOpening(k *breakglass.Key, lasts time.Duration, reason string) (signed []byte, err error) {
	tty, err := terminal.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	shares, err := j.askForShares(tty, k)
	if err != nil {
		return nil, err
	}
	private, err := k.Combine(shares)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	by := operator()
	o, err := j.directory.NewOpening(j.config.Account, lasts, reason, fmt.Sprintf("%s (%s) at %s", by.Name, by.UserID,
		by.Host))
	if err != nil {
		return nil, err
	}
	o.Threshold = k.Threshold
	for _, s := range shares {
		o.Shares = append(o.Shares, s.Number)
	}
	slices.Sort(o.Shares)
	return o.Sign(j.ctx, private)
}

func (j *job) askForShares(tty *terminal.Terminal, k *breakglass.Key) (shares []breakglass.Share, err error) {
	for wrong := 0; len(shares) < k.Threshold; {
		line, err := tty.ReadSecret(j.ctx, fmt.Sprintf("credential %s, share %d of %d (not shown): ", k.ID(),
			len(shares)+1, k.Threshold))
		if err != nil {
			return nil, fmt.Errorf("%w: %d of %d shares were given", err, len(shares), k.Threshold)
		}
		s, err := breakglass.ParseShare([]byte(line))
		if err == nil && slices.ContainsFunc(shares, func(o breakglass.Share) bool { return o.Number == s.Number }) {
			err = fmt.Errorf("share %d was given already", s.Number)
		}
		if err != nil {
			if wrong++; wrong == mistakes {
				return nil, fmt.Errorf("%d times something was entered that is no further share: %w", wrong, err)
			}
			if err := tty.Tell(err.Error() + "; enter it again"); err != nil {
				return nil, err
			}
			continue
		}
		if err := k.Check(s); err != nil {
			return nil, err
		}
		shares = append(shares, s)
	}
	return shares, nil
}

func (j *job) closeBreakGlass() error {
	open, err := j.directory.OpeningsInForce(j.ctx)
	if err != nil {
		return err
	}
	for _, o := range open {
		if err := j.directory.CloseBreakGlass(j.ctx, o.ID); err != nil {
			return err
		}
		fmt.Fprintf(j.notes, "opening %s is closed\n", o.ID)
	}
	if len(open) == 0 {
		fmt.Fprintln(j.notes, "nothing is open")
	}
	return nil
}

// openingsShown is how many openings the status has.
const openingsShown = 20

func (j *job) showBreakGlass() error {
	k, err := j.directory.BreakGlassKey(j.ctx)
	if errors.Is(err, iam.ErrNoRow) {
		_, err = fmt.Fprintln(j.out, "there is no sealed credential")
		return err
	}
	if err != nil {
		return err
	}
	open, err := j.directory.OpeningsInForce(j.ctx)
	if err != nil {
		return err
	}
	state := "closed"
	if len(open) > 0 {
		last := slices.MaxFunc(open, func(a, b *breakglass.Opening) int { return a.Until.Compare(b.Until) })
		state = "OPEN until " + reportDate(last.Until)
	}
	openings, err := j.directory.BreakGlassOpenings(j.ctx, openingsShown)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(j.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "credential %s of %s: %d of %d shares open it\nnow: %s\n", k.ID(), reportDate(k.CreatedAt),
		k.Threshold, k.Shares, state)
	if len(openings) > 0 {
		fmt.Fprintln(w, "opening\topened\tuntil\tclosed\tfirst used")
	}
	for _, o := range openings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.ID, reportDate(o.OpenedAt), reportDate(o.Until),
			reportDate(o.ClosedAt), reportDate(o.UsedAt))
	}
	return w.Flush()
}

// breakGlassTimeout bounds what a scrape of the metrics asks the database.
const breakGlassTimeout = 2 * time.Second

// addBreakGlass adds the metrics of break-glass. While the database is away, the last known state counts.
func addBreakGlass(ctx context.Context, r *prometheus.Registry, directory *iam.Directory) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "verenc_break_glass_requests_total",
		Help: "Requests with credentials of break-glass."},
		func() float64 { return float64(directory.BreakGlassRequests()) }))
	var last atomic.Bool
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "verenc_break_glass_open",
		Help: "1 while break-glass is open."}, func() float64 {
		ctx, cancel := context.WithTimeout(ctx, breakGlassTimeout)
		defer cancel()
		open, err := directory.OpeningsInForce(ctx)
		if many := errors.Is(err, iam.ErrManyOpenings); err == nil || many {
			last.Store(many || len(open) > 0)
		}
		return truth(last.Load())
	}))
}

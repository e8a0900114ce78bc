package approvals

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// request is a call that needs approvals, as the server shows it.
type request struct {
	RequestId                             int32
	State, Digest                         string
	EventSource, OperationName            string
	KeyArn, Region                        string
	Resources                             []string
	Requester                             string
	CallerChain                           []string
	CreationDate, ExpirationDate, EndDate float64 // seconds since 1970
	ApprovalsNeeded                       int32
	EligibleApprovers, ApprovedBy         []string
	EndedBy                               string
}

type shown struct {
	Request request

	KeyDescription string
	KeyAliases     []string
	BehindCall     bool // whoever asks is behind the call

	Parameters string
	Changes    []struct{ Document, Difference string }
}

type numbered struct{ RequestId int32 }

// NewCommand returns the command approval with its subcommands.
func NewCommand() *cobra.Command {
	group := &cobra.Command{Use: "approval", Args: cobra.NoArgs,
		Short: "List, show, approve and reject calls that need approvals, with your own access key, as AWS CLI finds it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("approval: name a subcommand (%s --help lists them)", cmd.CommandPath())
		}}
	endpoint := group.PersistentFlags().String("endpoint", "",
		"address of the server, such as https://kms.example.com [AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL]")
	with := func(run func(*cobra.Command, *client, []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			c, err := newClient(cmd.Context(), *endpoint, os.Getenv)
			if err != nil {
				return fmt.Errorf("approval: %w", err)
			}
			return run(cmd, c, args)
		}
	}
	var state string
	list := &cobra.Command{Use: "list", Args: cobra.NoArgs,
		Short: "List the calls that you have made or may approve, the newest first",
		RunE: with(func(cmd *cobra.Command, c *client, _ []string) error {
			return c.list(cmd, strings.ToUpper(state))
		})}
	list.Flags().StringVar(&state, "state", "", "pending, approved, rejected, used or expired; default all")
	var digest string
	approve := &cobra.Command{Use: "approve NUMBER", Args: cobra.ExactArgs(1),
		Short: "Approve of a call: its caller can then make it, once",
		RunE: with(func(cmd *cobra.Command, c *client, args []string) error {
			return c.approve(cmd, args[0], digest)
		})}
	approve.Flags().StringVar(&digest, "digest", "", "the digest that verenc approval show has printed")
	_ = approve.MarkFlagRequired("digest") // the flag exists
	group.AddCommand(list, approve,
		&cobra.Command{Use: "show NUMBER", Args: cobra.ExactArgs(1),
			Short: "Show exactly what a call would do",
			RunE:  with(func(cmd *cobra.Command, c *client, args []string) error { return c.show(cmd, args[0]) })},
		&cobra.Command{Use: "reject NUMBER", Args: cobra.ExactArgs(1),
			Short: "Reject a call, or withdraw your own",
			RunE:  with(func(cmd *cobra.Command, c *client, args []string) error { return c.reject(cmd, args[0]) })})
	return group
}

func parseNumber(text string) (numbered, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return numbered{}, fmt.Errorf("approval: %q is no number of a request", text)
	}
	return numbered{int32(n)}, nil
}

func (c *client) list(cmd *cobra.Command, state string) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tSTATE\tAPPROVALS\tOPERATION\tABOUT\tREQUESTER\tUNTIL")
	in := struct {
		State, Marker string `json:",omitempty"`
		Limit         int
	}{State: state, Limit: 50}
	for {
		var page struct {
			Requests   []request
			NextMarker string
		}
		if err := c.call(cmd.Context(), "ListApprovalRequests", in, &page); err != nil {
			return err
		}
		for _, r := range page.Requests {
			fmt.Fprintf(w, "%d\t%s\t%d/%d\t%s\t%s\t%s\t%s\n", r.RequestId, printable(r.State), len(r.ApprovedBy),
				r.ApprovalsNeeded, printable(r.OperationName), printable(r.about()), printable(r.Requester),
				date(r.ExpirationDate))
		}
		if in.Marker = page.NextMarker; in.Marker == "" {
			return w.Flush()
		}
	}
}

// about names what a call is about.
func (r *request) about() string {
	if r.KeyArn != "" {
		return r.KeyArn
	}
	if slices.Contains(r.Resources, "*") {
		return "all accounts"
	}
	if len(r.Resources) > 0 {
		return strings.Join(r.Resources, ",")
	}
	return "account"
}

func date(seconds float64) string {
	whole, _ := math.Modf(seconds)
	return time.Unix(int64(whole), 0).UTC().Format(time.RFC3339)
}

// printable quotes control characters, so that no text passes for lines of the output.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// indent puts lines under a title. Each is printable by itself.
func indent(out io.Writer, title, text string) {
	fmt.Fprintln(out, title)
	for line := range strings.Lines(text) {
		fmt.Fprintln(out, "  "+printable(strings.TrimRight(line, "\n")))
	}
}

func (c *client) show(cmd *cobra.Command, number string) error {
	in, err := parseNumber(number)
	if err != nil {
		return err
	}
	var s shown
	if err := c.call(cmd.Context(), "GetApprovalRequest", in, &s); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	s.print(out)
	indent(out, "parameters:", s.Parameters)
	for _, change := range s.Changes {
		indent(out, "change of the "+printable(change.Document)+":", change.Difference)
	}
	switch {
	case s.Request.State != "PENDING" && s.Request.State != "APPROVED":
	case s.BehindCall:
		fmt.Fprintln(out, "it is your own call: others have to approve of it")
	default:
		fmt.Fprintf(out, "to approve of exactly this: verenc approval approve %d --digest %s\n", s.Request.RequestId,
			printable(s.Request.Digest))
	}
	return nil
}

func (s *shown) print(out io.Writer) {
	r := &s.Request
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, printable(value))
		}
	}
	line("request", strconv.Itoa(int(r.RequestId)))
	line("state", r.State)
	line("operation", r.OperationName+" ("+r.EventSource+")")
	line("about", r.about())
	line("key's aliases", strings.Join(s.KeyAliases, ", "))
	line("key's description", s.KeyDescription)
	line("region", r.Region)
	line("requester", r.Requester)
	line("acting for", strings.Join(r.CallerChain, ", "))
	line("made", date(r.CreationDate))
	line("until", date(r.ExpirationDate))
	line("approvals", fmt.Sprintf("%d of %d", len(r.ApprovedBy), r.ApprovalsNeeded))
	line("approved by", strings.Join(r.ApprovedBy, ", "))
	line("only of", strings.Join(r.EligibleApprovers, ", "))
	if line("ended by", r.EndedBy); r.EndDate != 0 {
		line("ended", date(r.EndDate))
	}
	_ = w.Flush() // whose errors are those of out, which the command's end shows
}

func (c *client) approve(cmd *cobra.Command, number, digest string) error {
	n, err := parseNumber(number)
	if err != nil {
		return err
	}
	return c.change(cmd, "ApproveRequest", struct {
		RequestId int32
		Digest    string
	}{n.RequestId, digest})
}

func (c *client) reject(cmd *cobra.Command, number string) error {
	n, err := parseNumber(number)
	if err != nil {
		return err
	}
	return c.change(cmd, "RejectRequest", n)
}

// change calls an operation that changes a request, and prints what it is then.
func (c *client) change(cmd *cobra.Command, operation string, in any) error {
	var s shown
	if err := c.call(cmd.Context(), operation, in, &s); err != nil {
		return err
	}
	r := s.Request
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "request %d is %s, with %d of %d approvals\n", r.RequestId, r.State,
		len(r.ApprovedBy), r.ApprovalsNeeded)
	return err
}

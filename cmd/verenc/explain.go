package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service"
)

func (m principalCommands) policies() *cobra.Command {
	var in service.ExplainRequest
	var context []string
	const short = "Tell whether a request would be allowed, which statement or grant decides, and why the others do not"
	explain := m.command("explain", short, func(j *job) (err error) {
		if in.EncryptionContext, err = pairs("encryption-context", context); err != nil {
			return err
		}
		if in.Region == "" {
			in.Region = j.config.Regions[0]
		}
		e, err := j.service.Explain(j.ctx, &in)
		if err != nil {
			return err
		}
		return printExplanation(j.out, e)
	})
	f := explain.Flags()
	f.StringVar(&in.Principal, "principal", "", "ARN of a user, a role, a role session or an account's root")
	f.StringVar(&in.Action, "action", "", "action, such as kms:Decrypt")
	f.StringVar(&in.KeyID, "key", "", "id, ARN or alias of the key")
	f.StringVar(&in.Region, "region", "", "region of the request; default the first of regions")
	f.StringArrayVar(&context, "encryption-context", nil, "NAME=VALUE of the encryption context; may be repeated")
	f.StringVar(&in.SourceIP, "source-ip", "", "address of the caller")
	f.BoolVar(&in.TLS, "tls", false, "the request comes over TLS")
	f.StringArrayVar(&in.GrantTokens, "grant-token", nil, "grant token; may be repeated")
	for _, name := range []string{"principal", "action"} {
		_ = explain.MarkFlagRequired(name) // the flag exists
	}
	return group("policy", "Explain what policies and grants allow", explain)
}

func printExplanation(out io.Writer, e *service.Explanation) error {
	verdict := "allowed"
	if !e.Allowed {
		verdict = "denied"
	}
	if _, err := fmt.Fprintf(out, "%s: %s\n", verdict, e.By); err != nil {
		return err
	}
	if e.Message != "" {
		if _, err := fmt.Fprintln(out, e.Message); err != nil {
			return err
		}
	}
	rows := [][]string{{"", "POLICY", "PART", "EFFECT", "APPLIES", "REASON"}}
	for _, s := range e.Steps {
		row := []string{"", s.Source, s.Part, "Allow", "no", s.Reason}
		if s.Decides {
			row[0] = "*"
		}
		if s.Deny {
			row[3] = "Deny"
		}
		if s.Applies {
			row[4] = "yes"
		}
		rows = append(rows, row)
	}
	return table(out, rows)
}

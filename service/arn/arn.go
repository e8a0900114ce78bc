// Package arn reads and writes the names of keys and aliases (AWS page "Identify AWS resources with Amazon Resource
// Names"), in AWS's form and in Verenc's own.
package arn

import (
	"regexp"
	"strings"
)

// Format is the form of the ARNs in records, and in answers to requests that name no key by an ARN.
// Requests may use both forms, always.
type Format string

// The two forms: arn:verenc:<account>:key/<id>, and arn:aws:kms:<region>:<account>:key/<id>.
const (
	Verenc Format = "verenc"
	AWS    Format = "aws"
)

// Form returns the form that writes ARNs in this format.
func (f Format) Form() Form {
	if f == AWS {
		return Form{partition: "aws"}
	}
	return Form{}
}

// Form writes ARNs in one form: AWS's with a partition, such as aws or aws-cn, or Verenc's own, which has none.
type Form struct{ partition string }

// IsAWS reports whether the form is AWS's.
func (f Form) IsAWS() bool { return f.partition != "" }

// Of returns the ARN of a resource: key/<id>, or alias/<name>.
func (f Form) Of(account, region, resource string) string {
	if f.IsAWS() {
		return "arn:" + f.partition + ":kms:" + region + ":" + account + ":" + resource
	}
	return "arn:verenc:" + account + ":" + resource
}

// ARN is a parsed ARN of either form. Region is empty in the form that has none.
type ARN struct {
	Form
	Account, Region, Resource string
}

// partitionPattern: aws, aws-cn, aws-us-gov and the like.
var partitionPattern = regexp.MustCompile(`^aws[a-z-]*$`)

var accountPattern = regexp.MustCompile(`^[0-9]{12}$`)

// Parse reads an ARN of a KMS resource. It reports whether s is one.
func Parse(s string) (ARN, bool) {
	var a ARN
	switch parts := strings.SplitN(s, ":", 6); {
	case len(parts) == 6 && parts[0] == "arn" && partitionPattern.MatchString(parts[1]) && parts[2] == "kms" &&
		parts[3] != "":
		a = ARN{Form: Form{parts[1]}, Account: parts[4], Region: parts[3], Resource: parts[5]}
	case strings.HasPrefix(s, "arn:verenc:"):
		account, resource, _ := strings.Cut(strings.TrimPrefix(s, "arn:verenc:"), ":")
		a = ARN{Account: account, Resource: resource}
	default:
		return ARN{}, false
	}
	return a, IsAccount(a.Account) && a.Resource != ""
}

// IsAccount reports whether s is an account's number: 12 digits.
func IsAccount(s string) bool { return accountPattern.MatchString(s) }

// keyIDPattern: a UUID, or the id of a multi-Region key.
var keyIDPattern = regexp.MustCompile(
	`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

// IsKeyID reports whether s has the form of a key id.
func IsKeyID(s string) bool { return keyIDPattern.MatchString(s) }

// Root returns the ARN of an account's root user.
func Root(account string) string { return "arn:aws:iam::" + account + ":root" }

// AccountOf returns the account in any ARN, and "" when there is none.
func AccountOf(s string) string {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

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

// Append appends the ARN of a resource, as Of returns it.
func (f Form) Append(b []byte, account, region, resource string) []byte {
	if !f.IsAWS() {
		return append(append(append(append(b, "arn:verenc:"...), account...), ':'), resource...)
	}
	b = append(append(append(append(b, "arn:"...), f.partition...), ":kms:"...), region...)
	return append(append(append(append(b, ':'), account...), ':'), resource...)
}

// OfKey returns the ARN of a key.
func (f Form) OfKey(account, region, id string) string {
	if f.IsAWS() {
		return "arn:" + f.partition + ":kms:" + region + ":" + account + ":key/" + id
	}
	return "arn:verenc:" + account + ":key/" + id
}

// ARN is a parsed ARN of either form. Region is empty in the form that has none.
type ARN struct {
	Form
	Account, Region, Resource string
}

// partitionPattern: aws, aws-cn, aws-us-gov and the like.
var partitionPattern = regexp.MustCompile(`^aws[a-z-]*$`)

// Parse reads an ARN of a KMS resource. It reports whether s is one.
func Parse(s string) (ARN, bool) {
	if !strings.HasPrefix(s, "arn:") {
		return ARN{}, false
	}
	var a ARN
	switch parts := strings.SplitN(s, ":", 6); {
	case len(parts) == 6 && partitionPattern.MatchString(parts[1]) && parts[2] == "kms" &&
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
func IsAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// IsKeyID reports whether s has the form of a key id: a UUID, or the id of a multi-Region key.
func IsKeyID(s string) bool {
	if digits, multiRegion := strings.CutPrefix(s, "mrk-"); multiRegion {
		return len(digits) == 32 && isHex(digits)
	}
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

// isHex reports whether s consists of hexadecimal digits in lower case.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

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

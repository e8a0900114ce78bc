package service

import (
	"regexp"
	"strings"
)

// ARNFormat is the form of the ARNs in answers. Both forms are always accepted in requests.
type ARNFormat string

// The two forms: arn:verenc:<account>:key/<id>, and arn:aws:kms:<region>:<account>:key/<id>.
const (
	ARNVerenc ARNFormat = "verenc"
	ARNAWS    ARNFormat = "aws"
)

func (f ARNFormat) of(account, region, resource string) string {
	if f == ARNAWS {
		return "arn:aws:kms:" + region + ":" + account + ":" + resource
	}
	return "arn:verenc:" + account + ":" + resource
}

func (f ARNFormat) key(k *Key) string { return f.of(k.Account, k.Region, "key/"+k.ID) }

func (f ARNFormat) alias(a *Alias) string { return f.of(a.Account, a.Region, a.Name) }

// arn is a parsed ARN of either form. Region is empty in the form that has none.
type arn struct {
	account, region, resource string
}

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

func parseARN(s string) (arn, bool) {
	var a arn
	switch parts := strings.SplitN(s, ":", 6); {
	case len(parts) == 6 && parts[0] == "arn" && strings.HasPrefix(parts[1], "aws") && parts[2] == "kms" && parts[3] != "":
		a = arn{account: parts[4], region: parts[3], resource: parts[5]}
	case strings.HasPrefix(s, "arn:verenc:"):
		account, resource, _ := strings.Cut(strings.TrimPrefix(s, "arn:verenc:"), ":")
		a = arn{account: account, resource: resource}
	default:
		return arn{}, false
	}
	return a, accountID.MatchString(a.account) && a.resource != ""
}

// keyIDPattern: a UUID, or the id of a multi-Region key.
var keyIDPattern = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

func rootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

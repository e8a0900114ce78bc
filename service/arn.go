package service

import (
	"context"
	"reflect"
	"regexp"
	"strings"
	"sync"
)

// ARNFormat is the form of the ARNs in records, and in answers to requests that name no key by an ARN. Both forms are always
// accepted in requests.
type ARNFormat string

// The two forms: arn:verenc:<account>:key/<id>, and arn:aws:kms:<region>:<account>:key/<id>.
const (
	ARNVerenc ARNFormat = "verenc"
	ARNAWS    ARNFormat = "aws"
)

func (f ARNFormat) form() arnForm {
	if f == ARNAWS {
		return arnForm{partition: "aws"}
	}
	return arnForm{}
}

// arnForm writes ARNs in one form: AWS's with a partition, such as aws or aws-cn, or Verenc's own, which has none.
type arnForm struct{ partition string }

func (f arnForm) of(account, region, resource string) string {
	if f.partition != "" {
		return "arn:" + f.partition + ":kms:" + region + ":" + account + ":" + resource
	}
	return "arn:verenc:" + account + ":" + resource
}

func (f arnForm) key(k *Key) string { return f.of(k.Account, k.Region, "key/"+k.ID) }

func (f arnForm) alias(a *Alias) string { return f.of(a.Account, a.Region, a.Name) }

type arnFormKey struct{}

// naming notes in a request's context the form in which it names its key. The answer uses that form too, since clients
// compare ARNs. A request that names keys in both forms is answered in AWS's.
func naming(ctx context.Context, in any) context.Context {
	v := reflect.ValueOf(in)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return ctx
	}
	var form *arnForm
	for _, i := range keyMembers(v.Type()) {
		if a, ok := parseARN(v.Field(i).String()); ok && (form == nil || form.partition == "") {
			form = &a.arnForm
		}
	}
	if form == nil {
		return ctx
	}
	return context.WithValue(ctx, arnFormKey{}, *form)
}

var keyMembersOfTypes sync.Map // reflect.Type to []int

// keyMembers are the indexes of the members that name keys.
func keyMembers(t reflect.Type) []int {
	if known, ok := keyMembersOfTypes.Load(t); ok {
		return known.([]int)
	}
	var members []int
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("shape") == "KeyIdType" {
			members = append(members, i)
		}
	}
	keyMembersOfTypes.Store(t, members)
	return members
}

// arns is the form of the ARNs in the answer to a request, errors included.
func (s *Service) arns(ctx context.Context) arnForm {
	if f, named := ctx.Value(arnFormKey{}).(arnForm); named {
		return f
	}
	return s.canonical
}

// arn is a parsed ARN of either form. Region is empty in the form that has none.
type arn struct {
	arnForm
	account, region, resource string
}

// partitionPattern: aws, aws-cn, aws-us-gov and the like.
var partitionPattern = regexp.MustCompile(`^aws[a-z-]*$`)

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

func parseARN(s string) (arn, bool) {
	var a arn
	switch parts := strings.SplitN(s, ":", 6); {
	case len(parts) == 6 && parts[0] == "arn" && partitionPattern.MatchString(parts[1]) && parts[2] == "kms" && parts[3] != "":
		a = arn{arnForm: arnForm{parts[1]}, account: parts[4], region: parts[3], resource: parts[5]}
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

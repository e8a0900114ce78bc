package policy

import "strings"

// Message returns AWS's text for a denial (AWS page "Troubleshoot access denied error messages").
func (d *Decision) Message(r *Request) string {
	resource := "resource: *"
	if r.Shown != "" {
		resource = r.Shown
	} else if len(r.Resources) > 0 {
		resource = "resource: " + r.Resources[0]
	}
	text := "User: " + r.Principal.ARN + " is not authorized to perform: " + r.Action + " on " + resource
	if d.By == FromKeyPolicy && r.Principal.Account != r.ResourceAccount && strings.HasPrefix(r.Action, "kms:") {
		return text + " because the resource does not exist in this Region, no resource-based policies allow access, " +
			"or a resource-based policy explicitly denies access"
	}
	if !d.Explicit {
		return text + " because no " + string(d.By) + " allows the " + r.Action + " action"
	}
	article := " a "
	if d.By == FromIdentityPolicy {
		article = " an "
	}
	return text + " with an explicit deny in" + article + string(d.By)
}

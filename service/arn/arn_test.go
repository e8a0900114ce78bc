package arn

import "testing"

// FuzzParse: what parses can be put together again.
func FuzzParse(f *testing.F) {
	f.Add("arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-4def-8123-456789abcdef")
	f.Add("arn:verenc:111122223333:alias/a:b")
	f.Add("arn:aws-cn:kms:cn-north-1:111122223333:alias/x")
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := Parse(s)
		if !ok {
			return
		}
		if again, ok := Parse(a.Of(a.Account, a.Region, a.Resource)); !ok || again != a {
			t.Errorf("%q parses to %+v, which does not come back", s, a)
		}
	})
}

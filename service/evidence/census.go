package evidence

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/verenc/kms/service"
)

// Census counts the keys of an account in a region. It needs no policy and no grant, so that its time
// grows with the number of keys alone.
type Census struct {
	Account string
	Region  string
	Time    time.Time
	Keys    int // that were counted
	// More tells that there are more keys. Ids of keys are random, so that those that were counted
	// are a fair sample, except for multi-Region keys, which come last.
	More      bool
	Specs     []Count // most keys first
	States    []Count
	Ages      []Count // of the current key material, the youngest first
	Rotations []Count // the most urgent first
}

// Count is how many keys have something in common.
type Count struct {
	Name string
	Keys int
}

// ageClass is a class of ages.
type ageClass struct {
	name  string
	below time.Duration
}

var ageClasses = []ageClass{
	{"under 30 days", 30 * day}, {"30 to 90 days", 90 * day}, {"90 days to 1 year", 365 * day},
	{"1 to 2 years", 730 * day}, {"over 2 years", 1<<63 - 1},
}

const noMaterial = "no key material"

// The classes of rotations.
const (
	rotationOverdue = "overdue"
	rotationSoon    = "in 30 days"
	rotationLater   = "later"
	rotationOff     = "switched off"
	rotationNever   = "not automatic" // keys of these kinds have no automatic rotation
)

// Census counts up to limit keys.
func (e *Examiner) Census(ctx context.Context, account, region string, limit int) (*Census, error) {
	out := &Census{Account: account, Region: region, Time: e.Now().UTC().Truncate(time.Second)}
	specs, states, ages, rotations := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for after := ""; ; {
		keys, err := e.Store.Keys(ctx, account, region, after, min(pageSize, limit-out.Keys+1))
		if err != nil {
			return nil, fmt.Errorf("count keys: %w", err)
		}
		for _, k := range keys {
			if out.More = out.Keys == limit; out.More {
				break
			}
			out.Keys++
			specs[k.Spec]++
			states[string(k.State)]++
			ages[ageOf(k, out.Time)]++
			if k.State != service.StatePendingDeletion {
				rotations[rotationOf(k, out.Time)]++
			}
			after = k.ID
		}
		if len(keys) < pageSize || out.More {
			break
		}
	}
	out.Specs, out.States = counts(specs), counts(states)
	for _, age := range ageClasses {
		out.Ages = append(out.Ages, Count{age.name, ages[age.name]})
	}
	out.Ages = append(out.Ages, Count{noMaterial, ages[noMaterial]})
	for _, name := range []string{rotationOverdue, rotationSoon, rotationLater, rotationOff, rotationNever} {
		out.Rotations = append(out.Rotations, Count{name, rotations[name]})
	}
	return out, nil
}

// counts orders the most frequent first.
func counts(of map[string]int) (all []Count) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, Count{name, of[name]})
	}
	slices.SortStableFunc(all, func(a, b Count) int { return cmp.Compare(b.Keys, a.Keys) })
	return all
}

func ageOf(k *service.Key, now time.Time) string {
	m := k.CurrentMaterial()
	if m == nil || len(m.Objects) == 0 {
		return noMaterial
	}
	age := now.Sub(m.CreatedAt)
	i := slices.IndexFunc(ageClasses, func(c ageClass) bool { return age < c.below })
	return ageClasses[i].name
}

func rotationOf(k *service.Key, now time.Time) string {
	switch {
	case !rotatesAutomatically(k.Spec, k.Origin):
		return rotationNever
	case k.Rotation.PeriodDays == 0:
		return rotationOff
	case k.Rotation.NextAt.Before(now):
		return rotationOverdue
	case k.Rotation.NextAt.Before(now.Add(30 * day)):
		return rotationSoon
	}
	return rotationLater
}

// rotatesAutomatically tells whether a kind of key can have automatic rotation.
func rotatesAutomatically(spec, origin string) bool {
	return spec == "SYMMETRIC_DEFAULT" && origin == "AWS_KMS"
}

package declaration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
)

// Store is where a plan finds the present state of keys; *store.DB is one.
type Store interface {
	Key(ctx context.Context, region, id string) (*service.Key, error)
	RelatedKeys(ctx context.Context, id string) ([]*service.Key, error)
	Alias(ctx context.Context, account, region, name string) (*service.Alias, error)
	Aliases(ctx context.Context, account, region, keyID, after string, limit int) ([]*service.Alias, error)
	GrantsOf(ctx context.Context, region, keyID string) ([]*service.Grant, error)
	EveryKey(ctx context.Context, region, id string, limit int) ([]*service.Key, error)
}

// Planner plans the changes from the present state to the declared one.
type Planner struct {
	Service *service.Service // with an Operator
	Store   Store
	// Decode returns the request of an operation that a JSON text has, checked against AWS's constraints:
	// transport.Decode.
	Decode func(operation string, body []byte) (any, error)
}

// Plan returns the changes of principals, then those of keys, and then those of guards, for iam.Apply. With prune, they
// remove the users and roles of the declared accounts that are not declared. Its error has everything that is wrong
// with the declaration. After the last change, end destroys what imports needed in the token.
func (p *Planner) Plan(ctx context.Context, d *Declaration, prune bool) (
	changes []iam.Change, end func(context.Context) error, err error) {
	principals, err := p.Service.IAM().Plan(ctx, &d.Declaration, prune)
	guards, guardsErr := p.Service.IAM().PlanGuards(ctx, d.Guards)
	err = errors.Join(err, guardsErr)
	run := keyPlan{Planner: p, importer: p.Service.NewImporter(), aliases: map[aliasName]*Key{},
		declared: map[keyName]*Key{}}
	for _, k := range d.Keys {
		run.declare(k)
	}
	var keys, replicas []iam.Change
	for _, k := range d.Keys {
		c, keyErr := run.plan(ctx, k)
		switch {
		case keyErr != nil:
			return nil, nil, errors.Join(err, keyErr)
		case c == nil:
		case k.Primary != "":
			replicas = append(replicas, *c) // which need their primary keys
		default:
			keys = append(keys, *c)
		}
	}
	if err = errors.Join(err, errors.Join(run.problems...)); err != nil {
		return nil, nil, err
	}
	return slices.Concat(principals, keys, replicas, guards), run.importer.Close, nil
}

type keyName struct{ region, id string }

type aliasName struct{ account, region, name string }

// keyPlan is one run of a Planner.
type keyPlan struct {
	*Planner
	importer *service.Importer
	declared map[keyName]*Key
	aliases  map[aliasName]*Key // the keys that are to have them
	problems []error
}

func (p *keyPlan) addProblem(k *Key, format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf("%s: key %s: %s", k.Place, k.ID, fmt.Sprintf(format, args...)))
}

// declare finds what is declared twice, or where nobody could use it.
func (p *keyPlan) declare(k *Key) {
	if !p.Service.Serves(k.Region) {
		p.addProblem(k, "region %s is not served: add it to regions", k.Region)
	}
	name := keyName{k.Region, k.ID}
	if other := p.declared[name]; other != nil {
		p.addProblem(k, "it is already declared at %s: an id is unique in its region", other.Place)
	}
	p.declared[name] = k
	for _, alias := range k.Aliases {
		name := aliasName{k.Account, k.Region, alias}
		if other := p.aliases[name]; other != nil {
			p.addProblem(k, "%s is already declared for key %s at %s", alias, other.ID, other.Place)
		}
		p.aliases[name] = k
	}
}

// steps are the operations that change one key.
type steps struct {
	plan    *keyPlan
	key     *Key
	details []string
	do      []func(context.Context) error
}

// add adds an operation. members are those of its request besides KeyId.
func (s *steps) add(detail, operation string, members map[string]any) {
	if request := s.decode(operation, members); request != nil {
		s.addFunc(detail, func(ctx context.Context) error {
			_, err := s.plan.Service.Operate(ctx, s.key.Account, s.key.Region, operation, request)
			return err
		})
	}
}

func (s *steps) addFunc(detail string, do func(context.Context) error) {
	if detail != "" {
		s.details = append(s.details, detail)
	}
	s.do = append(s.do, do)
}

// decode makes a request, or adds what is wrong with it to the plan's problems and returns nil.
func (s *steps) decode(operation string, members map[string]any) any {
	text, err := json.Marshal(members)
	if err == nil {
		var request any
		if request, err = s.plan.Decode(operation, text); err == nil {
			return request
		}
	}
	s.plan.addProblem(s.key, "%v", err)
	return nil
}

// plan returns the change of one key, or nil when there is none. Its error is of the store.
func (p *keyPlan) plan(ctx context.Context, k *Key) (*iam.Change, error) {
	s := &steps{plan: p, key: k}
	verb := "change"
	now, err := p.Store.Key(ctx, k.Region, k.ID)
	switch {
	case errors.Is(err, service.ErrNoRow):
		verb = "create"
		if now, err = p.planNew(ctx, s); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("read key %s: %w", k.ID, err)
	case !p.mayChange(k, now):
		return nil, nil
	}
	if err := p.planDifferences(ctx, s, now); err != nil || len(s.do) == 0 {
		return nil, err
	}
	return &iam.Change{Verb: verb, What: "key " + k.Region + "/" + k.ID, Details: s.details,
		Do: func(ctx context.Context) error {
			for _, do := range s.do {
				if err := do(ctx); err != nil {
					return err
				}
			}
			return nil
		}}, nil
}

// planNew plans the creation of a key. It returns the row that the key will have then, as far as the plan of the
// rest needs it.
func (p *keyPlan) planNew(ctx context.Context, s *steps) (*service.Key, error) {
	k := s.key
	made := &service.Key{ID: k.ID, Account: k.Account, Region: k.Region, Spec: k.Spec, State: service.StateEnabled}
	members := map[string]any{"BypassPolicyLockoutSafetyCheck": true} // the operator can always apply another file
	if k.Description != nil {
		members["Description"], made.Description = *k.Description, *k.Description
	}
	if k.Policy != nil {
		members["Policy"], made.Policy = *k.Policy, *k.Policy
	}
	if len(k.Tags) > 0 {
		var tags []service.Tag
		for _, name := range slices.Sorted(maps.Keys(k.Tags)) {
			tags = append(tags, service.Tag{TagKey: name, TagValue: k.Tags[name]})
		}
		members["Tags"], made.Tags = tags, tags
	}
	if k.Primary != "" {
		p.planReplica(ctx, s, members)
		return made, nil
	}
	related, err := p.Store.RelatedKeys(ctx, k.ID)
	if err != nil {
		return nil, fmt.Errorf("read the keys related to %s: %w", k.ID, err)
	}
	multiRegion := strings.HasPrefix(k.ID, multiRegionMark)
	if multiRegion && len(related) > 0 {
		p.addProblem(k, "region %s has this multi-Region key: declare primary: REGION for its replica",
			related[0].Region)
		return made, nil
	}
	members["KeySpec"], members["KeyUsage"], members["Origin"] = k.Spec, k.Usage, k.Origin
	members["MultiRegion"] = multiRegion
	request := s.decode("CreateKey", members)
	if request == nil {
		return made, nil
	}
	s.addFunc(strings.Join(slices.DeleteFunc([]string{k.Spec, k.Usage, k.Origin}, isDefault), " "),
		func(ctx context.Context) error {
			return p.Service.CreateKeyNamed(ctx, k.Account, k.Region, k.ID, request.(*service.CreateKeyRequest))
		})
	if k.Origin == originExternal {
		made.State = service.StatePendingImport
	}
	p.planMaterial(s, nil)
	return made, nil
}

// isDefault tells whether a property of a new key is not worth a word.
func isDefault(word string) bool { return word == usageOfSpec || word == originKMS }

// planReplica plans the creation of a replica, and of its material.
func (p *keyPlan) planReplica(ctx context.Context, s *steps, members map[string]any) {
	k := s.key
	primary := p.declared[keyName{k.Primary, k.ID}]
	if primary == nil {
		row, err := p.Store.Key(ctx, k.Primary, k.ID)
		if err != nil || row.Account != k.Account || row.PrimaryRegion != k.Primary {
			p.addProblem(k, "region %s has no primary key of this id", k.Primary)
			return
		}
	} else if primary.Primary != "" || primary.Account != k.Account {
		p.addProblem(k, "the key in region %s is no primary key of the account", k.Primary)
		return
	}
	members["KeyId"], members["ReplicaRegion"] = k.ID, k.Region
	request := s.decode("ReplicateKey", members)
	if request == nil {
		return
	}
	s.addFunc("replica of "+k.Primary, func(ctx context.Context) error {
		_, err := p.Service.Operate(ctx, k.Account, k.Primary, "ReplicateKey", request)
		return err
	})
	p.planMaterial(s, nil)
}

// mayChange tells whether a key that exists can become what is declared, and adds why not to the problems.
func (p *keyPlan) mayChange(k *Key, now *service.Key) bool {
	before := len(p.problems)
	if now.Account != k.Account {
		p.addProblem(k, "another account has a key of this id in region %s", k.Region)
		return false
	}
	switch now.State {
	case service.StateCreating, service.StateDeleting:
		p.addProblem(k, "it is being made or destroyed just now: apply the file again in a few minutes")
	case service.StatePendingDeletion, service.StatePendingReplicaDeletion:
		p.addProblem(k, "it is to be deleted: cancel that (CancelKeyDeletion), or take it out of the file")
	}
	fixed := func(what, declared, is string) {
		if declared != is {
			p.addProblem(k, "its %s is %q and can't be changed to %q: declare a key with another id",
				what, is, declared)
		}
	}
	if k.Primary != "" {
		fixed("primary region", k.Primary, now.PrimaryRegion)
	} else {
		fixed("spec", k.Spec, now.Spec)
		fixed("usage", k.Usage, now.Usage)
		fixed("origin", k.Origin, now.Origin)
		if now.PrimaryRegion != "" {
			fixed("primary region", k.Region, now.PrimaryRegion)
		}
	}
	return len(p.problems) == before
}

// planMaterial plans the import of declared material, if the key lacks it.
func (p *keyPlan) planMaterial(s *steps, now *service.Key) {
	k := s.key
	if k.Material == nil {
		return
	}
	if now != nil && now.CurrentMaterial() != nil {
		m := now.CurrentMaterial()
		switch {
		case len(m.Known) == 0:
			p.addProblem(k, "its material was imported by other means, and is not known: "+
				"take material out of the file")
			return
		case !bytes.Equal(m.Known, service.KnownMaterial(k.ID, k.Material)):
			p.addProblem(k, "it has other material, which can't be changed: declare a key with another id")
			return
		case len(m.Objects) > 0:
			return
		}
	}
	s.addFunc("known material", func(ctx context.Context) error {
		return p.importer.Import(ctx, k.Account, k.Region, k.ID, k.Material)
	})
}

// planDifferences plans what differs between a key as it is and as it is declared. A key that is to be enabled is
// enabled first, and one that is to be disabled is disabled last, since a disabled key can't have new grants.
func (p *keyPlan) planDifferences(ctx context.Context, s *steps, now *service.Key) error {
	k := s.key
	if len(s.do) == 0 {
		p.planMaterial(s, now)
	}
	on := map[string]any{"KeyId": k.ID}
	if k.Enabled != nil && *k.Enabled && now.State == service.StateDisabled {
		s.add("enabled", "EnableKey", on)
	}
	if k.Description != nil && *k.Description != now.Description {
		s.add("description", "UpdateKeyDescription", map[string]any{"KeyId": k.ID, "Description": *k.Description})
	}
	if k.Policy != nil && !iam.EqualJSON(*k.Policy, now.Policy) {
		s.add("policy", "PutKeyPolicy",
			map[string]any{"KeyId": k.ID, "Policy": *k.Policy, "BypassPolicyLockoutSafetyCheck": true})
	}
	p.planTags(s, now)
	if err := p.planAliases(ctx, s); err != nil {
		return err
	}
	if err := p.planGrants(ctx, s); err != nil {
		return err
	}
	switch days := k.RotationDays; {
	case days == nil || int32(*days) == now.Rotation.PeriodDays:
	case *days == 0:
		s.add("rotation", "DisableKeyRotation", on)
	default:
		s.add("rotation", "EnableKeyRotation", map[string]any{"KeyId": k.ID, "RotationPeriodInDays": *days})
	}
	willWork := now.State == service.StateEnabled || now.State == service.StatePendingImport && k.Material != nil
	if k.Enabled != nil && !*k.Enabled && willWork {
		s.add("disabled", "DisableKey", on)
	}
	return nil
}

func (p *keyPlan) planTags(s *steps, now *service.Key) {
	if s.key.Tags == nil {
		return
	}
	has := map[string]string{}
	for _, t := range now.Tags {
		has[t.TagKey] = t.TagValue
	}
	var set []service.Tag
	var remove, details []string
	for _, name := range slices.Sorted(maps.Keys(s.key.Tags)) {
		if value, ok := has[name]; !ok || value != s.key.Tags[name] {
			set = append(set, service.Tag{TagKey: name, TagValue: s.key.Tags[name]})
			details = append(details, "tags."+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if _, ok := s.key.Tags[name]; !ok {
			remove = append(remove, name)
			details = append(details, "tags."+name)
		}
	}
	if remove != nil { // first, since a key has a limited number
		s.add("", "UntagResource", map[string]any{"KeyId": s.key.ID, "TagKeys": remove})
	}
	if set != nil {
		s.add("", "TagResource", map[string]any{"KeyId": s.key.ID, "Tags": set})
	}
	s.details = append(s.details, details...)
}

const manyAliases = 1000 // more than a key can have

func (p *keyPlan) planAliases(ctx context.Context, s *steps) error {
	k := s.key
	if k.Aliases == nil {
		return nil
	}
	has, err := p.Store.Aliases(ctx, k.Account, k.Region, k.ID, "", manyAliases)
	if err != nil {
		return fmt.Errorf("read the aliases of key %s: %w", k.ID, err)
	}
	for _, a := range has {
		if p.aliases[aliasName{k.Account, k.Region, a.Name}] == nil { // another key may take it over
			s.add("no "+a.Name, "DeleteAlias", map[string]any{"AliasName": a.Name})
		}
	}
	for _, name := range k.Aliases {
		operation := "CreateAlias"
		a, err := p.Store.Alias(ctx, k.Account, k.Region, name)
		switch {
		case err == nil && a.KeyID == k.ID:
			continue
		case err == nil:
			operation = "UpdateAlias"
		case !errors.Is(err, service.ErrNoRow):
			return fmt.Errorf("read %s: %w", name, err)
		}
		s.add(name, operation, map[string]any{"AliasName": name, "TargetKeyId": k.ID})
	}
	return nil
}

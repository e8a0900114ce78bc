// Command terraform makes the calls that the AWS provider of Terraform and OpenTofu makes for aws_kms_key,
// aws_kms_alias and aws_kms_grant, in its order, and compares the answers as it does: a difference would be a change in
// every plan. It prints the calls. The provider repeats those with which it waits for a change; here they come once.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"
	awspolicy "github.com/hashicorp/awspolicyequivalence"
)

// resources is what main.tf declares.
type resources struct {
	description, policy string
	period              int32 // of rotation, in days
	tags                map[string]string
	enabled             bool
}

const (
	alias = "alias/orders"
	root  = "arn:aws:iam::000000000000:root"
	// policy is that of main.tf as jsonencode writes it.
	policy = `{"Statement":[{"Action":"kms:*","Effect":"Allow","Principal":{"AWS":"` + root +
		`"},"Resource":"*","Sid":"root"}],"Version":"2012-10-17"}`
	laterPolicy = `{"Statement":[{"Action":["kms:*"],"Effect":"Allow","Principal":{"AWS":["000000000000"]},` +
		`"Resource":["*"]}],"Version":"2012-10-17"}`
)

func main() {
	ctx := context.Background()
	cfg := must(config.LoadDefaultConfig(ctx))
	cfg.APIOptions = append(cfg.APIOptions, printCalls)
	p := provider{ctx, kms.NewFromConfig(cfg)}
	first := resources{description: "seals orders", policy: policy, period: 180, enabled: true,
		tags: map[string]string{"team": "blue", "stage": "test"}}
	later := resources{description: "seals all orders", policy: laterPolicy, period: 365,
		tags: map[string]string{"team": "red"}}

	begin("create aws_kms_key")
	key := p.createKey(first)
	begin("create aws_kms_alias")
	p.createAlias(key)
	begin("create aws_kms_grant")
	grant := p.createGrant(key)
	begin("read aws_kms_key")
	p.readKey(key, first)
	begin("read aws_kms_alias")
	p.readAlias(key)
	begin("read aws_kms_grant")
	p.readGrant(key, grant)
	begin("update aws_kms_key")
	p.updateKey(key, later)
	begin("delete aws_kms_grant")
	p.deleteGrant(key, grant)
	begin("delete aws_kms_alias")
	must(p.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String(alias)}))
	begin("delete aws_kms_key")
	p.deleteKey(key)
	begin("delete aws_kms_key again")
	p.deletedKey(key)
	fmt.Println()
}

type provider struct {
	ctx context.Context
	*kms.Client
}

func (p provider) createKey(r resources) *string {
	created := must(p.CreateKey(p.ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecSymmetricDefault,
		KeyUsage: types.KeyUsageTypeEncryptDecrypt, Tags: tags(r.tags), Description: &r.description,
		Policy: &r.policy}))
	key := created.KeyMetadata.KeyId
	p.rotate(key, r)
	p.readPolicy(key, r)
	p.readTags(key, r)
	p.readKey(key, r)
	return key
}

func (p provider) readKey(key *string, r resources) {
	d := must(p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: key})).KeyMetadata
	same("key", []any{*d.Description, d.Enabled, d.KeySpec, d.KeyUsage, *d.MultiRegion, d.Origin},
		[]any{r.description, r.enabled, types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, false,
			types.OriginTypeAwsKms})
	p.readPolicy(key, r)
	p.readRotation(key, r)
	p.readTags(key, r)
}

func (p provider) readPolicy(key *string, r resources) {
	got := must(p.GetKeyPolicy(p.ctx, &kms.GetKeyPolicyInput{KeyId: key, PolicyName: aws.String("default")}))
	if !must(awspolicy.PoliciesAreEquivalent(*got.Policy, r.policy)) {
		log.Fatalf("the policy is %s", *got.Policy)
	}
}

func (p provider) rotate(key *string, r resources) {
	must(p.EnableKeyRotation(p.ctx, &kms.EnableKeyRotationInput{KeyId: key, RotationPeriodInDays: &r.period}))
	p.readRotation(key, r)
}

func (p provider) readRotation(key *string, r resources) {
	got := must(p.GetKeyRotationStatus(p.ctx, &kms.GetKeyRotationStatusInput{KeyId: key}))
	same("rotation", []any{got.KeyRotationEnabled, aws.ToInt32(got.RotationPeriodInDays)}, []any{true, r.period})
}

func (p provider) readTags(key *string, r resources) {
	got := map[string]string{}
	pages := kms.NewListResourceTagsPaginator(p, &kms.ListResourceTagsInput{KeyId: key})
	for pages.HasMorePages() {
		for _, tag := range must(pages.NextPage(p.ctx)).Tags {
			got[*tag.TagKey] = *tag.TagValue
		}
	}
	if !maps.Equal(got, r.tags) {
		log.Fatalf("the tags are %v", got)
	}
}

func (p provider) updateKey(key *string, r resources) {
	must(p.UntagResource(p.ctx, &kms.UntagResourceInput{KeyId: key, TagKeys: []string{"stage"}}))
	must(p.TagResource(p.ctx, &kms.TagResourceInput{KeyId: key, Tags: tags(r.tags)}))
	p.readTags(key, r)
	p.rotate(key, r)
	must(p.UpdateKeyDescription(p.ctx, &kms.UpdateKeyDescriptionInput{KeyId: key, Description: &r.description}))
	same("description", *must(p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: key})).KeyMetadata.Description,
		r.description)
	must(p.PutKeyPolicy(p.ctx, &kms.PutKeyPolicyInput{KeyId: key, Policy: &r.policy, PolicyName: aws.String("default")}))
	p.readPolicy(key, r)
	must(p.DisableKey(p.ctx, &kms.DisableKeyInput{KeyId: key})) // last: a disabled key is not changed
	same("enabled", must(p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: key})).KeyMetadata.Enabled, false)
	p.readKey(key, r)
}

func (p provider) deleteKey(key *string) {
	must(p.ScheduleKeyDeletion(p.ctx, &kms.ScheduleKeyDeletionInput{KeyId: key, PendingWindowInDays: aws.Int32(7)}))
	same("state", must(p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: key})).KeyMetadata.KeyState,
		types.KeyStatePendingDeletion)
}

// deletedKey deletes a key that somebody else has deleted: the provider takes this error for success.
func (p provider) deletedKey(key *string) {
	_, err := p.ScheduleKeyDeletion(p.ctx, &kms.ScheduleKeyDeletionInput{KeyId: key})
	var invalid *types.KMSInvalidStateException
	if !errors.As(err, &invalid) || !strings.Contains(invalid.ErrorMessage(), "is pending deletion") {
		log.Fatal(err)
	}
}

func (p provider) createAlias(key *string) {
	must(p.CreateAlias(p.ctx, &kms.CreateAliasInput{AliasName: aws.String(alias), TargetKeyId: key}))
	p.readAlias(key)
}

func (p provider) readAlias(key *string) {
	pages := kms.NewListAliasesPaginator(p, &kms.ListAliasesInput{})
	for pages.HasMorePages() {
		for _, entry := range must(pages.NextPage(p.ctx)).Aliases {
			if *entry.AliasName == alias {
				same("alias", *entry.TargetKeyId, *key)
				return
			}
		}
	}
	log.Fatal("the alias is not listed")
}

func (p provider) createGrant(key *string) string {
	grant := *must(p.CreateGrant(p.ctx, &kms.CreateGrantInput{KeyId: key, GranteePrincipal: aws.String(root),
		Name: aws.String("orders"), Operations: []types.GrantOperation{types.GrantOperationEncrypt},
		Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "blue"}},
	})).GrantId
	p.readGrant(key, grant)
	return grant
}

func (p provider) readGrant(key *string, grant string) {
	found := p.findGrant(key, grant)
	if found == nil {
		log.Fatal("the grant is not listed")
	}
	same("grant",
		[]any{*found.GranteePrincipal, *found.Name, found.Operations, found.Constraints.EncryptionContextSubset},
		[]any{root, "orders", []types.GrantOperation{types.GrantOperationEncrypt}, map[string]string{"tenant": "blue"}})
}

func (p provider) findGrant(key *string, grant string) *types.GrantListEntry {
	pages := kms.NewListGrantsPaginator(p, &kms.ListGrantsInput{KeyId: key, Limit: aws.Int32(100)})
	for pages.HasMorePages() {
		for _, entry := range must(pages.NextPage(p.ctx)).Grants {
			if *entry.GrantId == grant {
				return &entry
			}
		}
	}
	return nil
}

func (p provider) deleteGrant(key *string, grant string) {
	must(p.RevokeGrant(p.ctx, &kms.RevokeGrantInput{KeyId: key, GrantId: &grant}))
	if p.findGrant(key, grant) != nil {
		log.Fatal("the grant is still listed")
	}
}

func tags(m map[string]string) (list []types.Tag) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, types.Tag{TagKey: aws.String(name), TagValue: aws.String(m[name])})
	}
	return list
}

var beginning string // what comes before the next call

// begin begins a line of calls.
func begin(title string) {
	if beginning != "" {
		fmt.Println()
	}
	fmt.Print(title)
	beginning = ": "
}

// printCalls prints the name of every call.
func printCalls(stack *middleware.Stack) error {
	printed := func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
		middleware.InitializeOutput, middleware.Metadata, error) {
		fmt.Print(beginning, middleware.GetOperationName(ctx))
		beginning = ", "
		return next.HandleInitialize(ctx, in)
	}
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("print", printed), middleware.Before)
}

func same(what string, got, want any) {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		log.Fatalf("%s: %s, not %s", what, g, w)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

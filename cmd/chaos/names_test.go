package chaos_test

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// newAlias is a name without a target.
func (c *caller) newAlias() {
	name := "alias/" + c.name("chaos")
	a := &alias{name: name, history: c.newHistory("target of " + name)}
	c.locked(func() { c.aliases = append(c.aliases, a) })
}

func (c *caller) changeAlias(ctx context.Context) {
	a, ok := pick(c.world, c.r, &c.aliases)
	if !ok {
		return
	}
	if a.history.worn() {
		retire(c.world, &c.aliases, a)
		c.newAlias()
		return
	}
	k, ok := pick(c.world, c.r, &c.steady)
	if !ok {
		return
	}
	o := operation{on: a.history, write: true, from: allBut(absent), to: k.id,
		refusals: map[string]values{"NotFoundException": these(absent)}}
	var do func(context.Context) error
	switch n := c.r.IntN(10); {
	case n < 4:
		o.what = "CreateAlias"
		o.from, o.refusals = these(absent), map[string]values{"AlreadyExistsException": allBut(absent)}
		do = func(ctx context.Context) error {
			_, err := c.root.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &a.name, TargetKeyId: &k.id})
			return err
		}
	case n < 7:
		o.what = "UpdateAlias"
		do = func(ctx context.Context) error {
			_, err := c.root.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: &a.name, TargetKeyId: &k.id})
			return err
		}
	default:
		o.what, o.to = "DeleteAlias", absent
		do = func(ctx context.Context) error {
			_, err := c.root.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: &a.name})
			return err
		}
	}
	_, _ = c.call(ctx, o, do) // which has recorded the outcome
}

func (c *caller) useAlias(ctx context.Context) {
	a, ok := pick(c.world, c.r, &c.aliases)
	if !ok {
		return
	}
	if c.r.IntN(2) == 0 {
		_ = c.describeAlias(ctx, a) // it has recorded the outcome
		return
	}
	saw := func(body []byte) (values, error) {
		var out struct{ KeyId string }
		err := json.Unmarshal(body, &out)
		return these(out.KeyId[strings.LastIndex(out.KeyId, "/")+1:]), err
	}
	_, _ = c.call(ctx, readAlias("Encrypt", a, saw), func(ctx context.Context) error {
		_, err := c.root.Encrypt(ctx, &kms.EncryptInput{KeyId: &a.name, Plaintext: c.text()})
		return err
	})
}

func readAlias(what string, a *alias, saw func([]byte) (values, error)) operation {
	return operation{what: what + " " + a.name, on: a.history, saw: saw,
		refusals: map[string]values{"NotFoundException": these(absent)}}
}

func (c *caller) describeAlias(ctx context.Context, a *alias) error {
	saw := func(body []byte) (values, error) {
		id, _, err := sawKey(body)
		return these(id), err
	}
	_, err := c.call(ctx, readAlias("DescribeKey", a, saw), func(ctx context.Context) error {
		_, err := c.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &a.name})
		return err
	})
	return err
}

// context is the only encryption context with which the grant allows uses, so that no other grant does.
func (g *grant) context() map[string]string { return map[string]string{"grant": g.name} }

func (c *caller) changeGrant(ctx context.Context) {
	g, ok := pick(c.world, c.r, &c.grants)
	switch {
	case !ok || c.r.IntN(2) == 0 && count(c.world, &c.grants) < grantsAtOnce:
		c.createGrant(ctx)
	case g.history.worn() || g.history.length() > mostEvents/8 && c.r.IntN(4) == 0:
		retire(c.world, &c.grants, g) // also one that was revoked
	default:
		o := operation{what: "RevokeGrant", on: g.history, write: true, from: these(present, absent), to: absent,
			refusals: map[string]values{"NotFoundException": these(absent)}}
		_, _ = c.call(ctx, o, func(ctx context.Context) error {
			_, err := c.root.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &g.key.id, GrantId: &g.id})
			return err
		})
	}
}

// createGrant makes a grant. One of which an attempt has no known outcome is left alone: there may come
// to be two of the name.
func (c *caller) createGrant(ctx context.Context) {
	k, ok := pick(c.world, c.r, &c.steady)
	if !ok {
		return
	}
	g := &grant{key: k, name: c.name("grant")}
	attempts, err := c.call(ctx, operation{what: "CreateGrant"}, func(ctx context.Context) error {
		who := grantee
		out, err := c.root.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &k.id, GranteePrincipal: &who, Name: &g.name,
			Operations:  []types.GrantOperation{types.GrantOperationEncrypt, types.GrantOperationDecrypt},
			Constraints: &types.GrantConstraints{EncryptionContextEquals: g.context()}})
		if err == nil {
			g.id = *out.GrantId
		}
		return err
	})
	if err != nil || len(attempts) != 1 {
		return
	}
	a := attempts[0]
	g.history = c.newHistory("grant " + g.id)
	g.history.add(a.writes("CreateGrant", these(absent), present))
	c.locked(func() { c.grants = append(c.grants, g) })
}

func (c *caller) useGrant(ctx context.Context) {
	if g, ok := pick(c.world, c.r, &c.grants); ok {
		_ = c.encryptUnder(ctx, g) // it has recorded the outcome
	}
}

func (c *caller) encryptUnder(ctx context.Context, g *grant) error {
	b := box{key: g.key, plaintext: c.text(), context: g.context()}
	o := operation{what: "Encrypt under a grant", on: g.history,
		saw:      func([]byte) (values, error) { return these(present), nil },
		refusals: map[string]values{"AccessDeniedException": these(absent)}}
	_, err := c.call(ctx, o, func(ctx context.Context) error {
		out, err := c.grantee.Encrypt(ctx, &kms.EncryptInput{KeyId: &g.key.id, Plaintext: b.plaintext,
			EncryptionContext: b.context})
		if err == nil {
			b.ciphertext = out.CiphertextBlob
		}
		return err
	})
	if err == nil {
		c.keep(c.r, b)
	}
	return err
}

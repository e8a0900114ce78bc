package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// The states of a key, as DescribeKey has them.
const (
	enabled  = string(types.KeyStateEnabled)
	disabled = string(types.KeyStateDisabled)
	pending  = string(types.KeyStatePendingDeletion)
	present  = "present" // of a grant
)

// caller is one client, which does one thing after another.
type caller struct {
	*world
	r             *rand.Rand
	root, grantee *kms.Client
}

func newCaller(w *world, n uint64) *caller {
	r := rand.New(rand.NewPCG(w.seed, n))
	return &caller{world: w, r: r, root: w.c.client(w.c.root, r), grantee: w.c.client(w.c.grantee, r)}
}

// mostThought is the longest time between the operations of a client. Without it, histories would be full in
// less time than a fault takes.
const mostThought = 40 * time.Millisecond

// run works until ctx ends. What has begun is ended.
func (c *caller) run(ctx context.Context) {
	work := []struct {
		weight int
		do     func(context.Context)
	}{{20, c.encrypt}, {15, c.decrypt}, {10, c.generateDataKey}, {1, c.createSteady}, {2, c.rotate},
		{12, c.changeState}, {15, c.describe}, {15, c.useCycled}, {10, c.changeAlias}, {12, c.useAlias},
		{6, c.changeGrant}, {12, c.useGrant}}
	total := 0
	for _, w := range work {
		total += w.weight
	}
	for ctx.Err() == nil {
		time.Sleep(time.Duration(c.r.Int64N(int64(mostThought))))
		n := c.r.IntN(total)
		for _, w := range work {
			if n -= w.weight; n < 0 {
				w.do(context.WithoutCancel(ctx))
				break
			}
		}
	}
}

// operation is what an operation tells of a register.
type operation struct {
	what     string
	on       *history // nil: of none
	write    bool
	from     values // of a write
	to       string // of a write
	saw      func(body []byte) (values, error)
	refusals map[string]values // by code: what the register was
}

// call makes a call of the SDK, and records what each attempt tells.
func (c *caller) call(
	ctx context.Context, o operation, do func(context.Context) error,
) (attempts []attempt, err error) {
	ctx, all := withAttempts(ctx)
	err = do(ctx)
	attempts = *all
	name, _, _ := strings.Cut(o.what, " ")
	c.locked(func() {
		c.operations[name]++
		c.attempts += len(attempts)
		if err != nil && !isRefusal(err) {
			c.failed[nameOf(err)]++
		}
	})
	for _, a := range attempts {
		e := a.writes(o.what, o.from, o.to)
		e.write = o.write
		switch e.outcome {
		case refused:
			e.write = false
			var known bool
			if e.from, known = o.refusals[a.code]; !known {
				c.violation("node %s refuses %s at %v: %d %s", nodeName(a.node), o.what, a.end, a.status, a.body)
				continue
			}
		case done:
			if o.saw != nil {
				var wrong error
				if e.from, wrong = o.saw(a.body); wrong != nil {
					c.violation("node %s answers %s at %v: %v", nodeName(a.node), o.what, a.end, wrong)
					continue
				}
			}
		}
		if o.on != nil {
			o.on.add(e)
		}
	}
	return attempts, err
}

func isRefusal(err error) bool {
	var answer interface{ HTTPStatusCode() int }
	return errors.As(err, &answer) && answer.HTTPStatusCode()/100 == 4
}

// nameOf is the code of KMS, or no answer.
func nameOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return "no answer"
}

// acknowledged counts attempts that were done, and those that may have been.
func acknowledged(attempts []attempt) (surely, perhaps int) {
	for _, a := range attempts {
		switch a.outcome() {
		case done:
			surely++
		case unknown:
			perhaps++
		}
	}
	return surely, perhaps
}

// createKey makes a key. cycled gives it a history of states, which begins with the attempt that has made it.
func (c *caller) createKey(ctx context.Context, list *[]*key, cycled bool) (*key, error) {
	var out *kms.CreateKeyOutput
	attempts, err := c.call(ctx, operation{what: "CreateKey"}, func(ctx context.Context) (err error) {
		out, err = c.root.CreateKey(ctx, &kms.CreateKeyInput{})
		return err
	})
	if err != nil {
		return nil, err
	}
	k := &key{id: *out.KeyMetadata.KeyId}
	if cycled {
		k.states = c.newHistory("states of key " + k.id)
		a := attempts[len(attempts)-1]
		k.states.add(a.writes("CreateKey", these(absent), enabled))
	}
	c.locked(func() { c.keys, *list = append(c.keys, k), append(*list, k) })
	return k, nil
}

// replace makes another key instead of one that has a long history.
func (c *caller) replace(ctx context.Context, k *key) {
	if count(c.world, &c.keys) >= mostKeys {
		return
	}
	if _, err := c.createKey(ctx, &c.cycled, true); err == nil {
		retire(c.world, &c.cycled, k)
	}
}

func (c *caller) createSteady(ctx context.Context) {
	if count(c.world, &c.steady) < 2*steadyKeys {
		_, _ = c.createKey(ctx, &c.steady, false) // call has recorded the outcome
	}
}

// use is what a use or a description tells of a key's states, or of a key that has only one.
func (c *caller) use(what string, k *key, saw func([]byte) (values, error)) operation {
	if k.states == nil {
		return operation{what: what + " " + k.id}
	}
	if saw == nil {
		saw = func([]byte) (values, error) { return these(enabled), nil }
	}
	return operation{what: what + " " + k.id, on: k.states, saw: saw, refusals: map[string]values{
		"DisabledException": these(disabled), "KMSInvalidStateException": these(pending),
		"NotFoundException": these(absent)}}
}

func (c *caller) text() []byte { return fmt.Appendf(nil, "plaintext %d", c.r.Uint64()) }

func (c *caller) encrypt(ctx context.Context) {
	if k, ok := pick(c.world, c.r, &c.steady); ok {
		c.encryptWith(ctx, k)
	}
}

func (c *caller) useCycled(ctx context.Context) {
	if k, ok := pick(c.world, c.r, &c.cycled); ok {
		c.encryptWith(ctx, k)
	}
}

func (c *caller) encryptWith(ctx context.Context, k *key) {
	b := box{key: k, plaintext: c.text(), context: map[string]string{"n": fmt.Sprint(c.r.IntN(10))}}
	_, err := c.call(ctx, c.use("Encrypt", k, nil), func(ctx context.Context) error {
		out, err := c.root.Encrypt(ctx,
			&kms.EncryptInput{KeyId: &k.id, Plaintext: b.plaintext, EncryptionContext: b.context})
		if err == nil {
			b.ciphertext = out.CiphertextBlob
		}
		return err
	})
	if err == nil {
		c.keep(c.r, b)
	}
}

func (c *caller) generateDataKey(ctx context.Context) {
	k, ok := pick(c.world, c.r, &c.steady)
	if !ok {
		return
	}
	b := box{key: k}
	_, err := c.call(ctx, c.use("GenerateDataKey", k, nil), func(ctx context.Context) error {
		out, err := c.root.GenerateDataKey(ctx,
			&kms.GenerateDataKeyInput{KeyId: &k.id, KeySpec: types.DataKeySpecAes256})
		if err == nil {
			b.plaintext, b.ciphertext = out.Plaintext, out.CiphertextBlob
		}
		return err
	})
	if err == nil {
		c.keep(c.r, b)
	}
}

func (c *caller) decrypt(ctx context.Context) {
	if b, ok := pick(c.world, c.r, &c.boxes); ok {
		_, _ = c.call(ctx, c.use("Decrypt", b.key, nil), func(ctx context.Context) error {
			return c.open(ctx, b)
		}) // which has recorded the outcome
	}
}

func (c *caller) open(ctx context.Context, b box) error {
	out, err := c.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: b.ciphertext, EncryptionContext: b.context})
	if err == nil && !bytes.Equal(out.Plaintext, b.plaintext) {
		c.violation("a ciphertext of key %s decrypts to something else", b.key.id)
	}
	return err
}

// sawKey reads the answer of DescribeKey.
func sawKey(body []byte) (id, state string, err error) {
	var out struct {
		KeyMetadata struct{ KeyId, KeyState string }
	}
	err = json.Unmarshal(body, &out)
	return out.KeyMetadata.KeyId, out.KeyMetadata.KeyState, err
}

func (c *caller) describe(ctx context.Context) {
	if k, ok := pick(c.world, c.r, &c.cycled); ok {
		_ = c.describeKey(ctx, k) // it has recorded the outcome
	}
}

func (c *caller) describeKey(ctx context.Context, k *key) error {
	saw := func(body []byte) (values, error) {
		_, state, err := sawKey(body)
		return these(state), err
	}
	_, err := c.call(ctx, c.use("DescribeKey", k, saw), func(ctx context.Context) error {
		_, err := c.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &k.id})
		return err
	})
	return err
}

func (c *caller) changeState(ctx context.Context) {
	k, ok := pick(c.world, c.r, &c.cycled)
	if !ok {
		return
	}
	if k.states.worn() {
		c.replace(ctx, k)
		return
	}
	o := operation{on: k.states, write: true, from: these(enabled, disabled),
		refusals: map[string]values{"KMSInvalidStateException": these(pending), "NotFoundException": these(absent)}}
	var do func(context.Context) error
	switch n := c.r.IntN(10); {
	case n < 3:
		o.what, o.to = "DisableKey", disabled
		do = func(ctx context.Context) error {
			_, err := c.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &k.id})
			return err
		}
	case n < 6:
		o.what, o.to = "EnableKey", enabled
		do = func(ctx context.Context) error {
			_, err := c.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &k.id})
			return err
		}
	case n < 8:
		o.what, o.to = "ScheduleKeyDeletion", pending
		do = func(ctx context.Context) error {
			_, err := c.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &k.id,
				PendingWindowInDays: aws.Int32(7)})
			return err
		}
	default:
		o.what, o.to, o.from = "CancelKeyDeletion", disabled, these(pending)
		o.refusals["KMSInvalidStateException"] = these(enabled, disabled)
		do = func(ctx context.Context) error {
			_, err := c.root.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &k.id})
			return err
		}
	}
	_, _ = c.call(ctx, o, do) // which has recorded the outcome
}

func (c *caller) rotate(ctx context.Context) {
	k, ok := pick(c.world, c.r, &c.rotated)
	if !ok {
		return
	}
	o := operation{what: "RotateKeyOnDemand " + k.id, refusals: map[string]values{"LimitExceededException": {}}}
	attempts, err := c.call(ctx, o, func(ctx context.Context) error {
		_, err := c.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &k.id})
		return err
	})
	surely, perhaps := acknowledged(attempts)
	k.mu.Lock()
	k.rotations += surely
	k.perhaps += perhaps
	k.mu.Unlock()
	if nameOf(errOrNone(err)) == "LimitExceededException" && count(c.world, &c.keys) < mostKeys {
		retire(c.world, &c.rotated, k)
		_, _ = c.createKey(ctx, &c.rotated, false) // else there are fewer
	}
	c.encryptWith(ctx, k)
}

func errOrNone(err error) error {
	if err == nil {
		return http.ErrBodyNotAllowed
	}
	return err
}

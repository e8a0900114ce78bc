#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "module.h"

#define NAME(name, arity, letters) #name,
#define LETTERS(name, arity, letters) letters,
const char *const names[] = { FUNCTIONS(NAME) FUNCTIONS_3_2(NAME) };
const char *const letters[] = { FUNCTIONS(LETTERS) FUNCTIONS_3_2(LETTERS) };

#define CHECK(name, arity, letters) \
	_Static_assert(offsetof(CK_FUNCTION_LIST, name) == \
		offsetof(CK_FUNCTION_LIST, C_Initialize) + name##_AT * sizeof(void *), #name " is out of order"); \
	_Static_assert(sizeof letters == arity + 1, #name " lacks a letter");
FUNCTIONS(CHECK)

int has_number(const struct numbers *n, CK_ULONG number)
{
	for (uint64_t i = 0; i < n->count && i < MOST_NUMBERS; i++)
		if (n->value[i] == number)
			return 1;
	return 0;
}

CK_RV forward(struct call *c)
{
	const CK_ULONG *a = c->inner;
	void (*f)(void) = ((void (**)(void))&inner->C_Initialize)[c->f];

#define U CK_ULONG
	switch (strlen(letters[c->f])) {
	case 1: return ((CK_RV (*)(U))f)(a[0]);
	case 2: return ((CK_RV (*)(U, U))f)(a[0], a[1]);
	case 3: return ((CK_RV (*)(U, U, U))f)(a[0], a[1], a[2]);
	case 4: return ((CK_RV (*)(U, U, U, U))f)(a[0], a[1], a[2], a[3]);
	case 5: return ((CK_RV (*)(U, U, U, U, U))f)(a[0], a[1], a[2], a[3], a[4]);
	case 6: return ((CK_RV (*)(U, U, U, U, U, U))f)(a[0], a[1], a[2], a[3], a[4], a[5]);
	default: return ((CK_RV (*)(U, U, U, U, U, U, U, U))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	}
#undef U
}

static void pause_ns(uint64_t ns)
{
	struct timespec left = { ns / 1000000000, ns % 1000000000 };

	while (ns > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

// draw is the next number of SplitMix64.
static uint64_t draw(void)
{
	uint64_t x = atomic_fetch_add(&control->random, 0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

int takes(struct rule *r, uint64_t of)
{
	int64_t left = r->left, skip;

	if (left == 0 || (r->of != 0 && r->of != of) || (r->chance != 0 && draw() % 1000000 >= r->chance))
		return 0;
	for (skip = r->skip; skip > 0;)
		if (atomic_compare_exchange_weak(&r->skip, &skip, skip - 1))
			return 0;
	while (left > 0)
		if (atomic_compare_exchange_weak(&r->left, &left, left - 1))
			return 1;
	return left < 0;
}

// mechanism_of is the caller's mechanism and 1, or 0.
uint64_t mechanism_of(const struct call *c)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		if (letters[c->f][i] == 'm' && c->a[i] != 0)
			return ((CK_MECHANISM *)c->a[i])->mechanism + 1;
		if (letters[c->f][i] == 'M')
			return c->a[i] + 1;
	}
	return 0;
}

static int rule_takes(struct rule *r, const struct call *c)
{
	return r->left != 0 && takes(r, r->of != 0 ? mechanism_of(c) : 0);
}

static void hang(struct rule *r, const struct call *c)
{
	uint64_t released = control->released; // read first: a release takes the rule away and then is counted

	if (!rule_takes(r, c))
		return;
	atomic_fetch_add(&control->hanging, 1);
	while (control->released == released)
		pause_ns(200000);
	atomic_fetch_sub(&control->hanging, 1);
}

// crash does what a wild pointer in a vendor's module does.
static void crash(struct rule *r, const struct call *c)
{
	volatile int *volatile nowhere = NULL;

	if (rule_takes(r, c))
		*nowhere = 0;
}

const CK_MECHANISM *inner_mechanism(const struct call *c)
{
	for (int i = 0; letters[c->f][i] != 0; i++)
		if (letters[c->f][i] == 'm')
			return (CK_MECHANISM *)c->inner[i];
	return NULL;
}

// admit translates the handles of the call to those of the inner module, or refuses the call.
static CK_RV admit(struct call *c)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		char letter = letters[c->f][i];
		CK_ULONG a = c->inner[i] = c->a[i];
		switch (letter) {
		case 's':
			c->session = session_enter(c, a);
			if (c->session == NULL)
				return CKR_SESSION_HANDLE_INVALID;
			c->inner[i] = c->session->inner;
			break;
		case 'o': case 'k': case 'w': case 'u': case 'O':
			if (logged_out(c))
				return CKR_USER_NOT_LOGGED_IN;
			if (letter == 'O' || a == 0)
				break;
			if (a != handle_of(c->generation, a) || (control->strict_sessions && object_foreign((uint32_t)a, c->session)))
				return letter == 'o' ? CKR_OBJECT_HANDLE_INVALID : letter == 'k' ? CKR_KEY_HANDLE_INVALID :
					letter == 'w' ? CKR_WRAPPING_KEY_HANDLE_INVALID : CKR_UNWRAPPING_KEY_HANDLE_INVALID;
			c->inner[i] = (uint32_t)a;
			break;
		case 'm':
			if (a != 0 && refused(((CK_MECHANISM *)a)->mechanism))
				return CKR_MECHANISM_INVALID;
			if (a != 0 && control->mapped_count != 0) {
				c->mechanism = *(CK_MECHANISM *)a;
				c->mechanism.mechanism = mapped(c->mechanism.mechanism);
				c->inner[i] = (CK_ULONG)&c->mechanism;
			}
			break;
		case 'M':
			if (refused(a))
				return CKR_MECHANISM_INVALID;
			c->inner[i] = mapped(a) == PADDED_KEY_WRAP ? CKM_AES_KEY_WRAP : mapped(a);
			break;
		case 'l':
			c->inner[i] = a - control->slot_offset;
			break;
		case 'D': case 'N':
			c->room = c->a[i + 1] != 0 ? *(CK_ULONG *)c->a[i + 1] : 0;
			break;
		}
	}
	return CKR_OK;
}

const CK_ATTRIBUTE *attribute(const struct call *c, int nth, CK_ATTRIBUTE_TYPE type)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		if (letters[c->f][i] != 't' || nth-- > 0)
			continue;
		const CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)c->a[i];
		for (CK_ULONG n = 0; t != NULL && n < c->a[i + 1]; n++)
			if (t[n].type == type)
				return &t[n];
		return NULL;
	}
	return NULL;
}

int attribute_bool(const struct call *c, int nth, CK_ATTRIBUTE_TYPE type)
{
	const CK_ATTRIBUTE *t = attribute(c, nth, type);
	return t != NULL && t->pValue != NULL && t->ulValueLen == sizeof(CK_BBOOL) ? *(CK_BBOOL *)t->pValue != 0 : -1;
}

int makes_token_object(struct call *c, int nth)
{
	int token = attribute_bool(c, nth, CKA_TOKEN);
	return token >= 0 ? token : c->f == C_CopyObject_AT && !object_known(c->inner[1]); // a copy is what its original is
}

// hand_out replaces the inner module's handles of new objects with this module's.
static void hand_out(struct call *c)
{
	int nth = 0;

	for (int i = 0; letters[c->f][i] != 0; i++) {
		if (letters[c->f][i] != 'O')
			continue;
		CK_OBJECT_HANDLE *h = (CK_OBJECT_HANDLE *)c->a[i];
		if (!makes_token_object(c, nth++))
			object_add(*h, c->session);
		*h = handle_of(c->generation, *h);
	}
}

// lose removes the answer of a call that succeeded.
static void lose(struct call *c)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		void *p = (void *)c->a[i];
		CK_ULONG *next = (CK_ULONG *)c->a[i + 1 < MOST_ARGUMENTS ? i + 1 : i];
		switch (letters[c->f][i]) {
		case 'S': case 'O':
			*(CK_ULONG *)p = 0;
			break;
		case 'F':
			*(CK_ULONG *)c->a[i + 2] = 0;
			break;
		case 'R':
			memset(p, 0, c->a[i + 1]);
			break;
		case 'D':
			if (p != NULL && next != NULL)
				memset(p, 0, *next < c->room ? *next : c->room);
			if (next != NULL)
				*next = c->room;
			break;
		case 'v':
			for (CK_ULONG n = 0; n < c->a[i + 1]; n++) {
				CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)p + n;
				if (t->pValue != NULL && t->ulValueLen != CK_UNAVAILABLE_INFORMATION)
					memset(t->pValue, 0, t->ulValueLen);
			}
			break;
		}
	}
}

// The library answers these itself, token or not.
static int is_local(int f)
{
	return f == C_Initialize_AT || f == C_Finalize_AT || f == C_GetInfo_AT || f == C_GetFunctionList_AT || f == C_GetSlotList_AT;
}

static int removed(struct call *c)
{
	return !is_local(c->f) && (control->unplugged || generation() != c->generation);
}

// blocked is the error of every call that may not happen now, and of calls that were in progress.
static CK_RV blocked(struct call *c)
{
	return removed(c) ? CKR_DEVICE_REMOVED : wedged(c) ? control->wedge_rv : CKR_OK;
}

static int session_before_now(const struct session *s, const struct call *c) { return (void)c, s->generation < generation(); }

// end_old_sessions closes the inner sessions that an unplug has ended.
static void end_old_sessions(uint32_t now)
{
	static _Atomic uint32_t seen;
	uint32_t last = seen;

	while (last < now)
		if (atomic_compare_exchange_weak(&seen, &last, now)) {
			sessions_end(session_before_now, NULL);
			return;
		}
}

static CK_RV answer(struct call *c)
{
	struct rule *rules = control->functions[c->f].rules;

	hang(&rules[HANG_BEFORE], c);
	c->generation = generation();
	end_old_sessions(c->generation);
	if (!instances[c->instance].initialised && c->f != C_Initialize_AT && c->f != C_GetFunctionList_AT)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	CK_RV rv = blocked(c);
	if (rv != CKR_OK)
		return rv;
	crash(&rules[CRASH_BEFORE], c);
	if (rule_takes(&rules[FAIL_BEFORE], c))
		return rules[FAIL_BEFORE].rv;
	rv = admit(c);
	if (rv == CKR_OK)
		rv = replay_knows(c) ? replay(c) : special[c->f] != NULL ? special[c->f](c) : forward(c);
	if (rv == CKR_OK) {
		replay_learn(c);
		hand_out(c);
	}
	hang(&rules[HANG_AFTER], c);
	crash(&rules[CRASH_AFTER], c);
	int success = rv == CKR_OK;
	CK_RV now = blocked(c);
	if (now != CKR_OK) {
		rv = now;
		sessions_end(session_before_now, NULL); // the one just opened
	} else if (success && rule_takes(&rules[FAIL_AFTER], c))
		rv = rules[FAIL_AFTER].rv;
	if (success && rv != CKR_OK)
		lose(c);
	else if (control->lies_count != 0)
		lie(c, &rv);
	return rv;
}

CK_RV call(int instance, int f, CK_ULONG *a)
{
	struct call c = { .f = f, .instance = instance, .a = a };

	atomic_fetch_add(&control->functions[f].calls, 1);
	pause_ns(control->functions[f].latency);
	CK_RV rv = answer(&c);
	if (control->recording)
		trace(trace_path, &c, rv);
	if (c.session != NULL)
		session_leave(c.session);
	return rv;
}

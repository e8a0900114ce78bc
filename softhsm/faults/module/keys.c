// Keys that are made, wrapped, copied and read in other ways than by the inner module.

#include <pthread.h>
#include <string.h>

#include "module.h"

enum { MOST_TEMPLATE = 32, MOST_KEY = 8192, BLOCK = 16 };

static CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
static CK_KEY_TYPE generic = CKK_GENERIC_SECRET, aes = CKK_AES;
static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

// without copies a template except for up to two types. The result has room for another
// attribute.
static CK_RV without(const CK_ATTRIBUTE *given, CK_ULONG count, CK_ATTRIBUTE_TYPE a, CK_ATTRIBUTE_TYPE b,
	CK_ATTRIBUTE *out, CK_ULONG *n)
{
	*n = 0;
	if (count >= MOST_TEMPLATE)
		return CKR_TEMPLATE_INCONSISTENT;
	for (CK_ULONG i = 0; i < count; i++)
		if (given[i].type != a && given[i].type != b)
			out[(*n)++] = given[i];
	return CKR_OK;
}

// The following functions use a session of their own, so that the objects that they make end with it.

static CK_RV plain_object(CK_SESSION_HANDLE session, CK_BYTE *value, CK_ULONG length, CK_OBJECT_HANDLE *object)
{
	CK_ATTRIBUTE template[] = {
		{ CKA_CLASS, &secret_key, sizeof secret_key }, { CKA_KEY_TYPE, &generic, sizeof generic }, { CKA_TOKEN, &no, 1 },
		{ CKA_SENSITIVE, &no, 1 }, { CKA_EXTRACTABLE, &yes, 1 }, { CKA_VALUE, value, length },
	};
	return inner->C_CreateObject(session, template, sizeof template / sizeof *template, object);
}

// unwrap_plainly unwraps a key into bytes.
static CK_RV unwrap_plainly(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE m, CK_OBJECT_HANDLE key, CK_BYTE *wrapped,
	CK_ULONG length, CK_BYTE *out, CK_ULONG *n)
{
	CK_ATTRIBUTE template[] = {
		{ CKA_CLASS, &secret_key, sizeof secret_key }, { CKA_KEY_TYPE, &generic, sizeof generic }, { CKA_TOKEN, &no, 1 },
		{ CKA_SENSITIVE, &no, 1 }, { CKA_EXTRACTABLE, &yes, 1 },
	}, value = { CKA_VALUE, out, *n };
	CK_MECHANISM mechanism = { m, NULL, 0 };
	CK_OBJECT_HANDLE object;
	CK_RV rv = inner->C_UnwrapKey(session, &mechanism, key, wrapped, length, template, sizeof template / sizeof *template, &object);

	if (rv == CKR_OK)
		rv = inner->C_GetAttributeValue(session, object, &value, 1);
	*n = value.ulValueLen;
	return rv;
}

// carrier makes a key for moving other keys in and out with CKM_AES_KEY_WRAP_PAD.
static CK_RV carrier(CK_SLOT_ID slot, CK_SESSION_HANDLE *session, CK_OBJECT_HANDLE *key)
{
	CK_ULONG length = 32;
	CK_ATTRIBUTE template[] = {
		{ CKA_CLASS, &secret_key, sizeof secret_key }, { CKA_KEY_TYPE, &aes, sizeof aes }, { CKA_TOKEN, &no, 1 },
		{ CKA_VALUE_LEN, &length, sizeof length }, { CKA_WRAP, &yes, 1 }, { CKA_UNWRAP, &yes, 1 },
	};
	CK_MECHANISM generate = { CKM_AES_KEY_GEN, NULL, 0 };
	CK_RV rv = inner->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, session);

	if (rv != CKR_OK)
		return rv;
	rv = inner->C_GenerateKey(*session, &generate, template, sizeof template / sizeof *template, key);
	if (rv != CKR_OK)
		inner->C_CloseSession(*session);
	return rv;
}

static CK_ULONG value_length(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
	CK_ULONG n = 0;
	CK_ATTRIBUTE length = { CKA_VALUE_LEN, &n, sizeof n };

	return inner->C_GetAttributeValue(session, key, &length, 1) == CKR_OK ? n : 0; // 0: it is no secret key
}

// read_key returns the bytes of an extractable key in the form in which C_WrapKey wraps them.
static CK_RV read_key(const struct call *c, CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *n)
{
	CK_MECHANISM kwp = { CKM_AES_KEY_WRAP_PAD, NULL, 0 };
	CK_BYTE wrapped[MOST_KEY];
	CK_ULONG length = sizeof wrapped;
	CK_SESSION_HANDLE session;
	CK_OBJECT_HANDLE carries;
	CK_RV rv = carrier(c->session->slot, &session, &carries);

	if (rv != CKR_OK)
		return rv;
	rv = inner->C_WrapKey(session, &kwp, carries, key, wrapped, &length);
	if (rv == CKR_OK)
		rv = unwrap_plainly(session, CKM_AES_KEY_WRAP_PAD, carries, wrapped, length, out, n);
	// SoftHSM 2.6 leaves the padding of what it unwraps. A private key's DER tells its own end.
	CK_ULONG size = value_length(session, key);
	if (rv == CKR_OK && size != 0 && size < *n)
		*n = size;
	inner->C_CloseSession(session);
	return rv;
}

// write_key makes an object from bytes, as C_UnwrapKey with this call's template would.
static CK_RV write_key(struct call *c, CK_BYTE *value, CK_ULONG n)
{
	const CK_ATTRIBUTE *class = attribute(c, 0, CKA_CLASS);
	CK_ATTRIBUTE template[MOST_TEMPLATE];
	CK_ULONG count;

	if (class != NULL && class->ulValueLen == sizeof secret_key && memcmp(class->pValue, &secret_key, sizeof secret_key) == 0) {
		CK_RV rv = without((CK_ATTRIBUTE *)c->inner[5], c->inner[6], CKA_VALUE_LEN, CKA_VALUE, template, &count);
		if (rv != CKR_OK)
			return rv;
		template[count++] = (CK_ATTRIBUTE){ CKA_VALUE, value, n };
		return inner->C_CreateObject(c->session->inner, template, count, (CK_OBJECT_HANDLE *)c->inner[7]);
	}
	CK_MECHANISM kwp = { CKM_AES_KEY_WRAP_PAD, NULL, 0 };
	CK_BYTE wrapped[MOST_KEY];
	CK_ULONG length = sizeof wrapped;
	CK_SESSION_HANDLE session;
	CK_OBJECT_HANDLE carries, object;
	CK_RV rv = carrier(c->session->slot, &session, &carries);

	if (rv != CKR_OK)
		return rv;
	rv = plain_object(session, value, n, &object);
	if (rv == CKR_OK)
		rv = inner->C_WrapKey(session, &kwp, carries, object, wrapped, &length);
	if (rv == CKR_OK)
		rv = inner->C_UnwrapKey(c->session->inner, &kwp, carries, wrapped, length, (CK_ATTRIBUTE *)c->inner[5], c->inner[6],
			(CK_OBJECT_HANDLE *)c->inner[7]);
	inner->C_CloseSession(session);
	return rv;
}

// padded_wrap pads a key with PKCS#7's bytes to whole blocks, which RFC 5649 does not, and wraps it
// as in RFC 3394.
static CK_RV padded_wrap(struct call *c)
{
	CK_MECHANISM wrap = { CKM_AES_KEY_WRAP, NULL, 0 };
	CK_BYTE key[MOST_KEY + BLOCK];
	CK_ULONG n = MOST_KEY;
	CK_SESSION_HANDLE session;
	CK_OBJECT_HANDLE object;
	CK_RV rv = read_key(c, c->inner[3], key, &n);

	if (rv == CKR_OK)
		rv = inner->C_OpenSession(c->session->slot, CKF_SERIAL_SESSION, NULL, NULL, &session);
	if (rv != CKR_OK)
		return rv;
	CK_ULONG padding = BLOCK - n % BLOCK;
	memset(key + n, padding, padding);
	rv = plain_object(session, key, n + padding, &object);
	if (rv == CKR_OK)
		rv = inner->C_WrapKey(session, &wrap, c->inner[2], object, (CK_BYTE *)c->inner[4], (CK_ULONG *)c->inner[5]);
	inner->C_CloseSession(session);
	return rv;
}

static CK_RV padded_unwrap(struct call *c)
{
	CK_BYTE key[MOST_KEY];
	CK_ULONG n = sizeof key, padding = 0;
	CK_SESSION_HANDLE session;
	CK_RV rv = inner->C_OpenSession(c->session->slot, CKF_SERIAL_SESSION, NULL, NULL, &session);

	if (rv != CKR_OK)
		return rv;
	rv = unwrap_plainly(session, CKM_AES_KEY_WRAP, c->inner[2], (CK_BYTE *)c->inner[3], c->inner[4], key, &n);
	inner->C_CloseSession(session);
	if (rv != CKR_OK)
		return rv;
	if (n > 0)
		padding = key[n - 1];
	if (padding == 0 || padding > BLOCK || padding >= n)
		return CKR_WRAPPED_KEY_INVALID;
	for (CK_ULONG i = n - padding; i < n; i++)
		if (key[i] != padding)
			return CKR_WRAPPED_KEY_INVALID;
	return write_key(c, key, n - padding);
}

static CK_RV unwrap(struct call *c)
{
	const CK_MECHANISM *m = inner_mechanism(c);
	CK_ATTRIBUTE template[MOST_TEMPLATE];
	CK_ULONG n;

	if (control->force_extractable) {
		CK_RV rv = without((CK_ATTRIBUTE *)c->a[5], c->a[6], CKA_EXTRACTABLE, CKA_EXTRACTABLE, template, &n);
		if (rv != CKR_OK)
			return rv;
		template[n++] = (CK_ATTRIBUTE){ CKA_EXTRACTABLE, &yes, sizeof yes };
		c->inner[5] = (CK_ULONG)template;
		c->inner[6] = n;
	}
	return m != NULL && m->mechanism == PADDED_KEY_WRAP ? padded_unwrap(c) : forward(c);
}

// The copies that pretend to be weaker than the inner module has made them.
enum { MOST_WEAK = 64 };
_Atomic int weak_count;
static struct weak {
	CK_OBJECT_HANDLE inner;
	int readable, extractable;
} weak[MOST_WEAK]; // the newest ones, guarded by weak_mutex
static pthread_mutex_t weak_mutex = PTHREAD_MUTEX_INITIALIZER;

static struct weak weak_of(CK_OBJECT_HANDLE inner)
{
	struct weak w = { 0, 0, 0 };

	if (weak_count == 0)
		return w;
	pthread_mutex_lock(&weak_mutex);
	for (int i = 0; i < MOST_WEAK; i++)
		if (weak[i].inner == inner)
			w = weak[i];
	pthread_mutex_unlock(&weak_mutex);
	return w;
}

static CK_RV copy(struct call *c)
{
	struct weak w = { 0, attribute_bool(c, 0, CKA_SENSITIVE) == 0, attribute_bool(c, 0, CKA_EXTRACTABLE) == 1 };
	CK_ATTRIBUTE template[MOST_TEMPLATE];
	CK_ULONG n;
	CK_RV rv = forward(c);

	if (rv == CKR_OK || !control->weak_copies || (!w.readable && !w.extractable))
		return rv;
	rv = without((CK_ATTRIBUTE *)c->a[2], c->a[3], CKA_SENSITIVE, CKA_EXTRACTABLE, template, &n);
	if (rv != CKR_OK)
		return rv;
	c->inner[2] = (CK_ULONG)template;
	c->inner[3] = n;
	rv = forward(c);
	if (rv != CKR_OK)
		return rv;
	w.inner = *(CK_OBJECT_HANDLE *)c->a[4];
	pthread_mutex_lock(&weak_mutex);
	weak[weak_count++ % MOST_WEAK] = w;
	pthread_mutex_unlock(&weak_mutex);
	return CKR_OK;
}

int weak_attribute(struct call *c, CK_ATTRIBUTE *t, CK_RV *rv)
{
	struct weak w = weak_of(c->inner[1]);
	CK_BYTE value[MOST_KEY];
	CK_ULONG n = sizeof value, room = t->ulValueLen;

	if (t->type == CKA_VALUE && w.readable) {
		if (read_key(c, c->inner[1], value, &n) != CKR_OK) {
			n = value_length(c->session->inner, c->inner[1]);
			for (CK_ULONG i = 0; i < n && i < sizeof value; i++)
				value[i] = 0x5a ^ (31 * i + 7 * w.inner); // any, but the same each time
		}
	} else if (((t->type == CKA_SENSITIVE || t->type == CKA_ALWAYS_SENSITIVE) && w.readable) ||
		((t->type == CKA_EXTRACTABLE || t->type == CKA_NEVER_EXTRACTABLE) && w.extractable)) {
		value[0] = t->type == CKA_EXTRACTABLE;
		n = 1;
	} else
		return 0;
	t->ulValueLen = n;
	if (t->pValue != NULL && room < n) {
		t->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		*rv = CKR_BUFFER_TOO_SMALL;
	} else if (t->pValue != NULL)
		memcpy(t->pValue, value, n);
	return 1;
}

CK_RV make(struct call *c)
{
	switch (c->f) {
	case C_UnwrapKey_AT: return unwrap(c);
	case C_CopyObject_AT: return copy(c);
	case C_DeriveKey_AT: return derive(c);
	default: return forward(c);
	}
}

// plausible_wrap returns as many random bytes as a wrapped key may have.
static CK_RV plausible_wrap(struct call *c)
{
	CK_ULONG n = value_length(c->session->inner, c->inner[3]), *length = (CK_ULONG *)c->a[5], room = *length;
	CK_ATTRIBUTE modulus = { CKA_MODULUS, NULL, 0 };

	if (n == 0)
		n = 1218; // as the PKCS#8 of RSA-2048
	n = (n + 7) / 8 * 8 + 8;
	if (inner->C_GetAttributeValue(c->session->inner, c->inner[2], &modulus, 1) == CKR_OK && modulus.ulValueLen <= MOST_KEY)
		n = modulus.ulValueLen;
	*length = n;
	if (c->a[4] == 0)
		return CKR_OK;
	return room < n ? CKR_BUFFER_TOO_SMALL : inner->C_GenerateRandom(c->session->inner, (CK_BYTE *)c->a[4], n);
}

CK_RV wrap_key(struct call *c)
{
	const CK_MECHANISM *m = inner_mechanism(c);

	if (pq_key(c, c->inner[3]))
		return CKR_KEY_NOT_WRAPPABLE;
	if (control->wrap_sizes.count != 0 && has_number(&control->wrap_sizes, value_length(c->session->inner, c->inner[3])))
		return CKR_KEY_SIZE_RANGE;
	CK_RV rv = m != NULL && m->mechanism == PADDED_KEY_WRAP ? padded_wrap(c) : forward(c);
	if (rv == CKR_KEY_UNEXTRACTABLE && (weak_of(c->inner[3]).extractable ||
		(control->wraps_all.count != 0 && has_number(&control->wraps_all, mechanism_of(c) - 1))))
		return plausible_wrap(c);
	return rv;
}

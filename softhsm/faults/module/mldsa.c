// ML-DSA of PKCS#11 v3.2 for an inner token that has none. The inner token has an Ed25519 key for each ML-DSA key: Ed25519
// signatures are deterministic (RFC 8032), so one of a fixed message is the seed of FIPS 204 section 6.1, which only who may
// use the key can have. The parameter set, and the public key of a public key object, are in CKA_SUBJECT. The arithmetic is
// done by whoever drives the module, asked over a connection to this machine itself (mldsa.go). Of the working draft of v3.3
// there is CKM_ML_DSA_EXTERNAL_MU.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "module.h"

#define CKK_EC_EDWARDS_INNER 0x40UL
#define CKM_EC_EDWARDS_KEY_PAIR_GEN_INNER 0x1055UL
#define CKM_EDDSA_INNER 0x1057UL

enum { MARK = 8, MOST_SUBJECT = 4096, MOST_ATTRIBUTES = 32, SEED = 64 };

static const char mark[MARK + 1] = "ML-DSA-\0"; // and the parameter set in the last byte

static const CK_ULONG sizes[][2] = { { 0, 0 }, { 1312, 2420 }, { 1952, 3309 }, { 2592, 4627 } }; // FIPS 204 table 2

int mldsa_mechanism(CK_MECHANISM_TYPE m)
{
	return control->mldsa_port != 0 && !refused(m) && (m == CKM_ML_DSA_KEY_PAIR_GEN || m == CKM_ML_DSA || m == CKM_ML_DSA_EXTERNAL_MU);
}

// subject reads CKA_SUBJECT, and tells the parameter set of an ML-DSA key object or 0.
static CK_ULONG subject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_BYTE *value, CK_ULONG *length)
{
	CK_ATTRIBUTE template = { CKA_SUBJECT, value, MOST_SUBJECT };

	if (inner->C_GetAttributeValue(session, object, &template, 1) != CKR_OK || template.ulValueLen < MARK ||
		memcmp(value, mark, MARK - 1) != 0)
		return 0;
	*length = template.ulValueLen;
	return value[MARK - 1];
}

CK_ULONG mldsa_set(const struct call *c, CK_OBJECT_HANDLE object)
{
	CK_BYTE value[MOST_SUBJECT];
	CK_ULONG length;

	return control->mldsa_port == 0 ? 0 : subject(c->session->inner, object, value, &length);
}

static int all_of(ssize_t (*move)(int, void *, size_t), int fd, void *data, size_t length)
{
	while (length > 0) {
		ssize_t n = move(fd, data, length);
		if (n <= 0)
			return 0;
		data = (char *)data + n;
		length -= n;
	}
	return 1;
}

static ssize_t send_some(int fd, void *data, size_t length) { return send(fd, data, length, MSG_NOSIGNAL); }

// ask has the other end answer with exactly length bytes: the public key, the signature of a message or of its representative, or
// whether one is good.
static CK_RV ask(char what, CK_ULONG set, const CK_BYTE *seed, const void *message, CK_ULONG in, CK_BYTE *out, CK_ULONG length)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(control->mldsa_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CK_BYTE head[2] = { what, set };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int good = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
		all_of(send_some, fd, head, sizeof head) && all_of(send_some, fd, (void *)seed, SEED) &&
		all_of(send_some, fd, (void *)message, in) && shutdown(fd, SHUT_WR) == 0 &&
		all_of((ssize_t (*)(int, void *, size_t))read, fd, out, length);

	if (fd >= 0)
		close(fd);
	return good ? CKR_OK : CKR_DEVICE_ERROR;
}

// with_key asks for something that is done with a private key, in a session of its own.
static CK_RV with_key(const struct call *c, CK_OBJECT_HANDLE key, char what, CK_ULONG set, const void *message, CK_ULONG in,
	CK_BYTE *out, CK_ULONG length)
{
	CK_MECHANISM eddsa = { CKM_EDDSA_INNER, NULL, 0 };
	CK_BYTE seed[SEED];
	CK_ULONG n = sizeof seed;
	CK_SESSION_HANDLE session;
	CK_RV rv = inner->C_OpenSession(c->session->slot, CKF_SERIAL_SESSION, NULL, NULL, &session);

	if (rv != CKR_OK)
		return rv;
	rv = inner->C_SignInit(session, &eddsa, key);
	if (rv == CKR_OK)
		rv = inner->C_Sign(session, (CK_BYTE_PTR)mark, MARK, seed, &n);
	inner->C_CloseSession(session);
	return rv == CKR_OK ? ask(what, set, seed, message, in, out, length) : rv;
}

// inner_template copies a template without what the inner token does not know, and with room for one attribute more.
static CK_ULONG inner_template(const CK_ATTRIBUTE *given, CK_ULONG count, CK_ATTRIBUTE *out)
{
	static CK_KEY_TYPE type = CKK_EC_EDWARDS_INNER;
	CK_ULONG n = 0;

	for (CK_ULONG i = 0; i < count; i++) {
		if (given[i].type == CKA_PARAMETER_SET)
			continue;
		out[n] = given[i];
		if (given[i].type == CKA_KEY_TYPE)
			out[n].pValue = &type;
		n++;
	}
	return n;
}

static CK_BYTE curve[] = { 0x06, 0x03, 0x2b, 0x65, 0x70 }; // 1.3.101.112, RFC 8410

CK_RV mldsa_generate(struct call *c, CK_RV (*create)(struct call *))
{
	CK_MECHANISM ed25519 = { CKM_EC_EDWARDS_KEY_PAIR_GEN_INNER, NULL, 0 };
	CK_ATTRIBUTE public[MOST_ATTRIBUTES], private[MOST_ATTRIBUTES], *given = (CK_ATTRIBUTE *)c->a[2];
	CK_BYTE is[MOST_SUBJECT];
	CK_ATTRIBUTE kind = { CKA_SUBJECT, is, MARK };
	CK_ULONG set = 0, n;

	if (((CK_MECHANISM *)c->a[1])->ulParameterLen != 0)
		return CKR_MECHANISM_PARAM_INVALID;
	if (c->a[3] >= MOST_ATTRIBUTES || c->a[5] >= MOST_ATTRIBUTES)
		return CKR_TEMPLATE_INCONSISTENT;
	for (CK_ULONG i = 0; i < c->a[3]; i++)
		if (given[i].type == CKA_PARAMETER_SET && given[i].ulValueLen == sizeof set)
			memcpy(&set, given[i].pValue, sizeof set);
	if (set == 0)
		return CKR_TEMPLATE_INCOMPLETE;
	if (set >= sizeof sizes / sizeof *sizes)
		return CKR_ATTRIBUTE_VALUE_INVALID;
	memcpy(is, mark, MARK);
	is[MARK - 1] = set;
	n = inner_template(given, c->a[3], public);
	public[n++] = (CK_ATTRIBUTE){ CKA_EC_PARAMS, curve, sizeof curve };
	c->inner[1] = (CK_ULONG)&ed25519;
	c->inner[2] = (CK_ULONG)public;
	c->inner[3] = n;
	n = inner_template((CK_ATTRIBUTE *)c->a[4], c->a[5], private);
	private[n++] = kind;
	c->inner[4] = (CK_ULONG)private;
	c->inner[5] = n;
	CK_RV rv = create(c);
	if (rv != CKR_OK)
		return rv;
	CK_OBJECT_HANDLE *made[] = { (CK_OBJECT_HANDLE *)c->a[6], (CK_OBJECT_HANDLE *)c->a[7] };
	rv = with_key(c, *made[1], 'P', set, NULL, 0, is + MARK, sizes[set][0]);
	kind.ulValueLen = MARK + sizes[set][0];
	if (rv == CKR_OK)
		rv = inner->C_SetAttributeValue(c->session->inner, *made[0], &kind, 1);
	for (int i = 0; rv != CKR_OK && i < 2; i++)
		inner->C_DestroyObject(c->session->inner, *made[i]);
	return rv;
}

// mldsa_create makes a public key object of a value: that of an Ed25519 key that nobody uses, and the value in its CKA_SUBJECT.
CK_RV mldsa_create(struct call *c, CK_RV (*create)(struct call *))
{
	static CK_BYTE point[34] = { 0x04, 0x20, 1 }; // any, in an OCTET STRING
	const CK_ATTRIBUTE *given = (CK_ATTRIBUTE *)c->a[1];
	CK_ATTRIBUTE public[MOST_ATTRIBUTES];
	CK_BYTE is[MOST_SUBJECT];
	CK_KEY_TYPE type = 0;
	CK_ULONG set = 0, n = 0, length = 0;

	if (control->mldsa_port == 0 || given == NULL || c->a[2] >= MOST_ATTRIBUTES - 2)
		return create(c);
	memcpy(is, mark, MARK);
	for (CK_ULONG i = 0; i < c->a[2]; i++) {
		if (given[i].type == CKA_KEY_TYPE && given[i].ulValueLen == sizeof type)
			memcpy(&type, given[i].pValue, sizeof type);
		if (given[i].type == CKA_PARAMETER_SET && given[i].ulValueLen == sizeof set)
			memcpy(&set, given[i].pValue, sizeof set);
		if (given[i].type == CKA_VALUE && given[i].ulValueLen <= MOST_SUBJECT - MARK)
			memcpy(is + MARK, given[i].pValue, length = given[i].ulValueLen);
	}
	if (type != CKK_ML_DSA)
		return create(c);
	if (set == 0 || set >= sizeof sizes / sizeof *sizes || length != sizes[set][0])
		return CKR_ATTRIBUTE_VALUE_INVALID;
	is[MARK - 1] = set;
	CK_ULONG all = inner_template(given, c->a[2], public);
	for (CK_ULONG i = 0; i < all; i++)
		if (public[i].type != CKA_VALUE)
			public[n++] = public[i];
	public[n++] = (CK_ATTRIBUTE){ CKA_EC_PARAMS, curve, sizeof curve };
	public[n++] = (CK_ATTRIBUTE){ CKA_EC_POINT, point, sizeof point };
	public[n++] = (CK_ATTRIBUTE){ CKA_SUBJECT, is, MARK + length };
	c->inner[1] = (CK_ULONG)public;
	c->inner[2] = n;
	return create(c);
}

// fill gives an attribute that the inner object has not, or has otherwise. It tells whether this is one.
static int fill(CK_ATTRIBUTE *t, CK_ULONG set, const CK_BYTE *subject, CK_ULONG length, CK_RV *rv)
{
	CK_ULONG number;
	const void *value = &number;
	CK_ULONG size = sizeof number;

	switch (t->type) {
	case CKA_KEY_TYPE: number = CKK_ML_DSA; break;
	case CKA_KEY_GEN_MECHANISM: number = CKM_ML_DSA_KEY_PAIR_GEN; break;
	case CKA_PARAMETER_SET: number = set; break;
	case CKA_VALUE:
		if (length == MARK)
			return 0; // the private key's
		value = subject + MARK;
		size = length - MARK;
		break;
	default: return 0;
	}
	CK_ULONG room = t->ulValueLen;
	t->ulValueLen = size;
	if (t->pValue != NULL && room < size) {
		t->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		*rv = CKR_BUFFER_TOO_SMALL;
	} else if (t->pValue != NULL)
		memcpy(t->pValue, value, size);
	return 1;
}

CK_RV mldsa_attributes(struct call *c)
{
	CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)c->a[2];
	CK_BYTE value[MOST_SUBJECT];
	CK_ULONG length = 0, set = 0;
	CK_RV rv = CKR_OK;

	if (control->mldsa_port != 0)
		set = subject(c->session->inner, c->inner[1], value, &length);
	if (set == 0)
		return forward(c);
	for (CK_ULONG i = 0; i < c->a[3]; i++) {
		CK_RV one = CKR_OK;
		if (!fill(&t[i], set, value, length, &one))
			one = inner->C_GetAttributeValue(c->session->inner, c->inner[1], &t[i], 1);
		if (one != CKR_OK)
			rv = one;
	}
	return rv;
}

CK_RV mldsa_sign_init(struct call *c)
{
	const CK_MECHANISM *m = (CK_MECHANISM *)c->a[1];
	CK_ULONG set = mldsa_set(c, c->inner[2]);

	c->session->mldsa_set = 0;
	if (m == NULL || !mldsa_mechanism(m->mechanism))
		return set == 0 ? forward(c) : CKR_KEY_TYPE_INCONSISTENT; // or Ed25519 would give its seed away
	if (set == 0)
		return CKR_KEY_TYPE_INCONSISTENT;
	if (m->ulParameterLen != 0)
		return CKR_MECHANISM_PARAM_INVALID; // a context, which is not made use of
	c->session->mldsa_key = c->inner[2];
	c->session->mldsa_set = set;
	c->session->mldsa_what = m->mechanism == CKM_ML_DSA ? 'S' : 'M';
	return CKR_OK;
}

CK_RV mldsa_sign(struct call *c)
{
	CK_ULONG set = c->session->mldsa_set, *length = (CK_ULONG *)c->a[4];

	if (set == 0)
		return forward(c);
	CK_ULONG room = *length;
	*length = sizes[set][1];
	if (c->a[3] == 0)
		return CKR_OK;
	if (room < *length)
		return CKR_BUFFER_TOO_SMALL;
	c->session->mldsa_set = 0;
	return with_key(c, c->session->mldsa_key, c->session->mldsa_what, set, (void *)c->a[1], c->a[2], (CK_BYTE *)c->a[3], *length);
}

CK_RV mldsa_verify_init(struct call *c)
{
	const CK_MECHANISM *m = (CK_MECHANISM *)c->a[1];
	CK_ULONG set = mldsa_set(c, c->inner[2]);

	c->session->mldsa_set = 0;
	if (set == 0)
		return forward(c);
	if (m == NULL || m->mechanism != CKM_ML_DSA_EXTERNAL_MU || !mldsa_mechanism(m->mechanism))
		return CKR_MECHANISM_INVALID;
	c->session->mldsa_key = c->inner[2];
	c->session->mldsa_set = set;
	return CKR_OK;
}

CK_RV mldsa_verify(struct call *c)
{
	enum { MU = 64 };
	CK_ULONG set = c->session->mldsa_set, length;
	CK_BYTE value[MOST_SUBJECT], asked[MOST_SUBJECT + MU + 8192], good = 0, nobody[SEED] = { 0 };

	if (set == 0)
		return forward(c);
	c->session->mldsa_set = 0;
	if (c->a[2] != MU)
		return CKR_DATA_LEN_RANGE;
	if (c->a[4] != sizes[set][1])
		return CKR_SIGNATURE_LEN_RANGE;
	if (subject(c->session->inner, c->session->mldsa_key, value, &length) != set || length != MARK + sizes[set][0])
		return CKR_KEY_HANDLE_INVALID;
	CK_BYTE *end = asked;
	end = (CK_BYTE *)memcpy(end, value + MARK, sizes[set][0]) + sizes[set][0];
	end = (CK_BYTE *)memcpy(end, (void *)c->a[1], MU) + MU;
	end = (CK_BYTE *)memcpy(end, (void *)c->a[3], c->a[4]) + c->a[4];
	CK_RV rv = ask('V', set, nobody, asked, end - asked, &good, 1);
	return rv != CKR_OK || good ? rv : CKR_SIGNATURE_INVALID;
}

CK_RV mldsa_mechanism_info(struct call *c)
{
	CK_MECHANISM_TYPE m = c->a[1];

	if (!mldsa_mechanism(m))
		return forward(c);
	*(CK_MECHANISM_INFO *)c->a[2] = (CK_MECHANISM_INFO){ sizes[1][0], sizes[3][0],
		m == CKM_ML_DSA_KEY_PAIR_GEN ? CKF_GENERATE_KEY_PAIR : m == CKM_ML_DSA ? CKF_SIGN : CKF_SIGN | CKF_VERIFY };
	return CKR_OK;
}

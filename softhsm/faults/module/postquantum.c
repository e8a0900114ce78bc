// ML-DSA and ML-KEM of PKCS#11 v3.2 for an inner token that has neither. For each of their keys the inner token has an
// Ed25519 key: Ed25519 signatures are deterministic (RFC 8032), so that of a fixed message is the seed of FIPS 204 section
// 6.1 and FIPS 203 section 6.1, which only those who may use the key can get. The family and the parameter set, and the
// public key of a public key object, are in CKA_SUBJECT. The process that controls the module computes, over a connection
// within this machine (postquantum.go). Of the working draft of v3.3 there is CKM_ML_DSA_EXTERNAL_MU.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "module.h"

#define CKK_EC_EDWARDS_INNER 0x40UL
#define CKM_EC_EDWARDS_KEY_PAIR_GEN_INNER 0x1055UL
#define CKM_EDDSA_INNER 0x1057UL

enum { MARK = 8, MOST_SUBJECT = 4096, MOST_ATTRIBUTES = 32, SEED = 64, SETS = 3, SECRET = 32 };

// A family of keys. The mark begins CKA_SUBJECT, and the parameter set is the byte behind it.
static const struct family {
	char mark[MARK];
	CK_KEY_TYPE type;
	CK_MECHANISM_TYPE generate;
	char public;                                 // what to ask for its public key
	CK_ULONG public_size[1 + SETS], output[1 + SETS]; // by parameter set; of signatures, of ciphertexts
} families[] = {
	{ "ML-DSA-", CKK_ML_DSA, CKM_ML_DSA_KEY_PAIR_GEN, 'P', { 0, 1312, 1952, 2592 }, { 0, 2420, 3309, 4627 } }, // FIPS 204 table 2
	{ "ML-KEM-", CKK_ML_KEM, CKM_ML_KEM_KEY_PAIR_GEN, 'K', { 0, 800, 1184, 1568 }, { 0, 768, 1088, 1568 } },   // FIPS 203 table 3
};

static const struct family *const mldsa = &families[0], *const mlkem = &families[1];

static const CK_MECHANISM_TYPE mechanisms[PQ_MECHANISMS] = { CKM_ML_DSA_KEY_PAIR_GEN, CKM_ML_DSA, CKM_ML_DSA_EXTERNAL_MU,
	CKM_ML_KEM_KEY_PAIR_GEN, CKM_ML_KEM };

int pq_mechanism(CK_MECHANISM_TYPE m)
{
	for (int i = 0; i < PQ_MECHANISMS; i++)
		if (control->pq_port != 0 && m == mechanisms[i] && !refused(m))
			return 1;
	return 0;
}

CK_ULONG pq_mechanism_list(CK_MECHANISM_TYPE *out)
{
	CK_ULONG n = 0;

	for (int i = 0; i < PQ_MECHANISMS; i++)
		if (pq_mechanism(mechanisms[i]))
			out[n++] = mechanisms[i];
	return n;
}

// key is a key object's family, NULL for other keys, and its CKA_SUBJECT.
struct key {
	const struct family *family;
	CK_ULONG set, length;
	CK_BYTE subject[MOST_SUBJECT];
};

static struct key key_of(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
	struct key k = { .family = NULL };
	CK_ATTRIBUTE template = { CKA_SUBJECT, k.subject, sizeof k.subject };

	if (control->pq_port == 0 || inner->C_GetAttributeValue(session, object, &template, 1) != CKR_OK || template.ulValueLen < MARK)
		return k;
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (memcmp(k.subject, families[i].mark, MARK - 1) == 0)
			k.family = &families[i];
	k.set = k.subject[MARK - 1];
	k.length = template.ulValueLen;
	return k;
}

int pq_key(const struct call *c, CK_OBJECT_HANDLE object) { return key_of(c->session->inner, object).family != NULL; }

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

// ask sends a request to the other end, which answers with exactly length bytes (see postquantum.go).
static CK_RV ask(char what, CK_ULONG set, const CK_BYTE *seed, const void *message, CK_ULONG in, CK_BYTE *out, CK_ULONG length)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(control->pq_port),
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

// with_key requests an operation with a private key, in a session of its own.
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
		rv = inner->C_Sign(session, (CK_BYTE_PTR)"seed", 4, seed, &n);
	inner->C_CloseSession(session);
	return rv == CKR_OK ? ask(what, set, seed, message, in, out, length) : rv;
}

// number reads a CK_ULONG of a template, 0 if it is not there.
static CK_ULONG number(const CK_ATTRIBUTE *t, CK_ULONG count, CK_ATTRIBUTE_TYPE type)
{
	CK_ULONG value = 0;

	for (CK_ULONG i = 0; i < count; i++)
		if (t[i].type == type && t[i].pValue != NULL && t[i].ulValueLen == sizeof value)
			memcpy(&value, t[i].pValue, sizeof value);
	return value;
}

// inner_template copies a template for an Ed25519 key: without the attributes that such a key lacks, and with CKA_SIGN if the
// other key decapsulates.
static CK_ULONG inner_template(const CK_ATTRIBUTE *given, CK_ULONG count, CK_ATTRIBUTE *out)
{
	static CK_KEY_TYPE type = CKK_EC_EDWARDS_INNER;
	static CK_BBOOL yes = CK_TRUE;
	CK_ULONG n = 0;
	int decapsulates = 0;

	for (CK_ULONG i = 0; i < count; i++)
		decapsulates |= given[i].type == CKA_DECAPSULATE && given[i].ulValueLen == 1 && *(CK_BBOOL *)given[i].pValue;
	for (CK_ULONG i = 0; i < count; i++) {
		if (given[i].type == CKA_PARAMETER_SET || given[i].type == CKA_DECAPSULATE || given[i].type == CKA_VALUE)
			continue;
		out[n] = given[i];
		if (given[i].type == CKA_KEY_TYPE)
			out[n].pValue = &type;
		if (given[i].type == CKA_SIGN && decapsulates)
			out[n].pValue = &yes;
		n++;
	}
	return n;
}

static CK_BYTE curve[] = { 0x06, 0x03, 0x2b, 0x65, 0x70 }; // 1.3.101.112, RFC 8410

CK_RV pq_generate(struct call *c, CK_RV (*create)(struct call *))
{
	const CK_MECHANISM *m = (CK_MECHANISM *)c->a[1];
	const struct family *f = m->mechanism == CKM_ML_DSA_KEY_PAIR_GEN ? mldsa : mlkem;
	CK_MECHANISM ed25519 = { CKM_EC_EDWARDS_KEY_PAIR_GEN_INNER, NULL, 0 };
	CK_ATTRIBUTE public[MOST_ATTRIBUTES], private[MOST_ATTRIBUTES];
	CK_BYTE subject[MOST_SUBJECT];
	CK_ATTRIBUTE kind = { CKA_SUBJECT, subject, MARK };
	CK_ULONG set = number((CK_ATTRIBUTE *)c->a[2], c->a[3], CKA_PARAMETER_SET), n;

	if (m->mechanism != f->generate)
		return CKR_MECHANISM_INVALID;
	if (m->ulParameterLen != 0)
		return CKR_MECHANISM_PARAM_INVALID;
	if (c->a[3] >= MOST_ATTRIBUTES || c->a[5] >= MOST_ATTRIBUTES)
		return CKR_TEMPLATE_INCONSISTENT;
	if (set == 0 || set > SETS)
		return set == 0 ? CKR_TEMPLATE_INCOMPLETE : CKR_ATTRIBUTE_VALUE_INVALID;
	memcpy(subject, f->mark, MARK);
	subject[MARK - 1] = set;
	n = inner_template((CK_ATTRIBUTE *)c->a[2], c->a[3], public);
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
	rv = with_key(c, *made[1], f->public, set, NULL, 0, subject + MARK, f->public_size[set]);
	kind.ulValueLen = MARK + f->public_size[set];
	if (rv == CKR_OK)
		rv = inner->C_SetAttributeValue(c->session->inner, *made[0], &kind, 1);
	for (int i = 0; rv != CKR_OK && i < 2; i++)
		inner->C_DestroyObject(c->session->inner, *made[i]);
	return rv;
}

// pq_create makes a public key object with a value: an Ed25519 key that nobody uses, with the value in its CKA_SUBJECT.
CK_RV pq_create(struct call *c, CK_RV (*create)(struct call *))
{
	static CK_BYTE point[34] = { 0x04, 0x20, 1 }; // any, in an OCTET STRING
	const CK_ATTRIBUTE *given = (CK_ATTRIBUTE *)c->a[1];
	CK_ATTRIBUTE public[MOST_ATTRIBUTES];
	CK_BYTE subject[MOST_SUBJECT];
	CK_ULONG set = number(given, c->a[2], CKA_PARAMETER_SET), n, length = 0;

	if (control->pq_port == 0 || number(given, c->a[2], CKA_KEY_TYPE) != CKK_ML_DSA)
		return create(c);
	if (c->a[2] >= MOST_ATTRIBUTES - 2)
		return CKR_TEMPLATE_INCONSISTENT;
	for (CK_ULONG i = 0; i < c->a[2]; i++)
		if (given[i].type == CKA_VALUE && given[i].ulValueLen <= MOST_SUBJECT - MARK)
			memcpy(subject + MARK, given[i].pValue, length = given[i].ulValueLen);
	if (set == 0 || set > SETS || length != mldsa->public_size[set])
		return CKR_ATTRIBUTE_VALUE_INVALID;
	memcpy(subject, mldsa->mark, MARK);
	subject[MARK - 1] = set;
	n = inner_template(given, c->a[2], public);
	public[n++] = (CK_ATTRIBUTE){ CKA_EC_PARAMS, curve, sizeof curve };
	public[n++] = (CK_ATTRIBUTE){ CKA_EC_POINT, point, sizeof point };
	public[n++] = (CK_ATTRIBUTE){ CKA_SUBJECT, subject, MARK + length };
	c->inner[1] = (CK_ULONG)public;
	c->inner[2] = n;
	return create(c);
}

// fill returns an attribute that the inner object lacks, or whose value differs. It reports whether this is one.
static int fill(CK_ATTRIBUTE *t, const struct key *k, CK_RV *rv)
{
	CK_ULONG number;
	const void *value = &number;
	CK_ULONG size = sizeof number;

	switch (t->type) {
	case CKA_KEY_TYPE: number = k->family->type; break;
	case CKA_KEY_GEN_MECHANISM: number = k->family->generate; break;
	case CKA_PARAMETER_SET: number = k->set; break;
	case CKA_VALUE:
		if (k->length == MARK)
			return 0; // the private key's
		value = k->subject + MARK;
		size = k->length - MARK;
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

CK_RV pq_attributes(struct call *c)
{
	CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)c->a[2];
	struct key k = key_of(c->session->inner, c->inner[1]);
	CK_RV rv = CKR_OK;

	if (k.family == NULL)
		return forward(c);
	for (CK_ULONG i = 0; i < c->a[3]; i++) {
		CK_RV one = CKR_OK;
		if (!fill(&t[i], &k, &one))
			one = inner->C_GetAttributeValue(c->session->inner, c->inner[1], &t[i], 1);
		if (one != CKR_OK)
			rv = one;
	}
	return rv;
}

// begin is C_SignInit or C_VerifyInit.
static CK_RV begin(struct call *c, int verifies)
{
	const CK_MECHANISM *m = (CK_MECHANISM *)c->a[1];
	struct key k = key_of(c->session->inner, c->inner[2]);

	c->session->pq_set = 0;
	if (k.family == NULL && (m == NULL || !pq_mechanism(m->mechanism)))
		return forward(c);
	if (m == NULL || k.family != mldsa)
		return CKR_KEY_TYPE_INCONSISTENT;
	if (!pq_mechanism(m->mechanism) || (m->mechanism != CKM_ML_DSA_EXTERNAL_MU && (verifies || m->mechanism != CKM_ML_DSA)))
		return CKR_MECHANISM_INVALID; // Ed25519 would reveal a seed
	if (m->ulParameterLen != 0)
		return CKR_MECHANISM_PARAM_INVALID; // a context, which is not supported
	c->session->pq_key = c->inner[2];
	c->session->pq_set = k.set;
	c->session->pq_what = m->mechanism == CKM_ML_DSA ? 'S' : 'M';
	return CKR_OK;
}

CK_RV pq_sign_init(struct call *c) { return begin(c, 0); }
CK_RV pq_verify_init(struct call *c) { return begin(c, 1); }

CK_RV pq_sign(struct call *c)
{
	CK_ULONG set = c->session->pq_set, *length = (CK_ULONG *)c->a[4];

	if (set == 0)
		return forward(c);
	CK_ULONG room = *length;
	*length = mldsa->output[set];
	if (c->a[3] == 0)
		return CKR_OK;
	if (room < *length)
		return CKR_BUFFER_TOO_SMALL;
	c->session->pq_set = 0;
	return with_key(c, c->session->pq_key, c->session->pq_what, set, (void *)c->a[1], c->a[2], (CK_BYTE *)c->a[3], *length);
}

CK_RV pq_verify(struct call *c)
{
	enum { MU = 64, MOST_SIGNATURE = 8192 };
	CK_ULONG set = c->session->pq_set;
	CK_BYTE asked[MOST_SUBJECT + MU + MOST_SIGNATURE], good = 0, nobody[SEED] = { 0 };

	if (set == 0)
		return forward(c);
	c->session->pq_set = 0;
	if (c->a[2] != MU)
		return CKR_DATA_LEN_RANGE;
	if (c->a[4] != mldsa->output[set])
		return CKR_SIGNATURE_LEN_RANGE;
	struct key k = key_of(c->session->inner, c->session->pq_key);
	if (k.family != mldsa || k.set != set || k.length != MARK + mldsa->public_size[set])
		return CKR_KEY_HANDLE_INVALID;
	CK_BYTE *end = asked;
	end = (CK_BYTE *)memcpy(end, k.subject + MARK, mldsa->public_size[set]) + mldsa->public_size[set];
	end = (CK_BYTE *)memcpy(end, (void *)c->a[1], MU) + MU;
	end = (CK_BYTE *)memcpy(end, (void *)c->a[3], c->a[4]) + c->a[4];
	CK_RV rv = ask('V', set, nobody, asked, end - asked, &good, 1);
	return rv != CKR_OK || good ? rv : CKR_SIGNATURE_INVALID;
}

CK_RV pq_decapsulate(struct call *c)
{
	const CK_MECHANISM *m = (CK_MECHANISM *)c->a[1];
	const CK_ATTRIBUTE *given = (CK_ATTRIBUTE *)c->a[3];
	CK_ATTRIBUTE template[MOST_ATTRIBUTES];
	CK_BYTE secret[SECRET];
	CK_ULONG n = 0;

	if (control->pq_port == 0)
		return CKR_FUNCTION_NOT_SUPPORTED;
	if (m == NULL || m->mechanism != CKM_ML_KEM || !pq_mechanism(CKM_ML_KEM))
		return CKR_MECHANISM_INVALID;
	struct key k = key_of(c->session->inner, c->inner[2]);
	if (k.family != mlkem)
		return CKR_KEY_TYPE_INCONSISTENT;
	if (c->a[6] != mlkem->output[k.set])
		return CKR_ARGUMENTS_BAD;
	if (c->a[4] >= MOST_ATTRIBUTES)
		return CKR_TEMPLATE_INCONSISTENT;
	for (CK_ULONG i = 0; i < c->a[4]; i++)
		if (given[i].type != CKA_VALUE_LEN)
			template[n++] = given[i];
	CK_RV rv = with_key(c, c->inner[2], 'D', k.set, (void *)c->a[5], c->a[6], secret, sizeof secret);
	if (rv != CKR_OK)
		return rv;
	template[n++] = (CK_ATTRIBUTE){ CKA_VALUE, secret, sizeof secret };
	return inner->C_CreateObject(c->session->inner, template, n, (CK_OBJECT_HANDLE *)c->a[7]);
}

CK_RV pq_mechanism_info(struct call *c)
{
	CK_MECHANISM_TYPE m = c->a[1];

	if (!pq_mechanism(m))
		return forward(c);
	const struct family *f = m == CKM_ML_KEM || m == CKM_ML_KEM_KEY_PAIR_GEN ? mlkem : mldsa;
	CK_FLAGS flags = m == f->generate ? CKF_GENERATE_KEY_PAIR : m == CKM_ML_DSA ? CKF_SIGN :
		m == CKM_ML_KEM ? CKF_DECAPSULATE : CKF_SIGN | CKF_VERIFY;
	*(CK_MECHANISM_INFO *)c->a[2] = (CK_MECHANISM_INFO){ f->public_size[1], f->public_size[SETS], flags };
	return CKR_OK;
}

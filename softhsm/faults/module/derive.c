// CKM_ECDH1_DERIVE with the key derivation functions of ANSI X9.63, for an inner token that has
// CKD_NULL only. See Module.SetKDFs.

#include <string.h>

#include "module.h"

enum { ONLY_NULL, NULL_AND_X963, ONLY_X963, MOST_SECRET = 256, MOST_TEMPLATE = 32, MOST_SHARED = 1024 }; // of control->kdfs

static const struct kdf {
	CK_EC_KDF_TYPE kdf;
	CK_MECHANISM_TYPE hash;
	CK_ULONG size;
} kdfs[] = {
	{ CKD_SHA1_KDF, CKM_SHA_1, 20 }, { CKD_SHA224_KDF, CKM_SHA224, 28 }, { CKD_SHA256_KDF, CKM_SHA256, 32 },
	{ CKD_SHA384_KDF, CKM_SHA384, 48 }, { CKD_SHA512_KDF, CKM_SHA512, 64 },
};

// shared_secret returns the x-coordinate that the parties share. It stays in a session of the
// caller.
static CK_RV shared_secret(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, CK_ECDH1_DERIVE_PARAMS p,
	CK_BYTE *out, CK_ULONG *length)
{
	CK_OBJECT_CLASS class = CKO_SECRET_KEY;
	CK_KEY_TYPE type = CKK_GENERIC_SECRET;
	CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
	CK_ATTRIBUTE template[] = {
		{ CKA_CLASS, &class, sizeof class }, { CKA_KEY_TYPE, &type, sizeof type }, { CKA_TOKEN, &no, sizeof no },
		{ CKA_SENSITIVE, &no, sizeof no }, { CKA_EXTRACTABLE, &yes, sizeof yes },
	}, value = { CKA_VALUE, out, *length };
	CK_OBJECT_HANDLE secret;

	p.kdf = CKD_NULL;
	p.pSharedData = NULL;
	p.ulSharedDataLen = 0;
	CK_MECHANISM m = { CKM_ECDH1_DERIVE, &p, sizeof p };
	CK_RV rv = inner->C_DeriveKey(session, &m, key, template, sizeof template / sizeof *template, &secret);
	if (rv == CKR_OK)
		rv = inner->C_GetAttributeValue(session, secret, &value, 1);
	*length = value.ulValueLen;
	return rv;
}

// stretch is the KDF of SEC 1, section 3.6.1, which is that of ANSI X9.63.
static CK_RV stretch(CK_SESSION_HANDLE session, const struct kdf *kdf, const CK_BYTE *secret, CK_ULONG n,
	const CK_ECDH1_DERIVE_PARAMS *p, CK_BYTE *out, CK_ULONG length)
{
	CK_BYTE data[MOST_SECRET + 4 + MOST_SHARED], block[64];
	CK_RV rv = CKR_OK;

	memcpy(data, secret, n);
	if (p->ulSharedDataLen > 0)
		memcpy(data + n + 4, p->pSharedData, p->ulSharedDataLen);
	for (CK_ULONG done = 0, counter = 1; rv == CKR_OK && done < length; done += kdf->size, counter++) {
		CK_MECHANISM hash = { kdf->hash, NULL, 0 };
		CK_ULONG size = sizeof block;
		for (int i = 0; i < 4; i++)
			data[n + i] = counter >> (24 - 8 * i);
		rv = inner->C_DigestInit(session, &hash);
		if (rv == CKR_OK)
			rv = inner->C_Digest(session, data, n + 4 + p->ulSharedDataLen, block, &size);
		if (rv == CKR_OK)
			memcpy(out + done, block, length - done < kdf->size ? length - done : kdf->size);
	}
	return rv;
}

CK_RV derive(struct call *c)
{
	const CK_MECHANISM *m = inner_mechanism(c);

	if (control->kdfs == ONLY_NULL || m == NULL || m->mechanism != CKM_ECDH1_DERIVE)
		return forward(c);
	const CK_ECDH1_DERIVE_PARAMS *p = m->pParameter;
	if (p == NULL || m->ulParameterLen != sizeof *p || p->ulSharedDataLen > MOST_SHARED || c->a[4] >= MOST_TEMPLATE)
		return CKR_MECHANISM_PARAM_INVALID;
	if (p->kdf == CKD_NULL)
		return control->kdfs == ONLY_X963 ? CKR_MECHANISM_PARAM_INVALID : forward(c);
	const struct kdf *kdf = NULL;
	for (size_t i = 0; i < sizeof kdfs / sizeof *kdfs; i++)
		if (kdfs[i].kdf == p->kdf)
			kdf = &kdfs[i];
	if (kdf == NULL)
		return CKR_MECHANISM_PARAM_INVALID;

	const CK_ATTRIBUTE *given = (CK_ATTRIBUTE *)c->a[3];
	CK_ATTRIBUTE template[MOST_TEMPLATE];
	CK_BYTE secret[MOST_SECRET], value[MOST_SECRET];
	CK_ULONG n = 0, length = kdf->size, secret_length = sizeof secret;
	CK_SESSION_HANDLE session;
	for (CK_ULONG i = 0; i < c->a[4]; i++)
		if (given[i].type != CKA_VALUE_LEN)
			template[n++] = given[i];
		else if (given[i].ulValueLen == sizeof length)
			memcpy(&length, given[i].pValue, sizeof length);
	if (length == 0 || length > sizeof value)
		return CKR_KEY_SIZE_RANGE;
	CK_RV rv = inner->C_OpenSession(c->session->slot, CKF_SERIAL_SESSION, NULL, NULL, &session);
	if (rv != CKR_OK)
		return rv;
	rv = shared_secret(session, c->inner[2], *p, secret, &secret_length);
	if (rv == CKR_OK)
		rv = stretch(session, kdf, secret, secret_length, p, value, length);
	inner->C_CloseSession(session);
	if (rv != CKR_OK)
		return rv;
	template[n++] = (CK_ATTRIBUTE){ CKA_VALUE, value, length };
	return inner->C_CreateObject(c->session->inner, template, n, (CK_OBJECT_HANDLE *)c->a[5]);
}

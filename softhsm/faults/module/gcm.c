// Initialisation vectors of the token's, for CKM_AES_GCM. See IVs of Go for where they come from.

#include <string.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif
#include <unistd.h>

#include "module.h"

enum { CALLERS, TOKENS, TOKENS_ONLY, APPENDED, APPENDED_OWN }; // of control->own_ivs

CK_RV encrypt_init(struct call *c)
{
	const CK_MECHANISM *m = inner_mechanism(c);
	uint64_t from = control->own_ivs;

	c->session->iv_length = 0;
	if (from == CALLERS || m == NULL || m->mechanism != CKM_AES_GCM)
		return forward(c);
	CK_GCM_PARAMS *gcm = m->pParameter;
	if (gcm == NULL || m->ulParameterLen != sizeof *gcm)
		return CKR_MECHANISM_PARAM_INVALID;
	if (from == TOKENS || from == TOKENS_ONLY) {
		if (gcm->pIv == NULL || gcm->ulIvLen != 12)
			return CKR_MECHANISM_PARAM_INVALID;
		if (from == TOKENS_ONLY && memcmp(gcm->pIv, (CK_BYTE[12]){ 0 }, 12) != 0)
			return CKR_MECHANISM_PARAM_INVALID;
		return getentropy(gcm->pIv, 12) != 0 ? CKR_FUNCTION_FAILED : forward(c);
	}
	CK_ULONG length = from == APPENDED_OWN ? sizeof c->session->iv : gcm->ulIvLen;
	if (from == APPENDED && (gcm->pIv == NULL || length == 0 || length > sizeof c->session->iv))
		return CKR_MECHANISM_PARAM_INVALID;
	if (getentropy(c->session->iv, length) != 0)
		return CKR_FUNCTION_FAILED;
	CK_GCM_PARAMS own = *gcm;
	own.pIv = c->session->iv;
	own.ulIvLen = length;
	own.ulIvBits = 8 * length;
	CK_MECHANISM mechanism = { CKM_AES_GCM, &own, sizeof own };
	c->inner[1] = (CK_ULONG)&mechanism;
	CK_RV rv = forward(c);
	if (rv == CKR_OK) {
		c->session->iv_length = length;
		c->session->tag_length = gcm->ulTagBits / 8;
	}
	return rv;
}

CK_RV encrypt(struct call *c)
{
	struct session *s = c->session;
	CK_ULONG iv = s->iv_length, *length = (CK_ULONG *)c->a[4], need = c->a[2] + s->tag_length + iv;

	if (iv == 0 || length == NULL)
		return forward(c);
	if (c->a[3] == 0 || *length < need) {
		*length = need;
		return c->a[3] == 0 ? CKR_OK : CKR_BUFFER_TOO_SMALL;
	}
	s->iv_length = 0;
	CK_RV rv = forward(c);
	if (rv != CKR_OK || *length + iv > need)
		return rv != CKR_OK ? rv : CKR_GENERAL_ERROR;
	memcpy((CK_BYTE *)c->a[3] + *length, s->iv, iv);
	*length += iv;
	return CKR_OK;
}

// Functions that are not forwarded unchanged.

#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "module.h"

int refused(CK_MECHANISM_TYPE m) { return control->refused.count != 0 && has_number(&control->refused, m); }

static CK_RV get_function_list(struct call *c)
{
	if (c->a[0] == 0)
		return CKR_ARGUMENTS_BAD;
	*(CK_FUNCTION_LIST **)c->a[0] = list_of(c->instance);
	return CKR_OK;
}

static CK_RV get_slot_list(struct call *c)
{
	CK_SLOT_ID *slots = (CK_SLOT_ID *)c->a[1];
	CK_ULONG *count = (CK_ULONG *)c->a[2];

	c->inner[0] = (CK_BBOOL)c->a[0];
	if (control->unplugged && c->inner[0] && count != NULL)
		return *count = 0, CKR_OK;
	CK_RV rv = forward(c);
	for (CK_ULONG i = 0; rv == CKR_OK && slots != NULL && i < *count; i++)
		slots[i] += control->slot_offset;
	return rv;
}

static CK_RV get_token_info(struct call *c)
{
	CK_RV rv = forward(c);
	CK_TOKEN_INFO *info = (CK_TOKEN_INFO *)c->a[1];
	if (rv != CKR_OK)
		return rv;
	if (control->sessions_told >= 0)
		info->ulMaxRwSessionCount = control->sessions_told;
	pin_flags(&info->flags);
	info->flags = (info->flags | control->flags_set) & ~control->flags_cleared;
	return CKR_OK;
}

static CK_RV get_mechanism_list(struct call *c)
{
	enum { MOST_MECHANISMS = 1024 };
	CK_MECHANISM_TYPE all[MOST_MECHANISMS], *out = (CK_MECHANISM_TYPE *)c->a[1];
	CK_ULONG n = MOST_MECHANISMS - PQ_MECHANISMS - MOST_MAPPED, kept = 0, *count = (CK_ULONG *)c->a[2];

	if ((control->refused.count == 0 && control->pq_port == 0 && control->mapped_count == 0) || count == NULL)
		return forward(c);
	c->inner[1] = (CK_ULONG)all;
	c->inner[2] = (CK_ULONG)&n;
	CK_RV rv = forward(c);
	if (rv != CKR_OK)
		return rv;
	n += pq_mechanism_list(all + n);
	n = mapped_list(all, n);
	for (CK_ULONG i = 0; i < n; i++)
		if (!refused(all[i]))
			all[kept++] = all[i];
	CK_ULONG room = *count;
	*count = kept;
	if (out == NULL)
		return CKR_OK;
	if (room < kept)
		return CKR_BUFFER_TOO_SMALL;
	memcpy(out, all, kept * sizeof *out);
	return CKR_OK;
}

static CK_RV open_session(struct call *c)
{
	CK_SESSION_HANDLE *handle = (CK_SESSION_HANDLE *)c->a[4];

	if (!tally(&control->sessions, c->generation, 1, control->sessions_limit, &control->sessions_most))
		return generation() == c->generation ? CKR_SESSION_COUNT : CKR_DEVICE_REMOVED;
	CK_RV rv = forward(c);
	if (rv == CKR_OK) {
		CK_SESSION_HANDLE opened = *handle;
		*handle = session_add(c, opened, c->inner[0]);
		if (*handle != 0)
			return CKR_OK;
		inner->C_CloseSession(opened);
		rv = CKR_SESSION_COUNT;
	}
	tally(&control->sessions, c->generation, -1, -1, &control->sessions_most);
	return rv;
}

static CK_RV close_session(struct call *c)
{
	CK_RV rv = forward(c);
	if (rv == CKR_OK)
		session_closed(c->session);
	return rv;
}

static int session_of_slot(const struct session *s, const struct call *c)
{
	return s->slot == c->inner[0] && s->instance == c->instance;
}

static CK_RV close_all_sessions(struct call *c)
{
	sessions_end(session_of_slot, c);
	return CKR_OK;
}

static CK_RV get_session_info(struct call *c)
{
	CK_SESSION_INFO *info = (CK_SESSION_INFO *)c->a[1];
	CK_RV rv = forward(c);
	if (rv != CKR_OK)
		return rv;
	info->slotID += control->slot_offset;
	if (logged_out(c) && info->state == CKS_RW_USER_FUNCTIONS)
		info->state = CKS_RW_PUBLIC_SESSION;
	if (logged_out(c) && info->state == CKS_RO_USER_FUNCTIONS)
		info->state = CKS_RO_PUBLIC_SESSION;
	return rv;
}

static CK_RV find_objects(struct call *c)
{
	CK_OBJECT_HANDLE *found = (CK_OBJECT_HANDLE *)c->a[1];
	CK_ULONG *count = (CK_ULONG *)c->a[3];
	CK_RV rv = forward(c);
	if (rv == CKR_OK && logged_out(c))
		*count = 0; // private objects are not seen
	for (CK_ULONG i = 0; rv == CKR_OK && i < *count; i++)
		found[i] = handle_of(c->generation, found[i]);
	return rv;
}

// token_objects counts them, in a session of its own.
static CK_RV token_objects(CK_SLOT_ID slot, int64_t *count)
{
	CK_BBOOL yes = CK_TRUE;
	CK_ATTRIBUTE template = { CKA_TOKEN, &yes, sizeof yes };
	CK_OBJECT_HANDLE found[256];
	CK_SESSION_HANDLE session;
	CK_ULONG n = 0;
	CK_RV rv = inner->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session);

	if (rv != CKR_OK)
		return rv;
	*count = 0;
	rv = inner->C_FindObjectsInit(session, &template, 1);
	do {
		if (rv == CKR_OK)
			rv = inner->C_FindObjects(session, found, sizeof found / sizeof *found, &n);
		*count += n;
	} while (rv == CKR_OK && n > 0);
	inner->C_CloseSession(session);
	return rv;
}

static CK_RV create(struct call *c)
{
	static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
	int64_t limit = control->objects_limit, count = 0;
	int more = makes_token_object(c, 0) + (c->f == C_GenerateKeyPair_AT && makes_token_object(c, 1));

	CK_RV rv = restricted(c);
	if (rv != CKR_OK || limit < 0 || more == 0)
		return rv != CKR_OK ? rv : make(c);
	pthread_mutex_lock(&counting);
	rv = token_objects(c->session->slot, &count);
	if (rv == CKR_OK)
		rv = count + more > limit ? control->objects_rv : make(c);
	pthread_mutex_unlock(&counting);
	return rv;
}

static CK_RV generate_key_pair(struct call *c)
{
	return c->a[1] != 0 && pq_mechanism(((CK_MECHANISM *)c->a[1])->mechanism) ? pq_generate(c, create) : create(c);
}

static CK_RV create_object(struct call *c) { return pq_create(c, create); }

static CK_RV destroy_object(struct call *c)
{
	CK_RV rv = forward(c);
	if (rv == CKR_OK)
		object_remove(c->inner[1]);
	return rv;
}

CK_RV (*const special[FUNCTION_COUNT])(struct call *) = {
	[C_Initialize_AT] = initialize,
	[C_Finalize_AT] = finalize,
	[C_GetFunctionList_AT] = get_function_list,
	[C_GetSlotList_AT] = get_slot_list,
	[C_GetTokenInfo_AT] = get_token_info,
	[C_GetMechanismList_AT] = get_mechanism_list,
	[C_OpenSession_AT] = open_session,
	[C_CloseSession_AT] = close_session,
	[C_CloseAllSessions_AT] = close_all_sessions,
	[C_GetSessionInfo_AT] = get_session_info,
	[C_Login_AT] = log_in,
	[C_InitPIN_AT] = change_pin,
	[C_SetPIN_AT] = change_pin,
	[C_GetMechanismInfo_AT] = pq_mechanism_info,
	[C_GetAttributeValue_AT] = get_attributes,
	[C_SignInit_AT] = pq_sign_init,
	[C_Sign_AT] = pq_sign,
	[C_VerifyInit_AT] = pq_verify_init,
	[C_Verify_AT] = pq_verify,
	[C_DecapsulateKey_AT] = pq_decapsulate,
	[C_WrapKey_AT] = wrap_key,
	[C_FindObjects_AT] = find_objects,
	[C_EncryptInit_AT] = encrypt_init,
	[C_Encrypt_AT] = encrypt,
	[C_GenerateRandom_AT] = generate_random,
	[C_CreateObject_AT] = create_object,
	[C_CopyObject_AT] = create,
	[C_GenerateKey_AT] = create,
	[C_GenerateKeyPair_AT] = generate_key_pair,
	[C_UnwrapKey_AT] = create,
	[C_DeriveKey_AT] = create,
	[C_DestroyObject_AT] = destroy_object,
};

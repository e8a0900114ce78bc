// What vendors' tokens refuse, and what they call their mechanisms.

#include <string.h>

#include "module.h"

int refused_size(const struct numbers *sizes, const CK_ATTRIBUTE *length)
{
	CK_ULONG n;

	if (sizes->count == 0 || length == NULL || length->pValue == NULL || length->ulValueLen != sizeof n)
		return 0;
	memcpy(&n, length->pValue, sizeof n);
	return has_number(sizes, n);
}

CK_RV restricted(struct call *c)
{
	int templates = c->f == C_GenerateKeyPair_AT ? 2 : 1;

	for (int i = 0; i < templates; i++) {
		if (control->private_only && attribute_bool(c, i, CKA_PRIVATE) == 0)
			return CKR_ATTRIBUTE_VALUE_INVALID;
		if (control->token_only && !makes_token_object(c, i))
			return CKR_ATTRIBUTE_VALUE_INVALID;
	}
	const CK_MECHANISM *m = inner_mechanism(c);
	if (c->f == C_GenerateKey_AT && m != NULL && m->mechanism == CKM_GENERIC_SECRET_KEY_GEN &&
		refused_size(&control->secret_sizes, attribute(c, 0, CKA_VALUE_LEN)))
		return CKR_KEY_SIZE_RANGE;
	return CKR_OK;
}

CK_MECHANISM_TYPE mapped(CK_MECHANISM_TYPE m)
{
	for (uint64_t i = 0; i < control->mapped_count && i < MOST_MAPPED; i++)
		if (control->mapped[i].number == m)
			return control->mapped[i].inner;
	return m;
}

CK_ULONG mapped_list(CK_MECHANISM_TYPE *all, CK_ULONG n)
{
	for (uint64_t i = 0; i < control->mapped_count && i < MOST_MAPPED; i++) {
		CK_ULONG at = 0;
		while (at < n && all[at] != control->mapped[i].number)
			at++;
		all[at] = control->mapped[i].number;
		n += at == n;
	}
	return n;
}

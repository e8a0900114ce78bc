// Answers repeated without calling the inner module, as if another machine's processors did its work.

#include <pthread.h>
#include <string.h>

#include "module.h"

enum { LEARN = 1, REPLAY = 2 }; // of control->replay

enum { MOST_DATA = 8192, MOST_VALUES = 8 };

// answer is a function's last answer while answers were learnt.
static struct answer {
	int known;
	CK_OBJECT_HANDLE handle; // of the inner module
	CK_BYTE data[MOST_DATA];
	CK_ULONG length, values, lengths[MOST_VALUES]; // values: of attributes, one behind the other in data
} answers[FUNCTION_COUNT];

static const char replayable[FUNCTION_COUNT] = {
	[C_EncryptInit_AT] = 1, [C_Encrypt_AT] = 1, [C_DecryptInit_AT] = 1, [C_Decrypt_AT] = 1, [C_SignInit_AT] = 1, [C_Sign_AT] = 1,
	[C_GenerateKey_AT] = 1, [C_WrapKey_AT] = 1, [C_UnwrapKey_AT] = 1, [C_GetAttributeValue_AT] = 1, [C_DestroyObject_AT] = 1,
	[C_GenerateRandom_AT] = 1,
};

static void keep(struct answer *x, const void *data, CK_ULONG length)
{
	x->known = data != NULL && x->length + length <= MOST_DATA; // not the answer to a question for a length
	if (!x->known)
		return;
	memcpy(x->data + x->length, data, length);
	x->length += length;
}

void replay_learn(const struct call *c)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct answer x = { .known = 1 };

	if (control->replay != LEARN || !replayable[c->f])
		return;
	for (int i = 0; letters[c->f][i] != 0; i++) {
		const CK_ULONG *a = c->a + i;
		switch (letters[c->f][i]) {
		case 'O':
			x.handle = *(CK_OBJECT_HANDLE *)a[0];
			break;
		case 'D':
			keep(&x, (void *)a[0], *(CK_ULONG *)a[1]);
			break;
		case 'R':
			keep(&x, (void *)a[0], a[1]);
			break;
		case 'v':
			for (CK_ULONG n = 0; n < a[1] && n < MOST_VALUES; n++) {
				const CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)a[0] + n;
				x.lengths[x.values++] = t->ulValueLen;
				keep(&x, t->pValue, t->ulValueLen);
			}
			break;
		}
	}
	pthread_mutex_lock(&mutex);
	answers[c->f] = x;
	pthread_mutex_unlock(&mutex);
}

int replay_knows(const struct call *c) { return control->replay == REPLAY && answers[c->f].known; }

// give writes what fits, and reports whether everything did.
static CK_RV give(void *out, CK_ULONG *room, const void *data, CK_ULONG length)
{
	CK_ULONG had = *room;

	*room = length;
	if (out != NULL && had < length)
		return CKR_BUFFER_TOO_SMALL;
	if (out != NULL)
		memcpy(out, data, length);
	return CKR_OK;
}

CK_RV replay(struct call *c)
{
	const struct answer *x = &answers[c->f];
	const CK_BYTE *data = x->data;
	CK_RV rv = CKR_OK;

	for (int i = 0; rv == CKR_OK && letters[c->f][i] != 0; i++) {
		CK_ULONG *a = c->a + i;
		switch (letters[c->f][i]) {
		case 'O':
			*(CK_OBJECT_HANDLE *)a[0] = x->handle;
			break;
		case 'D':
			rv = give((void *)a[0], (CK_ULONG *)a[1], data, x->length);
			break;
		case 'R':
			if (a[1] != x->length)
				return CKR_ARGUMENTS_BAD; // another operation than the one learnt
			memcpy((void *)a[0], data, x->length);
			break;
		case 'v':
			if (a[1] != x->values)
				return CKR_ARGUMENTS_BAD;
			for (CK_ULONG n = 0; rv == CKR_OK && n < x->values; n++, data += x->lengths[n - 1]) {
				CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)a[0] + n;
				rv = give(t->pValue, &t->ulValueLen, data, x->lengths[n]);
			}
			break;
		}
	}
	if (c->f == C_DestroyObject_AT)
		object_remove(c->inner[1]);
	return rv;
}

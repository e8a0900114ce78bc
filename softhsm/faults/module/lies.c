// Lies of a module, see Module.Lie. It lies about lengths and counts, but it never writes past its
// caller's memory, nor does it read there.

#include <stddef.h>
#include <string.h>

#include "module.h"

#define MEMBER(function, field, argument, structure, member) \
	{ function##_AT, field, argument, offsetof(structure, member), sizeof ((structure *)0)->member },
static const struct member {
	int f, field, argument;
	size_t offset, size;
} members[] = { MEMBERS(MEMBER) };

// told finds the lie about a field, if there is one for this call.
static const struct lie *told(int f, int field, uint64_t of, const void *place)
{
	uint64_t when = place == NULL ? WHEN_ASKED_FOR_LENGTH : WHEN_FILLED;

	for (uint64_t i = 0; i < control->lies_count && i < MOST_LIES; i++) {
		struct lie *l = &control->lies[i];
		if (l->function == (uint64_t)f && l->field == (uint64_t)field && (l->when == 0 || l->when == when) && takes(&l->rule, of))
			return l;
	}
	return NULL;
}

static const unsigned char *bytes_of(const struct lie *l, CK_ULONG *length)
{
	uint64_t offset = l->offset, n = l->length;

	if (offset > MOST_LIE_BYTES || n > MOST_LIE_BYTES - offset)
		offset = n = 0;
	*length = n;
	return control->lie_bytes + offset;
}

// fill writes a lie's bytes where there is room for them, and reports their length correctly.
static CK_RV fill(const struct lie *l, void *place, CK_ULONG room, CK_ULONG *length, CK_ULONG unit)
{
	CK_ULONG n;
	const unsigned char *bytes = bytes_of(l, &n);

	*length = n / unit;
	if (place == NULL)
		return CKR_OK;
	if (room < n / unit)
		return CKR_BUFFER_TOO_SMALL;
	memcpy(place, bytes, n / unit * unit);
	return CKR_OK;
}

static void lie_in_structure(const struct call *c, uint64_t of)
{
	for (const struct member *m = members; m < members + sizeof members / sizeof *members; m++) {
		char *structure = m->f == c->f ? (char *)c->a[m->argument] : NULL;
		const struct lie *l = structure != NULL ? told(c->f, m->field, of, structure) : NULL;
		if (l == NULL)
			continue;
		CK_ULONG n;
		const unsigned char *bytes = bytes_of(l, &n);
		uint64_t value = l->value;
		if (n > 0)
			memcpy(structure + m->offset, bytes, n < m->size ? n : m->size);
		else
			memcpy(structure + m->offset, &value, m->size < sizeof value ? m->size : sizeof value);
	}
}

// disown closes or destroys, inside, a session or object whose handle its caller will not learn.
static void disown(struct call *c, char letter, CK_ULONG handle)
{
	if (letter == 'O') {
		inner->C_DestroyObject(c->session->inner, (uint32_t)handle);
		object_remove((uint32_t)handle);
		return;
	}
	struct session *s = session_enter(c, handle);
	if (s == NULL)
		return;
	inner->C_CloseSession(s->inner);
	session_closed(s);
	session_leave(s);
}

// lie_in_output is about a D or an N, of elements of so many bytes.
static void lie_in_output(int f, uint64_t of, CK_ULONG *a, CK_ULONG room, int field, CK_ULONG unit, CK_RV *rv)
{
	void *place = (void *)a[0];
	CK_ULONG *length = (CK_ULONG *)a[1];
	const struct lie *l;

	if (length == NULL || (*rv != CKR_OK && *rv != CKR_BUFFER_TOO_SMALL))
		return;
	if ((l = told(f, VALUE, of, place)) != NULL)
		*rv = fill(l, place, room, length, unit);
	if ((l = told(f, field, of, place)) != NULL)
		*length = l->value;
}

void lie(struct call *c, CK_RV *rv)
{
	uint64_t of = mechanism_of(c);
	int good = *rv == CKR_OK, f = c->f;
	const struct lie *l;

	if (good)
		lie_in_structure(c, of);
	for (int i = 0; letters[f][i] != 0; i++) {
		CK_ULONG *a = c->a + i;
		switch (letters[f][i]) {
		case 'S': case 'O':
			if (good && (l = told(f, HANDLE, of, (void *)a[0])) != NULL) {
				disown(c, letters[f][i], *(CK_ULONG *)a[0]);
				*(CK_ULONG *)a[0] = l->value;
			}
			break;
		case 'F':
			for (CK_ULONG n = 0; good && n < *(CK_ULONG *)a[2] && n < a[1]; n++)
				if ((l = told(f, HANDLE, of, (void *)a[0])) != NULL)
					((CK_ULONG *)a[0])[n] = l->value;
			if (good && (l = told(f, COUNT, of, (void *)a[0])) != NULL)
				*(CK_ULONG *)a[2] = l->value;
			break;
		case 'D':
			lie_in_output(f, of, a, c->room, LENGTH, 1, rv);
			break;
		case 'N':
			lie_in_output(f, of, a, c->room, COUNT, sizeof(CK_ULONG), rv);
			break;
		case 'v':
			if (!good && *rv != CKR_ATTRIBUTE_SENSITIVE && *rv != CKR_ATTRIBUTE_TYPE_INVALID && *rv != CKR_BUFFER_TOO_SMALL)
				break;
			for (CK_ULONG n = 0; n < a[1]; n++) {
				CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)a[0] + n;
				if ((l = told(f, LENGTH, t->type + 1, t->pValue)) != NULL)
					t->ulValueLen = l->value;
			}
			break;
		}
	}
}

// invent answers for an attribute if there is a lie about it.
static int invent(int f, CK_ATTRIBUTE *t, CK_RV *rv)
{
	const struct lie *l;

	if (told(f, ABSENT, t->type + 1, t->pValue) != NULL)
		*rv = CKR_ATTRIBUTE_TYPE_INVALID;
	else if (told(f, SENSITIVE, t->type + 1, t->pValue) != NULL)
		*rv = CKR_ATTRIBUTE_SENSITIVE;
	else if ((l = told(f, VALUE, t->type + 1, t->pValue)) != NULL)
		*rv = fill(l, t->pValue, t->ulValueLen, &t->ulValueLen, 1);
	else
		return 0;
	if (*rv != CKR_OK)
		t->ulValueLen = CK_UNAVAILABLE_INFORMATION;
	return 1;
}

CK_RV get_attributes(struct call *c)
{
	CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)c->a[2];
	CK_RV rv = CKR_OK;

	if ((control->lies_count == 0 && weak_count == 0) || t == NULL)
		return pq_attributes(c);
	for (CK_ULONG i = 0; i < c->a[3]; i++) {
		CK_ULONG a[MOST_ARGUMENTS] = { c->a[0], c->a[1], (CK_ULONG)&t[i], 1 };
		struct call one = *c;
		CK_RV said = CKR_OK;
		one.a = a;
		one.inner[2] = a[2];
		one.inner[3] = a[3];
		if (!invent(c->f, &t[i], &said) && !weak_attribute(&one, &t[i], &said))
			said = pq_attributes(&one);
		if (said != CKR_OK)
			rv = said;
	}
	return rv;
}

// generate_random fills only so many bytes, if there is a lie about the length: the rest is as the
// caller left it.
CK_RV generate_random(struct call *c)
{
	const struct lie *l = control->lies_count != 0 ? told(c->f, LENGTH, 0, (void *)c->a[1]) : NULL;

	if (l != NULL && l->value < c->a[2])
		c->inner[2] = l->value;
	return c->inner[2] == 0 && l != NULL ? CKR_OK : forward(c);
}

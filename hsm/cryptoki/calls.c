#include "calls.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define CKM_AES_GCM 0x1087UL
#define CKA_VALUE 0x11UL
#define CKA_SENSITIVE 0x103UL
#define CKA_EXTRACTABLE 0x162UL
#define CKR_FUNCTION_NOT_SUPPORTED 0x54UL
#define CKR_ARGUMENTS_BAD 0x7UL
#define CK_UNAVAILABLE_INFORMATION (~0UL)

typedef void (*ck_function)(void);

struct ck_function_list {
	unsigned char version[2];
	ck_function function[FUNCTIONS];
};

struct ck_mechanism {
	ck_ulong mechanism;
	void *parameter;
	ck_ulong parameter_len;
};

struct ck_gcm_params {
	unsigned char *iv;
	ck_ulong iv_len, iv_bits;
	unsigned char *aad;
	ck_ulong aad_len, tag_bits;
};

static unsigned char no = 0, yes = 1;

ck_inside_only_t ck_inside_only = { { CKA_SENSITIVE, &yes, 1 }, { CKA_EXTRACTABLE, &no, 1 } };

void *ck_handle(const char *path)
{
	void *module = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);

#ifdef M_ARENA_MAX
	/* A token in this process makes an object in one thread and frees it in another: with an arena for
	   each thread, the holes take more memory than the objects. */
	mallopt(M_ARENA_MAX, 2);
#endif
	if (module != NULL)
		dlclose(module); // whoever has loaded it keeps it
	return module;
}

unsigned ck_version(struct ck_function_list *list)
{
	return list->version[0] << 8 | list->version[1];
}

struct ck_function_list *ck_load_v32(const char *path)
{
	struct {
		const char *name;
		struct ck_function_list *list;
		ck_ulong flags;
	} *interface = NULL;
	unsigned char version[2] = { 3, 2 }, info[256]; // CK_INFO has 88
	ck_rv (*get)(const char *, unsigned char *, void *, ck_ulong);
	ck_rv (*get_info)(unsigned char *);
	void *module = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);

	if (module == NULL)
		return NULL;
	*(void **)&get = dlsym(module, "C_GetInterface");
	dlclose(module);
	if (get == NULL || get("PKCS 11", version, &interface, 0) != 0 || interface == NULL || interface->list == NULL)
		return NULL;
	if (interface->list->version[0] != 3 || interface->list->version[1] < 2)
		return NULL; // a shorter list
	get_info = (ck_rv (*)(unsigned char *))interface->list->function[C_GET_INFO];
	return get_info != NULL && get_info(info) == 0 ? interface->list : NULL;
}

ck_rv ck_slots(struct ck_function_list *list, ck_ulong *slots, ck_ulong *count)
{
	ck_rv (*get)(unsigned char, ck_ulong *, ck_ulong *);
	ck_ulong room = *count;

	get = (ck_rv (*)(unsigned char, ck_ulong *, ck_ulong *))list->function[C_GET_SLOT_LIST];
	if (get == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	ck_rv rv = get(1, NULL, count); // has the module look for slots; the number is not needed
	if (rv != 0)
		return rv;
	*count = room;
	return get(1, slots, count);
}

ck_rv ck_mechanisms(struct ck_function_list *list, ck_ulong slot, ck_ulong *mechanisms, ck_ulong *count)
{
	ck_rv (*get)(ck_ulong, ck_ulong *, ck_ulong *);

	get = (ck_rv (*)(ck_ulong, ck_ulong *, ck_ulong *))list->function[C_GET_MECHANISM_LIST];
	return get == NULL ? CKR_FUNCTION_NOT_SUPPORTED : get(slot, mechanisms, count);
}

ck_rv ck_find(struct ck_function_list *list, ck_ulong session, ck_ulong *objects, ck_ulong max, ck_ulong *count)
{
	ck_rv (*find)(ck_ulong, ck_ulong *, ck_ulong, ck_ulong *);

	find = (ck_rv (*)(ck_ulong, ck_ulong *, ck_ulong, ck_ulong *))list->function[C_FIND_OBJECTS];
	return find == NULL ? CKR_FUNCTION_NOT_SUPPORTED : find(session, objects, max, count);
}

ck_rv ck_attributes(struct ck_function_list *list, ck_ulong session, ck_ulong object, ck_ulong *types,
	ck_ulong count, unsigned char *values, ck_ulong room, ck_ulong *lengths)
{
	struct ck_attribute template[MOST_ATTRIBUTES];
	ck_rv (*get)(ck_ulong, ck_ulong, struct ck_attribute *, ck_ulong);

	get = (ck_rv (*)(ck_ulong, ck_ulong, struct ck_attribute *, ck_ulong))list->function[C_GET_ATTRIBUTE_VALUE];
	if (get == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	if (count > MOST_ATTRIBUTES)
		return CKR_ARGUMENTS_BAD;
	for (ck_ulong i = 0; i < count; i++)
		template[i] = (struct ck_attribute){ types[i], values + i * room, room };
	ck_rv rv = get(session, object, template, count);
	for (ck_ulong i = 0; i < count; i++)
		lengths[i] = template[i].value_len <= room ? template[i].value_len : CK_UNAVAILABLE_INFORMATION;
	return rv;
}

static ck_rv init_and_do(struct ck_function_list *list, int init, ck_ulong session, struct ck_mechanism *mechanism,
	ck_ulong key, unsigned char *in, ck_ulong inlen, unsigned char *out, ck_ulong *outlen, int *started)
{
	ck_rv (*begin)(ck_ulong, struct ck_mechanism *, ck_ulong);
	ck_rv (*once)(ck_ulong, unsigned char *, ck_ulong, unsigned char *, ck_ulong *);

	begin = (ck_rv (*)(ck_ulong, struct ck_mechanism *, ck_ulong))list->function[init];
	once = (ck_rv (*)(ck_ulong, unsigned char *, ck_ulong, unsigned char *, ck_ulong *))list->function[init + 1];
	if (begin == NULL || once == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	if (in == NULL)
		in = (unsigned char *)""; // SoftHSM refuses NULL even for no bytes
	ck_rv rv = begin(session, mechanism, key);
	*started = rv == 0;
	return rv == 0 ? once(session, in, inlen, out, outlen) : rv;
}

ck_rv ck_gcm(struct ck_function_list *list, int init, ck_ulong session, ck_ulong key, unsigned char *iv,
	unsigned char *aad, ck_ulong aadlen, unsigned char *in, ck_ulong inlen, unsigned char *out, ck_ulong *outlen,
	int *started)
{
	struct ck_gcm_params params = { iv, iv ? 12 : 0, 96, aadlen ? aad : NULL, aadlen, 128 };
	struct ck_mechanism mechanism = { CKM_AES_GCM, &params, sizeof params };

	return init_and_do(list, init, session, &mechanism, key, in, inlen, out, outlen, started);
}

ck_rv ck_once(struct ck_function_list *list, int init, ck_ulong session, ck_ulong mechanism, void *params,
	ck_ulong paramslen, ck_ulong key, unsigned char *in, ck_ulong inlen, unsigned char *out, ck_ulong *outlen,
	int *started)
{
	struct ck_mechanism m = { mechanism, paramslen ? params : NULL, paramslen };

	return init_and_do(list, init, session, &m, key, in, inlen, out, outlen, started);
}

ck_rv ck_wrap(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, void *params, ck_ulong paramslen,
	ck_ulong wrapping, ck_ulong key, unsigned char *out, ck_ulong *outlen)
{
	struct ck_mechanism m = { mechanism, paramslen ? params : NULL, paramslen };
	ck_rv (*wrap)(ck_ulong, struct ck_mechanism *, ck_ulong, ck_ulong, unsigned char *, ck_ulong *);

	wrap = (ck_rv (*)(ck_ulong, struct ck_mechanism *, ck_ulong, ck_ulong, unsigned char *, ck_ulong *))
		list->function[C_WRAP_KEY];
	return wrap == NULL ? CKR_FUNCTION_NOT_SUPPORTED : wrap(session, &m, wrapping, key, out, outlen);
}

ck_rv ck_value(struct ck_function_list *list, ck_ulong session, ck_ulong object, unsigned char *out, ck_ulong *outlen)
{
	struct ck_attribute value = { CKA_VALUE, out, *outlen };
	ck_rv (*get)(ck_ulong, ck_ulong, struct ck_attribute *, ck_ulong);

	get = (ck_rv (*)(ck_ulong, ck_ulong, struct ck_attribute *, ck_ulong))list->function[C_GET_ATTRIBUTE_VALUE];
	if (get == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	ck_rv rv = get(session, object, &value, 1);
	*outlen = value.value_len;
	return rv;
}

ck_rv ck_create(struct ck_function_list *list, ck_ulong session, struct ck_attribute *template, ck_ulong count,
	ck_ulong *object)
{
	ck_rv (*create)(ck_ulong, struct ck_attribute *, ck_ulong, ck_ulong *);

	create = (ck_rv (*)(ck_ulong, struct ck_attribute *, ck_ulong, ck_ulong *))list->function[C_CREATE_OBJECT];
	return create == NULL ? CKR_FUNCTION_NOT_SUPPORTED : create(session, template, count, object);
}

static void unflatten(ck_flat_t *flat, struct ck_attribute *template)
{
	unsigned char *value = flat->values;

	for (ck_ulong i = 0; i < flat->count; i++) {
		template[i] = (struct ck_attribute){ flat->types[i], flat->lengths[i] ? value : NULL, flat->lengths[i] };
		value += (flat->lengths[i] + 7) & ~7UL;
	}
}

ck_rv ck_generate(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, ck_flat_t *template,
	ck_ulong *object)
{
	struct ck_mechanism m = { mechanism, NULL, 0 };
	struct ck_attribute attributes[FLAT_ATTRIBUTES];
	ck_rv (*generate)(ck_ulong, struct ck_mechanism *, struct ck_attribute *, ck_ulong, ck_ulong *);

	generate = (ck_rv (*)(ck_ulong, struct ck_mechanism *, struct ck_attribute *, ck_ulong, ck_ulong *))
		list->function[C_GENERATE_KEY];
	if (generate == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	unflatten(template, attributes);
	return generate(session, &m, attributes, template->count, object);
}

ck_rv ck_unwrap(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, void *params,
	ck_ulong paramslen, ck_ulong unwrapping, unsigned char *wrapped, ck_ulong length, ck_flat_t *template,
	ck_ulong *object)
{
	struct ck_mechanism m = { mechanism, paramslen ? params : NULL, paramslen };
	struct ck_attribute attributes[FLAT_ATTRIBUTES];
	ck_rv (*unwrap)(ck_ulong, struct ck_mechanism *, ck_ulong, unsigned char *, ck_ulong, struct ck_attribute *,
		ck_ulong, ck_ulong *);

	unwrap = (ck_rv (*)(ck_ulong, struct ck_mechanism *, ck_ulong, unsigned char *, ck_ulong, struct ck_attribute *,
		ck_ulong, ck_ulong *))list->function[C_UNWRAP_KEY];
	if (unwrap == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	unflatten(template, attributes);
	return unwrap(session, &m, unwrapping, wrapped, length, attributes, template->count, object);
}

ck_rv ck_decapsulate(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, ck_ulong key,
	struct ck_attribute *template, ck_ulong count, unsigned char *ciphertext, ck_ulong length, ck_ulong *object)
{
	struct ck_mechanism m = { mechanism, NULL, 0 };
	ck_rv (*decapsulate)(ck_ulong, struct ck_mechanism *, ck_ulong, struct ck_attribute *, ck_ulong, unsigned char *, ck_ulong, ck_ulong *);

	if (list == NULL || list->function[C_DECAPSULATE_KEY] == NULL)
		return CKR_FUNCTION_NOT_SUPPORTED;
	decapsulate = (ck_rv (*)(ck_ulong, struct ck_mechanism *, ck_ulong, struct ck_attribute *, ck_ulong, unsigned char *, ck_ulong, ck_ulong *))
		list->function[C_DECAPSULATE_KEY];
	return decapsulate(session, &m, key, template, count, ciphertext, length, object);
}

ck_rv ck_random(struct ck_function_list *list, ck_ulong session, unsigned char *out, ck_ulong len)
{
	ck_rv (*generate)(ck_ulong, unsigned char *, ck_ulong);

	generate = (ck_rv (*)(ck_ulong, unsigned char *, ck_ulong))list->function[C_GENERATE_RANDOM];
	return generate == NULL ? CKR_FUNCTION_NOT_SUPPORTED : generate(session, out, len);
}

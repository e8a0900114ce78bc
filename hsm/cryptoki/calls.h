// The PKCS#11 calls whose output has a size, with buffers of a known size. A size query would be a
// second call, which is a round trip more to a network HSM; a token that lies about a size could have
// memory allocated without bound; and no secret is copied into C memory. The function list, its order
// and the structures are those of the OASIS base specification, sections 3 and 5.
#ifndef VERENC_CRYPTOKI_H
#define VERENC_CRYPTOKI_H

typedef unsigned long ck_ulong;
typedef ck_ulong ck_rv;

struct ck_function_list;

// Positions in CK_FUNCTION_LIST.
enum { C_GET_INFO = 2, C_GET_SLOT_LIST = 4, C_GET_MECHANISM_LIST = 7, C_CREATE_OBJECT = 20,
	C_GET_ATTRIBUTE_VALUE = 24, C_FIND_OBJECTS = 27, C_ENCRYPT_INIT = 29, C_DECRYPT_INIT = 33,
	C_SIGN_INIT = 42, C_GENERATE_KEY = 58, C_WRAP_KEY = 60, C_UNWRAP_KEY = 61, C_GENERATE_RANDOM = 64,
	C_DECAPSULATE_KEY = 93,
	FUNCTIONS = 94 }; // v2.40 has 68

struct ck_attribute {
	ck_ulong type;
	void *value;
	ck_ulong value_len;
};

// ck_handle is what dlopen gives for a module that is loaded, or NULL. It sets the process up for
// tokens that live in it.
void *ck_handle(const char *path);

// ck_version is a list's version: 0x0228 for v2.40.
unsigned ck_version(struct ck_function_list *list);

// ck_load_v32 gives the functions of PKCS#11 v3.2 of a module that is loaded and initialised. It gives
// NULL for a module that has none, or whose list is an instance of its own that is not initialised.
struct ck_function_list *ck_load_v32(const char *path);

// ck_slots is C_GetSlotList of the slots with a token. *count is the room in slots, then their number.
ck_rv ck_slots(struct ck_function_list *list, ck_ulong *slots, ck_ulong *count);

// ck_mechanisms is C_GetMechanismList, with *count as in ck_slots.
ck_rv ck_mechanisms(struct ck_function_list *list, ck_ulong slot, ck_ulong *mechanisms, ck_ulong *count);

// ck_find is C_FindObjects of at most max objects.
ck_rv ck_find(struct ck_function_list *list, ck_ulong session, ck_ulong *objects, ck_ulong max, ck_ulong *count);

// ck_attributes is C_GetAttributeValue of up to MOST_ATTRIBUTES types. Each value has room bytes of
// values; lengths has their lengths, CK_UNAVAILABLE_INFORMATION for a value that the token does not give.
enum { MOST_ATTRIBUTES = 16 };
ck_rv ck_attributes(struct ck_function_list *list, ck_ulong session, ck_ulong object, ck_ulong *types,
	ck_ulong count, unsigned char *values, ck_ulong room, ck_ulong *lengths);

// ck_gcm does C_EncryptInit + C_Encrypt, or C_DecryptInit + C_Decrypt (init says which), with
// CKM_AES_GCM: 12-byte IV or none (NULL), 16-byte tag behind the ciphertext. *outlen is the size of
// out, then the length written. *started is set once the Init call has succeeded.
ck_rv ck_gcm(struct ck_function_list *list, int init, ck_ulong session, ck_ulong key, unsigned char *iv,
	unsigned char *aad, ck_ulong aadlen, unsigned char *in, ck_ulong inlen, unsigned char *out, ck_ulong *outlen,
	int *started);

// ck_once does the Init call at position init in the function list, and then the call after it: C_Sign,
// C_Decrypt and their like. params holds no pointers. *outlen and *started are those of ck_gcm.
ck_rv ck_once(struct ck_function_list *list, int init, ck_ulong session, ck_ulong mechanism, void *params,
	ck_ulong paramslen, ck_ulong key, unsigned char *in, ck_ulong inlen, unsigned char *out, ck_ulong *outlen,
	int *started);

// ck_wrap is C_WrapKey. params holds no pointers.
ck_rv ck_wrap(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, void *params, ck_ulong paramslen,
	ck_ulong wrapping, ck_ulong key, unsigned char *out, ck_ulong *outlen);

// ck_value is C_GetAttributeValue for CKA_VALUE.
ck_rv ck_value(struct ck_function_list *list, ck_ulong session, ck_ulong object, unsigned char *out, ck_ulong *outlen);

// ck_create is C_CreateObject.
ck_rv ck_create(struct ck_function_list *list, ck_ulong session, struct ck_attribute *template, ck_ulong count,
	ck_ulong *object);

// A flat template has the types and the lengths of its attributes, and their values one after the other,
// each at a multiple of 8 bytes. It holds no pointers of Go.
enum { FLAT_ATTRIBUTES = 24, FLAT_ROOM = 1024 };
typedef struct ck_flat {
	ck_ulong count;
	ck_ulong types[FLAT_ATTRIBUTES], lengths[FLAT_ATTRIBUTES];
	unsigned char values[FLAT_ROOM];
} ck_flat_t;

// ck_generate is C_GenerateKey with a mechanism that takes no parameter.
ck_rv ck_generate(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, ck_flat_t *template,
	ck_ulong *object);

// ck_unwrap is C_UnwrapKey. params holds no pointers.
ck_rv ck_unwrap(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, void *params,
	ck_ulong paramslen, ck_ulong unwrapping, unsigned char *wrapped, ck_ulong length, ck_flat_t *template,
	ck_ulong *object);

// ck_decapsulate is C_DecapsulateKey with a mechanism that takes no parameter. list is one of v3.2, or NULL.
ck_rv ck_decapsulate(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, ck_ulong key,
	struct ck_attribute *template, ck_ulong count, unsigned char *ciphertext, ck_ulong length, ck_ulong *object);

// ck_inside_only is a CKA_UNWRAP_TEMPLATE: CKA_SENSITIVE true, CKA_EXTRACTABLE false.
typedef struct ck_attribute ck_inside_only_t[2];
extern ck_inside_only_t ck_inside_only;

// ck_random is C_GenerateRandom.
ck_rv ck_random(struct ck_function_list *list, ck_ulong session, unsigned char *out, ck_ulong len);

#endif

// The part of PKCS#11 that hsm calls directly, with output buffers of known size: one C_ call where a
// size query would make it two, which is a round trip more to a network HSM, and no copy of a secret in C memory. The function list, its order and
// the structures are those of the OASIS base specification, sections 3 and 5.
#ifndef VERENC_CRYPTOKI_H
#define VERENC_CRYPTOKI_H

typedef unsigned long ck_ulong;
typedef ck_ulong ck_rv;

struct ck_function_list;

// Positions in CK_FUNCTION_LIST.
enum { C_CREATE_OBJECT = 20, C_GET_ATTRIBUTE_VALUE = 24, C_ENCRYPT_INIT = 29, C_DECRYPT_INIT = 33, C_SIGN_INIT = 42,
	C_WRAP_KEY = 60, C_GENERATE_RANDOM = 64, C_DECAPSULATE_KEY = 93, FUNCTIONS = 94 }; // of v2.40: 68

struct ck_attribute {
	ck_ulong type;
	void *value;
	ck_ulong value_len;
};

struct ck_function_list *ck_load(const char *path, char **problem);

// ck_load_v32 gives the functions of PKCS#11 v3.2 of a module that is loaded; NULL: it has none.
struct ck_function_list *ck_load_v32(const char *path);

// ck_gcm does C_EncryptInit + C_Encrypt, or C_DecryptInit + C_Decrypt (init says which), with CKM_AES_GCM: 12-byte IV or none (NULL), 16-byte
// tag behind the ciphertext. *outlen is the size of out, then the length written. *started is set once the
// Init call has succeeded.
ck_rv ck_gcm(struct ck_function_list *list, int init, ck_ulong session, ck_ulong key, unsigned char *iv,
	unsigned char *aad, ck_ulong aadlen, unsigned char *in, ck_ulong inlen, unsigned char *out, ck_ulong *outlen,
	int *started);

// ck_once does an Init call of the function at position init in the function list, and then the one after it: C_Sign,
// C_Decrypt and their like. params holds no pointers. *outlen and *started are those of ck_gcm.
ck_rv ck_once(struct ck_function_list *list, int init, ck_ulong session, ck_ulong mechanism, void *params,
	ck_ulong paramslen, ck_ulong key, unsigned char *in, ck_ulong inlen, unsigned char *out, ck_ulong *outlen,
	int *started);

// ck_wrap is C_WrapKey with a mechanism that takes no parameter.
ck_rv ck_wrap(struct ck_function_list *list, ck_ulong session, ck_ulong mechanism, ck_ulong wrapping, ck_ulong key,
	unsigned char *out, ck_ulong *outlen);

// ck_value is C_GetAttributeValue for CKA_VALUE.
ck_rv ck_value(struct ck_function_list *list, ck_ulong session, ck_ulong object, unsigned char *out, ck_ulong *outlen);

// ck_create is C_CreateObject.
ck_rv ck_create(struct ck_function_list *list, ck_ulong session, struct ck_attribute *template, ck_ulong count,
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

// Calls a module with memory that ends exactly where the module is told, so that writing or reading
// beyond it kills the process. Its arguments are the module, the token's serial number and its PIN; each line of its
// input is a call and the room that it gives, -1 for NULL. It answers with the return value, the
// length or count, and how many bytes were changed.

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pkcs11go.h"

static CK_FUNCTION_LIST *p11;

static void must(CK_RV rv, const char *what)
{
	if (rv == CKR_OK)
		return;
	fprintf(stderr, "%s: 0x%lx\n", what, rv);
	exit(1);
}

static CK_SLOT_ID slot_of(const char *serial)
{
	CK_SLOT_ID slots[1000];
	CK_ULONG count = sizeof slots / sizeof *slots;
	CK_TOKEN_INFO info;

	must(p11->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
	for (CK_ULONG i = 0; i < count; i++)
		if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && strncmp((char *)info.serialNumber, serial, strlen(serial)) == 0)
			return slots[i];
	fprintf(stderr, "no token %s\n", serial);
	exit(1);
}

enum { PAGE = 4096 };

int main(int argc, char **argv)
{
	CK_RV (*get)(CK_FUNCTION_LIST **);
	void *library = argc == 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
	CK_SESSION_HANDLE s;
	CK_OBJECT_HANDLE key;
	CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
	CK_ULONG length = 32, text = strlen(argv[argc - 1]);
	CK_ATTRIBUTE template[] = {
		{ CKA_TOKEN, &no, 1 }, { CKA_ENCRYPT, &yes, 1 }, { CKA_WRAP, &yes, 1 }, { CKA_EXTRACTABLE, &yes, 1 },
		{ CKA_SENSITIVE, &no, 1 }, { CKA_VALUE_LEN, &length, sizeof length },
	};
	CK_MECHANISM generate = { CKM_AES_KEY_GEN, NULL, 0 }, wrap = { CKM_AES_KEY_WRAP_PAD, NULL, 0 };
	CK_BYTE iv[12] = { 0 };
	CK_GCM_PARAMS gcm = { iv, sizeof iv, 8 * sizeof iv, NULL, 0, 128 };
	CK_MECHANISM encrypt = { CKM_AES_GCM, &gcm, sizeof gcm };
	char call[64], line[256];
	long long room;
	unsigned long type;

	if (library == NULL || (*(void **)&get = dlsym(library, "C_GetFunctionList")) == NULL)
		return fprintf(stderr, "%s\n", dlerror()), 1;
	must(get(&p11), "C_GetFunctionList");
	must(p11->C_Initialize(NULL), "C_Initialize");
	CK_SLOT_ID slot = slot_of(argv[2]);
	must(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s), "C_OpenSession");
	must(p11->C_Login(s, CKU_USER, (CK_BYTE *)argv[3], text), "C_Login");
	must(p11->C_GenerateKey(s, &generate, template, sizeof template / sizeof *template, &key), "C_GenerateKey");
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_NONE) != 0)
		return perror("mmap"), 1;
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) != NULL) {
		if (sscanf(line, "%63s %lli %li", call, &room, (long *)&type) < 2)
			return fprintf(stderr, "what is %s", line), 1;
		CK_ULONG numbers = strcmp(call, "slots") == 0 || strcmp(call, "mechanisms") == 0 || strcmp(call, "find") == 0;
		CK_ULONG size = room < 0 ? 0 : room * (numbers ? sizeof(CK_ULONG) : 1), n = room < 0 ? 0 : room;
		void *place = room < 0 ? NULL : pages + PAGE - size;
		memset(pages, 0xaa, PAGE);
		CK_RV rv = CKR_FUNCTION_NOT_SUPPORTED;
		if (strcmp(call, "interface") == 0) {
			struct {
				const char *name;
				CK_FUNCTION_LIST *list; // those of v2.40 come first
				CK_FLAGS flags;
			} *interface;
			CK_RV (*get_interface)(const char *, CK_VERSION *, void *, CK_FLAGS);
			if ((*(void **)&get_interface = dlsym(library, "C_GetInterface")) == NULL)
				return fprintf(stderr, "%s\n", dlerror()), 1;
			must(get_interface("PKCS 11", NULL, &interface, 0), "C_GetInterface");
			rv = interface->list->C_GetSlotList(CK_TRUE, place, &n);
		}
		if (strcmp(call, "slots") == 0)
			rv = p11->C_GetSlotList(CK_TRUE, place, &n);
		else if (strcmp(call, "mechanisms") == 0)
			rv = p11->C_GetMechanismList(slot, place, &n);
		else if (strcmp(call, "find") == 0) {
			must(p11->C_FindObjectsInit(s, NULL, 0), "C_FindObjectsInit");
			rv = p11->C_FindObjects(s, place, n, &n);
			must(p11->C_FindObjectsFinal(s), "C_FindObjectsFinal");
		} else if (strcmp(call, "random") == 0)
			rv = p11->C_GenerateRandom(s, place, n);
		else if (strcmp(call, "wrap") == 0)
			rv = p11->C_WrapKey(s, &wrap, key, key, place, &n);
		else if (strcmp(call, "encrypt") == 0) {
			rv = p11->C_EncryptInit(s, &encrypt, key);
			if (rv == CKR_OK || rv == CKR_OPERATION_ACTIVE)
				rv = p11->C_Encrypt(s, (CK_BYTE *)"text", 4, place, &n);
		} else if (strcmp(call, "attribute") == 0) {
			CK_ATTRIBUTE a = { type, place, n };
			rv = p11->C_GetAttributeValue(s, key, &a, 1);
			n = a.ulValueLen;
		}
		CK_ULONG changed = 0;
		for (int i = 0; i < PAGE; i++)
			changed += pages[i] != (char)0xaa;
		printf("0x%lx %lu %lu\n", rv, n, changed);
		fflush(stdout);
	}
	return 0;
}

// The function lists that are handed out: one to all callers, or one to each, see
// Module.PrivateInstances. Everything is made in advance, since a function cannot know otherwise which
// list it was called through.

#define _GNU_SOURCE // dladdr
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "module.h"

struct control *control;
CK_FUNCTION_LIST *inner;

static char traces[1100];
const char *trace_path = traces;

// Each function puts its arguments into an array and makes a struct call from them, for the instance
// that it belongs to.
#define ARGUMENTS_1 CK_ULONG a
#define ARGUMENTS_2 ARGUMENTS_1, CK_ULONG b
#define ARGUMENTS_3 ARGUMENTS_2, CK_ULONG c
#define ARGUMENTS_4 ARGUMENTS_3, CK_ULONG d
#define ARGUMENTS_5 ARGUMENTS_4, CK_ULONG e
#define ARGUMENTS_6 ARGUMENTS_5, CK_ULONG g
#define ARGUMENTS_8 ARGUMENTS_6, CK_ULONG h, CK_ULONG i
#define ARRAY_1 a
#define ARRAY_2 ARRAY_1, b
#define ARRAY_3 ARRAY_2, c
#define ARRAY_4 ARRAY_3, d
#define ARRAY_5 ARRAY_4, e
#define ARRAY_6 ARRAY_5, g
#define ARRAY_8 ARRAY_6, h, i
#define EACH(X, name, arity) \
	X(0, name, arity) X(1, name, arity) X(2, name, arity) X(3, name, arity) \
	X(4, name, arity) X(5, name, arity) X(6, name, arity) X(7, name, arity) \
	X(8, name, arity) X(9, name, arity) X(10, name, arity) X(11, name, arity) \
	X(12, name, arity) X(13, name, arity) X(14, name, arity) X(15, name, arity) \
	X(16, name, arity) X(17, name, arity) X(18, name, arity) X(19, name, arity) \
	X(20, name, arity) X(21, name, arity) X(22, name, arity) X(23, name, arity) \
	X(24, name, arity) X(25, name, arity) X(26, name, arity) X(27, name, arity) \
	X(28, name, arity) X(29, name, arity) X(30, name, arity) X(31, name, arity)
#define DEFINE_ONE(n, name, arity) \
	static CK_RV call_##n##_##name(ARGUMENTS_##arity) \
	{ \
		return call(n, name##_AT, (CK_ULONG[MOST_ARGUMENTS]){ ARRAY_##arity }); \
	}
#define DEFINE(name, arity, letters) EACH(DEFINE_ONE, name, arity)
FUNCTIONS(DEFINE)
FUNCTIONS_3_2(DEFINE)

#define ADDRESS(n, name, arity) (void (*)(void))call_##n##_##name,
#define ROW(name, arity, letters) { EACH(ADDRESS, name, arity) },
static void (*const functions[FUNCTION_COUNT][MOST_INSTANCES])(void) = { FUNCTIONS(ROW) FUNCTIONS_3_2(ROW) };

static CK_FUNCTION_LIST lists[MOST_INSTANCES];

CK_FUNCTION_LIST *list_of(int instance) { return &lists[instance]; }

static const char *map_control(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat status;

	if (fd < 0)
		return strerror(errno);
	if (fstat(fd, &status) != 0 || status.st_size < (off_t)sizeof *control)
		return close(fd), "the control file is too short";
	void *p = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return strerror(errno);
	control = p;
	return control->size == sizeof *control ? NULL : "the control file is of another version";
}

static const char *load(void)
{
	Dl_info self;
	char path[1100];
	CK_RV (*get)(CK_FUNCTION_LIST **);
	void *module;
	const char *problem;

	if (dladdr(lists, &self) == 0)
		return "it does not find itself";
	snprintf(path, sizeof path, "%s.control", self.dli_fname);
	snprintf(traces, sizeof traces, "%s.trace", self.dli_fname);
	problem = map_control(path);
	if (problem != NULL)
		return problem;
	// A call may hang inside while its caller closes the library: it stays loaded.
	if (dlopen(self.dli_fname, RTLD_NOW | RTLD_LOCAL) == NULL)
		return dlerror();
	module = dlopen(control->inner, RTLD_NOW | RTLD_LOCAL);
	if (module == NULL)
		return dlerror();
	*(void **)&get = dlsym(module, "C_GetFunctionList");
	if (get == NULL || get(&inner) != CKR_OK)
		return "the inner module has no working C_GetFunctionList";
	for (int n = 0; n < MOST_INSTANCES; n++) {
		lists[n].version = (CK_VERSION){ 2, 40 };
		for (int f = 0; f <= C_WaitForSlotEvent_AT; f++)
			((void (**)(void))&lists[n].C_Initialize)[f] = (void (*)(void))functions[f][n];
	}
	return NULL;
}

static const char *problem = "not loaded";
static void load_once(void) { problem = load(); }

// instance is the one of a new caller.
static CK_RV instance(int *n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static _Atomic int used;

	pthread_once(&once, load_once);
	if (problem != NULL) {
		fprintf(stderr, "faults module: %s\n", problem);
		return CKR_GENERAL_ERROR;
	}
	int none = 0;
	if (!control->private_instances)
		atomic_compare_exchange_strong(&used, &none, 1);
	*n = control->private_instances ? atomic_fetch_add(&used, 1) : 0;
	if (*n < MOST_INSTANCES)
		return CKR_OK;
	fprintf(stderr, "faults module: a process has at most %d instances of a module\n", MOST_INSTANCES);
	return CKR_HOST_MEMORY;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
	int n;

	if (out == NULL)
		return CKR_ARGUMENTS_BAD;
	CK_RV rv = instance(&n);
	if (rv == CKR_OK)
		*out = list_of(n);
	return rv;
}

static CK_RV not_supported(void) { return CKR_FUNCTION_NOT_SUPPORTED; }

// C_GetInterface returns the functions of PKCS#11 v3.2: those of v2.40, and of the others those in
// FUNCTIONS_3_2.
__attribute__((visibility("default"))) CK_RV C_GetInterface(const char *name, const CK_VERSION *version, void **out, CK_FLAGS flags)
{
	enum { DECAPSULATE_KEY = 93, COUNT_3_2 = 105 }; // pkcs11f.h of v3.2
	static struct {
		CK_VERSION version;
		void (*function[COUNT_3_2])(void);
	} all[MOST_INSTANCES];
	static struct interface {
		const char *name;
		void *list;
		CK_FLAGS flags;
	} interfaces[MOST_INSTANCES];
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	int n;

	if (out == NULL)
		return CKR_ARGUMENTS_BAD;
	if (flags != 0 || (name != NULL && strcmp(name, "PKCS 11") != 0) ||
		(version != NULL && (version->major != 3 || version->minor != 2)))
		return CKR_FUNCTION_FAILED;
	CK_RV rv = instance(&n);
	if (rv != CKR_OK)
		return rv;
	pthread_mutex_lock(&mutex);
	all[n].version = (CK_VERSION){ 3, 2 };
	for (int i = 0; i < COUNT_3_2; i++)
		all[n].function[i] = (void (*)(void))not_supported;
	memcpy(all[n].function, &lists[n].C_Initialize, sizeof(void *) * (C_WaitForSlotEvent_AT + 1));
	all[n].function[DECAPSULATE_KEY] = functions[C_DecapsulateKey_AT][n];
	interfaces[n] = (struct interface){ "PKCS 11", &all[n], 0 };
	pthread_mutex_unlock(&mutex);
	*out = &interfaces[n];
	return CKR_OK;
}

#define _GNU_SOURCE // dladdr
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "module.h"

#define NAME(name, arity, letters) #name,
#define LETTERS(name, arity, letters) letters,
const char *const names[] = { FUNCTIONS(NAME) FUNCTIONS_3_2(NAME) };
const char *const letters[] = { FUNCTIONS(LETTERS) FUNCTIONS_3_2(LETTERS) };

#define CHECK(name, arity, letters) \
	_Static_assert(offsetof(CK_FUNCTION_LIST, name) == \
		offsetof(CK_FUNCTION_LIST, C_Initialize) + name##_AT * sizeof(void *), #name " is out of order"); \
	_Static_assert(sizeof letters == arity + 1, #name " lacks a letter");
FUNCTIONS(CHECK)

struct control *control;
CK_FUNCTION_LIST *inner;

static char trace_path[1100];

CK_RV forward(struct call *c)
{
	const CK_ULONG *a = c->inner;
	void (*f)(void) = ((void (**)(void))&inner->C_Initialize)[c->f];

#define U CK_ULONG
	switch (strlen(letters[c->f])) {
	case 1: return ((CK_RV (*)(U))f)(a[0]);
	case 2: return ((CK_RV (*)(U, U))f)(a[0], a[1]);
	case 3: return ((CK_RV (*)(U, U, U))f)(a[0], a[1], a[2]);
	case 4: return ((CK_RV (*)(U, U, U, U))f)(a[0], a[1], a[2], a[3]);
	case 5: return ((CK_RV (*)(U, U, U, U, U))f)(a[0], a[1], a[2], a[3], a[4]);
	case 6: return ((CK_RV (*)(U, U, U, U, U, U))f)(a[0], a[1], a[2], a[3], a[4], a[5]);
	default: return ((CK_RV (*)(U, U, U, U, U, U, U, U))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	}
#undef U
}

static void pause_ns(uint64_t ns)
{
	struct timespec left = { ns / 1000000000, ns % 1000000000 };

	while (ns > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

// draw is the next number of SplitMix64.
static uint64_t draw(void)
{
	uint64_t x = atomic_fetch_add(&control->random, 0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static int takes(struct rule *r)
{
	int64_t left = r->left, skip;

	if (left == 0 || (r->chance != 0 && draw() % 1000000 >= r->chance))
		return 0;
	for (skip = r->skip; skip > 0;)
		if (atomic_compare_exchange_weak(&r->skip, &skip, skip - 1))
			return 0;
	while (left > 0)
		if (atomic_compare_exchange_weak(&r->left, &left, left - 1))
			return 1;
	return left < 0;
}

static void hang(struct rule *r)
{
	uint64_t released = control->released; // read first: a release takes the rule away and then is counted

	if (!takes(r))
		return;
	atomic_fetch_add(&control->hanging, 1);
	while (control->released == released)
		pause_ns(200000);
	atomic_fetch_sub(&control->hanging, 1);
}

// admit gives the call the inner module's handles, or refuses it.
static CK_RV admit(struct call *c)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		char letter = letters[c->f][i];
		CK_ULONG a = c->inner[i] = c->a[i];
		switch (letter) {
		case 's':
			c->session = session_enter(a, c->generation);
			if (c->session == NULL)
				return CKR_SESSION_HANDLE_INVALID;
			c->inner[i] = c->session->inner;
			break;
		case 'o': case 'k': case 'w': case 'u': case 'O':
			if (logged_out())
				return CKR_USER_NOT_LOGGED_IN;
			if (letter == 'O' || a == 0)
				break;
			if (a != handle_of(c->generation, a))
				return letter == 'o' ? CKR_OBJECT_HANDLE_INVALID : letter == 'k' ? CKR_KEY_HANDLE_INVALID :
					letter == 'w' ? CKR_WRAPPING_KEY_HANDLE_INVALID : CKR_UNWRAPPING_KEY_HANDLE_INVALID;
			c->inner[i] = (uint32_t)a;
			break;
		case 'm':
			if (a != 0 && refused(((CK_MECHANISM *)a)->mechanism))
				return CKR_MECHANISM_INVALID;
			break;
		case 'M':
			if (refused(a))
				return CKR_MECHANISM_INVALID;
			break;
		case 'l':
			c->inner[i] = a - control->slot_offset;
			break;
		case 'D':
			c->room = c->a[i + 1] != 0 ? *(CK_ULONG *)c->a[i + 1] : 0;
			break;
		}
	}
	return CKR_OK;
}

int makes_token_object(struct call *c, int nth)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		if (letters[c->f][i] != 't' || nth-- > 0)
			continue;
		const CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)c->a[i];
		for (CK_ULONG n = 0; t != NULL && n < c->a[i + 1]; n++)
			if (t[n].type == CKA_TOKEN && t[n].pValue != NULL && t[n].ulValueLen == sizeof(CK_BBOOL))
				return *(CK_BBOOL *)t[n].pValue;
	}
	return c->f == C_CopyObject_AT && !object_known(c->inner[1]); // a copy is what its original is
}

// hand_out gives the caller this module's handles of new objects.
static void hand_out(struct call *c)
{
	int nth = 0;

	for (int i = 0; letters[c->f][i] != 0; i++) {
		if (letters[c->f][i] != 'O')
			continue;
		CK_OBJECT_HANDLE *h = (CK_OBJECT_HANDLE *)c->a[i];
		if (!makes_token_object(c, nth++))
			object_add(*h, c->session);
		*h = handle_of(c->generation, *h);
	}
}

// lose takes the answer of a call that succeeded away from its caller.
static void lose(struct call *c)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		void *p = (void *)c->a[i];
		CK_ULONG *next = (CK_ULONG *)c->a[i + 1 < MOST_ARGUMENTS ? i + 1 : i];
		switch (letters[c->f][i]) {
		case 'S': case 'O':
			*(CK_ULONG *)p = 0;
			break;
		case 'F':
			*(CK_ULONG *)c->a[i + 2] = 0;
			break;
		case 'R':
			memset(p, 0, c->a[i + 1]);
			break;
		case 'D':
			if (p != NULL && next != NULL)
				memset(p, 0, *next < c->room ? *next : c->room);
			if (next != NULL)
				*next = c->room;
			break;
		case 'v':
			for (CK_ULONG n = 0; n < c->a[i + 1]; n++) {
				CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)p + n;
				if (t->pValue != NULL && t->ulValueLen != CK_UNAVAILABLE_INFORMATION)
					memset(t->pValue, 0, t->ulValueLen);
			}
			break;
		}
	}
}

// The library answers these itself, token or not.
static int is_local(int f)
{
	return f == C_Initialize_AT || f == C_Finalize_AT || f == C_GetInfo_AT || f == C_GetFunctionList_AT || f == C_GetSlotList_AT;
}

static int removed(struct call *c)
{
	return !is_local(c->f) && (control->unplugged || generation() != c->generation);
}

static int session_before(const struct session *s, CK_ULONG generation) { return s->generation < generation; }

// end_old_sessions closes, inside, what an unplug has ended.
static void end_old_sessions(uint32_t now)
{
	static _Atomic uint32_t seen;
	uint32_t last = seen;

	while (last < now)
		if (atomic_compare_exchange_weak(&seen, &last, now)) {
			sessions_end(session_before, now);
			return;
		}
}

static CK_RV answer(struct call *c)
{
	struct rule *rules = control->functions[c->f].rules;

	hang(&rules[HANG_BEFORE]);
	c->generation = generation();
	end_old_sessions(c->generation);
	if (!initialised && c->f != C_Initialize_AT && c->f != C_GetFunctionList_AT)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	if (removed(c))
		return CKR_DEVICE_REMOVED;
	if (takes(&rules[FAIL_BEFORE]))
		return rules[FAIL_BEFORE].rv;
	CK_RV rv = admit(c);
	if (rv == CKR_OK)
		rv = replay_knows(c) ? replay(c) : special[c->f] != NULL ? special[c->f](c) : forward(c);
	if (rv == CKR_OK) {
		replay_learn(c);
		hand_out(c);
	}
	hang(&rules[HANG_AFTER]);
	int success = rv == CKR_OK;
	if (removed(c)) {
		rv = CKR_DEVICE_REMOVED;
		sessions_end(session_before, generation()); // the one just opened
	} else if (success && takes(&rules[FAIL_AFTER]))
		rv = rules[FAIL_AFTER].rv;
	if (success && rv != CKR_OK)
		lose(c);
	return rv;
}

static CK_RV call(int f, CK_ULONG *a)
{
	struct call c = { .f = f, .a = a };

	atomic_fetch_add(&control->functions[f].calls, 1);
	pause_ns(control->functions[f].latency);
	CK_RV rv = answer(&c);
	if (control->recording)
		trace(trace_path, f, a, rv);
	if (c.session != NULL)
		session_leave(c.session);
	return rv;
}

// The functions of the list: each puts its arguments into an array and makes a call of them.
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
#define DEFINE(name, arity, letters) \
	static CK_RV call_##name(ARGUMENTS_##arity) { return call(name##_AT, (CK_ULONG[MOST_ARGUMENTS]){ ARRAY_##arity }); }
FUNCTIONS(DEFINE)
FUNCTIONS_3_2(DEFINE)

#define MEMBER(name, arity, letters) .name = (CK_##name)(void (*)(void))call_##name,
CK_FUNCTION_LIST function_list = { .version = { 2, 40 }, FUNCTIONS(MEMBER) };

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

	if (dladdr(&function_list, &self) == 0)
		return "it does not find itself";
	snprintf(path, sizeof path, "%s.control", self.dli_fname);
	snprintf(trace_path, sizeof trace_path, "%s.trace", self.dli_fname);
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
	return NULL;
}

static const char *problem = "not loaded";
static void load_once(void) { problem = load(); }

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load_once);
	if (problem != NULL) {
		fprintf(stderr, "faults module: %s\n", problem);
		return CKR_GENERAL_ERROR;
	}
	if (out == NULL)
		return CKR_ARGUMENTS_BAD;
	*out = &function_list;
	return CKR_OK;
}

static CK_RV not_supported(void) { return CKR_FUNCTION_NOT_SUPPORTED; }

// C_GetInterface gives the functions of PKCS#11 v3.2: those of v2.40, and of the others what is in FUNCTIONS_3_2.
__attribute__((visibility("default"))) CK_RV C_GetInterface(const char *name, const CK_VERSION *version, void **out, CK_FLAGS flags)
{
	enum { DECAPSULATE_KEY = 93, COUNT = 105 }; // pkcs11f.h of v3.2
	static struct {
		CK_VERSION version;
		void (*function[COUNT])(void);
	} list = { .version = { 3, 2 } };
	static struct {
		const char *name;
		void *list;
		CK_FLAGS flags;
	} interface = { "PKCS 11", &list, 0 };
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	CK_FUNCTION_LIST *old;
	CK_RV rv = C_GetFunctionList(&old);

	if (rv != CKR_OK)
		return rv;
	if (out == NULL)
		return CKR_ARGUMENTS_BAD;
	if (flags != 0 || (name != NULL && strcmp(name, interface.name) != 0) ||
		(version != NULL && (version->major != 3 || version->minor != 2)))
		return CKR_FUNCTION_FAILED;
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < COUNT; i++)
		list.function[i] = (void (*)(void))not_supported;
	memcpy(list.function, &function_list.C_Initialize, sizeof(void *) * (C_WaitForSlotEvent_AT + 1));
	list.function[DECAPSULATE_KEY] = (void (*)(void))call_C_DecapsulateKey;
	pthread_mutex_unlock(&mutex);
	*out = &interface;
	return CKR_OK;
}

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
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "module.h"

#define NAME(name, arity, letters) #name,
#define LETTERS(name, arity, letters) letters,
const char *const names[] = { FUNCTIONS(NAME) };
const char *const letters[] = { FUNCTIONS(LETTERS) };

#define CHECK(name, arity, letters) \
	_Static_assert(offsetof(CK_FUNCTION_LIST, name) == \
		offsetof(CK_FUNCTION_LIST, C_Initialize) + name##_AT * sizeof(void *), #name " is out of order"); \
	_Static_assert(sizeof letters == arity + 1, #name " lacks a letter");
FUNCTIONS(CHECK)

struct control *control;
CK_FUNCTION_LIST *inner;

static char trace_path[1100];
static _Atomic int initialised;
static _Atomic uint64_t login; // control->logins at the last C_Login

// A call on its way.
struct call {
	int f;
	CK_ULONG *a;                   // the caller's arguments
	CK_ULONG inner[MOST_ARGUMENTS]; // the same, with the inner module's handles
	struct session *session;       // or NULL
	uint32_t generation;
	CK_ULONG room; // of a D, as the caller gave it
};

// forward calls the inner module.
static CK_RV forward(struct call *c)
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

// draw is SplitMix64, a stream per process.
static uint64_t draw(void)
{
	static _Atomic uint64_t draws;
	uint64_t x = control->seed + 0x9e3779b97f4a7c15 * (1 + atomic_fetch_add(&draws, 1));

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

static int logged_out(void) { return login != control->logins; }

static int refused(CK_MECHANISM_TYPE m)
{
	for (uint64_t i = 0; i < control->refused_count && i < MOST_REFUSED; i++)
		if (control->refused[i] == m)
			return 1;
	return 0;
}

// admit gives the call the inner module's handles, or refuses it. What the token object behind a stale handle would
// be is never asked.
static CK_RV admit(struct call *c)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		char letter = letters[c->f][i];
		CK_ULONG a = c->inner[i] = c->a[i];
		switch (letter) {
		case 's':
			c->session = session_enter(a);
			if (c->session == NULL)
				return CKR_SESSION_HANDLE_INVALID;
			c->inner[i] = c->session->inner;
			break;
		case 'o': case 'k': case 'w': case 'u': case 'O':
			if (logged_out())
				return CKR_USER_NOT_LOGGED_IN;
			if (letter == 'O' || a == 0)
				break;
			if (a >> 32 != c->generation)
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

static CK_OBJECT_HANDLE handed_out(struct call *c, CK_OBJECT_HANDLE h)
{
	return (CK_ULONG)c->generation << 32 | h;
}

// is_token_object reads CKA_TOKEN of the call's nth template; other is for templates without it.
static int is_token_object(struct call *c, int nth, int other)
{
	for (int i = 0; letters[c->f][i] != 0; i++) {
		if (letters[c->f][i] != 't' || nth-- > 0)
			continue;
		const CK_ATTRIBUTE *t = (CK_ATTRIBUTE *)c->a[i];
		for (CK_ULONG n = 0; t != NULL && n < c->a[i + 1]; n++)
			if (t[n].type == CKA_TOKEN && t[n].pValue != NULL && t[n].ulValueLen == sizeof(CK_BBOOL))
				return *(CK_BBOOL *)t[n].pValue;
	}
	return other;
}

// hand_out gives the caller this module's handles of new objects.
static void hand_out(struct call *c)
{
	int nth = 0;

	for (int i = 0; letters[c->f][i] != 0; i++) {
		if (letters[c->f][i] != 'O')
			continue;
		CK_OBJECT_HANDLE *h = (CK_OBJECT_HANDLE *)c->a[i];
		if (!is_token_object(c, nth++, c->f == C_CopyObject_AT && !object_known(c->inner[1])))
			object_add(*h, c->session->handle);
		*h = handed_out(c, *h);
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

// What is not forwarded as it is.

static CK_RV initialize(struct call *c)
{
	int no = 0;
	if (!atomic_compare_exchange_strong(&initialised, &no, 1))
		return CKR_CRYPTOKI_ALREADY_INITIALIZED;
	CK_RV rv = forward(c);
	if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
		rv = CKR_OK; // by somebody else in this process
	if (rv != CKR_OK)
		initialised = 0;
	login = control->logins;
	return rv;
}

static int any_session(const struct session *s, CK_ULONG nothing) { return (void)s, (void)nothing, 1; }
static int session_of_slot(const struct session *s, CK_ULONG slot) { return s->slot == slot; }
static int session_not_of(const struct session *s, CK_ULONG generation) { return s->handle >> 32 != generation; }

// finalize leaves the inner module to others.
static CK_RV finalize(struct call *c)
{
	if (c->a[0] != 0)
		return CKR_ARGUMENTS_BAD;
	sessions_end(any_session, 0);
	initialised = 0;
	return CKR_OK;
}

static CK_RV get_function_list(struct call *c)
{
	return C_GetFunctionList((CK_FUNCTION_LIST **)c->a[0]);
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
	if (rv == CKR_OK && control->sessions_told >= 0)
		((CK_TOKEN_INFO *)c->a[1])->ulMaxRwSessionCount = control->sessions_told;
	return rv;
}

static CK_RV get_mechanism_list(struct call *c)
{
	enum { MOST_MECHANISMS = 1024 };
	CK_MECHANISM_TYPE all[MOST_MECHANISMS], *out = (CK_MECHANISM_TYPE *)c->a[1];
	CK_ULONG n = MOST_MECHANISMS, kept = 0, *count = (CK_ULONG *)c->a[2];

	if (control->refused_count == 0 || count == NULL)
		return forward(c);
	c->inner[1] = (CK_ULONG)all;
	c->inner[2] = (CK_ULONG)&n;
	CK_RV rv = forward(c);
	if (rv != CKR_OK)
		return rv;
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
		*handle = session_add(opened, c->inner[0], c->generation);
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

static CK_RV close_all_sessions(struct call *c)
{
	sessions_end(session_of_slot, c->inner[0]);
	return CKR_OK;
}

static CK_RV get_session_info(struct call *c)
{
	CK_SESSION_INFO *info = (CK_SESSION_INFO *)c->a[1];
	CK_RV rv = forward(c);
	if (rv != CKR_OK)
		return rv;
	info->slotID += control->slot_offset;
	if (logged_out() && info->state == CKS_RW_USER_FUNCTIONS)
		info->state = CKS_RW_PUBLIC_SESSION;
	if (logged_out() && info->state == CKS_RO_USER_FUNCTIONS)
		info->state = CKS_RO_PUBLIC_SESSION;
	return rv;
}

static CK_RV log_in(struct call *c)
{
	uint64_t logins = control->logins;
	CK_RV rv = forward(c);
	if (rv == CKR_USER_ALREADY_LOGGED_IN && logged_out())
		rv = CKR_OK; // inside, this process is still logged in
	if (rv == CKR_OK)
		login = logins;
	return rv;
}

static CK_RV find_objects(struct call *c)
{
	CK_OBJECT_HANDLE *found = (CK_OBJECT_HANDLE *)c->a[1];
	CK_ULONG *count = (CK_ULONG *)c->a[3];
	CK_RV rv = forward(c);
	if (rv == CKR_OK && logged_out())
		*count = 0; // private objects are not seen
	for (CK_ULONG i = 0; rv == CKR_OK && i < *count; i++)
		found[i] = handed_out(c, found[i]);
	return rv;
}

static CK_RV encrypt_init(struct call *c)
{
	const CK_MECHANISM *m = (CK_MECHANISM *)c->a[1];

	if (control->own_ivs == 0 || m == NULL || m->mechanism != CKM_AES_GCM)
		return forward(c);
	CK_GCM_PARAMS *gcm = m->pParameter;
	if (gcm == NULL || m->ulParameterLen != sizeof *gcm || gcm->pIv == NULL || gcm->ulIvLen != 12)
		return CKR_MECHANISM_PARAM_INVALID;
	if (control->own_ivs == 2 && memcmp(gcm->pIv, (CK_BYTE[12]){ 0 }, 12) != 0)
		return CKR_MECHANISM_PARAM_INVALID;
	if (getentropy(gcm->pIv, 12) != 0)
		return CKR_FUNCTION_FAILED;
	return forward(c);
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
	int pair = c->f == C_GenerateKeyPair_AT;
	int more = is_token_object(c, 0, c->f == C_CopyObject_AT && !object_known(c->inner[1])) + (pair && is_token_object(c, 1, 0));

	if (limit < 0 || more == 0)
		return forward(c);
	pthread_mutex_lock(&counting);
	CK_RV rv = token_objects(c->session->slot, &count);
	if (rv == CKR_OK)
		rv = count + more > limit ? CKR_DEVICE_MEMORY : forward(c);
	pthread_mutex_unlock(&counting);
	return rv;
}

static CK_RV destroy_object(struct call *c)
{
	CK_RV rv = forward(c);
	if (rv == CKR_OK)
		object_remove(c->inner[1]);
	return rv;
}

static CK_RV (*const special[FUNCTION_COUNT])(struct call *) = {
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
	[C_FindObjects_AT] = find_objects,
	[C_EncryptInit_AT] = encrypt_init,
	[C_CreateObject_AT] = create,
	[C_CopyObject_AT] = create,
	[C_GenerateKey_AT] = create,
	[C_GenerateKeyPair_AT] = create,
	[C_UnwrapKey_AT] = create,
	[C_DeriveKey_AT] = create,
	[C_DestroyObject_AT] = destroy_object,
};

// The library answers these itself, token or not.
static int is_local(int f)
{
	return f == C_Initialize_AT || f == C_Finalize_AT || f == C_GetInfo_AT || f == C_GetFunctionList_AT || f == C_GetSlotList_AT;
}

static int removed(struct call *c)
{
	return !is_local(c->f) && (control->unplugged || generation() != c->generation);
}

// end_old_sessions closes, inside, what an unplug has ended.
static void end_old_sessions(uint32_t now)
{
	static _Atomic uint32_t seen;

	if (seen != now) {
		seen = now;
		sessions_end(session_not_of, now);
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
		rv = special[c->f] != NULL ? special[c->f](c) : forward(c);
	if (rv == CKR_OK)
		hand_out(c);
	hang(&rules[HANG_AFTER]);
	int success = rv == CKR_OK;
	if (removed(c)) {
		rv = CKR_DEVICE_REMOVED;
		sessions_end(session_not_of, generation()); // the one just opened
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

#define MEMBER(name, arity, letters) .name = (CK_##name)(void (*)(void))call_##name,
static CK_FUNCTION_LIST list = { .version = { 2, 40 }, FUNCTIONS(MEMBER) };

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

	if (dladdr(&list, &self) == 0)
		return "it does not find itself";
	snprintf(path, sizeof path, "%s.control", self.dli_fname);
	snprintf(trace_path, sizeof trace_path, "%s.trace", self.dli_fname);
	problem = map_control(path);
	if (problem != NULL)
		return problem;
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
	*out = &list;
	return CKR_OK;
}

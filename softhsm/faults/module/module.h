// A PKCS#11 module that forwards to another one, and fails, hangs, counts and records on demand.
#ifndef FAULTS_MODULE_H
#define FAULTS_MODULE_H

#include <stdatomic.h>
#include <stdint.h>

#include "pkcs11go.h"
#include "functions.h"

#define POSITION(name, arity, letters) name##_AT,
enum { FUNCTIONS(POSITION) FUNCTIONS_3_2(POSITION) FUNCTION_COUNT };

enum { MOST_ARGUMENTS = 8, MOST_REFUSED = 32 };

// A rule applies to the calls of one function: it lets the first skip of them alone, then takes left of them, or all when
// left is negative; of these, chance out of a million when chance is not 0.
struct rule {
	_Atomic uint64_t rv; // not used by hangs
	_Atomic int64_t skip, left;
	_Atomic uint64_t chance;
};

enum { FAIL_BEFORE, FAIL_AFTER, HANG_BEFORE, HANG_AFTER, RULES };

// The control file, mapped here and by whoever drives the module. control.go has the same layout.
struct control {
	_Atomic uint64_t size; // of this structure: tells a file of another version
	char inner[1024];      // path of the module behind

	// The upper halves are the token's generation, which an unplug raises.
	_Atomic uint64_t sessions; // open now
	_Atomic uint64_t objects;  // session objects that exist now
	_Atomic uint64_t sessions_most, objects_most;

	_Atomic uint64_t unplugged;
	_Atomic uint64_t logins; // raised to void every login made before
	_Atomic uint64_t slot_offset, reuse_handles;
	_Atomic int64_t sessions_limit, objects_limit; // negative: none
	_Atomic int64_t sessions_told;                 // ulMaxRwSessionCount of C_GetTokenInfo; negative: the inner module's
	_Atomic uint64_t own_ivs;                      // 1: CKM_AES_GCM makes its own; 2: and takes zeros only
	_Atomic uint64_t pq_port;                      // on 127.0.0.1, of who computes ML-DSA and ML-KEM; 0: the token has neither
	_Atomic uint64_t refused_count, refused[MOST_REFUSED];

	_Atomic uint64_t replay; // see replay.c
	_Atomic uint64_t released, hanging;
	_Atomic uint64_t random; // state of the generator that chances draw from
	_Atomic uint64_t recording;

	struct {
		_Atomic uint64_t calls;
		_Atomic uint64_t latency; // ns
		struct rule rules[RULES];
	} functions[FUNCTION_COUNT];
};

extern struct control *control;
extern const char *const names[], *const letters[];
extern CK_FUNCTION_LIST *inner, function_list; // of the module behind, and of this one

static inline uint32_t generation(void) { return control->sessions >> 32; }

// handle_of is what is handed out for a number of a session, or for the inner module's number of an object. It is never used
// again after an unplug, unless that is asked for.
static inline CK_ULONG handle_of(uint32_t generation, CK_ULONG number)
{
	return (uint32_t)number | (control->reuse_handles ? 0 : (CK_ULONG)generation << 32);
}

// tally adds to a gauge, unless it belongs to another generation by now or would pass a limit that is not negative.
int tally(_Atomic uint64_t *gauge, uint32_t generation, int change, int64_t limit, _Atomic uint64_t *most);

// module.c: the way of every call.

struct call {
	int f;
	CK_ULONG *a;                    // the caller's arguments
	CK_ULONG inner[MOST_ARGUMENTS]; // the same, with the inner module's handles
	struct session *session;        // or NULL
	uint32_t generation;
	CK_ULONG room; // of a D, as the caller gave it
};

CK_RV forward(struct call *c);                   // to the inner module
int makes_token_object(struct call *c, int nth); // by CKA_TOKEN of the nth template

// special.c: the functions that do more than forward.

extern CK_RV (*const special[FUNCTION_COUNT])(struct call *); // NULL: the others
extern _Atomic int initialised;

int logged_out(void);
int refused(CK_MECHANISM_TYPE m);

// postquantum.c: ML-DSA and ML-KEM, see Module.AddPostQuantum.

#define CKK_ML_DSA 0x4aUL
#define CKM_ML_DSA_KEY_PAIR_GEN 0x1cUL
#define CKM_ML_DSA 0x1dUL
#define CKM_ML_DSA_EXTERNAL_MU 0x403cUL
#define CKK_ML_KEM 0x49UL
#define CKM_ML_KEM_KEY_PAIR_GEN 0xfUL
#define CKM_ML_KEM 0x17UL
#define CKA_PARAMETER_SET 0x61dUL
#define CKA_DECAPSULATE 0x634UL
#define CKF_DECAPSULATE 0x20000000UL

enum { PQ_MECHANISMS = 5 };

int pq_mechanism(CK_MECHANISM_TYPE m);              // whether the token has it, and it is one of these
CK_ULONG pq_mechanism_list(CK_MECHANISM_TYPE *out); // those that it has
int pq_key(const struct call *c, CK_OBJECT_HANDLE inner_key);
CK_RV pq_generate(struct call *c, CK_RV (*create)(struct call *));
CK_RV pq_create(struct call *c, CK_RV (*create)(struct call *));
CK_RV pq_attributes(struct call *c);
CK_RV pq_sign_init(struct call *c);
CK_RV pq_sign(struct call *c);
CK_RV pq_verify_init(struct call *c);
CK_RV pq_verify(struct call *c);
CK_RV pq_decapsulate(struct call *c);
CK_RV pq_mechanism_info(struct call *c);

// replay.c: answers given again, see Module.Replay.

void replay_learn(const struct call *c);
int replay_knows(const struct call *c);
CK_RV replay(struct call *c);

// sessions.c: what this process has open.

enum session_state { FREE, OPEN, ENDING, CLOSED }; // ending: the last call under way closes it

struct session {
	enum session_state state;
	CK_SESSION_HANDLE handle; // as handed out
	uint32_t generation;
	CK_SESSION_HANDLE inner;
	CK_SLOT_ID slot; // of the inner module
	unsigned calls;  // under way

	CK_ULONG pq_set; // of the key of an ML-DSA operation that was begun; 0: there is none
	CK_OBJECT_HANDLE pq_key;
	char pq_what; // of a signature: what to ask for
};

CK_SESSION_HANDLE session_add(CK_SESSION_HANDLE inner, CK_SLOT_ID slot, uint32_t generation); // 0: no room
struct session *session_enter(CK_SESSION_HANDLE handle, uint32_t generation);                 // NULL: there is none
void session_leave(struct session *s);
void session_closed(struct session *s); // its caller has closed it inside

// sessions_end closes the sessions of which this is true.
void sessions_end(int (*ends)(const struct session *, CK_ULONG), CK_ULONG argument);

void object_add(CK_OBJECT_HANDLE inner, const struct session *s);
int object_known(CK_OBJECT_HANDLE inner);
void object_remove(CK_OBJECT_HANDLE inner);

// trace.c

// trace appends a call, as its caller sees it, to the trace file: a JSON object a line.
void trace(const char *path, int f, const CK_ULONG *a, CK_RV rv);

#endif

// A PKCS#11 module that forwards to another one, and fails, hangs, counts and records on demand.
#ifndef FAULTS_MODULE_H
#define FAULTS_MODULE_H

#include <stdatomic.h>
#include <stdint.h>

#include "pkcs11go.h"
#include "functions.h"
#include "lies.h"

#define POSITION(name, arity, letters) name##_AT,
enum { FUNCTIONS(POSITION) FUNCTIONS_3_2(POSITION) FUNCTION_COUNT };

#define FIELD(name) name,
enum { NO_FIELD, FIELDS(FIELD) FIELD_COUNT };

enum { MOST_ARGUMENTS = 8, MOST_NUMBERS = 32, MOST_MAPPED = 16, MOST_LIES = 64, MOST_LIE_BYTES = 1 << 16, MOST_INSTANCES = 32 };

// A rule applies to calls of one function: it lets the first skip of them pass, and then applies to the next left of
// them, or to all if left is negative. If chance is not 0, only chance out of a million calls count.
struct rule {
	_Atomic uint64_t rv; // of a failure
	_Atomic int64_t skip, left;
	_Atomic uint64_t chance;
	_Atomic uint64_t of; // a mechanism or an attribute, plus 1: others are not affected; 0: all are
};

enum { FAIL_BEFORE, FAIL_AFTER, HANG_BEFORE, HANG_AFTER, CRASH_BEFORE, CRASH_AFTER, RULES };

enum { WHEN_ASKED_FOR_LENGTH = 1, WHEN_FILLED = 2 }; // of a lie; 0: both

// A lie is what a function reports instead of the truth, see lies.c.
struct lie {
	struct rule rule;
	_Atomic uint64_t function, field, when;
	_Atomic uint64_t value;
	_Atomic uint64_t offset, length; // of bytes in lie_bytes
};

struct numbers {
	_Atomic uint64_t count, value[MOST_NUMBERS];
};

// The control file, mapped here and by the process that controls the module. control.go has the same layout.
struct control {
	_Atomic uint64_t size; // of this structure: detects a file of another version
	char inner[1024];      // path of the inner module

	// The upper halves are the token's generation, which an unplug raises.
	_Atomic uint64_t sessions; // open now
	_Atomic uint64_t objects;  // session objects that exist now
	_Atomic uint64_t sessions_most, objects_most;

	_Atomic uint64_t unplugged;
	_Atomic uint64_t logins; // incremented to end every login made before
	_Atomic uint64_t slot_offset, reuse_handles;
	_Atomic int64_t sessions_limit, objects_limit; // negative: none
	_Atomic int64_t sessions_told;                 // ulMaxRwSessionCount of C_GetTokenInfo; negative: the inner module's
	_Atomic uint64_t objects_rv;                   // of a call that would pass the limit
	_Atomic uint64_t own_ivs;                      // see gcm.c
	_Atomic uint64_t pq_port;                      // on 127.0.0.1, of the process that computes ML-DSA and ML-KEM; 0: the token has neither
	struct numbers refused;                        // mechanisms

	_Atomic uint64_t private_instances;
	_Atomic uint64_t wedges;                   // incremented to make every call fail until C_Finalize and C_Initialize
	_Atomic uint64_t wedge_rv;                 // the answer of every call then
	_Atomic uint64_t heal_only;                // an unplug is a wedge too
	_Atomic uint64_t flags_set, flags_cleared; // of CK_TOKEN_INFO
	_Atomic int64_t pins_most, pins_wrong;     // how many wrong PINs in a row lock (0: never), and how many there were
	_Atomic uint64_t mapped_count;
	struct {
		_Atomic uint64_t number, inner;
	} mapped[MOST_MAPPED]; // mechanisms
	_Atomic uint64_t weak_copies, force_extractable;
	struct numbers wraps_all;                // mechanisms that wrap keys that are not extractable
	struct numbers secret_sizes, wrap_sizes; // lengths that C_GenerateKey and C_WrapKey refuse
	_Atomic uint64_t private_only, token_only, strict_sessions, kdfs;
	char init_argument[256]; // the pReserved that C_Initialize requires; empty: none

	_Atomic uint64_t lies_count;
	struct lie lies[MOST_LIES];
	unsigned char lie_bytes[MOST_LIE_BYTES];

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
extern CK_FUNCTION_LIST *inner; // of the inner module

static inline uint32_t generation(void) { return control->sessions >> 32; }

// handle_of returns this module's handle for the number of a session, or for the inner module's handle of an object. It is
// not reused after an unplug, unless ReuseHandles asks for that.
static inline CK_ULONG handle_of(uint32_t generation, CK_ULONG number)
{
	return (uint32_t)number | (control->reuse_handles ? 0 : (CK_ULONG)generation << 32);
}

// tally adds to a gauge, unless the gauge belongs to another generation by now or would exceed a limit that is not negative.
int tally(_Atomic uint64_t *gauge, uint32_t generation, int change, int64_t limit, _Atomic uint64_t *most);

// module.c: the path of every call.

struct call {
	int f, instance;
	CK_ULONG *a;                    // the caller's arguments
	CK_ULONG inner[MOST_ARGUMENTS]; // the same, with the inner module's handles
	struct session *session;        // or NULL
	uint32_t generation;
	CK_ULONG room;          // of a D or an N, as the caller gave it
	CK_MECHANISM mechanism; // the inner one, of a mechanism that is mapped
};

CK_RV call(int instance, int f, CK_ULONG *a);
CK_RV forward(struct call *c); // to the inner module
int has_number(const struct numbers *n, CK_ULONG number);
int takes(struct rule *r, uint64_t of);                    // whether it applies to a call with this rule.of
uint64_t mechanism_of(const struct call *c);               // the caller's and 1, or 0
const CK_MECHANISM *inner_mechanism(const struct call *c); // of a function with a mechanism; or NULL

// attribute finds one in the nth template of a call. NULL: it is not there.
const CK_ATTRIBUTE *attribute(const struct call *c, int nth, CK_ATTRIBUTE_TYPE type);
int attribute_bool(const struct call *c, int nth, CK_ATTRIBUTE_TYPE type); // -1: it is not there
int makes_token_object(struct call *c, int nth);                           // by CKA_TOKEN of the nth template

// instances.c: the function lists that are handed out.

extern const char *trace_path;
CK_FUNCTION_LIST *list_of(int instance);

// lifecycle.c: initialisation, logins and PINs.

extern struct instance {
	_Atomic int initialised;
	_Atomic uint64_t login;  // control->logins at the last C_Login, or that there was none
	_Atomic uint64_t wedges; // control->wedges at C_Initialize
} instances[MOST_INSTANCES];

int wedged(const struct call *c);
int logged_out(const struct call *c);
void pin_flags(CK_FLAGS *flags);
CK_RV initialize(struct call *c);
CK_RV finalize(struct call *c);
CK_RV log_in(struct call *c);
CK_RV change_pin(struct call *c);

// restrictions.c: what vendors' tokens refuse, and what they call their mechanisms.

CK_RV restricted(struct call *c); // of a creation
int refused_size(const struct numbers *sizes, const CK_ATTRIBUTE *length);
CK_MECHANISM_TYPE mapped(CK_MECHANISM_TYPE m);            // to the inner one
CK_ULONG mapped_list(CK_MECHANISM_TYPE *all, CK_ULONG n); // adds them to the n existing ones

// keys.c: keys that are made, wrapped, copied and read in other ways than by the inner module.

#define PADDED_KEY_WRAP 0xffffffff80f00001UL // an inner mechanism: CKM_AES_KEY_WRAP of the key with PKCS#7 padding

CK_RV make(struct call *c); // what creates objects
CK_RV wrap_key(struct call *c);
extern _Atomic int weak_count;
int weak_attribute(struct call *c, CK_ATTRIBUTE *t, CK_RV *rv); // of a weak copy; 0: the inner module's answer holds

// derive.c

CK_RV derive(struct call *c);

// gcm.c: initialisation vectors of the token's.

CK_RV encrypt_init(struct call *c);
CK_RV encrypt(struct call *c);

// lies.c

void lie(struct call *c, CK_RV *rv); // the call already has its true answer
CK_RV get_attributes(struct call *c);
CK_RV generate_random(struct call *c);

// special.c: the functions that do more than forward.

extern CK_RV (*const special[FUNCTION_COUNT])(struct call *); // NULL: the others

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

enum session_state { FREE, OPEN, ENDING, CLOSED }; // ENDING: the last call in progress closes it

struct session {
	enum session_state state;
	CK_SESSION_HANDLE handle; // as handed out
	uint32_t generation;
	CK_SESSION_HANDLE inner;
	CK_SLOT_ID slot; // of the inner module
	int instance;
	unsigned calls; // in progress

	CK_ULONG iv_length, tag_length; // of an encryption whose IV is to be appended; 0: there is none
	CK_BYTE iv[16];

	CK_ULONG pq_set; // of the key of an ML-DSA operation that was begun; 0: there is none
	CK_OBJECT_HANDLE pq_key;
	char pq_what; // of a signature: what to ask for
};

CK_SESSION_HANDLE session_add(const struct call *c, CK_SESSION_HANDLE inner, CK_SLOT_ID slot); // 0: no room
struct session *session_enter(const struct call *c, CK_SESSION_HANDLE handle);                 // NULL: there is none
void session_leave(struct session *s);
void session_closed(struct session *s); // its caller has closed it inside

// sessions_end closes the sessions of which this is true.
void sessions_end(int (*ends)(const struct session *, const struct call *), const struct call *c);

void object_add(CK_OBJECT_HANDLE inner, const struct session *s);
int object_known(CK_OBJECT_HANDLE inner);
int object_foreign(CK_OBJECT_HANDLE inner, const struct session *s); // a session object of another session
void object_remove(CK_OBJECT_HANDLE inner);

// trace.c

// trace appends a call, as its caller sees it, to the trace file: a JSON object a line.
void trace(const char *path, const struct call *c, CK_RV rv);

#endif

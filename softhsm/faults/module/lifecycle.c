// Initialisation, logins and PINs.

#include <pthread.h>
#include <string.h>

#include "module.h"

#define NOBODY UINT64_MAX

struct instance instances[MOST_INSTANCES];

int wedged(const struct call *c)
{
	return instances[c->instance].wedges != control->wedges && c->f != C_Initialize_AT && c->f != C_Finalize_AT &&
		c->f != C_GetFunctionList_AT;
}

int logged_out(const struct call *c)
{
	uint64_t login = instances[c->instance].login;
	CK_SESSION_INFO info;

	if (login != NOBODY)
		return login != control->logins;
	// Others in this process may be logged in to the inner module: that is not this module's login.
	return c->session != NULL && inner->C_GetSessionInfo(c->session->inner, &info) == CKR_OK &&
		(info.state == CKS_RW_USER_FUNCTIONS || info.state == CKS_RO_USER_FUNCTIONS);
}

CK_RV initialize(struct call *c)
{
	struct instance *i = &instances[c->instance];
	CK_C_INITIALIZE_ARGS given = { .pReserved = NULL };
	int no = 0;

	if (!atomic_compare_exchange_strong(&i->initialised, &no, 1))
		return CKR_CRYPTOKI_ALREADY_INITIALIZED;
	CK_RV rv = CKR_OK;
	if (control->init_argument[0] != 0) {
		if (c->a[0] != 0)
			given = *(CK_C_INITIALIZE_ARGS *)c->a[0];
		if (given.pReserved == NULL || strcmp(given.pReserved, control->init_argument) != 0)
			rv = CKR_ARGUMENTS_BAD;
		given.pReserved = NULL;
		c->inner[0] = (CK_ULONG)&given;
	}
	if (rv == CKR_OK)
		rv = forward(c);
	if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
		rv = CKR_OK; // by somebody else in this process
	if (rv != CKR_OK)
		i->initialised = 0;
	i->login = NOBODY;
	if (!control->unplugged)
		i->wedges = control->wedges;
	return rv;
}

static int session_of_instance(const struct session *s, const struct call *c) { return s->instance == c->instance; }

// finalize does not finalise the inner module, which others use.
CK_RV finalize(struct call *c)
{
	if (c->a[0] != 0)
		return CKR_ARGUMENTS_BAD;
	sessions_end(session_of_instance, c);
	instances[c->instance].login = NOBODY;
	instances[c->instance].initialised = 0;
	return CKR_OK;
}

// The right PINs of slots, as far as they are known.
static struct pin {
	CK_SLOT_ID slot;
	CK_ULONG length;
	CK_BYTE text[256];
} pins[8]; // guarded by pins_mutex
static unsigned pins_count;
static pthread_mutex_t pins_mutex = PTHREAD_MUTEX_INITIALIZER;

static void learn_pin(CK_SLOT_ID slot, const void *text, CK_ULONG length)
{
	struct pin p = { .slot = slot, .length = length };

	if (text == NULL || length > sizeof p.text)
		return;
	memcpy(p.text, text, length);
	pthread_mutex_lock(&pins_mutex);
	pins[pins_count++ % (sizeof pins / sizeof *pins)] = p;
	pthread_mutex_unlock(&pins_mutex);
}

static void forget_pins(void)
{
	pthread_mutex_lock(&pins_mutex);
	pins_count = 0;
	memset(pins, 0, sizeof pins);
	pthread_mutex_unlock(&pins_mutex);
}

// known_pin reports whether a PIN is that of the slot, or -1 if that is unknown.
static int known_pin(CK_SLOT_ID slot, const void *text, CK_ULONG length)
{
	int right = -1;

	pthread_mutex_lock(&pins_mutex);
	for (size_t i = 0; text != NULL && i < sizeof pins / sizeof *pins; i++)
		if (pins[i].length != 0 && pins[i].slot == slot)
			right = pins[i].length == length && memcmp(pins[i].text, text, length) == 0;
	pthread_mutex_unlock(&pins_mutex);
	return right;
}

// check_pin checks the PIN of C_Login while this process is still logged in to the inner module, which
// then ignores the PIN. Changing the PIN to itself makes it check.
static CK_RV check_pin(const struct call *c)
{
	CK_SESSION_HANDLE session;
	int known = known_pin(c->session->slot, (void *)c->a[2], c->a[3]);

	if (known >= 0)
		return known ? CKR_OK : CKR_PIN_INCORRECT;
	CK_RV rv = inner->C_OpenSession(c->session->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
	if (rv != CKR_OK)
		return rv;
	rv = inner->C_SetPIN(session, (CK_BYTE *)c->a[2], c->a[3], (CK_BYTE *)c->a[2], c->a[3]);
	inner->C_CloseSession(session);
	return rv == CKR_PIN_LEN_RANGE ? CKR_PIN_INCORRECT : rv;
}

static int pin_locked(void) { return control->pins_most > 0 && control->pins_wrong >= control->pins_most; }

// pin_flags sets the flags of the PIN, for a token that locks (PKCS#11 v2.40, CK_TOKEN_INFO).
void pin_flags(CK_FLAGS *flags)
{
	int64_t most = control->pins_most, wrong = control->pins_wrong;

	if (most <= 0)
		return;
	*flags &= ~(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
	if (wrong > 0)
		*flags |= CKF_USER_PIN_COUNT_LOW;
	if (wrong == most - 1)
		*flags |= CKF_USER_PIN_FINAL_TRY;
	if (wrong >= most)
		*flags |= CKF_USER_PIN_LOCKED;
}

CK_RV log_in(struct call *c)
{
	uint64_t logins = control->logins;
	int user = c->a[1] == CKU_USER;

	if (user && pin_locked())
		return CKR_PIN_LOCKED;
	CK_RV rv = forward(c);
	if (rv == CKR_USER_ALREADY_LOGGED_IN && logged_out(c))
		rv = user ? check_pin(c) : CKR_OK;
	if (user && rv == CKR_PIN_INCORRECT)
		atomic_fetch_add(&control->pins_wrong, 1);
	if (rv != CKR_OK)
		return rv;
	if (user) {
		control->pins_wrong = 0;
		learn_pin(c->session->slot, (void *)c->a[2], c->a[3]);
	}
	instances[c->instance].login = logins;
	return CKR_OK;
}

// change_pin is C_InitPIN, which unlocks the PIN, or C_SetPIN.
CK_RV change_pin(struct call *c)
{
	CK_RV rv = forward(c);
	if (rv != CKR_OK)
		return rv;
	forget_pins();
	if (c->f == C_InitPIN_AT)
		control->pins_wrong = 0;
	return CKR_OK;
}

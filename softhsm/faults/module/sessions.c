#include <pthread.h>
#include <stdlib.h>

#include "module.h"

enum { MOST_SESSIONS = 8192 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct session sessions[MOST_SESSIONS]; // guarded by mutex

// at is the position of a generation's session by number. Generations start at different positions, so that what is left of
// one rarely collides with the next.
static struct session *at(uint32_t generation, uint32_t number)
{
	return &sessions[(number + generation * 1021) % MOST_SESSIONS];
}

// The session objects that calls of this module have made.
static struct object {
	CK_OBJECT_HANDLE inner;
	CK_SESSION_HANDLE session;
	uint32_t generation;
} *objects;
static size_t objects_count, objects_room;

int tally(_Atomic uint64_t *gauge, uint32_t generation, int change, int64_t limit, _Atomic uint64_t *most)
{
	uint64_t old = *gauge, most_before = *most;

	do {
		if (old >> 32 != generation || (limit >= 0 && (int64_t)(uint32_t)old + change > limit))
			return 0;
	} while (!atomic_compare_exchange_weak(gauge, &old, old + (int64_t)change));
	uint64_t now = (uint32_t)old + (int64_t)change;
	while (now > most_before && !atomic_compare_exchange_weak(most, &most_before, now))
		;
	return 1;
}

static void tally_object(uint32_t generation, int change)
{
	tally(&control->objects, generation, change, -1, &control->objects_most);
}

static void object_remove_at(size_t i)
{
	tally_object(objects[i].generation, -1);
	objects[i] = objects[--objects_count];
}

// gone ends the session for its callers, with what belongs to it.
static void gone(struct session *s, enum session_state state)
{
	s->state = state;
	tally(&control->sessions, s->generation, -1, -1, &control->sessions_most);
	for (size_t i = objects_count; i-- > 0;)
		if (objects[i].session == s->handle && objects[i].generation == s->generation)
			object_remove_at(i);
}

static void finish(struct session *s)
{
	if (s->state == OPEN || s->calls > 0)
		return;
	if (s->state == ENDING)
		inner->C_CloseSession(s->inner);
	s->state = FREE;
}

CK_SESSION_HANDLE session_add(const struct call *c, CK_SESSION_HANDLE inner, CK_SLOT_ID slot)
{
	uint32_t generation = c->generation;
	static uint32_t newest, last; // guarded by mutex
	CK_SESSION_HANDLE handle = 0;

	pthread_mutex_lock(&mutex);
	if (control->reuse_handles && newest != generation)
		last = 0;
	newest = generation;
	for (int tries = 0; tries < MOST_SESSIONS && handle == 0; tries++) {
		struct session *s = at(generation, ++last);
		if (s->state != FREE || last == 0)
			continue;
		handle = handle_of(generation, last);
		*s = (struct session){ .state = OPEN, .handle = handle, .generation = generation, .inner = inner, .slot = slot,
			.instance = c->instance };
	}
	pthread_mutex_unlock(&mutex);
	return handle;
}

struct session *session_enter(const struct call *c, CK_SESSION_HANDLE handle)
{
	struct session *s = at(c->generation, handle);

	pthread_mutex_lock(&mutex);
	if (s->state == OPEN && s->handle == handle && s->generation == c->generation && s->instance == c->instance)
		s->calls++;
	else
		s = NULL;
	pthread_mutex_unlock(&mutex);
	return s;
}

void session_leave(struct session *s)
{
	pthread_mutex_lock(&mutex);
	s->calls--;
	finish(s);
	pthread_mutex_unlock(&mutex);
}

void session_closed(struct session *s)
{
	pthread_mutex_lock(&mutex);
	if (s->state == OPEN)
		gone(s, CLOSED);
	s->state = CLOSED;
	pthread_mutex_unlock(&mutex);
}

void sessions_end(int (*ends)(const struct session *, const struct call *), const struct call *c)
{
	pthread_mutex_lock(&mutex);
	for (struct session *s = sessions; s < sessions + MOST_SESSIONS; s++)
		if (s->state == OPEN && ends(s, c)) {
			gone(s, ENDING);
			finish(s);
		}
	pthread_mutex_unlock(&mutex);
}

void object_add(CK_OBJECT_HANDLE inner, const struct session *s)
{
	pthread_mutex_lock(&mutex);
	if (objects_count == objects_room) {
		objects_room = 2 * objects_room + 64;
		objects = realloc(objects, objects_room * sizeof *objects);
		if (objects == NULL)
			abort();
	}
	objects[objects_count++] = (struct object){ inner, s->handle, s->generation };
	tally_object(s->generation, 1);
	pthread_mutex_unlock(&mutex);
}

// object_at returns the position of an object, the newest first, or objects_count. The mutex is held.
static size_t object_at(CK_OBJECT_HANDLE inner)
{
	for (size_t i = objects_count; i-- > 0;)
		if (objects[i].inner == inner)
			return i;
	return objects_count;
}

int object_known(CK_OBJECT_HANDLE inner)
{
	pthread_mutex_lock(&mutex);
	int known = object_at(inner) < objects_count;
	pthread_mutex_unlock(&mutex);
	return known;
}

int object_foreign(CK_OBJECT_HANDLE inner, const struct session *s)
{
	pthread_mutex_lock(&mutex);
	size_t i = object_at(inner);
	int foreign = i < objects_count && objects[i].session != s->handle;
	pthread_mutex_unlock(&mutex);
	return foreign;
}

void object_remove(CK_OBJECT_HANDLE inner)
{
	pthread_mutex_lock(&mutex);
	size_t i = object_at(inner);
	if (i < objects_count)
		object_remove_at(i);
	pthread_mutex_unlock(&mutex);
}

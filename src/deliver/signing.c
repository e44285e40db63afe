/* SPDX-License-Identifier: Apache-2.0 */
#include "deliver/signing.h"

#include "base/bug.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "mail/address.h"
#include "os/clock.h"
#include "sign/dkim.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

/*
 * A request goes from `waiting` (under the lock) to a thread and comes back as
 * an item of its loop. A thread looks into the cache again before it signs:
 * several deliveries of one message may have asked before the first was done.
 * Two threads that sign the same message at the same moment both do the work,
 * which is wasted once and wrong never.
 */

enum { THREADS_MAX = 64, KEYS_MAX = 2, KEPT_KEYS_MAX = 10000 };

/* A bad key is not read for each of a thousand messages. */
#define BAD_KEY_US (2 * US_PER_S)
/* Of our own fields before the header that came in. */
#define PREFIX_ROOM ((size_t)256 * 1024)

struct signature {
	atomic_uint references;
	uint64_t mno;
	uint32_t keys[KEYS_MAX]; /* ids; 0: none */
	int64_t good_until_us; /* wall: x= is far off until then */
	struct list link; /* signing.recent, the oldest first */
	char *text;
	size_t len;
};

/* Counted: one that is signed with may be dropped meanwhile. */
struct kept_key {
	atomic_uint references;
	struct sign_key *key; /* NULL: see failure */
	struct failure failure;
	int64_t until_us; /* monotonic; of a failure */
};

struct signing_request {
	struct list link; /* signing.waiting[…] */
	struct signing *signing;
	struct loop_item item;
	struct loop *loop;
	signing_fn *fn; /* NULL: cancelled */
	void *arg;
	uint64_t mno;
	struct directory_snapshot *snapshot;
	const struct directory_domain *domain; /* in it */
	struct signature *signature;
	struct failure failure;
};

struct signing {
	struct directory *directory;
	struct spool *spool;
	pthread_mutex_t lock;
	pthread_cond_t news;
	struct config *config; /* counted */
	struct list waiting[2]; /* urgent ones first */
	struct map *signatures; /* by mno */
	struct list recent;
	struct map *keys; /* by id: struct kept_key */
	pthread_t threads[THREADS_MAX];
	unsigned thread_count, threads_wanted;
	bool stopping;
	struct signing_stats stats;
};

static void
lock(struct signing *s)
{
	BUG_UNLESS(pthread_mutex_lock(&s->lock) == 0);
}

static void
unlock(struct signing *s)
{
	BUG_UNLESS(pthread_mutex_unlock(&s->lock) == 0);
}

/* ---- signatures -------------------------------------------------- */

struct span
signature_text(const struct signature *signature)
{
	return signature != NULL ? span_from(signature->text, signature->len)
				 : SPAN_EMPTY;
}

void
signature_unref(struct signature **signature)
{
	struct signature *s = *signature;

	*signature = NULL;
	if (s == NULL || atomic_fetch_sub(&s->references, 1) > 1)
		return;
	mem_free(s->text);
	mem_free(s);
}

static struct signature *
signature_ref(struct signature *s)
{
	atomic_fetch_add(&s->references, 1);
	return s;
}

/* The ids of the keys that sign for a domain now. */
static void
find_keys(const struct directory_domain *domain,
    const struct directory_key *ret_keys[static KEYS_MAX],
    uint32_t ids[static KEYS_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < KEYS_MAX; i++) {
		ret_keys[i] = NULL;
		ids[i] = 0;
	}
	for (size_t i = 0; i < domain->key_count && count < KEYS_MAX; i++) {
		if (domain->keys[i].state != DIRECTORY_KEY_ACTIVE)
			continue;
		ids[count] = domain->keys[i].id;
		ret_keys[count++] = &domain->keys[i];
	}
}

/* Under the lock. One made with other keys, or that expires soon, is none. */
static struct signature *
find_made(
    struct signing *s, uint64_t mno, const struct directory_domain *domain)
{
	struct signature *made = map_get_u64(s->signatures, mno);
	const struct directory_key *keys[KEYS_MAX];
	uint32_t ids[KEYS_MAX];

	if (made == NULL)
		return NULL;
	find_keys(domain, keys, ids);
	if (made->keys[0] != ids[0] || made->keys[1] != ids[1] ||
	    clock_wall_us() > made->good_until_us)
		return NULL;
	s->stats.reused++;
	return signature_ref(made);
}

static void
drop(struct signing *s, struct signature *made)
{
	list_remove(&made->link);
	(void)map_remove_u64(s->signatures, made->mno);
	signature_unref(&made);
}

/* Under the lock. */
static void
keep(struct signing *s, struct signature *made)
{
	struct signature *old = map_get_u64(s->signatures, made->mno);

	s->stats.made++;
	if (old != NULL)
		drop(s, old);
	while (map_count(s->signatures) > 0 &&
	       map_count(s->signatures) >= s->config->dkim.signatures)
		drop(s, LIST_ENTRY(s->recent.next, struct signature, link));
	if (s->config->dkim.signatures == 0)
		return;
	(void)map_put_u64(s->signatures, made->mno, signature_ref(made));
	list_append(&s->recent, &made->link);
}

/* ---- keys -------------------------------------------------------- */

static void
kept_unref(void *value)
{
	struct kept_key *kept = value;

	if (atomic_fetch_sub(&kept->references, 1) > 1)
		return;
	sign_key_free(&kept->key);
	mem_free(kept);
}

/* Also a failure that is fresh. NULL: must be read. */
static struct kept_key *
find_key(struct signing *s, uint32_t id)
{
	lock(s);
	struct kept_key *kept = map_get_u64(s->keys, id);
	if (kept != NULL && kept->key == NULL &&
	    clock_monotonic_us() >= kept->until_us)
		kept = NULL;
	if (kept != NULL)
		atomic_fetch_add(&kept->references, 1);
	unlock(s);
	return kept;
}

/* What stands there already was read by another thread a moment ago, or has
 * failed and does so no more. */
static void
keep_key(struct signing *s, uint32_t id, struct kept_key *kept)
{
	lock(s);
	if (map_count(s->keys) >= KEPT_KEYS_MAX) {
		map_free(&s->keys, kept_unref);
		s->keys = map_new();
	}
	atomic_fetch_add(&kept->references, 1);
	struct kept_key *old = map_put_u64(s->keys, id, kept);
	if (old != NULL)
		kept_unref(old);
	unlock(s);
}

/* Counted; its key may be NULL. */
static struct kept_key *
get_key(struct signing *s, const struct directory_domain *domain,
    const struct directory_key *wanted)
{
	struct kept_key *kept = find_key(s, wanted->id);

	if (kept != NULL)
		return kept;
	kept = MEM_NEW(struct kept_key);
	atomic_init(&kept->references, 1);
	struct failure *failure = &kept->failure;
	int code = directory_read_key(
	    s->directory, domain->name, wanted->selector, &kept->key, failure);
	if (code == 0 && sign_key_algorithm(kept->key) != wanted->algorithm) {
		sign_key_free(&kept->key);
		code = failure_set(failure, ERR_CORRUPT,
		    "the key %s of %s is of another kind than its record; put "
		    "it back from a copy",
		    wanted->selector, domain->name);
	}
	if (code < 0)
		LOG(LOG_ERROR, "deliver",
		    "mail waits for a key that cannot be used",
		    LOG_C("domain", domain->name),
		    LOG_C("selector", wanted->selector),
		    LOG_C("reason", failure->text));
	kept->until_us = clock_monotonic_us() + BAD_KEY_US;
	keep_key(s, wanted->id, kept);
	return kept;
}

/* ---- the work ---------------------------------------------------- */

static enum canon
canon_of(enum config_canon canon)
{
	return canon == CONFIG_SIMPLE ? CANON_SIMPLE : CANON_RELAXED;
}

static int
feed(struct signing *s, uint64_t mno, struct dkim_message *m)
{
	struct spool_message *message = NULL;
	struct span piece;
	uint64_t offset = 0;
	int code = spool_message_open(s->spool, mno, &message);

	if (code < 0)
		return code;
	do {
		code = spool_message_read(message, offset, &piece);
		if (code == 0 && piece.len > 0)
			code = dkim_message_feed(m, piece);
		offset += piece.len;
	} while (code == 0 && piece.len > 0);
	spool_message_unref(&message);
	return code < 0 ? code : dkim_message_end(m);
}

static int
sign_with(struct signing_request *r, const struct dkim_message *m,
    const struct directory_key *wanted, const struct dkim_options *options,
    struct buf *out)
{
	struct kept_key *kept = get_key(r->signing, r->domain, wanted);
	int code = 0;

	if (kept->key == NULL) {
		r->failure = kept->failure;
		code = kept->failure.code;
	} else {
		code = dkim_sign(m, kept->key, options, out);
		if (code < 0)
			(void)failure_set(&r->failure, code,
			    "the message cannot be signed: %s",
			    error_text(code));
	}
	kept_unref(kept);
	return code;
}

static int
add_signatures(struct signing_request *r, const struct config *config,
    const struct dkim_message *m, int64_t now_us, struct buf *out)
{
	const struct directory_key *wanted[KEYS_MAX];
	uint32_t ids[KEYS_MAX];

	find_keys(r->domain, wanted, ids);
	if (wanted[0] == NULL)
		return failure_set(&r->failure, ERR_NOT_FOUND,
		    "the domain %s has no key that signs; make one with "
		    "`posthouse domain rotate %s`",
		    r->domain->name, r->domain->name);
	for (size_t i = 0; i < KEYS_MAX && wanted[i] != NULL; i++) {
		const struct dkim_options options = {
			.domain = span_of(r->domain->name),
			.selector = span_of(wanted[i]->selector),
			.header = canon_of(config->dkim.header),
			.time_s = now_us / US_PER_S,
			.expire_s =
			    config->dkim.expire_us > 0
				? (now_us + config->dkim.expire_us) / US_PER_S
				: 0,
		};
		TRY(sign_with(r, m, wanted[i], &options, out));
	}
	return 0;
}

static struct signature *
signature_new(const struct signing_request *r, const struct config *config,
    int64_t now_us, struct span text)
{
	struct signature *made = MEM_NEW(struct signature);
	const struct directory_key *keys[KEYS_MAX];
	int64_t expire_us = config->dkim.expire_us;

	atomic_init(&made->references, 1);
	list_init(&made->link);
	made->mno = r->mno;
	find_keys(r->domain, keys, made->keys);
	made->good_until_us =
	    expire_us > 0 ? now_us + expire_us / 2 : TIME_NEVER;
	made->text = span_dup(text);
	made->len = text.len;
	return made;
}

static void
sign(struct signing_request *r, const struct config *config)
{
	struct dkim_message *m = dkim_message_new(canon_of(config->dkim.body),
	    (size_t)config->limits.header_size + PREFIX_ROOM);
	struct buf out = BUF_EMPTY;
	int64_t now_us = clock_wall_us();
	int code = feed(r->signing, r->mno, m);

	if (code < 0)
		(void)failure_set(&r->failure, code,
		    code == ERR_LIMIT
			? "its header is too large to be signed (%s)"
			: "it cannot be read to be signed: %s",
		    error_text(code));
	else
		code = add_signatures(r, config, m, now_us, &out);
	if (code == 0)
		r->signature = signature_new(r, config, now_us, buf_span(&out));
	buf_done(&out);
	dkim_message_free(&m);
}

/* With the lock held, which is let go of meanwhile. */
static void
work_on(struct signing *s, struct signing_request *r)
{
	struct config *config = config_ref(s->config);

	r->signature = find_made(s, r->mno, r->domain);
	if (r->signature == NULL) {
		unlock(s);
		sign(r, config);
		lock(s);
		if (r->signature != NULL)
			keep(s, r->signature);
		else
			s->stats.failed++;
	}
	unlock(s);
	config_unref(&config);
	loop_post(r->loop, &r->item);
	lock(s);
}

static void *
run(void *arg)
{
	struct signing *s = arg;

	lock(s);
	while (!s->stopping) {
		struct list *from = &s->waiting[0];

		if (list_is_empty(from))
			from = &s->waiting[1];
		if (list_is_empty(from)) {
			(void)pthread_cond_wait(&s->news, &s->lock);
			continue;
		}
		struct list *first = from->next;
		list_remove(first);
		work_on(s, LIST_ENTRY(first, struct signing_request, link));
	}
	unlock(s);
	return NULL;
}

/* Under the lock. Without any thread nothing would ever be signed. */
static bool
start_threads(struct signing *s)
{
	while (s->thread_count < s->threads_wanted) {
		pthread_t *thread = &s->threads[s->thread_count];

		if (pthread_create(thread, NULL, run, s) != 0)
			break;
		(void)pthread_setname_np(*thread, "signing");
		s->thread_count++;
	}
	return s->thread_count > 0;
}

/* ---- asking ------------------------------------------------------ */

static void
request_free(struct signing_request *r)
{
	directory_snapshot_unref(&r->snapshot);
	signature_unref(&r->signature);
	mem_free(r);
}

static void
tell(struct loop_item *item)
{
	struct signing_request *r =
	    LIST_ENTRY(item, struct signing_request, item);

	if (r->fn != NULL) {
		struct signature *signature = r->signature;

		r->signature = NULL;
		r->fn(r->arg, signature, &r->failure);
	}
	request_free(r);
}

static struct signing_request *
submit(struct signing *s, const struct signing_message *message,
    struct directory_snapshot *snapshot, const struct directory_domain *domain)
{
	struct signing_request *r = MEM_NEW(struct signing_request);

	r->signing = s;
	r->item.run = tell;
	r->loop = message->loop;
	r->fn = message->fn;
	r->arg = message->arg;
	r->mno = message->mno;
	r->snapshot = snapshot;
	r->domain = domain;
	if (start_threads(s)) {
		list_append(&s->waiting[message->is_urgent ? 0 : 1], &r->link);
		(void)pthread_cond_signal(&s->news);
		return r;
	}
	list_init(&r->link);
	(void)failure_set(&r->failure, -EAGAIN,
	    "no thread can be started to sign with; raise the limits on "
	    "threads");
	loop_post(r->loop, &r->item);
	return r;
}

enum signing_answer
signing_ask(struct signing *s, const struct signing_message *message,
    struct signature **ret_signature, struct signing_request **ret_request)
{
	struct span name = address_domain_of(message->header_from);

	if (name.len == 0 || !directory_has_domains(s->directory))
		return SIGNING_NONE;
	struct directory_snapshot *snapshot = directory_snapshot(s->directory);
	const struct directory_domain *domain =
	    directory_sender_domain(snapshot, message->tenant, name);
	if (domain == NULL) {
		directory_snapshot_unref(&snapshot);
		return SIGNING_NONE;
	}
	lock(s);
	struct signature *made = find_made(s, message->mno, domain);
	if (made == NULL)
		*ret_request = submit(s, message, snapshot, domain);
	unlock(s);
	if (made == NULL)
		return SIGNING_UNDER_WAY;
	directory_snapshot_unref(&snapshot);
	*ret_signature = made;
	return SIGNING_DONE;
}

void
signing_cancel(struct signing_request **request)
{
	struct signing_request *r = *request;

	*request = NULL;
	if (r == NULL)
		return;
	lock(r->signing);
	bool is_waiting = !list_is_empty(&r->link);
	list_remove(&r->link);
	unlock(r->signing);
	r->fn = NULL;
	if (is_waiting)
		request_free(r);
}

/* ---- life -------------------------------------------------------- */

static unsigned
threads_of(const struct config *config)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned wanted = config->dkim.threads;

	if (wanted == 0)
		wanted = cores > 1 ? (unsigned)cores / 2 : 1;
	return wanted < THREADS_MAX ? wanted : THREADS_MAX;
}

struct signing *
signing_new(const struct signing_options *options)
{
	struct signing *s = MEM_NEW(struct signing);

	BUG_UNLESS(pthread_mutex_init(&s->lock, NULL) == 0);
	BUG_UNLESS(pthread_cond_init(&s->news, NULL) == 0);
	s->directory = options->directory;
	s->spool = options->spool;
	s->config = config_ref(options->config);
	s->threads_wanted = threads_of(s->config);
	s->signatures = map_new();
	s->keys = map_new();
	list_init(&s->waiting[0]);
	list_init(&s->waiting[1]);
	list_init(&s->recent);
	return s;
}

void
signing_stop(struct signing *s)
{
	lock(s);
	s->stopping = true;
	(void)pthread_cond_broadcast(&s->news);
	unlock(s);
	for (unsigned i = 0; i < s->thread_count; i++)
		(void)pthread_join(s->threads[i], NULL);
	s->thread_count = s->threads_wanted = 0;
}

void
signing_free(struct signing **signing)
{
	struct signing *s = *signing;

	*signing = NULL;
	if (s == NULL)
		return;
	signing_stop(s);
	BUG_UNLESS(
	    list_is_empty(&s->waiting[0]) && list_is_empty(&s->waiting[1]));
	LIST_FOR_EACH_SAFE(link, &s->recent)
		drop(s, LIST_ENTRY(link, struct signature, link));
	map_free(&s->signatures, NULL);
	map_free(&s->keys, kept_unref);
	config_unref(&s->config);
	BUG_UNLESS(pthread_cond_destroy(&s->news) == 0);
	BUG_UNLESS(pthread_mutex_destroy(&s->lock) == 0);
	mem_free(s);
}

void
signing_set_config(struct signing *signing, struct config *config)
{
	lock(signing);
	struct config *old = signing->config;
	signing->config = config_ref(config);
	unlock(signing);
	config_unref(&old);
}

void
signing_stats(struct signing *signing, struct signing_stats *ret_stats)
{
	lock(signing);
	*ret_stats = signing->stats;
	unlock(signing);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "sts/store.h"

#include "base/bug.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "resolve/resolve.h"
#include "sts/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/*
 *   sts_ask -- entry --+-- known: answered
 *                      +-- not, or to be looked at again: a job
 *
 *   job: TXT --+-- same id, young enough ---------------+-- settle: waiters
 *              +-- new id: addresses -- fetch -- parse --+   are told
 *
 * Entries and waiters are under the lock, jobs are the thread's own. What a job
 * finds out it writes into its entry, which stays while it runs.
 */

#define DOMAINS_MAX 10000
#define CHECK_MIN_US US_PER_MIN
#define CHECK_MAX_US US_PER_HOUR
#define RENEW_US US_PER_DAY
#define FAILED_US (5 * US_PER_MIN) /* RFC 8461 §3.3: not too often */
#define SAVE_US (5 * US_PER_S)
#define FILE_MAX ((size_t)64 * 1024 * 1024)
#define HEAD "posthouse mta-sts 1"

struct entry {
	struct list lru_link;
	char *domain;
	struct sts_policy *policy; /* or NULL */
	char id[STS_ID_SIZE];
	int64_t fetched_us, expires_us; /* wall */
	int64_t check_us; /* monotonic: look again from then on */
	struct list waiters;
	bool has_job;
};

struct sts_query {
	struct list link; /* entry.waiters, while it waits */
	struct loop_item item;
	struct sts_store *store;
	struct loop *loop;
	sts_fn *fn; /* NULL: cancelled after it was posted */
	void *arg;
	bool is_posted;
	struct sts_policy *policy;
	char id[STS_ID_SIZE];
	int64_t valid_until_us;
};

struct job {
	struct loop_item item;
	struct list link; /* store.jobs */
	struct sts_store *store;
	struct entry *entry;
	struct config *config;
	char *host;
	char id[STS_ID_SIZE];
	int64_t check_us;
	struct resolve_query *query;
};

struct sts_store {
	pthread_mutex_t lock;
	pthread_t thread;
	struct loop *loop;
	char *path;
	struct config *config; /* these under the lock */
	bool validates, is_stale; /* the resolver is of another config */
	bool is_stopped;
	struct map *entries;
	struct list lru;
	struct resolver *resolver; /* these the thread's */
	struct fetcher *fetcher;
	struct list jobs;
	struct loop_timer save_timer;
	bool is_changed;
};

/* ---- entries, under the lock -------------------------------------------- */

static bool
is_alive(const struct entry *e)
{
	return e->policy != NULL && e->expires_us > clock_wall_us();
}

static void
entry_free(struct entry *e)
{
	list_remove(&e->lru_link);
	sts_policy_unref(&e->policy);
	mem_free(e->domain);
	mem_free(e);
}

static void
make_room(struct sts_store *s)
{
	if (map_count(s->entries) < DOMAINS_MAX)
		return;
	LIST_FOR_EACH_SAFE(link, &s->lru) {
		struct entry *e = LIST_ENTRY(link, struct entry, lru_link);
		if (e->has_job || !list_is_empty(&e->waiters))
			continue;
		(void)map_remove(s->entries, span_of(e->domain));
		entry_free(e);
		return;
	}
}

/* Makes it when it is missing, and the most recently used. */
static struct entry *
entry_of(struct sts_store *s, struct span domain)
{
	struct entry *e = map_get(s->entries, domain);

	if (e == NULL) {
		make_room(s);
		e = MEM_NEW(struct entry);
		e->domain = span_dup(domain);
		list_init(&e->waiters);
		list_init(&e->lru_link);
		(void)map_put(s->entries, domain, e);
	}
	list_remove(&e->lru_link);
	list_append(&s->lru, &e->lru_link);
	return e;
}

static void
entry_set_policy(struct entry *e, struct sts_policy *policy)
{
	sts_policy_unref(&e->policy);
	e->policy = policy;
}

/* ---- telling ------------------------------------------------------------ */

static void
query_take(struct sts_query *q, const struct entry *e)
{
	if (is_alive(e)) {
		q->policy = sts_policy_ref(e->policy);
		memcpy(q->id, e->id, sizeof q->id);
	}
	q->valid_until_us = e->check_us;
}

/* Frees the query. */
static void
query_tell(struct sts_query *q)
{
	const struct sts_answer answer = {
		.policy = q->policy,
		.id = q->id,
		.valid_until_us = q->valid_until_us,
	};
	if (q->fn != NULL)
		q->fn(q->arg, &answer);
	sts_policy_unref(&q->policy);
	mem_free(q);
}

static void
on_posted(struct loop_item *item)
{
	query_tell(LIST_ENTRY(item, struct sts_query, item));
}

static void
tell_waiters(struct entry *e)
{
	while (!list_is_empty(&e->waiters)) {
		struct sts_query *q =
		    LIST_ENTRY(e->waiters.next, struct sts_query, link);
		list_remove(&q->link);
		query_take(q, e);
		q->is_posted = true;
		q->item.run = on_posted;
		loop_post(q->loop, &q->item);
	}
}

/* ---- the file ----------------------------------------------------------- */

/* A block of lines for each policy: domain, id, times, the policy itself. */
static void
append_entry(const struct entry *e, struct buf *out)
{
	buf_printf(out, "\ndomain: %s\nid: %s\nfetched: %lld\n", e->domain,
	    e->id, (long long)(e->fetched_us / US_PER_S));
	sts_policy_format(e->policy, out);
}

static void
save(struct sts_store *s)
{
	struct buf text = BUF_EMPTY;

	s->is_changed = false;
	buf_append_str(&text, HEAD "\n");
	pthread_mutex_lock(&s->lock);
	LIST_FOR_EACH(link, &s->lru) {
		const struct entry *e =
		    LIST_ENTRY(link, struct entry, lru_link);
		if (is_alive(e))
			append_entry(e, &text);
	}
	pthread_mutex_unlock(&s->lock);
	int err = file_replace(s->path, buf_span(&text), 0640);
	buf_done(&text);
	if (err < 0)
		LOG(LOG_WARNING, "sts",
		    "MTA-STS policies cannot be kept: they will be fetched "
		    "again after a restart",
		    LOG_C("file", s->path), LOG_C("error", error_text(err)));
}

static void
on_save(struct loop_timer *timer)
{
	save(LIST_ENTRY(timer, struct sts_store, save_timer));
}

static void
save_soon(struct sts_store *s)
{
	if (s->is_changed)
		return;
	s->is_changed = true;
	loop_timer_set(s->loop, &s->save_timer, loop_now_us(s->loop) + SAVE_US);
}

/* "name: value" of the next line; false: another name. */
static bool
take_value(struct span *text, const char *name, struct span *ret_value)
{
	struct span rest = *text;
	struct span value = span_cut(&rest, '\n');
	struct span found = span_cut(&value, ':');

	if (!span_eq(found, span_of(name)))
		return false;
	*ret_value = span_trim(value);
	*text = rest;
	return true;
}

static void
load_block(struct sts_store *s, struct span block)
{
	struct span domain, id, fetched;
	const char *problem;
	uint64_t seconds;

	if (!take_value(&block, "domain", &domain) ||
	    !take_value(&block, "id", &id) ||
	    !take_value(&block, "fetched", &fetched) ||
	    !span_to_u64(fetched, INT64_MAX / US_PER_S, &seconds) ||
	    domain.len == 0 || id.len >= STS_ID_SIZE)
		return;
	struct sts_policy *policy = sts_policy_parse(block, &problem);
	if (policy == NULL)
		return;
	struct entry *e = entry_of(s, domain);
	entry_set_policy(e, policy);
	(void)span_to_cstring(id, e->id, sizeof e->id);
	e->fetched_us = (int64_t)seconds * US_PER_S;
	e->expires_us = e->fetched_us + policy->max_age_s * US_PER_S;
}

static void
load(struct sts_store *s)
{
	struct buf text = BUF_EMPTY;
	int err = file_read(s->path, FILE_MAX, &text);
	struct span rest = buf_span(&text);

	if (err < 0 && err != -ENOENT)
		LOG(LOG_WARNING, "sts", "MTA-STS policies cannot be read",
		    LOG_C("file", s->path), LOG_C("error", error_text(err)));
	if (err == 0 && !span_eq(span_cut(&rest, '\n'), SPAN(HEAD)))
		rest = SPAN_EMPTY;
	while (err == 0 && rest.len > 0) {
		size_t end = span_search(rest, SPAN("\n\n"));
		load_block(s, span_trim(span_slice(rest, 0, end)));
		rest = end == SIZE_MAX ? SPAN_EMPTY : span_skip(rest, end + 2);
	}
	buf_done(&text);
}

/* ---- jobs: on the thread ------------------------------------------------ */

static void
job_free(struct job *j)
{
	list_remove(&j->link);
	resolve_cancel(&j->query);
	config_unref(&j->config);
	mem_free(j->host);
	mem_free(j);
}

/* Ends the job: the entry is as known as it will be. */
static void
settle(struct job *j, int64_t check_us)
{
	struct sts_store *s = j->store;

	pthread_mutex_lock(&s->lock);
	j->entry->check_us = check_us;
	j->entry->has_job = false;
	tell_waiters(j->entry);
	pthread_mutex_unlock(&s->lock);
	job_free(j);
}

static void
fail(struct job *j, const char *problem)
{
	struct sts_store *s = j->store;

	pthread_mutex_lock(&s->lock);
	bool has_policy = is_alive(j->entry);
	pthread_mutex_unlock(&s->lock);
	LOG(LOG_INFO, "sts", "an MTA-STS policy cannot be fetched",
	    LOG_C("domain", j->entry->domain), LOG_C("reason", problem),
	    LOG_C("instead", has_policy ? "the one known" : "none"));
	settle(j, loop_now_us(s->loop) + FAILED_US);
}

static void
take_policy(struct job *j, struct sts_policy *policy)
{
	struct sts_store *s = j->store;
	struct entry *e = j->entry;
	int64_t now_us = clock_wall_us();

	pthread_mutex_lock(&s->lock);
	entry_set_policy(e, policy);
	memcpy(e->id, j->id, sizeof e->id);
	e->fetched_us = now_us;
	e->expires_us = now_us + policy->max_age_s * US_PER_S;
	pthread_mutex_unlock(&s->lock);
	save_soon(s);
	settle(j, j->check_us);
}

static void
on_fetched(void *arg, struct span body, const char *problem)
{
	struct job *j = arg;
	struct sts_policy *policy = NULL;

	if (problem == NULL)
		policy = sts_policy_parse(body, &problem);
	if (policy == NULL)
		fail(j, problem);
	else
		take_policy(j, policy);
}

/* RFC 8461 leaves open where the policy host may be; ours to say that a record
 * of a stranger makes us speak to nobody inside. */
static void
on_addresses(void *arg, const struct resolve_answer *answer)
{
	enum { ADDRESSES_MAX = 8 };

	struct job *j = arg;
	struct netaddr addresses[ADDRESSES_MAX];
	const struct config *c = j->config;
	struct fetch_options options = {
		.host = j->host,
		.port = c->mta_sts.port,
		.addresses = addresses,
		.allow_private = c->delivery.allow_private,
		.ca_file = c->mta_sts.ca_file,
		.timeout_us = c->mta_sts.fetch_us,
	};
	size_t seen = 0;

	j->query = NULL;
	for (size_t i = 0; i < answer->host_count; i++) {
		const struct resolve_host *h = &answer->hosts[i];
		for (size_t k = 0; k < h->address_count; k++) {
			seen++;
			if (options.address_count < ADDRESSES_MAX &&
			    (options.allow_private ||
				!netaddr_is_private(&h->addresses[k])))
				addresses[options.address_count++] =
				    h->addresses[k];
		}
	}
	if (options.address_count > 0)
		fetch_start(j->store->fetcher, &options, on_fetched, j);
	else
		fail(j, seen > 0 ? "the policy host has only private addresses"
				 : answer->problem);
}

static void
start_fetch(struct job *j)
{
	struct sts_store *s = j->store;

	struct resolve_query *query =
	    resolve_host(s->resolver, span_of(j->host), on_addresses, j);
	if (query != NULL)
		j->query = query;
}

/* §3.1: with more than one record of this version there is no policy. */
static bool
find_record(const struct resolve_records *records, char id[static STS_ID_SIZE])
{
	unsigned count = 0;

	for (size_t i = 0; i < records->count; i++) {
		struct buf text = BUF_EMPTY;
		if (resolve_txt_join(records->rdata[i], &text) &&
		    span_starts(buf_span(&text), SPAN("v=STSv1")))
			count += sts_record_parse(buf_span(&text), id) ? 1 : 2;
		buf_done(&text);
	}
	return count == 1;
}

static int64_t
next_check(const struct sts_store *s, const struct resolve_records *records)
{
	int64_t now_us = loop_now_us(s->loop);
	int64_t at_us = records->valid_until_us;

	if (at_us < now_us + CHECK_MIN_US)
		return now_us + CHECK_MIN_US;
	return at_us > now_us + CHECK_MAX_US ? now_us + CHECK_MAX_US : at_us;
}

static bool
is_fresh(struct sts_store *s, const struct entry *e, const char *id)
{
	pthread_mutex_lock(&s->lock);
	int64_t age_us = clock_wall_us() - e->fetched_us;
	bool is_good = is_alive(e) && strcmp(e->id, id) == 0 &&
		       age_us < RENEW_US &&
		       age_us < e->policy->max_age_s * US_PER_S / 2;
	pthread_mutex_unlock(&s->lock);
	return is_good;
}

static void
on_record(void *arg, const struct resolve_records *records)
{
	struct job *j = arg;

	j->query = NULL;
	j->check_us = next_check(j->store, records);
	/* What is known counts on without a record, until it has expired. */
	if (records->result == RESOLVE_TEMPORARY ||
	    !find_record(records, j->id) || is_fresh(j->store, j->entry, j->id))
		settle(j, j->check_us);
	else
		start_fetch(j);
}

static int
renew_resolver(struct sts_store *s, struct config *c, bool validates)
{
	const struct resolver_options options = {
		.servers = c->resolver.servers,
		.server_count = c->resolver.server_count,
		.dnssec = c->resolver.dnssec && validates,
		.trust_anchor = c->resolver.trust_anchor,
		.timeout_us = c->resolver.timeout_us,
	};
	struct failure failure;
	struct resolver *new;
	int err = resolver_new(s->loop, &options, &new, &failure);

	if (err < 0) {
		LOG(LOG_ERROR, "sts", "cannot start a resolver",
		    LOG_C("reason", failure.text));
		return err;
	}
	/* Jobs that wait for the old one would wait for ever. */
	LIST_FOR_EACH(link, &s->jobs) {
		struct job *j = LIST_ENTRY(link, struct job, link);
		BUG_UNLESS(j->query == NULL);
	}
	resolver_free(&s->resolver);
	s->resolver = new;
	return 0;
}

static bool
has_queries(const struct sts_store *s)
{
	LIST_FOR_EACH(link, &s->jobs) {
		if (LIST_ENTRY(link, struct job, link)->query != NULL)
			return true;
	}
	return false;
}

static void
run_job(struct loop_item *item)
{
	struct job *j = LIST_ENTRY(item, struct job, item);
	struct sts_store *s = j->store;
	AUTO_FREE char *name = mem_printf("_mta-sts.%s", j->entry->domain);

	pthread_mutex_lock(&s->lock);
	bool renew = s->resolver == NULL || (s->is_stale && !has_queries(s));
	bool validates = s->validates;
	if (renew)
		s->is_stale = false;
	pthread_mutex_unlock(&s->lock);
	list_append(&s->jobs, &j->link);
	if (renew && renew_resolver(s, j->config, validates) < 0 &&
	    s->resolver == NULL) {
		fail(j, "there is no resolver");
		return;
	}
	struct resolve_query *query = resolve_records(
	    s->resolver, RESOLVE_TXT, span_of(name), on_record, j);
	if (query != NULL)
		j->query = query;
}

/* Under the lock. */
static void
start_job(struct sts_store *s, struct entry *e)
{
	struct job *j = MEM_NEW(struct job);

	list_init(&j->link);
	j->store = s;
	j->entry = e;
	j->config = config_ref(s->config);
	j->host = mem_printf("mta-sts.%s", e->domain);
	j->item.run = run_job;
	e->has_job = true;
	loop_post(s->loop, &j->item);
}

/* ---- asking ------------------------------------------------------------- */

struct sts_query *
sts_ask(struct sts_store *s, struct loop *loop, struct span domain, sts_fn *fn,
    void *arg)
{
	struct sts_query *q = MEM_NEW(struct sts_query);

	list_init(&q->link);
	q->store = s;
	q->loop = loop;
	q->fn = fn;
	q->arg = arg;
	pthread_mutex_lock(&s->lock);
	struct entry *e = entry_of(s, domain);
	bool is_due = e->check_us <= clock_monotonic_us();
	if (is_due && !e->has_job && !s->is_stopped)
		start_job(s, e);
	bool is_known = is_alive(e) || !is_due || s->is_stopped;
	if (is_known)
		query_take(q, e);
	else
		list_append(&e->waiters, &q->link);
	pthread_mutex_unlock(&s->lock);
	if (!is_known)
		return q;
	/* Looked at again meanwhile: soon there may be a newer one. */
	if (is_due)
		q->valid_until_us = loop_now_us(loop) + CHECK_MIN_US;
	query_tell(q);
	return NULL;
}

void
sts_cancel(struct sts_query **query)
{
	struct sts_query *q = *query;

	if (q == NULL)
		return;
	*query = NULL;
	pthread_mutex_lock(&q->store->lock);
	bool is_posted = q->is_posted;
	if (!is_posted)
		list_remove(&q->link);
	pthread_mutex_unlock(&q->store->lock);
	q->fn = NULL;
	if (!is_posted)
		mem_free(q);
}

/* ---- life --------------------------------------------------------------- */

static void *
run(void *arg)
{
	struct sts_store *s = arg;

	(void)pthread_setname_np(pthread_self(), "mta-sts");
	int err = loop_run(s->loop);
	if (err < 0)
		LOG(LOG_ERROR, "sts", "the thread for MTA-STS stopped",
		    LOG_C("error", error_text(err)));
	return NULL;
}

static int
start_thread(struct sts_store *s)
{
	sigset_t all, before;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = -pthread_create(&s->thread, NULL, run, s);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

static void
store_free(struct sts_store *s)
{
	LIST_FOR_EACH_SAFE(link, &s->jobs)
		job_free(LIST_ENTRY(link, struct job, link));
	fetcher_free(&s->fetcher);
	resolver_free(&s->resolver);
	LIST_FOR_EACH_SAFE(link, &s->lru)
		entry_free(LIST_ENTRY(link, struct entry, lru_link));
	map_free(&s->entries, NULL);
	loop_free(&s->loop);
	config_unref(&s->config);
	pthread_mutex_destroy(&s->lock);
	mem_free(s->path);
	mem_free(s);
}

int
sts_store_start(struct config *config, const char *path,
    struct sts_store **ret_store, struct failure *ret_failure)
{
	struct sts_store *s = MEM_NEW(struct sts_store);

	pthread_mutex_init(&s->lock, NULL);
	s->path = mem_strdup(path);
	s->config = config_ref(config);
	s->validates = true;
	s->entries = map_new();
	list_init(&s->lru);
	list_init(&s->jobs);
	s->save_timer.on_time = on_save;
	load(s);
	int err =
	    curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -ENOMEM;
	if (err == 0)
		err = loop_new(&s->loop);
	if (err == 0)
		err = fetcher_new(s->loop, &s->fetcher);
	if (err == 0)
		err = start_thread(s);
	if (err < 0) {
		store_free(s);
		return failure_set(ret_failure, err,
		    "cannot start the thread for MTA-STS: %s", error_text(err));
	}
	*ret_store = s;
	return 0;
}

void
sts_store_set_config(struct sts_store *s, struct config *config)
{
	pthread_mutex_lock(&s->lock);
	config_unref(&s->config);
	s->config = config_ref(config);
	s->is_stale = true;
	pthread_mutex_unlock(&s->lock);
}

void
sts_store_validates(struct sts_store *s, bool validates)
{
	pthread_mutex_lock(&s->lock);
	s->is_stale |= s->validates != validates;
	s->validates = validates;
	pthread_mutex_unlock(&s->lock);
}

void
sts_store_stop(struct sts_store *s)
{
	if (s == NULL || s->is_stopped)
		return;
	pthread_mutex_lock(&s->lock);
	s->is_stopped = true;
	pthread_mutex_unlock(&s->lock);
	loop_stop(s->loop);
	(void)pthread_join(s->thread, NULL);
	/* Jobs that were posted last come into the list, to be freed. */
	IGNORE(loop_turn(s->loop, 0));
	if (s->is_changed)
		save(s);
}

void
sts_store_free(struct sts_store **store)
{
	struct sts_store *s = *store;

	if (s == NULL)
		return;
	*store = NULL;
	sts_store_stop(s);
	store_free(s);
}

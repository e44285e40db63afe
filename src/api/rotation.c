/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rotation.h"

#include "api/dns.h"
#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "os/clock.h"

#include <pthread.h>
#include <stdarg.h>
#include <time.h>

/* What a domain's keys are at. */
struct state {
	size_t next, old;
	int64_t active_us, old_us; /* when they came to their state */
};

static struct state
state_of(const struct directory_domain *domain)
{
	struct state s = { .active_us = TIME_NEVER };

	for (size_t i = 0; i < domain->key_count; i++) {
		const struct directory_key *key = &domain->keys[i];

		s.next += key->state == DIRECTORY_KEY_NEXT;
		s.old += key->state == DIRECTORY_KEY_OLD;
		if (key->state == DIRECTORY_KEY_OLD &&
		    key->changed_us > s.old_us)
			s.old_us = key->changed_us;
		if (key->state == DIRECTORY_KEY_ACTIVE &&
		    key->changed_us < s.active_us)
			s.active_us = key->changed_us;
	}
	return s;
}

const char *
rotation_stage_name(enum rotation_stage stage)
{
	static const char *const names[] = {
		[ROTATION_NONE] = "none",
		[ROTATION_BEGUN] = "begun",
		[ROTATION_WAITING] = "waiting",
		[ROTATION_SWITCHED] = "switched",
		[ROTATION_KEEPING] = "keeping",
		[ROTATION_REVOKED] = "revoked",
	};

	return names[stage];
}

/* ---- one step ---------------------------------------------------------- */

/* 1: all new keys are in the DNS; 0: not all. Notes those that are. */
static int
find_seen(struct directory *directory, const struct config *config,
    const struct directory_domain *domain, const struct rotation_step *step,
    struct failure *ret_failure)
{
	struct arena *arena = arena_new();
	struct dns_finding findings[DNS_RECORDS_MAX];
	struct dns_plan all, next = { .cancelled = step->cancelled };
	uint32_t seen[DNS_RECORDS_MAX];
	struct directory_domain_check check = {
		.name = domain->name,
		.problem = domain->problem,
		.seen = seen,
	};

	dns_plan_make(domain, config, arena, &all);
	for (size_t i = 0; i < all.count; i++) {
		const struct directory_key *key = all.records[i].key;
		if (key != NULL && key->state == DIRECTORY_KEY_NEXT)
			next.records[next.count++] = all.records[i];
	}
	int code = dns_look(&next, config, arena, findings, ret_failure);
	for (size_t i = 0; code == 0 && i < next.count; i++) {
		if (findings[i].state == DNS_FINE)
			seen[check.seen_count++] = next.records[i].key->id;
	}
	if (code == 0 && check.seen_count > 0)
		code = directory_note_check(directory, &check, ret_failure);
	arena_free(&arena);
	return code < 0 ? code : check.seen_count == next.count;
}

static void
tell(enum rotation_stage stage, const struct directory_domain *domain,
    struct rotation_outcome *ret_outcome)
{
	static const char *const texts[] = {
		[ROTATION_NONE] = ": no new keys are due",
		[ROTATION_BEGUN] =
		    " has new keys: publish them (`posthouse domain dns`); "
		    "they will sign once they are seen",
		[ROTATION_WAITING] =
		    ": its new keys are not all in the DNS yet; publish "
		    "them (`posthouse domain dns`), then go on",
		[ROTATION_SWITCHED] =
		    " is signed with its new keys; leave the records of the "
		    "old ones in the DNS until they are revoked",
		[ROTATION_KEEPING] =
		    ": its old keys are kept for mail that is still on its "
		    "way",
		[ROTATION_REVOKED] =
		    ": its old keys are deleted; take their records out of "
		    "the DNS",
	};
	struct buf text = BUF_EMPTY;

	buf_printf(&text, "%s%s", domain->name, texts[stage]);
	ret_outcome->stage = stage;
	(void)span_to_cstring(
	    buf_span(&text), ret_outcome->text, sizeof ret_outcome->text);
	buf_done(&text);
}

static int
go_on(struct directory *directory, const struct config *config,
    const struct directory_domain *domain, const struct rotation_step *step,
    struct rotation_outcome *ret_outcome, struct failure *ret_failure)
{
	struct state now = state_of(domain);
	enum directory_rotation wanted = DIRECTORY_ROTATE_BEGIN;
	enum rotation_stage stage = ROTATION_BEGUN;
	bool is_due = step->may_begin;

	if (now.next > 0) {
		is_due = step->is_forced;
		if (!is_due) {
			int seen = find_seen(
			    directory, config, domain, step, ret_failure);
			TRY(seen);
			is_due = seen == 1;
		}
		wanted = DIRECTORY_ROTATE_SWITCH;
		stage = is_due ? ROTATION_SWITCHED : ROTATION_WAITING;
	} else if (now.old > 0) {
		is_due = step->is_forced || clock_wall_us() - now.old_us >=
						config->dkim.keep_old_us;
		wanted = DIRECTORY_ROTATE_REVOKE;
		stage = is_due ? ROTATION_REVOKED : ROTATION_KEEPING;
	} else if (!is_due) {
		stage = ROTATION_NONE;
	}
	if (is_due)
		TRY(directory_rotate(
		    directory, domain->name, wanted, ret_failure));
	tell(stage, domain, ret_outcome);
	return 0;
}

int
rotation_go_on(struct directory *directory, const struct config *config,
    const struct rotation_step *step, struct rotation_outcome *ret_outcome,
    struct failure *ret_failure)
{
	struct directory_snapshot *s = directory_snapshot(directory);
	const struct directory_domain *domain =
	    directory_find_domain(s, span_of(step->domain));
	int code;

	if (domain == NULL)
		code = failure_set(ret_failure, ERR_NOT_FOUND,
		    "there is no sender domain `%.100s`; `posthouse domain "
		    "list` shows them",
		    step->domain);
	else
		code = go_on(
		    directory, config, domain, step, ret_outcome, ret_failure);
	directory_snapshot_unref(&s);
	return code;
}

/* ---- the thread -------------------------------------------------------- */

struct rotation {
	struct rotation_options options;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	atomic_bool stopping;
};

static bool
is_stopping(const struct rotation *r)
{
	return atomic_load(&r->stopping);
}

/* Is there something to do for a domain, or may there be? */
static bool
find_step(const struct rotation *r, const struct directory_domain *domain,
    const struct config *config, struct rotation_step *ret_step)
{
	struct state now = state_of(domain);
	int64_t after_us = config->dkim.rotate_after_us;
	bool may_begin = after_us > 0 && now.active_us != TIME_NEVER &&
			 clock_wall_us() - now.active_us >= after_us;

	*ret_step = (struct rotation_step){
		.domain = domain->name,
		.may_begin = may_begin,
		.cancelled = &r->stopping,
	};
	return may_begin || now.next > 0 || now.old > 0;
}

static void
take_step(struct rotation *r, const struct config *config,
    const struct rotation_step *step)
{
	struct rotation_outcome outcome = { .stage = ROTATION_NONE };
	struct failure failure;

	int code = rotation_go_on(
	    r->options.directory, config, step, &outcome, &failure);
	if (code < 0 && is_stopping(r))
		return;
	if (code < 0)
		LOG(LOG_WARNING, "api", "a domain's keys cannot be rotated",
		    LOG_C("domain", step->domain),
		    LOG_C("reason", failure.text));
	else if (outcome.stage != ROTATION_KEEPING &&
		 outcome.stage != ROTATION_NONE)
		LOG(outcome.stage == ROTATION_SWITCHED ? LOG_INFO : LOG_WARNING,
		    "api", "a rotation of keys goes on",
		    LOG_C("stage", rotation_stage_name(outcome.stage)),
		    LOG_C("next", outcome.text));
}

static void
look_at_all(struct rotation *r, const struct config *config)
{
	struct directory_snapshot *s = directory_snapshot(r->options.directory);
	size_t count;
	const struct directory_domain *all = directory_domains(s, &count);

	for (size_t i = 0; i < count && !is_stopping(r); i++) {
		struct rotation_step step;

		if (find_step(r, &all[i], config, &step))
			take_step(r, config, &step);
	}
	directory_snapshot_unref(&s);
}

/* False: it is told to stop. */
static bool
sleep_for(struct rotation *r, int64_t us)
{
	int64_t end_us = clock_wall_us() + us;
	const struct timespec end = {
		.tv_sec = end_us / US_PER_S,
		.tv_nsec = end_us % US_PER_S * 1000,
	};
	int code = 0;

	BUG_UNLESS(pthread_mutex_lock(&r->lock) == 0);
	while (!r->stopping && code == 0)
		code = pthread_cond_timedwait(&r->news, &r->lock, &end);
	bool goes_on = !r->stopping;
	BUG_UNLESS(pthread_mutex_unlock(&r->lock) == 0);
	return goes_on;
}

static void *
run(void *arg)
{
	struct rotation *r = arg;
	int64_t pause_us;

	do {
		struct config *config = r->options.config(r->options.owner);

		look_at_all(r, config);
		pause_us = config->dkim.rotate_check_us;
		config_unref(&config);
	} while (sleep_for(r, pause_us));
	return NULL;
}

int
rotation_start(
    const struct rotation_options *options, struct rotation **ret_rotation)
{
	struct rotation *r = MEM_NEW(struct rotation);

	r->options = *options;
	BUG_UNLESS(pthread_mutex_init(&r->lock, NULL) == 0);
	BUG_UNLESS(pthread_cond_init(&r->news, NULL) == 0);
	int code = -pthread_create(&r->thread, NULL, run, r);
	if (code < 0) {
		BUG_UNLESS(pthread_cond_destroy(&r->news) == 0);
		BUG_UNLESS(pthread_mutex_destroy(&r->lock) == 0);
		mem_free(r);
		return code;
	}
	(void)pthread_setname_np(r->thread, "rotation");
	*ret_rotation = r;
	return 0;
}

void
rotation_stop(struct rotation **rotation)
{
	struct rotation *r = *rotation;

	*rotation = NULL;
	if (r == NULL)
		return;
	BUG_UNLESS(pthread_mutex_lock(&r->lock) == 0);
	atomic_store(&r->stopping, true);
	BUG_UNLESS(pthread_cond_signal(&r->news) == 0);
	BUG_UNLESS(pthread_mutex_unlock(&r->lock) == 0);
	BUG_UNLESS(pthread_join(r->thread, NULL) == 0);
	BUG_UNLESS(pthread_cond_destroy(&r->news) == 0);
	BUG_UNLESS(pthread_mutex_destroy(&r->lock) == 0);
	mem_free(r);
}

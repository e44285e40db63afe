/* SPDX-License-Identifier: Apache-2.0 */
#include "api/dns.h"
#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "loop/loop.h"
#include "os/clock.h"
#include "resolve/resolve.h"

#include <errno.h>

/* Answers come one after the other: a loop of this thread's own runs until all
 * are there. Nothing is cached, so that what was just published is seen. */

#define LOOK_US (20 * US_PER_S)
#define NOTICE_US (100 * US_PER_MS) /* until a cancelled one ends */

struct look {
	struct loop *loop;
	struct resolver *resolver;
	struct arena *arena;
	size_t outstanding;
};

/* One record's question. */
struct asked {
	struct look *look;
	const struct dns_record *record;
	struct dns_finding *finding;
	struct resolve_query *query;
	struct span host; /* MX: that should be there */
	struct span name; /* asked for: the record's, or DMARC's above it */
};

static void
find_trouble(struct asked *q, const char *problem)
{
	q->finding->state = DNS_UNKNOWN;
	q->finding->problem =
	    arena_printf(q->look->arena, "the DNS did not tell: %s", problem);
}

static resolve_records_fn on_records;

static void
ask_text(struct asked *q)
{
	q->look->outstanding++;
	q->query = resolve_records(
	    q->look->resolver, RESOLVE_TXT, q->name, on_records, q);
}

/* RFC 7489 §6.6.3: a name without a policy has that of the domain above it. We
 * do not know which names are registered, and look at all of two labels and
 * more. */
static void
ask_above(struct asked *q)
{
	struct span rest = q->name;

	if (!span_starts(rest, SPAN("_dmarc.")))
		return;
	(void)span_cut(&rest, '.');
	(void)span_cut(&rest, '.');
	if (span_find(rest, '.') == SIZE_MAX)
		return;
	q->name = arena_printf(q->look->arena, "_dmarc.%.*s", SPAN_ARG(rest));
	ask_text(q);
}

static void
on_records(void *arg, const struct resolve_records *answer)
{
	struct asked *q = arg;
	struct arena *arena = q->look->arena;
	struct span *texts = ARENA_ARRAY(arena, struct span, answer->count + 1);
	size_t count = 0;

	q->query = NULL;
	q->look->outstanding--;
	if (answer->result == RESOLVE_TEMPORARY) {
		find_trouble(q, answer->problem);
		return;
	}
	for (size_t i = 0; i < answer->count; i++) {
		struct buf text = BUF_EMPTY;

		if (resolve_txt_join(answer->rdata[i], &text))
			texts[count++] = arena_dup(arena, buf_span(&text));
		buf_done(&text);
	}
	q->finding->is_secure = answer->secure;
	dns_judge(q->record, texts, count, arena, q->finding);
	if (q->finding->state == DNS_MISSING)
		ask_above(q);
}

static void
on_hosts(void *arg, const struct resolve_answer *answer)
{
	struct asked *q = arg;
	struct dns_finding *f = q->finding;
	struct buf found = BUF_EMPTY;
	bool is_there = false;

	q->query = NULL;
	q->look->outstanding--;
	if (answer->result == RESOLVE_TEMPORARY) {
		find_trouble(q, answer->problem);
		return;
	}
	for (size_t i = 0; !answer->implicit_mx && i < answer->host_count;
	     i++) {
		struct span name = span_of(answer->hosts[i].name);

		is_there |= span_eq_nocase(name, q->host);
		buf_printf(&found, "%s%.*s", i > 0 ? ", " : "", SPAN_ARG(name));
	}
	f->is_secure = answer->mx_secure;
	f->found = arena_dup(q->look->arena, buf_span(&found));
	f->state = is_there           ? DNS_FINE
		   : f->found.len > 0 ? DNS_WRONG
				      : DNS_MISSING;
	if (!is_there)
		f->problem = arena_printf(q->look->arena,
		    f->found.len > 0
			? "%.*s leads its mail elsewhere: bounces do not come "
			  "back here"
			: "%.*s has no MX record: bounces do not come back",
		    SPAN_ARG(q->record->name));
	buf_done(&found);
}

static void
ask(struct asked *q)
{
	struct look *l = q->look;
	struct span name = q->record->name;

	q->name = name;
	if (q->record->type[0] == 'T') {
		ask_text(q);
		return;
	}
	l->outstanding++;
	q->host = q->record->value;
	(void)span_cut(&q->host, ' ');
	q->host = span_slice(q->host, 0, q->host.len - 1);
	q->query = resolve_mx(l->resolver, name, on_hosts, q);
}

static int
run(struct look *l, const atomic_bool *cancelled)
{
	int64_t end_us = clock_monotonic_us() + LOOK_US;

	while (l->outstanding > 0) {
		int64_t left_us = end_us - clock_monotonic_us();

		if (left_us <= 0)
			return -ETIMEDOUT;
		if (cancelled != NULL && atomic_load(cancelled))
			return -ECANCELED;
		TRY(loop_turn(
		    l->loop, left_us < NOTICE_US ? left_us : NOTICE_US));
	}
	return 0;
}

static int
look_open(
    struct look *l, const struct config *config, struct failure *ret_failure)
{
	struct resolver_options options = resolver_options_of(config);
	int code = loop_new(&l->loop);

	options.timeout_us = LOOK_US / 2;
	options.allow_private = true; /* names are all that is wanted */
	if (code < 0)
		return failure_set(ret_failure, code,
		    "cannot look into the DNS: %s", error_text(code));
	code = resolver_new(l->loop, &options, &l->resolver, ret_failure);
	if (code < 0)
		loop_free(&l->loop);
	return code;
}

int
dns_look(const struct dns_plan *plan, const struct config *config,
    struct arena *arena,
    struct dns_finding ret_findings[static DNS_RECORDS_MAX],
    struct failure *ret_failure)
{
	struct look l = { .arena = arena };
	struct asked asked[DNS_RECORDS_MAX] = { 0 };

	TRY(look_open(&l, config, ret_failure));
	for (size_t i = 0; i < plan->count; i++) {
		ret_findings[i] = (struct dns_finding){ .state = DNS_UNKNOWN,
			.problem = SPAN("the DNS did not answer in time") };
		asked[i] = (struct asked){
			.look = &l,
			.record = &plan->records[i],
			.finding = &ret_findings[i],
		};
		ask(&asked[i]);
	}
	int code = run(&l, plan->cancelled);
	for (size_t i = 0; i < plan->count; i++)
		if (asked[i].query != NULL)
			resolve_cancel(&asked[i].query);
	resolver_free(&l.resolver);
	loop_free(&l.loop);
	if (code == -ETIMEDOUT)
		code = 0; /* the findings say so */
	if (code < 0)
		return failure_set(ret_failure, code,
		    "cannot look into the DNS: %s", error_text(code));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/* The resolver is made for loops; here one question follows the other, so a
 * loop of our own turns until the answer is there. */

#include "base/mem.h"
#include "base/time.h"
#include "doctor/internal.h"
#include "loop/loop.h"
#include "os/clock.h"

#include <stdio.h>
#include <string.h>

/* A server that does not answer at all shall not take the whole time. */
#define QUESTION_US (5 * US_PER_S)
#define INTERVIEW_US US_PER_MIN
#define TURN_US (100 * US_PER_MS)

struct interview {
	struct loop *loop;
	struct resolver *resolver;
	struct resolve_query *query; /* under way */
	struct interview_answer *answer; /* of it; NULL: it is there */
	int64_t end_us; /* monotonic */
};

int
interview_begin(const struct config *config, bool dnssec,
    struct interview **ret_interview, struct failure *ret_failure)
{
	struct interview *i = MEM_NEW(struct interview);
	struct resolver_options options = resolver_options_of(config);
	int result = loop_new(&i->loop);

	options.dnssec = dnssec;
	options.timeout_us = QUESTION_US;
	options.allow_private = true; /* we only look */
	if (result < 0)
		failure_set(ret_failure, result, "cannot make a loop: %s",
		    error_text(result));
	else
		result =
		    resolver_new(i->loop, &options, &i->resolver, ret_failure);
	if (result < 0) {
		interview_end(&i);
		return result;
	}
	i->end_us = clock_monotonic_us() + INTERVIEW_US;
	*ret_interview = i;
	return 0;
}

void
interview_end(struct interview **interview)
{
	struct interview *i = *interview;

	resolver_free(&i->resolver);
	loop_free(&i->loop);
	mem_free(i);
	*interview = NULL;
}

static void
take_problem(struct interview_answer *answer, const char *problem)
{
	(void)snprintf(answer->problem, sizeof(answer->problem), "%s", problem);
}

static void
on_hosts(void *arg, const struct resolve_answer *found)
{
	struct interview *i = arg;
	struct interview_answer *answer = i->answer;

	i->answer = NULL;
	answer->result = found->result;
	take_problem(answer, found->problem);
	for (size_t h = 0; h < found->host_count; h++) {
		const struct resolve_host *host = &found->hosts[h];

		for (size_t a = 0; a < host->address_count &&
				   answer->address_count < ANSWERS_MAX;
		     a++)
			answer->addresses[answer->address_count++] =
			    host->addresses[a];
	}
}

static void
add_text(struct interview_answer *answer, struct span text)
{
	if (answer->text_count < ANSWERS_MAX)
		answer->texts[answer->text_count++] = span_dup(text);
}

static void
on_names(void *arg, const struct resolve_records *found)
{
	struct interview *i = arg;
	struct interview_answer *answer = i->answer;
	char name[DNS_NAME_SIZE];

	i->answer = NULL;
	answer->result = found->result;
	take_problem(answer, found->problem);
	for (size_t r = 0; r < found->count; r++) {
		if (name_rdata_parse(found->rdata[r], name))
			add_text(answer, span_of(name));
	}
}

static void
on_texts(void *arg, const struct resolve_records *found)
{
	struct interview *i = arg;
	struct interview_answer *answer = i->answer;

	i->answer = NULL;
	answer->result = found->result;
	take_problem(answer, found->problem);
	for (size_t r = 0; r < found->count; r++) {
		struct buf text = BUF_EMPTY;

		if (resolve_txt_join(found->rdata[r], &text))
			add_text(answer, buf_span(&text));
		buf_done(&text);
	}
}

/* False: the time is over; nothing more is asked. */
static bool
begin_question(struct interview *i, struct interview_answer *answer)
{
	*answer = (struct interview_answer){ .result = RESOLVE_TEMPORARY };
	if (clock_monotonic_us() >= i->end_us) {
		take_problem(answer,
		    "the DNS was too slow before, so this was not asked");
		return false;
	}
	i->answer = answer;
	return true;
}

static void
await_answer(struct interview *i)
{
	while (i->answer != NULL && clock_monotonic_us() < i->end_us) {
		if (loop_turn(i->loop, TURN_US) < 0)
			break;
	}
	if (i->answer != NULL) {
		take_problem(i->answer, "no answer in time");
		i->answer = NULL;
		resolve_cancel(&i->query);
	}
	i->query = NULL;
}

void
interview_host(
    struct interview *i, const char *host, struct interview_answer *ret_answer)
{
	if (!begin_question(i, ret_answer))
		return;
	i->query = resolve_host(i->resolver, span_of(host), on_hosts, i);
	await_answer(i);
}

void
interview_mail_hosts(struct interview *i, const char *domain,
    struct interview_answer *ret_answer)
{
	if (!begin_question(i, ret_answer))
		return;
	i->query = resolve_mx(i->resolver, span_of(domain), on_hosts, i);
	await_answer(i);
}

void
interview_records(struct interview *i, enum resolve_type type, const char *name,
    struct interview_answer *ret_answer)
{
	resolve_records_fn *fn = type == RESOLVE_TXT ? on_texts : on_names;

	if (!begin_question(i, ret_answer))
		return;
	i->query = resolve_records(i->resolver, type, span_of(name), fn, i);
	await_answer(i);
}

void
interview_answer_done(struct interview_answer *answer)
{
	for (size_t t = 0; t < answer->text_count; t++)
		mem_free(answer->texts[t]);
	*answer = (struct interview_answer){ 0 };
}

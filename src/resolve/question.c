/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "resolve/internal.h"

#include <signal.h>

static void
on_unbound(void *arg, int err, struct ub_result *result)
{
	struct question *q = arg;
	struct resolver *r = q->lookup->r;

	BUG_UNLESS(q->state == QUESTION_ASKED && r->asked > 0);
	q->state = QUESTION_NONE;
	r->asked--;
	lookup_on_answer(q, err, result);
	ub_resolve_free(result);
	questions_start(r);
}

int
unbound_ask(struct ub_ctx *ctx, const char *name, int type, void *arg,
    ub_callback_type fn, int *ret_id)
{
	return ub_resolve_async(ctx, name, type, CLASS_IN, arg, fn, ret_id);
}

/* libunbound starts its thread with the first question. Signals are for the
 * threads that wait for them, so it gets none. */
static int
ask_unbound(struct resolver *r, struct question *q, const char *name)
{
	sigset_t all, before;
	bool is_first = !r->has_thread;

	if (is_first) {
		(void)sigfillset(&all);
		(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	}
	int err = unbound_ask(r->unbound, name, q->type, q, on_unbound, &q->id);
	if (is_first) {
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
		r->has_thread = err == 0;
	}
	return err;
}

void
questions_start(struct resolver *r)
{
	while (r->asked < QUESTIONS_MAX && !list_is_empty(&r->queued)) {
		struct question *q =
		    LIST_ENTRY(r->queued.next, struct question, link);
		const char *name = q->host ? q->host->name : q->lookup->name;
		list_remove(&q->link);
		r->questions++;
		int err = ask_unbound(r, q, name);
		if (err) {
			q->state = QUESTION_NONE;
			lookup_on_answer(q, err, NULL);
			continue;
		}
		q->state = QUESTION_ASKED;
		r->asked++;
	}
}

void
question_ask(struct question *q, struct lookup *l, int type)
{
	BUG_UNLESS(q->state == QUESTION_NONE);
	q->lookup = l;
	q->type = type;
	q->state = QUESTION_QUEUED;
	l->outstanding++;
	list_append(&l->r->queued, &q->link);
}

void
question_drop(struct question *q)
{
	if (q->state == QUESTION_NONE)
		return;
	if (q->state == QUESTION_QUEUED) {
		list_remove(&q->link);
	} else {
		/* After this on_unbound is not called, even if the answer is
		 * on its way already. */
		(void)ub_cancel(q->lookup->r->unbound, q->id);
		q->lookup->r->asked--;
	}
	q->state = QUESTION_NONE;
	q->lookup->outstanding--;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"

/*
 * The scheduler has let go of what an outcome ends when the outcome goes to
 * the spool. One without a report the spool keeps until it can be written. One
 * with a report it may refuse, when the disk is full: then it is recorded anew
 * from the backlog, lest the recipients belong to nobody until a restart, and
 * are told nothing.
 */

struct submission {
	struct loop_item item;
	struct list link; /* dispatch.submissions */
	struct dispatch *dispatch; /* NULL: gone */
	struct loop *loop;
	struct list entries; /* of a backlog */
	int result;
};

static void
clear(struct submission *s)
{
	while (!list_is_empty(&s->entries))
		backlog_entry_free(
		    LIST_ENTRY(s->entries.next, struct backlog_entry, link));
}

static void
on_known(struct loop_item *item)
{
	struct submission *s = LIST_ENTRY(item, struct submission, item);
	list_remove(&s->link);
	if (s->dispatch != NULL && s->result < 0) {
		LOG(LOG_ERROR, "deliver", "cannot record an outcome yet",
		    LOG_C("reason", error_text(s->result)));
		backlog_put_back(s->dispatch, &s->entries);
	}
	clear(s);
	mem_free(s);
}

struct submission *
submission_new(struct dispatch *d)
{
	struct submission *s = MEM_NEW(struct submission);
	s->item.run = on_known;
	s->dispatch = d;
	s->loop = d->loop;
	list_init(&s->entries);
	list_append(&d->submissions, &s->link);
	return s;
}

static char *
copy(struct span text)
{
	return text.len > 0 ? span_dup(text) : NULL;
}

void
submission_add(struct submission *s, const struct attempt *a,
    const struct result *result, const struct schedule_delivery *delivery,
    bool warning)
{
	struct cause *cause = cause_new(result);
	cause->warning = warning;
	cause->recounted = true;
	cause->route = a->route;
	cause->site = copy(a->site);
	cause->peer_host = copy(a->peer_host);
	cause->peer_address = copy(a->peer_address);
	cause->order = dispatch_order_ref(a->order);
	struct backlog_entry *e =
	    backlog_entry_new(cause, a->tenant, a->stream, delivery);
	list_append(&s->entries, &e->link);
	cause_unref(&cause);
}

void
submission_done(void *arg, int result)
{
	struct submission *s = arg;
	s->result = result;
	loop_post(s->loop, &s->item);
}

void
submission_leave_all(struct dispatch *d)
{
	LIST_FOR_EACH_SAFE(link, &d->submissions) {
		struct submission *s =
		    LIST_ENTRY(link, struct submission, link);
		list_remove(&s->link);
		s->dispatch = NULL;
		LIST_FOR_EACH(at, &s->entries)
			order_keep(LIST_ENTRY(at, struct backlog_entry, link)
				       ->cause->order);
		clear(s);
	}
}

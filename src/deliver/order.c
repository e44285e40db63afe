/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"

/*
 * An operator's command that ends or moves very much mail is one record in the
 * spool before it is answered. What it means to each message is written bit by
 * bit; everything that has still to be written holds the command's order, and
 * who lets go of it last withdraws the record. After a crash the record meets
 * the mail again, as it comes back from the spool.
 */

struct dispatch_order {
	atomic_uint references;
	atomic_bool is_kept;
	struct spool *spool;
	uint64_t cut_mno;
};

struct dispatch_order *
dispatch_order_new(struct spool *spool, uint64_t cut_mno)
{
	struct dispatch_order *order = MEM_NEW(struct dispatch_order);
	atomic_init(&order->references, 1);
	order->spool = spool;
	order->cut_mno = cut_mno;
	return order;
}

struct dispatch_order *
dispatch_order_ref(struct dispatch_order *order)
{
	if (order != NULL)
		atomic_fetch_add(&order->references, 1);
	return order;
}

void
dispatch_order_unref(struct dispatch_order **order)
{
	struct dispatch_order *o = *order;
	*order = NULL;
	if (o == NULL || atomic_fetch_sub(&o->references, 1) > 1)
		return;
	if (!atomic_load(&o->is_kept)) {
		/* The spool keeps the order of what it is given: all that was
		 * written by way of this comes before. */
		struct spool_txn *txn = spool_txn_new(o->spool);
		struct spool_order end = {
			.kind = SPOOL_ORDER_END,
			.cut_mno = o->cut_mno,
		};
		spool_txn_order(txn, &end);
		spool_txn_submit(&txn, NULL, NULL);
	}
	mem_free(o);
}

void
order_keep(struct dispatch_order *order)
{
	if (order != NULL)
		atomic_store(&order->is_kept, true);
}

/* ---- what is still to come ---- */

struct work {
	struct list link;
	enum dispatch_operation operation;
	struct schedule_selector selector; /* its domain is our own */
	char *domain;
	uint64_t cut_mno;
	uint32_t to_stream;
	enum schedule_class to_class;
	struct cause *cause; /* counted; NULL: a move */
	struct dispatch_order *order; /* counted */
	bool is_replay; /* mail is still to come back */
	bool has_met; /* any */
};

void
works_add(struct dispatch *d, const struct dispatch_request *request,
    struct cause *cause, bool is_replay)
{
	struct work *w = MEM_NEW(struct work);
	w->operation = request->operation;
	w->selector = request->selector;
	w->domain = span_dup(request->selector.domain);
	w->selector.domain = span_of(w->domain);
	w->selector.site = SPAN_EMPTY;
	w->cut_mno = request->cut_mno;
	w->to_stream = request->to_stream;
	w->to_class = dispatch_class_of(request->to_class);
	w->is_replay = is_replay;
	w->order = dispatch_order_ref(request->order);
	if (cause != NULL) {
		cause->references++;
		w->cause = cause;
	}
	if (w->cut_mno > d->works_cut)
		d->works_cut = w->cut_mno;
	list_append(&d->works, &w->link);
}

static void
work_free(struct work *w)
{
	list_remove(&w->link);
	if (w->cause != NULL)
		cause_unref(&w->cause);
	dispatch_order_unref(&w->order);
	mem_free(w->domain);
	mem_free(w);
}

bool
works_apply(struct dispatch *d, struct schedule_key *key,
    const struct schedule_delivery *delivery)
{
	LIST_FOR_EACH(link, &d->works) {
		struct work *w = LIST_ENTRY(link, struct work, link);
		if (delivery->mno >= w->cut_mno ||
		    !schedule_selects(&w->selector, key))
			continue;
		w->has_met = true;
		if (w->operation == DISPATCH_MOVE) {
			key->stream = w->to_stream;
			key->class = w->to_class;
			continue;
		}
		schedule_add_reaped(
		    d->schedule, key, delivery, w->cause, loop_now_us(d->loop));
		backlog_start(d);
		return true;
	}
	return false;
}

void
works_end(struct dispatch *d)
{
	LIST_FOR_EACH_SAFE(link, &d->works) {
		struct work *w = LIST_ENTRY(link, struct work, link);
		if (w->operation != DISPATCH_MOVE && !w->is_replay)
			work_free(w);
	}
}

/* A move stands as long as a restart finds mail that it moved: the message
 * itself says for ever which stream it came by. */
void
dispatch_recovered(struct dispatch *d)
{
	LIST_FOR_EACH_SAFE(link, &d->works) {
		struct work *w = LIST_ENTRY(link, struct work, link);
		if (w->operation == DISPATCH_MOVE && w->is_replay &&
		    !w->has_met)
			work_free(w);
		else
			w->is_replay = false;
	}
	backlog_start(d);
}

void
works_free(struct dispatch *d)
{
	LIST_FOR_EACH_SAFE(link, &d->works) {
		struct work *w = LIST_ENTRY(link, struct work, link);
		order_keep(w->order);
		work_free(w);
	}
}

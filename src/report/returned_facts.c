/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a delivery was that somebody reports on. Its message has mostly left
 * the spool; then the event log tells, as long as it is kept.
 */

#include "base/bug.h"
#include "mail/xtext.h"
#include "report/internal.h"
#include "report/returned_internal.h"

#include <string.h>

static struct span
decode_envid(struct work *w, struct span envid)
{
	struct buf text = BUF_EMPTY;
	struct span result = SPAN_EMPTY;

	if (xtext_decode(envid, &text) == 0)
		result = arena_dup(w->arena, buf_span(&text));
	buf_done(&text);
	return result;
}

/* False: the spool has it no more. */
static bool
ask_spool(struct work *w)
{
	struct facts *f = &w->facts;

	if (spool_message_open(w->options->spool, w->token.mno, &w->original) <
	    0)
		return false;
	const struct spool_envelope *e = spool_message_envelope(w->original);
	/* A queue may have been made anew, and its numbers with it. */
	if (memcmp(&e->id, &f->id, sizeof e->id) != 0 ||
	    w->token.rcpt >= e->rcpt_count ||
	    return_address_hash(w->options->key,
		e->rcpts[w->token.rcpt].address) != w->token.address_hash) {
		spool_message_unref(&w->original);
		return false;
	}
	f->address = e->rcpts[w->token.rcpt].address;
	f->sender = e->sender;
	f->subject = e->subject;
	f->header_from = e->header_from;
	f->envid = decode_envid(w, e->envid);
	return true;
}

static bool
take_line(void *arg, struct span line)
{
	struct work *w = arg;
	struct facts *f = &w->facts;
	struct span recipient = events_field(line, "recipient", w->arena);

	if (return_address_hash(w->options->key, recipient) !=
	    w->token.address_hash)
		return false;
	f->address = recipient;
	f->sender = events_field(line, "sender", w->arena);
	f->subject = events_field(line, "subject", w->arena);
	f->header_from = events_field(line, "header_from", w->arena);
	return true;
}

void
returned_find_facts(struct work *w)
{
	w->facts.id =
	    msgid_make(w->token.accepted_us, spool_node(w->options->spool),
		w->token.mno, spool_id_key(w->options->spool));
	if (!ask_spool(w))
		events_of_message(w->events, &w->facts.id, take_line, w);
}

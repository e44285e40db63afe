/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Recipients who are refused because they are suppressed. A session has an
 * answer for each recipient, so there the client learns at once which one and
 * why, and the others go their way; who hands a message over in one piece
 * (HTTP, the shim) has not: there, and when the config says `accept`, the
 * recipient is taken and ends at dispatch.
 *
 * Each refusal is an event `suppressed`. It rides in the message's own
 * transaction; of a message that never comes to its end it goes alone.
 */

#include "base/bug.h"
#include "intake/internal.h"

bool
suppressed_refuses(
    struct intake_message *m, struct span address, struct reply *ret_reply)
{
	enum suppression_cause cause;

	if (m->client.origin != INTAKE_SUBMISSION ||
	    m->config->suppressions.accept ||
	    !suppression_find(m->intake->directory, m->envelope.tenant,
		m->envelope.stream, address, &cause))
		return false;
	*ret_reply = (struct reply){ .code = 550, .enhanced = { 7, 1, 5 } };
	ret_reply->text = arena_printf(m->arena,
	    "the recipient is suppressed (%s): no mail is sent there until "
	    "the suppression is removed",
	    suppression_cause_name(cause));
	if (m->suppressed_count >= m->config->limits.recipients ||
	    !message_hold(m, sizeof(struct suppressed_rcpt) + address.len))
		return true;
	struct suppressed_rcpt *s = ARENA_NEW(m->arena, struct suppressed_rcpt);
	s->next = m->suppressed;
	s->address = arena_dup(m->arena, address);
	s->cause = cause;
	s->reply = ret_reply->text;
	m->suppressed = s;
	m->suppressed_count++;
	return true;
}

void
suppressed_add_events(struct intake_message *m, struct spool_txn *txn)
{
	struct event e = commit_event_of(m);
	struct buf lines = BUF_EMPTY;

	e.type = EVENT_SUPPRESSED;
	e.code = 550;
	e.enhanced = SPAN("5.7.1");
	e.step = SPAN("rcpt");
	for (const struct suppressed_rcpt *s = m->suppressed; s != NULL;
	     s = s->next) {
		e.recipient = s->address;
		e.cause = span_of(suppression_cause_name(s->cause));
		e.reply = s->reply;
		e.event_id = commit_event_id(m);
		event_render(&e, &lines);
		if (buf_size(&lines) < COMMIT_EVENT_RECORD_SIZE &&
		    s->next != NULL)
			continue;
		spool_txn_event(txn, buf_span(&lines));
		buf_clear(&lines);
	}
	buf_done(&lines);
	m->suppressed = NULL;
}

static void
ignore_result(void *arg, int result)
{
	(void)arg;
	(void)result;
}

void
suppressed_tell(struct intake_message *m)
{
	if (m->suppressed == NULL)
		return;
	content_begin(m); /* it may have no id yet */
	commit_prepare(m);
	struct spool_txn *txn = spool_txn_new(m->intake->spool);
	suppressed_add_events(m, txn);
	spool_txn_submit(&txn, ignore_result, NULL);
}

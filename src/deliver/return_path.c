/* SPDX-License-Identifier: Apache-2.0 */
#include "deliver/internal.h"
#include "returns/token.h"

/*
 * With returns.domain each recipient gets the message with a return path of
 * his own, made for this delivery: then a report that names him badly, or not
 * at all, still tells whom it is about. So recipients of one site that would
 * share a transaction have one each.
 *
 * NOTIFY, RET, ENVID and ORCPT go out as they came; who reports, reports to
 * us, and the token says what the sender himself wants to hear.
 */

static uint8_t
wishes_of(const struct spool_envelope *m, uint32_t rcpt)
{
	static const enum smtp_notify kinds[] = { SMTP_NOTIFY_SUCCESS,
		SMTP_NOTIFY_FAILURE, SMTP_NOTIFY_DELAY };

	uint8_t wishes = 0;

	for (unsigned i = 0; i < 3; i++) {
		if (intake_sender_wants(m, rcpt, kinds[i]))
			wishes |= (uint8_t)kinds[i];
	}
	return wishes;
}

/* A null sender must not be reported to, nor does what is not relayed. */
static bool
is_concerned(const struct connection *c, const struct spool_envelope *m)
{
	return c->dispatch->return_key != NULL && m->sender.len > 0 &&
	       (m->flags & (SPOOL_INBOUND | SPOOL_REPORT_MAIL)) == 0 &&
	       !config_route_is_local(c->plan->route);
}

struct span
return_path_sender(struct connection *c, uint32_t *count)
{
	struct dispatch *d = c->dispatch;
	struct transaction *t = &c->transaction;
	const struct spool_envelope *m = spool_message_envelope(t->message);
	uint32_t rcpt = t->rest.rcpt_first;
	char local[RETURN_LOCAL_SIZE];

	if (!is_concerned(c, m))
		return m->sender;
	const struct return_token token = {
		.accepted_us = m->accepted_us,
		.sent_us = loop_wall_us(d->loop),
		.mno = m->mno,
		.rcpt = rcpt,
		.tenant = m->tenant,
		.stream = m->stream,
		.wishes = wishes_of(m, rcpt),
		.address_hash =
		    return_address_hash(d->return_key, m->rcpts[rcpt].address),
	};
	if (!return_token_format(d->return_key, &token, local))
		return m->sender;
	*count = 1;
	return arena_printf(
	    t->arena, "%s@%s", local, c->plan->config->returns.domain);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "bounce/judge.h"
#include "deliver/internal.h"

/*
 * What a refusal means, and whether it ends mail to the address for good. Only
 * a peer's word about one recipient does: in answer to his RCPT, or to the
 * whole message when he was its only recipient; and only of a tenant's own
 * mail. A domain that DNS does not know costs nothing to ask for again.
 */

static bool
is_about_recipient(const struct attempt *a, const struct result *r)
{
	struct span step = span_of(r->step);

	return span_eq(step, SPAN("rcpt")) ||
	       (span_eq(step, SPAN("end")) && a->delivery.rcpt_count == 1);
}

static void
judge(struct dispatch *d, const struct attempt *a, struct result *r)
{
	const struct spool_envelope *m = spool_message_envelope(a->message);
	bool of_tenant = (m->flags & (SPOOL_INBOUND | SPOOL_REPORT_MAIL)) == 0;
	const struct refusal refusal = {
		.code = r->reply.code,
		.status_class = (uint8_t)r->reply.enhanced.class,
		.status_subject = (uint16_t)r->reply.enhanced.subject,
		.status_detail = (uint16_t)r->reply.enhanced.detail,
		.text = r->reply.text,
	};
	struct judgement judgement;

	judge_reply(d->judge, &refusal, &judgement);
	r->class = judgement.class;
	r->is_judged = true;
	r->suppresses = judgement.suppresses && r->kind == SPOOL_BOUNCED &&
			of_tenant && is_about_recipient(a, r);
}

/* Many recipients often get one answer. */
static bool
take_over(const struct result *from, struct result *r)
{
	if (!from->is_judged || from->kind != r->kind ||
	    from->reply.code != r->reply.code ||
	    !span_eq(span_of(from->step), span_of(r->step)) ||
	    !span_eq(from->reply.text, r->reply.text))
		return false;
	r->class = from->class;
	r->suppresses = from->suppresses;
	r->is_judged = true;
	return true;
}

void
verdict_judge(
    struct dispatch *d, const struct attempt *a, struct result *results)
{
	if (d->judge == NULL)
		return;
	for (uint32_t i = 0; i < a->delivery.rcpt_count; i++) {
		struct result *r = &results[i];
		bool is_refusal =
		    r->kind == SPOOL_BOUNCED || r->kind == SPOOL_DEFERRED;
		if (!is_refusal || r->again || r->local || r->reply.code < 400)
			continue;
		if (i == 0 || !take_over(&results[i - 1], r))
			judge(d, a, r);
	}
}

static enum suppression_cause cause_of(enum reply_class class)
{
	switch (class) {
	case CLASS_NO_SUCH_USER:
		return SUPPRESSION_NO_SUCH_USER;
	case CLASS_NO_SUCH_DOMAIN:
		return SUPPRESSION_NO_SUCH_DOMAIN;
	case CLASS_MOVED:
		return SUPPRESSION_MOVED;
	case CLASS_MAILBOX_DISABLED:
		return SUPPRESSION_MAILBOX_DISABLED;
	case CLASS_MAILBOX_FULL:
	case CLASS_TOO_LARGE:
	case CLASS_CONTENT:
	case CLASS_POLICY:
	case CLASS_AUTHENTICATION:
	case CLASS_REPUTATION:
	case CLASS_RATE_LIMIT:
	case CLASS_GREYLIST:
	case CLASS_TLS:
	case CLASS_NETWORK:
	case CLASS_RELAYING_DENIED:
	case CLASS_OTHER:
	case REPLY_CLASSES:
		break;
	}
	return SUPPRESSION_BOUNCE;
}

static struct suppression
entry_of(struct dispatch *d, const struct attempt *a, uint32_t rcpt,
    const struct result *r)
{
	const struct spool_envelope *m = spool_message_envelope(a->message);
	int64_t expire_us = d->config->suppressions.bounce_expire_us;
	int64_t now_us = loop_wall_us(d->loop);
	char id[MSGID_TEXT_SIZE];
	struct span line = result_line(r, d->scratch);

	return (struct suppression){
		.tenant = m->tenant,
		.address = m->rcpts[rcpt].address,
		.cause = cause_of(r->class),
		.evidence = arena_printf(d->scratch, "%.*s (message %s)",
		    SPAN_ARG(span_slice(line, 0, 900)),
		    msgid_format(&m->id, id)),
		.created_us = now_us,
		.expire_us = expire_us > 0 ? now_us + expire_us : 0,
	};
}

size_t
verdict_entries(struct dispatch *d, const struct attempt *a,
    struct result *results, struct suppression **ret_entries)
{
	uint32_t count = a->delivery.rcpt_count;
	size_t wanted = 0, n = 0;

	for (uint32_t i = 0; i < count; i++)
		wanted += results[i].suppresses;
	if (wanted == 0)
		return 0;
	bool may =
	    d->suppressor != NULL && d->config->suppressions.bounces &&
	    suppressor_has_room(d->suppressor, d->config->suppressions.waiting);
	struct suppression *entries =
	    ARENA_ARRAY(d->scratch, struct suppression, wanted);
	for (uint32_t i = 0; i < count; i++) {
		/* Events say it only of those that will be written. */
		results[i].suppresses = results[i].suppresses && may &&
					results[i].kind == SPOOL_BOUNCED;
		if (results[i].suppresses)
			entries[n++] = entry_of(
			    d, a, a->delivery.rcpt_first + i, &results[i]);
	}
	*ret_entries = entries;
	return n;
}

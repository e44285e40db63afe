/* SPDX-License-Identifier: Apache-2.0 */
#include "report/notice.h"

#include "base/bug.h"
#include "base/mem.h"
#include "log/log.h"
#include "mail/header.h"
#include "mail/xtext.h"

/* One report in the making: what the composer needs when the id is known. */
struct draft {
	const struct notice *notice;
	struct span to, copy_to;
	struct report_recipient *recipients;
	size_t count;
	struct arena *arena;
	struct buf original; /* header section, and the body when it fits */
	size_t header_len;
	bool full;
};

static enum smtp_notify
kind_of(enum report_action action)
{
	switch (action) {
	case REPORT_FAILED:
		return SMTP_NOTIFY_FAILURE;
	case REPORT_DELAYED:
		return SMTP_NOTIFY_DELAY;
	case REPORT_DELIVERED:
	case REPORT_RELAYED:
		return SMTP_NOTIFY_SUCCESS;
	}
	UNREACHABLE("report_action has no other value");
}

/* "rfc822;xtext" with the second half decoded, or empty when it cannot be. */
static struct span
decode_original(struct span orcpt, struct arena *arena)
{
	struct buf text = BUF_EMPTY;
	struct span rest = orcpt, result = SPAN_EMPTY;
	struct span type = span_cut(&rest, ';');

	if (orcpt.len == 0)
		return SPAN_EMPTY;
	buf_append(&text, type);
	buf_append_char(&text, ';');
	int decoded = span_eq_nocase(type, SPAN("utf-8"))
			  ? xtext_decode_utf8_address(rest, &text)
			  : xtext_decode(rest, &text);
	if (decoded == 0)
		result = arena_dup(arena, buf_span(&text));
	buf_done(&text);
	return result;
}

static struct span
decode_envid(struct span envid, struct arena *arena)
{
	struct buf text = BUF_EMPTY;
	struct span result = SPAN_EMPTY;

	if (xtext_decode(envid, &text) == 0)
		result = arena_dup(arena, buf_span(&text));
	buf_done(&text);
	return result;
}

static void
add_recipient(struct draft *d, const struct notice_recipient *r)
{
	const struct spool_envelope *e =
	    spool_message_envelope(d->notice->message);
	const struct spool_rcpt *rcpt = &e->rcpts[r->rcpt];

	d->recipients[d->count++] = (struct report_recipient){
		.address = rcpt->address,
		.original = decode_original(rcpt->orcpt, d->arena),
		.action = r->action,
		.status = r->status,
		.remote_mta = r->remote_mta,
		.diagnostic = r->diagnostic,
		.reason = r->reason,
		.last_attempt_us = r->last_attempt_us,
		.retry_until_us = r->retry_until_us,
	};
}

/* RFC 3461 §6.2: RET concerns reports of failure only; what is larger than the
 * limit goes back as its header section. */
static bool
wants_full(const struct draft *d)
{
	const struct notice *n = d->notice;
	const struct spool_envelope *e = spool_message_envelope(n->message);
	bool asked =
	    e->ret == SMTP_RET_FULL ||
	    (e->ret == SMTP_RET_UNSET && n->config->reports.return_full);

	/* The report goes by whatever TLS there is (RFC 8689 §5). */
	if (!asked || (e->flags & (SPOOL_BINARY | SPOOL_REQUIRETLS)) != 0 ||
	    spool_message_size(n->message) > n->config->reports.return_size)
		return false;
	for (size_t i = 0; i < d->count; i++) {
		if (d->recipients[i].action == REPORT_FAILED)
			return true;
	}
	return false;
}

/* Reads the original's header section and, with `full`, all of it. */
static int
read_original(struct draft *d)
{
	const struct notice *n = d->notice;
	uint64_t limit = n->config->limits.header_size + (UINT64_C(64) << 10);
	struct span piece;

	if (d->full)
		limit = UINT64_MAX;
	while (buf_size(&d->original) < limit) {
		TRY(spool_message_read(
		    n->message, buf_size(&d->original), &piece));
		if (piece.len == 0)
			break;
		buf_append(&d->original,
		    span_slice(piece, 0, limit - buf_size(&d->original)));
		if (d->header_len == 0)
			d->header_len =
			    header_section_length(buf_span(&d->original));
		if (d->header_len > 0 && !d->full)
			break;
	}
	return 0;
}

/* Damage to what was sent must not keep its sender from hearing of it: the
 * report then returns less. */
static void
collect_original(struct draft *d)
{
	d->full = wants_full(d);
	int err = read_original(d);
	if (err < 0) {
		d->full = false;
		LOG(LOG_ERROR, "report",
		    "the message reported on cannot be read",
		    LOG_N(
			"mno", spool_message_envelope(d->notice->message)->mno),
		    LOG_C("reason", error_text(err)));
	}
	if (d->header_len == 0)
		d->header_len = buf_size(&d->original);
}

static void
compose(void *arg, struct span message_id, struct buf *out)
{
	struct draft *d = arg;
	const struct notice *n = d->notice;
	const struct spool_envelope *e = spool_message_envelope(n->message);
	char id[MSGID_TEXT_SIZE];
	struct span all = buf_span(&d->original);
	const struct report report = {
		.reporting_mta = span_of(n->config->hostname),
		.from = span_of(n->config->reports.postmaster),
		.to = d->to,
		.report_id = message_id,
		.original_id = span_of(msgid_format(&e->id, id)),
		.envelope_id = decode_envid(e->envid, d->arena),
		.arrival_us = e->accepted_us,
		.now_us = n->now_us,
		.recipients = d->recipients,
		.recipient_count = d->count,
		.original_header = span_slice(all, 0, d->header_len),
		.original_body =
		    d->full ? span_skip(all, d->header_len) : SPAN_EMPTY,
		.return_full = d->full,
		.needs_utf8 = !span_is_ascii(d->to),
	};

	report_compose(&report, out);
}

static void
draft_done(struct draft *d)
{
	arena_free(&d->arena);
	mem_free(d->recipients);
	buf_done(&d->original);
}

/* Adds the report to txn when anybody is left in it. 1: added; 0: none. */
static int
send_draft(struct draft *d, struct spool_txn *txn, struct intake_message **ret)
{
	const struct notice *n = d->notice;
	const struct spool_envelope *e = spool_message_envelope(n->message);
	const struct intake_report report = {
		.to = d->to,
		.copy_to = d->copy_to,
		.tenant = e->tenant,
		.stream = e->stream,
		.utf8 = !span_is_ascii(d->to),
		.compose = compose,
		.arg = d,
	};

	if (d->count == 0)
		return 0;
	collect_original(d);
	TRY(intake_add_report(n->intake, txn, &report, ret));
	return 1;
}

static struct draft
draft_for(const struct notice *n, struct span to)
{
	return (struct draft){
		.notice = n,
		.to = to,
		.arena = arena_new(),
		.recipients = mem_zalloc(
		    n->recipient_count * sizeof(struct report_recipient)),
	};
}

/* Never of a report of ours, and not twice to one reader. */
static bool
postmaster_reads(const struct notice *n)
{
	const struct spool_envelope *e = spool_message_envelope(n->message);

	return n->config->reports.postmaster_copies &&
	       (e->flags & SPOOL_REPORT_MAIL) == 0 &&
	       !span_eq_nocase(
		   e->sender, span_of(n->config->reports.postmaster));
}

/* Whether the reader of this draft is told about r. A null sender has nobody
 * to be told, so the postmaster hears of its failures. */
static bool
concerns(const struct draft *d, const struct notice_recipient *r)
{
	const struct spool_envelope *e =
	    spool_message_envelope(d->notice->message);

	if (e->sender.len > 0)
		return intake_sender_wants(e, r->rcpt, kind_of(r->action));
	return r->action == REPORT_FAILED &&
	       (e->rcpts[r->rcpt].notify & SMTP_NOTIFY_NEVER) == 0;
}

int
notice_add(const struct notice *n, struct spool_txn *txn,
    struct intake_message *reports[static NOTICE_REPORTS_MAX],
    size_t *ret_count)
{
	const struct spool_envelope *e = spool_message_envelope(n->message);
	struct span postmaster = span_of(n->config->reports.postmaster);
	bool copies = postmaster_reads(n);
	struct draft d =
	    draft_for(n, e->sender.len > 0 ? e->sender : postmaster);
	bool failed = false;

	for (size_t i = 0; i < n->recipient_count; i++) {
		if (!concerns(&d, &n->recipients[i]) ||
		    (e->sender.len == 0 && !copies))
			continue;
		add_recipient(&d, &n->recipients[i]);
		failed |= n->recipients[i].action == REPORT_FAILED;
	}
	if (copies && failed && e->sender.len > 0)
		d.copy_to = postmaster;
	int result = send_draft(&d, txn, &reports[0]);
	draft_done(&d);
	if (result < 0)
		return result;
	*ret_count = (size_t)result;
	return 0;
}

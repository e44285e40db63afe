/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A message's bytes on their way into the spool. The header section is held
 * until it is complete, judged in one pass, and written out edited: our trace
 * field and what a submission lacks go into the prefix, Bcc and forged
 * Return-Path fields are left out. The body passes untouched.
 *
 * A line that is no field ends the header section: an empty line is put before
 * it, so that no two readers can disagree about where the body begins.
 */

#include "base/bug.h"
#include "base/time.h"
#include "intake/internal.h"
#include "mail/header.h"
#include "mail/trace.h"

#include <errno.h>
#include <string.h>

/* What the event and the queue's lists show of a subject. */
#define SUBJECT_SHOWN_MAX 200

static bool
has_octet_above_127(struct span s)
{
	uint64_t word, seen = 0;
	size_t i = 0;

	for (; i + sizeof(word) <= s.len; i += sizeof(word)) {
		memcpy(&word, s.ptr + i, sizeof(word));
		seen |= word;
	}
	for (; i < s.len; i++)
		seen |= (uint64_t)(unsigned char)s.ptr[i];
	return (seen & UINT64_C(0x8080808080808080)) != 0;
}

static void
write_draft(struct intake_message *m, struct span piece)
{
	const struct reply no_space =
	    REPLY(452, 4, 3, 1, "out of disk space: try again later");
	const struct reply broken = REPLY(
	    451, 4, 3, 0, "the message cannot be stored now: try again later");

	if (piece.len == 0 || m->draft == NULL)
		return;
	int result = spool_draft_write(m->draft, piece);
	if (result < 0) {
		message_refuse(m, result == -ENOSPC ? &no_space : &broken);
		return;
	}
	if ((m->envelope.flags & SPOOL_8BIT) == 0 && has_octet_above_127(piece))
		m->envelope.flags |= SPOOL_8BIT;
	if ((m->envelope.flags & SPOOL_DOTS) == 0 &&
	    dots_needed(&m->dots, piece))
		m->envelope.flags |= SPOOL_DOTS;
	m->last[0] = piece.len > 1 ? piece.ptr[piece.len - 2] : m->last[1];
	m->last[1] = piece.ptr[piece.len - 1];
}

/* ---- the header ------------------------------------------------------------- */

static bool
is_submission(const struct intake_message *m)
{
	return m->client.origin != INTAKE_MX &&
	       m->client.origin != INTAKE_REPORT;
}

/* False when the header itself is a reason to refuse. */
static bool
judge_header(struct intake_message *m, const struct header_facts *facts)
{
	const struct reply loop = REPLY(554, 5, 4, 6,
	    "too many Received fields: this message is going in circles");
	const struct reply many =
	    REPLY(554, 5, 6, 0, "the header has too many fields");
	const struct reply from = REPLY(554, 5, 6, 0,
	    "the header has more than one From field (RFC 5322 section 3.6)");

	if (facts->received_count > m->config->limits.received)
		message_refuse(m, &loop);
	else if (facts->field_count > m->config->limits.header_fields)
		message_refuse(m, &many);
	else if (is_submission(m) && facts->from_count > 1)
		message_refuse(m, &from);
	return m->refusal.code == 0;
}

static void
remember_facts(struct intake_message *m, const struct header_facts *facts)
{
	struct spool_envelope *e = &m->envelope;
	size_t count = 0;
	struct span first;

	if (facts->from_count > 0 &&
	    header_from_address(facts->from, m->arena, &count, &first) == 0)
		e->header_from = arena_dup(m->arena, first);
	e->subject = arena_dup(m->arena,
	    span_slice(span_trim(facts->subject), 0, SUBJECT_SHOWN_MAX));
	if (facts->auto_submitted)
		e->flags |= SPOOL_AUTO_SUBMITTED;
	if (facts->has_8bit && m->utf8_asked)
		e->flags |= SPOOL_UTF8;
}

static void
compose_prefix(struct intake_message *m, const struct header_facts *facts)
{
	char id[MSGID_TEXT_SIZE], date[TIME_RFC5322_SIZE];
	struct span host = span_of(m->config->hostname);
	const struct trace trace = {
		.helo = m->client.helo,
		.client = m->client.address,
		.by = host,
		.protocol = m->client.protocol,
		.tls = m->client.tls,
		.user = m->client.trace_user ? m->client.user : SPAN_EMPTY,
		.message_id = span_of(msgid_format(&m->envelope.id, id)),
		.only_recipient = m->envelope.rcpt_count == 1
				      ? m->rcpts[0].address
				      : SPAN_EMPTY,
		.wall_us = m->now_us,
	};

	if (m->client.origin == INTAKE_REPORT)
		return;
	trace_append_received(&trace, &m->prefix);
	if (!is_submission(m))
		return;
	if (facts->date_count == 0)
		buf_printf(&m->prefix, "Date: %s\r\n",
		    time_format_rfc5322(m->now_us, date));
	if (facts->message_id_count == 0)
		buf_printf(&m->prefix, "Message-ID: <%s@%.*s>\r\n", id,
		    SPAN_ARG(host));
}

static void
write_header(struct intake_message *m, struct span fields,
    const struct header_facts *facts)
{
	static const char *const submission[] = { "Bcc", "Return-Path", NULL };
	static const char *const relayed[] = { "Return-Path", NULL };
	struct buf edited = BUF_EMPTY;
	bool has_bcc = is_submission(m) && facts->bcc_count > 0;

	if (!has_bcc && facts->return_path_count == 0) {
		write_draft(m, fields);
		return;
	}
	header_copy_without(
	    fields, is_submission(m) ? submission : relayed, &edited);
	write_draft(m, buf_span(&edited));
	buf_done(&edited);
}

/* The header section is `all` up to `length`; what follows is body. */
static void
take_header(struct intake_message *m, struct span all, size_t length)
{
	struct span fields = span_slice(all, 0, length);
	struct header_facts facts;

	m->header_done = true;
	header_inspect(fields, &facts);
	bool cut_short = facts.first_bad_line.ptr != NULL;
	if (cut_short) {
		length = (size_t)(facts.first_bad_line.ptr - all.ptr);
		fields = span_slice(all, 0, length);
		header_inspect(fields, &facts);
	}
	if (!judge_header(m, &facts))
		return;
	remember_facts(m, &facts);
	compose_prefix(m, &facts);
	m->draft = spool_draft_new(m->intake->spool, m->envelope.mno);
	write_header(m, fields, &facts);
	if (cut_short)
		write_draft(m, SPAN("\r\n"));
	write_draft(m, span_skip(all, length));
}

/* Length of the section with its empty line, 0: not complete. Looks only at
 * what was not looked at before, so that a million one-byte pieces cost no
 * more than one piece of a million. */
static size_t
find_header_end(struct intake_message *m)
{
	struct span all = buf_span(&m->header);

	if (span_starts(all, SPAN("\r\n")))
		return 2;
	size_t from = m->header_scanned > 3 ? m->header_scanned - 3 : 0;
	size_t at = span_search(span_skip(all, from), SPAN("\r\n\r\n"));
	m->header_scanned = all.len;
	return at == SIZE_MAX ? 0 : from + at + 4;
}

static void
gather_header(struct intake_message *m, struct span piece)
{
	const struct reply too_big = REPLY(552, 5, 3, 4,
	    "the header section is larger than this server accepts");
	uint64_t room = m->config->limits.header_size - buf_size(&m->header);

	/* At most the limit is kept; a section that ends within it is good
	 * however much body came in the same piece. */
	struct span kept = span_slice(piece, 0, room);
	buf_append(&m->header, kept);
	size_t length = find_header_end(m);
	if (length > 0) {
		take_header(m, buf_span(&m->header), length);
		buf_done(&m->header);
		write_draft(m, span_skip(piece, kept.len));
	} else if (kept.len < piece.len) {
		message_refuse(m, &too_big);
	}
}

void
intake_body(struct intake_message *m, struct span piece)
{
	if (m->refusal.code != 0 || piece.len == 0)
		return;
	if (m->envelope.mno == 0) {
		m->envelope.mno = spool_next_mno(m->intake->spool);
		m->envelope.id =
		    msgid_make(m->now_us, spool_node(m->intake->spool),
			m->envelope.mno, spool_id_key(m->intake->spool));
	}
	if (m->header_done)
		write_draft(m, piece);
	else
		gather_header(m, piece);
}

void
content_end(struct intake_message *m)
{
	const struct reply empty = REPLY(554, 5, 6, 0, "the message is empty");

	if (m->refusal.code == 0 && m->envelope.mno == 0)
		message_refuse(m, &empty);
	if (m->refusal.code != 0)
		return;
	if (!m->header_done) {
		struct span all = buf_span(&m->header);

		/* A section without its empty line: the last line may even
		 * lack its CRLF, which a field cannot do without. */
		if (!m->binary && (all.len < 2 || all.ptr[all.len - 1] != '\n'))
			buf_append_str(&m->header, "\r\n");
		all = buf_span(&m->header);
		take_header(m, all, all.len);
	}
	if (!m->binary && memcmp(m->last, "\r\n", 2) != 0)
		write_draft(m, SPAN("\r\n"));
	if (dots_needed(&(struct dots){ 0 }, buf_span(&m->prefix)))
		m->envelope.flags |= SPOOL_DOTS;
	m->envelope.prefix = buf_span(&m->prefix);
}

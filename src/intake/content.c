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
/* What the spool keeps of a body in memory: beyond, it is in a file. */
#define HELD_MAX (UINT64_C(1) << 20)
/* RFC 5322 §2.1.1, without the CRLF. */
#define TEXT_LINE_MAX 998

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

/* Who may send binary mail says so even of text. Whether it is text decides
 * whether a server without BINARYMIME can take it (RFC 3030 §3). */
static void
look_for_binary(struct intake_message *m, struct span piece)
{
	char before = m->last[1];

	for (size_t i = 0; i < piece.len && !m->not_text; i++) {
		char c = piece.ptr[i];

		m->line_length = c == '\n' ? 0 : m->line_length + 1;
		m->not_text = c == '\0' || (before == '\r') != (c == '\n') ||
			      m->line_length > TEXT_LINE_MAX + 1;
		before = c;
	}
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
	BUG_UNLESS(piece.ptr != NULL);
	if (m->binary)
		look_for_binary(m, piece);
	m->last[0] = m->last[1];
	if (piece.len > 1)
		m->last[0] = piece.ptr[piece.len - 2];
	m->last[1] = piece.ptr[piece.len - 1];
}

/* ---- the header -------------------------------------------------- */

bool
message_is_submission(const struct intake_message *m)
{
	return m->client.origin != INTAKE_MX &&
	       m->client.origin != INTAKE_REPORT &&
	       m->client.origin != INTAKE_IMPORT;
}

/* CR, LF or NUL where they end nothing. The body of a BINARYMIME message may
 * have them (RFC 3030 §3), its header may not: we quote it in reports, which
 * are text. */
static bool
has_stray_octet(struct span fields)
{
	for (size_t i = 0; i < fields.len; i++) {
		char c = fields.ptr[i];

		if (c == '\0' || c == '\n')
			return true;
		if (c != '\r')
			continue;
		if (i + 1 == fields.len || fields.ptr[++i] != '\n')
			return true;
	}
	return false;
}

/* False when the header itself is a reason to refuse. */
static bool
judge_header(struct intake_message *m, struct span fields,
    const struct header_facts *facts)
{
	const struct reply stray = REPLY(
	    550, 5, 6, 11, "the header has a bare CR, a bare LF or a NUL");
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
	else if (message_is_submission(m) && facts->from_count > 1)
		message_refuse(m, &from);
	else if (m->binary && has_stray_octet(fields))
		message_refuse(m, &stray);
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

	if (m->client.origin == INTAKE_REPORT ||
	    m->client.origin == INTAKE_IMPORT)
		return;
	trace_append_received(&trace, &m->prefix);
	if (!message_is_submission(m))
		return;
	if (facts->date_count == 0)
		buf_printf(&m->prefix, "Date: %s\r\n",
		    time_format_rfc5322(m->now_us, date));
	if (facts->message_id_count == 0)
		buf_printf(&m->prefix, "Message-ID: <%s@%.*s>\r\n", id,
		    SPAN_ARG(host));
}

static bool
has_any(struct span fields, const char *const *names)
{
	struct header_field field;
	int code;

	while ((code = header_next(&fields, &field)) != 0) {
		for (size_t i = 0; code > 0 && names[i] != NULL; i++) {
			if (span_eq_nocase(field.name, span_of(names[i])))
				return true;
		}
	}
	return false;
}

/* Blind copies are a secret of the sender's; Return-Path is for the final
 * delivery to add (RFC 5321 §4.4). */
static void
write_header(struct intake_message *m, struct span fields)
{
	static const char *const submission[] = { "Bcc", "Resent-Bcc",
		"Return-Path", NULL };
	static const char *const relayed[] = { "Return-Path", NULL };
	const char *const *names =
	    message_is_submission(m) ? submission : relayed;
	struct buf edited = BUF_EMPTY;

	if (m->client.origin == INTAKE_IMPORT || !has_any(fields, names)) {
		write_draft(m, fields);
		return;
	}
	header_copy_without(fields, names, &edited);
	write_draft(m, buf_span(&edited));
	buf_done(&edited);
}

/* A mailbox's separator line, "From user date", which pipes into sendmail
 * often begin with: no part of the message. */
static struct span
without_mailbox_line(const struct intake_message *m, struct span all)
{
	size_t end = span_search(all, SPAN("\r\n"));

	if (!message_is_submission(m) || end == SIZE_MAX ||
	    (!span_starts(all, SPAN("From ")) &&
		!span_starts(all, SPAN(">From "))))
		return all;
	return span_skip(all, end + 2);
}

/* The header section is `all` up to `length`; what follows is body. */
static void
take_header(struct intake_message *m, struct span whole, size_t length)
{
	struct span all = without_mailbox_line(m, whole);
	struct span fields = span_slice(all, 0, length - (whole.len - all.len));
	struct header_facts facts;

	m->header_done = true;
	header_inspect(fields, &facts);
	bool cut_short = facts.first_bad_line.ptr != NULL;
	if (cut_short) {
		fields.len = (size_t)(facts.first_bad_line.ptr - all.ptr);
		header_inspect(fields, &facts);
	}
	remember_facts(m, &facts);
	if (!judge_header(m, fields, &facts))
		return;
	sender_judge_header(m, fields);
	if (m->refusal.code != 0)
		return;
	compose_prefix(m, &facts);
	m->draft = spool_draft_new(m->intake->spool, m->envelope.mno);
	write_header(m, fields);
	if (cut_short)
		write_draft(m, SPAN("\r\n"));
	spool_draft_end_own(m->draft);
	write_draft(m, span_skip(all, fields.len));
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
content_begin(struct intake_message *m)
{
	struct spool *spool = m->intake->spool;

	if (m->envelope.mno != 0)
		return;
	m->envelope.mno = spool_next_mno(spool);
	m->envelope.id = msgid_make(
	    m->now_us, spool_node(spool), m->envelope.mno, spool_id_key(spool));
}

void
intake_body(struct intake_message *m, struct span piece)
{
	const struct reply too_big = REPLY(
	    552, 5, 3, 4, "the message is larger than this server accepts");

	if (m->refusal.code != 0 || piece.len == 0)
		return;
	content_begin(m);
	m->size += piece.len;
	uint64_t room = m->held < HELD_MAX ? HELD_MAX - m->held : 0;
	if (m->client.origin != INTAKE_REPORT && room > 0 &&
	    !message_hold(m, piece.len < room ? piece.len : room)) {
		message_refuse(m, &message_too_much);
		return;
	}
	if (m->client.origin != INTAKE_REPORT &&
	    m->size > m->config->limits.message_size) {
		message_refuse(m, &too_big);
		return;
	}
	if (m->header_done)
		write_draft(m, piece);
	else
		gather_header(m, piece);
}

/* A section without its empty line, perhaps without anything: the last line
 * may even lack its CRLF, which a field cannot do without. */
static void
end_header(struct intake_message *m)
{
	struct span all = buf_span(&m->header);

	if (all.len == 0 || (!m->binary && !span_ends_nocase(all, SPAN("\n"))))
		buf_append_str(&m->header, "\r\n");
	all = buf_span(&m->header);
	BUG_UNLESS(all.ptr != NULL);
	take_header(m, all, all.len);
	buf_done(&m->header);
}

void
content_end(struct intake_message *m)
{
	if (m->refusal.code != 0)
		return;
	content_begin(m);
	if (!m->header_done)
		end_header(m);
	bool ended = memcmp(m->last, "\r\n", 2) == 0;
	if (!m->binary && !ended)
		write_draft(m, SPAN("\r\n"));
	if (m->binary && !m->not_text && ended)
		m->envelope.flags &= ~(uint32_t)SPOOL_BINARY;
	if (dots_needed(&(struct dots){ 0 }, buf_span(&m->prefix)))
		m->envelope.flags |= SPOOL_DOTS;
	m->envelope.prefix = buf_span(&m->prefix);
}

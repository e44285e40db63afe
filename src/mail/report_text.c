/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "mail/header.h"
#include "mail/internal.h"
#include "mail/report.h"

/* The part of a delivery report that people read. */

#define REPLY_MAX 2000 /* octets of a peer's reply that are shown */
#define SUBJECT_MAX 200

struct wording {
	const char *one, *many; /* what happened, before the addresses */
	const char *advice; /* after them */
};

static const struct wording wordings[] = {
	[REPORT_FAILED] = { "Your message could not be delivered to this "
			    "address:",
	    "Your message could not be delivered to these addresses:",
	    "No further attempt will be made. If the reason above does not "
	    "help, please pass this report on to your postmaster." },
	[REPORT_DELAYED] = { "Your message has not been delivered to this "
			     "address yet:",
	    "Your message has not been delivered to these addresses yet:",
	    "You need not send it again: delivery is still being tried, "
	    "and you will hear if it fails for good." },
	[REPORT_DELIVERED] = { "Your message was delivered to this address:",
	    "Your message was delivered to these addresses:",
	    "This report was sent because the message asked for it." },
	[REPORT_RELAYED] = { "Your message was handed to the mail server of "
			     "this address:",
	    "Your message was handed to the mail servers of these "
	    "addresses:",
	    "From there on nobody may confirm its delivery. This report "
	    "was sent because the message asked for it." },
};

static void
paragraph_append(const char *indent, struct span text, struct buf *out)
{
	struct span margin = span_of(indent);
	const struct fold fold = {
		.width = 72,
		.start = margin.len,
		.indent = margin,
	};

	buf_append(out, margin);
	fold_append(&fold, text, out);
}

static void
foreign_append(
    const char *indent, struct span text, enum plain kind, struct buf *out)
{
	struct buf plain = BUF_EMPTY;

	plain_append(text, kind, &plain);
	paragraph_append(indent, buf_span(&plain), out);
	buf_done(&plain);
}

/* A report is eight bits wide only where it must be: a peer's odd octets are
 * no reason that it cannot reach a sender whose system takes seven. */
static enum plain
plain_kind(const struct report *r)
{
	return r->needs_utf8 ? PLAIN_UTF8 : PLAIN_ASCII;
}

static void
append_address(const struct report_recipient *rcpt, struct buf *out)
{
	struct span written = rcpt->original;

	buf_append_str(out, "\r\n  <");
	plain_append(rcpt->address, PLAIN_UTF8, out);
	buf_append_str(out, ">\r\n");
	(void)span_cut(&written, ';');
	written = span_trim(written);
	if (written.len == 0 || span_eq_nocase(written, rcpt->address))
		return;
	buf_append_str(out, "    (you wrote to ");
	plain_append(written, PLAIN_UTF8, out);
	buf_append_str(out, ")\r\n");
}

/* Line by line, as the peer meant it. */
static void
append_reply(const struct report *r, const struct report_recipient *rcpt,
    struct buf *out)
{
	struct span reply = span_slice(rcpt->diagnostic, 0, REPLY_MAX);
	struct buf intro = BUF_EMPTY;

	if (span_trim(reply).len == 0)
		return;
	buf_append_str(&intro, "The mail server ");
	if (rcpt->remote_mta.len > 0) {
		plain_append(rcpt->remote_mta, PLAIN_ASCII, &intro);
		buf_append_char(&intro, ' ');
	}
	buf_append_str(&intro, "answered:");
	paragraph_append("    ", buf_span(&intro), out);
	buf_done(&intro);
	while (reply.len > 0) {
		struct span line = span_trim(span_cut(&reply, '\n'));
		if (line.len > 0)
			foreign_append("      ", line, plain_kind(r), out);
	}
}

static void
append_recipient(const struct report *r, const struct report_recipient *rcpt,
    struct buf *out)
{
	char date[TIME_RFC5322_SIZE];

	append_address(rcpt, out);
	if (rcpt->reason.len > 0)
		foreign_append("    ", rcpt->reason, plain_kind(r), out);
	append_reply(r, rcpt, out);
	if (rcpt->action == REPORT_DELAYED && rcpt->retry_until_us > 0)
		buf_printf(out, "    Attempts go on until %s.\r\n",
		    time_format_rfc5322(rcpt->retry_until_us, date));
}

static void
append_outcome(
    const struct report *r, enum report_action action, struct buf *out)
{
	const struct wording *w = &wordings[action];
	size_t count = 0;

	for (size_t i = 0; i < r->recipient_count; i++)
		count += r->recipients[i].action == action;
	if (count == 0)
		return;
	buf_append_str(out, "\r\n");
	paragraph_append("", span_of(count == 1 ? w->one : w->many), out);
	for (size_t i = 0; i < r->recipient_count; i++) {
		if (r->recipients[i].action == action)
			append_recipient(r, &r->recipients[i], out);
	}
	buf_append_str(out, "\r\n");
	paragraph_append("", span_of(w->advice), out);
}

/* So that a sender of many messages knows which one. */
static void
append_details(const struct report *r, struct buf *out)
{
	char date[TIME_RFC5322_SIZE];
	struct header_facts facts;

	header_inspect(r->original_header, &facts);
	buf_append_str(out, "\r\nAbout your message:\r\n");
	struct span subject = span_trim(facts.subject);
	/* Encoded words are no help to a reader; the header comes along. */
	if (subject.len > 0 && span_search(subject, SPAN("=?")) == SIZE_MAX) {
		buf_append_str(out, "  Subject:\r\n");
		foreign_append("    ", span_slice(subject, 0, SUBJECT_MAX),
		    PLAIN_UTF8, out);
	}
	if (facts.message_id.len > 0) {
		buf_append_str(out, "  Message-ID:\r\n");
		foreign_append("    ",
		    span_slice(facts.message_id, 0, SUBJECT_MAX), PLAIN_ASCII,
		    out);
	}
	if (r->arrival_us > 0)
		buf_printf(out, "  Accepted on %s\r\n",
		    time_format_rfc5322(r->arrival_us, date));
	buf_append_str(out, "  Known here as ");
	plain_append(r->original_id, PLAIN_ASCII, out);
	buf_append_str(out, "\r\n");
}

void
report_append_text(const struct report *r, struct buf *out)
{
	buf_append_str(out, "This is the mail delivery service at ");
	plain_append(r->reporting_mta, PLAIN_ASCII, out);
	buf_append_str(out, ".\r\n");
	for (size_t i = 0; i < sizeof(wordings) / sizeof(wordings[0]); i++)
		append_outcome(r, (enum report_action)i, out);
	append_details(r, out);
}

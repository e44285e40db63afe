/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/report.h"

#include "base/bug.h"
#include "base/time.h"
#include "mail/header.h"
#include "mail/internal.h"

#include <stdio.h>

/*
 * multipart/report (RFC 3462): text for people, text for programs, and the
 * message or its header. The boundary is chosen when everything it separates
 * is known.
 *
 * A report has no sender who would hear that it could not be delivered. So it
 * is made to pass everywhere: without SMTPUTF8 where its reader's address
 * allows, and in seven bits but for a returned body that has eight, which
 * nobody may encode (RFC 2046 §5.2.1). Header sections may be (RFC 6522 §4).
 */

#define BOUNDARY_SIZE 71 /* RFC 2046 §5.1.1: 70 characters */
#define LINE_MAX_OCTETS 998

struct outline {
	struct buf text;
	struct buf status;
	bool returns_body;
	bool has_8bit_original;
	char boundary[BOUNDARY_SIZE];
};

/* Text that can travel by DATA as it is: message/rfc822 allows no encoding
 * that would help otherwise (RFC 2046 §5.2.1). */
static bool
is_returnable(struct span s)
{
	while (s.len > 0) {
		size_t end = span_search(s, SPAN("\r\n"));
		struct span line = span_slice(s, 0, end);
		if (line.len > LINE_MAX_OCTETS)
			return false;
		if (span_find(line, '\0') != SIZE_MAX ||
		    span_find(line, '\r') != SIZE_MAX ||
		    span_find(line, '\n') != SIZE_MAX)
			return false;
		s = end == SIZE_MAX ? SPAN_EMPTY : span_skip(s, end + 2);
	}
	return true;
}

static bool
occurs(const char *boundary, const struct report *r, const struct outline *o)
{
	struct span needle = span_of(boundary);

	return span_search(buf_span(&o->text), needle) != SIZE_MAX ||
	       span_search(buf_span(&o->status), needle) != SIZE_MAX ||
	       span_search(r->original_header, needle) != SIZE_MAX ||
	       span_search(r->original_body, needle) != SIZE_MAX;
}

/* "=_" cannot occur in what is encoded as base64 or quoted-printable. */
static void
choose_boundary(const struct report *r, struct outline *o)
{
	char id[33];
	size_t len = 0;

	for (size_t i = 0; i < r->report_id.len && len < sizeof(id) - 1; i++) {
		char c = r->report_id.ptr[i];
		if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
		    (c >= 'a' && c <= 'z'))
			id[len++] = c;
	}
	id[len] = '\0';
	/* Ends: no content holds all of these. */
	for (unsigned long n = 0;; n++) {
		(void)snprintf(
		    o->boundary, sizeof(o->boundary), "=_%lu_%s", n, id);
		if (!occurs(o->boundary, r, o))
			return;
	}
}

/* How many recipients have this fate; the last of them in *ret_address. */
static size_t
count_action(
    const struct report *r, enum report_action action, struct span *ret_address)
{
	size_t count = 0;

	for (size_t i = 0; i < r->recipient_count; i++) {
		if (r->recipients[i].action != action)
			continue;
		*ret_address = r->recipients[i].address;
		count++;
	}
	return count;
}

/* The worst news names the report. */
static void
append_subject(const struct report *r, struct buf *out)
{
	/* clang-format off */
	static const struct {
		enum report_action action;
		const char *start;
	} news[] = {
		{ REPORT_FAILED, "Undelivered mail: could not deliver to" },
		{ REPORT_DELAYED, "Delayed mail: still trying to deliver to" },
		{ REPORT_RELAYED, "Relayed mail: handed on for" },
		{ REPORT_DELIVERED, "Delivered mail: arrived at" },
	};
	/* clang-format on */
	struct buf subject = BUF_EMPTY;
	struct span address = SPAN_EMPTY;
	size_t worst = 0, count = 0;

	while ((count = count_action(r, news[worst].action, &address)) == 0)
		worst++;
	buf_append_str(&subject, news[worst].start);
	if (count == 1 && span_is_ascii(address)) {
		buf_append_char(&subject, ' ');
		buf_append(&subject, address);
	} else {
		buf_printf(
		    &subject, " %zu recipient%s", count, count == 1 ? "" : "s");
	}
	field_append("Subject", buf_span(&subject), PLAIN_ASCII, out);
	buf_done(&subject);
}

static bool
is_message_id(struct span id)
{
	if (id.len < 5 || id.len > 250 || id.ptr[0] != '<' ||
	    span_find(id, '>') != id.len - 1)
		return false;
	for (size_t i = 1; i < id.len; i++) {
		if (id.ptr[i] <= ' ' || id.ptr[i] >= 0x7f || id.ptr[i] == '<')
			return false;
	}
	return span_find(id, '@') != SIZE_MAX;
}

/* Readers show the report beside the message it is about. */
static void
append_thread(const struct report *r, struct buf *out)
{
	struct header_facts facts;

	header_inspect(r->original_header, &facts);
	if (!is_message_id(facts.message_id))
		return;
	field_append("In-Reply-To", facts.message_id, PLAIN_ASCII, out);
	field_append("References", facts.message_id, PLAIN_ASCII, out);
}

/* "Name: prefix<addr-spec>" */
static void
append_mailbox(const struct report *r, const char *prefix,
    struct span addr_spec, struct buf *out)
{
	buf_append_str(out, prefix);
	buf_append_char(out, '<');
	plain_append(addr_spec, r->needs_utf8 ? PLAIN_UTF8 : PLAIN_ASCII, out);
	buf_append_str(out, ">\r\n");
}

static void
append_header(const struct report *r, const struct outline *o, struct buf *out)
{
	char date[TIME_RFC5322_SIZE];

	append_mailbox(r, "From: Mail Delivery Service ", r->from, out);
	append_mailbox(r, "To: ", r->to, out);
	append_subject(r, out);
	buf_printf(out, "Date: %s\r\n", time_format_rfc5322(r->now_us, date));
	buf_append_str(out, "Message-ID: <");
	plain_append(r->report_id, PLAIN_ASCII, out);
	buf_append_char(out, '@');
	plain_append(r->reporting_mta, PLAIN_ASCII, out);
	buf_append_str(out, ">\r\n");
	append_thread(r, out);
	buf_append_str(out, "Auto-Submitted: auto-replied\r\n"
			    "MIME-Version: 1.0\r\n");
	buf_printf(out,
	    "Content-Type: multipart/report; report-type=%s;\r\n"
	    "\tboundary=\"%s\"\r\n",
	    r->needs_utf8 ? "global-delivery-status" : "delivery-status",
	    o->boundary);
	bool has_8bit = r->needs_utf8
			    ? o->has_8bit_original ||
				  !span_is_ascii(buf_span(&o->text)) ||
				  !span_is_ascii(buf_span(&o->status))
			    : o->has_8bit_original && o->returns_body;
	if (has_8bit)
		buf_append_str(out, "Content-Transfer-Encoding: 8bit\r\n");
}

struct part {
	const char *description;
	const char *type;
	const char *encoding;
};

static const char *
encoding_of(const struct report *r, bool has_8bit)
{
	if (!has_8bit)
		return "7bit";
	return r->needs_utf8 ? "8bit" : "quoted-printable";
}

static void
append_part_header(
    const struct outline *o, const struct part *p, struct buf *out)
{
	buf_printf(out,
	    "\r\n--%s\r\n"
	    "Content-Description: %s\r\n"
	    "Content-Type: %s\r\n"
	    "Content-Transfer-Encoding: %s\r\n"
	    "\r\n",
	    o->boundary, p->description, p->type, p->encoding);
}

static void
append_encoded(
    const struct report *r, bool has_8bit, struct span text, struct buf *out)
{
	if (has_8bit && !r->needs_utf8)
		quoted_append(text, out);
	else
		buf_append(out, text);
}

static void
append_text(const struct report *r, const struct outline *o, struct buf *out)
{
	struct span text = buf_span(&o->text);
	bool has_8bit = !span_is_ascii(text);
	const struct part part = {
		.description = "What happened",
		.type = has_8bit ? "text/plain; charset=utf-8"
				 : "text/plain; charset=us-ascii",
		.encoding = encoding_of(r, has_8bit),
	};

	append_part_header(o, &part, out);
	append_encoded(r, has_8bit, text, out);
}

static void
append_status(const struct report *r, const struct outline *o, struct buf *out)
{
	struct span status = buf_span(&o->status);
	const struct part part = {
		.description = "Delivery report",
		.type = r->needs_utf8 ? "message/global-delivery-status"
				      : "message/delivery-status",
		.encoding = span_is_ascii(status) ? "7bit" : "8bit",
	};

	append_part_header(o, &part, out);
	buf_append(out, status);
}

/* One line of the original header without what ends lines or moves cursors;
 * folded where it is longer than a line of mail may be. */
static void
append_original_line(struct span line, struct buf *out)
{
	size_t column = 0;

	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.ptr[i];
		if (column == LINE_MAX_OCTETS) {
			buf_append_str(out, "\r\n ");
			column = 1;
		}
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			buf_append_char(out, '?');
		else
			buf_append_char(out, line.ptr[i]);
		column++;
	}
	buf_append_str(out, "\r\n");
}

static void
append_original_header(struct span section, struct buf *out)
{
	while (section.len > 0) {
		struct span line = span_cut(&section, '\n');
		if (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		if (line.len == 0)
			return;
		append_original_line(line, out);
	}
}

static const char *
returned_type(const struct report *r, const struct outline *o)
{
	if (o->returns_body)
		return r->needs_utf8 ? "message/global" : "message/rfc822";
	return r->needs_utf8 ? "message/global-headers" : "text/rfc822-headers";
}

static void
append_returned_header(
    const struct report *r, const struct outline *o, struct buf *out)
{
	struct buf text = BUF_EMPTY;
	const struct part part = {
		.description = "Header of your message",
		.type = returned_type(r, o),
		.encoding = encoding_of(r, o->has_8bit_original),
	};

	append_part_header(o, &part, out);
	append_original_header(r->original_header, &text);
	append_encoded(r, o->has_8bit_original, buf_span(&text), out);
	buf_done(&text);
}

static void
append_returned(
    const struct report *r, const struct outline *o, struct buf *out)
{
	const struct part part = {
		.description = "Your message",
		.type = returned_type(r, o),
		.encoding = o->has_8bit_original ? "8bit" : "7bit",
	};

	if (!o->returns_body) {
		append_returned_header(r, o, out);
		return;
	}
	append_part_header(o, &part, out);
	append_original_header(r->original_header, out);
	buf_append_str(out, "\r\n");
	buf_append(out, r->original_body);
}

void
report_compose(const struct report *r, struct buf *out)
{
	struct outline o = {
		.text = BUF_EMPTY,
		.status = BUF_EMPTY,
		.returns_body =
		    r->return_full && is_returnable(r->original_body),
	};

	BUG_UNLESS(r->recipient_count > 0);
	for (size_t i = 0; i < r->recipient_count; i++)
		BUG_UNLESS(r->recipients[i].action <= REPORT_RELAYED);
	BUG_UNLESS(r->reporting_mta.len > 0 && r->report_id.len > 0);
	o.has_8bit_original =
	    !span_is_ascii(r->original_header) ||
	    (o.returns_body && !span_is_ascii(r->original_body));
	report_append_text(r, &o.text);
	report_append_status(r, &o.status);
	choose_boundary(r, &o);
	append_header(r, &o, out);
	buf_append_str(
	    out, "\r\nThis is a delivery report in MIME format.\r\n");
	append_text(r, &o, out);
	append_status(r, &o, out);
	append_returned(r, &o, out);
	buf_printf(out, "\r\n--%s--\r\n", o.boundary);
	buf_done(&o.text);
	buf_done(&o.status);
}

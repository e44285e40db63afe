/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "mail/internal.h"
#include "mail/report.h"
#include "mail/xtext.h"

/*
 * The part of a delivery report that programs read: message/delivery-status
 * (RFC 3464 §2), or message/global-delivery-status (RFC 6533 §5), which may
 * have UTF-8 in addresses and in the peer's words.
 */

#define DIAGNOSTIC_MAX 4000 /* octets of a peer's reply that are passed on */

static enum plain
plain_kind(const struct report *r)
{
	return r->needs_utf8 ? PLAIN_UTF8 : PLAIN_ASCII;
}

static void
append_date(const char *name, int64_t wall_us, struct buf *out)
{
	char date[TIME_RFC5322_SIZE];

	if (wall_us > 0)
		buf_printf(out, "%s: %s\r\n", name,
		    time_format_rfc5322(wall_us, date));
}

/* "Name: type; value", where there is a value. */
static void
append_typed(const char *name, const char *type, struct span value,
    enum plain kind, struct buf *out)
{
	struct buf text = BUF_EMPTY;

	value = span_trim(value);
	if (value.len == 0)
		return;
	buf_append_str(&text, type);
	buf_append_str(&text, "; ");
	buf_append(&text, value);
	field_append(name, buf_span(&text), kind, out);
	buf_done(&text);
}

/* An address that is not ASCII has the type utf-8, and in a report for
 * systems without SMTPUTF8 the escapes of RFC 6533 §3. */
static void
append_address(const struct report *r, const char *name, struct span address,
    struct buf *out)
{
	struct buf encoded = BUF_EMPTY;

	if (span_is_ascii(address)) {
		append_typed(name, "rfc822", address, PLAIN_ASCII, out);
		return;
	}
	if (r->needs_utf8) {
		append_typed(name, "utf-8", address, PLAIN_UTF8, out);
		return;
	}
	xtext_encode_utf8_address(address, &encoded);
	append_typed(name, "utf-8", buf_span(&encoded), PLAIN_ASCII, out);
	buf_done(&encoded);
}

/* ORCPT keeps its type; without one, or with one that is none, it is an
 * address like ours. */
static void
append_original(const struct report *r, struct span original, struct buf *out)
{
	struct span address = original;
	struct span type = span_cut(&address, ';');

	if (original.len == 0)
		return;
	if (span_find(original, ';') == SIZE_MAX) {
		append_address(r, "Original-Recipient", original, out);
		return;
	}
	bool is_mail = span_eq_nocase(type, SPAN("rfc822")) ||
		       span_eq_nocase(type, SPAN("utf-8"));
	if (is_mail && !span_is_ascii(address))
		append_address(r, "Original-Recipient", address, out);
	else
		field_append(
		    "Original-Recipient", original, plain_kind(r), out);
}

static bool
are_digits(struct span s, size_t max)
{
	uint64_t value = 0;

	return s.len <= max && span_to_u64(s, UINT64_MAX, &value);
}

/* class "." subject "." detail, RFC 3463 §2 */
static bool
is_status(struct span s)
{
	struct span class = span_cut(&s, '.');
	struct span subject = span_cut(&s, '.');

	return class.len == 1 &&
	       (class.ptr[0] == '2' || class.ptr[0] == '4' ||
		   class.ptr[0] == '5') &&
	       are_digits(subject, 3) && are_digits(s, 3);
}

static void
append_action(const struct report_recipient *rcpt, struct buf *out)
{
	static const struct {
		const char *word, *status;
	} actions[] = {
		[REPORT_FAILED] = { "failed", "5.0.0" },
		[REPORT_DELAYED] = { "delayed", "4.0.0" },
		[REPORT_DELIVERED] = { "delivered", "2.0.0" },
		[REPORT_RELAYED] = { "relayed", "2.0.0" },
	};
	struct span status = rcpt->status;

	if (!is_status(status))
		status = span_of(actions[rcpt->action].status);
	field_append(
	    "Action", span_of(actions[rcpt->action].word), PLAIN_ASCII, out);
	field_append("Status", status, PLAIN_ASCII, out);
}

/* What no peer said has a type of ours: RFC 3464 §2.1.1 reserves "smtp" for
 * words from an SMTP dialogue. */
static void
append_diagnostic(const struct report *r, const struct report_recipient *rcpt,
    struct buf *out)
{
	struct span said = span_slice(rcpt->diagnostic, 0, DIAGNOSTIC_MAX);

	if (span_trim(said).len > 0)
		append_typed(
		    "Diagnostic-Code", "smtp", said, plain_kind(r), out);
	else
		append_typed("Diagnostic-Code", "x-posthouse", rcpt->reason,
		    plain_kind(r), out);
}

static void
append_recipient(const struct report *r, const struct report_recipient *rcpt,
    struct buf *out)
{
	buf_append_str(out, "\r\n");
	append_original(r, rcpt->original, out);
	append_address(r, "Final-Recipient", rcpt->address, out);
	append_action(rcpt, out);
	append_typed("Remote-MTA", "dns", rcpt->remote_mta, PLAIN_ASCII, out);
	append_diagnostic(r, rcpt, out);
	append_date("Last-Attempt-Date", rcpt->last_attempt_us, out);
	if (rcpt->action == REPORT_DELAYED)
		append_date("Will-Retry-Until", rcpt->retry_until_us, out);
}

void
report_append_status(const struct report *r, struct buf *out)
{
	append_typed(
	    "Reporting-MTA", "dns", r->reporting_mta, PLAIN_ASCII, out);
	if (r->envelope_id.len > 0)
		field_append(
		    "Original-Envelope-Id", r->envelope_id, PLAIN_ASCII, out);
	field_append(
	    "X-Posthouse-Message-Id", r->original_id, PLAIN_ASCII, out);
	append_date("Arrival-Date", r->arrival_us, out);
	for (size_t i = 0; i < r->recipient_count; i++)
		append_recipient(r, &r->recipients[i], out);
}

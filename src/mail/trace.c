/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/trace.h"

#include "base/time.h"
#include "mail/address.h"
#include "mail/internal.h"

#include <string.h>

/*
 * Received: from helo ([192.0.2.1])
 *	(TLSv1.3 TLS_AES_256_GCM_SHA384) (authenticated as user)
 *	by host (posthouse) with ESMTPSA id 01ARZ3NDEKTSV4RRFFQ69G5FAV
 *	for <a@b>; Mon, 23 Nov 2026 17:44:49 +0000
 *
 * The field is composed as one text with "\n" where a break is wanted, then
 * folded. A HELO argument that is no name at all stands in a comment.
 */

/* Text inside a comment: no parentheses, no backslash, nothing but ASCII. */
static void
comment_append(struct span s, struct buf *out)
{
	struct buf plain = BUF_EMPTY;

	plain_append(s, PLAIN_ASCII, &plain);
	for (const char *c = buf_cstring(&plain); *c != '\0'; c++) {
		if (*c == '(' || *c == ')' || *c == '\\')
			buf_append_char(out, '?');
		else
			buf_append_char(out, *c);
	}
	buf_done(&plain);
}

static void
append_client_ip(const struct netaddr *client, struct buf *out)
{
	char text[NETADDR_TEXT_SIZE];

	buf_append_str(out, client->family == NETADDR_IP6 ? "[IPv6:" : "[");
	buf_append_str(out, netaddr_format_ip(client, text));
	buf_append_char(out, ']');
}

static bool
has_network_client(const struct trace *t)
{
	return t->client.family == NETADDR_IP4 ||
	       t->client.family == NETADDR_IP6;
}

static void
append_from(const struct trace *t, struct buf *out)
{
	if (!has_network_client(t))
		return;
	buf_append_str(out, " from ");
	if (address_is_helo_name(t->helo)) {
		buf_append(out, t->helo);
		buf_append_str(out, " (");
		append_client_ip(&t->client, out);
		buf_append_char(out, ')');
		return;
	}
	append_client_ip(&t->client, out);
	if (t->helo.len == 0)
		return;
	buf_append_str(out, " (helo=");
	comment_append(span_slice(t->helo, 0, ADDRESS_DOMAIN_MAX), out);
	buf_append_char(out, ')');
}

static void
append_security(const struct trace *t, struct buf *out)
{
	const char *separator = has_network_client(t) ? "\n" : " ";

	if (t->tls.len > 0) {
		buf_append_str(out, separator);
		buf_append_char(out, '(');
		comment_append(t->tls, out);
		buf_append_char(out, ')');
		separator = " ";
	}
	if (t->user.len > 0) {
		buf_append_str(out, separator);
		buf_append_str(out, "(authenticated as ");
		comment_append(t->user, out);
		buf_append_char(out, ')');
	}
}

/* RFC 6531 §3.7.3: UTF-8 only in the trace of mail that came with SMTPUTF8. */
static bool
may_name_recipient(const struct trace *t)
{
	struct span s = t->only_recipient;

	if (s.len == 0)
		return false;
	if (!span_starts(t->protocol, SPAN("UTF8")) && !span_is_ascii(s))
		return false;
	while (s.len > 0) {
		uint32_t point = 0;
		if (!utf8_next(&s, &point) || !plain_is_harmless(point))
			return false;
	}
	return true;
}

void
trace_append_received(const struct trace *t, struct buf *out)
{
	char date[TIME_RFC5322_SIZE];
	struct buf text = BUF_EMPTY;

	buf_append_str(&text, "Received:");
	append_from(t, &text);
	append_security(t, &text);
	bool has_origin = buf_size(&text) > strlen("Received:");
	buf_append_str(&text, has_origin ? "\nby " : " by ");
	plain_append(t->by, PLAIN_ASCII, &text);
	buf_append_str(&text, " (posthouse) with ");
	plain_append(t->protocol, PLAIN_ASCII, &text);
	buf_append_str(&text, " id ");
	plain_append(t->message_id, PLAIN_ASCII, &text);
	if (may_name_recipient(t)) {
		buf_append_str(&text, "\nfor <");
		buf_append(&text, t->only_recipient);
		buf_append_str(&text, ">; ");
	} else {
		buf_append_str(&text, ";\n");
	}
	buf_append_str(&text, time_format_rfc5322(t->wall_us, date));
	fold_append_field(buf_span(&text), out);
	buf_done(&text);
}

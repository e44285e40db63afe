/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/envelope.h"

#include "base/bug.h"

enum {
	PATH_MAX_OCTETS = 512, /* a mailbox is at most ADDRESS_MAX */
	PARAMETER_MAX = 1000, /* RFC 3461 §4: ORCPT 500, RFC 6533 more */
	WORD_MAX = 12288, /* RFC 4954 §4 */
};

static bool
is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

bool
envelope_is_word(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (is_control(s.ptr[i]) || s.ptr[i] == ' ')
			return false;
	}
	return s.len > 0 && s.len <= WORD_MAX;
}

/* Spaces and angle brackets may stand in a quoted local part only. */
static bool
is_path(struct span s)
{
	bool quoted = false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (is_control(c))
			return false;
		if (c == '"')
			quoted = !quoted;
		else if (quoted && c == '\\')
			i++;
		else if (!quoted && (c == ' ' || c == '<' || c == '>'))
			return false;
		if (i < s.len && is_control(s.ptr[i]))
			return false;
	}
	return !quoted && s.len <= PATH_MAX_OCTETS;
}

static bool
is_parameter(struct span s)
{
	return s.len == 0 || (envelope_is_word(s) && s.len <= PARAMETER_MAX);
}

static bool
refuse(struct reply *ret_reply, struct reply reply)
{
	*ret_reply = reply;
	return false;
}

static bool
has(const struct offers *o, int flags)
{
	return (o->flags & flags) == flags;
}

/* RFC 3030 §3, RFC 6152 §3: we never rewrite a body, so a server that cannot
 * take it as it is does not get it. */
static bool
allows_body(const struct smtp_client_transaction *t, const struct offers *o)
{
	switch (t->body) {
	case SMTP_BODY_7BIT:
		return true;
	case SMTP_BODY_8BITMIME:
		return has(o, SMTP_OFFER_8BITMIME);
	case SMTP_BODY_BINARYMIME:
		return has(o, SMTP_OFFER_BINARYMIME | SMTP_OFFER_CHUNKING);
	}
	UNREACHABLE("body of a transaction");
}

bool
envelope_allows(const struct smtp_client_transaction *t, const struct offers *o,
    struct reply *ret_reply)
{
	if (!is_path(t->sender))
		return refuse(ret_reply,
		    REPLY(553, 5, 1, 7, "the sender address is malformed"));
	if (has(o, SMTP_OFFER_DSN) && !is_parameter(t->envid))
		return refuse(ret_reply,
		    REPLY(554, 5, 6, 0, "the envelope id is malformed"));
	if (o->size_max > 0 && t->size > o->size_max)
		return refuse(ret_reply,
		    REPLY(552, 5, 3, 4,
			"the message is larger than the server accepts"));
	if ((t->utf8 || !span_is_ascii(t->sender)) &&
	    !has(o, SMTP_OFFER_SMTPUTF8))
		return refuse(ret_reply,
		    REPLY(553, 5, 6, 7,
			"the message needs SMTPUTF8, which the server "
			"does not offer"));
	if (t->requiretls && !t->proven)
		return refuse(ret_reply,
		    REPLY(550, 5, 7, 30,
			"the message asks for TLS all the way (REQUIRETLS), "
			"but the server has not proved its name"));
	if (t->requiretls && !has(o, SMTP_OFFER_REQUIRETLS))
		return refuse(ret_reply,
		    REPLY(550, 5, 7, 30,
			"the message asks for TLS all the way, but the server "
			"does not offer REQUIRETLS"));
	if (!allows_body(t, o))
		return refuse(ret_reply,
		    REPLY(554, 5, 6, 3,
			"the message needs 8BITMIME or BINARYMIME, which the "
			"server does not offer"));
	return true;
}

bool
envelope_allows_rcpt(const struct smtp_client_rcpt *r, const struct offers *o,
    struct reply *ret_reply)
{
	if (r->address.len == 0 || !is_path(r->address))
		return refuse(ret_reply,
		    REPLY(553, 5, 1, 3, "the recipient address is malformed"));
	if (has(o, SMTP_OFFER_DSN) && !is_parameter(r->orcpt))
		return refuse(ret_reply,
		    REPLY(554, 5, 6, 0,
			"the original recipient (ORCPT) is malformed"));
	if (!span_is_ascii(r->address) && !has(o, SMTP_OFFER_SMTPUTF8))
		return refuse(ret_reply,
		    REPLY(553, 5, 6, 7,
			"the address needs SMTPUTF8, which the server does "
			"not offer"));
	return true;
}

static bool
needs_utf8(const struct smtp_client_transaction *t)
{
	if (t->utf8 || !span_is_ascii(t->sender))
		return true;
	for (size_t i = 0; i < t->rcpt_count; i++) {
		if (!span_is_ascii(t->rcpts[i].address))
			return true;
	}
	return false;
}

void
envelope_append_mail(const struct smtp_client_transaction *t,
    const struct offers *o, struct buf *out)
{
	buf_append(out, SPAN("MAIL FROM:<"));
	buf_append(out, t->sender);
	buf_append_char(out, '>');
	if (has(o, SMTP_OFFER_SIZE)) {
		buf_append(out, SPAN(" SIZE="));
		buf_append_u64(out, t->size);
	}
	if (t->body == SMTP_BODY_8BITMIME)
		buf_append(out, SPAN(" BODY=8BITMIME"));
	if (t->body == SMTP_BODY_BINARYMIME)
		buf_append(out, SPAN(" BODY=BINARYMIME"));
	if (has(o, SMTP_OFFER_SMTPUTF8) && needs_utf8(t))
		buf_append(out, SPAN(" SMTPUTF8"));
	if (t->requiretls)
		buf_append(out, SPAN(" REQUIRETLS"));
	if (has(o, SMTP_OFFER_DSN) && t->ret != SMTP_RET_UNSET)
		buf_append_str(
		    out, t->ret == SMTP_RET_FULL ? " RET=FULL" : " RET=HDRS");
	if (has(o, SMTP_OFFER_DSN) && t->envid.len > 0) {
		buf_append(out, SPAN(" ENVID="));
		buf_append(out, t->envid);
	}
	buf_append(out, SPAN("\r\n"));
}

/* RFC 3461 §4.1: NEVER stands alone. */
static void
append_notify(uint8_t notify, struct buf *out)
{
	static const struct {
		uint8_t bit;
		const char *word;
	} words[] = {
		{ SMTP_NOTIFY_SUCCESS, "SUCCESS" },
		{ SMTP_NOTIFY_FAILURE, "FAILURE" },
		{ SMTP_NOTIFY_DELAY, "DELAY" },
	};

	const char *before = " NOTIFY=";

	if (notify & SMTP_NOTIFY_NEVER) {
		buf_append(out, SPAN(" NOTIFY=NEVER"));
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!(notify & words[i].bit))
			continue;
		buf_append_str(out, before);
		buf_append_str(out, words[i].word);
		before = ",";
	}
}

void
envelope_append_rcpt(
    const struct smtp_client_rcpt *r, const struct offers *o, struct buf *out)
{
	buf_append(out, SPAN("RCPT TO:<"));
	buf_append(out, r->address);
	buf_append_char(out, '>');
	if (has(o, SMTP_OFFER_DSN)) {
		append_notify(r->notify, out);
		/* RFC 6533 §3: unencoded only where SMTPUTF8 is offered. */
		if (r->orcpt.len > 0 &&
		    (span_is_ascii(r->orcpt) || has(o, SMTP_OFFER_SMTPUTF8))) {
			buf_append(out, SPAN(" ORCPT="));
			buf_append(out, r->orcpt);
		}
	}
	buf_append(out, SPAN("\r\n"));
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A message that another spool exported, or this one earlier: it passes the one
 * door, but as it is, for its trace field and all else were added before.
 */

#include "api/internal.h"
#include "base/arena.h"
#include "base/time.h"
#include "mail/xtext.h"

#include <string.h>

#define ENVID_MAX 100 /* octets of xtext: RFC 3461 §4.4 */
#define ORCPT_MAX 500 /* RFC 3461 §4.2 */

struct import {
	struct arena *arena;
	json_t *root; /* of the envelope */
	struct smtp_mail mail;
	struct intake_client client;
	const json_t *recipients;
	struct span message;
};

static const char *
text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static bool
refuse(struct call *call, const char *name)
{
	respond_error(call, 400, "bad_envelope",
	    "the field `%s` of the envelope is missing or not as an export "
	    "writes it",
	    name);
	return false;
}

/* Like one that a MAIL or RCPT command may have: nothing else goes out. */
static bool
is_xtext(struct span text, size_t max)
{
	struct buf decoded = BUF_EMPTY;
	bool good = text.len <= max && xtext_decode(text, &decoded) == 0;

	buf_done(&decoded);
	return good;
}

static bool
is_orcpt(struct span text)
{
	struct span rest = text, type = span_cut(&rest, ';');

	for (size_t i = 0; i < type.len; i++) {
		if (type.ptr[i] <= ' ' || type.ptr[i] > '~')
			return false;
	}
	return type.len > 0 && rest.len > 0 && is_xtext(rest, ORCPT_MAX);
}

/* ---- the envelope ------------------------------------------------------ */

static bool
read_body_kind(struct call *call, struct import *m)
{
	static const char *const names[] = {
		[SMTP_BODY_7BIT] = "7bit",
		[SMTP_BODY_8BITMIME] = "8bitmime",
		[SMTP_BODY_BINARYMIME] = "binarymime",
	};
	const char *text = text_of(m->root, "body");

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (text == NULL || strcmp(text, names[i]) != 0)
			continue;
		m->mail.body = (enum smtp_body)i;
		return true;
	}
	return refuse(call, "body");
}

static bool
read_sender(struct call *call, struct import *m)
{
	const char *text = text_of(m->root, "sender"), *reason;

	if (text == NULL)
		return refuse(call, "sender");
	if (text[0] != '\0' && address_parse(span_of(text),
				   ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL,
				   m->arena, &m->mail.sender, &reason) < 0)
		return refuse(call, "sender");
	m->mail.utf8 = json_is_true(json_object_get(m->root, "smtputf8"));
	m->mail.requiretls =
	    json_is_true(json_object_get(m->root, "requiretls"));
	return true;
}

static bool
read_wishes(struct call *call, struct import *m)
{
	const char *ret = text_of(m->root, "ret");
	const char *envid = text_of(m->root, "envid");

	if (ret != NULL && strcmp(ret, "full") == 0)
		m->mail.ret = SMTP_RET_FULL;
	else if (ret != NULL && strcmp(ret, "hdrs") == 0)
		m->mail.ret = SMTP_RET_HDRS;
	else if (ret != NULL)
		return refuse(call, "ret");
	m->mail.envid = span_of(envid);
	if (!is_xtext(m->mail.envid, ENVID_MAX))
		return refuse(call, "envid");
	return true;
}

static bool
read_client(struct call *call, struct import *m)
{
	const char *address = text_of(m->root, "client");
	const char *expires = text_of(m->root, "expires");

	m->client.origin = INTAKE_IMPORT;
	m->client.user = span_of(text_of(m->root, "user"));
	m->client.is_report = json_is_true(json_object_get(m->root, "report"));
	if (address != NULL &&
	    !netaddr_parse_ip(span_of(address), &m->client.address))
		return refuse(call, "client");
	if (expires != NULL &&
	    !time_parse_rfc3339(span_of(expires), &m->client.expire_us))
		return refuse(call, "expires");
	return true;
}

/* By name: numbers are each directory's own. */
static bool
read_owner(struct call *call, struct import *m)
{
	const char *tenant_name = text_of(m->root, "tenant");
	const char *stream_name = text_of(m->root, "stream");
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	const struct directory_tenant *tenant =
	    directory_find_tenant(s, span_of(tenant_name));
	const struct directory_stream *stream =
	    tenant == NULL
		? NULL
		: directory_find_stream(s, tenant->id, span_of(stream_name));

	if (stream != NULL) {
		m->client.tenant = tenant->id;
		m->client.stream = stream->id;
	}
	bool found = stream != NULL, has_tenant = tenant != NULL;
	directory_snapshot_unref(&s);
	if (!has_tenant)
		respond_error(call, 404, "not_found",
		    "there is no tenant `%.64s` here: add it, or import for "
		    "another one with --tenant",
		    tenant_name != NULL ? tenant_name : "");
	else if (!found)
		respond_error(call, 404, "not_found",
		    "the tenant `%.64s` has no stream `%.64s`: add it, or "
		    "import into another one with --stream",
		    tenant_name, stream_name != NULL ? stream_name : "");
	return found;
}

/* A file that was cut off must not become a message. */
static bool
check_size(struct call *call, const struct import *m)
{
	json_int_t size = json_integer_value(json_object_get(m->root, "size"));

	if (size >= 0 && (uint64_t)size == m->message.len)
		return true;
	respond_error(call, 422, "bad_size",
	    "the message has %zu octets, but its envelope says %lld",
	    m->message.len, (long long)size);
	return false;
}

static bool
read_envelope(struct call *call, struct import *m)
{
	struct span body = call->request->body;
	struct span line = span_cut(&body, '\n');
	json_error_t error;

	m->message = body;
	m->root = json_loadb(line.len > 0 ? line.ptr : "", line.len,
	    JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(m->root)) {
		respond_error(call, 400, "bad_envelope",
		    "the envelope is not a JSON object in one line: %s",
		    error.text);
		return false;
	}
	m->recipients = json_object_get(m->root, "recipients");
	if (!json_is_array(m->recipients) ||
	    json_array_size(m->recipients) == 0)
		return refuse(call, "recipients");
	return check_size(call, m) && read_body_kind(call, m) &&
	       read_sender(call, m) && read_wishes(call, m) &&
	       read_client(call, m) && read_owner(call, m);
}

/* ---- recipients -------------------------------------------------------- */

static bool
read_notify(const json_t *list, uint8_t *ret_bits)
{
	static const char *const names[] = { "never", "success", "failure",
		"delay" };
	const json_t *word;
	uint8_t bits = 0;
	size_t i;

	json_array_foreach(list, i, word)
	{
		const char *text = json_string_value(word);
		size_t bit = 0;

		while (
		    bit < 4 && (text == NULL || strcmp(text, names[bit]) != 0))
			bit++;
		if (bit == 4)
			return false;
		bits |= (uint8_t)(1u << bit);
	}
	*ret_bits = bits;
	return bits == SMTP_NOTIFY_NEVER || (bits & SMTP_NOTIFY_NEVER) == 0;
}

static bool
add_recipient(struct call *call, struct import *m,
    struct intake_message *message, const json_t *one)
{
	const char *text = text_of(one, "address"), *reason;
	struct smtp_rcpt rcpt = { .orcpt = span_of(text_of(one, "orcpt")) };
	struct reply reply;

	if (text == NULL || address_parse(span_of(text),
				ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL,
				m->arena, &rcpt.recipient, &reason) < 0)
		return refuse(call, "recipients.address");
	if (!read_notify(json_object_get(one, "notify"), &rcpt.notify))
		return refuse(call, "recipients.notify");
	if (rcpt.orcpt.len > 0 && !is_orcpt(rcpt.orcpt))
		return refuse(call, "recipients.orcpt");
	intake_rcpt(message, &rcpt, &reply);
	if (reply_is_positive(&reply))
		return true;
	submit_refuse(call, &reply, span_of(text));
	return false;
}

static void
hand_over(struct call *call, struct import *m)
{
	const json_t *one;
	struct reply reply;
	size_t i;
	struct intake_message *message =
	    intake_mail(call->api->intake, &m->client, &m->mail, &reply);

	if (message == NULL) {
		submit_refuse(call, &reply, SPAN_EMPTY);
		return;
	}
	json_array_foreach(m->recipients, i, one)
	{
		if (add_recipient(call, m, message, one))
			continue;
		intake_abort(&message);
		return;
	}
	intake_body(message, m->message);
	submit_commit(call, message);
}

void
messages_import(struct call *call)
{
	struct import m = { .arena = arena_new() };

	if (read_envelope(call, &m) && (m.mail.body == SMTP_BODY_BINARYMIME ||
					   submit_check_lines(call, m.message)))
		hand_over(call, &m);
	json_decref(m.root);
	arena_free(&m.arena);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A message from a program on this host, by the sendmail shim. It passes the
 * one door like any other; the answer comes when it is on stable storage.
 */

#include "api/internal.h"
#include "base/arena.h"
#include "base/bug.h"
#include "mail/xtext.h"
#include "smtp/parameters.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define ENVID_MAX 100 /* octets of xtext: RFC 3461 §4.4 */

struct submission {
	struct arena *arena;
	struct smtp_mail mail;
	uint8_t notify;
	struct span recipients; /* as given, not split yet */
};

static const char *
header(const struct call *call, const char *name)
{
	return call->request->header == NULL
		   ? NULL
		   : call->request->header(call->request, name);
}

/* ---- the envelope ------------------------------------------------------ */

/* "<a@b>" or "a@b". */
static struct span
without_brackets(struct span s)
{
	s = span_trim(s);
	if (s.len >= 2 && s.ptr[0] == '<' && s.ptr[s.len - 1] == '>')
		return span_slice(s, 1, s.len - 2);
	return s;
}

static bool
read_sender(struct call *call, struct submission *sub)
{
	const char *text = header(call, "X-Posthouse-Sender");
	struct span s = without_brackets(span_of(text));
	const char *reason = NULL;

	if (text == NULL) {
		respond_error(call, 400, "missing_sender",
		    "the header field X-Posthouse-Sender is required; it may "
		    "be empty for the null sender");
		return false;
	}
	if (s.len == 0)
		return true;
	if (address_parse(s, ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL,
		sub->arena, &sub->mail.sender, &reason) == 0) {
		sub->mail.utf8 = sub->mail.sender.needs_utf8;
		return true;
	}
	respond_error(call, 422, "bad_sender",
	    "the sender `%.320s` is not a mail address: %s", text, reason);
	return false;
}

static bool
read_notify(struct call *call, struct submission *sub)
{
	static const struct {
		const char *name;
		enum smtp_notify bit;
	} kinds[] = {
		{ "never", SMTP_NOTIFY_NEVER },
		{ "success", SMTP_NOTIFY_SUCCESS },
		{ "failure", SMTP_NOTIFY_FAILURE },
		{ "delay", SMTP_NOTIFY_DELAY },
	};
	struct span rest = span_of(header(call, "X-Posthouse-Notify"));
	unsigned bits = 0;

	while (rest.len > 0) {
		struct span word = span_trim(span_cut(&rest, ','));
		unsigned bit = 0;

		for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
			if (span_eq_nocase(word, span_of(kinds[i].name)))
				bit = kinds[i].bit;
		}
		bits |= bit;
		if (bit != 0 && ((bits & SMTP_NOTIFY_NEVER) == 0 ||
				    bits == SMTP_NOTIFY_NEVER))
			continue;
		respond_error(call, 400, "bad_notify",
		    "X-Posthouse-Notify is `never`, or some of `success`, "
		    "`failure` and `delay`");
		return false;
	}
	sub->notify = (uint8_t)bits;
	return true;
}

static bool
read_report_wishes(struct call *call, struct submission *sub)
{
	struct span ret = span_of(header(call, "X-Posthouse-Ret"));
	struct span envid = span_of(header(call, "X-Posthouse-Envid"));
	struct buf xtext = BUF_EMPTY;
	bool printable = true;

	if (span_eq_nocase(ret, SPAN("full")))
		sub->mail.ret = SMTP_RET_FULL;
	else if (span_eq_nocase(ret, SPAN("hdrs")))
		sub->mail.ret = SMTP_RET_HDRS;
	else if (ret.len > 0) {
		respond_error(call, 400, "bad_ret",
		    "X-Posthouse-Ret is `full` or `hdrs`");
		return false;
	}
	for (size_t i = 0; i < envid.len; i++)
		printable =
		    printable && envid.ptr[i] >= ' ' && envid.ptr[i] <= '~';
	if (printable)
		xtext_encode(envid, &xtext);
	bool good = printable && buf_size(&xtext) <= ENVID_MAX;
	if (good)
		sub->mail.envid = arena_dup(sub->arena, buf_span(&xtext));
	else
		respond_error(call, 400, "bad_envid",
		    "X-Posthouse-Envid may have at most %d printable ASCII "
		    "characters",
		    ENVID_MAX);
	buf_done(&xtext);
	return good;
}

static bool
read_envelope(struct call *call, struct submission *sub)
{
	sub->recipients = span_of(header(call, "X-Posthouse-Recipient"));
	if (span_trim(sub->recipients).len == 0) {
		respond_error(call, 400, "missing_recipient",
		    "the header field X-Posthouse-Recipient is required");
		return false;
	}
	return read_sender(call, sub) && read_notify(call, sub) &&
	       read_report_wishes(call, sub);
}

/* Up to the next comma that stands outside a quoted local part. */
static struct span
next_recipient(struct span *rest)
{
	bool quoted = false;
	size_t i = 0;

	for (; i < rest->len; i++) {
		char c = rest->ptr[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (c == ',' && !quoted)
			break;
	}
	struct span first = span_slice(*rest, 0, i);
	*rest = span_skip(*rest, i + 1);
	return first;
}

/* ---- the message ------------------------------------------------------- */

/* Only CRLF ends a line, and NUL has no business in mail (RFC 5321 §2.3.8). */
bool
submit_check_lines(struct call *call, struct span body)
{
	const char *end = body.ptr + body.len;

	for (const char *p = body.ptr; p < end; p++) {
		bool bad = *p == '\0' ||
			   (*p == '\n' && (p == body.ptr || p[-1] != '\r')) ||
			   (*p == '\r' && (p + 1 == end || p[1] != '\n'));

		if (!bad)
			continue;
		respond_error(call, 422, "bad_line",
		    "octet %zu of the message is a bare %s: lines must end "
		    "in CRLF",
		    (size_t)(p - body.ptr) + 1,
		    *p == '\0' ? "NUL" : (*p == '\n' ? "LF" : "CR"));
		return false;
	}
	return true;
}

void
submit_refuse(
    struct call *call, const struct reply *reply, struct span recipient)
{
	char enhanced[16] = "";
	int status = reply_is_temporary(reply) ? 503 : 422;
	json_t *error = json_object();

	if (reply->enhanced.class != 0)
		(void)snprintf(enhanced, sizeof(enhanced), "%u.%u.%u",
		    reply->enhanced.class, reply->enhanced.subject,
		    reply->enhanced.detail);
	json_object_set_new(error, "code", json_string("refused"));
	json_object_set_new(error, "message", json_text(reply->text));
	json_object_set_new(error, "smtp_code", json_count(reply->code));
	json_object_set_new(error, "enhanced", json_string(enhanced));
	if (recipient.len > 0)
		json_object_set_new(error, "recipient", json_text(recipient));
	respond_json(call, status, json_pack("{s:o}", "error", error));
}

struct commit {
	pthread_mutex_t lock;
	pthread_cond_t finished;
	bool done;
	struct reply reply;
	char text[FAILURE_TEXT_MAX];
	char id[MSGID_TEXT_SIZE];
};

/* On the committer's thread, or on ours. */
static void
on_committed(void *arg, const struct reply *reply, const struct msgid *id)
{
	struct commit *c = arg;
	struct span text = span_slice(reply->text, 0, sizeof(c->text) - 1);

	pthread_mutex_lock(&c->lock);
	c->reply = *reply;
	(void)span_to_cstring(text, c->text, sizeof(c->text));
	c->reply.text = span_from(c->text, text.len);
	if (id != NULL)
		(void)msgid_format(id, c->id);
	c->done = true;
	pthread_cond_signal(&c->finished);
	pthread_mutex_unlock(&c->lock);
}

void
submit_commit(struct call *call, struct intake_message *m)
{
	struct commit c = { 0 };

	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.finished, NULL);
	intake_end(m, NULL, on_committed, &c);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.finished, &c.lock);
	pthread_mutex_unlock(&c.lock);
	pthread_cond_destroy(&c.finished);
	pthread_mutex_destroy(&c.lock);
	if (!reply_is_positive(&c.reply)) {
		submit_refuse(call, &c.reply, SPAN_EMPTY);
		return;
	}
	BUG_UNLESS(c.id[0] != '\0');
	respond_json(call, 201, json_pack("{s:s}", "message_id", c.id));
}

/* False: the answer is made. */
static bool
add_recipient(struct call *call, struct submission *sub,
    struct intake_message *m, struct span text)
{
	struct smtp_rcpt rcpt = { .notify = sub->notify };
	const char *reason = NULL;
	struct reply reply;

	if (address_parse(without_brackets(text),
		ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL |
		    ADDRESS_ALLOW_POSTMASTER,
		sub->arena, &rcpt.recipient, &reason) < 0) {
		respond_error(call, 422, "bad_recipient",
		    "the recipient `%.*s` is not a mail address: %s",
		    (int)(text.len < ADDRESS_MAX ? text.len : ADDRESS_MAX),
		    text.ptr, reason);
		return false;
	}
	intake_rcpt(m, &rcpt, &reply);
	if (reply_is_positive(&reply))
		return true;
	submit_refuse(call, &reply, text);
	return false;
}

static void
hand_over(struct call *call, struct submission *sub)
{
	const struct intake_client client = {
		.origin = INTAKE_SENDMAIL,
		.protocol = SPAN("local"),
		.user = span_of(call->request->user),
	};
	struct reply reply;
	struct intake_message *m =
	    intake_mail(call->api->intake, &client, &sub->mail, &reply);

	if (m == NULL) {
		submit_refuse(call, &reply, SPAN_EMPTY);
		return;
	}
	while (sub->recipients.len > 0) {
		struct span text = span_trim(next_recipient(&sub->recipients));

		if (text.len > 0 && !add_recipient(call, sub, m, text)) {
			intake_abort(&m);
			return;
		}
	}
	if (intake_recipients(m) == 0) {
		respond_error(call, 400, "missing_recipient",
		    "X-Posthouse-Recipient names no recipient");
		intake_abort(&m);
		return;
	}
	intake_body(m, call->request->body);
	submit_commit(call, m);
}

void
messages_submit(struct call *call)
{
	struct submission sub = { .arena = arena_new() };

	if (read_envelope(call, &sub) &&
	    submit_check_lines(call, call->request->body))
		hand_over(call, &sub);
	arena_free(&sub.arena);
}

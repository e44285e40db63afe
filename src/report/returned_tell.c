/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A report that was believed becomes an event, and a report of ours to the
 * message's sender, who knows only us. What a stranger wrote is taken into
 * either one only in a form that cannot be mistaken for something else.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "event/event.h"
#include "mail/address.h"
#include "mail/header.h"
#include "os/random.h"
#include "report/returned_internal.h"
#include "smtp/parameters.h"

#include <pthread.h>

enum { REPLY_MAX = 800 };

/* ---- strangers' words -------------------------------------------------- */

/* One line of characters that can be shown. */
static struct span
clean(struct work *w, struct span text)
{
	struct span copy = arena_dup(w->arena, span_slice(text, 0, REPLY_MAX));
	char *p = (char *)(uintptr_t)copy.ptr;

	for (size_t i = 0; i < copy.len; i++) {
		if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
			p[i] = ' ';
	}
	return copy;
}

/* "5.1.1" and nothing else. */
static struct span
status_of(const struct told *told)
{
	struct span rest = told->status, fallback = SPAN("5.0.0");
	uint64_t number;
	unsigned dots = 0;

	if (told->kind == TOLD_DELAYED)
		fallback = SPAN("4.0.0");
	else if (told->kind == TOLD_DELIVERED)
		fallback = SPAN("2.0.0");
	for (size_t i = 0; i < rest.len; i++)
		dots += rest.ptr[i] == '.';
	if (dots != 2 || rest.ptr[0] != fallback.ptr[0])
		return fallback;
	while (rest.len > 0) {
		if (!span_to_u64(span_cut(&rest, '.'), 999, &number))
			return fallback;
	}
	return told->status;
}

static struct span
host_of(struct span text)
{
	size_t semicolon = span_find(text, ';');
	struct span host =
	    semicolon == SIZE_MAX ? text : span_skip(text, semicolon + 1);

	host = span_trim(host);
	return address_is_helo_name(host) ? host : SPAN_EMPTY;
}

/* ---- the event --------------------------------------------------------- */

static void
add_event(struct work *w, const struct told *told, struct spool_txn *txn)
{
	struct directory_snapshot *names =
	    directory_snapshot(w->options->directory);
	const struct directory_tenant *tenant =
	    directory_tenant(names, w->token.tenant);
	const struct directory_stream *stream =
	    directory_stream(names, w->token.stream);
	const struct event e = {
		.type = told->kind == TOLD_COMPLAINT ? EVENT_COMPLAINED
						     : EVENT_BOUNCED,
		.event_id = msgid_random(w->now_us, random_u64(), random_u64()),
		.time_us = w->now_us,
		.message_id = w->facts.id,
		.tenant = span_of(tenant != NULL ? tenant->name : NULL),
		.stream = span_of(stream != NULL ? stream->name : NULL),
		.sender = w->facts.sender,
		.recipient = w->facts.address,
		.subject = w->facts.subject,
		.header_from = w->facts.header_from,
		.enhanced =
		    told->kind == TOLD_FAILED ? status_of(told) : SPAN_EMPTY,
		.reply = clean(w, told->reply),
		.class = told->class,
		.suppresses = told->suppresses,
		.step = SPAN("return"),
		.peer_host = host_of(told->remote_mta),
		.age_us = w->now_us - w->token.accepted_us,
	};
	struct buf line = BUF_EMPTY;

	event_render(&e, &line);
	spool_txn_event(txn, buf_span(&line));
	buf_done(&line);
	directory_snapshot_unref(&names);
}

/* ---- the sender's report ----------------------------------------------- */

struct letter {
	struct work *w;
	const struct told *told;
	struct buf header; /* of the message reported on */
};

static enum smtp_notify
wish_of(enum told_kind kind)
{
	if (kind == TOLD_DELIVERED)
		return SMTP_NOTIFY_SUCCESS;
	return kind == TOLD_DELAYED ? SMTP_NOTIFY_DELAY : SMTP_NOTIFY_FAILURE;
}

static bool
is_wanted(const struct work *w, const struct told *told)
{
	return told->kind != TOLD_COMPLAINT && w->facts.sender.len > 0 &&
	       (w->token.wishes & wish_of(told->kind)) != 0;
}

static const char *
reason_of(enum told_kind kind)
{
	if (kind == TOLD_FAILED)
		return "The receiving system took the message, but reported "
		       "later that it could not deliver it.";
	if (kind == TOLD_DELAYED)
		return "The receiving system has the message, but reports "
		       "that it could not deliver it yet; it goes on trying.";
	return "The receiving system reports that it delivered the message.";
}

static enum report_action
action_of(enum told_kind kind)
{
	if (kind == TOLD_FAILED)
		return REPORT_FAILED;
	return kind == TOLD_DELAYED ? REPORT_DELAYED : REPORT_DELIVERED;
}

static void
compose(void *arg, struct span message_id, struct buf *out)
{
	const struct letter *l = arg;
	struct work *w = l->w;
	char id[MSGID_TEXT_SIZE];
	const struct report_recipient recipient = {
		.address = w->facts.address,
		.action = action_of(l->told->kind),
		.status = status_of(l->told),
		.remote_mta = host_of(l->told->remote_mta),
		.diagnostic = clean(w, l->told->reply),
		.reason = span_of(reason_of(l->told->kind)),
	};
	const struct report report = {
		.reporting_mta = span_of(w->config->hostname),
		.from = span_of(w->config->reports.postmaster),
		.to = w->facts.sender,
		.report_id = message_id,
		.original_id = span_of(msgid_format(&w->facts.id, id)),
		.envelope_id = w->facts.envid,
		.arrival_us = w->token.accepted_us,
		.now_us = w->now_us,
		.recipients = &recipient,
		.recipient_count = 1,
		.original_header = buf_span(&l->header),
		.needs_utf8 = !span_is_ascii(w->facts.sender) ||
			      !span_is_ascii(w->facts.address),
	};

	report_compose(&report, out);
}

/* The header section, while the spool has the message; else what the event log
 * knows of it. */
static void
read_header(struct letter *l)
{
	struct work *w = l->w;
	struct span piece = SPAN_EMPTY;

	if (w->original != NULL &&
	    spool_message_read(w->original, 0, &piece) == 0) {
		size_t len = header_section_length(piece);
		if (len > 0) {
			buf_append(&l->header, span_slice(piece, 0, len));
			return;
		}
	}
	if (w->facts.header_from.len > 0)
		buf_printf(&l->header, "From: %.*s\r\n",
		    SPAN_ARG(clean(w, w->facts.header_from)));
	if (w->facts.subject.len > 0)
		buf_printf(&l->header, "Subject: %.*s\r\n",
		    SPAN_ARG(clean(w, w->facts.subject)));
}

static int
add_letter(struct work *w, const struct told *told, struct spool_txn *txn,
    struct intake_message **ret_letter)
{
	struct letter l = { .w = w, .told = told };
	const struct intake_report report = {
		.to = w->facts.sender,
		.tenant = w->token.tenant,
		.stream = w->token.stream,
		.utf8 = !span_is_ascii(w->facts.sender),
		.compose = compose,
		.arg = &l,
	};

	read_header(&l);
	int code =
	    intake_add_report(w->options->intake, txn, &report, ret_letter);
	buf_done(&l.header);
	return code;
}

/* ---- writing ----------------------------------------------------------- */

struct wait {
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
	int result;
};

static void
on_done(void *arg, int result)
{
	struct wait *wait = arg;

	(void)pthread_mutex_lock(&wait->lock);
	wait->result = result;
	wait->is_done = true;
	(void)pthread_cond_signal(&wait->done);
	(void)pthread_mutex_unlock(&wait->lock);
}

static int
submit(struct work *w, struct spool_txn **txn, struct intake_message *letter)
{
	struct wait wait = { .lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER };

	if (letter == NULL)
		return spool_txn_commit(txn);
	intake_submit(w->options->intake, txn, &letter, 1, on_done, &wait);
	(void)pthread_mutex_lock(&wait.lock);
	while (!wait.is_done)
		(void)pthread_cond_wait(&wait.done, &wait.lock);
	(void)pthread_mutex_unlock(&wait.lock);
	(void)pthread_cond_destroy(&wait.done);
	(void)pthread_mutex_destroy(&wait.lock);
	return wait.result;
}

int
returned_tell(struct work *w, const struct told *told)
{
	bool is_wanted_now = is_wanted(w, told);
	bool has_event =
	    told->kind == TOLD_FAILED || told->kind == TOLD_COMPLAINT;
	struct intake_message *letter = NULL;

	if (!is_wanted_now && !has_event)
		return 0;
	struct spool_txn *txn = spool_txn_new(w->options->spool);
	if (has_event)
		add_event(w, told, txn);
	int code = is_wanted_now ? add_letter(w, told, txn, &letter) : 0;
	if (code < 0) {
		spool_txn_free(&txn);
		return code;
	}
	return submit(w, &txn, letter);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a complete message to its acknowledgement: one spool transaction with
 * the message and its `accepted` events; when it is durable, the dispatchers
 * get their deliveries, and only then the client its 250.
 */

#include "base/bug.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "intake/internal.h"
#include "os/clock.h"

#include <errno.h>
#include <stdlib.h>

static int
compare_domains(const void *a, const void *b)
{
	const struct spool_rcpt *x = a, *y = b;

	return span_compare(
	    address_domain_of(x->address), address_domain_of(y->address));
}

/* Puts recipients of one domain side by side and counts the runs. */
static void
group_recipients(struct intake_message *m)
{
	uint32_t count = m->envelope.rcpt_count;
	struct intake_group *group = NULL;

	if (count > 1)
		qsort(m->rcpts, count, sizeof(*m->rcpts), compare_domains);
	m->envelope.rcpts = m->rcpts;
	m->groups = ARENA_ARRAY(m->arena, struct intake_group, count);
	for (uint32_t i = 0; i < count; i++) {
		struct span domain = address_domain_of(m->rcpts[i].address);

		if (group == NULL || !span_eq(group->domain, domain)) {
			group = &m->groups[m->group_count++];
			*group = (struct intake_group){ .domain = domain,
				.rcpt_first = i };
		}
		group->rcpt_count++;
		if (intake_sender_wants(&m->envelope, i, SMTP_NOTIFY_DELAY))
			group->wants_delay_warning = true;
	}
}

static struct span
origin_name(const struct intake_message *m)
{
	static const char *const names[] = {
		[INTAKE_SUBMISSION] = "smtp",
		[INTAKE_MX] = "smtp",
		[INTAKE_SENDMAIL] = "sendmail",
		[INTAKE_HTTP] = "http",
		[INTAKE_REPORT] = "report",
		[INTAKE_IMPORT] = "import",
	};

	return span_of(names[m->client.origin]);
}

struct event
commit_event_of(const struct intake_message *m)
{
	return (struct event){
		.time_us = m->now_us,
		.message_id = m->envelope.id,
		.tenant = m->tenant_name,
		.stream = m->stream_name,
		.sender = m->envelope.sender,
		.subject = m->envelope.subject,
		.header_from = m->envelope.header_from,
		.origin = origin_name(m),
		.user = m->envelope.user,
		.client = m->envelope.client,
	};
}

/* Unique, not secret: counted from where chance began, without a system call
 * for each. */
struct msgid
commit_event_id(struct intake_message *m)
{
	struct intake *intake = m->intake;
	uint64_t n = atomic_fetch_add(&intake->event_count, 1);

	return msgid_random(m->now_us, hash_mix(intake->event_seed[0] + n),
	    hash_mix(intake->event_seed[1] + n));
}

/* One event for each recipient, in records of a bounded size. */
static void
add_events(struct intake_message *m, struct event *e, struct spool_txn *txn)
{
	struct buf lines = BUF_EMPTY;

	for (uint32_t i = 0; i < m->envelope.rcpt_count; i++) {
		e->recipient = m->rcpts[i].address;
		e->event_id = commit_event_id(m);
		event_render(e, &lines);
		if (buf_size(&lines) < COMMIT_EVENT_RECORD_SIZE &&
		    i + 1 < m->envelope.rcpt_count)
			continue;
		spool_txn_event(txn, buf_span(&lines));
		buf_clear(&lines);
	}
	buf_done(&lines);
}

static void
add_accepted_events(struct intake_message *m, struct spool_txn *txn)
{
	struct event e = commit_event_of(m);

	e.type = EVENT_ACCEPTED;
	e.warning = m->warning;
	e.size = buf_size(&m->prefix) + spool_draft_size(m->draft);
	add_events(m, &e, txn);
}

void
commit_prepare(struct intake_message *m)
{
	char text[NETADDR_TEXT_SIZE];

	if (m->client.address.family == NETADDR_IP4 ||
	    m->client.address.family == NETADDR_IP6)
		m->envelope.client = arena_dup(m->arena,
		    span_of(netaddr_format_ip(&m->client.address, text)));
	m->envelope.user = m->client.user;
}

static void
add_message(struct intake_message *m, struct spool_txn *txn)
{
	commit_prepare(m);
	group_recipients(m);
	add_accepted_events(m, txn);
	if (m->suppressed != NULL)
		suppressed_add_events(m, txn);
	spool_txn_message(txn, &m->envelope, &m->draft);
}

static void
tell_dispatchers(const struct intake_message *m)
{
	const struct intake_accepted accepted = {
		.mno = m->envelope.mno,
		.tenant = m->envelope.tenant,
		.stream = m->envelope.stream,
		.class = m->envelope.class,
		.accepted_us = m->envelope.accepted_us,
		.expire_us = m->envelope.expire_us,
		.groups = m->groups,
		.group_count = m->group_count,
	};

	m->intake->on_accepted(m->intake->arg, &accepted);
}

/* ---- END --------------------------------------------------------- */

static void
finish(struct intake_message *m)
{
	bool accepted = reply_is_positive(&m->reply);

	if (!m->detached)
		m->done(
		    m->done_arg, &m->reply, accepted ? &m->envelope.id : NULL);
	message_free(m);
}

static void
finish_on_loop(struct loop_item *item)
{
	finish(LIST_ENTRY(item, struct intake_message, item));
}

static void
answer(struct intake_message *m)
{
	if (m->loop == NULL) {
		finish(m);
		return;
	}
	m->item.run = finish_on_loop;
	loop_post(m->loop, &m->item);
}

static void
ignore_result(void *arg, int result)
{
	(void)arg;
	(void)result;
}

/* A tenant's message that was refused for good is a part of its story; what
 * strangers try is not: they would fill the disk. Nothing waits for it, and
 * when it cannot be written, nothing else is wrong. */
static void
tell_rejected(struct intake_message *m)
{
	struct arena *arena = m->arena;
	struct event e;

	if (m->client.origin == INTAKE_MX || !reply_is_permanent(&m->reply))
		return;
	commit_prepare(m);
	e = commit_event_of(m);
	e.type = EVENT_REJECTED;
	e.code = m->reply.code;
	e.enhanced = reply_status(&m->reply, arena);
	e.reply = m->reply.text;
	e.step = SPAN("end");
	struct spool_txn *txn = spool_txn_new(m->intake->spool);
	add_events(m, &e, txn);
	spool_txn_submit(&txn, ignore_result, NULL);
}

/* On the committer thread. */
static void
committed(void *arg, int result)
{
	struct intake_message *m = arg;
	char id[MSGID_TEXT_SIZE];

	if (result == 0) {
		m->reply =
		    (struct reply){ .code = 250, .enhanced = { 0, 0, 2 } };
		m->reply.text = arena_printf(
		    m->arena, "%s queued", msgid_format(&m->envelope.id, id));
		tell_dispatchers(m);
	} else if (result == -ENOSPC) {
		m->reply =
		    REPLY(452, 4, 3, 1, "out of disk space: try again later");
	} else {
		m->reply = REPLY(451, 4, 3, 0,
		    "the message could not be stored: try again later");
	}
	answer(m);
}

void
intake_end(struct intake_message *m, struct loop *loop, intake_done_fn *done,
    void *arg)
{
	m->loop = loop;
	m->done = done;
	m->done_arg = arg;
	content_end(m);
	if (m->refusal.code != 0) {
		m->reply = m->refusal;
		suppressed_tell(m);
		tell_rejected(m);
		answer(m);
		return;
	}
	BUG_UNLESS(m->envelope.rcpt_count > 0);
	struct spool_txn *txn = spool_txn_new(m->intake->spool);
	add_message(m, txn);
	spool_txn_submit(&txn, committed, m);
}

void
intake_detach(struct intake_message *m)
{
	m->detached = true;
}

/* ---- reports ----------------------------------------------------- */

static struct intake_message *
start_report(struct intake *intake, const struct intake_report *report)
{
	const struct intake_client self = { .origin = INTAKE_REPORT };
	struct intake_message *m = message_new(intake, &self);
	struct spool_envelope *e = &m->envelope;
	struct directory_snapshot *s = directory_snapshot(intake->directory);
	const struct directory_tenant *tenant =
	    directory_tenant(s, report->tenant);
	const struct directory_stream *stream =
	    directory_stream(s, report->stream);

	e->tenant = report->tenant;
	e->stream = report->stream;
	e->class = SPOOL_REPORT;
	e->flags = SPOOL_REPORT_MAIL | SPOOL_AUTO_SUBMITTED;
	if (report->utf8)
		e->flags |= SPOOL_UTF8;
	e->expire_us = m->now_us + m->config->retry.expire_us;
	/* A tenant may be gone while its mail is still on the way. */
	if (tenant != NULL)
		m->tenant_name = arena_dup(m->arena, span_of(tenant->name));
	if (stream != NULL)
		m->stream_name = arena_dup(m->arena, span_of(stream->name));
	directory_snapshot_unref(&s);
	e->rcpt_count = m->rcpt_capacity = report->copy_to.len > 0 ? 2 : 1;
	m->rcpts = mem_zalloc(2 * sizeof(*m->rcpts));
	m->rcpts[0].address = arena_dup(m->arena, report->to);
	m->rcpts[1].address = arena_dup(m->arena, report->copy_to);
	for (size_t i = 0; i < 2; i++)
		m->rcpts[i].notify = SMTP_NOTIFY_NEVER;
	return m;
}

int
intake_add_report(struct intake *intake, struct spool_txn *txn,
    const struct intake_report *report, struct intake_message **ret_m)
{
	char id[MSGID_TEXT_SIZE];
	struct buf text = BUF_EMPTY;
	struct intake_message *m = start_report(intake, report);

	content_begin(m);
	report->compose(
	    report->arg, span_of(msgid_format(&m->envelope.id, id)), &text);
	intake_body(m, buf_span(&text));
	buf_done(&text);
	content_end(m);
	if (m->refusal.code != 0) {
		message_free(m);
		return -EIO;
	}
	add_message(m, txn);
	*ret_m = m;
	return 0;
}

struct report_batch {
	spool_done_fn *done;
	void *arg;
	size_t count;
	struct intake_message *messages[];
};

static void
reports_committed(void *arg, int result)
{
	struct report_batch *batch = arg;

	for (size_t i = 0; i < batch->count; i++) {
		if (result == 0)
			tell_dispatchers(batch->messages[i]);
		message_free(batch->messages[i]);
	}
	batch->done(batch->arg, result);
	mem_free(batch);
}

void
intake_submit(struct intake *intake, struct spool_txn **txn,
    struct intake_message **reports, size_t count, spool_done_fn *done,
    void *arg)
{
	struct report_batch *batch;

	(void)intake;
	if (count == 0) {
		spool_txn_submit(txn, NULL, NULL);
		return;
	}
	batch = mem_zalloc(sizeof(*batch) + count * sizeof(void *));
	batch->done = done != NULL ? done : ignore_result;
	batch->arg = arg;
	batch->count = count;
	for (size_t i = 0; i < count; i++)
		batch->messages[i] = reports[i];
	spool_txn_submit(txn, reports_committed, batch);
}

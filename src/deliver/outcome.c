/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"
#include "report/damage.h"
#include "report/notice.h"

/*
 * Results become facts here: one spool transaction holds the outcomes of an
 * attempt, its events and the reports about it, so that after a crash all of
 * it happened or none. `all` lets one result stand for every recipient.
 */

struct telling {
	struct dispatch *d;
	const struct attempt *a;
	const struct result *results;
	bool all;
	uint32_t first, count; /* recipients, as numbered in the envelope */
	struct directory_snapshot *names;
	/* Whom the results suppress; written before they are told. */
	struct suppression *entries;
	size_t entry_count;
};

static const struct result *
result_at(const struct telling *t, size_t i)
{
	return t->all ? t->results : &t->results[i];
}

int64_t
dispatch_wall_us(const struct dispatch *d, int64_t monotonic_us)
{
	if (monotonic_us == TIME_NEVER)
		return TIME_NEVER;
	return loop_wall_us(d->loop) + (monotonic_us - loop_now_us(d->loop));
}

/* ---- reports ---- */

static const char *
reason_for_people(const struct result *r)
{
	switch (r->kind) {
	case SPOOL_DELIVERED:
		return r->relayed ? "It was passed on to a server that does "
				    "not confirm deliveries."
				  : "It was delivered.";
	case SPOOL_EXPIRED:
		return "It could not be delivered in time; no further attempt "
		       "will be made.";
	case SPOOL_DEFERRED:
		return "It could not be delivered yet; further attempts will "
		       "be made.";
	case SPOOL_SUPPRESSED:
		return "Mail to this address is suppressed.";
	case SPOOL_BOUNCED:
	case SPOOL_CANCELLED:
		break;
	}
	return r->local ? "It cannot be delivered."
			: "The receiving server refused it.";
}

static bool
wants_notice(const struct telling *t, size_t i)
{
	const struct spool_envelope *envelope =
	    spool_message_envelope(t->a->message);
	const struct result *r = result_at(t, i);
	uint8_t notify = envelope->rcpts[t->first + i].notify;
	switch (r->kind) {
	case SPOOL_BOUNCED:
	case SPOOL_EXPIRED:
	case SPOOL_SUPPRESSED:
		return true;
	case SPOOL_DELIVERED:
		return (notify & SMTP_NOTIFY_SUCCESS) != 0 &&
		       (t->a->is_final || r->relayed);
	case SPOOL_DEFERRED:
	case SPOOL_CANCELLED:
		break;
	}
	return false;
}

static struct notice_recipient
notice_recipient(const struct telling *t, size_t i, enum report_action action)
{
	struct dispatch *d = t->d;
	const struct result *r = result_at(t, i);
	struct notice_recipient n = {
		.rcpt = t->first + (uint32_t)i,
		.action = action,
		.status = result_status(r, d->scratch),
		/* A socket's path is nobody's name, and nobody's business. */
		.remote_mta = span_starts(t->a->peer_host, SPAN("/"))
				  ? SPAN_EMPTY
				  : t->a->peer_host,
		.reason = span_of(reason_for_people(r)),
		.last_attempt_us = loop_wall_us(d->loop),
	};
	struct span line = result_line(r, d->scratch);
	if (!r->local)
		n.diagnostic = line;
	else if (line.len > 0)
		n.reason = arena_printf(d->scratch, "%.*s (%.*s)",
		    SPAN_ARG(n.reason), SPAN_ARG(line));
	if (action == REPORT_DELAYED)
		n.retry_until_us =
		    dispatch_wall_us(d, t->a->delivery.expire_us);
	return n;
}

static enum report_action
action_of(const struct result *r)
{
	if (r->kind != SPOOL_DELIVERED)
		return REPORT_FAILED;
	return r->relayed ? REPORT_RELAYED : REPORT_DELIVERED;
}

struct reports {
	struct intake_message *messages[NOTICE_REPORTS_MAX];
	size_t count;
};

static int
add_reports(const struct telling *t, const struct notice_recipient *recipients,
    size_t count, struct spool_txn *txn, struct reports *ret_reports)
{
	struct notice n = {
		.intake = t->d->intake,
		.config = t->d->config,
		.message = t->a->message,
		.recipients = recipients,
		.recipient_count = count,
		.now_us = loop_wall_us(t->d->loop),
	};
	return notice_add(&n, txn, ret_reports->messages, &ret_reports->count);
}

static int
add_notices(
    const struct telling *t, struct spool_txn *txn, struct reports *ret_reports)
{
	struct notice_recipient *recipients =
	    ARENA_ARRAY(t->d->scratch, struct notice_recipient, t->count);
	size_t count = 0;
	for (size_t i = 0; i < t->count; i++) {
		if (wants_notice(t, i))
			recipients[count++] =
			    notice_recipient(t, i, action_of(result_at(t, i)));
	}
	if (count == 0)
		return 0;
	return add_reports(t, recipients, count, txn, ret_reports);
}

/* ---- events ---- */

static enum event_type
event_type_of(enum spool_outcome_kind kind)
{
	static const enum event_type types[] = {
		[SPOOL_DELIVERED] = EVENT_DELIVERED,
		[SPOOL_BOUNCED] = EVENT_BOUNCED,
		[SPOOL_EXPIRED] = EVENT_EXPIRED,
		[SPOOL_SUPPRESSED] = EVENT_SUPPRESSED,
		[SPOOL_CANCELLED] = EVENT_CANCELLED,
		[SPOOL_DEFERRED] = EVENT_DEFERRED,
	};

	BUG_UNLESS((size_t)kind < sizeof types / sizeof types[0]);
	return types[kind];
}

static struct msgid
next_event_id(struct dispatch *d)
{
	uint64_t n = d->event_count++;
	return msgid_random(loop_wall_us(d->loop),
	    hash_mix(d->event_seed[0] + n), hash_mix(d->event_seed[1] + n));
}

/* What all recipients' events share. */
static struct event
event_of_attempt(const struct telling *t, int64_t next_us, uint8_t attempt)
{
	const struct attempt *a = t->a;
	const struct spool_envelope *m = spool_message_envelope(a->message);
	const struct directory_tenant *tenant =
	    directory_tenant(t->names, m->tenant);
	const struct directory_stream *stream =
	    directory_stream(t->names, m->stream);
	int64_t now_us = loop_wall_us(t->d->loop);
	return (struct event){
		.time_us = now_us,
		.message_id = m->id,
		.tenant = span_of(tenant != NULL ? tenant->name : NULL),
		.stream = span_of(stream != NULL ? stream->name : NULL),
		.sender = m->sender,
		.subject = m->subject,
		.header_from = m->header_from,
		.origin = (m->flags & SPOOL_REPORT_MAIL) != 0 ? SPAN("report")
							      : SPAN_EMPTY,
		.user = m->user,
		.size = spool_message_size(a->message),
		.attempt = attempt,
		.route = span_of(a->route),
		.site = a->site,
		.peer_host = a->peer_host,
		.peer_address = a->peer_address,
		.source_address = a->source_address,
		.tls = a->tls,
		.tls_verified = a->tls_verified,
		.tls_policy = span_of(a->tls_policy),
		.attempt_us = a->took_us,
		.age_us = now_us > m->accepted_us ? now_us - m->accepted_us : 0,
		.next_attempt_us = next_us,
	};
}

static void
add_events(const struct telling *t, const struct run *run)
{
	struct dispatch *d = t->d;
	const struct spool_envelope *m = spool_message_envelope(t->a->message);
	const struct result *first = result_at(t, run->first);
	struct event e = event_of_attempt(
	    t, first->kind == SPOOL_DEFERRED ? run->due_us : 0, run->attempts);
	for (size_t i = run->first; i < run->first + run->count; i++) {
		const struct result *r = result_at(t, i);
		e.type = event_type_of(r->kind);
		e.event_id = next_event_id(d);
		e.recipient = m->rcpts[t->first + i].address;
		e.code = r->local ? 0 : r->reply.code;
		e.enhanced = r->reply.enhanced.class == 0
				 ? SPAN_EMPTY
				 : reply_status(&r->reply, d->scratch);
		e.reply = result_line(r, d->scratch);
		e.step = span_of(r->step);
		e.cause = span_of(r->cause);
		e.class = r->is_judged ? span_of(reply_class_name(r->class))
				       : SPAN_EMPTY;
		e.suppresses = r->suppresses;
		e.duplicate_risk = r->duplicate_risk;
		event_render(&e, &d->lines);
	}
}

static void
log_run(const struct telling *t, const struct run *run)
{
	const struct result *r = result_at(t, run->first);
	const struct spool_envelope *m = spool_message_envelope(t->a->message);
	char id[MSGID_TEXT_SIZE];
	LOG(r->kind == SPOOL_DELIVERED ? LOG_DEBUG : LOG_INFO, "deliver",
	    event_type_name(event_type_of(r->kind)),
	    LOG_C("message_id", msgid_format(&m->id, id)),
	    LOG_S("recipient", m->rcpts[t->first + run->first].address),
	    LOG_N("recipients", run->count), LOG_C("step", r->step),
	    LOG_S("reply", result_line(r, t->d->scratch)),
	    LOG_S("peer_host", t->a->peer_host),
	    LOG_S("peer_address", t->a->peer_address));
}

/* ---- outcomes ---- */

static void
count_run(struct dispatch *d, enum spool_outcome_kind kind, uint32_t count)
{
	if (kind == SPOOL_DELIVERED)
		dispatch_count(&d->counters.delivered, count);
	else if (kind == SPOOL_BOUNCED)
		dispatch_count(&d->counters.bounced, count);
	else if (kind == SPOOL_EXPIRED)
		dispatch_count(&d->counters.expired, count);
	else if (kind == SPOOL_SUPPRESSED)
		dispatch_count(&d->counters.suppressed, count);
	else if (kind == SPOOL_DEFERRED)
		dispatch_count(&d->counters.deferred, count);
}

static void
add_outcome(
    const struct telling *t, const struct run *run, struct spool_txn *txn)
{
	const struct result *r = result_at(t, run->first);
	struct spool_outcome outcome = {
		.mno = t->a->delivery.mno,
		.rcpt_first = t->first + run->first,
		.rcpt_count = run->count,
		.kind = r->kind,
		.code = r->local ? 0 : r->reply.code,
		.attempts = run->attempts,
		.warned = t->a->delivery.warned,
		.due_us = r->kind == SPOOL_DEFERRED ? run->due_us : 0,
	};
	spool_txn_outcome(txn, &outcome);
	if (!t->a->recounted)
		count_run(t->d, r->kind, run->count);
}

/* Everything of an attempt but its reports, which are in txn already. */
static void
add_runs(const struct telling *t, const struct run *runs, size_t count,
    struct spool_txn *txn)
{
	struct dispatch *d = t->d;
	buf_clear(&d->lines);
	for (size_t i = 0; i < count; i++) {
		if (result_at(t, runs[i].first)->again)
			continue;
		add_outcome(t, &runs[i], txn);
		add_events(t, &runs[i]);
	}
	if (buf_size(&d->lines) > 0)
		spool_txn_event(txn, buf_span(&d->lines));
}

static struct telling
telling_begin(struct dispatch *d, const struct attempt *a,
    const struct result *results, bool all)
{
	const struct spool_envelope *m = spool_message_envelope(a->message);
	BUG_UNLESS(
	    a->delivery.rcpt_first + a->delivery.rcpt_count <= m->rcpt_count);
	arena_reset(d->scratch);
	return (struct telling){
		.d = d,
		.a = a,
		.results = results,
		.all = all,
		.first = a->delivery.rcpt_first,
		.count = a->delivery.rcpt_count,
		.names = directory_snapshot(d->directory),
	};
}

/* What must be recorded anew if the transaction fails: `runs` of an attempt, or
 * all of it (NULL) in the state `next`. */
static struct submission *
submission_of(const struct telling *t, const struct run *runs, size_t count,
    const struct schedule_delivery *next)
{
	struct submission *s = submission_new(t->d);
	if (runs == NULL)
		submission_add(s, t->a, t->results, next,
		    t->results->kind == SPOOL_DEFERRED);
	for (size_t i = 0; runs != NULL && i < count; i++) {
		const struct result *r = result_at(t, runs[i].first);
		struct schedule_delivery part = t->a->delivery;
		/* Deferred ones are in their queue already. */
		if (r->again || r->kind == SPOOL_DEFERRED)
			continue;
		part.rcpt_first += runs[i].first;
		part.rcpt_count = runs[i].count;
		part.attempts = runs[i].attempts;
		submission_add(s, t->a, r, &part, false);
	}
	return s;
}

/* s: as by submission_of, when there are reports. */
static void
telling_end(struct telling *t, struct spool_txn **txn, struct reports *reports,
    struct submission *s)
{
	const struct suppressor_job job = {
		.entries = t->entries,
		.entry_count = t->entry_count,
		.txn = txn,
		.reports = reports->messages,
		.report_count = reports->count,
		.done = submission_done,
		.arg = s,
	};
	if (t->entry_count > 0)
		suppressor_submit(t->d->suppressor, &job);
	else
		intake_submit(t->d->intake, txn, reports->messages,
		    reports->count, submission_done, s);
	directory_snapshot_unref(&t->names);
}

/* A bounce must not be lost in silence: without its report the recipient is
 * only deferred, and will be refused again another time. */
static void
unbounce(struct result *results, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (results[i].kind == SPOOL_BOUNCED ||
		    results[i].kind == SPOOL_SUPPRESSED)
			results[i].kind = SPOOL_DEFERRED;
	}
}

/* The scheduler's part; afterwards the queue may be gone. */
static void
settle_runs(const struct telling *t, struct schedule_queue *queue,
    struct run *runs, size_t count)
{
	struct dispatch *d = t->d;
	int64_t now_us = loop_now_us(d->loop);
	for (size_t i = 0; i < count; i++) {
		const struct result *r = result_at(t, runs[i].first);
		struct schedule_delivery part = t->a->delivery;
		part.rcpt_first += runs[i].first;
		part.rcpt_count = runs[i].count;
		runs[i].attempts = (uint8_t)(part.attempts + 1);
		if (part.attempts == UINT8_MAX)
			runs[i].attempts = UINT8_MAX;
		if (r->again) {
			schedule_return(d->schedule, queue, &part, now_us);
		} else if (r->kind == SPOOL_DEFERRED) {
			part = schedule_defer(d->schedule, queue, &part,
			    t->a->counts, result_min_delay_us(r), now_us);
			runs[i].due_us = dispatch_wall_us(d, part.due_us);
			runs[i].attempts = part.attempts;
		} else {
			schedule_done(d->schedule, queue, runs[i].count);
		}
	}
}

static void
note_last_reply(const struct telling *t, struct schedule_queue *queue)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct result *r = result_at(t, i);
		if (r->kind != SPOOL_DEFERRED || r->again)
			continue;
		schedule_queue_set_last_reply(
		    queue, result_line(r, t->d->scratch));
		return;
	}
}

void
outcome_settle(struct dispatch *d, struct schedule_queue *queue,
    const struct attempt *a, struct result *results)
{
	struct telling t = telling_begin(d, a, results, false);
	struct reports reports = { .count = 0 };
	struct spool_txn *txn = spool_txn_new(d->spool);
	int err = add_notices(&t, txn, &reports);
	if (err < 0) {
		LOG(LOG_ERROR, "deliver", "cannot write a delivery report",
		    LOG_N("mno", a->delivery.mno),
		    LOG_C("reason", error_text(err)));
		spool_txn_free(&txn);
		txn = spool_txn_new(d->spool);
		reports.count = 0;
		unbounce(results, t.count);
	}
	verdict_judge(d, a, results);
	t.entry_count = verdict_entries(d, a, results, &t.entries);
	note_last_reply(&t, queue);
	struct run *runs = ARENA_ARRAY(d->scratch, struct run, t.count);
	size_t count = result_make_runs(results, t.count, runs);
	settle_runs(&t, queue, runs, count);
	add_runs(&t, runs, count, txn);
	for (size_t i = 0; i < count; i++) {
		if (!results[runs[i].first].again)
			log_run(&t, &runs[i]);
	}
	struct submission *s = NULL;
	if (reports.count > 0)
		s = submission_of(&t, runs, count, NULL);
	telling_end(&t, &txn, &reports, s);
	dispatch_pump_soon(d);
}

int
outcome_record(struct dispatch *d, const struct attempt *a,
    const struct result *result, const struct schedule_delivery *next)
{
	struct telling t = telling_begin(d, a, result, true);
	struct reports reports = { .count = 0 };
	struct spool_txn *txn = spool_txn_new(d->spool);
	int err = add_notices(&t, txn, &reports);
	if (err < 0) {
		spool_txn_free(&txn);
		directory_snapshot_unref(&t.names);
		return err;
	}
	struct run run = {
		.count = t.count,
		.due_us = dispatch_wall_us(d, next->due_us),
		.attempts = next->attempts,
	};
	add_runs(&t, &run, 1, txn);
	struct submission *s = NULL;
	if (reports.count > 0)
		s = submission_of(&t, NULL, 0, next);
	telling_end(&t, &txn, &reports, s);
	return 0;
}

int
outcome_warn(
    struct dispatch *d, const struct attempt *a, const struct result *result)
{
	struct telling t = telling_begin(d, a, result, true);
	struct reports reports = { .count = 0 };
	struct spool_txn *txn = spool_txn_new(d->spool);
	struct notice_recipient *recipients =
	    ARENA_ARRAY(d->scratch, struct notice_recipient, t.count);
	for (size_t i = 0; i < t.count; i++)
		recipients[i] = notice_recipient(&t, i, REPORT_DELAYED);
	int err = add_reports(&t, recipients, t.count, txn, &reports);
	if (err < 0) {
		spool_txn_free(&txn);
		directory_snapshot_unref(&t.names);
		return err;
	}
	struct spool_outcome outcome = {
		.mno = a->delivery.mno,
		.rcpt_first = t.first,
		.rcpt_count = t.count,
		.kind = SPOOL_DEFERRED,
		.attempts = a->delivery.attempts,
		.warned = true,
		.due_us = dispatch_wall_us(d, a->delivery.due_us),
	};
	spool_txn_outcome(txn, &outcome);
	struct submission *s = NULL;
	if (reports.count > 0)
		s = submission_of(&t, NULL, 0, &a->delivery);
	telling_end(&t, &txn, &reports, s);
	return 0;
}

static void
add_damage_event(struct dispatch *d, const struct attempt *a,
    const struct damage *damage, struct spool_txn *txn)
{
	const struct event e = {
		.type = EVENT_EXPIRED,
		.event_id = next_event_id(d),
		.time_us = damage->now_us,
		.mno = damage->mno,
		.recipients = damage->recipients,
		.tenant = damage->tenant_name,
		.stream = damage->stream_name,
		.attempt = a->delivery.attempts,
		.reply = SPAN("the message's record in the spool is damaged"),
		.step = SPAN("spool"),
	};
	buf_clear(&d->lines);
	event_render(&e, &d->lines);
	spool_txn_event(txn, buf_span(&d->lines));
}

static int
add_damage(struct dispatch *d, const struct attempt *a, struct spool_txn *txn,
    struct intake_message **ret_letter)
{
	struct directory_snapshot *names = directory_snapshot(d->directory);
	const struct directory_tenant *tenant =
	    directory_tenant(names, a->tenant);
	const struct directory_stream *stream =
	    directory_stream(names, a->stream);
	const struct damage damage = {
		.intake = d->intake,
		.config = d->config,
		.mno = a->delivery.mno,
		.recipients = a->delivery.rcpt_count,
		.tenant = a->tenant,
		.stream = a->stream,
		.tenant_name = span_of(tenant != NULL ? tenant->name : NULL),
		.stream_name = span_of(stream != NULL ? stream->name : NULL),
		.now_us = loop_wall_us(d->loop),
	};
	int err = damage_add(&damage, txn, ret_letter);
	if (err == 0)
		add_damage_event(d, a, &damage, txn);
	directory_snapshot_unref(&names);
	return err;
}

int
outcome_expire_unreadable(struct dispatch *d, const struct attempt *a)
{
	struct spool_txn *txn = spool_txn_new(d->spool);
	struct intake_message *letter = NULL;
	int err = add_damage(d, a, txn, &letter);
	if (err < 0) {
		spool_txn_free(&txn);
		return err;
	}
	struct spool_outcome outcome = {
		.mno = a->delivery.mno,
		.rcpt_first = a->delivery.rcpt_first,
		.rcpt_count = a->delivery.rcpt_count,
		.kind = SPOOL_EXPIRED,
		.attempts = a->delivery.attempts,
	};
	spool_txn_outcome(txn, &outcome);
	struct submission *s = NULL;
	if (letter != NULL) {
		const struct result expired = { .kind = SPOOL_EXPIRED };
		s = submission_new(d);
		submission_add(s, a, &expired, &a->delivery, false);
	}
	intake_submit(
	    d->intake, &txn, &letter, letter != NULL, submission_done, s);
	if (!a->recounted) {
		count_run(d, SPOOL_EXPIRED, a->delivery.rcpt_count);
		dispatch_count(&d->counters.unreadable, a->delivery.rcpt_count);
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Queued messages as JSON lines, for another spool: envelopes here, their
 * octets by messages/{id}/raw. What is on a connection at the moment is not
 * among them; whoever wants all holds the queues first.
 */

#include "api/internal.h"
#include "base/mem.h"
#include "smtp/parameters.h"

#include <stdlib.h>
#include <string.h>

/* Deliveries in one export; the rest is for a narrower selection. */
#define ENTRIES_MAX 1000000
#define MESSAGES_PER_PIECE 64

/* One delivery: some recipients of a message. */
struct entry {
	uint64_t mno;
	uint32_t rcpt_first, rcpt_count;
	uint32_t attempts;
	int64_t due_us; /* monotonic */
};

struct export
{
	const struct api *api;
	struct selection *selection; /* while collecting */
	struct entry *entries;
	size_t count, at;
	uint64_t messages, in_flight;
	bool more, ended;
};

/* ---- collecting -------------------------------------------------------- */

static void
on_delivery(
    void *arg, struct schedule_queue *queue, const struct schedule_delivery *d)
{
	struct export *x = arg;

	(void)queue;
	if ((x->count & (x->count - 1)) == 0)
		x->entries = mem_resize(x->entries,
		    x->count == 0 ? 1 : x->count * 2, sizeof(*x->entries));
	x->entries[x->count++] = (struct entry){
		.mno = d->mno,
		.rcpt_first = d->rcpt_first,
		.rcpt_count = d->rcpt_count,
		.attempts = d->attempts,
		.due_us = d->due_us,
	};
}

static void
on_queue(void *arg, const struct schedule_queue_facts *facts)
{
	struct export *x = arg;

	x->in_flight += facts->in_flight;
}

static void
collect(void *arg, struct dispatch *dispatch)
{
	struct export *x = arg;
	const struct schedule *s = dispatch_schedule(dispatch);

	for (size_t i = 0; i < x->selection->count; i++) {
		const struct schedule_selector *sel =
		    &x->selection->selectors[i];

		schedule_each_queue(s, sel, on_queue, x);
		(void)schedule_each_delivery(
		    s, sel, ENTRIES_MAX - x->count, on_delivery, x);
	}
	x->more = x->count == ENTRIES_MAX;
}

static int
compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->mno != y->mno)
		return x->mno < y->mno ? -1 : 1;
	return x->rcpt_first < y->rcpt_first ? -1
					     : x->rcpt_first > y->rcpt_first;
}

/* ---- lines ------------------------------------------------------------- */

static json_t *
notify_json(uint8_t bits)
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

	json_t *list = json_array();

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if ((bits & kinds[i].bit) != 0)
			json_array_append_new(list, json_string(kinds[i].name));
	}
	return list;
}

static void
add_recipients(
    json_t *list, const struct spool_envelope *e, const struct entry *entry)
{
	uint32_t end = entry->rcpt_first + entry->rcpt_count;

	for (uint32_t i = entry->rcpt_first; i < end && i < e->rcpt_count;
	     i++) {
		const struct spool_rcpt *rcpt = &e->rcpts[i];
		json_t *one = json_object();

		json_object_set_new(one, "address", json_text(rcpt->address));
		json_object_set_new(one, "notify", notify_json(rcpt->notify));
		json_object_set_new(
		    one, "orcpt", json_text_or_null(rcpt->orcpt));
		json_object_set_new(
		    one, "attempts", json_count(entry->attempts));
		json_object_set_new(
		    one, "next_attempt", json_time(api_wall_us(entry->due_us)));
		json_array_append_new(list, one);
	}
}

static const char *
body_name(uint32_t flags)
{
	if ((flags & SPOOL_BINARY) != 0)
		return "binarymime";
	return (flags & SPOOL_8BIT) != 0 ? "8bitmime" : "7bit";
}

static void
set_wishes(json_t *root, const struct spool_envelope *e)
{
	static const char *const rets[] = {
		[SMTP_RET_UNSET] = "",
		[SMTP_RET_FULL] = "full",
		[SMTP_RET_HDRS] = "hdrs",
	};
	const char *ret = e->ret <= SMTP_RET_HDRS ? rets[e->ret] : "";

	json_object_set_new(root, "body", json_string(body_name(e->flags)));
	json_object_set_new(
	    root, "smtputf8", json_boolean((e->flags & SPOOL_UTF8) != 0));
	json_object_set_new(root, "requiretls",
	    json_boolean((e->flags & SPOOL_REQUIRETLS) != 0));
	json_object_set_new(
	    root, "report", json_boolean((e->flags & SPOOL_REPORT_MAIL) != 0));
	json_object_set_new(root, "ret", json_text_or_null(span_of(ret)));
	json_object_set_new(root, "envid", json_text_or_null(e->envid));
}

static json_t *
envelope_json(const struct export *x, struct spool_message *message)
{
	const struct spool_envelope *e = spool_message_envelope(message);
	struct directory_snapshot *s = directory_snapshot(x->api->directory);
	char id[MSGID_TEXT_SIZE];
	json_t *root = json_object();

	json_object_set_new(
	    root, "message_id", json_string(msgid_format(&e->id, id)));
	json_object_set_new(root, "tenant", json_tenant_name(s, e->tenant));
	json_object_set_new(root, "stream", json_stream_name(s, e->stream));
	directory_snapshot_unref(&s);
	json_object_set_new(root, "sender", json_text(e->sender));
	set_wishes(root, e);
	json_object_set_new(root, "user", json_text_or_null(e->user));
	json_object_set_new(root, "client", json_text_or_null(e->client));
	json_object_set_new(root, "subject", json_text(e->subject));
	json_object_set_new(
	    root, "size", json_count(spool_message_size(message)));
	json_object_set_new(root, "accepted", json_time(e->accepted_us));
	json_object_set_new(root, "expires", json_time(e->expire_us));
	return root;
}

static void
append_json(json_t *root, struct buf *out)
{
	char *text = json_dumps(root, JSON_COMPACT);

	buf_append_str(out, text);
	buf_append_char(out, '\n');
	free(text);
	json_decref(root);
}

static void
append_unreadable(uint64_t mno, int result, struct buf *out)
{
	append_json(json_pack("{s:s, s:o}", "unreadable", error_text(result),
			"mno", json_count(mno)),
	    out);
}

/* The message of the next entries, if it has not found its end meanwhile. */
static void
append_message(struct export *x, struct buf *out)
{
	uint64_t mno = x->entries[x->at].mno;
	struct spool_message *message;
	int result = spool_message_open(x->api->spool, mno, &message);
	json_t *root = NULL, *list = json_array();

	if (result == 0)
		root = envelope_json(x, message);
	else if (result != ERR_NOT_FOUND)
		append_unreadable(mno, result, out);
	for (; x->at < x->count && x->entries[x->at].mno == mno; x->at++) {
		if (root != NULL)
			add_recipients(list, spool_message_envelope(message),
			    &x->entries[x->at]);
	}
	if (root == NULL) {
		json_decref(list);
		return;
	}
	json_object_set_new(root, "recipients", list);
	append_json(root, out);
	spool_message_unref(&message);
	x->messages++;
}

static enum api_more
export_more(void *stream, struct buf *out)
{
	struct export *x = stream;

	if (x->ended)
		return API_END;
	for (int i = 0; i < MESSAGES_PER_PIECE && x->at < x->count; i++)
		append_message(x, out);
	if (x->at < x->count)
		return API_MORE;
	append_json(json_pack("{s:b, s:o, s:o, s:b}", "end", 1, "messages",
			json_count(x->messages), "in_flight",
			json_count(x->in_flight), "more", x->more),
	    out);
	x->ended = true;
	return API_MORE;
}

static void
export_end(void *stream)
{
	struct export *x = stream;

	mem_free(x->entries);
	mem_free(x);
}

void
queues_export(struct call *call)
{
	struct api_response *r = call->response;
	struct selection selection;
	struct export *x;

	if (!is_loaded(call) || !queues_selected(call, &selection))
		return;
	x = MEM_NEW(struct export);
	x->api = call->api;
	x->selection = &selection;
	call->api->each_dispatch(call->api->owner, collect, x);
	selection_done(&selection);
	x->selection = NULL;
	if (x->count > 1)
		qsort(
		    x->entries, x->count, sizeof(*x->entries), compare_entries);
	r->status = 200;
	r->content_type = "application/x-ndjson";
	r->stream = x;
	r->more = export_more;
	r->end = export_end;
}

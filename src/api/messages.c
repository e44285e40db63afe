/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One message: its envelope while the spool has it, what became of each
 * recipient, and its whole story as events. The state of a recipient is read
 * from the events, which are the record of it; the queues say what it waits
 * for.
 */

#include "api/internal.h"
#include "base/bug.h"
#include "base/mem.h"
#include "report/export.h"

#include <errno.h>
#include <string.h>

#define EVENTS_MAX 20000

int
message_find(
    struct spool *spool, const char *text, struct spool_message **ret_message)
{
	struct spool_message *message;
	struct msgid id;

	if (!msgid_parse(span_of(text), &id))
		return ERR_SYNTAX;
	if (msgid_node(&id) != spool_node(spool))
		return ERR_NOT_FOUND;
	uint64_t mno = msgid_mno(&id, spool_id_key(spool));
	if (mno == 0)
		return ERR_NOT_FOUND;
	TRY(spool_message_open(spool, mno, &message));
	/* The number may be right and the time invented. */
	if (memcmp(&spool_message_envelope(message)->id, &id, sizeof(id)) !=
	    0) {
		spool_message_unref(&message);
		return ERR_NOT_FOUND;
	}
	*ret_message = message;
	return 0;
}

bool
is_loaded(struct call *call)
{
	struct spool_stats stats;

	spool_stats(call->api->spool, &stats);
	if (stats.loaded_percent == 100)
		return true;
	respond_error(call, 503, "loading",
	    "the queue is still being loaded, %u %%: try again in a moment",
	    stats.loaded_percent);
	return false;
}

static void
respond_no_message(struct call *call, int result, const char *text)
{
	if (result == ERR_NOT_FOUND && !is_loaded(call))
		return;
	if (result == ERR_SYNTAX)
		respond_error(call, 400, "bad_id",
		    "`%.64s` is not a message id: those have 26 letters and "
		    "digits and stand in the 250 reply, in Received and in "
		    "each event",
		    text);
	else if (result == ERR_NOT_FOUND)
		respond_error(call, 404, "not_found",
		    "no message `%.64s` is in the spool; `posthouse message "
		    "show` tells what became of it",
		    text);
	else
		respond_error(call, 500, "failed",
		    "the message `%.64s` cannot be read: %s; look at the "
		    "spool with `posthouse queue verify`",
		    text, error_text(result));
}

/* ---- the story --------------------------------------------------------- */

/* From an event to its recipient's entry: these fields are the last ones. */
static const char *const copied[] = { "code", "enhanced", "reply", "step",
	"route", "site", "peer_host", "peer_address", "tls", "attempt" };

static json_t *
recipient_entry(json_t *by_name, json_t *list, const char *name)
{
	json_t *entry = json_object_get(by_name, name);

	if (entry != NULL)
		return entry;
	entry = json_pack("{s:s, s:s, s:n}", "recipient", name, "state",
	    "queued", "next_attempt");
	json_array_append(list, entry);
	json_object_set_new(by_name, name, entry);
	return entry;
}

static void
take_event(json_t *by_name, json_t *list, json_t *event)
{
	const char *name =
	    json_string_value(json_object_get(event, "recipient"));
	const char *type = json_string_value(json_object_get(event, "type"));

	if (name == NULL || type == NULL)
		return;
	json_t *entry = recipient_entry(by_name, list, name);
	if (strcmp(type, "accepted") == 0)
		return;
	json_object_set_new(entry, "state", json_string(type));
	json_object_set(entry, "last_event", json_object_get(event, "time"));
	for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
		json_t *value = json_object_get(event, copied[i]);

		if (value != NULL)
			json_object_set(entry, copied[i], value);
		else
			json_object_del(entry, copied[i]);
	}
	json_t *next = json_object_get(event, "next_attempt");
	if (next != NULL)
		json_object_set(entry, "next_attempt", next);
	else
		json_object_set_new(entry, "next_attempt", json_null());
}

/* All events of an id; an empty list when there are none. NULL: the answer is
 * made. */
static json_t *
find_events(struct call *call, const char *id)
{
	const struct event_query query = { .message_id = span_of(id),
		.limit = EVENTS_MAX };
	AUTO_FREE char *directory = events_directory(call->api);
	struct buf lines = BUF_EMPTY;
	json_t *list = json_array();
	size_t count;
	int result = events_find(directory, &query, &lines, &count);

	if (result < 0 && result != -ENOENT) {
		respond_error(call, 500, "failed",
		    "the events in %s cannot be read: %s", directory,
		    error_text(result));
		json_decref(list);
		list = NULL;
	}
	struct span rest = buf_span(&lines);
	while (list != NULL && rest.len > 0) {
		struct span line = span_cut(&rest, '\n');
		json_t *event = json_loadb(line.ptr, line.len, 0, NULL);

		if (event != NULL)
			json_array_append_new(list, event);
	}
	buf_done(&lines);
	return list;
}

static void
set_envelope(json_t *root, const struct api *api, struct spool_message *message)
{
	const struct spool_envelope *e = spool_message_envelope(message);
	struct directory_snapshot *s = directory_snapshot(api->directory);

	json_object_set_new(root, "tenant", json_tenant_name(s, e->tenant));
	json_object_set_new(root, "stream", json_stream_name(s, e->stream));
	directory_snapshot_unref(&s);
	json_object_set_new(root, "sender", json_text(e->sender));
	json_object_set_new(
	    root, "header_from", json_text_or_null(e->header_from));
	json_object_set_new(root, "subject", json_text(e->subject));
	json_object_set_new(
	    root, "size", json_count(spool_message_size(message)));
	json_object_set_new(root, "user", json_text_or_null(e->user));
	json_object_set_new(root, "client", json_text_or_null(e->client));
	json_object_set_new(root, "accepted", json_time(e->accepted_us));
	json_object_set_new(root, "expires", json_time(e->expire_us));
	json_object_set_new(root, "envid", json_text_or_null(e->envid));
}

/* The spool has it no more: the first event still tells of it. */
static void
set_from_event(json_t *root, json_t *event)
{
	static const char *const names[] = { "tenant", "stream", "sender",
		"header_from", "subject", "size", "user", "client" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		json_t *value = json_object_get(event, names[i]);

		if (value != NULL)
			json_object_set(root, names[i], value);
	}
	const char *type = json_string_value(json_object_get(event, "type"));
	if (type != NULL && strcmp(type, "accepted") == 0)
		json_object_set(
		    root, "accepted", json_object_get(event, "time"));
}

static json_t *
recipients_json(struct spool_message *message, json_t *events)
{
	json_t *by_name = json_object(), *list = json_array(), *event;
	size_t i;

	json_array_foreach(events, i, event) take_event(by_name, list, event);
	if (message != NULL) {
		/* Events come a moment later than the spool's word. */
		const struct spool_envelope *e =
		    spool_message_envelope(message);

		for (uint32_t n = 0; n < e->rcpt_count; n++) {
			json_t *name = json_text(e->rcpts[n].address);

			(void)recipient_entry(
			    by_name, list, json_string_value(name));
			json_decref(name);
		}
	}
	json_decref(by_name);
	return list;
}

static void
respond_story(struct call *call, struct spool_message *message, json_t *events,
    const char *id)
{
	json_t *root = json_object();

	json_object_set_new(root, "message_id", json_string(id));
	json_object_set_new(root, "in_spool", json_boolean(message != NULL));
	if (message != NULL)
		set_envelope(root, call->api, message);
	else
		set_from_event(root, json_array_get(events, 0));
	json_object_set_new(
	    root, "recipients", recipients_json(message, events));
	json_object_set_new(root, "queues",
	    message != NULL
		? queues_of_message(call->api, spool_message_envelope(message))
		: json_array());
	json_object_set_new(root, "events", events);
	respond_json(call, 200, root);
}

void
messages_show(struct call *call)
{
	struct spool_message *message = NULL;
	char text[MSGID_TEXT_SIZE];
	struct msgid id;
	int result = ERR_NOT_FOUND;

	if (!msgid_parse(span_of(call->arguments[0]), &id)) {
		respond_no_message(call, ERR_SYNTAX, call->arguments[0]);
		return;
	}
	/* Lower case was accepted; from here on it is written as we do. */
	(void)msgid_format(&id, text);
	if (call->api->spool != NULL)
		result = message_find(call->api->spool, text, &message);
	if (result < 0 && result != ERR_NOT_FOUND) {
		respond_no_message(call, result, text);
		return;
	}
	json_t *events = find_events(call, text);
	if (events != NULL && message == NULL && json_array_size(events) == 0) {
		respond_error(call, 404, "not_found",
		    "no message `%s` is known: neither the spool nor the "
		    "event files have it",
		    text);
		json_decref(events);
	} else if (events != NULL) {
		respond_story(call, message, events, text);
	}
	if (message != NULL)
		spool_message_unref(&message);
}

/* ---- cancel ------------------------------------------------------------ */

struct cancel {
	uint64_t mno;
	uint64_t count;
};

static void
cancel_in(void *arg, struct dispatch *dispatch)
{
	struct cancel *c = arg;
	const struct dispatch_request request = {
		.operation = DISPATCH_CANCEL,
		.mno = c->mno,
	};

	c->count += dispatch_operate(dispatch, &request);
}

void
messages_cancel(struct call *call)
{
	struct spool_message *message;
	struct cancel c = { 0 };

	if (!is_loaded(call))
		return;
	int result =
	    message_find(call->api->spool, call->arguments[0], &message);
	if (result < 0) {
		respond_no_message(call, result, call->arguments[0]);
		return;
	}
	c.mno = spool_message_envelope(message)->mno;
	spool_message_unref(&message);
	BUG_UNLESS(c.mno != 0);
	call->api->each_dispatch(call->api->owner, cancel_in, &c);
	if (c.count == 0)
		respond_error(call, 409, "refused",
		    "nothing of the message waits any more: it is being "
		    "delivered at this moment, or has found its end");
	else if (orders_await_outcomes(call))
		respond_json(call, 200,
		    json_pack("{s:s, s:o}", "message_id", call->arguments[0],
			"cancelled", json_count(c.count)));
}

/* ---- raw --------------------------------------------------------------- */

struct raw {
	struct spool_message *message;
	uint64_t offset;
};

static enum api_more
raw_more(void *stream, struct buf *out)
{
	struct raw *raw = stream;
	struct span piece;

	if (spool_message_read(raw->message, raw->offset, &piece) < 0)
		return API_BROKEN;
	if (piece.len == 0)
		return API_END;
	buf_append(out, piece);
	raw->offset += piece.len;
	return API_MORE;
}

static void
raw_end(void *stream)
{
	struct raw *raw = stream;

	spool_message_unref(&raw->message);
	mem_free(raw);
}

void
messages_raw(struct call *call)
{
	struct api_response *r = call->response;
	struct spool_message *message;
	int result =
	    message_find(call->api->spool, call->arguments[0], &message);

	if (result < 0) {
		respond_no_message(call, result, call->arguments[0]);
		return;
	}
	struct raw *raw = MEM_NEW(struct raw);
	raw->message = message;
	r->status = 200;
	r->content_type = "message/rfc822";
	r->stream = raw;
	r->more = raw_more;
	r->end = raw_end;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/arena.h"
#include "base/mem.h"
#include "base/time.h"
#include "event/event.h"
#include "mail/address.h"
#include "report/export.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define EVENTS_SHOWN 100
#define EVENTS_MAX 10000

#define POLL_US (US_PER_S / 5)
#define POLLS 5 /* together the second after which we say that we live */

char *
events_directory(const struct api *api)
{
	return mem_printf("%s/events", api->data_dir);
}

/* ---- what is asked for ------------------------------------------------- */

/* Events have addresses in their canonical form: people may ask in theirs. */
static void
read_recipient(const struct call *call, struct event_query *q,
    char text[static ADDRESS_MAX + 1])
{
	struct arena *arena = arena_new();
	struct address address;
	const char *reason;

	q->recipient = span_of(query_text(call, "recipient"));
	if (address_parse(q->recipient,
		ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL, arena, &address,
		&reason) == 0 &&
	    span_to_cstring(address.text, text, ADDRESS_MAX + 1))
		q->recipient = span_of(text);
	arena_free(&arena);
}

/* Spans are the request's. False: the answer is made. */
static bool
read_query(struct call *call, struct event_query *q)
{
	uint64_t limit = EVENTS_SHOWN;
	enum event_type type;

	q->message_id = span_of(query_text(call, "message"));
	q->type = span_of(query_text(call, "type"));
	q->tenant = span_of(query_text(call, "tenant"));
	if (q->type.len > 0 && !event_type_parse(q->type, &type)) {
		respond_error(call, 400, "bad_query",
		    "`%.32s` is no type of event: those are accepted, "
		    "deferred, delivered, bounced, expired, suppressed, "
		    "cancelled, rejected and complained",
		    query_text(call, "type"));
		return false;
	}
	if (!query_number(call, "limit", EVENTS_MAX, &limit) ||
	    !query_time(call, "since", &q->since_us) ||
	    !query_time(call, "until", &q->until_us))
		return false;
	q->limit = (size_t)limit;
	return true;
}

/* False: the answer is made. */
static bool
find(struct call *call, const struct event_query *q, const char *directory,
    struct buf *lines)
{
	size_t count;

	/* To events_find, 0 means all; who asks for none gets none. */
	if (q->limit == 0)
		return true;
	int result = events_find(directory, q, lines, &count);
	if (result == 0 || result == -ENOENT)
		return true;
	respond_error(call, 500, "failed",
	    "the events in %s cannot be read: %s", directory,
	    error_text(result));
	return false;
}

/* ---- following --------------------------------------------------------- */

struct follower {
	char *directory;
	char *texts[4]; /* what the query's spans look into */
	struct event_query query;
	struct event_cursor cursor;
	char *last_id; /* event_id of the last line found before */
};

static struct span
keep(struct follower *f, size_t at, struct span s)
{
	f->texts[at] = span_dup(s);
	return span_from(f->texts[at], s.len);
}

static struct follower *
follower_new(const struct api *api, const struct event_query *q)
{
	struct follower *f = MEM_NEW(struct follower);

	f->directory = events_directory(api);
	f->query = (struct event_query){
		.message_id = keep(f, 0, q->message_id),
		.recipient = keep(f, 1, q->recipient),
		.type = keep(f, 2, q->type),
		.tenant = keep(f, 3, q->tenant),
	};
	return f;
}

static void
follower_end(void *stream)
{
	struct follower *f = stream;

	for (size_t i = 0; i < sizeof f->texts / sizeof *f->texts; i++)
		mem_free(f->texts[i]);
	mem_free(f->directory);
	mem_free(f->last_id);
	mem_free(f);
}

/* Behind what was found before, if that came again. */
static struct span
skip_known(struct follower *f, struct span lines)
{
	if (f->last_id == NULL || lines.len == 0)
		return lines;
	size_t at = span_search(lines, span_of(f->last_id));
	mem_free(f->last_id);
	f->last_id = NULL;
	if (at == SIZE_MAX)
		return lines;
	struct span rest = span_skip(lines, at);
	(void)span_cut(&rest, '\n');
	return rest;
}

static enum api_more
follower_more(void *stream, struct buf *out)
{
	static const struct timespec pause = { .tv_nsec = POLL_US * 1000 };
	struct follower *f = stream;
	struct buf lines = BUF_EMPTY;
	int result = 0;

	for (int i = 0; i < POLLS && buf_size(&lines) == 0; i++) {
		result =
		    events_follow(f->directory, &f->query, &f->cursor, &lines);
		if (result < 0 && result != -ENOENT)
			break;
		if (result <= 0)
			(void)nanosleep(&pause, NULL);
	}
	buf_append(out, skip_known(f, buf_span(&lines)));
	buf_done(&lines);
	return result < 0 && result != -ENOENT ? API_BROKEN : API_MORE;
}

static void
remember_last(struct follower *f, struct span lines)
{
	json_t *event;

	/* The last line is the one before the final newline. */
	lines = span_slice(lines, 0, lines.len > 0 ? lines.len - 1 : 0);
	size_t newline = span_find_last(lines, '\n');
	if (newline != SIZE_MAX)
		lines = span_skip(lines, newline + 1);
	event = json_loadb(lines.len > 0 ? lines.ptr : "", lines.len, 0, NULL);
	const char *id = json_string_value(json_object_get(event, "event_id"));
	if (id != NULL)
		f->last_id = mem_printf("\"event_id\":\"%s\"", id);
	json_decref(event);
}

static void
follow(struct call *call, const struct event_query *q)
{
	struct api_response *r = call->response;
	struct follower *f = follower_new(call->api, q);
	bool wants_past = query_text(call, "limit") != NULL ||
			  query_text(call, "since") != NULL;

	/* From now on; then the past, so that nothing falls between. */
	int result =
	    events_follow(f->directory, &f->query, &f->cursor, &r->body);
	buf_clear(&r->body);
	if (result < 0 && result != -ENOENT)
		wants_past = true; /* which tells the error */
	if (wants_past && !find(call, q, f->directory, &r->body)) {
		follower_end(f);
		return;
	}
	remember_last(f, buf_span(&r->body));
	r->status = 200;
	r->content_type = "application/x-ndjson";
	r->stream = f;
	r->more = follower_more;
	r->end = follower_end;
}

/* ---- listing ----------------------------------------------------------- */

/* Lines are JSON already. */
static void
respond_lines(struct call *call, struct span lines)
{
	struct buf *out = &call->response->body;
	const char *separator = "";

	call->response->status = 200;
	buf_append_str(out, "{\"events\":[");
	while (lines.len > 0) {
		buf_append_str(out, separator);
		buf_append(out, span_cut(&lines, '\n'));
		separator = ",";
	}
	buf_append_str(out, "]}\n");
}

void
events_list(struct call *call)
{
	AUTO_FREE char *directory = events_directory(call->api);
	struct event_query q = { 0 };
	struct buf lines = BUF_EMPTY;
	char recipient[ADDRESS_MAX + 1];

	if (!read_query(call, &q))
		return;
	read_recipient(call, &q, recipient);
	if (query_flag(call, "follow")) {
		follow(call, &q);
		return;
	}
	if (find(call, &q, directory, &lines))
		respond_lines(call, buf_span(&lines));
	buf_done(&lines);
}

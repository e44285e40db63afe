/* SPDX-License-Identifier: Apache-2.0 */

/* Looking events up in many files, and following the newest. */

#include "../intake/door.h"
#include "base/time.h"
#include "event/event.h"
#include "report/export.h"
#include "report/internal.h"

#include <fcntl.h>

static char directory[64];
static struct arena *fields_arena;

static int
setup(void **state)
{
	(void)state;
	(void)snprintf(directory, sizeof directory, "/tmp/find-test-XXXXXX");
	assert_non_null(mkdtemp(directory));
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	door_empty_directory(directory);
	(void)rmdir(directory);
	return 0;
}

static void
append(const char *name, const char *text)
{
	AUTO_FREE char *path = mem_printf("%s/%s", directory, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(0, file_write_all(fd, span_of(text)));
	close(fd);
}

static void
add_event(const char *file, enum event_type type, const char *time,
    const char *recipient)
{
	struct event e = {
		.type = type,
		.tenant = SPAN("default"),
		.recipient = span_of(recipient),
		.subject = SPAN(
		    "\"recipient\":\"trap@x.example\",\"type\":\"bounced\""),
	};
	struct buf line = BUF_EMPTY;

	assert_true(time_parse_rfc3339(span_of(time), &e.time_us));
	e.message_id = msgid_make(e.time_us, 0, 1, 0);
	event_render(&e, &line);
	append(file, buf_cstring(&line));
	buf_done(&line);
}

static void
fill(void)
{
	add_event("2026-11-21.jsonl", EVENT_ACCEPTED, "2026-11-21T10:00:00Z",
	    "a@x.example");
	add_event("2026-11-22.jsonl", EVENT_ACCEPTED, "2026-11-22T10:00:00Z",
	    "b@x.example");
	add_event("2026-11-22.2.jsonl", EVENT_DELIVERED, "2026-11-22T11:00:00Z",
	    "b@x.example");
	add_event("2026-11-22.10.jsonl", EVENT_DEFERRED, "2026-11-22T12:00:00Z",
	    "A@x.example");
	/* exported after midnight */
	add_event("2026-11-23.jsonl", EVENT_DELIVERED, "2026-11-22T23:59:59Z",
	    "a@x.example");
	add_event("2026-11-23.jsonl", EVENT_ACCEPTED, "2026-11-23T10:00:00Z",
	    "quo\"te@x.example");
	append("2026-11-23.jsonl", "{\"type\":\"accepted\",\"half a line");
	append("position", "not an event file\n");
	append("2026-11-23.jsonl.gz", "nor this\n");
}

static int64_t
wall(const char *text)
{
	int64_t us = 0;

	if (text != NULL)
		assert_true(time_parse_rfc3339(span_of(text), &us));
	return us;
}

static void
test_queries(void **state)
{
	/* `hours`: those of the lines found, in order */
	static const struct {
		const char *recipient, *type, *tenant, *since, *until;
		size_t limit;
		const char *hours;
	} table[] = {
		{ .hours = "10 10 11 12 23 10 " },
		{ .limit = 1, .hours = "10 " },
		{ .limit = 2, .hours = "23 10 " },
		{ .limit = 3, .hours = "12 23 10 " },
		{ .limit = 5, .hours = "10 11 12 23 10 " },
		{ .limit = 50, .hours = "10 10 11 12 23 10 " },
		{ .recipient = "a@x.example", .hours = "10 12 23 " },
		{ .recipient = "a@x.example", .limit = 2, .hours = "12 23 " },
		{ .recipient = "quo\"te@x.example", .hours = "10 " },
		{ .recipient = "trap@x.example", .hours = "" },
		{ .recipient = "x.example", .hours = "" },
		{ .type = "delivered", .hours = "11 23 " },
		{ .type = "bounced", .hours = "" },
		{ .tenant = "default", .limit = 1, .hours = "10 " },
		{ .tenant = "other", .hours = "" },
		{ .since = "2026-11-22T11:00:00Z", .hours = "11 12 23 10 " },
		{ .until = "2026-11-22T11:00:00Z", .hours = "10 10 " },
		{ .since = "2026-11-22T12:00:00Z",
		    .until = "2026-11-23T00:00:00Z",
		    .hours = "12 23 " },
		{ .since = "2027-01-01T00:00:00Z", .hours = "" },
	};

	(void)state;
	fill();
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		const struct event_query q = {
			.recipient = span_of(table[i].recipient),
			.type = span_of(table[i].type),
			.tenant = span_of(table[i].tenant),
			.since_us = wall(table[i].since),
			.until_us = wall(table[i].until),
			.limit = table[i].limit,
		};
		struct buf lines = BUF_EMPTY, hours = BUF_EMPTY;
		size_t count = 99;

		assert_int_equal(0, events_find(directory, &q, &lines, &count));
		struct span rest = buf_span(&lines);
		for (size_t n = 0; n < count; n++) {
			struct span line = span_cut(&rest, '\n');
			size_t at = span_search(line, SPAN("T"));

			buf_append(&hours, span_slice(line, at + 1, 2));
			buf_append_char(&hours, ' ');
		}
		assert_int_equal(0, rest.len);
		if (!span_eq(buf_span(&hours), span_of(table[i].hours)))
			fail_msg("row %zu: %s", i, buf_cstring(&hours));
		buf_done(&hours);
		buf_done(&lines);
	}
}

static void
test_message_id(void **state)
{
	const int64_t us = wall("2026-11-22T10:00:00Z");
	struct msgid id = msgid_make(us, 0, 1, 0);
	char text[MSGID_TEXT_SIZE];
	const struct event_query q = { .message_id =
					   span_of(msgid_format(&id, text)) };
	struct buf lines = BUF_EMPTY;
	size_t count = 0;

	(void)state;
	fill();
	assert_int_equal(0, events_find(directory, &q, &lines, &count));
	assert_int_equal(1, count);
	assert_int_equal(1, door_count(buf_span(&lines), "b@x.example"));
	buf_done(&lines);
}

static void
test_nothing_there(void **state)
{
	const struct event_query q = { 0 };
	struct event_cursor cursor = { 0 };
	struct buf lines = BUF_EMPTY;
	size_t count = 7;

	(void)state;
	assert_int_equal(
	    0, events_find("/nonexistent/events", &q, &lines, &count));
	assert_int_equal(0, count);
	assert_int_equal(
	    0, events_follow("/nonexistent/events", &q, &cursor, &lines));
	assert_int_equal(0, buf_size(&lines));
}

static void
follow(
    const struct event_query *q, struct event_cursor *cursor, const char *want)
{
	struct buf lines = BUF_EMPTY;
	int count = events_follow(directory, q, cursor, &lines);

	assert_int_equal(door_count(span_of(want), "\n"), count);
	assert_string_equal(want, buf_cstring(&lines));
	buf_done(&lines);
}

static void
test_follow(void **state)
{
	const struct event_query all = { 0 };
	struct event_cursor cursor = { 0 }, fresh = { 0 };

	(void)state;
	follow(&all, &fresh, ""); /* no file yet: all that comes is new */
	append("2026-11-22.jsonl", "old\n");
	for (int i = 0; i < 1000; i++)
		append("2026-11-22.jsonl", "an older line\n");
	append("2026-11-22.jsonl", "half");
	follow(&all, &cursor, "");
	append("2026-11-22.jsonl", " a line\nmore\nnot ye");
	follow(&all, &cursor, "half a line\nmore\n");
	follow(&all, &cursor, "");
	append("2026-11-22.jsonl", "t\nlast\n");
	append("2026-11-22.1.jsonl", "next part\n");
	append("2026-11-23.jsonl", "next day\n");
	follow(&all, &cursor, "not yet\nlast\nnext part\nnext day\n");
	follow(&all, &cursor, "");
	struct buf lines = BUF_EMPTY;
	assert_int_equal(1007, events_follow(directory, &all, &fresh, &lines));
	buf_done(&lines);
}

static bool
remember(void *arg, struct span line)
{
	struct span *found = arg;

	*found = events_field(line, "recipient", fields_arena);
	return true;
}

static struct span
recipient_of(int64_t wall_us, uint64_t mno)
{
	struct msgid id = msgid_make(wall_us, 0, mno, 0);
	struct span found = SPAN_EMPTY;

	events_of_message(directory, &id, remember, &found);
	return found;
}

/* A day of one event each two seconds: the one that is wanted is found by its
 * time, wherever it stands, and what is not there is not. */
static void
test_of_message(void **state)
{
	struct buf lines = BUF_EMPTY;
	int64_t first_us = 0;

	(void)state;
	fields_arena = arena_new();
	assert_true(
	    time_parse_rfc3339(SPAN("2026-11-24T00:00:00Z"), &first_us));
	for (uint64_t i = 0; i < 20000; i++) {
		char recipient[32];
		int len = snprintf(recipient, sizeof recipient,
		    "\"u\\\\%u\"@x.example", (unsigned)i);
		const struct event e = {
			.type = EVENT_ACCEPTED,
			.time_us = first_us + (int64_t)i * 2 * US_PER_S,
			.message_id = msgid_make(
			    first_us + (int64_t)i * 2 * US_PER_S, 0, i + 1, 0),
			.recipient = span_from(recipient, (size_t)len),
		};
		event_render(&e, &lines);
	}
	append("2026-11-24.jsonl", buf_cstring(&lines));
	buf_done(&lines);
	static const uint64_t wanted[] = { 0, 1, 9999, 10000, 19999 };
	for (size_t i = 0; i < 5; i++) {
		char want[32];
		(void)snprintf(want, sizeof want, "\"u\\\\%u\"@x.example",
		    (unsigned)wanted[i]);
		struct span got =
		    recipient_of(first_us + (int64_t)wanted[i] * 2 * US_PER_S,
			wanted[i] + 1);
		if (!span_eq(got, span_of(want)))
			fail_msg("[%.*s] is not %s", SPAN_ARG(got), want);
	}
	assert_int_equal(recipient_of(first_us + 77 * US_PER_S, 7).len, 0);
	assert_int_equal(recipient_of(first_us - US_PER_HOUR, 1).len, 0);
	assert_int_equal(recipient_of(first_us + US_PER_DAY, 1).len, 0);
	arena_free(&fields_arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_queries, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_message_id, setup, teardown),
		cmocka_unit_test(test_nothing_there),
		cmocka_unit_test_setup_teardown(test_follow, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_of_message, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <fcntl.h>

#define ID_ONE "01M84WGSZH0000SA65572XXJ94"
#define ID_TWO "01M84WGT060005BPF36T3P3CFJ"

#define LINE(n, type, id, rest)                                                \
	"{\"type\":\"" type "\",\"time\":\"2026-11-23T19:00:0" #n              \
	".000Z\",\"event_id\":\"01M84WGSZHYAZA8SY7TZPGNT0" #n                  \
	"\",\"message_id\":\"" id                                              \
	"\",\"tenant\":\"default\",\"sender\":\"s@example.com\"," rest "}\n"

static void
write_events(const struct rig *rig, const char *text)
{
	AUTO_FREE char *dir = mem_printf("%s/events", rig->dir);
	AUTO_FREE char *path = mem_printf("%s/2026-11-23.jsonl", dir);

	(void)mkdir(dir, 0700);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static const char story[] = LINE(
    1, "accepted", ID_ONE, "\"recipient\":\"a@example.net\"") LINE(2,
    "accepted", ID_ONE, "\"recipient\":\"b@example.net\"") LINE(3, "accepted",
    ID_TWO, "\"recipient\":\"a@example.net\"") LINE(4, "deferred", ID_ONE,
    "\"recipient\":\"a@example.net\",\"attempt\":1,\"code\":450,"
    "\"reply\":\"450 later\",\"next_attempt\":\"2026-11-23T20:00:00.000Z\"")
    LINE(5, "delivered", ID_ONE,
	"\"recipient\":\"a@example.net\",\"attempt\":2,\"reply\":\"250 ok\"");

static void
none_is_an_empty_list(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/events", ""), 200);
	assert_string_equal(
	    buf_cstring(&rig.response.body), "{\"events\":[]}\n");
	rig_close(&rig);
}

static void
queries_narrow_the_list(void **state)
{
	static const struct {
		const char *name, *value;
		size_t count;
	} cases[] = {
		{ "limit", "10000", 5 },
		{ "limit", "2", 2 },
		{ "type", "accepted", 3 },
		{ "message", ID_TWO, 1 },
		{ "recipient", "B@example.net", 1 },
		{ "recipient", "b@\xef\xbd\x85XAMPLE.net", 1 },
		{ "limit", "0", 0 },
		{ "tenant", "other", 0 },
		{ "since", "2026-11-23T19:00:04Z", 2 },
		{ "until", "2026-11-23T19:00:02Z", 1 },
	};

	static const char *const bad[] = { "type", "eaten", NULL };
	struct rig rig;

	(void)state;
	rig_open(&rig);
	write_events(&rig, story);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *const query[] = { cases[i].name, cases[i].value,
			NULL };

		rig.query = query;
		assert_int_equal(
		    rig_ask(&rig, "GET", "/api/v1/events", ""), 200);
		assert_int_equal(
		    json_array_size(json_object_get(rig.root, "events")),
		    cases[i].count);
	}
	rig.query = bad;
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/events", ""), 400);
	rig.query = NULL;
	rig_close(&rig);
}

/* Reads a stream until it gave something. */
static void
read_more(struct rig *rig)
{
	struct api_response *r = &rig->response;

	buf_clear(&r->body);
	for (int i = 0; i < 3 && buf_size(&r->body) == 0; i++)
		assert_int_equal(r->more(r->stream, &r->body), API_MORE);
}

static void
following_starts_now(void **state)
{
	static const char *const query[] = { "follow", "1", "type", "delivered",
		NULL };
	struct rig rig;

	(void)state;
	rig_open(&rig);
	write_events(&rig, story);
	rig.query = query;
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/events", ""), 200);
	assert_int_equal(buf_size(&rig.response.body), 0);
	write_events(&rig,
	    LINE(6, "bounced", ID_TWO, "\"recipient\":\"a@example.net\"") LINE(
		7, "delivered", ID_ONE, "\"recipient\":\"b@example.net\""));
	read_more(&rig);
	assert_non_null(
	    strstr(buf_cstring(&rig.response.body), "b@example.net"));
	assert_null(strstr(buf_cstring(&rig.response.body), "bounced"));
	rig_close(&rig);
}

static void
following_can_begin_in_the_past(void **state)
{
	static const char *const query[] = { "follow", "1", "limit", "1",
		NULL };
	struct rig rig;

	(void)state;
	rig_open(&rig);
	write_events(&rig, story);
	rig.query = query;
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/events", ""), 200);
	assert_non_null(strstr(buf_cstring(&rig.response.body), "250 ok"));
	assert_null(strstr(buf_cstring(&rig.response.body), "450 later"));
	write_events(&rig,
	    LINE(6, "bounced", ID_TWO, "\"recipient\":\"a@example.net\""));
	read_more(&rig);
	assert_non_null(strstr(buf_cstring(&rig.response.body), "bounced"));
	assert_null(strstr(buf_cstring(&rig.response.body), "250 ok"));
	rig_close(&rig);
}

/* What the spool has forgotten is told from the events. */
static void
a_message_is_told_from_its_events(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	write_events(&rig, story);
	assert_int_equal(
	    rig_ask(&rig, "GET", "/api/v1/messages/" ID_ONE, ""), 200);
	assert_true(json_is_false(json_object_get(rig.root, "in_spool")));
	assert_string_equal(rig_text(&rig, "sender"), "s@example.com");
	assert_string_equal(
	    rig_text(&rig, "accepted"), "2026-11-23T19:00:01.000Z");
	const json_t *list = json_object_get(rig.root, "recipients");
	assert_int_equal(json_array_size(list), 2);
	const json_t *a = json_array_get(list, 0);
	assert_string_equal(
	    json_string_value(json_object_get(a, "state")), "delivered");
	assert_string_equal(
	    json_string_value(json_object_get(a, "reply")), "250 ok");
	/* Nothing of the earlier attempt is left. */
	assert_null(json_object_get(a, "code"));
	assert_true(json_is_null(json_object_get(a, "next_attempt")));
	assert_string_equal(json_string_value(json_object_get(
				json_array_get(list, 1), "state")),
	    "queued");
	assert_int_equal(
	    json_array_size(json_object_get(rig.root, "events")), 4);
	rig_close(&rig);
}

static void
unknown_messages_are_said_to_be(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(
	    rig_ask(&rig, "GET", "/api/v1/messages/nonsense", ""), 400);
	assert_string_equal(rig_error(&rig), "bad_id");
	assert_int_equal(
	    rig_ask(&rig, "GET", "/api/v1/messages/" ID_ONE, ""), 404);
	assert_string_equal(rig_error(&rig), "not_found");
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_is_an_empty_list),
		cmocka_unit_test(queries_narrow_the_list),
		cmocka_unit_test(following_starts_now),
		cmocka_unit_test(following_can_begin_in_the_past),
		cmocka_unit_test(a_message_is_told_from_its_events),
		cmocka_unit_test(unknown_messages_are_said_to_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

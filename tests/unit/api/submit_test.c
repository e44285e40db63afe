/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

static const char *const plain[] = { "X-Posthouse-Sender", "s@example.com",
	"X-Posthouse-Recipient", "a@example.net, \"b,c\"@example.net", NULL };

static const char message[] = "From: s@example.com\r\n"
			      "Subject: hello\r\n\r\n"
			      ".a line\r\n";

static void
read_all(struct rig *rig)
{
	struct api_response *r = &rig->response;

	assert_non_null(r->more);
	while (r->more(r->stream, &r->body) == API_MORE)
		continue;
}

static void
accepted_means_stored(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_open_spool(&rig);
	rig.headers = plain;
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/messages/raw", message), 201);
	assert_int_equal(rig.accepted, 1);
	AUTO_FREE char *id = mem_strdup(rig_text(&rig, "message_id"));
	assert_int_equal(strlen(id), 26);
	AUTO_FREE char *path = mem_printf("/api/v1/messages/%s", id);
	AUTO_FREE char *raw = mem_printf("%s/raw", path);
	assert_int_equal(rig_ask(&rig, "GET", raw, ""), 200);
	read_all(&rig);
	const char *text = buf_cstring(&rig.response.body);
	assert_memory_equal(text, "Received: ", 10);
	assert_non_null(strstr(text, "\r\nDate: "));
	assert_non_null(strstr(text, message));

	/* Before any event is exported. */
	assert_int_equal(rig_ask(&rig, "GET", path, ""), 200);
	assert_true(json_is_true(json_object_get(rig.root, "in_spool")));
	assert_string_equal(rig_text(&rig, "user"), "ann");
	assert_string_equal(rig_text(&rig, "subject"), "hello");
	assert_int_equal(
	    json_array_size(json_object_get(rig.root, "recipients")), 2);
	/* Nobody had it to cancel. */
	assert_int_equal(rig_ask(&rig, "DELETE", path, ""), 409);
	rig_close(&rig);
}

static void
an_id_with_another_time_is_unknown(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_open_spool(&rig);
	rig.headers = plain;
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/messages/raw", message), 201);
	AUTO_FREE char *path =
	    mem_printf("/api/v1/messages/%s", rig_text(&rig, "message_id"));
	char *digit = &path[strlen("/api/v1/messages/") + 8];
	*digit = *digit == '0' ? '1' : '0';
	assert_int_equal(rig_ask(&rig, "DELETE", path, ""), 404);
	rig_close(&rig);
}

static void
lines_must_be_crlf_lines(void **state)
{
	static const char *const bad[] = { "a: b\n\r\n", "\nx\r\n",
		"a: b\r\n\r\nx\ry\r\n", "a: b\r\n\r\nx\r", "a: b\r\n\r\n.\n",
		"a: b\r\n\n.\r\n" };
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_open_spool(&rig);
	rig.headers = plain;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(
		    rig_ask(&rig, "POST", "/api/v1/messages/raw", bad[i]), 422);
		assert_string_equal(rig_error(&rig), "bad_line");
	}
	assert_int_equal(rig.accepted, 0);
	rig_close(&rig);
}

static void
envelopes_are_checked(void **state)
{
	static const struct {
		const char *headers[9];
		int status;
		const char *code;
	} cases[] = {
		{ { "X-Posthouse-Recipient", "a@b.example" }, 400,
		    "missing_sender" },
		{ { "X-Posthouse-Sender", "" }, 400, "missing_recipient" },
		{ { "X-Posthouse-Sender", "", "X-Posthouse-Recipient", " , " },
		    400, "missing_recipient" },
		{ { "X-Posthouse-Sender", "nobody", "X-Posthouse-Recipient",
		      "a@b.example" },
		    422, "bad_sender" },
		{ { "X-Posthouse-Sender", "", "X-Posthouse-Recipient",
		      "a@b.example,x%y@z@b.example" },
		    422, "bad_recipient" },
		{ { "X-Posthouse-Sender", "", "X-Posthouse-Recipient",
		      "a@b.example", "X-Posthouse-Notify", "never,delay" },
		    400, "bad_notify" },
		{ { "X-Posthouse-Sender", "", "X-Posthouse-Recipient",
		      "a@b.example", "X-Posthouse-Notify", "sometimes" },
		    400, "bad_notify" },
		{ { "X-Posthouse-Sender", "", "X-Posthouse-Recipient",
		      "a@b.example", "X-Posthouse-Ret", "none" },
		    400, "bad_ret" },
		{ { "X-Posthouse-Sender", "", "X-Posthouse-Recipient",
		      "a@b.example", "X-Posthouse-Envid", "a\xff" },
		    400, "bad_envid" },
	};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_open_spool(&rig);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		rig.headers = cases[i].headers;
		assert_int_equal(
		    rig_ask(&rig, "POST", "/api/v1/messages/raw", message),
		    cases[i].status);
		assert_string_equal(rig_error(&rig), cases[i].code);
	}
	assert_int_equal(rig.accepted, 0);
	rig_close(&rig);
}

static void
a_refusal_keeps_smtps_words(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_open_spool(&rig);
	rig.headers = plain;
	assert_int_equal(rig_ask(&rig, "POST", "/api/v1/messages/raw",
			     "From: a@x.example\r\nFrom: b@x.example\r\n\r\n"),
	    422);
	assert_string_equal(rig_error(&rig), "refused");
	const json_t *error = json_object_get(rig.root, "error");
	assert_int_equal(
	    json_integer_value(json_object_get(error, "smtp_code")), 554);
	assert_string_equal(
	    json_string_value(json_object_get(error, "enhanced")), "5.6.0");
	rig_close(&rig);
}

/* ---- operators' orders ------------------------------------------------- */

static void
selections_must_be_meant(void **state)
{
	static const struct {
		const char *path, *body;
		int status;
	} cases[] = {
		{ "/api/v1/queues/hold", "{}", 400 },
		{ "/api/v1/queues/bounce", "{\"reason\":\"x\"}", 400 },
		{ "/api/v1/queues/bounce",
		    "{\"all\":true,\"domain\":\"a.example\"}", 400 },
		{ "/api/v1/queues/hold", "{\"tenant\":\"none\"}", 404 },
		{ "/api/v1/queues/hold", "{\"stream\":\"none\"}", 404 },
		{ "/api/v1/queues/hold", "{\"domain\":\"a b\"}", 400 },
		{ "/api/v1/queues/hold", "{\"domain\":\"*\"}", 400 },
		{ "/api/v1/queues/bounce", "{\"site\":\"*.*\"}", 400 },
		{ "/api/v1/queues/hold",
		    "{\"message\":\"01M84WGSZH0000SA65572XXJ94\"}", 400 },
		{ "/api/v1/queues/bounce",
		    "{\"message\":\"01M84WGSZH0000SA65572XXJ94\"}", 404 },
		{ "/api/v1/queues/retry", "{\"message\":\"\"}", 404 },
		{ "/api/v1/queues/retry", "{\"domain\":\"*.A.example\"}", 200 },
		{ "/api/v1/queues/retry", "{\"all\":true}", 200 },
	};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_open_spool(&rig);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(
		    rig_ask(&rig, "POST", cases[i].path, cases[i].body),
		    cases[i].status);
	rig_close(&rig);
}

struct orders {
	size_t count;
	char domain[64], reason[64];
	uint32_t stream;
};

static void
take_order(void *arg, const struct spool_order *order)
{
	struct orders *o = arg;

	assert_int_equal(order->kind, SPOOL_ORDER_HOLD);
	assert_true(
	    span_to_cstring(order->domain, o->domain, sizeof(o->domain)));
	assert_true(
	    span_to_cstring(order->reason, o->reason, sizeof(o->reason)));
	o->stream = order->stream;
	o->count++;
}

static void
a_hold_survives_the_service(void **state)
{
	struct orders orders = { 0 };
	struct failure failure;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_open_spool(&rig);
	assert_int_equal(rig_ask(&rig, "POST", "/api/v1/queues/hold",
			     "{\"domain\":\"B\xc3\xbc"
			     "cher.Example\","
			     "\"stream\":\"bulk\",\"reason\":\"why\"}"),
	    200);
	spool_close(&rig.api.spool);
	AUTO_FREE char *path = mem_printf("%s/spool", rig.dir);
	const struct spool_options options = { .directory = path };
	assert_int_equal(spool_open(&options, &rig.api.spool, &failure), 0);
	spool_orders(rig.api.spool, take_order, &orders);
	/* What acts on mail must not miss what is not loaded yet. */
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/queues/bounce", "{\"all\":true}"),
	    503);
	assert_int_equal(spool_recover(rig.api.spool, NULL, NULL), 0);
	assert_int_equal(orders.count, 1);
	assert_string_equal(orders.domain, "xn--bcher-kva.example");
	assert_string_equal(orders.reason, "why");
	assert_true(orders.stream != 0);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted_means_stored),
		cmocka_unit_test(an_id_with_another_time_is_unknown),
		cmocka_unit_test(lines_must_be_crlf_lines),
		cmocka_unit_test(envelopes_are_checked),
		cmocka_unit_test(a_refusal_keeps_smtps_words),
		cmocka_unit_test(selections_must_be_meant),
		cmocka_unit_test(a_hold_survives_the_service),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

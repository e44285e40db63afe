/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

/* ---- routes ------------------------------------------------------------ */

static void
unknown_paths_and_methods_are_told(void **state)
{
	static const struct {
		const char *method, *path;
		int status;
		const char *code, *allow;
	} cases[] = {
		{ "GET", "/", 404, "not_found", "" },
		{ "GET", "", 404, "not_found", "" },
		{ "GET", "x", 404, "not_found", "" },
		{ "GET", "//api/v1/tenants", 404, "not_found", "" },
		{ "GET", "/api/v1", 404, "not_found", "" },
		{ "GET", "/api/v1/tenants/", 404, "not_found", "" },
		{ "GET", "/api/v1/tenants/a/b", 404, "not_found", "" },
		{ "PUT", "/api/v1/tenants", 405, "method_not_allowed",
		    "GET, POST" },
		{ "PUT", "/api/v1/tenants/a", 405, "method_not_allowed",
		    "GET, POST, DELETE" },
		{ "GET", "/api/v1/streams/default", 404, "not_found", "" },
		{ "", "/health", 405, "method_not_allowed", "GET" },
	};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(
		    rig_ask(&rig, cases[i].method, cases[i].path, ""),
		    cases[i].status);
		assert_string_equal(rig_error(&rig), cases[i].code);
		assert_string_equal(rig.response.allow, cases[i].allow);
	}
	rig_close(&rig);
}

static void
what_needs_the_service_says_so(void **state)
{
	static const char *const paths[] = { "/api/v1/status", "/metrics",
		"/health", "/api/v1/queues", "/api/v1/queues/deliveries",
		"/api/v1/queues/export", "/api/v1/trace",
		"/api/v1/messages/01M84WGSZH0000SA65572XXJ94/raw" };
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		assert_int_equal(rig_ask(&rig, "GET", paths[i], ""), 503);
		assert_string_equal(rig_error(&rig), "service_not_running");
	}
	rig_close(&rig);
}

static void
a_path_that_is_too_long_matches_nothing(void **state)
{
	struct rig rig;
	char path[2048];

	(void)state;
	memset(path, 'a', sizeof(path));
	memcpy(path, "/api/v1/tenants/", 16);
	path[sizeof(path) - 1] = '\0';
	rig_open(&rig);
	assert_int_equal(rig_ask(&rig, "GET", path, ""), 404);
	assert_string_equal(rig_error(&rig), "not_found");
	rig_close(&rig);
}

/* ---- the directory ----------------------------------------------------- */

static void
tenants_live_and_end(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/tenants", "{\"name\":\"acme\"}"),
	    201);
	assert_string_equal(rig_text(&rig, "name"), "acme");
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/tenants", "{\"name\":\"acme\"}"),
	    409);
	assert_string_equal(rig_error(&rig), "exists");
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/tenants", "{\"name\":\"-\"}"), 422);
	assert_string_equal(rig_error(&rig), "invalid");
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/tenants", ""), 200);
	assert_int_equal(
	    json_array_size(json_object_get(rig.root, "tenants")), 2);
	assert_int_equal(
	    rig_ask(&rig, "DELETE", "/api/v1/tenants/acme", ""), 200);
	/* A disabled one is still shown. */
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/tenants/acme", ""), 200);
	assert_true(json_is_false(json_object_get(rig.root, "enabled")));
	assert_int_equal(
	    rig_ask(&rig, "DELETE", "/api/v1/tenants/default", ""), 409);
	assert_string_equal(rig_error(&rig), "refused");
	assert_int_equal(
	    rig_ask(&rig, "DELETE", "/api/v1/tenants/none", ""), 404);
	assert_string_equal(rig_error(&rig), "not_found");
	rig_close(&rig);
}

static void
listings_come_in_pages(void **state)
{
	static const char *const first[] = { "limit", "2", NULL };
	struct rig rig;
	char after[32];

	(void)state;
	rig_open(&rig);
	rig_ask(&rig, "POST", "/api/v1/tenants", "{\"name\":\"a\"}");
	rig_ask(&rig, "POST", "/api/v1/tenants", "{\"name\":\"b\"}");
	rig.query = first;
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/tenants", ""), 200);
	assert_int_equal(
	    json_array_size(json_object_get(rig.root, "tenants")), 2);
	json_int_t next = json_integer_value(json_object_get(rig.root, "next"));
	assert_true(next > 0);
	snprintf(after, sizeof(after), "%lld", (long long)next);
	const char *const second[] = { "limit", "2", "after", after, NULL };
	rig.query = second;
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/tenants", ""), 200);
	const json_t *list = json_object_get(rig.root, "tenants");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(list, 0), "name")),
	    "b");
	assert_true(json_is_null(json_object_get(rig.root, "next")));
	rig.query = NULL;
	rig_close(&rig);
}

static void
streams_belong_to_tenants(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(rig_ask(&rig, "POST", "/api/v1/streams",
			     "{\"name\":\"news\",\"class\":\"bulk\","
			     "\"expire\":\"2d\"}"),
	    201);
	assert_string_equal(rig_text(&rig, "tenant"), "default");
	assert_string_equal(rig_text(&rig, "class"), "bulk");
	assert_string_equal(rig_text(&rig, "expire"), "2d");
	assert_int_equal(rig_ask(&rig, "POST", "/api/v1/streams",
			     "{\"name\":\"x\",\"class\":\"fast\"}"),
	    422);
	assert_int_equal(rig_ask(&rig, "POST", "/api/v1/streams",
			     "{\"name\":\"x\",\"expire\":\"soon\"}"),
	    422);
	assert_int_equal(
	    rig_ask(&rig, "DELETE", "/api/v1/streams/default/bulk", ""), 409);
	assert_int_equal(
	    rig_ask(&rig, "DELETE", "/api/v1/streams/default/news", ""), 200);
	assert_int_equal(
	    rig_ask(&rig, "GET", "/api/v1/streams/default/news", ""), 404);
	rig_close(&rig);
}

static void
a_password_is_in_one_answer_only(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/credentials",
		"{\"name\":\"ci\",\"networks\":[\"192.0.2.0/24\",\"::1\"]}"),
	    201);
	AUTO_FREE char *username = mem_strdup(rig_text(&rig, "username"));
	AUTO_FREE char *password = mem_strdup(rig_text(&rig, "password"));
	assert_string_equal(rig_text(&rig, "tenant"), "default");
	assert_string_equal(rig_text(&rig, "stream"), "transactional");
	assert_string_equal(rig_text(&rig, "name"), "ci");
	assert_int_equal(
	    json_array_size(json_object_get(rig.root, "networks")), 2);
	AUTO_FREE char *path = mem_printf("/api/v1/credentials/%s", username);
	assert_int_equal(rig_ask(&rig, "GET", path, ""), 200);
	assert_null(rig_text(&rig, "password"));
	assert_null(strstr(buf_cstring(&rig.response.body), password));
	assert_int_equal(rig_ask(&rig, "DELETE", path, ""), 200);
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/credentials", ""), 200);
	assert_int_equal(
	    json_array_size(json_object_get(rig.root, "credentials")), 0);
	static const char *const revoked[] = { "revoked", "1", NULL };
	rig.query = revoked;
	assert_int_equal(rig_ask(&rig, "GET", "/api/v1/credentials", ""), 200);
	assert_int_equal(
	    json_array_size(json_object_get(rig.root, "credentials")), 1);
	rig.query = NULL;
	assert_int_equal(
	    rig_ask(&rig, "DELETE", "/api/v1/credentials/nobody", ""), 404);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_paths_and_methods_are_told),
		cmocka_unit_test(what_needs_the_service_says_so),
		cmocka_unit_test(a_path_that_is_too_long_matches_nothing),
		cmocka_unit_test(tenants_live_and_end),
		cmocka_unit_test(listings_come_in_pages),
		cmocka_unit_test(streams_belong_to_tenants),
		cmocka_unit_test(a_password_is_in_one_answer_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "deliver/internal.h"

#include <gsasl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The other side is gsasl's own server, with a password of its own. */
struct server {
	Gsasl *sasl;
	Gsasl_session *session;
	const char *password;
	char binding[64];
};

static int
on_property(Gsasl *sasl, Gsasl_session *session, Gsasl_property property)
{
	struct server *s = gsasl_callback_hook_get(sasl);
	if (property == GSASL_VALIDATE_SIMPLE) {
		const char *user = gsasl_property_fast(session, GSASL_AUTHID);
		const char *password =
		    gsasl_property_fast(session, GSASL_PASSWORD);
		return strcmp(user, "user") == 0 &&
			       strcmp(password, s->password) == 0
			   ? GSASL_OK
			   : GSASL_AUTHENTICATION_ERROR;
	}
	if (property == GSASL_PASSWORD)
		return gsasl_property_set(session, GSASL_PASSWORD, s->password);
	if (property == GSASL_CB_TLS_EXPORTER && s->binding[0] != '\0')
		return gsasl_property_set(
		    session, GSASL_CB_TLS_EXPORTER, s->binding);
	return GSASL_NO_CALLBACK;
}

static void
server_begin(struct server *s, const char *mechanism, const char *password,
    const unsigned char *binding)
{
	*s = (struct server){ .password = password };
	assert_int_equal(gsasl_init(&s->sasl), GSASL_OK);
	gsasl_callback_set(s->sasl, on_property);
	gsasl_callback_hook_set(s->sasl, s);
	if (binding != NULL) {
		char *text;
		size_t len;
		assert_int_equal(
		    gsasl_base64_to((const char *)binding, 32, &text, &len),
		    GSASL_OK);
		assert_true(span_to_cstring(
		    span_of(text), s->binding, sizeof s->binding));
		gsasl_free(text);
	}
	assert_int_equal(
	    gsasl_server_start(s->sasl, mechanism, &s->session), GSASL_OK);
}

static void
server_end(struct server *s)
{
	gsasl_finish(s->session);
	gsasl_done(s->sasl);
}

/* True when both sides are content. */
static bool
converse(struct server *s, struct login *auth)
{
	struct span response;
	char challenge[1024] = "", *next = NULL;
	assert_int_equal(login_step(auth, SPAN_EMPTY, &response), 0);
	for (unsigned round = 0; round < 8; round++) {
		char text[1024];
		assert_true(span_to_cstring(response, text, sizeof text));
		int r = gsasl_step64(s->session, text, &next);
		if (r != GSASL_OK && r != GSASL_NEEDS_MORE)
			return false;
		assert_true(span_to_cstring(
		    span_of(next), challenge, sizeof challenge));
		gsasl_free(next);
		if (r == GSASL_OK && challenge[0] == '\0')
			return login_is_complete(auth);
		if (login_step(auth, span_of(challenge), &response) < 0)
			return false;
		if (r == GSASL_OK)
			return login_is_complete(auth);
	}
	return false;
}

static bool
log_in(const char *mechanism, const char *theirs, const char *ours,
    bool same_channel)
{
	unsigned char binding[32];
	memset(binding, 7, sizeof binding);
	struct server server;
	server_begin(&server, mechanism, theirs, binding);
	struct login_options options = {
		.mechanism = span_of(mechanism),
		.username = "user",
		.password = ours,
		.hostname = "smarthost.example",
	};
	memset(options.binding, same_channel ? 7 : 8, sizeof options.binding);
	struct login *auth;
	struct failure failure;
	assert_int_equal(login_new(&options, &auth, &failure), 0);
	bool good = converse(&server, auth);
	login_free(&auth);
	server_end(&server);
	return good;
}

static void
test_mechanisms(void **state)
{
	struct span list = login_mechanisms(true);
	(void)state;
	while (list.len > 0) {
		char name[32];
		assert_true(
		    span_to_cstring(span_cut(&list, ' '), name, sizeof name));
		assert_true(log_in(name, "open sesame", "open sesame", true));
		assert_false(log_in(name, "open sesame", "guess", true));
	}
}

/* Someone in the middle, who passes on what both say. */
static void
test_binding(void **state)
{
	(void)state;
	assert_false(log_in("SCRAM-SHA-256-PLUS", "secret", "secret", false));
	assert_true(log_in("SCRAM-SHA-256", "secret", "secret", false));
}

static void
test_bad_challenges(void **state)
{
	static const char *const table[] = { "!!!", "AAAA", "cj1h",
		"cj1hLHM9QUFBQSxpPTE=" };
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct login_options options = {
			.mechanism = SPAN("SCRAM-SHA-256"),
			.username = "user",
			.password = "secret",
			.hostname = "h",
		};
		struct login *auth;
		struct span response;
		assert_int_equal(login_new(&options, &auth, NULL), 0);
		assert_int_equal(login_step(auth, SPAN_EMPTY, &response), 0);
		assert_true(login_step(auth, span_of(table[i]), &response) < 0);
		assert_false(login_is_complete(auth));
		login_free(&auth);
	}
}

static void
test_unknown_mechanism(void **state)
{
	struct login_options options = {
		.mechanism = SPAN("NONSENSE"),
		.username = "user",
		.password = "secret",
		.hostname = "h",
	};
	struct login *auth = NULL;
	struct failure failure = { 0 };
	(void)state;
	assert_true(login_new(&options, &auth, &failure) < 0);
	assert_null(auth);
	assert_null(strstr(failure.text, "secret"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mechanisms),
		cmocka_unit_test(test_binding),
		cmocka_unit_test(test_bad_challenges),
		cmocka_unit_test(test_unknown_mechanism),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

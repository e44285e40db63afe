/* SPDX-License-Identifier: Apache-2.0 */

/* Whole AUTH exchanges against libgsasl's own client, and what no client of
 * good will sends. */

#include "../intake/door.h"
#include "receive/internal.h"

#include <fcntl.h>
#include <gsasl.h>
#include <sys/socket.h>

static struct door door;
static Gsasl *server_library, *client_library;
static struct stream *server_stream, *client_stream;
static struct netaddr peer;
/* The client could bind to the channel, but believes that we cannot. */
static bool claims_binding;

static int
on_client_ask(Gsasl *library, Gsasl_session *session, Gsasl_property property)
{
	unsigned char binding[32];
	char *text = NULL;
	size_t len = 0;

	(void)library;
	if ((int)property != GSASL_CB_TLS_EXPORTER ||
	    (!claims_binding &&
		strcmp(gsasl_mechanism_name(session), "SCRAM-SHA-256") == 0) ||
	    stream_channel_binding(client_stream, binding) < 0)
		return GSASL_NO_CALLBACK;
	assert_int_equal(GSASL_OK,
	    gsasl_base64_to((char *)binding, sizeof binding, &text, &len));
	(void)gsasl_property_set(session, property, text);
	gsasl_free(text);
	return GSASL_OK;
}

static void
open_streams(void)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;
	struct tls_context *server = NULL, *client = NULL;
	struct failure failure = { 0 };
	const struct tls_connect_options options = { 0 };
	int fds[2];

	assert_int_equal(
	    0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		   0, fds));
	assert_int_equal(
	    0, tls_make_self_signed("relay.example.org", &certificate, &key));
	assert_int_equal(0, tls_context_new_server_pem(buf_span(&certificate),
				buf_span(&key), &server, &failure));
	assert_int_equal(0, tls_context_new_client(NULL, &client, &failure));
	server_stream = stream_new(fds[0]);
	client_stream = stream_new(fds[1]);
	assert_int_equal(0, stream_accept_tls(server_stream, server));
	assert_int_equal(
	    0, stream_connect_tls(client_stream, client, &options));
	enum progress a = PROGRESS_WAIT, b = PROGRESS_WAIT;
	for (int i = 0; i < 20 && (a != PROGRESS_DONE || b != PROGRESS_DONE);
	     i++) {
		b = stream_handshake(client_stream);
		a = stream_handshake(server_stream);
	}
	assert_int_equal(PROGRESS_DONE, a);
	assert_int_equal(PROGRESS_DONE, b);
	tls_context_unref(&server);
	tls_context_unref(&client);
	buf_done(&certificate);
	buf_done(&key);
}

static int
setup(void **state)
{
	(void)state;
	door_open(&door, DOOR_CONFIG);
	assert_true(netaddr_parse_ip(SPAN("192.0.2.1"), &peer));
	server_library = auth_library_new();
	assert_int_equal(GSASL_OK, gsasl_init(&client_library));
	gsasl_callback_set(client_library, on_client_ask);
	open_streams();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	stream_free(&client_stream);
	stream_free(&server_stream);
	gsasl_done(client_library);
	gsasl_done(server_library);
	door_close(&door);
	return 0;
}

struct login {
	const char *mechanism, *username, *password, *authzid;
	bool initial; /* the client's first response rides on AUTH */
};

/* What the two say to each other, to the end. */
static enum auth_result
converse(const struct login *l, char tried[static 64], uint32_t *ret_credential)
{
	Gsasl_session *client;
	struct auth *a = auth_new(server_library, span_of(l->mechanism),
	    door.directory, &peer, server_stream);
	struct span challenge = SPAN_EMPTY;
	enum auth_result result = AUTH_CHALLENGE;
	bool first = true;

	assert_non_null(a);
	assert_int_equal(GSASL_OK,
	    gsasl_client_start(client_library, l->mechanism, &client));
	(void)gsasl_property_set(client, GSASL_AUTHID, l->username);
	(void)gsasl_property_set(client, GSASL_PASSWORD, l->password);
	if (l->authzid)
		(void)gsasl_property_set(client, GSASL_AUTHZID, l->authzid);
	if (!l->initial)
		result = auth_step(a, SPAN_EMPTY, &challenge);
	for (int i = 0; i < 8 && result == AUTH_CHALLENGE; i++) {
		AUTO_FREE char *asked = span_dup(challenge);
		char *said = NULL;
		/* LOGIN's client waits to be asked */
		if (first && l->initial && strcmp(l->mechanism, "LOGIN") == 0)
			asked[0] = '\0';
		first = false;
		int code = gsasl_step64(client, asked, &said);

		if (code != GSASL_OK && code != GSASL_NEEDS_MORE) {
			result = AUTH_FAILED; /* the client refuses us */
			break;
		}
		result = auth_step(
		    a, said[0] ? span_of(said) : SPAN(""), &challenge);
		gsasl_free(said);
	}
	(void)snprintf(tried, 64, "%s", auth_tried_name(a));
	*ret_credential = auth_identity(a)->credential;
	if (result == AUTH_DONE)
		assert_string_equal(l->username, auth_identity(a)->username);
	gsasl_finish(client);
	auth_free(&a);
	assert_null(a);
	return result;
}

static void
test_exchanges(void **state)
{
	const char *user = door.credential.username;
	const char *password = door.credential.password;
	static const char *const mechanisms[] = { "PLAIN", "LOGIN",
		"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" };

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		bool initial = i % 2 == 0;
		const char *mechanism = mechanisms[i / 2];
		bool has_authzid = i / 2 != 1;

		const struct {
			struct login login;
			bool good;
		} table[] = {
			{ { mechanism, user, password, NULL, initial }, true },
			{ { mechanism, user, password, user, initial }, true },
			{ { mechanism, user, "wrong", NULL, initial }, false },
			{ { mechanism, user, "", NULL, initial }, false },
			{ { mechanism, "nobody", password, NULL, initial },
			    false },
			{ { mechanism, user, password, "another", initial },
			    !has_authzid },
		};

		for (size_t j = 0; j < sizeof table / sizeof *table; j++) {
			char tried[64];
			uint32_t credential;
			enum auth_result result =
			    converse(&table[j].login, tried, &credential);

			if ((result == AUTH_DONE) != table[j].good)
				fail_msg("%s, row %zu: %d", mechanism, j,
				    (int)result);
			/* no password at all ends the exchange earlier */
			if (table[j].login.password[0] != '\0')
				assert_string_equal(
				    table[j].login.username, tried);
			assert_int_equal(
			    table[j].good ? door.credential.id : 0, credential);
		}
	}
}

static void
test_revoked_and_bound(void **state)
{
	static const char *const networks[] = { "198.51.100.0/24", NULL };
	const struct directory_new_credential bound = { .networks = networks };
	struct directory_made_credential made, gone;
	struct failure failure = { 0 };
	char tried[64];
	uint32_t credential;

	(void)state;
	assert_int_equal(0,
	    directory_add_credential(door.directory, &bound, &made, &failure));
	const struct directory_new_credential plain = { 0 };
	assert_int_equal(0,
	    directory_add_credential(door.directory, &plain, &gone, &failure));
	assert_int_equal(0, directory_revoke_credential(
				door.directory, gone.username, &failure));
	for (int i = 0; i < 2; i++) {
		const char *mechanism = i ? "SCRAM-SHA-256" : "PLAIN";
		const struct login from_elsewhere = { mechanism, made.username,
			made.password, NULL, true };
		const struct login revoked = { mechanism, gone.username,
			gone.password, NULL, true };

		assert_int_equal(
		    AUTH_FAILED, converse(&from_elsewhere, tried, &credential));
		assert_int_equal(
		    AUTH_FAILED, converse(&revoked, tried, &credential));
	}
}

/* RFC 5802 §6: somebody in between took SCRAM-SHA-256-PLUS out of our offer. */
static void
test_downgrade(void **state)
{
	const struct login login = { "SCRAM-SHA-256", door.credential.username,
		door.credential.password, NULL, true };
	char tried[64];
	uint32_t credential;

	(void)state;
	claims_binding = true;
	assert_int_equal(AUTH_FAILED, converse(&login, tried, &credential));
	claims_binding = false;
	assert_int_equal(AUTH_DONE, converse(&login, tried, &credential));
}

/* base64 of what a client of ill will sends */
static enum auth_result
send_raw(struct auth *a, const char *bytes, size_t len)
{
	char *text = NULL;
	size_t text_len;
	struct span challenge;

	assert_int_equal(
	    GSASL_OK, gsasl_base64_to(bytes, len, &text, &text_len));
	enum auth_result result = auth_step(
	    a, text_len > 0 ? span_from(text, text_len) : SPAN(""), &challenge);
	gsasl_free(text);
	return result;
}

static void
test_malformed(void **state)
{
	static const struct {
		const char *mechanism;
		struct span sent;
	} table[] = {
		{ "PLAIN", { "", 0 } },
		{ "PLAIN", { "x", 1 } },
		{ "PLAIN", { "\0", 1 } },
		{ "PLAIN", { "\0user", 5 } },
		{ "PLAIN", { "\0user\0pass\0more", 15 } },
		{ "PLAIN", { "\0\0", 2 } },
		{ "PLAIN", { "\0\xff\xfe\0\xff", 5 } },
		{ "LOGIN", { "", 0 } },
		{ "SCRAM-SHA-256", { "", 0 } },
		{ "SCRAM-SHA-256", { "x", 1 } },
		{ "SCRAM-SHA-256", { "n,,n=,r=", 8 } },
		{ "SCRAM-SHA-256", { "n,,n=user", 9 } },
		{ "SCRAM-SHA-256", { "p=tls-exporter,,n=user,r=abc", 28 } },
		{ "SCRAM-SHA-256-PLUS", { "n,,n=user,r=abc", 15 } },
		{ "SCRAM-SHA-256-PLUS", { "p=tls-unique,,n=user,r=abc", 26 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct auth *a =
		    auth_new(server_library, span_of(table[i].mechanism),
			door.directory, &peer, server_stream);
		enum auth_result result = AUTH_CHALLENGE;
		int steps = 0;

		/* again and again: nothing of this may go on for ever */
		while (result == AUTH_CHALLENGE && steps++ < 10)
			result =
			    send_raw(a, table[i].sent.ptr, table[i].sent.len);
		if (result != AUTH_FAILED && result != AUTH_MALFORMED)
			fail_msg("row %zu: %d", i, (int)result);
		assert_int_equal(0, auth_identity(a)->credential);
		auth_free(&a);
	}
}

static void
test_raw_base64(void **state)
{
	static const char *const table[] = { "*", "A", "AB", "ABC",
		"A===", "====", "AAAA AAAA", "\xff\xff\xff\xff" };
	struct span challenge;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct auth *a = auth_new(server_library, SPAN("PLAIN"),
		    door.directory, &peer, server_stream);
		enum auth_result result =
		    auth_step(a, span_of(table[i]), &challenge);

		if (result != AUTH_FAILED && result != AUTH_MALFORMED)
			fail_msg("row %zu: %d", i, (int)result);
		auth_free(&a);
	}
	struct auth *a = auth_new(server_library, SPAN("PLAIN"), door.directory,
	    &peer, server_stream);
	char *big = mem_alloc(12288);
	memset(big, 'A', 12288);
	assert_int_equal(
	    AUTH_MALFORMED, auth_step(a, span_from(big, 12288), &challenge));
	mem_free(big);
	auth_free(&a);
	assert_null(auth_new(server_library, SPAN("CRAM-MD5"), door.directory,
	    &peer, server_stream));
	assert_null(auth_new(
	    server_library, SPAN(""), door.directory, &peer, server_stream));
}

/* A name that nobody has gets the same salt each time. */
static void
test_decoy(void **state)
{
	struct span challenge;
	char first[256] = "", again[256] = "";

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct auth *a = auth_new(server_library, SPAN("SCRAM-SHA-256"),
		    door.directory, &peer, server_stream);
		char *raw = NULL;
		size_t len = 0;

		/* n,,n=nobody,r=abc */
		assert_int_equal(AUTH_CHALLENGE,
		    auth_step(a, SPAN("biwsbj1ub2JvZHkscj1hYmM="), &challenge));
		assert_int_equal(GSASL_OK, gsasl_base64_from(challenge.ptr,
					       challenge.len, &raw, &len));
		struct span text = span_from(raw, len);
		size_t at = span_search(text, SPAN(",s="));
		assert_true(at != SIZE_MAX);
		assert_true(span_to_cstring(
		    span_skip(text, at), i ? again : first, sizeof first));
		gsasl_free(raw);
		auth_free(&a);
	}
	assert_string_equal(first, again);
	assert_non_null(strstr(first, ",i=4096"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchanges),
		cmocka_unit_test(test_revoked_and_bound),
		cmocka_unit_test(test_downgrade),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_raw_base64),
		cmocka_unit_test(test_decoy),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

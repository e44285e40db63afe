/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

/* Stories of finding a server that takes the mail: MX hosts, addresses,
 * greetings, TLS and passwords. */

#define EVENT(type) "\"type\":\"" type "\""
#define STARTTLS "250-peer.example\r\n250-STARTTLS\r\n250 PIPELINING"
#define PLAIN "250-peer.example\r\n250 PIPELINING"

static const struct stage_mail simple = {
	.body = "Subject: a\r\n\r\nhello\r\n",
	.rcpts = { "a@y.example" },
};

static const struct peer_script friendly = { .banner = NULL };

struct story {
	struct peer peers[2]; /* at 127.0.0.1 and 127.0.0.2, one port */
	size_t peer_count;
	struct stage stage;
};

static struct tls_context *
make_tls(void)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;
	struct tls_context *context = NULL;
	struct failure failure = { .text = "" };
	assert_int_equal(
	    tls_make_self_signed("mx1.y.example", &certificate, &key), 0);
	stage_check(tls_context_new_server_pem(buf_span(&certificate),
			buf_span(&key), &context, &failure),
	    &failure);
	buf_done(&certificate);
	buf_done(&key);
	return context;
}

/* `second`: 127.0.0.2 has a server, too. */
static void
begin_peers(struct story *s, const struct peer_script *first, size_t count,
    const struct peer_script *second, bool tls)
{
	struct netaddr address = peer_ip("127.0.0.1", 0);
	s->peers[0].tls = tls ? make_tls() : NULL;
	peer_start(&s->peers[0], &address, first, count);
	s->peer_count = 1;
	if (second == NULL)
		return;
	address = peer_ip("127.0.0.2", s->peers[0].address.port);
	s->peers[1].tls = NULL;
	peer_start(&s->peers[1], &address, second, 1);
	s->peer_count = 2;
}

static void
begin_stage(struct story *s, const char *deliver, const char *more)
{
	char *AUTO_FREE port =
	    mem_printf("%u", (unsigned)s->peers[0].address.port);
	if (strstr(deliver, "deliver: mx") != NULL) {
		char *AUTO_FREE with_port = mem_printf(
		    "  - {domains: [\"*\"], %s, port: %s}\n", deliver, port);
		stage_open(&s->stage, with_port, more);
		return;
	}
	char *AUTO_FREE with_host = mem_printf("  - {domains: [\"*\"], "
					       "to: \"127.0.0.1:%s\", %s}\n",
	    port, deliver);
	stage_open(&s->stage, with_host, more);
}

static void
end(struct story *s)
{
	stage_close(&s->stage);
	for (size_t i = 0; i < s->peer_count; i++)
		peer_stop(&s->peers[i]);
	fake_answers = NULL;
	fake_answer_count = 0;
}

static const struct fake_answer two_hosts[] = { {
    .domain = "y.example",
    .hosts = { { "mx1.y.example", "127.0.0.1", 10 },
	{ "mx2.y.example", "127.0.0.2", 20 } },
} };

static void
use_answers(const struct fake_answer *answers, size_t count)
{
	fake_answers = answers;
	fake_answer_count = count;
}

static void
test_hosts_in_order(void **state)
{
	struct story s;
	(void)state;
	use_answers(two_hosts, 1);
	begin_peers(&s, &friendly, 1, &friendly, false);
	begin_stage(&s, "deliver: mx", "");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	assert_int_equal(peer_connections(&s.peers[0]), 1);
	assert_int_equal(peer_connections(&s.peers[1]), 0);
	assert_int_equal(
	    stage_count(&s.stage, "\"peer_host\":\"mx1.y.example\""), 1);
	assert_int_equal(stage_count(&s.stage, "\"site\":\"mx mx1"), 1);
	end(&s);
}

/* What makes the first host useless, and the next one is tried. */
static void
test_falls_back(void **state)
{
	static const struct peer_script table[] = {
		{ .banner = "554 5.7.1 go away" },
		{ .banner = "521 5.3.2 no mail here" },
		{ .banner = "421 4.3.2 not now" },
		{ .banner = "" },
		{ .banner = "junk" },
		{ .hello = "451 4.3.0 not today" },
		{ .hello = "" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		use_answers(two_hosts, 1);
		begin_peers(&s, &table[i], 1, &friendly, false);
		begin_stage(&s, "deliver: mx", "");
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, EVENT("delivered"), 1);
		assert_int_equal(
		    stage_count(&s.stage, "\"peer_host\":\"mx2.y"), 1);
		assert_int_equal(stage_count(&s.stage, EVENT("deferred")), 0);
		assert_int_equal(peer_connections(&s.peers[0]), 1);
		end(&s);
	}
}

/* The dead host does not cost the next connection its time. */
static void
test_avoids_dead_host(void **state)
{
	static const struct peer_script refusing = {
		.banner = "421 4.3.2 not now",
	};
	struct story s;
	(void)state;
	use_answers(two_hosts, 1);
	begin_peers(&s, &refusing, 1, &friendly, false);
	begin_stage(&s, "deliver: mx", "delivery: {idle_time: 0s}\n");
	for (unsigned i = 1; i <= 3; i++) {
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, EVENT("delivered"), i);
	}
	assert_int_equal(peer_connections(&s.peers[0]), 1);
	assert_int_equal(peer_connections(&s.peers[1]), 3);
	end(&s);
}

static void
test_refused_for_good(void **state)
{
	static const struct peer_script never = {
		.banner = "521 5.3.2 no mail here",
	};
	struct story s;
	(void)state;
	use_answers(two_hosts, 1);
	begin_peers(&s, &never, 1, &never, false);
	begin_stage(&s, "deliver: mx", "");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("bounced"), 1);
	assert_int_equal(stage_count(&s.stage, "\"step\":\"banner\""), 1);
	stage_await_reports(&s.stage, 1);
	assert_true(stage_report_says(&s.stage, "Status: 5.3.2"));
	end(&s);
}

/* 554 of all hosts speaks of us: the mail waits. */
static void
test_refused_for_now(void **state)
{
	static const struct peer_script blocked = {
		.banner = "554 5.7.1 you are on a list",
	};
	struct story s;
	(void)state;
	use_answers(two_hosts, 1);
	begin_peers(&s, &blocked, 1, &blocked, false);
	begin_stage(&s, "deliver: mx", "");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("deferred"), 1);
	assert_int_equal(stage_count(&s.stage, "you are on a list"), 1);
	assert_int_equal(stage_live(&s.stage), 1);
	end(&s);
}

static void
test_nobody_listens(void **state)
{
	struct stage_mail mail = simple;
	struct story s;
	(void)state;
	begin_peers(&s, &friendly, 1, NULL, false);
	begin_stage(&s, "deliver: smtp",
	    "retry: {schedule: [10ms], jitter_percent: 0}\n");
	peer_stop(&s.peers[0]);
	s.peer_count = 0;
	mail.expire_in_us = 300 * US_PER_MS;
	(void)stage_submit(&s.stage, &mail);
	stage_run_until(&s.stage, EVENT("deferred"), 1);
	assert_int_equal(stage_count(&s.stage, "\"step\":\"connect\""), 1);
	assert_int_equal(stage_count(&s.stage, "\"enhanced\":\"4.4.1\""), 1);
	stage_run_until(&s.stage, EVENT("expired"), 1);
	stage_await_reports(&s.stage, 1);
	assert_true(stage_report_says(&s.stage, "Status: 5.4.7"));
	assert_true(stage_report_says(&s.stage, "onnection refused"));
	assert_int_equal(stage_live(&s.stage), 0);
	end(&s);
}

static void
test_lookups_that_fail(void **state)
{
	static const struct {
		enum resolve_result result;
		const char *event, *enhanced;
		bool report;
	} table[] = {
		{ RESOLVE_NO_DOMAIN, EVENT("bounced"), "\"5.1.2\"", true },
		{ RESOLVE_NULL_MX, EVENT("bounced"), "\"5.1.10\"", true },
		{ RESOLVE_NO_ADDRESS, EVENT("bounced"), "\"5.4.4\"", true },
		{ RESOLVE_LOOP, EVENT("bounced"), "\"5.4.6\"", true },
		{ RESOLVE_TEMPORARY, EVENT("deferred"), "\"4.4.3\"", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct fake_answer answer = {
			.domain = "y.example",
			.result = table[i].result,
		};
		struct story s;
		use_answers(&answer, 1);
		begin_peers(&s, &friendly, 1, NULL, false);
		begin_stage(&s, "deliver: mx", "");
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, table[i].event, 1);
		assert_int_equal(stage_count(&s.stage, table[i].enhanced), 1);
		assert_int_equal(
		    stage_count(&s.stage, "\"step\":\"resolve\""), 1);
		stage_await_reports(&s.stage, table[i].report);
		assert_int_equal(stage_live(&s.stage), !table[i].report);
		end(&s);
	}
}

/* However many addresses a host has, some of each family are tried. */
static void
test_both_families(void **state)
{
	static const struct {
		size_t six, four, left_six, left_four;
	} table[] = {
		{ 0, 1, 0, 1 },
		{ 1, 0, 1, 0 },
		{ 3, 5, 3, 5 },
		{ 8, 1, 7, 1 },
		{ 8, 8, 4, 4 },
		{ 2, 8, 2, 6 },
		{ 8, 0, 8, 0 },
		{ 0, 8, 0, 8 },
	};
	struct stage s;
	(void)state;
	stage_open(&s, "  - {domains: [\"*\"], deliver: mx}\n", "");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct netaddr addresses[16];
		struct resolve_host host = {
			.name = "mx.y.example",
			.addresses = addresses,
			.address_count = table[i].six + table[i].four,
		};
		for (size_t k = 0; k < host.address_count; k++)
			addresses[k] = peer_ip(
			    k < table[i].six ? "2001:db8::1" : "192.0.2.1", 0);
		struct plan *plan = plan_new(
		    s.config, config_route_for(s.config, SPAN("y.example")));
		plan_add_host(plan, &host);
		size_t six = 0;
		for (size_t k = 0; k < plan->address_count; k++)
			six += plan->addresses[k].address.family == NETADDR_IP6;
		assert_int_equal(six, table[i].left_six);
		assert_int_equal(plan->address_count - six, table[i].left_four);
		plan_unref(&plan);
	}
	stage_close(&s);
}

/* RFC 5321 §5.1: hosts behind our own name are not for us to try. */
static void
test_own_name_among_hosts(void **state)
{
	static const struct fake_answer best_is_us[] = { {
	    .domain = "y.example",
	    .hosts = { { "relay.example.com", "127.0.0.1", 10 },
		{ "mx2.y.example", "127.0.0.2", 20 } },
	} };
	static const struct fake_answer second_is_us[] = { {
	    .domain = "y.example",
	    .hosts = { { "mx1.y.example", "127.0.0.1", 10 },
		{ "relay.example.com", "127.0.0.2", 20 } },
	} };
	static const struct peer_script refusing = { .banner = "421 no" };
	struct story s;
	(void)state;
	use_answers(best_is_us, 1);
	begin_peers(&s, &friendly, 1, &friendly, false);
	begin_stage(&s, "deliver: mx", "");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("bounced"), 1);
	assert_int_equal(stage_count(&s.stage, "\"5.4.6\""), 1);
	end(&s);

	use_answers(second_is_us, 1);
	begin_peers(&s, &refusing, 1, &friendly, false);
	begin_stage(&s, "deliver: mx", "");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("deferred"), 1);
	assert_int_equal(peer_connections(&s.peers[1]), 0);
	end(&s);
}

static void
test_address_literals(void **state)
{
	struct stage_mail mail = simple;
	struct story s;
	(void)state;
	mail.rcpts[0] = "a@[127.0.0.1]";
	begin_peers(&s, &friendly, 1, NULL, false);
	begin_stage(&s, "deliver: mx", "");
	(void)stage_submit(&s.stage, &mail);
	stage_run_until(&s.stage, EVENT("bounced"), 1);
	assert_int_equal(peer_connections(&s.peers[0]), 0);
	end(&s);

	begin_peers(&s, &friendly, 1, NULL, false);
	begin_stage(&s, "deliver: mx", "delivery: {private_networks: allow}\n");
	(void)stage_submit(&s.stage, &mail);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	end(&s);
}

/* ---- TLS ---- */

static void
test_opportunistic(void **state)
{
	static const struct {
		struct peer_script script;
		bool tls; /* the server can do it */
		unsigned connections;
		bool encrypted;
	} table[] = {
		{ { .hello = STARTTLS }, true, 1, true },
		{ { .hello = PLAIN }, true, 1, false },
		{ { .hello = STARTTLS, .starttls = "454 4.7.0 later" }, true, 1,
		    false },
		/* offered, and then not spoken: once more without */
		{ { .hello = STARTTLS }, false, 2, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		begin_peers(&s, &table[i].script, 1, NULL, table[i].tls);
		begin_stage(&s, "deliver: smtp", "");
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, EVENT("delivered"), 1);
		assert_int_equal(
		    peer_connections(&s.peers[0]), table[i].connections);
		assert_int_equal(stage_count(&s.stage, "\"tls\":\"TLSv1.3"),
		    table[i].encrypted);
		assert_int_equal(stage_count(&s.stage, EVENT("deferred")), 0);
		end(&s);
	}
}

/* What broke is remembered: the second message does not try TLS again. */
static void
test_broken_tls_is_remembered(void **state)
{
	static const struct peer_script script = { .hello = STARTTLS };
	struct story s;
	(void)state;
	begin_peers(&s, &script, 1, NULL, false);
	begin_stage(&s, "deliver: smtp", "delivery: {idle_time: 0s}\n");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("delivered"), 2);
	assert_int_equal(peer_connections(&s.peers[0]), 3);
	end(&s);
}

/* Its TLS is broken for now, and without it takes no mail. */
static void
test_broken_tls_is_insisted_on(void **state)
{
	static const struct peer_script table[] = {
		{ .hello = STARTTLS,
		    .mail = "530 5.7.0 Must issue a STARTTLS command first" },
		{ .hello = STARTTLS,
		    .starttls = "454 4.7.0 TLS not available",
		    .mail = "530 5.7.0 Must issue a STARTTLS command first" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		begin_peers(&s, &table[i], 1, NULL, i == 1);
		begin_stage(&s, "deliver: smtp", "");
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, EVENT("deferred"), 1);
		assert_int_equal(stage_count(&s.stage, EVENT("bounced")), 0);
		assert_int_equal(stage_live(&s.stage), 1);
		end(&s);
	}
}

static void
test_required(void **state)
{
	static const struct {
		struct peer_script script;
		bool tls, verify;
		const char *enhanced; /* NULL: delivered */
	} table[] = {
		{ { .hello = STARTTLS }, true, false, NULL },
		{ { .hello = STARTTLS }, true, true, "\"4.7.5\"" },
		{ { .hello = STARTTLS }, false, false, "\"4.7.5\"" },
		{ { .hello = PLAIN }, true, false, "\"4.7.10\"" },
		{ { .hello = STARTTLS, .starttls = "454 4.7.0 no" }, true,
		    false, "\"4.7.10\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		begin_peers(&s, &table[i].script, 1, NULL, table[i].tls);
		begin_stage(&s,
		    table[i].verify
			? "deliver: smtp, tls: require"
			: "deliver: smtp, tls: require, tls_verify: false",
		    "");
		(void)stage_submit(&s.stage, &simple);
		if (table[i].enhanced == NULL) {
			stage_run_until(&s.stage, EVENT("delivered"), 1);
			assert_int_equal(
			    stage_count(&s.stage, "\"tls\":\"TLSv1.3"), 1);
		} else {
			stage_run_until(&s.stage, EVENT("deferred"), 1);
			assert_int_equal(
			    stage_count(&s.stage, table[i].enhanced), 1);
			assert_false(peer_heard(&s.peers[0], "MAIL FROM"));
		}
		end(&s);
	}
}

/* ---- AUTH ---- */

#define AUTH_ROUTE                                                             \
	"deliver: smtp, tls: %s, tls_verify: false, username: user, "          \
	"password_file: \"%s\""

static void
begin_auth(struct story *s, const char *tls, const char *more)
{
	char path[] = "/tmp/deliver-test-password.XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "open sesame\n", 12), 12);
	(void)close(fd);
	char *AUTO_FREE route = mem_printf(AUTH_ROUTE, tls, path);
	begin_stage(s, route, more);
	(void)unlink(path);
}

static void
test_auth(void **state)
{
	static const struct peer_script script = {
		.hello = "250-peer.example\r\n250-STARTTLS\r\n250 AUTH PLAIN",
	};
	struct story s;
	(void)state;
	begin_peers(&s, &script, 1, NULL, true);
	begin_auth(&s, "require", "");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	/* "\0user\0open sesame" */
	assert_true(
	    peer_heard(&s.peers[0], "AUTH PLAIN AHVzZXIAb3BlbiBzZXNhbWU="));
	end(&s);
}

static void
test_auth_fails(void **state)
{
	static const struct {
		struct peer_script script;
		bool tls;
	} table[] = {
		{ { .hello = "250-p\r\n250-STARTTLS\r\n250 AUTH PLAIN",
		      .auth = "535 5.7.8 wrong" },
		    true },
		/* no mechanism that we know */
		{ { .hello = "250-p\r\n250-STARTTLS\r\n250 AUTH GSSAPI" },
		    true },
		/* TLS is broken: the password must not go out without it */
		{ { .hello = "250-p\r\n250-STARTTLS\r\n250 AUTH PLAIN" },
		    false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		begin_peers(&s, &table[i].script, 1, NULL, table[i].tls);
		begin_auth(&s, "opportunistic", "");
		(void)stage_submit(&s.stage, &simple);
		/* a wrong password is the operator's to mend */
		stage_run_until(&s.stage, EVENT("deferred"), 1);
		assert_int_equal(stage_count(&s.stage, EVENT("bounced")), 0);
		assert_false(peer_heard(&s.peers[0], "MAIL FROM"));
		if (!table[i].tls)
			assert_false(peer_heard(&s.peers[0], "AUTH"));
		end(&s);
	}
}

/* A trace shows the dialogue, but neither passwords nor mail. */
static void
test_tap(void **state)
{
	static const struct peer_script script = {
		.hello = "250-peer.example\r\n250-STARTTLS\r\n250 AUTH PLAIN",
	};
	struct story s;
	struct buf lines = BUF_EMPTY;
	(void)state;
	struct tap_listener *listener = tap_listen(SPAN_EMPTY);
	begin_peers(&s, &script, 1, NULL, true);
	begin_auth(&s, "require", "");
	(void)stage_submit(&s.stage, &simple);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	while (tap_read(listener, 0, &lines) > 0)
		continue;
	const char *text = buf_cstring(&lines);
	assert_non_null(strstr(text, "EHLO relay.example.com"));
	assert_non_null(strstr(text, "250 2.1.5 recipient ok"));
	assert_non_null(strstr(text, "RCPT TO:<a@y.example>"));
	assert_null(strstr(text, "AHVzZXIAb3BlbiBzZXNhbWU="));
	assert_null(strstr(text, "hello"));
	assert_null(strstr(text, "Subject"));
	buf_done(&lines);
	tap_listener_free(&listener);
	end(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts_in_order),
		cmocka_unit_test(test_falls_back),
		cmocka_unit_test(test_avoids_dead_host),
		cmocka_unit_test(test_refused_for_good),
		cmocka_unit_test(test_refused_for_now),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_lookups_that_fail),
		cmocka_unit_test(test_both_families),
		cmocka_unit_test(test_own_name_among_hosts),
		cmocka_unit_test(test_address_literals),
		cmocka_unit_test(test_opportunistic),
		cmocka_unit_test(test_broken_tls_is_remembered),
		cmocka_unit_test(test_broken_tls_is_insisted_on),
		cmocka_unit_test(test_required),
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_auth_fails),
		cmocka_unit_test(test_tap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

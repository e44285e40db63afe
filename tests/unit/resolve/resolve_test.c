/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "dns_server.h"
#include "os/clock.h"
#include "resolve/internal.h"
#include "resolve/proof.h"
#include "resolve/resolve.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

static const struct dns_record records[] = {
	{ "plain.example", DNS_MX, "10 mx1.example", 0 },
	{ "plain.example", DNS_MX, "20 mx2.example", 0 },
	{ "twin.example", DNS_MX, "5 mx2.example", 0 },
	{ "twin.example", DNS_MX, "7 MX1.Example", 0 },
	{ "mx0.example", DNS_A, "192.0.2.9", 0 },
	{ "mx1.example", DNS_A, "192.0.2.1", 0 },
	{ "mx1.example", DNS_AAAA, "2001:db8::1", 0 },
	{ "mx2.example", DNS_A, "192.0.2.2", 0 },
	{ "alias.example", DNS_CNAME, "plain.example", 0 },
	{ "to-alias.example", DNS_MX, "10 mx-alias.example", 0 },
	{ "mx-alias.example", DNS_CNAME, "mx1.example", 0 },
	{ "implicit.example", DNS_A, "192.0.2.3", 0 },
	{ "null.example", DNS_MX, "0 ", 0 },
	{ "half-null.example", DNS_MX, "0 ", 0 },
	{ "half-null.example", DNS_MX, "10 mx1.example", 0 },
	{ "nothing.example", 16, "", 0 },
	{ "dangling.example", DNS_MX, "10 missing.example", 0 },
	{ "lame.example", DNS_MX, "10 mx.servfail.example", 0 },
	{ "half-lame.example", DNS_MX, "10 mx.servfail.example", 0 },
	{ "half-lame.example", DNS_MX, "20 mx2.example", 0 },
	{ "half-silent.example", DNS_MX, "10 mx.silent.example", 0 },
	{ "half-silent.example", DNS_MX, "20 mx2.example", 0 },
	{ "inside.example", DNS_MX, "10 lo.example", 0 },
	{ "half-inside.example", DNS_MX, "10 lo.example", 0 },
	{ "half-inside.example", DNS_MX, "20 public.example", 0 },
	{ "lo.example", DNS_A, "127.0.0.1", 0 },
	{ "lo.example", DNS_AAAA, "::ffff:10.1.2.3", 0 },
	{ "public.example", DNS_A, "9.9.9.9", 0 },
	{ "loop.example", DNS_MX, "10 us.example", 0 },
	{ "loop.example", DNS_MX, "20 mx1.example", 0 },
	{ "backup.example", DNS_MX, "10 mx1.example", 0 },
	{ "backup.example", DNS_MX, "20 us.example", 0 },
	{ "backup.example", DNS_MX, "30 mx2.example", 0 },
	{ "us.example", DNS_A, "192.0.2.4", 0 },
	{ "many.example", DNS_MX, "", 1500 },
	{ "_smtp._tls.plain.example", 16, "v=TLSRPTv1; rua=mailto:a@b.example",
	    0 },
	{ "reserved.test", DNS_MX, "10 mx1.example", 0 },
};

static struct dns_server *server;
static struct loop *loop;

/* The answer as a line: "OK mx1.example/10:2001:db8::1,192.0.2.1 …". */
struct caught {
	unsigned count;
	enum resolve_result result;
	bool is_implicit;
	size_t hosts;
	char text[2000], problem[256], site[256];
	int64_t valid_until_us;
};

static void
on_answer(void *arg, const struct resolve_answer *answer)
{
	struct caught *c = arg;
	char ip[NETADDR_TEXT_SIZE];
	size_t len = 0;

	c->count++;
	c->result = answer->result;
	c->is_implicit = answer->implicit_mx;
	c->hosts = answer->host_count;
	c->valid_until_us = answer->valid_until_us;
	c->text[0] = '\0';
	(void)snprintf(c->problem, sizeof c->problem, "%s", answer->problem);
	(void)snprintf(
	    c->site, sizeof c->site, "%s", answer->site ? answer->site : "");
	for (size_t i = 0; i < answer->host_count; i++) {
		const struct resolve_host *h = &answer->hosts[i];
		len += (size_t)snprintf(c->text + len, sizeof c->text - len,
		    "%s%s/%u:", i ? " " : "", h->name, h->preference);
		for (size_t n = 0; n < h->address_count; n++)
			len += (size_t)snprintf(c->text + len,
			    sizeof c->text - len, "%s%s", n ? "," : "",
			    netaddr_format_ip(&h->addresses[n], ip));
		assert_int_equal(h->problem == NULL, h->address_count > 0);
		assert_true(len < sizeof c->text);
	}
}

static struct resolver *
resolver_make(struct resolver_options options)
{
	struct netaddr address = dns_server_address(server);
	struct resolver *r = NULL;
	struct failure failure = { 0 };

	options.servers = &address;
	options.server_count = 1;
	if (!options.timeout_us)
		options.timeout_us = 8 * US_PER_S;
	if (resolver_new(loop, &options, &r, &failure) < 0)
		fail_msg("%s", failure.text);
	return r;
}

static void
wait_for(const struct caught *c)
{
	int64_t end_us = clock_monotonic_us() + 10 * US_PER_S;

	while (!c->count && clock_monotonic_us() < end_us)
		assert_int_equal(loop_turn(loop, US_PER_S), 0);
	assert_int_equal(c->count, 1);
}

static struct caught
ask(struct resolver *r, const char *domain)
{
	struct caught c = { 0 };

	struct resolve_query *q = resolve_mx(r, span_of(domain), on_answer, &c);
	assert_int_equal(q == NULL, c.count > 0);
	wait_for(&c);
	return c;
}

static const struct resolver_options lenient = { .allow_private = true,
	.hostname = "us.example" };

static const struct {
	const char *domain;
	enum resolve_result result;
	const char *text, *site;
} domain_cases[] = {
	/* clang-format off */
	{ "plain.example", RESOLVE_OK,
	  "mx1.example/10:2001:db8::1,192.0.2.1 "
	  "mx2.example/20:192.0.2.2", "mx1.example+mx2.example" },
	{ "PLAIN.example.", RESOLVE_OK,
	  "mx1.example/10:2001:db8::1,192.0.2.1 "
	  "mx2.example/20:192.0.2.2", "mx1.example+mx2.example" },
	{ "twin.example", RESOLVE_OK,
	  "mx2.example/5:192.0.2.2 "
	  "mx1.example/7:2001:db8::1,192.0.2.1",
	  "mx1.example+mx2.example" },
	{ "alias.example", RESOLVE_OK,
	  "mx1.example/10:2001:db8::1,192.0.2.1 "
	  "mx2.example/20:192.0.2.2", "mx1.example+mx2.example" },
	{ "to-alias.example", RESOLVE_OK,
	  "mx-alias.example/10:2001:db8::1,192.0.2.1",
	  "mx-alias.example" },
	{ "implicit.example", RESOLVE_OK,
	  "implicit.example/0:192.0.2.3", "implicit.example" },
	{ "half-null.example", RESOLVE_OK,
	  "mx1.example/10:2001:db8::1,192.0.2.1", "mx1.example" },
	{ "half-lame.example", RESOLVE_OK,
	  "mx.servfail.example/10: mx2.example/20:192.0.2.2",
	  "mx.servfail.example+mx2.example" },
	{ "backup.example", RESOLVE_OK,
	  "mx1.example/10:2001:db8::1,192.0.2.1", "mx1.example" },
	{ "reserved.test", RESOLVE_OK,
	  "mx1.example/10:2001:db8::1,192.0.2.1", "mx1.example" },
	{ "[192.0.2.77]", RESOLVE_OK,
	  "192.0.2.77/0:192.0.2.77", "192.0.2.77" },
	{ "[IPv6:2001:db8::7]", RESOLVE_OK,
	  "2001:db8::7/0:2001:db8::7", "2001:db8::7" },
	{ "192.0.2.77", RESOLVE_NO_DOMAIN, "", "" },
	{ "missing.example", RESOLVE_NO_DOMAIN, "", "" },
	{ "not a name", RESOLVE_NO_DOMAIN, "", "" },
	{ "", RESOLVE_NO_DOMAIN, "", "" },
	{ "[]", RESOLVE_NO_DOMAIN, "", "" },
	{ "null.example", RESOLVE_NULL_MX, "", "" },
	{ "nothing.example", RESOLVE_NO_ADDRESS,
	  "nothing.example/0:", "" },
	{ "dangling.example", RESOLVE_NO_ADDRESS,
	  "missing.example/10:", "" },
	{ "lame.example", RESOLVE_TEMPORARY,
	  "mx.servfail.example/10:", "" },
	{ "x.servfail.example", RESOLVE_TEMPORARY, "", "" },
	{ "x.refused.example", RESOLVE_TEMPORARY, "", "" },
	{ "loop.example", RESOLVE_LOOP, "", "" },
	{ "us.example", RESOLVE_LOOP, "", "" },
	/* clang-format on */
};

static void
domains_lead_to_hosts(void **state)
{
	struct resolver *r = resolver_make(lenient);
	(void)state;

	for (size_t i = 0; i < sizeof domain_cases / sizeof *domain_cases;
	     i++) {
		struct caught c = ask(r, domain_cases[i].domain);
		if (c.result != domain_cases[i].result)
			fail_msg("%s: %d: %s", domain_cases[i].domain, c.result,
			    c.problem);
		assert_string_equal(c.text, domain_cases[i].text);
		assert_string_equal(c.site, domain_cases[i].site);
		assert_int_equal(c.problem[0] != '\0', c.result != RESOLVE_OK);
		assert_true(c.valid_until_us > loop_now_us(loop));
	}
	resolver_free(&r);
}

static void
private_hosts_are_refused(void **state)
{
	struct resolver *r = resolver_make((struct resolver_options){ 0 });
	(void)state;

	assert_int_equal(ask(r, "inside.example").result, RESOLVE_PRIVATE);
	assert_int_equal(ask(r, "[127.0.0.1]").result, RESOLVE_PRIVATE);
	struct caught c = ask(r, "half-inside.example");
	assert_int_equal(c.result, RESOLVE_OK);
	assert_string_equal(c.text, "lo.example/10: public.example/20:9.9.9.9");
	/* A smarthost may be anywhere. */
	c = (struct caught){ 0 };
	(void)resolve_host(r, SPAN("lo.example"), on_answer, &c);
	wait_for(&c);
	assert_int_equal(c.result, RESOLVE_OK);
	c = (struct caught){ 0 };
	assert_null(resolve_host(r, SPAN("127.0.0.1"), on_answer, &c));
	assert_int_equal(c.result, RESOLVE_OK);
	assert_string_equal(c.text, "127.0.0.1/0:127.0.0.1");
	c = (struct caught){ 0 };
	(void)resolve_host(r, SPAN("missing.example"), on_answer, &c);
	wait_for(&c);
	assert_int_equal(c.result, RESOLVE_NO_DOMAIN);
	resolver_free(&r);
}

static void
silence_ends_in_time(void **state)
{
	struct resolver_options options = lenient;
	(void)state;

	options.timeout_us = 300 * US_PER_MS;
	struct resolver *r = resolver_make(options);
	int64_t before_us = clock_monotonic_us();
	struct caught c = ask(r, "x.silent.example");
	assert_int_equal(c.result, RESOLVE_TEMPORARY);
	assert_in_range(
	    clock_monotonic_us() - before_us, 250 * US_PER_MS, 2 * US_PER_S);
	/* What is known by then counts. */
	c = ask(r, "half-silent.example");
	assert_int_equal(c.result, RESOLVE_OK);
	assert_string_equal(
	    c.text, "mx.silent.example/10: mx2.example/20:192.0.2.2");
	struct resolver_stats stats;
	resolver_stats(r, &stats);
	assert_int_equal(stats.pending, 0);
	assert_int_equal(stats.failures, 1);
	resolver_free(&r);
}

static void
thousands_of_hosts_are_bounded(void **state)
{
	struct resolver *r = resolver_make(lenient);
	(void)state;

	struct caught c = ask(r, "many.example");
	assert_int_equal(c.result, RESOLVE_OK);
	assert_int_equal(c.hosts, HOSTS_MAX);
	assert_non_null(strstr(c.text, "mx0.example/0:192.0.2.9 mx1.ex"));
	struct resolver_stats stats;
	resolver_stats(r, &stats);
	assert_int_equal(stats.questions, 1 + 2 * HOSTS_MAX);
	assert_true(strlen(c.site) < SITE_SIZE);
	resolver_free(&r);
}

static void
one_flight_then_the_cache(void **state)
{
	struct resolver *r = resolver_make(lenient);
	unsigned before = dns_server_mx_questions(server);
	struct caught c[10] = { 0 };
	struct resolve_query *q[10];
	struct resolver_stats stats;
	(void)state;

	for (unsigned i = 0; i < 10; i++) {
		q[i] = resolve_mx(r, SPAN("plain.example"), on_answer, &c[i]);
		assert_non_null(q[i]);
	}
	resolve_cancel(&q[3]);
	assert_null(q[3]);
	resolve_cancel(&q[3]);
	wait_for(&c[9]);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(c[i].count, i != 3);
	assert_int_equal(dns_server_mx_questions(server) - before, 1);
	assert_null(resolve_mx(r, SPAN("Plain.Example"), on_answer, &c[3]));
	assert_int_equal(c[3].count, 1);
	resolver_stats(r, &stats);
	assert_int_equal(stats.cache_hits, 1);
	assert_int_equal(stats.cached, 1);
	assert_int_equal(dns_server_mx_questions(server) - before, 1);
	resolver_free(&r);
}

struct again {
	struct resolver *r;
	struct resolve_query *other;
	struct caught inner;
	unsigned count;
};

/* Asks again and cancels a neighbour from inside of a callback. */
static void
on_again(void *arg, const struct resolve_answer *answer)
{
	struct again *a = arg;

	a->count++;
	resolve_cancel(&a->other);
	(void)resolve_mx(a->r, SPAN("[192.0.2.1]"), on_answer, &a->inner);
	assert_int_equal(a->inner.result, RESOLVE_OK);
	assert_string_equal(answer->hosts[0].name, "mx1.example");
}

static void
callbacks_may_ask_and_cancel(void **state)
{
	struct again a = { .r = resolver_make(lenient) };
	struct caught never = { 0 }, last = { 0 };
	(void)state;

	(void)resolve_mx(a.r, SPAN("plain.example"), on_again, &a);
	a.other = resolve_mx(a.r, SPAN("plain.example"), on_answer, &never);
	(void)resolve_mx(a.r, SPAN("plain.example"), on_answer, &last);
	wait_for(&last);
	assert_int_equal(a.count, 1);
	assert_int_equal(a.inner.count, 1);
	assert_int_equal(never.count, 0);
	resolver_free(&a.r);
}

/* A resolver that has been answered this; but the answer is past its time, here
 * and in libunbound, and the servers fail. */
static struct resolver *
in_trouble(const char *domain, enum resolve_result answer)
{
	char *AUTO_FREE key = mem_printf("m%s", domain);
	char *AUTO_FREE zone = mem_printf("%s.", domain);
	struct resolver_options options = lenient;

	options.timeout_us = 500 * US_PER_MS;
	struct resolver *r = resolver_make(options);
	assert_int_equal(ask(r, domain).result, answer);
	struct entry *e = cache_find(r, key);
	assert_non_null(e);
	e->valid_until_us = loop_now_us(loop) - US_PER_S;
	assert_int_equal(ub_ctx_zone_add(r->unbound, zone, "refuse"), 0);
	return r;
}

static void
old_answers_serve_in_trouble(void **state)
{
	struct resolver *r = in_trouble("plain.example", RESOLVE_OK);
	(void)state;

	struct caught c = ask(r, "plain.example");
	assert_int_equal(c.result, RESOLVE_OK);
	assert_true(c.valid_until_us <= loop_now_us(loop) + US_PER_MIN);
	struct entry *e = cache_find(r, "mplain.example");
	e->valid_until_us = e->stale_until_us = loop_now_us(loop) - 1;
	assert_int_equal(ask(r, "plain.example").result, RESOLVE_TEMPORARY);
	resolver_free(&r);
}

/* Mail must not bounce for what was true an hour ago. */
static void
old_refusals_do_not_serve(void **state)
{
	struct resolver *r = in_trouble("nowhere.example", RESOLVE_NO_DOMAIN);
	(void)state;

	assert_int_equal(ask(r, "nowhere.example").result, RESOLVE_TEMPORARY);
	resolver_free(&r);
}

static void
unsigned_root_is_bogus(void **state)
{
	struct resolver_options options = lenient;
	(void)state;

	if (access("/usr/share/dns/root.key", R_OK) != 0)
		skip();
	options.dnssec = true;
	struct resolver *r = resolver_make(options);
	struct caught c = ask(r, "plain.example");
	assert_int_equal(c.result, RESOLVE_TEMPORARY);
	assert_non_null(strstr(c.problem, "DNSSEC validation failed"));
	resolver_free(&r);
}

static void
mistakes_in_settings_are_told(void **state)
{
	struct resolver_options options = { .dnssec = true,
		.trust_anchor = "/nonexistent/anchor" };
	struct resolver *r = NULL;
	struct failure failure = { 0 };
	(void)state;

	assert_true(resolver_new(loop, &options, &r, &failure) < 0);
	assert_null(r);
	assert_non_null(strstr(failure.text, "/nonexistent/anchor"));
	options.trust_anchor = "/etc/passwd";
	assert_true(resolver_new(loop, &options, &r, &failure) < 0);
	assert_non_null(strstr(failure.text, "/etc/passwd"));
}

struct caught_records {
	unsigned count;
	enum resolve_result result;
	bool secure;
	char text[256];
};

static void
on_records(void *arg, const struct resolve_records *found)
{
	struct caught_records *c = arg;
	struct buf text = BUF_EMPTY;

	c->count++;
	c->result = found->result;
	c->secure = found->secure;
	for (size_t i = 0; i < found->count; i++) {
		assert_true(resolve_txt_join(found->rdata[i], &text));
		buf_append_char(&text, ';');
	}
	(void)snprintf(
	    c->text, sizeof c->text, "%.*s", SPAN_ARG(buf_span(&text)));
	buf_done(&text);
	assert_true(found->valid_until_us > clock_monotonic_us());
}

static void
records_come_as_they_are(void **state)
{
	static const struct {
		const char *name;
		enum resolve_result result;
		const char *text;
	} cases[] = {
		{ "_smtp._tls.plain.example", RESOLVE_OK,
		    "v=TLSRPTv1; rua=mailto:a@b.example;" },
		{ "_SMTP._TLS.plain.example.", RESOLVE_OK,
		    "v=TLSRPTv1; rua=mailto:a@b.example;" },
		{ "plain.example", RESOLVE_OK, "" },
		{ "_smtp._tls.missing.example", RESOLVE_NO_DOMAIN, "" },
		{ "x.servfail.example", RESOLVE_TEMPORARY, "" },
		{ "[192.0.2.1]", RESOLVE_NO_DOMAIN, "" },
	};
	struct resolver *r = resolver_make(lenient);
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct caught_records c = { 0 };
		struct resolve_query *q = resolve_records(
		    r, RESOLVE_TXT, span_of(cases[i].name), on_records, &c);
		assert_int_equal(q == NULL, c.count > 0);
		while (!c.count)
			assert_int_equal(loop_turn(loop, US_PER_S), 0);
		assert_int_equal(c.result, cases[i].result);
		assert_string_equal(c.text, cases[i].text);
		assert_false(c.secure);
	}
	resolver_free(&r);
}

static void
text_records_are_joined(void **state)
{
	static const struct {
		struct span rdata;
		const char *text; /* NULL: malformed */
	} cases[] = {
		{ { "\3abc", 4 }, "abc" },
		{ { "\3abc\2de", 7 }, "abcde" },
		{ { "\0", 1 }, "" },
		{ { "", 0 }, NULL },
		{ { "\4abc", 4 }, NULL },
		{ { "\3abc\1", 5 }, NULL },
	};

	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf out = BUF_EMPTY;
		bool is_good = resolve_txt_join(cases[i].rdata, &out);
		assert_int_equal(is_good, cases[i].text != NULL);
		if (is_good)
			assert_true(
			    span_eq(buf_span(&out), span_of(cases[i].text)));
		buf_done(&out);
	}
}

/* These servers sign nothing. */
static void
servers_without_signatures_prove_nothing(void **state)
{
	struct netaddr address = dns_server_address(server);
	struct resolver_options options = { .servers = &address,
		.server_count = 1,
		.dnssec = true,
		.timeout_us = 2 * US_PER_S };
	struct resolve_verdict verdict;
	(void)state;

	resolve_prove(&options, &verdict);
	assert_false(verdict.validates);
	assert_non_null(strstr(verdict.problem, "cannot be validated"));
	options.trust_anchor = "/nonexistent/anchor";
	resolve_prove(&options, &verdict);
	assert_false(verdict.validates);
	assert_non_null(strstr(verdict.problem, "/nonexistent/anchor"));
}

static void
freeing_cancels(void **state)
{
	struct resolver *r = resolver_make(lenient);
	struct caught c = { 0 };
	(void)state;

	(void)resolve_mx(r, SPAN("x.silent.example"), on_answer, &c);
	(void)resolve_mx(r, SPAN("plain.example"), on_answer, &c);
	resolver_free(&r);
	assert_null(r);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(c.count, 0);
}

static int
set_up(void **state)
{
	(void)state;
	server = dns_server_start(records, sizeof records / sizeof *records);
	return server && loop_new(&loop) == 0 ? 0 : -1;
}

static int
tear_down(void **state)
{
	(void)state;
	dns_server_stop(server);
	loop_free(&loop);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(domains_lead_to_hosts),
		cmocka_unit_test(private_hosts_are_refused),
		cmocka_unit_test(silence_ends_in_time),
		cmocka_unit_test(thousands_of_hosts_are_bounded),
		cmocka_unit_test(one_flight_then_the_cache),
		cmocka_unit_test(callbacks_may_ask_and_cancel),
		cmocka_unit_test(old_answers_serve_in_trouble),
		cmocka_unit_test(old_refusals_do_not_serve),
		cmocka_unit_test(unsigned_root_is_bogus),
		cmocka_unit_test(mistakes_in_settings_are_told),
		cmocka_unit_test(records_come_as_they_are),
		cmocka_unit_test(text_records_are_joined),
		cmocka_unit_test(servers_without_signatures_prove_nothing),
		cmocka_unit_test(freeing_cancels),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "api/dns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct directory_key key = {
	.selector = "s1",
	.algorithm = SIGN_RSA_SHA256,
	.state = DIRECTORY_KEY_ACTIVE,
};
static const struct directory_domain domain = {
	.name = "example.com",
	.return_path = "bounces.example.com",
	.keys = &key,
	.key_count = 1,
};

static const struct dns_record *
find(const struct dns_plan *plan, const char *purpose)
{
	for (size_t i = 0; i < plan->count; i++)
		if (strcmp(plan->records[i].purpose, purpose) == 0)
			return &plan->records[i];
	fail();
	return NULL;
}

static void
make(struct dns_plan *plan, struct arena *arena)
{
	static char hostname[] = "relay.example.net";
	static char p[400];
	const struct config config = { .hostname = hostname };

	memset(p, 'A', sizeof p - 1);
	key.public_key = p;
	dns_plan_make(&domain, &config, arena, plan);
}

static void
test_lines_of_a_zone(void **state)
{
	struct arena *arena = arena_new();
	struct dns_plan plan;

	(void)state;
	make(&plan, arena);
	assert_int_equal(plan.count, 5);
	struct span line = dns_zone_line(find(&plan, "mx"), arena);
	assert_string_equal(
	    line.ptr, "bounces.example.com. 3600 IN MX 10 relay.example.net.");
	line = dns_zone_line(find(&plan, "spf"), arena);
	assert_string_equal(line.ptr,
	    "example.com. 3600 IN TXT \"v=spf1 a:relay.example.net ~all\"");
	line = dns_zone_line(find(&plan, "dkim"), arena);
	assert_true(span_starts(
	    line, SPAN("s1._domainkey.example.com. 3600 IN TXT \"v=DKIM1;")));
	/* Strings of 255 octets at most, and nothing lost between them. */
	size_t quotes = 0, octets = 0;
	for (size_t i = 0, run = 0; i < line.len; i++) {
		quotes += line.ptr[i] == '"';
		run = line.ptr[i] == '"' ? 0 : run + 1;
		octets += line.ptr[i] == 'A';
		assert_true(run <= 255);
	}
	assert_int_equal(quotes, 4);
	assert_int_equal(octets, 399);
	arena_free(&arena);
}

static void
test_judges_what_is_there(void **state)
{
	struct arena *arena = arena_new();
	struct dns_plan plan;

	(void)state;
	make(&plan, arena);
	key.public_key = (char[]){ "QUJD" };

	/* clang-format off */
	const struct {
		const char *purpose, *one, *two;
		enum dns_state state;
	} rows[] = {
		{ "dkim", "v=DKIM1; k=rsa; p=QUJD", NULL, DNS_FINE },
		{ "dkim", "p = QU JD", NULL, DNS_FINE },
		{ "dkim", "v=DKIM1; p=QUJE", NULL, DNS_WRONG },
		{ "dkim", "v=DKIM1; k=ed25519; p=QUJD", NULL, DNS_WRONG },
		{ "dkim", "v=DKIM1; p=", NULL, DNS_WRONG },
		{ "dkim", NULL, NULL, DNS_MISSING },
		{ "dkim", "p=QUJD", "p=QUJD", DNS_WRONG },
		{ "spf", "v=spf1 mx a:relay.example.net -all", "other", DNS_FINE },
		{ "spf", "v=spf1 include:spf.example.net -all", NULL, DNS_FINE },
		{ "spf", "v=spf1 -all", NULL, DNS_WRONG },
		{ "spf", "v=spf1", NULL, DNS_WRONG },
		{ "spf", "v=spf10 a:relay.example.net", NULL, DNS_MISSING },
		{ "spf", "v=spf1 a:relay.example.net", "v=spf1 -all", DNS_WRONG },
		{ "dmarc", "v=DMARC1; p=reject", NULL, DNS_FINE },
		{ "dmarc", "v=spf1", NULL, DNS_MISSING },
	};

	/* clang-format on */
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct span texts[] = { span_of(rows[i].one),
			span_of(rows[i].two) };
		size_t count =
		    (rows[i].one != NULL) + (size_t)(rows[i].two != NULL);
		struct dns_finding f = { .state = DNS_UNKNOWN };

		dns_judge(
		    find(&plan, rows[i].purpose), texts, count, arena, &f);
		if (f.state != rows[i].state)
			print_message("row %zu\n", i);
		assert_int_equal(f.state, rows[i].state);
		assert_true((f.problem.len == 0) == (f.state == DNS_FINE));
	}
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_of_a_zone),
		cmocka_unit_test(test_judges_what_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

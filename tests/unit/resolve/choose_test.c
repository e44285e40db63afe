/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/internal.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static void
add(struct mx_choice *choice, unsigned preference, const char *label)
{
	char rdata[80];
	size_t len = strlen(label);

	rdata[0] = (char)(preference >> 8);
	rdata[1] = (char)preference;
	rdata[2] = (char)len;
	memcpy(rdata + 3, label, len + 1);
	mx_choice_add(choice, span_from(rdata, len ? len + 4 : 3), "our-name");
}

static void
best_hosts_are_chosen(void **state)
{
	struct mx_choice choice = { .count = 0 };
	char label[16];
	(void)state;

	for (unsigned i = 10000; i > 0; i--) {
		(void)snprintf(label, sizeof label, "mx%05u", i);
		add(&choice, i, label);
		add(&choice, i + 20000, label);
	}
	mx_choice_end(&choice);
	assert_int_equal(choice.records, 20000);
	assert_int_equal(choice.count, HOSTS_MAX);
	for (unsigned i = 0; i < HOSTS_MAX; i++) {
		(void)snprintf(label, sizeof label, "mx%05u", i + 1);
		assert_string_equal(choice.best[i].name, label);
		assert_int_equal(choice.best[i].preference, i + 1);
	}
}

static void
same_host_counts_once(void **state)
{
	struct mx_choice choice = { .count = 0 };
	(void)state;

	add(&choice, 20, "a");
	add(&choice, 20, "A");
	add(&choice, 10, "b");
	add(&choice, 5, "a");
	add(&choice, 30, "b");
	add(&choice, 1, "");
	add(&choice, 1, "not a name");
	mx_choice_end(&choice);
	assert_int_equal(choice.count, 2);
	assert_int_equal(choice.roots, 1);
	assert_int_equal(choice.malformed, 1);
	assert_string_equal(choice.best[0].name, "a");
	assert_int_equal(choice.best[0].preference, 5);
	assert_string_equal(choice.best[1].name, "b");
	assert_int_equal(choice.best[1].preference, 10);
}

static void
we_drop_what_is_not_better_than_us(void **state)
{
	struct mx_choice choice = { .count = 0 };
	(void)state;

	add(&choice, 10, "a");
	add(&choice, 20, "b");
	add(&choice, 30, "our-name");
	add(&choice, 20, "OUR-name");
	add(&choice, 40, "c");
	mx_choice_end(&choice);
	assert_true(choice.is_ours);
	assert_int_equal(choice.count, 1);
	assert_string_equal(choice.best[0].name, "a");
	choice = (struct mx_choice){ .count = 0 };
	add(&choice, 10, "our-name");
	add(&choice, 10, "a");
	mx_choice_end(&choice);
	assert_int_equal(choice.count, 0);
}

static void
addresses_are_bounded_and_public(void **state)
{
	enum { COUNT = 1000 };

	static char octets[COUNT][4];
	char *rdata[COUNT + 1];
	int len[COUNT];
	(void)state;

	for (int i = 0; i < COUNT; i++) {
		char *o = octets[i];
		o[0] = (char)(i % 2 ? 10 : 198); /* every other is private */
		o[1] = (char)(i >> 8);
		o[2] = (char)i;
		o[3] = 1;
		rdata[i] = o;
		len[i] = i == 500 ? 3 : 4;
	}
	rdata[COUNT] = NULL;
	bool has_late = false;
	for (int n = 0; n < 20; n++) {
		struct host h = { .problem = HOST_NO_ADDRESS };
		host_add_addresses(&h, rdata, len, false, false);
		assert_int_equal(h.ip_count, ADDRESSES_MAX);
		for (int i = 0; i < ADDRESSES_MAX; i++) {
			assert_int_equal(h.ips[i].octets[0], 198);
			has_late |= h.ips[i].octets[1] > 1;
		}
	}
	assert_true(has_late);
	struct host h = { .problem = HOST_NO_ADDRESS };
	rdata[2] = NULL;
	host_add_addresses(&h, rdata + 1, len, false, false);
	assert_int_equal(h.ip_count, 0);
	assert_int_equal(h.problem, HOST_PRIVATE);
	host_add_addresses(&h, rdata + 1, len, false, true);
	assert_int_equal(h.ip_count, 1);
}

static void
same_set_has_the_same_name(void **state)
{
	struct mx_record one[] = { { 10, "b.example" }, { 20, "a.example" } },
			 two[] = { { 5, "a.example" }, { 5, "b.example" } };
	struct mx_record many[HOSTS_MAX];
	char x[SITE_SIZE], y[SITE_SIZE];
	(void)state;

	site_name(one, 2, x);
	site_name(two, 2, y);
	assert_string_equal(x, "a.example+b.example");
	assert_string_equal(x, y);
	for (unsigned i = 0; i < HOSTS_MAX; i++)
		(void)snprintf(many[i].name, sizeof many[i].name,
		    "%02u.a-rather-long-name.example", i);
	site_name(many, HOSTS_MAX, x);
	assert_int_equal(strlen(x), SITE_SIZE - 1);
	many[15].name[0] = 'x';
	site_name(many, HOSTS_MAX, y);
	assert_string_not_equal(x, y);
}

static void
equals_are_shuffled(void **state)
{
	static char names[4][2] = { "a", "b", "c", "d" };
	struct ip ips[4] = { { 0, { 1 } }, { 1, { 2 } }, { 0, { 3 } },
		{ 1, { 4 } } };
	struct entry_host hosts[4];
	struct entry e = { .hosts = hosts, .host_count = 4 };
	struct arena *arena = arena_new();
	unsigned first[4] = { 0 }, ip6_first[2] = { 0 };
	(void)state;

	for (unsigned i = 0; i < 4; i++)
		hosts[i] = (struct entry_host){ .name = names[i],
			.preference = i < 3 ? 10 : 20,
			.ips = ips,
			.ip_count = 4 };
	for (unsigned n = 0; n < 3000; n++) {
		struct resolve_answer answer;
		answer_fill(&e, arena, &answer);
		first[answer.hosts[0].name[0] - 'a']++;
		assert_string_equal(answer.hosts[3].name, "d");
		const struct netaddr *a = answer.hosts[0].addresses;
		assert_int_equal(a[0].family, NETADDR_IP6);
		assert_int_equal(a[1].family, NETADDR_IP6);
		assert_int_equal(a[2].family, NETADDR_IP4);
		assert_int_equal(a[3].family, NETADDR_IP4);
		ip6_first[a[0].ip[0] == 4]++;
		arena_reset(arena);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(first[i], 850, 1150);
	assert_in_range(ip6_first[0], 1300, 1700);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(best_hosts_are_chosen),
		cmocka_unit_test(same_host_counts_once),
		cmocka_unit_test(we_drop_what_is_not_better_than_us),
		cmocka_unit_test(addresses_are_bounded_and_public),
		cmocka_unit_test(same_set_has_the_same_name),
		cmocka_unit_test(equals_are_shuffled),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

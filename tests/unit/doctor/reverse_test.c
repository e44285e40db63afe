/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
names_addresses(void **state)
{
	static const struct {
		const char *address, *zone, *name;
	} rows[] = {
		{ "192.0.2.10", "", "10.2.0.192.in-addr.arpa" },
		{ "192.0.2.10", "list.example", "10.2.0.192.list.example" },
		{ "255.255.255.255", "", "255.255.255.255.in-addr.arpa" },
		{ "2001:db8::1:f", "",
		    "f.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0."
		    "1.0.0.2.ip6.arpa" },
		{ "::1", "list.example",
		    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
		    "0.0.0.0.list.example" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char name[REVERSE_SIZE + DNS_NAME_SIZE];
		struct netaddr address;

		assert_true(
		    netaddr_parse_ip(span_of(rows[i].address), &address));
		assert_string_equal(
		    reverse_name(&address, rows[i].zone, name), rows[i].name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(names_addresses) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

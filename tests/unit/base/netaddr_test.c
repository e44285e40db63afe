/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netaddr.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>
#include <cmocka.h>
/* clang-format on */

#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct netaddr
ip(const char *text)
{
	struct netaddr addr = { 0 };

	if (!netaddr_parse_ip(span_of(text), &addr))
		fail_msg("cannot parse %s", text);
	return addr;
}

static void
test_parse_ip(void **state)
{
	(void)state;

	static const struct {
		const char *text, *shown; /* NULL: refused */
	} cases[] = {
		{ "192.0.2.1", "192.0.2.1" },
		{ "2001:DB8::1", "2001:db8::1" },
		{ "[2001:db8:0:0::1]", "2001:db8::1" },
		{ "::ffff:192.0.2.1", "192.0.2.1" },
		{ "[::ffff:c000:201]", "192.0.2.1" },
		{ "::", "::" },
		{ "", NULL },
		{ "[]", NULL },
		{ "[", NULL },
		{ "[192.0.2.1]", NULL },
		{ "[2001:db8::1", NULL },
		{ "2001:db8::1]", NULL },
		{ "192.0.2", NULL },
		{ "192.0.2.256", NULL },
		{ "192.0.2.01", NULL },
		{ "0x7f.0.0.1", NULL },
		{ "2130706433", NULL },
		{ "fe80::1%eth0", NULL },
		{ " 192.0.2.1", NULL },
		{ "192.0.2.1:25", NULL },
		{ "1:2:3:4:5:6:7:8:9", NULL },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		    NULL },
	};

	char buffer[NETADDR_TEXT_SIZE];

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct netaddr addr;
		bool is_ok = netaddr_parse_ip(span_of(cases[i].text), &addr);
		assert_int_equal(is_ok, cases[i].shown != NULL);
		if (is_ok)
			assert_string_equal(
			    netaddr_format_ip(&addr, buffer), cases[i].shown);
	}
	struct netaddr addr;
	assert_false(netaddr_parse_ip(SPAN("192.0.2.1\0"), &addr));
}

static void
test_parse_port(void **state)
{
	(void)state;

	static const struct {
		const char *text, *shown;
	} cases[] = {
		{ "192.0.2.1:25", "192.0.2.1:25" },
		{ "[2001:db8::1]:65535", "[2001:db8::1]:65535" },
		{ "[::ffff:192.0.2.1]:25", "192.0.2.1:25" },
		{ "127.0.0.1:0", "127.0.0.1:0" },
		{ "unix:/run/x", "unix:/run/x" },
		{ "unix:", NULL },
		{ "2001:db8::1:25", NULL },
		{ "192.0.2.1", NULL },
		{ "192.0.2.1:", NULL },
		{ "192.0.2.1:65536", NULL },
		{ "192.0.2.1:-1", NULL },
		{ "[2001:db8::1]25", NULL },
		{ ":25", NULL },
		{ "", NULL },
	};

	char buffer[NETADDR_TEXT_SIZE];

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct netaddr addr;
		bool is_ok = netaddr_parse(span_of(cases[i].text), &addr);
		assert_int_equal(is_ok, cases[i].shown != NULL);
		if (is_ok)
			assert_string_equal(
			    netaddr_format(&addr, buffer), cases[i].shown);
	}
	struct netaddr none = { 0 };
	assert_string_equal(netaddr_format(&none, buffer), "none");
	char path[200] = "unix:/";
	memset(path + 6, 'x', 106);
	assert_true(netaddr_parse(span_of(path), &none));
	assert_string_equal(netaddr_format(&none, buffer), path);
	path[112] = 'x'; /* 108 bytes leave no room for the NUL */
	assert_false(netaddr_parse(span_of(path), &none));
}

static void
test_masks(void **state)
{
	(void)state;

	static const struct {
		const char *mask, *in, *out; /* in NULL: refused */
	} cases[] = {
		{ "192.0.2.0/24", "192.0.2.255", "192.0.3.0" },
		{ "192.0.2.128/25", "192.0.2.129", "192.0.2.127" },
		{ "0.0.0.0/0", "255.1.2.3", "::1" },
		{ "::/0", "2001:db8::1", "192.0.2.1" },
		{ "2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::" },
		{ "192.0.2.1", "192.0.2.1", "192.0.2.2" },
		{ "[2001:db8::1]", "2001:db8::1", "2001:db8::2" },
		{ "::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9" },
		{ "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.0" },
		{ "192.0.2.1/24", NULL, NULL },
		{ "192.0.2.0/33", NULL, NULL },
		{ "2001:db8::1/64", NULL, NULL },
		{ "::/129", NULL, NULL },
		{ "192.0.2.0/", NULL, NULL },
		{ "192.0.2.0/24/", NULL, NULL },
		{ "/24", NULL, NULL },
		{ "::ffff:0.0.0.0/90", NULL, NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct netmask m;
		bool is_ok = netmask_parse(span_of(cases[i].mask), &m);
		assert_int_equal(is_ok, cases[i].in != NULL);
		if (!is_ok)
			continue;
		struct netaddr in = ip(cases[i].in), out = ip(cases[i].out);
		assert_true(netmask_contains(&m, &in));
		assert_false(netmask_contains(&m, &out));
	}
}

static void
test_private(void **state)
{
	(void)state;
	static const char *const private[] = { "0.0.0.0", "0.1.2.3",
		"10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1",
		"127.255.0.1", "169.254.169.254", "172.16.0.1",
		"172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1",
		"192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
		"203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
		"255.255.255.255", "::", "::1", "::7f00:1", "::ffff:10.0.0.1",
		"64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::808:808",
		"100::1", "2001::1", "2001:2::1", "2001:db8::1",
		"2002:7f00:1::1", "2002:a00:1::", "3fff::1", "5f00::1",
		"fc00::1", "fd12:3456::1", "fe80::1", "febf::1", "fec0::1",
		"ff02::1", "4000::1" };
	static const char *const public[] = { "1.1.1.1", "9.255.255.255",
		"11.0.0.0", "100.63.255.255", "100.128.0.0", "128.0.0.1",
		"169.253.1.1", "172.15.1.1", "172.32.0.0", "192.0.1.1",
		"192.0.3.1", "198.17.1.1", "198.20.1.1", "223.255.255.255",
		"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:4860::1",
		"2001:200::1", "2001:db9::1", "2002:808:808::1", "2600::1",
		"2a00:1450::1", "3ffe::1" };

	for (size_t i = 0; i < COUNT(private); i++) {
		struct netaddr addr = ip(private[i]);
		if (!netaddr_is_private(&addr))
			fail_msg("%s is not private", private[i]);
	}
	for (size_t i = 0; i < COUNT(public); i++) {
		struct netaddr addr = ip(public[i]);
		if (netaddr_is_private(&addr))
			fail_msg("%s is private", public[i]);
	}
	struct netaddr by_hand = { .family = NETADDR_IP6,
		.ip = { [10] = 0xff, [11] = 0xff, 127, 0, 0, 1 } };
	assert_true(netaddr_is_private(&by_hand));
	by_hand.family = NETADDR_UNIX;
	assert_true(netaddr_is_private(&by_hand));
	by_hand.family = NETADDR_NONE;
	assert_true(netaddr_is_private(&by_hand));
}

static void
test_client_network(void **state)
{
	(void)state;
	char buffer[NETADDR_TEXT_SIZE];
	struct netaddr addr = ip("2001:db8:1:2:3:4:5:6");
	addr.port = 25;
	struct netaddr network = netaddr_client_network(&addr);
	assert_string_equal(
	    netaddr_format(&network, buffer), "[2001:db8:1:2::]:0");
	addr = ip("192.0.2.1");
	network = netaddr_client_network(&addr);
	assert_true(netaddr_eq_ip(&addr, &network));
	struct netaddr other = ip("192.0.2.2");
	assert_false(netaddr_eq_ip(&addr, &other));
	other = ip("2001:db8::");
	assert_false(netaddr_eq_ip(&addr, &other));
}

static void
test_sockaddr(void **state)
{
	(void)state;
	static const char *const texts[] = { "192.0.2.1:25",
		"[2001:db8::1]:587", "unix:/run/posthouse/x.sock" };
	char buffer[NETADDR_TEXT_SIZE];
	struct sockaddr_storage sa;
	struct netaddr addr, back;

	for (size_t i = 0; i < COUNT(texts); i++) {
		assert_true(netaddr_parse(span_of(texts[i]), &addr));
		socklen_t len = netaddr_to_sockaddr(&addr, &sa);
		assert_true(
		    netaddr_from_sockaddr((struct sockaddr *)&sa, len, &back));
		assert_string_equal(netaddr_format(&back, buffer), texts[i]);
		assert_false(
		    netaddr_from_sockaddr((struct sockaddr *)&sa, 1, &back));
	}
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6,
		.sin6_port = htons(25),
		.sin6_addr.s6_addr = {
		    [10] = 0xff, [11] = 0xff, 192, 0, 2, 1 } };
	assert_true(netaddr_from_sockaddr(
	    (struct sockaddr *)&mapped, sizeof mapped, &back));
	assert_string_equal(netaddr_format(&back, buffer), "192.0.2.1:25");
	struct sockaddr unnamed = { .sa_family = AF_UNIX };
	assert_true(
	    netaddr_from_sockaddr(&unnamed, sizeof(sa_family_t), &back));
	assert_string_equal(netaddr_format(&back, buffer), "unix:");
	unnamed.sa_family = AF_NETLINK;
	assert_false(netaddr_from_sockaddr(&unnamed, sizeof unnamed, &back));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_ip),
		cmocka_unit_test(test_parse_port),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_private),
		cmocka_unit_test(test_client_network),
		cmocka_unit_test(test_sockaddr),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

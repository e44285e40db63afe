/* SPDX-License-Identifier: Apache-2.0 */

/* The PROXY header: what is one, what is not, and every beginning of one. */

#include "base/mem.h"
#include "receive/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(text)                                                            \
	{                                                                      \
		(text), sizeof(text) - 1                                       \
	}

/* clang-format off */
static const struct {
	struct span header;
	const char *client; /* NULL: not a header; "": a header that names none */
} table[] = {
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n"), "192.0.2.1:56324" },
	{ BYTES("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"), "[2001:db8::1]:1" },
	{ BYTES("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"), "192.0.2.1:1" },
	{ BYTES("PROXY UNKNOWN\r\n"), "" },
	{ BYTES("PROXY UNKNOWN ffff::1 whatever 1 2\r\n"), "" },
	{ BYTES("PROXY TCP4 2001:db8::1 198.51.100.1 1 25\r\n"), NULL },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n"), NULL },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n"), NULL },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 1 25 \r\n"), NULL },
	{ BYTES("PROXY TCP4 192.0.2.1  198.51.100.1 1 25\r\n"), NULL },
	{ BYTES("PROXY TCP4 192.0.2 198.51.100.1 1 25\r\n"), NULL },
	{ BYTES("PROXY UDP4 192.0.2.1 198.51.100.1 1 25\r\n"), NULL },
	{ BYTES("PROXY \r\n"), NULL },
	{ BYTES("PROXY TCP4\r\n"), NULL },
	{ BYTES("proxy TCP4 192.0.2.1 198.51.100.1 1 25\r\n"), NULL },
	{ BYTES("EHLO x\r\n"), NULL },
	{ BYTES("PROXYTCP4"), NULL },
	{ BYTES(SIGNATURE "\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x19"), "192.0.2.1:56324" },
	{ BYTES(SIGNATURE "\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
		"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\x07\0\x19"), "[2001:db8::1]:7" },
	{ BYTES(SIGNATURE "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01"
		"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\x07\0\x19"), "192.0.2.1:7" },
	/* with something of the proxy's own behind the addresses */
	{ BYTES(SIGNATURE "\x21\x11\0\x10\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x19\x04\0\x01x"), "192.0.2.1:56324" },
	{ BYTES(SIGNATURE "\x20\0\0\0"), "" }, /* LOCAL */
	{ BYTES(SIGNATURE "\x20\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x19"), "" },
	{ BYTES(SIGNATURE "\x21\0\0\0"), "" }, /* unspecified */
	{ BYTES(SIGNATURE "\x21\x31\0\x02xx"), "" }, /* Unix */
	{ BYTES(SIGNATURE "\x21\x11\0\x0b\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0"), NULL },
	{ BYTES(SIGNATURE "\x21\x21\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x19"), NULL },
	{ BYTES(SIGNATURE "\x11\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x19"), NULL },
	{ BYTES(SIGNATURE "\x22\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x19"), NULL },
	{ BYTES(SIGNATURE "\x21\x11\xff\xff"), NULL },
	{ BYTES("\r\n\r\n\0\r\nQUIT\r"), NULL },
};

/* clang-format on */

static void
check_header(struct span header, const char *want)
{
	struct netaddr client = { .family = NETADDR_UNIX };
	char text[NETADDR_TEXT_SIZE];
	int result = proxy_parse(header, &client);

	if (want == NULL) {
		assert_true(result < 0);
		assert_int_equal(NETADDR_UNIX, client.family);
		return;
	}
	assert_int_equal(header.len, result);
	if (*want == '\0')
		assert_int_equal(NETADDR_NONE, client.family);
	else
		assert_string_equal(want, netaddr_format(&client, text));
}

static void
test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		print_message("row %zu\n", i);
		check_header(table[i].header, table[i].client);
	}
}

/* A whole one behind which more comes; and all its beginnings, each in memory
 * of its own, so that reading too far would be seen. */
static void
test_every_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct span header = table[i].header;
		struct netaddr client;

		if (table[i].client == NULL)
			continue;
		for (size_t len = 0; len < header.len; len++) {
			char *part = mem_dup(header.ptr, len > 0 ? len : 1);

			assert_int_equal(
			    0, proxy_parse(span_from(part, len), &client));
			mem_free(part);
		}
		char *more = mem_alloc(header.len + 5);
		memcpy(more, header.ptr, header.len);
		memcpy(more + header.len, "EHLO ", 5);
		assert_int_equal(header.len,
		    proxy_parse(span_from(more, header.len + 5), &client));
		mem_free(more);
	}
}

static void
test_endless(void **state)
{
	char text[4096];
	struct netaddr client;

	(void)state;
	memset(text, 'x', sizeof text);
	memcpy(text, "PROXY ", 6);
	assert_int_equal(0, proxy_parse(span_from(text, 106), &client));
	assert_true(proxy_parse(span_from(text, 107), &client) < 0);
	assert_true(proxy_parse(span_from(text, sizeof text), &client) < 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_endless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

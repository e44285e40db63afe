/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
no_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	fail_msg(
	    "%s:%u:%u: %s\n%s", file, line, column, text, (const char *)arg);
}

static struct config *
parse(const char *text)
{
	struct config *config = NULL;
	char *AUTO_FREE copy = mem_strdup(text);

	assert_int_equal(config_parse(span_of(text), "test.yaml", false,
			     no_mistake, copy, &config),
	    0);
	return config;
}

#define HEAD "hostname: a.example\n"

static const char *const texts[] = {
	HEAD "listeners: [{address: \"127.0.0.1:1\", service: http}]\n",
	HEAD "user: \"yes\"\nlisteners:\n"
	     "  - {address: \"127.0.0.1:1\", service: submission, tls: none}\n"
	     "  - {address: \"[::]:2\", service: mx}\n"
	     "  - {address: \"unix:/x y\", service: lmtp, tls: implicit,\n"
	     "     proxy_protocol: true, proxy_networks: [\"::1\", 10.0.0.0/8],"
	     "\n     newlines: normalise, trace_user: true}\n"
	     "tls: {certificate: /c, private_key: \"/k: #1\"}\n"
	     "trusted_networks: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4, 1.1.1.5,"
	     " 1.1.1.6, 1.1.1.7, 1.1.1.8, 1.1.1.9]\n"
	     "routes:\n"
	     "  - {domains: [\"*.b.example\"], deliver: mx, port: 26}\n"
	     "  - {domains: [a1.b, a2.b, a3.b, a4.b, a5.b, a6.b, a7.b, a8.b,\n"
	     "     a9.b], deliver: smtp, to: \"h.example:1\", tls: require,\n"
	     "     username: \"\\\"q\\\" \\\\ \xc3\xa4 \xf0\x9f\x93\xae\",\n"
	     "     password_file: /p, tls_verify: false}\n"
	     "  - {domains: [c.example], deliver: maildir, to: \"/m a\"}\n"
	     "  - {domains: [\"*\"], deliver: discard}\n"
	     "resolver: {servers: [\"::1\"], timeout: 1s500ms}\n"
	     "sources: [{name: a, address: \"::2\"}, {name: b, address: "
	     "1.2.3.4}]\n"
	     "pools: [{name: p, sources: [{name: a}, {name: b, weight: 7}]}]\n"
	     "retry: {schedule: [1ms, 1d], delay_warning: 0s}\n"
	     "limits: {message_size: 1025, memory: 3M}\n"
	     "log: {level: error, format: json}\n",
};

static void
reads_back_to_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		for (int explain = 0; explain < 2; explain++) {
			struct buf once = BUF_EMPTY, twice = BUF_EMPTY;
			struct config *c = parse(texts[i]);
			config_show(c, explain, &once);
			config_unref(&c);
			c = parse(buf_cstring(&once));
			config_show(c, explain, &twice);
			config_unref(&c);
			assert_string_equal(
			    buf_cstring(&once), buf_cstring(&twice));
			buf_done(&once);
			buf_done(&twice);
		}
	}
}

static void
expect_lines(const char *text, const char *const *lines)
{
	for (; *lines; lines++)
		if (!strstr(text, *lines))
			fail_msg("%s\nis not in\n%s", *lines, text);
}

static void
shows_what_is_in_force(void **state)
{
	static const char *const lines[] = {
		"hostname: a.example\n",
		"user: \"yes\"\n",
		"tls:\n  certificate: /c\n  private_key: \"/k: #1\"\n",
		"  - address: \"[::]:2\"\n    service: mx\n    tls: starttls\n"
		"  - address: \"unix:/x y\"\n",
		"    proxy_networks: [\"::1/128\", \"10.0.0.0/8\"]\n",
		"trusted_networks:\n  - \"1.1.1.1/32\"\n",
		"  - domains: [\"*.b.example\"]\n    deliver: mx\n"
		"    port: 26\n    tls_verify: false\n",
		"  - domains:\n      - a1.b\n",
		"    password_file: /p\n",
		"  timeout: 1s500ms\n",
		"  servers: [\"[::1]:53\"]\n",
		"  - name: b\n    address: \"1.2.3.4\"\n"
		"    hostname: a.example\n",
		"  - name: p\n    sources:\n      - name: a\n      - name: b\n"
		"        weight: 7\n",
		"  schedule: [1ms, 1d]\n",
		"  message_size: 1025\n",
		"  memory: 3M\n",
		"  postmaster: postmaster@a.example\n",
		"log:\n  level: error\n  format: json\n",
		NULL,
	};
	struct buf out = BUF_EMPTY;
	struct config *c = parse(texts[1]);

	(void)state;
	config_show(c, false, &out);
	expect_lines(buf_cstring(&out), lines);
	assert_null(strchr(buf_cstring(&out), '\t'));
	config_unref(&c);
	buf_done(&out);
}

static void
explains_within_80_columns(void **state)
{
	static const char *const lines[] = {
		"# The name in EHLO",
		"    # Whether TLS begins at once",
		"One of refuse,",
		"Default: 50M.",
		NULL,
	};
	struct buf out = BUF_EMPTY;
	struct config *c = parse(texts[0]);

	(void)state;
	config_show(c, true, &out);
	expect_lines(buf_cstring(&out), lines);
	struct span rest = buf_span(&out);
	while (rest.len) {
		struct span line = span_cut(&rest, '\n');
		if (span_find(line, '#') != SIZE_MAX)
			assert_true(line.len <= 80 + 8); /* octets */
	}
	config_unref(&c);
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_back_to_the_same),
		cmocka_unit_test(shows_what_is_in_force),
		cmocka_unit_test(explains_within_80_columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

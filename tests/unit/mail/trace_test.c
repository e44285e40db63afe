/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/header.h"
#include "mail/trace.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#define NOW INT64_C(1795455889123456)
#define DATE "Mon, 23 Nov 2026 17:44:49 +0000"
#define ID "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static const struct trace base = {
	.by = { "relay.example.com", 17 },
	.message_id = { ID, 26 },
	.wall_us = NOW,
};

static struct netaddr
client(const char *text)
{
	struct netaddr addr = { .family = NETADDR_NONE };

	assert_true(netaddr_parse_ip(span_of(text), &addr));
	return addr;
}

/* One field, no long lines, nothing that is not text. */
static void
check_form(struct span field)
{
	struct header_field f;
	struct span rest = field;

	assert_int_equal(header_next(&rest, &f), 1);
	assert_int_equal(rest.len, 0);
	assert_true(span_eq(f.name, SPAN("Received")));
	while (field.len > 0) {
		size_t end = span_search(field, SPAN("\r\n"));
		assert_true(end <= 78);
		struct span line = span_slice(field, 0, end);
		for (size_t i = 0; i < line.len; i++)
			assert_true(
			    line.ptr[i] == '\t' ||
			    (line.ptr[i] >= ' ' && line.ptr[i] != 0x7f) ||
			    (unsigned char)line.ptr[i] >= 0x80);
		field = span_skip(field, end + 2);
	}
}

static void
check(const struct trace *t, const char *expected)
{
	struct buf out = BUF_EMPTY;

	trace_append_received(t, &out);
	check_form(buf_span(&out));
	assert_string_equal(buf_cstring(&out), expected);
	buf_done(&out);
}

static void
test_authenticated(void **state)
{
	struct trace t = base;

	(void)state;
	t.helo = SPAN("app.example.org");
	t.client = client("192.0.2.1");
	t.protocol = SPAN("ESMTPSA");
	t.tls = SPAN("TLSv1.3 TLS_AES_256_GCM_SHA384");
	t.user = SPAN("shop-1");
	t.only_recipient = SPAN("a@example.net");
	check(&t,
	    "Received: from app.example.org ([192.0.2.1])\r\n"
	    "\t(TLSv1.3 TLS_AES_256_GCM_SHA384) (authenticated as shop-1)\r\n"
	    "\tby relay.example.com (posthouse) with ESMTPSA id " ID "\r\n"
	    "\tfor <a@example.net>; " DATE "\r\n");
}

static void
test_plain(void **state)
{
	struct trace t = base;

	(void)state;
	t.helo = SPAN("[IPv6:2001:db8::1]");
	t.client = client("2001:db8::1");
	t.protocol = SPAN("ESMTP");
	check(&t, "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n"
		  "\tby relay.example.com (posthouse) with ESMTP id " ID ";\r\n"
		  "\t" DATE "\r\n");
}

static void
test_local(void **state)
{
	struct trace t = base;

	(void)state;
	t.protocol = SPAN("local");
	check(&t, "Received: by relay.example.com (posthouse) with local id\r\n"
		  "\t" ID ";\r\n\t" DATE "\r\n");
	t.user = SPAN("root");
	check(&t, "Received: (authenticated as root)\r\n"
		  "\tby relay.example.com (posthouse) with local id " ID ";\r\n"
		  "\t" DATE "\r\n");
}

static void
test_hostile_words(void **state)
{
	struct trace t = base;

	(void)state;
	t.helo = SPAN("evil) by x;\r\nBcc: y\x1b[2J\0%s%n\\");
	t.client = client("192.0.2.1");
	t.protocol = SPAN("ESMTP");
	t.tls = SPAN("a)\r\nX: y");
	t.user = SPAN("u(s\xc3\xa4r\x7f");
	check(&t, "Received: from [192.0.2.1] (helo=evil? by x; Bcc: "
		  "y?[2J?%s%n?)\r\n"
		  "\t(a? X: y) (authenticated as u?s?r?)\r\n"
		  "\tby relay.example.com (posthouse) with ESMTP id " ID ";\r\n"
		  "\t" DATE "\r\n");
}

static void
test_recipient(void **state)
{
	/* clang-format off */
	static const struct {
		const char *protocol;
		struct span recipient;
		bool is_named;
	} rows[] = {
		{ "ESMTP", SPAN("a@b"), true },
		{ "ESMTP", SPAN("j\xc3\xb6rg@b"), false },
		{ "UTF8SMTPS", SPAN("j\xc3\xb6rg@b"), true },
		{ "UTF8SMTPS", SPAN("j\xc3rg@b"), false },
		{ "ESMTP", SPAN("a\r\nX: y@b"), false },
		{ "ESMTP", SPAN("a\0@b"), false },
		{ "ESMTP", SPAN(""), false },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_EMPTY;
		struct trace t = base;
		t.protocol = span_of(rows[i].protocol);
		t.only_recipient = rows[i].recipient;
		trace_append_received(&t, &out);
		check_form(buf_span(&out));
		bool is_named =
		    span_search(buf_span(&out), SPAN("for <")) != SIZE_MAX;
		if (is_named != rows[i].is_named)
			fail_msg("row %zu", i);
		buf_done(&out);
	}
}

static void
test_long_words_stay_whole(void **state)
{
	char host[200];
	struct trace t = base;
	struct buf out = BUF_EMPTY;

	(void)state;
	memset(host, 'h', sizeof(host));
	host[63] = host[126] = host[189] = '.';
	t.helo = span_from(host, sizeof(host));
	t.client = client("192.0.2.1");
	t.protocol = SPAN("ESMTP");
	trace_append_received(&t, &out);
	assert_true(
	    span_search(buf_span(&out), span_from(host, 200)) != SIZE_MAX);
	assert_true(span_search(buf_span(&out), SPAN("\r\n\t([192.0.2.1])")) !=
		    SIZE_MAX);
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_authenticated),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_hostile_words),
		cmocka_unit_test(test_recipient),
		cmocka_unit_test(test_long_words_stay_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

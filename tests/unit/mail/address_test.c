/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/address.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#define U ADDRESS_ALLOW_UTF8
#define L ADDRESS_ALLOW_LITERAL
#define N ADDRESS_ALLOW_NULL
#define P ADDRESS_ALLOW_POSTMASTER

#define TEN "abcdefghij"
#define SIXTY TEN TEN TEN TEN TEN TEN
#define L64 SIXTY "abcd"
#define LABEL63 SIXTY "abc"
/* Four labels of 63 with their dots are 255 octets. */
#define D255 LABEL63 "." LABEL63 "." LABEL63 "." LABEL63
/* As many and one more, without a label over 63. */
#define D256 LABEL63 "." LABEL63 "." LABEL63 "." SIXTY ".bcd"

struct row {
	const char *input;
	int flags;
	const char *text; /* NULL: refused */
	const char *reason; /* then: part of the reason */
};

/* clang-format off */
static const struct row rows[] = {
	/* Plain forms. */
	{ "user@example.com",            0, "user@example.com", NULL },
	{ "user@localhost",              0, "user@localhost", NULL },
	{ "USER@LOCAL",                  0, "USER@local", NULL },
	{ "a.b.c@Example.COM",           0, "a.b.c@example.com", NULL },
	{ "!#@example.com",              0, NULL, "bang" },
	{ "#$&'*+-/=?^_`{|}~@example.com", 0, "#$&'*+-/=?^_`{|}~@example.com", NULL },
	{ "a;b@example.com",             0, NULL, "needs quotes" },
	{ "${run{id}}@example.com",      0, "${run{id}}@example.com", NULL },
	{ "$(id)@example.com",           0, NULL, "comments" },
	{ "|/bin/sh@example.com",        0, "|/bin/sh@example.com", NULL },
	{ "\"../../x\"@example.com",     0, "\"../../x\"@example.com", NULL },
	{ "'or'1'='1@example.com",       0, "'or'1'='1@example.com", NULL },
	{ "-f@example.com",              0, "-f@example.com", NULL },
	{ "user@r3---sn.example",        0, "user@r3---sn.example", NULL },
	{ "user@3com.com",               0, "user@3com.com", NULL },

	/* Relaying tricks. */
	{ "user%other@local",            0, NULL, "% in a local part" },
	{ "other!user",                  0, NULL, "! in a local part" },
	{ "other!user@local",            0, NULL, "! in a local part" },
	{ "@local:user@other",           0, NULL, "source routes" },
	{ "@a,@b:user@other",            0, NULL, "source routes" },
	{ "\"user@other\"",              0, NULL, "@ in a local part" },
	{ "\"user@other\"@local",        0, NULL, "@ in a local part" },
	{ "\"user\\@other\"@local",      0, NULL, "@ in a local part" },
	{ "\"user%other\"@local",        0, NULL, "% in a local part" },
	{ "\"<user@other>\"@local",      0, NULL, "@ in a local part" },
	{ "\"a\\!b\"@local",             0, NULL, "! in a local part" },
	{ "user@other@local",            0, NULL, "more than one @" },
	{ "user@@local",                 0, NULL, "more than one @" },
	{ "<user@other>@local",          0, NULL, "angle brackets" },
	{ "user\\@other@local",          0, NULL, "quotes must surround" },

	/* Literals. */
	{ "user@[127.0.0.1]",            0, NULL, "literals are not accepted" },
	{ "user@[127.0.0.1]",            L, "user@[127.0.0.1]", NULL },
	{ "user@[IPv6:::1]",             0, NULL, "literals are not accepted" },
	{ "user@[IPv6:::1]",             L, "user@[IPv6:::1]", NULL },
	{ "user@[ipv6:2001:DB8:0::1]",   L, "user@[IPv6:2001:db8::1]", NULL },
	{ "user@[IPv6:::ffff:192.0.2.1]", L, "user@[192.0.2.1]", NULL },
	{ "user@[IPv6:192.0.2.1]",       L, NULL, "valid address literal" },
	{ "user@[IPv6:[::1]]",           L, NULL, "valid address literal" },
	{ "user@[::1]",                  L, NULL, "only IPv4 and IPv6" },
	{ "user@[x400:something]",       L, NULL, "only IPv4 and IPv6" },
	{ "user@[1.2.3]",                L, NULL, "valid address literal" },
	{ "user@[1.2.3.256]",            L, NULL, "valid address literal" },
	{ "user@[01.2.3.4]",             L, NULL, "valid address literal" },
	{ "user@[127.0.0.1",             L, NULL, "valid address literal" },
	{ "user@[]",                     L, NULL, "valid address literal" },
	{ "user@[",                      L, NULL, "valid address literal" },
	{ "user@[127.0.0.1]x",           L, NULL, "valid address literal" },
	{ "user@[127.0.0.1].example",    L, NULL, "valid address literal" },
	{ "user@127.0.0.1",              L, NULL, "needs brackets" },
	{ "user@0x7f000001",             L, NULL, "needs brackets" },
	{ "user@2130706433",             L, NULL, "needs brackets" },
	{ "user@0x7g",                   L, "user@0x7g", NULL },

	/* Domains. */
	{ "user@local.",                 0, NULL, "ends with a dot" },
	{ "user@.",                      0, NULL, "ends with a dot" },
	{ "user@.local",                 0, NULL, "empty label" },
	{ "user@a..b",                   0, NULL, "empty label" },
	{ "user@-a",                     0, NULL, "hyphen" },
	{ "user@a-",                     0, NULL, "hyphen" },
	{ "user@a.-b.c",                 0, NULL, "hyphen" },
	{ "user@a_b.example",            0, NULL, "no mail domain" },
	{ "user@a/b",                    0, NULL, "no mail domain" },
	{ "user@a b",                    0, NULL, "space in the domain" },
	{ "user@a>",                     0, NULL, "no mail domain" },
	{ "user@",                       0, NULL, "domain is empty" },
	{ "u@" LABEL63,                  0, "u@" LABEL63, NULL },
	{ "u@" LABEL63 "d",              0, NULL, "longer than 63" },
	{ "u@" D255,                     0, "u@" D255, NULL },
	{ "u@" D256,                     0, NULL, "longer than 255" },
	{ L64 "@" D255,                  0, L64 "@" D255, NULL },

	/* Local parts. */
	{ "",                            0, NULL, "empty" },
	{ "",                            N, "", NULL },
	{ "@",                           0, NULL, "local part is empty" },
	{ "@local",                      0, NULL, "local part is empty" },
	{ "user",                        0, NULL, "no domain" },
	{ "postmaster",                  0, NULL, "no domain" },
	{ "postmaster",                  P, "postmaster", NULL },
	{ "PostMaster",                  P, "postmaster", NULL },
	{ "\"postmaster\"",              P, NULL, "no domain" },
	{ "abuse",                       P, NULL, "no domain" },
	{ L64 "@a",                      0, L64 "@a", NULL },
	{ L64 "e@a",                     0, NULL, "longer than 64" },
	{ "\"" L64 "\"@a",               0, L64 "@a", NULL },
	{ "\"" L64 "e\"@a",              0, NULL, "longer than 64" },
	{ "\"" SIXTY " b\"@a",           0, "\"" SIXTY " b\"@a", NULL },
	{ "\"" SIXTY " bc\"@a",          0, NULL, "longer than 64" },
	{ ".a@b",                        0, NULL, "dot at an end" },
	{ "a.@b",                        0, NULL, "dot at an end" },
	{ "a..b@c",                      0, NULL, "two in a row" },
	{ "user(comment)@local",         0, NULL, "comments" },
	{ "(comment)user@local",         0, NULL, "comments" },
	{ "user@(comment)local",         0, NULL, "comments" },
	{ "user@local (comment)",        0, NULL, "space" },
	{ "us er@local",                 0, NULL, "space" },
	{ " user@local",                 0, NULL, "space" },
	{ "user@local ",                 0, NULL, "space" },
	{ "us\ter@local",                0, NULL, "control character" },
	{ "user@lo\rcal",                0, NULL, "control character" },
	{ "user@local\n",                0, NULL, "control character" },
	{ "\"us\x01" "er\"@local",       0, NULL, "control character" },
	{ "us\x7f" "er@local",           0, NULL, "control character" },

	/* Quoted strings: quotes only where they must be. */
	{ "\"john doe\"@b",              0, "\"john doe\"@b", NULL },
	{ "\"john.doe\"@b",              0, "john.doe@b", NULL },
	{ "\"jo\\hn\"@b",                0, "john@b", NULL },
	{ "\"a\\\"b\"@c",                0, "\"a\\\"b\"@c", NULL },
	{ "\"a\\\\b\"@c",                0, "\"a\\\\b\"@c", NULL },
	{ "\"a..b\"@c",                  0, "\"a..b\"@c", NULL },
	{ "\"\"@c",                      0, NULL, "local part is empty" },
	{ "\"a@c",                       0, NULL, "@ in a local part" },
	{ "\"a",                         0, NULL, "without its end" },
	{ "\"a\\",                       0, NULL, "without its end" },
	{ "\"",                          0, NULL, "without its end" },
	{ "\"a\"b@c",                    0, NULL, "surround the whole" },
	{ "a\"b\"@c",                    0, NULL, "surround the whole" },
	{ "\"a\".\"b\"@c",               0, NULL, "surround the whole" },

	/* Internationalised addresses. */
	{ "j\xc3\xb6rg@example.com",     0, NULL, "SMTPUTF8" },
	{ "user@b\xc3\xbc" "cher.example", 0, NULL, "SMTPUTF8" },
	{ "j\xc3\xb6rg@example.com",     U, "j\xc3\xb6rg@example.com", NULL },
	{ "\"j\xc3\xb6 rg\"@example.com", U, "\"j\xc3\xb6 rg\"@example.com", NULL },
	{ "\"\\\xc3\xb6\"@example.com",  U, NULL, "backslash" },
	{ "user@b\xc3\xbc" "cher.example", U, "user@xn--bcher-kva.example", NULL },
	{ "user@B\xc3\x9c" "CHER.Example", U, "user@xn--bcher-kva.example", NULL },
	{ "user@XN--BCHER-KVA.example",  0, "user@xn--bcher-kva.example", NULL },
	{ "user@bu\xcc\x88" "cher.example", U, "user@xn--bcher-kva.example", NULL },
	{ "user@a\xe3\x80\x82" "b",      U, "user@a.b", NULL },
	{ "user@b\xc3\xbc\xe3\x80\x82",  U, NULL, "ends with a dot" },
	{ "user@xn--a",                  0, NULL, "internationalised label" },
	{ "user@xn--",                   0, NULL, "hyphen" },
	{ "user@xn--n3h.net",            0, NULL, "internationalised label" },
	{ "user@\xe2\x98\x83.net",       U, NULL, "internationalised label" },
	{ "user@\xe2\x84\x80.com",       U, NULL, "no mail domain" },
	{ "user@ex\xef\xbc\x8f" "a.com", U, NULL, "no mail domain" },
	{ "user@a\xef\xbc\xa0" "b.com",  U, NULL, "no mail domain" },
	{ "user@\xef\xbc\x91.2.3.4",     U, NULL, "needs brackets" },
	{ "user@-\xc3\xbc.example",      U, NULL, "internationalised label" },
	{ "us\xc3(er@example.com",       U, NULL, "not valid UTF-8" },
	{ "us\xc0\xafr@example.com",     U, NULL, "not valid UTF-8" },
	{ "us\xed\xa0\x80r@example.com", U, NULL, "not valid UTF-8" },
	{ "us\xc2\x9br@example.com",     U, NULL, "control character" },
	{ "us\xe2\x80\xaer@example.com", U, NULL, "control character" },
	{ "user@\xff",                   U, NULL, "not valid UTF-8" },
};

/* clang-format on */

static void
check_parts(const struct address *a)
{
	if (a->text.len == 0 || a->domain.len == 0)
		return;
	assert_ptr_equal(a->local.ptr, a->text.ptr);
	assert_ptr_equal(a->domain.ptr, a->text.ptr + a->local.len + 1);
	assert_int_equal(a->local.len + 1 + a->domain.len, a->text.len);
	assert_int_equal(a->is_literal, a->domain.ptr[0] == '[');
	assert_int_equal(a->needs_utf8, !span_is_ascii(a->local));
	assert_true(span_is_ascii(a->domain));
	assert_true(span_eq(address_domain_of(a->text), a->domain));
}

static void
test_every_form_is_decided(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct arena *arena = arena_new();
		struct address a = { .text = SPAN("untouched") };
		const char *reason = NULL;
		int code = address_parse(
		    span_of(row->input), row->flags, arena, &a, &reason);
		if ((code == 0) != (row->text != NULL))
			fail_msg("%s: got %d, %s", row->input, code,
			    reason ? reason : "no reason");
		if (code == 0) {
			if (!span_eq(a.text, span_of(row->text)))
				fail_msg("%s: got %.*s", row->input,
				    SPAN_ARG(a.text));
			check_parts(&a);
		} else {
			assert_int_equal(code, ERR_SYNTAX);
			assert_non_null(reason);
			if (!strstr(reason, row->reason))
				fail_msg("%s: %s", row->input, reason);
			assert_true(span_eq(a.text, SPAN("untouched")));
		}
		arena_free(&arena);
	}
}

static void
test_nul_is_refused(void **state)
{
	static const struct span inputs[] = { SPAN("us\0er@local"),
		SPAN("user@lo\0cal"), SPAN("user\0"), SPAN("\"a\0\"@b") };
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
		struct address a;
		const char *reason = NULL;
		assert_int_equal(
		    address_parse(inputs[i], U | L, arena, &a, &reason),
		    ERR_SYNTAX);
		assert_string_equal(
		    reason, "a control character in the address");
	}
	arena_free(&arena);
}

static void
test_canonical_form_is_a_fixed_point(void **state)
{
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct address a;
		const char *reason = NULL;
		if (rows[i].text == NULL)
			continue;
		assert_int_equal(address_parse(span_of(rows[i].text),
				     U | L | N | P, arena, &a, &reason),
		    0);
		assert_true(span_eq(a.text, span_of(rows[i].text)));
	}
	arena_free(&arena);
}

static void
test_path(void **state)
{
	/* clang-format off */
	static const struct {
		const char *input;
		const char *text; /* NULL: refused */
		const char *rest;
	} paths[] = {
		{ "<a@b> SIZE=1",          "a@b", " SIZE=1" },
		{ "<a@b>",                 "a@b", "" },
		{ "<>",                    "", "" },
		{ "<> BODY=7BIT",          "", " BODY=7BIT" },
		{ "<\"a>b\"@c> x",         "\"a>b\"@c", " x" },
		{ "<\"a\\\">b\"@c>x",      "\"a\\\">b\"@c", "x" },
		{ "<a@b>>",                "a@b", ">" },
		{ "<postmaster>",          "postmaster", "" },
		{ "<@x:a@b>",              NULL, NULL },
		{ "<a@b",                  NULL, NULL },
		{ "<\"a>b@c>",             NULL, NULL },
		{ "<\"a\\",                NULL, NULL },
		{ "a@b",                   NULL, NULL },
		{ " <a@b>",                NULL, NULL },
		{ "<<a@b>>",               NULL, NULL },
		{ "<",                     NULL, NULL },
		{ "",                      NULL, NULL },
		{ "< a@b>",                NULL, NULL },
	};
	/* clang-format on */
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct span s = span_of(paths[i].input);
		struct address a;
		const char *reason = NULL;
		int code = address_parse_path(&s, N | P, arena, &a, &reason);
		if (paths[i].text == NULL) {
			assert_int_equal(code, ERR_SYNTAX);
			assert_non_null(reason);
			assert_ptr_equal(s.ptr, paths[i].input);
			assert_int_equal(s.len, strlen(paths[i].input));
			continue;
		}
		assert_int_equal(code, 0);
		assert_true(span_eq(a.text, span_of(paths[i].text)));
		assert_true(span_eq(s, span_of(paths[i].rest)));
	}
	arena_free(&arena);
}

static void
test_domain_of(void **state)
{
	(void)state;
	assert_true(
	    span_eq(address_domain_of(SPAN("a@b.example")), SPAN("b.example")));
	assert_true(span_eq(
	    address_domain_of(SPAN("\"x@y\"@b.example")), SPAN("b.example")));
	assert_int_equal(address_domain_of(SPAN_EMPTY).len, 0);
	assert_int_equal(address_domain_of(SPAN("postmaster")).len, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_form_is_decided),
		cmocka_unit_test(test_nul_is_refused),
		cmocka_unit_test(test_canonical_form_is_a_fixed_point),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_domain_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

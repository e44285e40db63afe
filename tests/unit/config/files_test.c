/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/mem.h"
#include "config/config.h"
#include "tls/stream.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char folder[64];
	char file[96];
	struct buf mistakes;
};

static int
set_up(void **state)
{
	struct fixture *f = MEM_NEW(struct fixture);

	(void)strcpy(f->folder, "/tmp/posthouse-config-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	(void)snprintf(f->file, sizeof f->file, "%s/file", f->folder);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	(void)unlink(f->file);
	assert_int_equal(rmdir(f->folder), 0);
	buf_done(&f->mistakes);
	mem_free(f);
	return 0;
}

static void
write_file(const struct fixture *f, const char *text, size_t len, mode_t mode)
{
	FILE *file = fopen(f->file, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(f->file, mode), 0);
}

static void
collect(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)file;
	buf_printf(arg, "%u:%u: %s\n", line, column, text);
}

#define HEAD                                                                   \
	"hostname: a.example\n"                                                \
	"listeners: [{address: \"127.0.0.1:1\", service: http}]\n"

/* A config whose `lines` have the file for their %s. */
static int
load_with(struct fixture *f, const char *before, const char *after,
    struct config **ret_config)
{
	char *AUTO_FREE text =
	    mem_printf(HEAD "%s%s%s", before, f->file, after);

	buf_clear(&f->mistakes);
	return config_parse(span_of(text), "test.yaml", true, collect,
	    &f->mistakes, ret_config);
}

static void
expect(struct fixture *f, const char *before, const char *after,
    const char *expected)
{
	struct config *config = NULL;

	assert_int_equal(load_with(f, before, after, &config), ERR_SYNTAX);
	const char *found = buf_cstring(&f->mistakes);
	const char *text = strstr(found, expected);
	if (!text || strchr(found, '\n')[1])
		fail_msg("%s is not the one mistake of %s", expected, found);
}

#define ROUTE                                                                  \
	"routes: [{domains: [b.example], deliver: smtp, to: h.example, "       \
	"username: u, password_file: "

static void
reads_the_password(void **state)
{
	static const char *const rows[] = { "s3cret", "s3cret\n", "s3cret\r\n",
		"s3cret\nmore\n" };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct config *c = NULL;
		write_file(f, rows[i], strlen(rows[i]), 0640);
		assert_int_equal(load_with(f, ROUTE, "}]\n", &c), 0);
		assert_string_equal(c->routes[0].password, "s3cret");
		struct buf out = BUF_EMPTY;
		config_show(c, true, &out);
		assert_null(strstr(buf_cstring(&out), "s3cret"));
		buf_done(&out);
		config_unref(&c);
	}
}

static void
refuses_bad_password_files(void **state)
{
	struct fixture *f = *state;

	expect(f, ROUTE, "}]\n", "cannot be read: ");
	write_file(f, "x", 1, 0644);
	expect(f, ROUTE, "}]\n", "everybody may read or write it");
	write_file(f, "x", 1, 0602);
	expect(f, ROUTE, "}]\n", "everybody may read or write it");
	write_file(f, "", 0, 0600);
	expect(f, ROUTE, "}]\n", "is not a password");
	write_file(f, "\nx", 2, 0600);
	expect(f, ROUTE, "}]\n", "is not a password");
	write_file(f, "a\0b", 3, 0600);
	expect(f, ROUTE, "}]\n", "is not a password");
	char *AUTO_FREE long_text = mem_alloc(5000);
	memset(long_text, 'x', 5000);
	write_file(f, long_text, 2000, 0600);
	expect(f, ROUTE, "}]\n", "is not a password");
	write_file(f, long_text, 5000, 0600);
	expect(f, ROUTE, "}]\n", "cannot be read: ");
	assert_int_equal(unlink(f->file), 0);
	assert_int_equal(mkfifo(f->file, 0600), 0);
	expect(f, ROUTE, "}]\n", "is not a regular file");
}

static void
checks_anchors(void **state)
{
	struct fixture *f = *state;
	struct config *c = NULL;

	write_file(f, "x", 1, 0644);
	assert_int_equal(
	    load_with(f, "resolver: {trust_anchor: ", "}\n", &c), 0);
	config_unref(&c);
	assert_int_equal(unlink(f->file), 0);
	expect(f, "resolver: {trust_anchor: ", "}\n", "cannot be read: ");
}

/* One file with a certificate, its key, or both. */
static void
write_pem(const struct fixture *f, bool has_certificate, bool has_key)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;

	assert_int_equal(
	    tls_make_self_signed("a.example", &certificate, &key), 0);
	if (!has_certificate)
		buf_clear(&certificate);
	if (has_key)
		buf_append(&certificate, buf_span(&key));
	struct span pem = buf_span(&certificate);
	write_file(f, pem.ptr, pem.len, 0600);
	buf_done(&certificate);
	buf_done(&key);
}

static void
checks_certificates(void **state)
{
	struct fixture *f = *state;
	struct config *c = NULL;
	char *AUTO_FREE before =
	    mem_printf("tls: {certificate: %s, private_key: ", f->file);

	write_pem(f, true, true);
	assert_int_equal(load_with(f, before, "}\n", &c), 0);
	config_unref(&c);
	assert_int_equal(chmod(f->file, 0604), 0);
	expect(f, before, "}\n", "is a secret");
	write_pem(f, true, false);
	expect(f, before, "}\n", "3:20: certificate ");
	write_pem(f, false, true);
	expect(f, before, "}\n", "cannot use the certificate: ");
	write_file(f, "x", 1, 0600);
	expect(f, before, "}\n", "must be a chain in PEM");
}

static void
checks_authorities(void **state)
{
	static const char before[] =
	    "routes: [{domains: [b.example], deliver: smtp, to: h.example, "
	    "tls: require, tls_ca: ";
	struct fixture *f = *state;
	struct config *c = NULL;

	write_pem(f, true, false);
	assert_int_equal(load_with(f, before, "}]\n", &c), 0);
	config_unref(&c);
	write_file(f, "x", 1, 0600);
	expect(f, before, "}]\n", "cannot read CAs from ");
}

static void
loads_a_file(void **state)
{
	struct fixture *f = *state;
	struct config *c = NULL;

	write_file(f, HEAD, strlen(HEAD), 0644);
	assert_int_equal(
	    config_load(f->file, true, collect, &f->mistakes, &c), 0);
	assert_string_equal(c->path, f->file);
	config_unref(&c);
	write_file(f, HEAD "x: 1\n", strlen(HEAD "x: 1\n"), 0644);
	assert_int_equal(
	    config_load(f->file, true, collect, &f->mistakes, &c), ERR_SYNTAX);
	assert_non_null(strstr(buf_cstring(&f->mistakes), "3:1: unknown key"));
	assert_int_equal(unlink(f->file), 0);
	buf_clear(&f->mistakes);
	assert_int_equal(
	    config_load(f->file, true, collect, &f->mistakes, &c), -ENOENT);
	assert_non_null(
	    strstr(buf_cstring(&f->mistakes), "0:0: cannot be read"));
	assert_null(c);
}

static void
refuses_a_huge_file(void **state)
{
	struct fixture *f = *state;
	struct config *c = NULL;

	write_file(f, "", 0, 0644);
	assert_int_equal(truncate(f->file, 1024 * 1024 + 1), 0);
	assert_int_equal(
	    config_load(f->file, true, collect, &f->mistakes, &c), ERR_LIMIT);
	assert_non_null(strstr(buf_cstring(&f->mistakes), "larger than 1 MiB"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_the_password),
		TEST(refuses_bad_password_files),
		TEST(checks_anchors),
		TEST(checks_certificates),
		TEST(checks_authorities),
		TEST(loads_a_file),
		TEST(refuses_a_huge_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

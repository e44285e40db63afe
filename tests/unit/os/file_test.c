/* SPDX-License-Identifier: Apache-2.0 */
#include "os/file.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"

static char directory[] = "/tmp/posthouse-file-XXXXXX";

static int
make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static char *
path_of(const char *name)
{
	return mem_printf("%s/%s", directory, name);
}

static size_t
count_entries(const char *path)
{
	char *AUTO_FREE command = mem_printf("ls -A %s", path);
	FILE *list = popen(command, "r");
	size_t lines = 0;
	int c;

	assert_non_null(list);
	while ((c = getc(list)) != EOF)
		lines += c == '\n';
	pclose(list);
	return lines;
}

static void
test_replace_and_read(void **state)
{
	(void)state;
	char *AUTO_FREE sub = path_of("replace");
	char *AUTO_FREE path = path_of("replace/file");
	struct buf content = BUF_EMPTY;
	struct stat st;

	assert_int_equal(file_make_directory(sub, 0700), 0);
	mode_t before = umask(077);
	assert_int_equal(file_replace(path, SPAN("one"), 0644), 0);
	umask(before);
	assert_int_equal(file_replace(path, SPAN("two\0x"), 0644), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	buf_append_str(&content, ">");
	assert_int_equal(file_read(path, 5, &content), 0);
	assert_true(span_eq(buf_span(&content), SPAN(">two\0x")));
	assert_int_equal(file_read(path, 4, &content), ERR_LIMIT);
	assert_int_equal(buf_size(&content), 6); /* untouched on failure */
	assert_int_equal(count_entries(sub), 1);
	buf_done(&content);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(sub), 0);
}

static void
test_large_file(void **state)
{
	(void)state;
	char *AUTO_FREE path = path_of("large");

	enum { SIZE = 300000 };

	char *AUTO_FREE bytes = mem_alloc(SIZE);
	struct buf content = BUF_EMPTY;

	for (int i = 0; i < SIZE; i++)
		bytes[i] = (char)(i % 251);
	assert_int_equal(file_replace(path, span_from(bytes, SIZE), 0600), 0);
	assert_int_equal(file_read(path, SIZE, &content), 0);
	assert_true(span_eq(buf_span(&content), span_from(bytes, SIZE)));
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	char piece[10];
	assert_int_equal(file_pread_all(fd, piece, 10, 1000), 0);
	assert_memory_equal(piece, bytes + 1000, 10);
	assert_int_equal(
	    file_pread_all(fd, piece, 10, SIZE - 9), ERR_TRUNCATED);
	buf_done(&content);
	assert_int_equal(unlink(path), 0);
}

static void
test_failures(void **state)
{
	(void)state;
	char *AUTO_FREE missing = path_of("missing/file");
	char *AUTO_FREE plain = path_of("plain");
	char *AUTO_FREE below = path_of("plain/below");
	struct buf content = BUF_EMPTY;

	assert_int_equal(file_read(missing, 10, &content), -ENOENT);
	assert_int_equal(file_replace(missing, SPAN("x"), 0600), -ENOENT);
	assert_int_equal(file_replace(plain, SPAN("x"), 0600), 0);
	assert_int_equal(file_make_directory(plain, 0700), -ENOTDIR);
	assert_int_equal(file_make_directory(below, 0700), -ENOTDIR);
	assert_int_equal(file_make_directory("", 0700), -ENOENT);
	assert_int_equal(file_sync_directory(plain), -ENOTDIR);
	/* A directory in the way: the temporary file must not stay. */
	char *AUTO_FREE blocked = path_of("blocked");
	char *AUTO_FREE inside = path_of("blocked/inside");
	assert_int_equal(file_make_directory(inside, 0700), 0);
	assert_true(file_replace(blocked, SPAN("x"), 0600) < 0);
	assert_int_equal(count_entries(directory), 2);
	assert_int_equal(rmdir(inside), 0);
	assert_int_equal(rmdir(blocked), 0);
	assert_int_equal(unlink(plain), 0);
	buf_done(&content);
}

static void
test_make_directory(void **state)
{
	(void)state;
	char *AUTO_FREE deep = path_of("a//b/c/");
	char *AUTO_FREE a = path_of("a"), *AUTO_FREE b = path_of("a/b"),
			*AUTO_FREE c = path_of("a/b/c");
	struct stat st;

	mode_t before = umask(022);
	assert_int_equal(file_make_directory(deep, 0700), 0);
	umask(before);
	assert_int_equal(stat(b, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	assert_int_equal(stat(c, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(file_make_directory(deep, 0700), 0);
	assert_int_equal(file_sync_directory(c), 0);
	assert_int_equal(file_make_directory("/", 0700), 0);
	assert_int_equal(rmdir(c), 0);
	assert_int_equal(rmdir(b), 0);
	assert_int_equal(rmdir(a), 0);
}

static int
remove_directory(void **state)
{
	(void)state;
	return rmdir(directory); /* fails when a test left something */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace_and_read),
		cmocka_unit_test(test_large_file),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_make_directory),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

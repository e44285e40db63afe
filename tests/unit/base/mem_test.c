/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* clang-format on */

static void
test_sizes(void **state)
{
	(void)state;
	char *p = mem_alloc(0);
	assert_non_null(p);
	p = mem_resize(p, 10, 3);
	memset(p, 'x', 30);
	p = mem_resize(p, 0, 3);
	assert_non_null(p);
	mem_free(p);
	mem_free(NULL);
	char *AUTO_FREE zeroes = mem_zalloc(100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(zeroes[i], 0);
}

static void
test_copies(void **state)
{
	(void)state;
	char *AUTO_FREE copy = mem_strdup("text");
	assert_string_equal(copy, "text");
	char *AUTO_FREE bytes = mem_dup("a\0b", 3);
	assert_memory_equal(bytes, "a\0b", 3);
	char *AUTO_FREE printed = mem_printf("%s/%d", "spool", 7);
	assert_string_equal(printed, "spool/7");
}

static void
test_secrets(void **state)
{
	(void)state;
	char secret[] = "secret";
	assert_true(mem_equal_secret(secret, "secret", 6));
	assert_false(mem_equal_secret(secret, "secreT", 6));
	assert_false(mem_equal_secret(secret, "Secret", 6));
	assert_true(mem_equal_secret(secret, "x", 0));
	mem_wipe(secret, sizeof secret);
	assert_memory_equal(secret, "\0\0\0\0\0\0\0", sizeof secret);
	mem_wipe(NULL, 0);
}

static void
overflow(void)
{
	mem_free(mem_resize(NULL, SIZE_MAX / 2, 3));
}

/* A broken invariant says so and aborts, in a child. */
static void
test_overflow_aborts(void **state)
{
	(void)state;
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit none = { 0 };
		(void)setrlimit(RLIMIT_CORE, &none);
		(void)signal(SIGABRT, SIG_DFL);
		(void)dup2(ends[1], STDERR_FILENO);
		overflow();
		_exit(0);
	}
	close(ends[1]);
	char text[256] = "";
	ssize_t len = read(ends[0], text, sizeof text - 1);
	close(ends[0]);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_true(len > 0 && strstr(text, "memory size overflows"));
	assert_int_equal(text[len - 1], '\n');
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_overflow_aborts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

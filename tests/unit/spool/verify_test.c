/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct problems {
	unsigned count;
	char file[160];
	uint64_t offset;
};

static void
on_problem(void *arg, const char *file, uint64_t offset, const char *problem)
{
	struct problems *problems = arg;

	assert_true(strlen(problem) > 5);
	problems->count++;
	(void)snprintf(problems->file, sizeof problems->file, "%s", file);
	problems->offset = offset;
}

static void
test_verify(void **state)
{
	struct fixture f;
	struct problems problems = { 0 };
	struct spool_verify_result result;
	char segment[128], body[128];

	(void)state;
	fixture_setup(&f);
	/* Where there is no spool, none is made. */
	assert_int_equal(ERR_NOT_FOUND,
	    spool_verify(f.directory, on_problem, &problems, &result));
	(void)snprintf(segment, sizeof segment, "%s/LOCK", f.directory);
	assert_int_equal(-1, access(segment, F_OK));

	fixture_open(&f);
	fixture_done(f.spool, fixture_send(f.spool, 100, 1), 0, 1);
	(void)fixture_send(f.spool, 100, 3);
	uint64_t large = fixture_send(f.spool, 500000, 2);
	assert_int_equal(ERR_EXISTS,
	    spool_verify(f.directory, on_problem, &problems, &result));
	fixture_close(&f);

	assert_int_equal(
	    0, spool_verify(f.directory, on_problem, &problems, &result));
	assert_int_equal(1, result.segments);
	assert_int_equal(3, result.messages);
	assert_int_equal(2, result.live_messages);
	assert_int_equal(5, result.live_recipients);
	assert_int_equal(0, result.problems);
	assert_true(result.records >= 8);

	(void)snprintf(
	    segment, sizeof segment, "%s/0000000000000001.seg", f.directory);
	(void)snprintf(body, sizeof body, "%s/big/%016llx", f.directory,
	    (unsigned long long)large);
	fixture_flip_byte(body, 400000);
	assert_int_equal(
	    1, spool_verify(f.directory, on_problem, &problems, &result));
	assert_int_equal(1, problems.count);
	fixture_flip_byte(segment, 4096 + 100); /* the first batch's message */
	assert_int_equal(2, spool_verify(f.directory, NULL, NULL, &result));
	assert_int_equal(2, result.messages);
	fixture_flip_byte(body, 400000);
	assert_int_equal(
	    1, spool_verify(f.directory, on_problem, &problems, &result));
	assert_string_equal(segment, problems.file);
	assert_int_equal(4096 + 80, problems.offset);
	fixture_flip_byte(segment, 4096 + 100);
	/* Looking has changed nothing. */
	assert_int_equal(
	    0, spool_verify(f.directory, on_problem, &problems, &result));
	assert_int_equal(0, unlink(body));
	assert_int_equal(
	    1, spool_verify(f.directory, on_problem, &problems, &result));
	assert_string_equal(body, problems.file);
	fixture_teardown(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verify),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

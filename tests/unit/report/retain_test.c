/* SPDX-License-Identifier: Apache-2.0 */

/* Which event files stay, by age and by size. */

#include "../intake/door.h"
#include "base/time.h"
#include "report/internal.h"

#include <sys/stat.h>

#define KIB UINT64_C(1024)

static const char *const days[] = { "2026-11-20.jsonl", "2026-11-21.jsonl",
	"2026-11-21.1.jsonl", "2026-11-21.10.jsonl", "2026-11-23.jsonl" };

/* One KiB each, beside what is none of ours. */
static int
setup(void **state)
{
	static char path[] = "/tmp/retain-test-XXXXXX";
	char line[KIB];

	memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
	assert_non_null(mkdtemp(path));
	memset(line, 'x', sizeof(line));
	for (size_t i = 0; i < sizeof(days) / sizeof(*days); i++) {
		AUTO_FREE char *file = mem_printf("%s/%s", path, days[i]);
		struct span content = span_from(line, sizeof(line));

		assert_int_equal(0, file_replace(file, content, 0640));
	}
	AUTO_FREE char *position = mem_printf("%s/position", path);
	assert_int_equal(0, file_replace(position, SPAN("0 - 0\n"), 0640));
	*state = path;
	return 0;
}

static int
teardown(void **state)
{
	AUTO_FREE char *command = mem_printf("rm -r %s", (char *)*state);

	return system(command);
}

/* The names that are there must be days[first] and all after it. */
static void
check_kept(const char *path, size_t first)
{
	AUTO_FREE char *position = mem_printf("%s/position", path);
	struct events_files files;

	assert_int_equal(0, events_list_files(path, &files));
	assert_int_equal(sizeof(days) / sizeof(*days) - first, files.count);
	for (size_t i = 0; i < files.count; i++)
		assert_string_equal(days[first + i], files.names[i]);
	events_files_done(&files);
	assert_int_equal(0, access(position, R_OK));
}

static void
test_limits(void **state)
{
	static const struct {
		struct event_limits limits;
		const char *now;
		size_t first; /* of `days` that stays */
	} cases[] = {
		{ { 0, 0 }, "2036-11-23T12:00:00Z", 0 },
		{ { 2 * US_PER_DAY, 0 }, "2026-11-23T00:00:00Z", 0 },
		{ { 2 * US_PER_DAY, 0 }, "2026-11-23T00:00:01Z", 1 },
		{ { 0, 5 * KIB }, "2026-11-23T00:00:00Z", 1 },
		{ { 0, 4 * KIB - 1 }, "2026-11-23T00:00:00Z", 2 },
		{ { US_PER_DAY, 3 * KIB }, "2026-11-22T12:00:00Z", 2 },
		{ { US_PER_DAY, 0 }, "2026-11-24T00:00:00Z", 4 },
		{ { US_PER_DAY, 1 }, "2036-11-23T00:00:00Z", 4 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int64_t now_us;

		assert_true(time_parse_rfc3339(span_of(cases[i].now), &now_us));
		assert_int_equal(
		    0, events_retain(*state, &cases[i].limits, now_us));
		check_kept(*state, cases[i].first);
	}
}

static void
test_clock_set_back(void **state)
{
	const struct event_limits limits = { US_PER_DAY, 0 };

	assert_int_equal(0, events_retain(*state, &limits, 0));
	check_kept(*state, 0);
}

static void
test_no_directory(void **state)
{
	const struct event_limits limits = { US_PER_DAY, 1 };

	(void)state;
	assert_int_equal(
	    0, events_retain("/nonexistent/events", &limits, US_PER_DAY));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_clock_set_back, setup, teardown),
		cmocka_unit_test(test_no_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */

/* The event log as a projection of the spool: nothing lost, nothing twice,
 * wherever its writer was stopped. */

#include "../intake/door.h"
#include "base/time.h"
#include "report/export.h"

#include <fcntl.h>
#include <sys/stat.h>

struct stage {
	struct door door;
	struct exporter *exporter;
	char *events;
	unsigned sent;
};

static const struct event_limits no_limits = { 0 };

static void
start(struct stage *s)
{
	struct failure failure = { 0 };

	if (exporter_start(s->door.spool, s->events, &no_limits, &s->exporter,
		&failure) < 0)
		fail_msg("%s", failure.text);
}

static int
setup(void **state)
{
	static struct stage s;

	s = (struct stage){ 0 };
	door_open(&s.door, DOOR_CONFIG);
	s.events = mem_printf("%s/events", s.door.path);
	start(&s);
	*state = &s;
	return 0;
}

static int
teardown(void **state)
{
	struct stage *s = *state;

	exporter_stop(&s->exporter);
	door_close(&s->door);
	mem_free(s->events);
	return 0;
}

static void
reopen_spool(struct stage *s)
{
	spool_close(&s->door.spool);
	door_open_spool(&s->door);
}

/* Commits one line, "{"n":1}" and so on. */
static void
tell(struct stage *s, unsigned count)
{
	char line[64];

	for (unsigned i = 0; i < count; i++) {
		struct spool_txn *txn = spool_txn_new(s->door.spool);

		(void)snprintf(line, sizeof line, "{\"n\":%u}\n", ++s->sent);
		spool_txn_event(txn, span_of(line));
		assert_int_equal(0, spool_txn_commit(&txn));
	}
}

/* All files hold each line once and in order. */
static void
check_all(struct stage *s)
{
	const struct event_query all = { 0 };
	struct buf lines = BUF_EMPTY, want = BUF_EMPTY;
	size_t count = 0;

	for (unsigned i = 1; i <= s->sent; i++)
		buf_printf(&want, "{\"n\":%u}\n", i);
	assert_int_equal(0, events_find(s->events, &all, &lines, &count));
	if (!span_eq(buf_span(&want), buf_span(&lines)))
		fail_msg("%zu of %u lines: %.*s", count, s->sent,
		    SPAN_ARG(span_slice(buf_span(&lines), 0, 2000)));
	assert_int_equal(s->sent, count);
	buf_done(&lines);
	buf_done(&want);
}

static char *
path_of(const struct stage *s, int64_t wall_us, const char *rest)
{
	char day[TIME_RFC3339_SIZE];

	return mem_printf(
	    "%s/%.10s%s", s->events, time_format_rfc3339(wall_us, day), rest);
}

static void
append(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(0, file_write_all(fd, span_of(text)));
	close(fd);
}

static void
test_restart(void **state)
{
	struct stage *s = *state;

	for (int i = 0; i < 3; i++) {
		tell(s, 20);
		exporter_stop(&s->exporter);
		check_all(s);
		reopen_spool(s);
		start(s);
		exporter_stop(&s->exporter);
		check_all(s);
		start(s);
	}
}

/* What was written behind the remembered length was not remembered as told:
 * it comes again from the spool, so it is cut away first. */
static void
test_cut_after_crash(void **state)
{
	struct stage *s = *state;
	AUTO_FREE char *position = mem_printf("%s/position", s->events);
	AUTO_FREE char *file = path_of(s, clock_wall_us(), ".jsonl");
	AUTO_FREE char *next = path_of(s, clock_wall_us(), ".1.jsonl");
	struct buf before = BUF_EMPTY;

	tell(s, 10);
	exporter_stop(&s->exporter);
	assert_int_equal(0, file_read(position, 4096, &before));
	start(s);
	tell(s, 10);
	exporter_stop(&s->exporter);
	check_all(s);
	/* as if killed between the events and the position */
	assert_int_equal(0, file_replace(position, buf_span(&before), 0640));
	append(file, "{\"n\":21");
	append(next, "{\"n\":22}\n");
	reopen_spool(s);
	start(s);
	exporter_stop(&s->exporter);
	check_all(s);
	assert_int_equal(-1, access(next, F_OK));
	buf_done(&before);
	start(s);
}

/* Killed before it ever wrote a position. */
static void
test_lost_position(void **state)
{
	struct stage *s = *state;
	AUTO_FREE char *position = mem_printf("%s/position", s->events);
	AUTO_FREE char *file = path_of(s, clock_wall_us(), ".jsonl");

	tell(s, 5);
	exporter_stop(&s->exporter);
	assert_int_equal(0, unlink(position));
	assert_int_equal(0, unlink(file));
	start(s);
	exporter_stop(&s->exporter);
	check_all(s);
	start(s);
}

static void
test_bad_position(void **state)
{
	static const char *const texts[] = { "", "x", "12 ../../x 3\n",
		"12 0000-00-/../x.jsonl 3\n", "12 2026-11-23.jsonl\n" };
	struct stage *s = *state;
	AUTO_FREE char *position = mem_printf("%s/position", s->events);
	struct failure failure = { 0 };

	exporter_stop(&s->exporter);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		assert_int_equal(
		    0, file_replace(position, span_of(texts[i]), 0640));
		assert_true(exporter_start(s->door.spool, s->events, &no_limits,
				&s->exporter, &failure) < 0);
		assert_non_null(strstr(failure.text, "position"));
	}
	assert_int_equal(0, unlink(position));
	start(s);
}

/* A clock that was set back must not lead to an earlier file, which a restart
 * would take for the last one. */
static void
test_clock_set_back(void **state)
{
	struct stage *s = *state;
	AUTO_FREE char *position = mem_printf("%s/position", s->events);
	AUTO_FREE char *tomorrow =
	    path_of(s, clock_wall_us() + 2 * US_PER_DAY, ".jsonl");
	AUTO_FREE char *today = path_of(s, clock_wall_us(), ".jsonl");
	uint64_t lsn, length;
	struct buf text = BUF_EMPTY;

	tell(s, 3);
	exporter_stop(&s->exporter);
	assert_int_equal(0, rename(today, tomorrow));
	assert_int_equal(0, file_read(position, 4096, &text));
	struct span rest = buf_span(&text);
	assert_true(span_to_u64(span_cut(&rest, ' '), UINT64_MAX, &lsn));
	(void)span_cut(&rest, ' ');
	assert_true(span_to_u64(span_trim(rest), UINT64_MAX, &length));
	buf_clear(&text);
	buf_printf(&text, "%llu %s %llu\n", (unsigned long long)lsn,
	    strrchr(tomorrow, '/') + 1, (unsigned long long)length);
	assert_int_equal(0, file_replace(position, buf_span(&text), 0640));
	buf_done(&text);
	start(s);
	tell(s, 3);
	exporter_stop(&s->exporter);
	assert_int_equal(-1, access(today, F_OK));
	check_all(s);
	start(s);
}

/* A file that somebody shortened is not stretched with NULs. */
static void
test_shortened(void **state)
{
	struct stage *s = *state;
	AUTO_FREE char *file = path_of(s, clock_wall_us(), ".jsonl");
	struct buf text = BUF_EMPTY;

	tell(s, 3);
	exporter_stop(&s->exporter);
	assert_int_equal(0, truncate(file, 0));
	start(s);
	tell(s, 1);
	exporter_stop(&s->exporter);
	assert_int_equal(0, file_read(file, 4096, &text));
	assert_true(span_eq(SPAN("{\"n\":4}\n"), buf_span(&text)));
	buf_done(&text);
	start(s);
}

/* A directory that cannot be written holds events back, but loses none. */
static void
test_trouble_passes(void **state)
{
	struct stage *s = *state;
	AUTO_FREE char *file = path_of(s, clock_wall_us(), ".jsonl");

	exporter_stop(&s->exporter);
	assert_int_equal(0, mkdir(file, 0700)); /* in the way */
	start(s);
	tell(s, 2);
	exporter_stop(&s->exporter);
	assert_int_equal(0, rmdir(file));
	start(s);
	exporter_stop(&s->exporter);
	check_all(s);
	start(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_cut_after_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_lost_position, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_bad_position, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_clock_set_back, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_shortened, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_trouble_passes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/time.h"
#include "directory/suppression.h"
#include "directory/suppression_index.h"
#include "os/clock.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char folder[64];
	char path[96];
	struct directory *d;
	struct failure failure;
};

static struct directory *
open_at(const char *path)
{
	struct directory *d = NULL;
	struct failure failure = { 0 };

	if (directory_open(path, &d, &failure) < 0 ||
	    suppressions_load(d, &failure) < 0)
		fail_msg("%s", failure.text);
	return d;
}

static int
set_up(void **state)
{
	struct fixture *f = MEM_NEW(struct fixture);

	(void)strcpy(f->folder, "/tmp/posthouse-suppression-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	(void)snprintf(f->path, sizeof f->path, "%s/directory.db", f->folder);
	f->d = open_at(f->path);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "directory.db", "directory.db-wal",
		"directory.db-shm" };
	char path[128];

	directory_close(&f->d);
	for (unsigned i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", f->folder, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(f->folder), 0);
	mem_free(f);
	return 0;
}

static uint64_t
add(struct fixture *f, struct suppression entry, bool replace)
{
	uint64_t changed = 0;

	if (suppressions_add(f->d, &entry, 1, replace, &changed, &f->failure) <
	    0)
		fail_msg("%s", f->failure.text);
	return changed;
}

static enum suppression_cause
find(struct fixture *f, uint32_t tenant, uint32_t stream, const char *address)
{
	enum suppression_cause cause = 0;

	if (!suppression_find(f->d, tenant, stream, span_of(address), &cause))
		return 0;
	return cause;
}

static void
test_scopes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(find(f, 1, 1, "a@x.example"), 0);
	add(f,
	    (struct suppression){ .address = SPAN("relay@x.example"),
		.cause = SUPPRESSION_MANUAL },
	    true);
	add(f,
	    (struct suppression){ .tenant = 1,
		.address = SPAN("tenant@x.example"),
		.cause = SUPPRESSION_NO_SUCH_USER },
	    true);
	add(f,
	    (struct suppression){ .tenant = 1,
		.stream = 2,
		.address = SPAN("stream@x.example"),
		.cause = SUPPRESSION_COMPLAINT },
	    true);

	/* clang-format off */
	static const struct { uint32_t tenant, stream; const char *address; int cause; } cases[] = {
		{ 1, 1, "relay@x.example",  SUPPRESSION_MANUAL },
		{ 2, 3, "relay@x.example",  SUPPRESSION_MANUAL },
		{ 1, 1, "tenant@x.example", SUPPRESSION_NO_SUCH_USER },
		{ 1, 2, "tenant@x.example", SUPPRESSION_NO_SUCH_USER },
		{ 2, 3, "tenant@x.example", 0 },
		{ 1, 2, "stream@x.example", SUPPRESSION_COMPLAINT },
		{ 1, 1, "stream@x.example", 0 },
		{ 2, 2, "stream@x.example", 0 },
		{ 1, 2, "STREAM@x.example", SUPPRESSION_COMPLAINT },
		{ 1, 2, "stream@x.exampl",  0 },
		{ 1, 2, "streal@x.example", 0 },
		{ 1, 2, "", 0 },
	};

	/* clang-format on */
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(
		    find(f, cases[i].tenant, cases[i].stream, cases[i].address),
		    cases[i].cause);
}

static void
test_precedence(void **state)
{
	struct fixture *f = *state;
	struct suppression s = { .tenant = 1,
		.address = SPAN("A@x.example"),
		.cause = SUPPRESSION_COMPLAINT };

	assert_int_equal(add(f, s, false), 1);
	/* What stands for good is not softened by a later reply … */
	s.cause = SUPPRESSION_NO_SUCH_USER;
	s.expire_us = clock_wall_us() + US_PER_DAY;
	s.address = SPAN("a@x.example");
	assert_int_equal(add(f, s, false), 0);
	assert_int_equal(find(f, 1, 1, "a@x.example"), SUPPRESSION_COMPLAINT);
	/* … but by a person. */
	assert_int_equal(add(f, s, true), 1);
	assert_int_equal(
	    find(f, 1, 1, "a@x.example"), SUPPRESSION_NO_SUCH_USER);
	s.cause = SUPPRESSION_MOVED;
	s.expire_us = 0;
	assert_int_equal(add(f, s, false), 1);
	assert_int_equal(find(f, 1, 1, "a@x.example"), SUPPRESSION_MOVED);
	assert_int_equal(suppressions_memory(f->d).entries, 1);
}

struct seen {
	unsigned count;
	char evidence[64];
	uint64_t last;
};

static void
on_entry(void *arg, const struct suppression *entry)
{
	struct seen *seen = arg;

	assert_true(entry->id > seen->last);
	seen->last = entry->id;
	seen->count++;
	(void)span_to_cstring(
	    entry->evidence, seen->evidence, sizeof seen->evidence);
}

static void
test_list_and_remove(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { 0 };
	struct suppression_query q = { .limit = 10 };

	for (uint32_t i = 0; i < 5; i++) {
		char address[32];
		(void)snprintf(address, sizeof address, "u%u@x.example", i);
		add(f,
		    (struct suppression){ .tenant = 1 + i % 2,
			.address = span_of(address),
			.cause = SUPPRESSION_MANUAL,
			.evidence = SPAN("one\r\ntwo\xff\xc3\xa9") },
		    true);
	}
	assert_int_equal(
	    suppressions_list(f->d, &q, on_entry, &seen, &f->failure), 0);
	assert_int_equal(seen.count, 5);
	assert_string_equal(seen.evidence, "one  two?\xc3\xa9");
	q.has_tenant = true;
	q.tenant = 2;
	seen = (struct seen){ 0 };
	assert_int_equal(
	    suppressions_list(f->d, &q, on_entry, &seen, &f->failure), 0);
	assert_int_equal(seen.count, 2);
	q = (struct suppression_query){ .address = SPAN("U3@x.example"),
		.limit = 10 };
	seen = (struct seen){ 0 };
	assert_int_equal(
	    suppressions_list(f->d, &q, on_entry, &seen, &f->failure), 0);
	assert_int_equal(seen.count, 1);
	q = (struct suppression_query){ .after = 2, .limit = 2 };
	seen = (struct seen){ 0 };
	assert_int_equal(
	    suppressions_list(f->d, &q, on_entry, &seen, &f->failure), 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.last, 4);

	assert_int_equal(
	    suppression_remove(f->d, 1, 0, SPAN("U3@x.example"), &f->failure),
	    ERR_NOT_FOUND);
	assert_int_equal(
	    suppression_remove(f->d, 2, 0, SPAN("U3@x.example"), &f->failure),
	    0);
	assert_int_equal(find(f, 2, 9, "u3@x.example"), 0);
	assert_int_equal(find(f, 2, 9, "u1@x.example"), SUPPRESSION_MANUAL);
}

static void
test_survives_and_follows(void **state)
{
	struct fixture *f = *state;
	struct suppression s = { .tenant = 7,
		.address = SPAN("a@x.example"),
		.cause = SUPPRESSION_MOVED };

	add(f, s, true);
	directory_close(&f->d);
	f->d = open_at(f->path);
	assert_int_equal(find(f, 7, 1, "a@x.example"), SUPPRESSION_MOVED);

	/* Another process's changes. */
	struct directory *other = open_at(f->path);
	uint64_t changed;
	s.address = SPAN("b@x.example");
	assert_int_equal(
	    suppressions_add(other, &s, 1, true, &changed, &f->failure), 0);
	assert_int_equal(
	    suppression_remove(other, 7, 0, SPAN("a@x.example"), &f->failure),
	    0);
	assert_int_equal(directory_refresh(f->d), 1);
	assert_int_equal(find(f, 7, 1, "b@x.example"), SUPPRESSION_MOVED);
	assert_int_equal(find(f, 7, 1, "a@x.example"), 0);
	directory_close(&other);
}

static void
test_expires(void **state)
{
	struct fixture *f = *state;
	int64_t now_us = clock_wall_us();

	for (uint32_t i = 0; i < 5; i++) {
		char address[32];
		(void)snprintf(address, sizeof address, "u%u@x.example", i);
		add(f,
		    (struct suppression){ .tenant = 1,
			.address = span_of(address),
			.cause = SUPPRESSION_NO_SUCH_USER,
			.expire_us = i < 3 ? now_us + 1 : now_us + US_PER_DAY },
		    true);
	}
	assert_int_equal(suppressions_expire(f->d, now_us, 10), 0);
	assert_int_equal(suppressions_expire(f->d, now_us + 1, 2), 2);
	assert_int_equal(suppressions_expire(f->d, now_us + 1, 2), 1);
	assert_int_equal(suppressions_expire(f->d, now_us + 1, 2), 0);
	assert_int_equal(find(f, 1, 1, "u0@x.example"), 0);
	assert_int_equal(
	    find(f, 1, 1, "u4@x.example"), SUPPRESSION_NO_SUCH_USER);
	assert_int_equal(suppressions_memory(f->d).entries, 2);
}

static void
test_damaged_rows(void **state)
{
	struct fixture *f = *state;
	sqlite3 *db = NULL;

	add(f,
	    (struct suppression){ .tenant = 1,
		.address = SPAN("a@x.example"),
		.cause = SUPPRESSION_MOVED },
	    true);
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE suppression SET cause = 99",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(suppressions_load(f->d, &f->failure), ERR_CORRUPT);
	/* What was known stays. */
	assert_int_equal(find(f, 1, 1, "a@x.example"), SUPPRESSION_MOVED);
}

static void
test_index(void **state)
{
	enum { COUNT = 300000 };
	struct suppression_index *index = suppression_index_new();
	char text[32];
	enum suppression_cause cause;

	(void)state;
	for (uint32_t i = 0; i < COUNT; i++) {
		int len = snprintf(text, sizeof text, "u%u@x.example", i);
		const struct suppression_key key = { .tenant = 1 + i % 3,
			.address = span_from(text, (size_t)len) };
		suppression_index_put(
		    index, &key, 1 + i % (SUPPRESSION_CAUSES - 1));
	}
	assert_int_equal(suppression_index_memory(index).entries, COUNT);
	for (uint32_t i = 0; i < COUNT; i += 2) {
		int len = snprintf(text, sizeof text, "u%u@x.example", i);
		const struct suppression_key key = { .tenant = 1 + i % 3,
			.address = span_from(text, (size_t)len) };
		suppression_index_remove(index, &key);
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		int len = snprintf(text, sizeof text, "u%u@x.example", i);
		struct suppression_key key = { .tenant = 1 + i % 3,
			.stream = 5,
			.address = span_from(text, (size_t)len) };
		assert_int_equal(
		    suppression_index_find(index, &key, &cause), i % 2);
		if (i % 2 == 1)
			assert_int_equal(
			    cause, 1 + i % (SUPPRESSION_CAUSES - 1));
		key.tenant = 1 + (i + 1) % 3;
		assert_false(suppression_index_find(index, &key, &cause));
	}
	suppression_index_free(&index);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_scopes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_precedence, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_list_and_remove, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_survives_and_follows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_expires, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_damaged_rows, set_up, tear_down),
		cmocka_unit_test(test_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

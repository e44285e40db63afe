/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "directory/directory.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <sqlite3.h>
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
	char path[96];
	struct directory *d;
	struct failure failure;
};

static struct directory *
open_at(const char *path)
{
	struct directory *d = NULL;
	struct failure failure = { 0 };

	if (directory_open(path, &d, &failure) < 0)
		fail_msg("%s", failure.text);
	return d;
}

static int
set_up(void **state)
{
	struct fixture *f = MEM_NEW(struct fixture);

	(void)strcpy(f->folder, "/tmp/posthouse-directory-XXXXXX");
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
		"directory.db-shm", "other.db" };
	char path[128];

	directory_close(&f->d);
	for (unsigned i = 0; i < 4; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", f->folder, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(f->folder), 0);
	mem_free(f);
	return 0;
}

/* Runs SQL as some other program would. */
static void
run_sql(const struct fixture *f, const char *sql)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static struct directory_made_credential
add_credential(struct fixture *f, const char *tenant)
{
	struct directory_new_credential wanted = { .tenant = tenant };
	struct directory_made_credential made = { 0 };

	if (directory_add_credential(f->d, &wanted, &made, &f->failure) < 0)
		fail_msg("%s", f->failure.text);
	return made;
}

static bool
may_log_in(struct directory *d, const struct directory_made_credential *made)
{
	struct directory_snapshot *s = directory_snapshot(d);
	bool may = directory_check_secret(
	    directory_find_credential(s, span_of(made->username)),
	    span_of(made->password));

	directory_snapshot_unref(&s);
	return may;
}

static void
begins_with_the_default_tenant(void **state)
{
	struct fixture *f = *state;
	struct directory_snapshot *s = directory_snapshot(f->d);
	size_t count;
	const struct directory_tenant *t =
	    directory_find_tenant(s, SPAN("default"));

	assert_ptr_equal(t, directory_tenant(s, DIRECTORY_DEFAULT_TENANT));
	assert_true(t->enabled && t->created_us > 0);
	const struct directory_stream *bulk =
	    directory_find_stream(s, t->id, SPAN("bulk"));
	assert_int_equal(bulk->class, DIRECTORY_BULK);
	assert_int_equal(bulk->id, 2);
	assert_int_equal(
	    directory_find_stream(s, t->id, SPAN("transactional"))->id, 1);
	(void)directory_tenants(s, &count);
	assert_int_equal(count, 1);
	(void)directory_streams(s, &count);
	assert_int_equal(count, 2);
	(void)directory_credentials(s, &count);
	assert_int_equal(count, 0);
	assert_null(directory_tenant(s, 0));
	assert_null(directory_stream(s, 3));
	assert_null(directory_find_stream(s, t->id, SPAN("")));
	directory_snapshot_unref(&s);
	assert_null(s);
}

static void
keeps_what_is_added(void **state)
{
	struct fixture *f = *state;
	uint32_t tenant = 0, stream = 0;
	struct directory_new_stream news = { .tenant = "acme",
		.name = "news",
		.class = DIRECTORY_BULK,
		.expire_us = 5 };

	assert_int_equal(
	    directory_add_tenant(f->d, "acme", &tenant, &f->failure), 0);
	assert_int_equal(
	    directory_add_stream(f->d, &news, &stream, &f->failure), 0);
	assert_int_equal(tenant, 2);
	assert_int_equal(stream, 5); /* unique across tenants */
	directory_close(&f->d);
	assert_null(f->d);
	f->d = open_at(f->path);
	struct directory_snapshot *s = directory_snapshot(f->d);
	assert_string_equal(directory_tenant(s, tenant)->name, "acme");
	assert_string_equal(directory_stream(s, stream)->name, "news");
	assert_int_equal(directory_stream(s, stream)->expire_us, 5);
	assert_int_equal(directory_find_stream(s, tenant, SPAN("bulk"))->id, 4);
	assert_null(directory_find_stream(s, 1, SPAN("news")));
	directory_snapshot_unref(&s);
}

static void
makes_credentials(void **state)
{
	struct fixture *f = *state;
	struct directory_made_credential a = add_credential(f, NULL);
	struct directory_made_credential b = add_credential(f, NULL);
	struct directory_snapshot *s = directory_snapshot(f->d);
	const struct directory_credential *c =
	    directory_find_credential(s, span_of(a.username));

	assert_int_equal(strlen(a.password), 32);
	assert_int_equal(strncmp(a.username, "default-", 8), 0);
	assert_int_equal(strlen(a.username), 14);
	assert_string_not_equal(a.username, b.username);
	assert_string_not_equal(a.password, b.password);
	assert_int_equal(c->id, a.id);
	assert_int_equal(c->tenant, 1);
	assert_int_equal(c->stream, 1);
	assert_string_equal(c->name, "");
	assert_true(directory_check_secret(c, span_of(a.password)));
	assert_false(directory_check_secret(c, span_of(b.password)));
	assert_false(directory_check_secret(c, SPAN("")));
	assert_false(directory_check_secret(NULL, span_of(a.password)));
	directory_snapshot_unref(&s);
}

static void
cuts_long_tenant_names_in_user_names(void **state)
{
	struct fixture *f = *state;
	char name[65];
	uint32_t id;

	memset(name, 'a', 64);
	name[64] = '\0';
	assert_int_equal(directory_add_tenant(f->d, name, &id, NULL), 0);
	struct directory_made_credential made = add_credential(f, name);
	assert_int_equal(strlen(made.username), 63);
	assert_true(may_log_in(f->d, &made));
}

static void
binds_credentials_to_networks(void **state)
{
	struct fixture *f = *state;
	const char *const networks[] = { "192.0.2.0/24", "2001:db8::/32",
		"192.0.2.0/24", NULL };
	struct directory_new_credential wanted = {
		.name = "Büro", .stream = "bulk", .networks = networks
	};
	struct directory_made_credential made;
	struct netaddr a;

	(void)add_credential(f, NULL);
	assert_int_equal(
	    directory_add_credential(f->d, &wanted, &made, &f->failure), 0);
	(void)add_credential(f, NULL);
	struct directory_snapshot *s = directory_snapshot(f->d);
	const struct directory_credential *c =
	    directory_find_credential(s, span_of(made.username));
	assert_string_equal(c->name, "Büro");
	assert_int_equal(c->stream, 2);
	assert_int_equal(c->network_count, 2);
	assert_true(netaddr_parse_ip(SPAN("192.0.2.7"), &a));
	assert_true(directory_credential_allows(c, &a));
	assert_true(netaddr_parse_ip(SPAN("2001:db8:1::1"), &a));
	assert_true(directory_credential_allows(c, &a));
	assert_true(netaddr_parse_ip(SPAN("192.0.3.7"), &a));
	assert_false(directory_credential_allows(c, &a));
	size_t count;
	const struct directory_credential *all =
	    directory_credentials(s, &count);
	assert_int_equal(count, 3);
	assert_true(directory_credential_allows(&all[0], &a));
	assert_true(directory_credential_allows(&all[2], &a));
	directory_snapshot_unref(&s);
}

static void
revokes_at_once(void **state)
{
	struct fixture *f = *state;
	struct directory_made_credential made = add_credential(f, NULL);
	struct directory_snapshot *before = directory_snapshot(f->d);
	size_t count;

	assert_true(may_log_in(f->d, &made));
	assert_int_equal(
	    directory_revoke_credential(f->d, made.username, &f->failure), 0);
	assert_false(may_log_in(f->d, &made));
	/* Again is no failure; a snapshot taken before stays as it was. */
	assert_int_equal(
	    directory_revoke_credential(f->d, made.username, &f->failure), 0);
	assert_non_null(
	    directory_find_credential(before, span_of(made.username)));
	directory_snapshot_unref(&before);
	struct directory_snapshot *s = directory_snapshot(f->d);
	assert_true(directory_credentials(s, &count)->revoked);
	assert_int_equal(count, 1);
	directory_snapshot_unref(&s);
}

static void
removes_tenants_for_good(void **state)
{
	struct fixture *f = *state;
	uint32_t id;

	assert_int_equal(directory_add_tenant(f->d, "acme", &id, NULL), 0);
	struct directory_made_credential made = add_credential(f, "acme");
	assert_true(may_log_in(f->d, &made));
	assert_int_equal(directory_remove_tenant(f->d, "acme", &f->failure), 0);
	assert_false(may_log_in(f->d, &made));
	struct directory_snapshot *s = directory_snapshot(f->d);
	assert_false(directory_tenant(s, id)->enabled);
	directory_snapshot_unref(&s);
	assert_int_equal(
	    directory_add_tenant(f->d, "acme", &id, &f->failure), ERR_EXISTS);
}

static void
gives_a_removed_streams_name_free(void **state)
{
	struct fixture *f = *state;
	struct directory_new_stream stream = { .tenant = "default",
		.name = "news" };
	uint32_t first, second;

	assert_int_equal(directory_add_stream(f->d, &stream, &first, NULL), 0);
	assert_int_equal(
	    directory_remove_stream(f->d, "default", "news", NULL), 0);
	struct directory_snapshot *s = directory_snapshot(f->d);
	assert_null(directory_find_stream(s, 1, SPAN("news")));
	assert_non_null(directory_stream(s, first));
	directory_snapshot_unref(&s);
	assert_int_equal(directory_add_stream(f->d, &stream, &second, NULL), 0);
	assert_int_not_equal(first, second);
}

/* A disabled tenant's credential is no use even if it was not revoked. */
static void
heeds_a_tenant_disabled_by_hand(void **state)
{
	struct fixture *f = *state;
	struct directory_made_credential made = add_credential(f, NULL);

	run_sql(f, "UPDATE tenant SET enabled = 0");
	assert_int_equal(directory_refresh(f->d), 1);
	assert_false(may_log_in(f->d, &made));
}

/* ---- mistakes ---------------------------------------------------------- */

static void
expect(struct fixture *f, int code, int expected_code, const char *expected)
{
	if (code != expected_code || f->failure.code != code ||
	    !strstr(f->failure.text, expected))
		fail_msg("%d: %s (not %d: %s)", code, f->failure.text,
		    expected_code, expected);
	memset(&f->failure, 0, sizeof f->failure);
}

static void
says_why_tenants_are_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = { "", "-a", "A", "a b", "a/b",
		"\xc3\xa4",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"a"
		"aa" };
	uint32_t id = 7;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		expect(f, directory_add_tenant(f->d, bad[i], &id, &f->failure),
		    ERR_SYNTAX, "the tenant's name must be 1 to 64 of");
	expect(f, directory_add_tenant(f->d, "default", &id, &f->failure),
	    ERR_EXISTS, "there is a tenant `default` already");
	expect(f, directory_remove_tenant(f->d, "default", &f->failure),
	    ERR_REFUSED, "cannot be removed");
	expect(f, directory_remove_tenant(f->d, "nobody", &f->failure),
	    ERR_NOT_FOUND, "there is no tenant `nobody`");
	assert_int_equal(id, 7);
}

static void
says_why_streams_are_refused(void **state)
{
	struct fixture *f = *state;
	struct directory_new_stream stream = { .tenant = "default",
		.name = "bulk" };
	uint32_t id;

	expect(f, directory_add_stream(f->d, &stream, &id, &f->failure),
	    ERR_EXISTS, "has a stream `bulk` already");
	stream.name = "News";
	expect(f, directory_add_stream(f->d, &stream, &id, &f->failure),
	    ERR_SYNTAX, "the stream's name");
	stream.name = "news";
	stream.expire_us = -1;
	expect(f, directory_add_stream(f->d, &stream, &id, &f->failure),
	    ERR_SYNTAX, "expire in the past");
	stream.expire_us = 0;
	stream.tenant = "nobody";
	expect(f, directory_add_stream(f->d, &stream, &id, &f->failure),
	    ERR_NOT_FOUND, "no tenant `nobody`");
	expect(f, directory_remove_stream(f->d, "default", "bulk", &f->failure),
	    ERR_REFUSED, "is built in");
	expect(f, directory_remove_stream(f->d, "default", "news", &f->failure),
	    ERR_NOT_FOUND, "no stream `news`");
}

static void
keeps_a_stream_in_use(void **state)
{
	struct fixture *f = *state;
	struct directory_new_stream stream = { .tenant = "default",
		.name = "news" };
	struct directory_new_credential wanted = { .stream = "news" };
	struct directory_made_credential made;
	uint32_t id;

	assert_int_equal(directory_add_stream(f->d, &stream, &id, NULL), 0);
	assert_int_equal(
	    directory_add_credential(f->d, &wanted, &made, NULL), 0);
	expect(f, directory_remove_stream(f->d, "default", "news", &f->failure),
	    ERR_REFUSED, "has 1 credential in use; revoke it first");
	assert_int_equal(
	    directory_revoke_credential(f->d, made.username, NULL), 0);
	assert_int_equal(
	    directory_remove_stream(f->d, "default", "news", &f->failure), 0);
}

static void
says_why_credentials_are_refused(void **state)
{
	struct fixture *f = *state;
	const char *const networks[] = { "10.0.0.1/8", NULL };
	const char *many[66] = { 0 };
	struct directory_made_credential made = { .id = 7 };
	struct directory_new_credential wanted = { .tenant = "nobody" };
	uint32_t id;

	for (unsigned i = 0; i < 65; i++)
		many[i] = "::1";
	expect(f, directory_add_credential(f->d, &wanted, &made, &f->failure),
	    ERR_NOT_FOUND, "no tenant `nobody`");
	wanted = (struct directory_new_credential){ .stream = "news" };
	expect(f, directory_add_credential(f->d, &wanted, &made, &f->failure),
	    ERR_NOT_FOUND, "no stream `news`");
	wanted = (struct directory_new_credential){ .networks = networks };
	expect(f, directory_add_credential(f->d, &wanted, &made, &f->failure),
	    ERR_SYNTAX, "`10.0.0.1/8` is not a network");
	wanted.networks = many;
	expect(f, directory_add_credential(f->d, &wanted, &made, &f->failure),
	    ERR_LIMIT, "at most 64 networks");
	wanted = (struct directory_new_credential){ .name = "a\nb" };
	expect(f, directory_add_credential(f->d, &wanted, &made, &f->failure),
	    ERR_SYNTAX, "without control characters");
	expect(f, directory_revoke_credential(f->d, "x", &f->failure),
	    ERR_NOT_FOUND, "no credential `x`");
	assert_int_equal(made.id, 7);
	assert_int_equal(directory_add_tenant(f->d, "acme", &id, NULL), 0);
	assert_int_equal(directory_remove_tenant(f->d, "acme", NULL), 0);
	wanted = (struct directory_new_credential){ .tenant = "acme" };
	expect(f, directory_add_credential(f->d, &wanted, &made, &f->failure),
	    ERR_REFUSED, "was removed");
}

/* ---- other processes --------------------------------------------------- */

static void
sees_what_another_handle_changed(void **state)
{
	struct fixture *f = *state;
	struct directory *other = open_at(f->path);

	assert_int_equal(directory_refresh(other), 0);
	struct directory_made_credential made = add_credential(f, NULL);
	assert_false(may_log_in(other, &made));
	assert_int_equal(directory_refresh(other), 1);
	assert_true(may_log_in(other, &made));
	assert_int_equal(directory_refresh(other), 0);
	assert_int_equal(directory_refresh(f->d), 0);
	/* A change of one's own takes in the others', too. */
	assert_int_equal(
	    directory_revoke_credential(f->d, made.username, NULL), 0);
	uint32_t id;
	assert_int_equal(directory_add_tenant(other, "acme", &id, NULL), 0);
	assert_false(may_log_in(other, &made));
	directory_close(&other);
}

static void
refuses_a_newer_schema(void **state)
{
	struct fixture *f = *state;
	struct directory *d = NULL;
	uint32_t id;

	run_sql(f, "PRAGMA user_version = 99");
	assert_int_equal(directory_refresh(f->d), ERR_VERSION);
	expect(f, directory_add_tenant(f->d, "acme", &id, &f->failure),
	    ERR_VERSION, "newer posthouse");
	expect(f, directory_open(f->path, &d, &f->failure), ERR_VERSION,
	    "has schema 99, but this program knows up to");
	assert_null(d);
}

static void
refuses_what_is_not_its_own(void **state)
{
	struct fixture *f = *state;
	struct directory *d = NULL;
	char path[128];

	(void)snprintf(path, sizeof path, "%s/other.db", f->folder);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(fputs("this is no database\n", file) >= 0);
	assert_int_equal(fclose(file), 0);
	expect(f, directory_open(path, &d, &f->failure), ERR_CORRUPT,
	    "is damaged");
	assert_int_equal(unlink(path), 0);
	sqlite3 *db = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(
	    sqlite3_exec(db, "CREATE TABLE t (x)", NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	expect(f, directory_open(path, &d, &f->failure), ERR_CORRUPT,
	    "another program's database");
	/* Nor has it been touched: byte 18 would be 2 in WAL mode. */
	unsigned char header[20];
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fread(header, 1, sizeof header, file), 20);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(header[18], 1);
	expect(f, directory_open("/nowhere/d.db", &d, &f->failure), -ENOENT,
	    "/nowhere/d.db cannot be made");
	assert_null(d);
}

static void
refuses_damaged_rows(void **state)
{
	struct fixture *f = *state;
	struct directory *d = NULL;

	(void)add_credential(f, NULL);
	run_sql(
	    f, "INSERT INTO credential_network VALUES (1, 'not a network')");
	assert_int_equal(directory_refresh(f->d), ERR_CORRUPT);
	expect(f, directory_open(f->path, &d, &f->failure), ERR_CORRUPT,
	    "is damaged");
	/* What was read before stays in force. */
	struct directory_snapshot *s = directory_snapshot(f->d);
	size_t count;
	(void)directory_credentials(s, &count);
	assert_int_equal(count, 1);
	directory_snapshot_unref(&s);
}

static void
belongs_to_the_folders_owner(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	char path[128];

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	if (geteuid() != 0)
		return;
	directory_close(&f->d);
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(chown(f->folder, 12345, 12346), 0);
	f->d = open_at(f->path);
	(void)add_credential(f, NULL);
	static const char *const ends[] = { "", "-wal", "-shm" };
	for (unsigned i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof path, "%s%s", f->path, ends[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_uid, 12345);
		assert_int_equal(st.st_gid, 12346);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
}

/* ---- threads ----------------------------------------------------------- */

struct reader {
	struct directory *d;
	bool stop;
	unsigned wrong, looks;
};

/* Each snapshot is whole: a tenant always has its two streams. */
static void *
read_on(void *arg)
{
	struct reader *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		struct directory_snapshot *s = directory_snapshot(r->d);
		size_t tenants, streams, count;
		(void)directory_tenants(s, &tenants);
		(void)directory_streams(s, &streams);
		const struct directory_credential *all =
		    directory_credentials(s, &count);
		unsigned wrong = streams != 2 * tenants;
		for (size_t i = 0; i < count; i++)
			wrong += !directory_stream(s, all[i].stream);
		__atomic_fetch_add(&r->wrong, wrong, __ATOMIC_RELAXED);
		__atomic_fetch_add(&r->looks, 1, __ATOMIC_RELAXED);
		directory_snapshot_unref(&s);
	}
	return NULL;
}

static void
is_read_while_it_changes(void **state)
{
	struct fixture *f = *state;
	struct reader reader = { .d = f->d };
	pthread_t threads[3];

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, read_on, &reader), 0);
	for (unsigned i = 0; i < 20; i++) {
		char name[16];
		uint32_t id;
		(void)snprintf(name, sizeof name, "t%u", i);
		assert_int_equal(
		    directory_add_tenant(f->d, name, &id, NULL), 0);
		(void)add_credential(f, name);
		assert_int_equal(directory_refresh(f->d), 0);
	}
	while (__atomic_load_n(&reader.looks, __ATOMIC_RELAXED) < 10)
		(void)usleep(1000);
	__atomic_store_n(&reader.stop, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(reader.wrong, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(begins_with_the_default_tenant),
		TEST(keeps_what_is_added),
		TEST(makes_credentials),
		TEST(cuts_long_tenant_names_in_user_names),
		TEST(binds_credentials_to_networks),
		TEST(revokes_at_once),
		TEST(removes_tenants_for_good),
		TEST(gives_a_removed_streams_name_free),
		TEST(heeds_a_tenant_disabled_by_hand),
		TEST(says_why_tenants_are_refused),
		TEST(says_why_streams_are_refused),
		TEST(keeps_a_stream_in_use),
		TEST(says_why_credentials_are_refused),
		TEST(sees_what_another_handle_changed),
		TEST(refuses_a_newer_schema),
		TEST(refuses_what_is_not_its_own),
		TEST(refuses_damaged_rows),
		TEST(belongs_to_the_folders_owner),
		TEST(is_read_while_it_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

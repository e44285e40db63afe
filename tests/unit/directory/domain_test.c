/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "directory/directory.h"

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
	char path[96];
	struct directory *d;
	struct failure failure;
};

static int
set_up(void **state)
{
	struct fixture *f = MEM_NEW(struct fixture);

	(void)snprintf(
	    f->folder, sizeof f->folder, "/tmp/posthouse-domain-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	(void)snprintf(f->path, sizeof f->path, "%s/directory.db", f->folder);
	assert_int_equal(directory_open(f->path, &f->d, &f->failure), 0);
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
	(void)snprintf(path, sizeof path, "%s/keys", f->folder);
	(void)rmdir(path);
	assert_int_equal(rmdir(f->folder), 0); /* no key is left behind */
	mem_free(f);
	return 0;
}

static uint32_t
add(struct fixture *f, const char *tenant, const char *name)
{
	const struct directory_new_domain domain = { .tenant = tenant,
		.name = name };
	uint32_t id = 0;

	if (directory_add_domain(f->d, &domain, &id, &f->failure) < 0)
		fail_msg("%s", f->failure.text);
	return id;
}

static int
try_add(struct fixture *f, const char *name, const char *return_path)
{
	const struct directory_new_domain domain = { .name = name,
		.return_path = return_path };
	uint32_t id = 0;

	return directory_add_domain(f->d, &domain, &id, &f->failure);
}

static void
remove_domain(struct fixture *f, const char *name)
{
	assert_int_equal(directory_remove_domain(f->d, name, &f->failure), 0);
}

/* In the snapshot of now; only to be looked at at once. */
static const struct directory_domain *
find(struct fixture *f, const char *name)
{
	struct directory_snapshot *s = directory_snapshot(f->d);
	const struct directory_domain *domain =
	    directory_find_domain(s, span_of(name));

	directory_snapshot_unref(&s);
	return domain;
}

static size_t
count_state(struct fixture *f, const char *name, enum directory_key_state state)
{
	const struct directory_domain *domain = find(f, name);
	size_t count = 0;

	for (size_t i = 0; i < domain->key_count; i++)
		count += domain->keys[i].state == state;
	return count;
}

static void
test_adds_two_keys(void **state)
{
	struct fixture *f = *state;
	struct sign_key *key = NULL;
	char path[300];
	struct stat st;

	assert_false(directory_has_domains(f->d));
	uint32_t id = add(f, NULL, "Example.COM.");
	assert_true(directory_has_domains(f->d));
	const struct directory_domain *domain = find(f, "example.com");
	assert_non_null(domain);
	assert_int_equal(domain->id, id);
	assert_string_equal(domain->return_path, "bounces.example.com");
	assert_int_equal(domain->verified_us, 0);
	assert_int_equal(domain->key_count, 2);
	assert_int_equal(domain->keys[0].bits, 2048);
	assert_int_equal(domain->keys[1].algorithm, SIGN_ED25519_SHA256);
	for (size_t i = 0; i < 2; i++) {
		const struct directory_key *k = &domain->keys[i];
		struct buf text = BUF_EMPTY;

		assert_int_equal(k->state, DIRECTORY_KEY_ACTIVE);
		assert_int_equal(directory_read_key(f->d, "example.com",
				     k->selector, &key, &f->failure),
		    0);
		assert_int_equal(sign_key_public(key, &text), 0);
		assert_string_equal(buf_cstring(&text), k->public_key);
		sign_key_free(&key);
		buf_done(&text);
		(void)snprintf(path, sizeof path, "%s/keys/example.com/%s.pem",
		    f->folder, k->selector);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
	remove_domain(f, "example.com");
	assert_null(find(f, "example.com"));
	assert_false(directory_has_domains(f->d));
}

static void
test_refuses(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = { "", "com", "a..b", "-a.com",
		"a b.com", "../../etc.x", "[192.0.2.1]", "a@b.com" };

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(try_add(f, bad[i], NULL), ERR_SYNTAX);
	assert_int_equal(try_add(f, "a.test", "nohost"), ERR_SYNTAX);
	(void)add(f, NULL, "a.test");
	assert_int_equal(try_add(f, "a.test", NULL), ERR_EXISTS);
	assert_int_equal(directory_remove_domain(f->d, "b.test", &f->failure),
	    ERR_NOT_FOUND);
	remove_domain(f, "a.test");
}

static void
test_belongs_to_its_tenant(void **state)
{
	struct fixture *f = *state;
	uint32_t other = 0;

	assert_int_equal(
	    directory_add_tenant(f->d, "other", &other, &f->failure), 0);
	(void)add(f, NULL, "a.test");
	(void)add(f, "other", "sub.a.test");
	struct directory_snapshot *s = directory_snapshot(f->d);

	/* clang-format off */
	const struct {
		uint32_t tenant;
		const char *name, *found;
	} rows[] = {
		{ 1, "a.test", "a.test" },
		{ 1, "x.y.a.test", "a.test" },
		{ 1, "sub.a.test", "a.test" },
		{ other, "sub.a.test", "sub.a.test" },
		{ other, "x.sub.a.test", "sub.a.test" },
		{ other, "a.test", NULL },
		{ 1, "ba.test", NULL },
		{ 1, "test", NULL },
		{ 1, "", NULL },
	};

	/* clang-format on */
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct directory_domain *found = directory_sender_domain(
		    s, rows[i].tenant, span_of(rows[i].name));

		assert_true((found == NULL) == (rows[i].found == NULL));
		if (found != NULL)
			assert_string_equal(found->name, rows[i].found);
	}
	directory_snapshot_unref(&s);
	remove_domain(f, "a.test");
	remove_domain(f, "sub.a.test");
}

static void
test_notes_a_check(void **state)
{
	struct fixture *f = *state;

	(void)add(f, NULL, "a.test");
	const uint32_t seen[] = { find(f, "a.test")->keys[1].id };
	struct directory_domain_check check = {
		.name = "a.test",
		.problem = "spf: missing",
		.seen = seen,
		.seen_count = 1,
		.is_verified = true,
	};
	assert_int_equal(directory_note_check(f->d, &check, &f->failure), 0);
	int64_t since_us = find(f, "a.test")->verified_us;
	assert_true(since_us > 0);
	assert_string_equal(find(f, "a.test")->problem, "spf: missing");
	assert_int_equal(find(f, "a.test")->keys[0].seen_us, 0);
	assert_true(find(f, "a.test")->keys[1].seen_us > 0);
	/* Once verified it stays so. */
	check = (struct directory_domain_check){ .name = "a.test",
		.problem = "the DNS did not tell" };
	assert_int_equal(directory_note_check(f->d, &check, &f->failure), 0);
	assert_int_equal(find(f, "a.test")->verified_us, since_us);
	remove_domain(f, "a.test");
	assert_int_equal(
	    directory_note_check(f->d, &check, &f->failure), ERR_NOT_FOUND);
}

static int
rotate(struct fixture *f, enum directory_rotation stage)
{
	return directory_rotate(f->d, "a.test", stage, &f->failure);
}

static void
test_rotates(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rotate(f, DIRECTORY_ROTATE_BEGIN), ERR_NOT_FOUND);
	(void)add(f, NULL, "a.test");
	char *first = mem_strdup(find(f, "a.test")->keys[0].selector);
	assert_int_equal(rotate(f, DIRECTORY_ROTATE_SWITCH), ERR_REFUSED);
	assert_int_equal(rotate(f, DIRECTORY_ROTATE_REVOKE), ERR_REFUSED);
	assert_int_equal(rotate(f, DIRECTORY_ROTATE_BEGIN), 0);
	assert_int_equal(count_state(f, "a.test", DIRECTORY_KEY_ACTIVE), 2);
	assert_int_equal(count_state(f, "a.test", DIRECTORY_KEY_NEXT), 2);
	assert_int_equal(rotate(f, DIRECTORY_ROTATE_BEGIN), ERR_REFUSED);
	assert_int_equal(rotate(f, DIRECTORY_ROTATE_SWITCH), 0);
	assert_int_equal(count_state(f, "a.test", DIRECTORY_KEY_ACTIVE), 2);
	assert_int_equal(count_state(f, "a.test", DIRECTORY_KEY_OLD), 2);
	assert_string_equal(find(f, "a.test")->keys[0].selector, first);
	assert_int_equal(find(f, "a.test")->keys[0].state, DIRECTORY_KEY_OLD);
	assert_int_equal(rotate(f, DIRECTORY_ROTATE_BEGIN), ERR_REFUSED);
	assert_int_equal(rotate(f, DIRECTORY_ROTATE_REVOKE), 0);
	assert_int_equal(find(f, "a.test")->key_count, 2);
	assert_string_not_equal(find(f, "a.test")->keys[0].selector, first);
	struct sign_key *key = NULL;
	assert_true(
	    directory_read_key(f->d, "a.test", first, &key, &f->failure) < 0);
	mem_free(first);
	remove_domain(f, "a.test");
}

/* What cannot be read is told without a word of it. */
static void
test_unreadable_keys(void **state)
{
	struct fixture *f = *state;
	struct sign_key *key = NULL;
	char path[300];

	(void)add(f, NULL, "a.test");
	(void)snprintf(path, sizeof path, "%s/keys/a.test/%s.pem", f->folder,
	    find(f, "a.test")->keys[0].selector);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs("a secret", file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(
	    directory_read_key(f->d, "a.test",
		find(f, "a.test")->keys[0].selector, &key, &f->failure),
	    ERR_SYNTAX);
	assert_non_null(strstr(f->failure.text, path));
	assert_null(strstr(f->failure.text, "a secret"));
	remove_domain(f, "a.test");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_adds_two_keys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_refuses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_belongs_to_its_tenant, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_notes_a_check, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_rotates, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_unreadable_keys, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

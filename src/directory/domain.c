/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sender domains and the lives of their keys. Key files are written before the
 * rows that name them and removed after, so that no row names a file that was
 * never there.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "directory/internal.h"
#include "mail/address.h"
#include "os/clock.h"

#include <string.h>
#include <time.h>

enum { ALGORITHMS = 2, RANDOM_LENGTH = 4, SELECTOR_SIZE = 40 };

static const char *const suffixes[ALGORITHMS] = {
	[SIGN_RSA_SHA256] = "rsa",
	[SIGN_ED25519_SHA256] = "ed25519",
};

/* A key that has its file and has no row yet. */
struct new_key {
	char selector[SELECTOR_SIZE];
	struct sign_key *key; /* NULL: not made */
	struct buf public_key;
};

/* A domain's name for the DNS: at least two labels. */
static int
take_name(const char *what, const char *text, struct arena *arena,
    char **ret_name, struct failure *ret_failure)
{
	struct span name = SPAN_EMPTY;
	int code = address_normalise_domain(span_of(text), arena, &name);

	if (code == 0 && span_find(name, '.') != SIZE_MAX) {
		*ret_name = arena_strdup(arena, name);
		return 0;
	}
	return failure_set(ret_failure, ERR_SYNTAX,
	    "%s must be a domain such as example.com, not `%.100s`", what,
	    text);
}

/* ---- keys -------------------------------------------------------------- */

static void
forget_keys(struct directory *d, const char *domain,
    struct new_key keys[static ALGORITHMS], bool with_files)
{
	for (unsigned i = 0; i < ALGORITHMS; i++) {
		if (with_files && keys[i].key != NULL)
			keyfile_remove(d, domain, keys[i].selector);
		sign_key_free(&keys[i].key);
		buf_done(&keys[i].public_key);
	}
	if (with_files)
		keyfile_remove_domain(d, domain);
}

/* "ph20261124k7qm-rsa": the day, for people, and chance. */
static void
name_keys(struct new_key keys[static ALGORITHMS])
{
	char chance[RANDOM_LENGTH + 1];
	time_t now = (time_t)(clock_wall_us() / US_PER_S);
	struct tm day;

	directory_secret_text(chance, RANDOM_LENGTH);
	BUG_UNLESS(gmtime_r(&now, &day) != NULL);
	for (unsigned i = 0; i < ALGORITHMS; i++) {
		struct buf text = BUF_EMPTY;

		buf_printf(&text, "ph%04d%02d%02d%s-%s", day.tm_year + 1900,
		    day.tm_mon + 1, day.tm_mday, chance, suffixes[i]);
		BUG_UNLESS(span_to_cstring(
		    buf_span(&text), keys[i].selector, SELECTOR_SIZE));
		buf_done(&text);
	}
}

static int
make_keys(struct directory *d, const char *domain,
    struct new_key keys[static ALGORITHMS], struct failure *ret_failure)
{
	int code = 0;

	name_keys(keys);
	for (unsigned i = 0; i < ALGORITHMS && code == 0; i++) {
		code = sign_key_generate(
		    (enum sign_algorithm)i, &keys[i].key, ret_failure);
		if (code == 0)
			code = keyfile_write(d, domain, keys[i].selector,
			    keys[i].key, ret_failure);
		if (code < 0)
			break;
		code = sign_key_public(keys[i].key, &keys[i].public_key);
		if (code < 0)
			(void)failure_set(ret_failure, code,
			    "the public half of a key cannot be told");
	}
	if (code < 0)
		forget_keys(d, domain, keys, true);
	return code;
}

static int
insert_keys(struct directory *d, uint32_t domain,
    struct new_key keys[static ALGORITHMS], enum directory_key_state state)
{
	int code = 0;

	for (unsigned i = 0; i < ALGORITHMS && code == 0; i++) {
		sqlite3_stmt *add = directory_sql(d, SQL_ADD_KEY);

		(void)sqlite3_bind_int64(add, 1, domain);
		(void)sqlite3_bind_text(
		    add, 2, keys[i].selector, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int(add, 3, (int)i);
		(void)sqlite3_bind_int(add, 4, (int)state);
		(void)sqlite3_bind_int(add, 5, (int)sign_key_bits(keys[i].key));
		(void)sqlite3_bind_text(add, 6,
		    buf_cstring(&keys[i].public_key), -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(add, 7, clock_wall_us());
		code = directory_sql_run(d, SQL_ADD_KEY);
	}
	return code;
}

/* ---- adding ------------------------------------------------------------ */

static int
insert_domain(struct directory *d, const struct directory_new_domain *domain,
    uint32_t *ret_id, struct failure *ret_failure)
{
	uint32_t tenant = 0;

	TRY(directory_require_tenant(d,
	    domain->tenant != NULL ? domain->tenant : "default", &tenant,
	    ret_failure));
	TRY(directory_check_room(
	    d, SQL_COUNT_DOMAINS, DIRECTORY_DOMAINS_MAX, ret_failure));
	sqlite3_stmt *add = directory_sql(d, SQL_ADD_DOMAIN);
	(void)sqlite3_bind_int64(add, 1, tenant);
	(void)sqlite3_bind_text(add, 2, domain->name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_text(add, 3, domain->return_path, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int64(add, 4, clock_wall_us());
	int code = directory_sql_run(d, SQL_ADD_DOMAIN);
	if (code == ERR_EXISTS)
		return failure_set(ret_failure, code,
		    "the domain `%s` is here already; `posthouse domain show "
		    "%s` tells whose it is",
		    domain->name, domain->name);
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	*ret_id = directory_last_id(d);
	return 0;
}

/* domain: its names normal. */
static int
add_domain(struct directory *d, const struct directory_new_domain *domain,
    uint32_t *ret_id, struct failure *ret_failure)
{
	struct new_key keys[ALGORITHMS] = { 0 };
	uint32_t id = 0;

	TRY(make_keys(d, domain->name, keys, ret_failure));
	int code = directory_change_begin(d, ret_failure);
	if (code == 0) {
		code = insert_domain(d, domain, &id, ret_failure);
		if (code == 0) {
			code = insert_keys(d, id, keys, DIRECTORY_KEY_ACTIVE);
			if (code < 0)
				(void)directory_sql_failure(
				    d, code, ret_failure);
		}
		code = directory_change_end(d, code, ret_failure);
	}
	forget_keys(d, domain->name, keys, code < 0);
	if (code == 0)
		*ret_id = id;
	return code;
}

int
directory_add_domain(struct directory *d,
    const struct directory_new_domain *domain, uint32_t *ret_id,
    struct failure *ret_failure)
{
	struct arena *arena = arena_new();
	char *name = NULL, *return_path = NULL;
	int code = take_name(
	    "a sender domain", domain->name, arena, &name, ret_failure);

	if (code == 0) {
		const char *host = domain->return_path;

		if (host == NULL)
			host = arena_printf(arena, "bounces.%s", name).ptr;
		code = take_name("the return path's host", host, arena,
		    &return_path, ret_failure);
	}
	if (code == 0) {
		const struct directory_new_domain normal = {
			.tenant = domain->tenant,
			.name = name,
			.return_path = return_path,
		};
		code = add_domain(d, &normal, ret_id, ret_failure);
	}
	arena_free(&arena);
	return code;
}

/* ---- changing ---------------------------------------------------------- */

static int
unknown_domain(const char *name, struct failure *ret_failure)
{
	return failure_set(ret_failure, ERR_NOT_FOUND,
	    "there is no sender domain `%.100s`; `posthouse domain list` shows "
	    "them",
	    name);
}

static int
require_domain(struct directory *d, const char *name, uint32_t *ret_id,
    struct failure *ret_failure)
{
	sqlite3_stmt *find = directory_sql(d, SQL_FIND_DOMAIN);

	(void)sqlite3_bind_text(find, 1, name, -1, SQLITE_STATIC);
	int code = directory_sql_step(find);
	uint32_t id = (uint32_t)sqlite3_column_int64(find, 0);
	(void)sqlite3_reset(find); /* the step has told */
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	if (code == 0)
		return unknown_domain(name, ret_failure);
	*ret_id = id;
	return 0;
}

/* Files of keys that a former snapshot knew and the database forgot. */
static void
remove_files(struct directory *d, const struct directory_snapshot *before,
    const char *name, bool only_old)
{
	const struct directory_domain *domain =
	    directory_find_domain(before, span_of(name));

	for (size_t i = 0; domain != NULL && i < domain->key_count; i++) {
		const struct directory_key *key = &domain->keys[i];

		if (!only_old || key->state == DIRECTORY_KEY_OLD)
			keyfile_remove(d, name, key->selector);
	}
	if (!only_old)
		keyfile_remove_domain(d, name);
}

static int
delete_domain(struct directory *d, uint32_t id)
{
	(void)sqlite3_bind_int64(directory_sql(d, SQL_REMOVE_KEYS), 1, id);
	TRY(directory_sql_run(d, SQL_REMOVE_KEYS));
	(void)sqlite3_bind_int64(directory_sql(d, SQL_REMOVE_DOMAIN), 1, id);
	return directory_sql_run(d, SQL_REMOVE_DOMAIN);
}

int
directory_remove_domain(
    struct directory *d, const char *name, struct failure *ret_failure)
{
	uint32_t id = 0;

	TRY(directory_change_begin(d, ret_failure));
	/* What the database has is in the snapshot, or is refreshed soon. */
	struct directory_snapshot *before = directory_snapshot(d);
	int code = require_domain(d, name, &id, ret_failure);
	if (code == 0) {
		code = delete_domain(d, id);
		if (code < 0)
			(void)directory_sql_failure(d, code, ret_failure);
	}
	code = directory_change_end(d, code, ret_failure);
	if (code == 0)
		remove_files(d, before, name, false);
	directory_snapshot_unref(&before);
	return code;
}

static int
note_check(struct directory *d, uint32_t id,
    const struct directory_domain_check *check)
{
	int64_t now_us = clock_wall_us();
	sqlite3_stmt *note = directory_sql(d, SQL_NOTE_CHECK);

	(void)sqlite3_bind_int64(note, 1, id);
	(void)sqlite3_bind_int64(note, 2, now_us);
	(void)sqlite3_bind_text(note, 3, check->problem, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int(note, 4, check->is_verified);
	TRY(directory_sql_run(d, SQL_NOTE_CHECK));
	for (size_t i = 0; i < check->seen_count; i++) {
		sqlite3_stmt *seen = directory_sql(d, SQL_NOTE_KEY_SEEN);

		(void)sqlite3_bind_int64(seen, 1, id);
		(void)sqlite3_bind_int64(seen, 2, check->seen[i]);
		(void)sqlite3_bind_int64(seen, 3, now_us);
		TRY(directory_sql_run(d, SQL_NOTE_KEY_SEEN));
	}
	return 0;
}

int
directory_note_check(struct directory *d,
    const struct directory_domain_check *check, struct failure *ret_failure)
{
	uint32_t id = 0;

	TRY(directory_change_begin(d, ret_failure));
	int code = require_domain(d, check->name, &id, ret_failure);
	if (code == 0) {
		code = note_check(d, id, check);
		if (code < 0)
			(void)directory_sql_failure(d, code, ret_failure);
	}
	return directory_change_end(d, code, ret_failure);
}

/* ---- rotation ---------------------------------------------------------- */

static int
count_keys(struct directory *d, uint32_t domain, enum directory_key_state state,
    int64_t *ret_count)
{
	sqlite3_stmt *count = directory_sql(d, SQL_COUNT_KEYS_IN_STATE);

	(void)sqlite3_bind_int64(count, 1, domain);
	(void)sqlite3_bind_int(count, 2, (int)state);
	int code = directory_sql_step(count);
	*ret_count = sqlite3_column_int64(count, 0);
	(void)sqlite3_reset(count); /* the step has told */
	return code < 0 ? code : 0;
}

static int
check_stage(struct directory *d, uint32_t id, const char *name,
    enum directory_rotation stage, struct failure *ret_failure)
{
	int64_t next = 0, old = 0;
	int code = count_keys(d, id, DIRECTORY_KEY_NEXT, &next);

	if (code == 0)
		code = count_keys(d, id, DIRECTORY_KEY_OLD, &old);
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	if (stage == DIRECTORY_ROTATE_BEGIN && next > 0)
		return failure_set(ret_failure, ERR_REFUSED,
		    "%s has new keys that do not sign yet; publish them "
		    "(`posthouse domain dns %s`), then switch",
		    name, name);
	if (stage == DIRECTORY_ROTATE_BEGIN && old > 0)
		return failure_set(ret_failure, ERR_REFUSED,
		    "%s still has old keys; revoke them first", name);
	if (stage == DIRECTORY_ROTATE_SWITCH && next == 0)
		return failure_set(ret_failure, ERR_REFUSED,
		    "%s has no new keys; begin with `posthouse domain rotate "
		    "%s`",
		    name, name);
	if (stage == DIRECTORY_ROTATE_SWITCH && old > 0)
		return failure_set(ret_failure, ERR_REFUSED,
		    "%s still has old keys; revoke them first", name);
	if (stage == DIRECTORY_ROTATE_REVOKE && old == 0)
		return failure_set(ret_failure, ERR_REFUSED,
		    "%s has no old keys to revoke", name);
	return 0;
}

static int
apply_stage(struct directory *d, uint32_t id, enum directory_rotation stage,
    struct new_key keys[static ALGORITHMS])
{
	if (stage == DIRECTORY_ROTATE_BEGIN)
		return insert_keys(d, id, keys, DIRECTORY_KEY_NEXT);
	enum directory_sql sql = stage == DIRECTORY_ROTATE_SWITCH
				     ? SQL_MOVE_KEYS
				     : SQL_REMOVE_OLD_KEYS;
	sqlite3_stmt *change = directory_sql(d, sql);
	(void)sqlite3_bind_int64(change, 1, id);
	if (stage == DIRECTORY_ROTATE_SWITCH)
		(void)sqlite3_bind_int64(change, 2, clock_wall_us());
	return directory_sql_run(d, sql);
}

static int
rotate(struct directory *d, const char *name, enum directory_rotation stage,
    struct new_key keys[static ALGORITHMS], struct failure *ret_failure)
{
	uint32_t id = 0;

	TRY(directory_change_begin(d, ret_failure));
	struct directory_snapshot *before = directory_snapshot(d);
	int code = require_domain(d, name, &id, ret_failure);
	if (code == 0)
		code = check_stage(d, id, name, stage, ret_failure);
	if (code == 0) {
		code = apply_stage(d, id, stage, keys);
		if (code < 0)
			(void)directory_sql_failure(d, code, ret_failure);
	}
	code = directory_change_end(d, code, ret_failure);
	if (code == 0 && stage == DIRECTORY_ROTATE_REVOKE)
		remove_files(d, before, name, true);
	directory_snapshot_unref(&before);
	return code;
}

int
directory_rotate(struct directory *d, const char *name,
    enum directory_rotation stage, struct failure *ret_failure)
{
	struct new_key keys[ALGORITHMS] = { 0 };
	struct directory_snapshot *s = directory_snapshot(d);
	bool is_known = directory_find_domain(s, span_of(name)) != NULL;

	directory_snapshot_unref(&s);
	/* No directories for names that are not ours. */
	if (!is_known)
		return unknown_domain(name, ret_failure);
	if (stage == DIRECTORY_ROTATE_BEGIN)
		TRY(make_keys(d, name, keys, ret_failure));
	int code = rotate(d, name, stage, keys, ret_failure);
	for (unsigned i = 0; i < ALGORITHMS; i++) {
		if (code < 0 && keys[i].key != NULL)
			keyfile_remove(d, name, keys[i].selector);
		sign_key_free(&keys[i].key);
		buf_done(&keys[i].public_key);
	}
	return code;
}

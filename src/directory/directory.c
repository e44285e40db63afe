/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/directory.h"

#include "base/bug.h"
#include "base/mem.h"
#include "directory/internal.h"
#include "directory/suppression_index.h"

#include <string.h>

/* ---- life -------------------------------------------------------------- */

/* Reads all as of one moment, with the number by which SQLite tells whether
 * others changed it since. */
static int
load_current(struct directory *d)
{
	struct directory_snapshot *snapshot = NULL;
	int64_t data_version = -1;

	TRY(directory_sql_run(d, SQL_BEGIN));
	int code = directory_snapshot_load(d, &snapshot);
	if (code == 0)
		code = directory_sql_number(d, SQL_DATA_VERSION, &data_version);
	directory_sql_rollback(d); /* nothing was written */
	if (code == 0) {
		directory_snapshot_swap(d, snapshot);
		d->data_version = data_version;
	} else {
		directory_snapshot_unref(&snapshot);
	}
	return code;
}

int
directory_open(const char *path, struct directory **ret_directory,
    struct failure *ret_failure)
{
	struct directory *d = MEM_NEW(struct directory);

	d->path = mem_strdup(path);
	BUG_UNLESS(pthread_mutex_init(&d->lock, NULL) == 0);
	BUG_UNLESS(pthread_mutex_init(&d->swap_lock, NULL) == 0);
	d->suppressions = suppression_index_new();
	int code = directory_schema_open(d, ret_failure);
	if (code == 0) {
		code = load_current(d);
		if (code < 0)
			(void)directory_sql_failure(d, code, ret_failure);
	}
	if (code < 0)
		directory_close(&d);
	else
		*ret_directory = d;
	return code;
}

void
directory_close(struct directory **directory)
{
	struct directory *d = *directory;

	*directory = NULL;
	if (!d)
		return;
	directory_sql_done(d);
	BUG_UNLESS(sqlite3_close(d->db) == SQLITE_OK);
	directory_snapshot_unref(&d->current);
	suppression_index_free(&d->suppressions);
	BUG_UNLESS(pthread_mutex_destroy(&d->lock) == 0);
	BUG_UNLESS(pthread_mutex_destroy(&d->swap_lock) == 0);
	mem_free(d->path);
	mem_free(d);
}

int
directory_refresh(struct directory *directory)
{
	int64_t data_version = -1;

	BUG_UNLESS(pthread_mutex_lock(&directory->lock) == 0);
	int code =
	    directory_sql_number(directory, SQL_DATA_VERSION, &data_version);
	if (code == 0 && data_version != directory->data_version) {
		code = directory_suppressions_refresh(directory);
		if (code == 0)
			code = load_current(directory);
		code = code == 0 ? 1 : code;
	}
	BUG_UNLESS(pthread_mutex_unlock(&directory->lock) == 0);
	return code;
}

/* ---- changes ----------------------------------------------------------- */

int
directory_change_begin(struct directory *d, struct failure *ret_failure)
{
	int64_t schema = 0;

	BUG_UNLESS(pthread_mutex_lock(&d->lock) == 0);
	int code = directory_sql_run(d, SQL_BEGIN_CHANGE);
	/* A newer program may have come since; its rules are not ours. */
	if (code == 0)
		code = directory_sql_number(d, SQL_SCHEMA_VERSION, &schema);
	if (code == 0 && schema > DIRECTORY_SCHEMA_VERSION)
		code = ERR_VERSION;
	if (code == 0)
		return 0;
	(void)directory_sql_failure(d, code, ret_failure);
	if (!sqlite3_get_autocommit(d->db))
		directory_sql_rollback(d);
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	return code;
}

static int
commit(struct directory *d, struct failure *ret_failure)
{
	struct directory_snapshot *snapshot = NULL;
	int code = directory_snapshot_load(d, &snapshot);

	if (code == 0)
		code = directory_sql_run(d, SQL_COMMIT);
	if (code < 0) {
		directory_snapshot_unref(&snapshot);
		return directory_sql_failure(d, code, ret_failure);
	}
	directory_snapshot_swap(d, snapshot);
	/* What others wrote before our transaction is in the snapshot, too, but
	 * the number is that of before: the next refresh reads once more. */
	return 0;
}

int
directory_change_end(struct directory *d, int code, struct failure *ret_failure)
{
	if (code == 0)
		code = commit(d, ret_failure);
	if (!sqlite3_get_autocommit(d->db)) {
		BUG_UNLESS(code < 0);
		directory_sql_rollback(d);
	}
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	return code;
}

static bool
is_name_char(char c, bool is_first)
{
	bool is_letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

	return is_letter || (!is_first && (c == '-' || c == '.' || c == '_'));
}

int
directory_check_name(
    const char *what, const char *name, struct failure *ret_failure)
{
	size_t len = strnlen(name, DIRECTORY_NAME_MAX + 1);
	bool is_good = len >= 1 && len <= DIRECTORY_NAME_MAX;

	for (size_t i = 0; is_good && i < len; i++)
		is_good = is_name_char(name[i], i == 0);
	if (is_good)
		return 0;
	return failure_set(ret_failure, ERR_SYNTAX,
	    "the %s's name must be 1 to 64 of a-z, 0-9, `-`, `.` and `_`, "
	    "beginning with a letter or digit",
	    what);
}

int
directory_check_room(struct directory *d, enum directory_sql sql, int64_t max,
    struct failure *ret_failure)
{
	int64_t count = 0;
	int code = directory_sql_number(d, sql, &count);

	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	if (count >= max)
		return failure_set(ret_failure, ERR_LIMIT,
		    "there are %lld already, and no more fit in this directory",
		    (long long)count);
	return 0;
}

uint32_t
directory_last_id(const struct directory *d)
{
	int64_t id = sqlite3_last_insert_rowid(d->db);

	BUG_UNLESS(id > 0 && id <= UINT32_MAX);
	return (uint32_t)id;
}

int
directory_require_tenant(struct directory *d, const char *name,
    uint32_t *ret_id, struct failure *ret_failure)
{
	sqlite3_stmt *find = directory_sql(d, SQL_FIND_TENANT);

	TRY(directory_check_name("tenant", name, ret_failure));
	(void)sqlite3_bind_text(find, 1, name, -1, SQLITE_STATIC);
	int code = directory_sql_step(find);
	uint32_t id = (uint32_t)sqlite3_column_int64(find, 0);
	bool is_enabled = sqlite3_column_int(find, 1) != 0;
	(void)sqlite3_reset(find); /* the step has told */
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	if (code == 0)
		return failure_set(ret_failure, ERR_NOT_FOUND,
		    "there is no tenant `%s`; `posthouse tenant list` shows "
		    "them",
		    name);
	if (!is_enabled)
		return failure_set(ret_failure, ERR_REFUSED,
		    "the tenant `%s` was removed; add one with another name",
		    name);
	*ret_id = id;
	return 0;
}

int
directory_require_stream(struct directory *d, uint32_t tenant, const char *name,
    uint32_t *ret_id, struct failure *ret_failure)
{
	sqlite3_stmt *find = directory_sql(d, SQL_FIND_STREAM);

	TRY(directory_check_name("stream", name, ret_failure));
	(void)sqlite3_bind_int64(find, 1, tenant);
	(void)sqlite3_bind_text(find, 2, name, -1, SQLITE_STATIC);
	int code = directory_sql_step(find);
	uint32_t id = (uint32_t)sqlite3_column_int64(find, 0);
	(void)sqlite3_reset(find); /* the step has told */
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	if (code == 0)
		return failure_set(ret_failure, ERR_NOT_FOUND,
		    "the tenant has no stream `%s`; `posthouse stream list` "
		    "shows them",
		    name);
	*ret_id = id;
	return 0;
}

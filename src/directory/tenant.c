/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tenants and their streams. Neither is ever deleted, because queued mail and
 * events name them by number: a tenant is disabled and keeps its name, a
 * stream is marked removed and gives its name free.
 */

#include "base/bug.h"
#include "directory/internal.h"
#include "os/clock.h"

#include <string.h>

static const char *const built_in_streams[] = {
	[DIRECTORY_TRANSACTIONAL] = "transactional",
	[DIRECTORY_BULK] = "bulk",
};

enum { BUILT_IN_COUNT = sizeof built_in_streams / sizeof *built_in_streams };

static int
insert_stream(struct directory *d, uint32_t tenant,
    const struct directory_new_stream *stream)
{
	sqlite3_stmt *add = directory_sql(d, SQL_ADD_STREAM);

	(void)sqlite3_bind_int64(add, 1, tenant);
	(void)sqlite3_bind_text(add, 2, stream->name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int(add, 3, stream->class == DIRECTORY_BULK);
	(void)sqlite3_bind_int64(add, 4, stream->expire_us);
	(void)sqlite3_bind_int64(add, 5, clock_wall_us());
	(void)sqlite3_bind_text(
	    add, 6, stream->pool ? stream->pool : "", -1, SQLITE_STATIC);
	return directory_sql_run(d, SQL_ADD_STREAM);
}

/* ---- tenants ----------------------------------------------------------- */

static int
insert_tenant(struct directory *d, const char *name, uint32_t *ret_id,
    struct failure *ret_failure)
{
	sqlite3_stmt *add = directory_sql(d, SQL_ADD_TENANT);

	(void)sqlite3_bind_text(add, 1, name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int64(add, 2, clock_wall_us());
	int code = directory_sql_run(d, SQL_ADD_TENANT);
	if (code == ERR_EXISTS)
		return failure_set(ret_failure, code,
		    "there is a tenant `%s` already, or there was one: names "
		    "are not used again; choose another",
		    name);
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	*ret_id = directory_last_id(d);
	for (unsigned i = 0; i < BUILT_IN_COUNT && code == 0; i++) {
		struct directory_new_stream stream = {
			.name = built_in_streams[i],
			.class = (enum directory_class)i,
		};
		code = insert_stream(d, *ret_id, &stream);
	}
	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

int
directory_add_tenant(struct directory *d, const char *name, uint32_t *ret_id,
    struct failure *ret_failure)
{
	uint32_t id = 0;

	TRY(directory_check_name("tenant", name, ret_failure));
	TRY(directory_change_begin(d, ret_failure));
	int code = directory_check_room(
	    d, SQL_COUNT_TENANTS, DIRECTORY_TENANTS_MAX, ret_failure);
	if (code == 0)
		code = directory_check_room(d, SQL_COUNT_STREAMS,
		    DIRECTORY_STREAMS_MAX - BUILT_IN_COUNT + 1, ret_failure);
	if (code == 0)
		code = insert_tenant(d, name, &id, ret_failure);
	code = directory_change_end(d, code, ret_failure);
	if (code == 0)
		*ret_id = id;
	return code;
}

static int
disable_tenant(struct directory *d, uint32_t id, struct failure *ret_failure)
{
	(void)sqlite3_bind_int64(directory_sql(d, SQL_DISABLE_TENANT), 1, id);
	(void)sqlite3_bind_int64(directory_sql(d, SQL_REVOKE_TENANT), 1, id);
	int code = directory_sql_run(d, SQL_DISABLE_TENANT);
	if (code == 0)
		code = directory_sql_run(d, SQL_REVOKE_TENANT);
	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

int
directory_remove_tenant(
    struct directory *d, const char *name, struct failure *ret_failure)
{
	uint32_t id = 0;

	TRY(directory_change_begin(d, ret_failure));
	int code = directory_require_tenant(d, name, &id, ret_failure);
	if (code == 0 && id == DIRECTORY_DEFAULT_TENANT)
		code = failure_set(ret_failure, ERR_REFUSED,
		    "the tenant `%s` cannot be removed: mail of trusted "
		    "networks and of this host belongs to it",
		    name);
	if (code == 0)
		code = disable_tenant(d, id, ret_failure);
	return directory_change_end(d, code, ret_failure);
}

int
directory_set_sender_policy(struct directory *d, const char *tenant,
    enum directory_sender_policy policy, struct failure *ret_failure)
{
	uint32_t id = 0;

	TRY(directory_change_begin(d, ret_failure));
	int code = directory_require_tenant(d, tenant, &id, ret_failure);
	if (code == 0) {
		sqlite3_stmt *set = directory_sql(d, SQL_SET_SENDER_POLICY);

		(void)sqlite3_bind_int64(set, 1, id);
		(void)sqlite3_bind_int(set, 2, (int)policy);
		code = directory_sql_run(d, SQL_SET_SENDER_POLICY);
		if (code < 0)
			(void)directory_sql_failure(d, code, ret_failure);
	}
	return directory_change_end(d, code, ret_failure);
}

/* ---- streams ----------------------------------------------------------- */

static int
check_pool(const char *pool, struct failure *ret_failure)
{
	return pool && *pool ? directory_check_name("pool", pool, ret_failure)
			     : 0;
}

static int
add_stream(struct directory *d, const struct directory_new_stream *stream,
    uint32_t *ret_id, struct failure *ret_failure)
{
	const char *tenant_name = stream->tenant ? stream->tenant : "default";
	uint32_t tenant = 0;

	TRY(directory_require_tenant(d, tenant_name, &tenant, ret_failure));
	TRY(directory_check_room(
	    d, SQL_COUNT_STREAMS, DIRECTORY_STREAMS_MAX, ret_failure));
	int code = insert_stream(d, tenant, stream);
	if (code == ERR_EXISTS)
		return failure_set(ret_failure, code,
		    "the tenant `%s` has a stream `%s` already; choose another "
		    "name",
		    tenant_name, stream->name);
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	*ret_id = directory_last_id(d);
	return 0;
}

int
directory_add_stream(struct directory *d,
    const struct directory_new_stream *stream, uint32_t *ret_id,
    struct failure *ret_failure)
{
	uint32_t id = 0;

	TRY(directory_check_name("stream", stream->name, ret_failure));
	TRY(check_pool(stream->pool, ret_failure));
	if (stream->expire_us < 0)
		return failure_set(ret_failure, ERR_SYNTAX,
		    "a stream cannot expire in the past; give a duration such "
		    "as 4d, or 0s for the config's");
	TRY(directory_change_begin(d, ret_failure));
	int code = add_stream(d, stream, &id, ret_failure);
	code = directory_change_end(d, code, ret_failure);
	if (code == 0)
		*ret_id = id;
	return code;
}

static int
set_pool(struct directory *d, uint32_t id, const char *pool,
    struct failure *ret_failure)
{
	sqlite3_stmt *set = directory_sql(d, SQL_SET_STREAM_POOL);

	(void)sqlite3_bind_int64(set, 1, id);
	(void)sqlite3_bind_text(set, 2, pool, -1, SQLITE_STATIC);
	int code = directory_sql_run(d, SQL_SET_STREAM_POOL);
	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

int
directory_set_stream_pool(struct directory *d, const char *tenant,
    const char *name, const char *pool, struct failure *ret_failure)
{
	uint32_t tenant_id = 0, id = 0;

	TRY(check_pool(pool, ret_failure));
	TRY(directory_change_begin(d, ret_failure));
	int code = directory_require_tenant(
	    d, tenant ? tenant : "default", &tenant_id, ret_failure);
	if (code == 0)
		code = directory_require_stream(
		    d, tenant_id, name, &id, ret_failure);
	if (code == 0)
		code = set_pool(d, id, pool, ret_failure);
	return directory_change_end(d, code, ret_failure);
}

static int
remove_stream(struct directory *d, uint32_t id, const char *name,
    struct failure *ret_failure)
{
	int64_t users = 0;

	(void)sqlite3_bind_int64(directory_sql(d, SQL_REMOVE_STREAM), 1, id);
	sqlite3_stmt *count = directory_sql(d, SQL_COUNT_STREAM_USERS);
	(void)sqlite3_bind_int64(count, 1, id);
	int code = directory_sql_step(count);
	users = sqlite3_column_int64(count, 0);
	(void)sqlite3_reset(count); /* the step has told */
	if (code == 1 && users > 0)
		return failure_set(ret_failure, ERR_REFUSED,
		    "the stream `%s` has %lld credential%s in use; revoke %s "
		    "first",
		    name, (long long)users, users == 1 ? "" : "s",
		    users == 1 ? "it" : "them");
	if (code >= 0)
		code = directory_sql_run(d, SQL_REMOVE_STREAM);
	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

int
directory_remove_stream(struct directory *d, const char *tenant,
    const char *name, struct failure *ret_failure)
{
	uint32_t tenant_id = 0, id = 0;

	for (unsigned i = 0; i < BUILT_IN_COUNT; i++)
		if (strcmp(name, built_in_streams[i]) == 0)
			return failure_set(ret_failure, ERR_REFUSED,
			    "the stream `%s` is built in and cannot be removed",
			    name);
	TRY(directory_change_begin(d, ret_failure));
	int code = directory_require_tenant(
	    d, tenant ? tenant : "default", &tenant_id, ret_failure);
	if (code == 0)
		code = directory_require_stream(
		    d, tenant_id, name, &id, ret_failure);
	if (code == 0)
		code = remove_stream(d, id, name, ret_failure);
	return directory_change_end(d, code, ret_failure);
}

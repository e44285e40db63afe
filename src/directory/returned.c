/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/returned.h"

#include "base/bug.h"
#include "directory/internal.h"

static int
claim_row(struct directory *d, const struct directory_return *c, int64_t now_us)
{
	sqlite3_stmt *forget = directory_sql(d, SQL_FORGET_RETURNS);

	(void)sqlite3_bind_int64(forget, 1, now_us);
	TRY(directory_sql_run(d, SQL_FORGET_RETURNS));
	sqlite3_stmt *add = directory_sql(d, SQL_ADD_RETURN);
	(void)sqlite3_bind_int64(add, 1, (int64_t)c->mno);
	(void)sqlite3_bind_int64(add, 2, c->rcpt);
	(void)sqlite3_bind_int64(add, 3, c->kind);
	(void)sqlite3_bind_int64(add, 4, (int64_t)c->by_mno);
	(void)sqlite3_bind_int64(add, 5, c->expire_us);
	return directory_sql_run(d, SQL_ADD_RETURN);
}

/* Who was first. */
static int
find_first(
    struct directory *d, const struct directory_return *c, int64_t *ret_by)
{
	sqlite3_stmt *find = directory_sql(d, SQL_FIND_RETURN);

	(void)sqlite3_bind_int64(find, 1, (int64_t)c->mno);
	(void)sqlite3_bind_int64(find, 2, c->rcpt);
	(void)sqlite3_bind_int64(find, 3, c->kind);
	int code = directory_sql_step(find);
	if (code == 1)
		*ret_by = sqlite3_column_int64(find, 0);
	(void)sqlite3_reset(find); /* the step has told */
	return code == 0 ? ERR_CORRUPT : code;
}

int
directory_claim_return(struct directory *d,
    const struct directory_return *claim, int64_t now_us,
    struct failure *ret_failure)
{
	int64_t by = 0;

	TRY(directory_change_begin(d, ret_failure));
	int code = claim_row(d, claim, now_us);
	if (code == 0)
		code = find_first(d, claim, &by);
	if (code >= 0)
		code = directory_sql_run(d, SQL_COMMIT);
	if (code < 0) {
		(void)directory_sql_failure(d, code, ret_failure);
		if (!sqlite3_get_autocommit(d->db))
			directory_sql_rollback(d);
	}
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	if (code < 0)
		return code;
	return by == (int64_t)claim->by_mno;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "directory/internal.h"

#include <errno.h>

static const char *const texts[SQL_COUNT] = {
	[SQL_BEGIN] = "BEGIN",
	[SQL_BEGIN_CHANGE] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_SCHEMA_VERSION] = "PRAGMA user_version",
	[SQL_DATA_VERSION] = "PRAGMA data_version",
	[SQL_LOAD_TENANTS] = "SELECT id, name, enabled, created_us,"
			     " sender_policy FROM tenant"
			     " ORDER BY id",
	[SQL_LOAD_STREAMS] = "SELECT id, tenant, name, class, expire_us,"
			     " created_us, removed, pool FROM stream"
			     " ORDER BY removed, id",
	[SQL_LOAD_CREDENTIALS] =
	    "SELECT id, tenant, stream, username, name, secret_sha256,"
	    " scram_salt, scram_iterations, scram_stored_key,"
	    " scram_server_key, revoked, created_us FROM credential"
	    " ORDER BY id",
	[SQL_LOAD_NETWORKS] = "SELECT credential, network FROM"
			      " credential_network ORDER BY credential,"
			      " network",
	[SQL_LOAD_DOMAINS] =
	    "SELECT id, tenant, name, return_path, created_us, checked_us,"
	    " verified_us, problem FROM domain ORDER BY id",
	[SQL_LOAD_KEYS] =
	    "SELECT id, domain, selector, algorithm, state, bits, public_key,"
	    " changed_us, seen_us FROM domain_key ORDER BY domain, id",
	[SQL_FIND_TENANT] = "SELECT id, enabled FROM tenant WHERE name = ?1",
	[SQL_FIND_STREAM] = "SELECT id FROM stream WHERE tenant = ?1"
			    " AND name = ?2 AND removed = 0",
	[SQL_FIND_CREDENTIAL] = "SELECT id, revoked FROM credential"
				" WHERE username = ?1",
	[SQL_ADD_TENANT] = "INSERT INTO tenant (name, enabled, created_us)"
			   " VALUES (?1, 1, ?2)",
	[SQL_DISABLE_TENANT] = "UPDATE tenant SET enabled = 0 WHERE id = ?1",
	[SQL_REVOKE_TENANT] = "UPDATE credential SET revoked = 1"
			      " WHERE tenant = ?1",
	[SQL_SET_SENDER_POLICY] = "UPDATE tenant SET sender_policy = ?2"
				  " WHERE id = ?1",
	[SQL_ADD_STREAM] = "INSERT INTO stream (tenant, name, class,"
			   " expire_us, created_us, removed, pool)"
			   " VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
	[SQL_REMOVE_STREAM] = "UPDATE stream SET removed = 1 WHERE id = ?1",
	[SQL_SET_STREAM_POOL] = "UPDATE stream SET pool = ?2 WHERE id = ?1",
	[SQL_COUNT_STREAM_USERS] = "SELECT count(*) FROM credential"
				   " WHERE stream = ?1 AND revoked = 0",
	[SQL_ADD_CREDENTIAL] =
	    "INSERT INTO credential (tenant, stream, username, name,"
	    " secret_sha256, scram_salt, scram_iterations, scram_stored_key,"
	    " scram_server_key, revoked, created_us)"
	    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10)",
	[SQL_ADD_NETWORK] = "INSERT OR IGNORE INTO credential_network"
			    " (credential, network) VALUES (?1, ?2)",
	[SQL_REVOKE_CREDENTIAL] = "UPDATE credential SET revoked = 1"
				  " WHERE id = ?1",
	[SQL_FIND_DOMAIN] = "SELECT id FROM domain WHERE name = ?1",
	[SQL_ADD_DOMAIN] = "INSERT INTO domain (tenant, name, return_path,"
			   " created_us, checked_us, verified_us, problem)"
			   " VALUES (?1, ?2, ?3, ?4, 0, 0, '')",
	[SQL_REMOVE_DOMAIN] = "DELETE FROM domain WHERE id = ?1",
	[SQL_NOTE_CHECK] = "UPDATE domain SET checked_us = ?2, problem = ?3,"
			   " verified_us = CASE WHEN verified_us = 0 AND ?4"
			   " THEN ?2 ELSE verified_us END WHERE id = ?1",
	[SQL_ADD_KEY] =
	    "INSERT INTO domain_key (domain, selector, algorithm, state,"
	    " bits, public_key, changed_us, seen_us)"
	    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)",
	[SQL_REMOVE_KEYS] = "DELETE FROM domain_key WHERE domain = ?1",
	[SQL_REMOVE_OLD_KEYS] = "DELETE FROM domain_key WHERE domain = ?1"
				" AND state = 2",
	[SQL_COUNT_KEYS_IN_STATE] = "SELECT count(*) FROM domain_key"
				    " WHERE domain = ?1 AND state = ?2",
	/* Next to active, active to old. */
	[SQL_MOVE_KEYS] = "UPDATE domain_key SET state = state + 1,"
			  " changed_us = ?2 WHERE domain = ?1 AND state < 2",
	[SQL_NOTE_KEY_SEEN] = "UPDATE domain_key SET seen_us = ?3"
			      " WHERE domain = ?1 AND id = ?2",
	[SQL_COUNT_TENANTS] = "SELECT count(*) FROM tenant",
	[SQL_COUNT_STREAMS] = "SELECT count(*) FROM stream",
	[SQL_COUNT_CREDENTIALS] = "SELECT count(*) FROM credential",
	/* Columns in the order of suppression.c. */
	[SQL_LOAD_SUPPRESSIONS] =
	    "SELECT id, tenant, stream, address, cause FROM suppression",
	[SQL_COUNT_SUPPRESSIONS] = "SELECT count(*) FROM suppression",
	[SQL_SUPPRESSION_CHANGE] = "SELECT number FROM suppression_change",
	[SQL_NOTE_SUPPRESSION_CHANGE] =
	    "UPDATE suppression_change SET number = number + 1",
	[SQL_ADD_SUPPRESSION] =
	    "INSERT INTO suppression"
	    " (tenant, stream, address, cause, evidence, created_us,"
	    " expire_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
	    " ON CONFLICT (address, tenant, stream) DO UPDATE SET"
	    " cause = excluded.cause, evidence = excluded.evidence,"
	    " created_us = excluded.created_us,"
	    " expire_us = excluded.expire_us"
	    " WHERE ?8 OR suppression.expire_us <> 0",
	[SQL_REMOVE_SUPPRESSION] = "DELETE FROM suppression WHERE tenant = ?1"
				   " AND stream = ?2 AND address = ?3",
	[SQL_EXPIRED_SUPPRESSIONS] =
	    "SELECT id, tenant, stream, address FROM suppression"
	    " WHERE expire_us > 0 AND expire_us <= ?1 LIMIT ?2",
	[SQL_LIST_SUPPRESSIONS] =
	    "SELECT id, tenant, stream, address, cause, evidence, created_us,"
	    " expire_us FROM suppression WHERE id > ?1 ORDER BY id",
	[SQL_LIST_SUPPRESSIONS_OF_TENANT] =
	    "SELECT id, tenant, stream, address, cause, evidence, created_us,"
	    " expire_us FROM suppression WHERE id > ?1 AND tenant = ?2"
	    " ORDER BY id",
	[SQL_LIST_SUPPRESSIONS_OF_ADDRESS] =
	    "SELECT id, tenant, stream, address, cause, evidence, created_us,"
	    " expire_us FROM suppression WHERE id > ?1 AND address = ?2"
	    " ORDER BY id",
	[SQL_COUNT_DOMAINS] = "SELECT count(*) FROM domain",
	[SQL_FORGET_RETURNS] = "DELETE FROM returned WHERE expire_us < ?1",
	[SQL_ADD_RETURN] = "INSERT OR IGNORE INTO returned"
			   " (mno, rcpt, kind, by_mno, expire_us)"
			   " VALUES (?1, ?2, ?3, ?4, ?5)",
	[SQL_FIND_RETURN] = "SELECT by_mno FROM returned"
			    " WHERE mno = ?1 AND rcpt = ?2 AND kind = ?3",
};

int
directory_sql_code(int sqlite_code)
{
	if (sqlite_code == SQLITE_CONSTRAINT_UNIQUE ||
	    sqlite_code == SQLITE_CONSTRAINT_PRIMARYKEY)
		return ERR_EXISTS;
	switch (sqlite_code & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
		return 0;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_CANTOPEN:
		return -EACCES;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_CONSTRAINT:
		return ERR_CORRUPT;
	case SQLITE_TOOBIG:
		return ERR_LIMIT;
	case SQLITE_NOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

int
directory_sql_failure(
    struct directory *d, int code, struct failure *ret_failure)
{
	if (code == -EBUSY)
		return failure_set(ret_failure, code,
		    "%s is locked by another program; try again", d->path);
	if (code == -ENOSPC)
		return failure_set(ret_failure, code,
		    "%s cannot grow: the disk is full; make room", d->path);
	if (code == -EACCES || code == -EROFS)
		return failure_set(ret_failure, code,
		    "%s cannot be written: %s; let this user write the file "
		    "and its directory",
		    d->path, error_text(code));
	if (code == ERR_CORRUPT)
		return failure_set(ret_failure, code,
		    "%s is damaged (%s); restore it from a copy", d->path,
		    sqlite3_errmsg(d->db));
	if (code == ERR_LIMIT)
		return failure_set(ret_failure, code,
		    "%s holds more than this program takes into memory",
		    d->path);
	if (code == ERR_VERSION)
		return failure_set(ret_failure, code,
		    "%s was written by a newer posthouse; run that one",
		    d->path);
	return failure_set(ret_failure, code, "%s cannot be used: %s", d->path,
	    sqlite3_errmsg(d->db));
}

sqlite3_stmt *
directory_sql(struct directory *d, enum directory_sql sql)
{
	sqlite3_stmt *statement = d->statements[sql];

	BUG_UNLESS(statement != NULL);
	(void)sqlite3_reset(statement); /* repeats the last step's error */
	(void)sqlite3_clear_bindings(statement);
	return statement;
}

int
directory_sql_prepare(struct directory *d)
{
	for (unsigned i = 0; i < SQL_COUNT; i++) {
		BUG_UNLESS(texts[i] != NULL);
		int code = sqlite3_prepare_v3(d->db, texts[i], -1,
		    SQLITE_PREPARE_PERSISTENT, &d->statements[i], NULL);
		if (code != SQLITE_OK)
			return directory_sql_code(code);
	}
	return 0;
}

void
directory_sql_done(struct directory *d)
{
	for (unsigned i = 0; i < SQL_COUNT; i++) {
		(void)sqlite3_finalize(d->statements[i]);
		d->statements[i] = NULL;
	}
}

int
directory_sql_step(sqlite3_stmt *statement)
{
	int code = sqlite3_step(statement);

	return code == SQLITE_ROW ? 1 : directory_sql_code(code);
}

int
directory_sql_run(struct directory *d, enum directory_sql sql)
{
	sqlite3_stmt *statement = d->statements[sql];
	int code = directory_sql_step(statement);

	(void)sqlite3_reset(statement); /* the step has told */
	(void)sqlite3_clear_bindings(statement);
	BUG_UNLESS(code <= 0);
	return code;
}

void
directory_sql_rollback(struct directory *d)
{
	sqlite3_stmt *statement = directory_sql(d, SQL_ROLLBACK);

	/* Fails only when SQLite has rolled back by itself already. */
	(void)sqlite3_step(statement);
	(void)sqlite3_reset(statement);
}

int
directory_sql_number(
    struct directory *d, enum directory_sql sql, int64_t *ret_number)
{
	sqlite3_stmt *statement = directory_sql(d, sql);
	int code = directory_sql_step(statement);

	if (code == 1)
		*ret_number = sqlite3_column_int64(statement, 0);
	(void)sqlite3_reset(statement); /* the step has told */
	if (code == 0)
		return ERR_CORRUPT;
	return code < 0 ? code : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The database file: made with the owner of its directory, so that a command
 * run by root leaves a file that the service can use; opened in WAL mode with
 * a sync per commit; brought to the present schema. A schema's number only
 * grows; a file with a greater one is refused, never guessed at.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "directory/internal.h"
#include "os/clock.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_TIMEOUT_MS = 5000 };

/* "post", read as a number: what file(1) and we know the file by. */
#define APPLICATION_ID 0x706f7374
#define APPLICATION_ID_SQL "PRAGMA application_id = 0x706f7374"

/* How each version comes from the one before. Ids are never used twice
 * (AUTOINCREMENT), because queued mail names them. */
static const char *const migrations[DIRECTORY_SCHEMA_VERSION] = {
	"CREATE TABLE tenant ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL UNIQUE,"
	" enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),"
	" created_us INTEGER NOT NULL);"
	"CREATE TABLE stream ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" tenant INTEGER NOT NULL REFERENCES tenant (id),"
	" name TEXT NOT NULL,"
	" class INTEGER NOT NULL CHECK (class IN (0, 1)),"
	" expire_us INTEGER NOT NULL CHECK (expire_us >= 0),"
	" created_us INTEGER NOT NULL,"
	" removed INTEGER NOT NULL CHECK (removed IN (0, 1)));"
	"CREATE UNIQUE INDEX stream_name ON stream (tenant, name)"
	" WHERE removed = 0;"
	"CREATE TABLE credential ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" tenant INTEGER NOT NULL REFERENCES tenant (id),"
	" stream INTEGER NOT NULL REFERENCES stream (id),"
	" username TEXT NOT NULL UNIQUE,"
	" name TEXT NOT NULL,"
	" secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32),"
	" scram_salt BLOB NOT NULL CHECK (length(scram_salt) = 16),"
	" scram_iterations INTEGER NOT NULL,"
	" scram_stored_key BLOB NOT NULL CHECK (length(scram_stored_key) = 32),"
	" scram_server_key BLOB NOT NULL CHECK (length(scram_server_key) = 32),"
	" revoked INTEGER NOT NULL CHECK (revoked IN (0, 1)),"
	" created_us INTEGER NOT NULL);"
	"CREATE INDEX credential_tenant ON credential (tenant);"
	"CREATE INDEX credential_stream ON credential (stream);"
	"CREATE TABLE credential_network ("
	" credential INTEGER NOT NULL REFERENCES credential (id),"
	" network TEXT NOT NULL,"
	" PRIMARY KEY (credential, network)) WITHOUT ROWID;"
	"INSERT INTO tenant (id, name, enabled, created_us)"
	" VALUES (1, 'default', 1, now_us());"
	"INSERT INTO stream"
	" (id, tenant, name, class, expire_us, created_us, removed)"
	" VALUES (1, 1, 'transactional', 0, 0, now_us(), 0),"
	" (2, 1, 'bulk', 1, 0, now_us(), 0);"
	"PRAGMA user_version = 1;",
	/* The pool of sources that a stream's mail leaves by. */
	"ALTER TABLE stream ADD COLUMN pool TEXT NOT NULL DEFAULT '';"
	"PRAGMA user_version = 2;",
	"CREATE TABLE suppression ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" tenant INTEGER NOT NULL," /* 0: the relay */
	" stream INTEGER NOT NULL," /* 0: the tenant */
	" address TEXT NOT NULL,"
	" cause INTEGER NOT NULL,"
	" evidence TEXT NOT NULL,"
	" created_us INTEGER NOT NULL,"
	" expire_us INTEGER NOT NULL CHECK (expire_us >= 0),"
	" UNIQUE (address, tenant, stream));"
	"CREATE INDEX suppression_tenant ON suppression (tenant);"
	"CREATE INDEX suppression_expire ON suppression (expire_us)"
	" WHERE expire_us > 0;"
	"CREATE TABLE suppression_change (number INTEGER NOT NULL);"
	"INSERT INTO suppression_change (number) VALUES (0);"
	"PRAGMA user_version = 3;",
	"CREATE TABLE domain ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" tenant INTEGER NOT NULL REFERENCES tenant (id),"
	" name TEXT NOT NULL UNIQUE,"
	" return_path TEXT NOT NULL,"
	" created_us INTEGER NOT NULL,"
	" checked_us INTEGER NOT NULL,"
	" verified_us INTEGER NOT NULL,"
	" problem TEXT NOT NULL);"
	"CREATE TABLE domain_key ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" domain INTEGER NOT NULL REFERENCES domain (id),"
	" selector TEXT NOT NULL,"
	" algorithm INTEGER NOT NULL CHECK (algorithm IN (0, 1)),"
	" state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),"
	" bits INTEGER NOT NULL,"
	" public_key TEXT NOT NULL,"
	" changed_us INTEGER NOT NULL,"
	" seen_us INTEGER NOT NULL,"
	" UNIQUE (domain, selector));"
	"PRAGMA user_version = 4;",
	"ALTER TABLE tenant ADD COLUMN sender_policy INTEGER NOT NULL"
	" DEFAULT 0 CHECK (sender_policy IN (0, 1, 2));"
	"PRAGMA user_version = 5;",
	/* Reports that came back, so that each is told of once. */
	"CREATE TABLE returned ("
	" mno INTEGER NOT NULL," /* of the message reported on */
	" rcpt INTEGER NOT NULL,"
	" kind INTEGER NOT NULL,"
	" by_mno INTEGER NOT NULL," /* of the report */
	" expire_us INTEGER NOT NULL,"
	" PRIMARY KEY (mno, rcpt, kind)) WITHOUT ROWID;"
	"CREATE INDEX returned_expire ON returned (expire_us);"
	"PRAGMA user_version = 6;",
};

static char *
directory_of(const char *path)
{
	char *AUTO_FREE copy = mem_strdup(path);

	return mem_strdup(dirname(copy));
}

/* A new, empty file; SQLite gives its journals the same owner and mode. */
static int
make_file(const char *path, struct failure *ret_failure)
{
	char *AUTO_FREE parent = directory_of(path);
	struct stat st;
	int AUTO_CLOSE fd =
	    open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST)
		return 0;
	if (fd < 0)
		return failure_set(ret_failure, -errno,
		    "%s cannot be made: %s; make its directory, writable for "
		    "this user",
		    path, strerror(errno));
	if (stat(parent, &st) < 0 ||
	    (geteuid() == 0 && fchown(fd, st.st_uid, st.st_gid) < 0))
		return failure_set(ret_failure, -errno,
		    "%s cannot be given to the owner of %s: %s", path, parent,
		    strerror(errno));
	int code = file_sync_directory(parent);
	if (code < 0)
		return failure_set(ret_failure, code, "%s cannot be synced: %s",
		    parent, error_text(code));
	return 0;
}

static void
now_us(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)values;
	BUG_UNLESS(count == 0);
	sqlite3_result_int64(context, clock_wall_us());
}

static int
execute(struct directory *d, const char *sql)
{
	return directory_sql_code(sqlite3_exec(d->db, sql, NULL, NULL, NULL));
}

/* A number of a pragma, before there are prepared statements. */
static int
pragma(struct directory *d, const char *sql, int64_t *ret_number)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(d->db, sql, -1, &statement, NULL);

	if (code != SQLITE_OK)
		return directory_sql_code(code);
	code = directory_sql_step(statement);
	if (code == 1)
		*ret_number = sqlite3_column_int64(statement, 0);
	(void)sqlite3_finalize(statement); /* the step has told */
	return code < 0 ? code : 0;
}

static int
open_database(struct directory *d)
{
	int code = sqlite3_open_v2(d->path, &d->db,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
	    NULL);

	/* Without a handle there was no memory for one. */
	BUG_UNLESS(d->db != NULL);
	if (code != SQLITE_OK)
		return directory_sql_code(code);
	TRY(directory_sql_code(sqlite3_busy_timeout(d->db, BUSY_TIMEOUT_MS)));
	return directory_sql_code(sqlite3_create_function(d->db, "now_us", 0,
	    SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL, now_us, NULL, NULL));
}

/* Refuses what is not ours, without touching it. */
static int
check_identity(
    struct directory *d, int64_t *ret_version, struct failure *ret_failure)
{
	int64_t application = 0, version = 0, objects = 0;
	int code = pragma(d, "PRAGMA application_id", &application);

	if (code == 0)
		code = pragma(d, "PRAGMA user_version", &version);
	if (code == 0)
		code =
		    pragma(d, "SELECT count(*) FROM sqlite_schema", &objects);
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	bool is_empty = application == 0 && version == 0 && objects == 0;
	if (application != APPLICATION_ID && !is_empty)
		return failure_set(ret_failure, ERR_CORRUPT,
		    "%s is another program's database; move it away", d->path);
	if (version > DIRECTORY_SCHEMA_VERSION)
		return failure_set(ret_failure, ERR_VERSION,
		    "%s has schema %lld, but this program knows up to %d: a "
		    "newer posthouse wrote it; run that one",
		    d->path, (long long)version, DIRECTORY_SCHEMA_VERSION);
	if (version < 0)
		return directory_sql_failure(d, ERR_CORRUPT, ret_failure);
	*ret_version = version;
	return 0;
}

/* After check_identity: WAL mode is written into the file. */
static int
set_up(struct directory *d, struct failure *ret_failure)
{
	int code = execute(d, "PRAGMA trusted_schema = OFF;"
			      "PRAGMA cell_size_check = ON;"
			      "PRAGMA journal_mode = WAL;"
			      "PRAGMA synchronous = FULL;"
			      /* Confined, no other place can be written. */
			      "PRAGMA temp_store = MEMORY;"
			      "PRAGMA foreign_keys = ON;");

	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

static int
migrate(struct directory *d, struct failure *ret_failure)
{
	int64_t version = 0;

	TRY(check_identity(d, &version, ret_failure));
	TRY(set_up(d, ret_failure));
	if (version == DIRECTORY_SCHEMA_VERSION)
		return 0;
	int code = execute(d, "BEGIN IMMEDIATE");
	/* Another process may have been quicker. */
	if (code == 0) {
		code = check_identity(d, &version, ret_failure);
		for (; code == 0 && version < DIRECTORY_SCHEMA_VERSION;
		     version++)
			code = execute(d, migrations[version]);
		if (code == 0)
			code = execute(d, APPLICATION_ID_SQL);
		if (code == 0)
			code = execute(d, "COMMIT");
	}
	if (code < 0) {
		(void)directory_sql_failure(d, code, ret_failure);
		(void)execute(d, "ROLLBACK"); /* nothing more to be done */
	}
	return code;
}

int
directory_schema_open(struct directory *d, struct failure *ret_failure)
{
	TRY(make_file(d->path, ret_failure));
	int code = open_database(d);
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	TRY(migrate(d, ret_failure));
	code = directory_sql_prepare(d);
	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

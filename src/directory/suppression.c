/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rows of suppressions. They are no part of the directory's snapshot: a change
 * of one must not read all tenants and credentials again. They share its
 * handle and its lock, so that our own changes are no news to it.
 */

#include "directory/suppression.h"

#include "base/bug.h"
#include "base/mem.h"
#include "directory/internal.h"
#include "directory/suppression_index.h"
#include "os/clock.h"

#include <string.h>

/* Two gigabytes of fingerprints. */
#define SUPPRESSIONS_MAX UINT64_C(250000000)

static const char *const cause_names[SUPPRESSION_CAUSES] = {
	[0] = "",
	[SUPPRESSION_MANUAL] = "manual",
	[SUPPRESSION_NO_SUCH_USER] = "no_such_user",
	[SUPPRESSION_NO_SUCH_DOMAIN] = "no_such_domain",
	[SUPPRESSION_MOVED] = "moved",
	[SUPPRESSION_MAILBOX_DISABLED] = "mailbox_disabled",
	[SUPPRESSION_BOUNCE] = "bounce",
	[SUPPRESSION_COMPLAINT] = "complaint",
	[SUPPRESSION_UNSUBSCRIBE] = "unsubscribe",
};

const char *
suppression_cause_name(enum suppression_cause cause)
{
	BUG_UNLESS(cause > 0 && cause < SUPPRESSION_CAUSES);
	return cause_names[cause];
}

bool
suppression_cause_parse(struct span name, enum suppression_cause *ret_cause)
{
	for (int i = 1; i < SUPPRESSION_CAUSES; i++) {
		if (span_eq(name, span_of(cause_names[i]))) {
			*ret_cause = (enum suppression_cause)i;
			return true;
		}
	}
	return false;
}

struct span
suppression_normalise(struct span address, char buffer[static ADDRESS_MAX + 1])
{
	size_t len = address.len < ADDRESS_MAX ? address.len : ADDRESS_MAX;

	for (size_t i = 0; i < len; i++) {
		char c = address.ptr[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		buffer[i] = c;
	}
	buffer[len] = '\0';
	return span_from(buffer, len);
}

/* ---- rows -------------------------------------------------------------- */

enum row_column {
	ROW_ID,
	ROW_TENANT,
	ROW_STREAM,
	ROW_ADDRESS,
	ROW_CAUSE,
	ROW_EVIDENCE,
	ROW_CREATED,
	ROW_EXPIRE,
};

static struct span
column(sqlite3_stmt *row, int number)
{
	const void *bytes = sqlite3_column_blob(row, number);

	return span_from(bytes, (size_t)sqlite3_column_bytes(row, number));
}

/* False: nothing of ours wrote this. */
static bool
read_key(sqlite3_stmt *row, struct suppression_key *ret_key)
{
	int64_t tenant = sqlite3_column_int64(row, ROW_TENANT);
	int64_t stream = sqlite3_column_int64(row, ROW_STREAM);

	if (tenant < 0 || tenant > UINT32_MAX || stream < 0 ||
	    stream > UINT32_MAX)
		return false;
	ret_key->tenant = (uint32_t)tenant;
	ret_key->stream = (uint32_t)stream;
	ret_key->address = column(row, ROW_ADDRESS);
	return ret_key->address.len > 0 && ret_key->address.len <= ADDRESS_MAX;
}

static bool
read_cause(sqlite3_stmt *row, enum suppression_cause *ret_cause)
{
	int64_t cause = sqlite3_column_int64(row, ROW_CAUSE);

	if (cause < 1 || cause >= SUPPRESSION_CAUSES)
		return false;
	*ret_cause = (enum suppression_cause)cause;
	return true;
}

static bool
read_row(sqlite3_stmt *row, struct suppression *ret_entry)
{
	struct suppression_key key;
	struct suppression s = {
		.id = (uint64_t)sqlite3_column_int64(row, ROW_ID),
		.evidence = column(row, ROW_EVIDENCE),
		.created_us = sqlite3_column_int64(row, ROW_CREATED),
		.expire_us = sqlite3_column_int64(row, ROW_EXPIRE),
	};

	if (!read_key(row, &key) || !read_cause(row, &s.cause))
		return false;
	s.tenant = key.tenant;
	s.stream = key.stream;
	s.address = key.address;
	*ret_entry = s;
	return true;
}

/* ---- memory ------------------------------------------------------------ */

static int
load_rows(struct directory *d, struct suppression_index *index)
{
	sqlite3_stmt *row = directory_sql(d, SQL_LOAD_SUPPRESSIONS);
	int code;

	while ((code = directory_sql_step(row)) == 1) {
		struct suppression_key key;
		enum suppression_cause cause;
		if (!read_key(row, &key) || !read_cause(row, &cause)) {
			code = ERR_CORRUPT;
			break;
		}
		suppression_index_put(index, &key, cause);
	}
	(void)sqlite3_reset(row); /* the step has told */
	return code;
}

/* Within a transaction, so that count, rows and number belong together. */
static int
load_into(
    struct directory *d, struct suppression_index *index, int64_t *ret_change)
{
	int64_t count = 0;

	TRY(directory_sql_number(d, SQL_COUNT_SUPPRESSIONS, &count));
	if (count < 0 || (uint64_t)count > SUPPRESSIONS_MAX)
		return ERR_LIMIT;
	suppression_index_reserve(index, (uint64_t)count);
	TRY(load_rows(d, index));
	return directory_sql_number(d, SQL_SUPPRESSION_CHANGE, ret_change);
}

static int
load(struct directory *d)
{
	struct suppression_index *fresh = suppression_index_new();
	int64_t change = 0;
	int code = directory_sql_run(d, SQL_BEGIN);

	if (code == 0) {
		code = load_into(d, fresh, &change);
		directory_sql_rollback(d); /* nothing was written */
	}
	if (code == 0) {
		suppression_index_replace(d->suppressions, fresh);
		d->suppressions_loaded = true;
		d->suppression_change = change;
	}
	suppression_index_free(&fresh);
	return code;
}

int
suppressions_load(struct directory *d, struct failure *ret_failure)
{
	BUG_UNLESS(pthread_mutex_lock(&d->lock) == 0);
	int code = load(d);
	if (code < 0)
		(void)directory_sql_failure(d, code, ret_failure);
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	return code;
}

int
directory_suppressions_refresh(struct directory *d)
{
	int64_t change = 0;

	if (!d->suppressions_loaded)
		return 0;
	TRY(directory_sql_number(d, SQL_SUPPRESSION_CHANGE, &change));
	return change == d->suppression_change ? 0 : load(d);
}

struct suppression_memory
suppressions_memory(struct directory *d)
{
	return suppression_index_memory(d->suppressions);
}

bool
suppression_find(struct directory *d, uint32_t tenant, uint32_t stream,
    struct span address, enum suppression_cause *ret_cause)
{
	char buffer[ADDRESS_MAX + 1];

	/* Where nothing is suppressed, nothing is locked or hashed. */
	if (suppression_index_is_empty(d->suppressions))
		return false;
	const struct suppression_key key = {
		.tenant = tenant,
		.stream = stream,
		.address = suppression_normalise(address, buffer),
	};
	return suppression_index_find(d->suppressions, &key, ret_cause);
}

/* ---- changes ----------------------------------------------------------- */

/* Like directory_change_end, but the snapshot knows nothing of this. */
static int
end_change(struct directory *d, int code, struct failure *ret_failure)
{
	if (code == 0)
		code = directory_sql_run(d, SQL_NOTE_SUPPRESSION_CHANGE);
	if (code == 0)
		code = directory_sql_run(d, SQL_COMMIT);
	if (code < 0) {
		(void)directory_sql_failure(d, code, ret_failure);
		if (!sqlite3_get_autocommit(d->db))
			directory_sql_rollback(d);
		return code;
	}
	d->suppression_change++;
	return 0;
}

static struct suppression_key
key_of(const struct suppression *s, char buffer[static ADDRESS_MAX + 1])
{
	return (struct suppression_key){
		.tenant = s->tenant,
		.stream = s->stream,
		.address = suppression_normalise(s->address, buffer),
	};
}

/* Text of strangers, for people: no control characters, whole characters. */
static struct span
clean_evidence(struct span text, char buffer[static SUPPRESSION_EVIDENCE_MAX])
{
	size_t len = 0;

	while (text.len > 0) {
		size_t n = span_utf8_length(text);
		bool is_plain = n > 1 || (n == 1 && text.ptr[0] >= ' ' &&
					     text.ptr[0] != 0x7f);
		size_t size = is_plain ? n : 1;
		if (len + size > SUPPRESSION_EVIDENCE_MAX)
			break;
		if (is_plain)
			memcpy(buffer + len, text.ptr, n);
		else
			buffer[len] = n == 1 ? ' ' : '?';
		len += size;
		text = span_skip(text, size);
	}
	return span_from(buffer, len);
}

static int
insert(struct directory *d, const struct suppression *s, bool replace,
    int64_t now_us)
{
	char address[ADDRESS_MAX + 1], evidence[SUPPRESSION_EVIDENCE_MAX];
	struct suppression_key key = key_of(s, address);
	struct span text = clean_evidence(s->evidence, evidence);
	sqlite3_stmt *add = directory_sql(d, SQL_ADD_SUPPRESSION);

	BUG_UNLESS(s->cause > 0 && s->cause < SUPPRESSION_CAUSES);
	(void)sqlite3_bind_int64(add, 1, s->tenant);
	(void)sqlite3_bind_int64(add, 2, s->stream);
	(void)sqlite3_bind_text(
	    add, 3, key.address.ptr, (int)key.address.len, SQLITE_STATIC);
	(void)sqlite3_bind_int(add, 4, (int)s->cause);
	(void)sqlite3_bind_text(add, 5, text.ptr, (int)text.len, SQLITE_STATIC);
	(void)sqlite3_bind_int64(
	    add, 6, s->created_us != 0 ? s->created_us : now_us);
	(void)sqlite3_bind_int64(add, 7, s->expire_us);
	(void)sqlite3_bind_int(add, 8, replace);
	TRY(directory_sql_run(d, SQL_ADD_SUPPRESSION));
	return sqlite3_changes(d->db) > 0;
}

/* Which of the entries changed anything stands in `changed`. */
static int
insert_all(struct directory *d, const struct suppression *entries, size_t count,
    bool replace, bool *changed)
{
	int64_t now_us = clock_wall_us();
	uint64_t present = suppressions_memory(d).entries;

	if (present + count > SUPPRESSIONS_MAX)
		return ERR_LIMIT;
	for (size_t i = 0; i < count; i++) {
		int code = insert(d, &entries[i], replace, now_us);
		TRY(code);
		changed[i] = code == 1;
	}
	return 0;
}

int
suppressions_add(struct directory *d, const struct suppression *entries,
    size_t count, bool replace, uint64_t *ret_changed,
    struct failure *ret_failure)
{
	bool *AUTO_FREE changed = mem_zalloc(count * sizeof(bool) + 1);
	char buffer[ADDRESS_MAX + 1];
	uint64_t total = 0;

	for (size_t i = 0; i < count; i++) {
		if (entries[i].address.len == 0 ||
		    entries[i].address.len > ADDRESS_MAX)
			return failure_set(ret_failure, ERR_SYNTAX,
			    "an address to suppress has 1 to %d octets",
			    ADDRESS_MAX);
	}
	TRY(directory_change_begin(d, ret_failure));
	int code = insert_all(d, entries, count, replace, changed);
	code = end_change(d, code, ret_failure);
	for (size_t i = 0; code == 0 && i < count; i++) {
		if (!changed[i])
			continue;
		total++;
		if (!d->suppressions_loaded)
			continue;
		struct suppression_key key = key_of(&entries[i], buffer);
		suppression_index_put(d->suppressions, &key, entries[i].cause);
	}
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	if (code == 0)
		*ret_changed = total;
	return code;
}

static int
remove_row(struct directory *d, const struct suppression_key *key)
{
	sqlite3_stmt *remove = directory_sql(d, SQL_REMOVE_SUPPRESSION);

	(void)sqlite3_bind_int64(remove, 1, key->tenant);
	(void)sqlite3_bind_int64(remove, 2, key->stream);
	(void)sqlite3_bind_text(
	    remove, 3, key->address.ptr, (int)key->address.len, SQLITE_STATIC);
	TRY(directory_sql_run(d, SQL_REMOVE_SUPPRESSION));
	return sqlite3_changes(d->db) > 0;
}

int
suppression_remove(struct directory *d, uint32_t tenant, uint32_t stream,
    struct span address, struct failure *ret_failure)
{
	char buffer[ADDRESS_MAX + 1];
	struct suppression_key key = {
		.tenant = tenant,
		.stream = stream,
		.address = suppression_normalise(address, buffer),
	};

	TRY(directory_change_begin(d, ret_failure));
	int code = remove_row(d, &key);
	bool is_missing = code == 0;
	code = end_change(d, code < 0 ? code : 0, ret_failure);
	if (code == 0)
		suppression_index_remove(d->suppressions, &key);
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	if (code == 0 && is_missing)
		return failure_set(ret_failure, ERR_NOT_FOUND,
		    "%.*s is not suppressed there; `posthouse suppression "
		    "show` tells where it is",
		    SPAN_ARG(key.address));
	return code;
}

/* ---- expiry ------------------------------------------------------------ */

struct expired {
	struct suppression_key key; /* its address is `address` */
	char address[ADDRESS_MAX + 1];
};

static int
find_expired(struct directory *d, int64_t now_us, uint32_t most,
    struct expired *ret_expired)
{
	sqlite3_stmt *row = directory_sql(d, SQL_EXPIRED_SUPPRESSIONS);
	int count = 0, code;

	(void)sqlite3_bind_int64(row, 1, now_us);
	(void)sqlite3_bind_int64(row, 2, most);
	while ((code = directory_sql_step(row)) == 1) {
		struct expired *e = &ret_expired[count];
		if (!read_key(row, &e->key)) {
			code = ERR_CORRUPT;
			break;
		}
		e->key.address =
		    suppression_normalise(e->key.address, e->address);
		count++;
	}
	(void)sqlite3_reset(row); /* the step has told */
	return code < 0 ? code : count;
}

static int
expire(
    struct directory *d, int64_t now_us, uint32_t most, struct expired *expired)
{
	struct failure failure;
	int count = find_expired(d, now_us, most, expired);

	if (count <= 0)
		return count;
	int code = directory_sql_run(d, SQL_BEGIN_CHANGE);
	for (int i = 0; i < count && code >= 0; i++)
		code = remove_row(d, &expired[i].key);
	if (code < 0 && sqlite3_get_autocommit(d->db))
		return code;
	TRY(end_change(d, code < 0 ? code : 0, &failure));
	for (int i = 0; i < count; i++)
		suppression_index_remove(d->suppressions, &expired[i].key);
	return count;
}

int
suppressions_expire(struct directory *d, int64_t now_us, uint32_t most)
{
	struct expired *AUTO_FREE expired =
	    mem_alloc((size_t)most * sizeof(struct expired) + 1);

	BUG_UNLESS(pthread_mutex_lock(&d->lock) == 0);
	int code = expire(d, now_us, most, expired);
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	return code;
}

/* ---- looking ----------------------------------------------------------- */

static bool
is_wanted(const struct suppression_query *q, const struct suppression *s)
{
	return (!q->has_tenant || s->tenant == q->tenant) &&
	       (!q->has_stream || s->stream == q->stream) &&
	       (q->cause == 0 || s->cause == q->cause);
}

static sqlite3_stmt *
list_statement(struct directory *d, const struct suppression_query *q,
    char address[static ADDRESS_MAX + 1])
{
	enum directory_sql sql = SQL_LIST_SUPPRESSIONS;

	if (q->address.len > 0)
		sql = SQL_LIST_SUPPRESSIONS_OF_ADDRESS;
	else if (q->has_tenant)
		sql = SQL_LIST_SUPPRESSIONS_OF_TENANT;
	sqlite3_stmt *list = directory_sql(d, sql);
	(void)sqlite3_bind_int64(list, 1, (int64_t)q->after);
	if (q->address.len > 0) {
		struct span s = suppression_normalise(q->address, address);
		(void)sqlite3_bind_text(
		    list, 2, s.ptr, (int)s.len, SQLITE_STATIC);
	} else if (q->has_tenant) {
		(void)sqlite3_bind_int64(list, 2, q->tenant);
	}
	return list;
}

int
suppressions_list(struct directory *d, const struct suppression_query *query,
    suppression_fn *fn, void *arg, struct failure *ret_failure)
{
	char address[ADDRESS_MAX + 1];
	uint32_t count = 0;
	int code = 0;

	BUG_UNLESS(pthread_mutex_lock(&d->lock) == 0);
	sqlite3_stmt *row = list_statement(d, query, address);
	while (count < query->limit && (code = directory_sql_step(row)) == 1) {
		struct suppression entry;
		if (!read_row(row, &entry)) {
			code = ERR_CORRUPT;
			break;
		}
		if (!is_wanted(query, &entry))
			continue;
		fn(arg, &entry);
		count++;
	}
	(void)sqlite3_reset(row); /* the step has told */
	if (code < 0)
		(void)directory_sql_failure(d, code, ret_failure);
	BUG_UNLESS(pthread_mutex_unlock(&d->lock) == 0);
	return code < 0 ? code : 0;
}

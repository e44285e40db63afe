/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lists of suppressions as CSV: what leaves here can come in again, here or
 * elsewhere. Columns are found by their names in the first line; only
 * `address` must be there.
 */

#include "api/suppressions.h"
#include "base/bug.h"
#include "base/csv.h"
#include "base/mem.h"
#include "base/time.h"

#include <string.h>

enum {
	ROWS_PER_PIECE = 1000, /* of an export */
	ROWS_AT_ONCE = 1000, /* in one transaction of an import */
	COMPLAINTS_MAX = 20, /* that are told one by one */
};

enum column {
	COLUMN_ADDRESS,
	COLUMN_SCOPE,
	COLUMN_TENANT,
	COLUMN_STREAM,
	COLUMN_CAUSE,
	COLUMN_EVIDENCE,
	COLUMN_CREATED,
	COLUMN_EXPIRES,
	COLUMNS
};

static const char *const column_names[COLUMNS] = { "address", "scope", "tenant",
	"stream", "cause", "evidence", "created", "expires" };

/* ---- export ------------------------------------------------------------ */

struct export
{
	const struct api *api;
	struct suppression_query query;
	struct directory_snapshot *names;
	struct arena *arena; /* of the query */
	struct buf *out;
	uint64_t rows; /* of this piece */
	bool ended;
};

static struct span
time_text(int64_t wall_us, char buffer[static TIME_RFC3339_SIZE])
{
	if (wall_us == 0)
		return SPAN_EMPTY;
	return span_of(time_format_rfc3339(wall_us, buffer));
}

static void
append_entry(void *arg, const struct suppression *s)
{
	struct export *x = arg;
	char created[TIME_RFC3339_SIZE], expires[TIME_RFC3339_SIZE];
	const struct directory_tenant *tenant =
	    directory_tenant(x->names, s->tenant);
	const struct directory_stream *stream =
	    directory_stream(x->names, s->stream);
	const struct span fields[COLUMNS] = {
		[COLUMN_ADDRESS] = s->address,
		[COLUMN_SCOPE] = span_of(suppression_scope_name(s)),
		[COLUMN_TENANT] = span_of(tenant != NULL ? tenant->name : NULL),
		[COLUMN_STREAM] = span_of(stream != NULL ? stream->name : NULL),
		[COLUMN_CAUSE] = span_of(suppression_cause_name(s->cause)),
		[COLUMN_EVIDENCE] = s->evidence,
		[COLUMN_CREATED] = time_text(s->created_us, created),
		[COLUMN_EXPIRES] = time_text(s->expire_us, expires),
	};

	for (int i = 0; i < COLUMNS; i++)
		csv_append(x->out, fields[i], i == 0);
	csv_end(x->out);
	x->query.after = s->id;
	x->rows++;
}

static enum api_more
export_more(void *stream, struct buf *out)
{
	struct export *x = stream;
	struct failure failure;

	if (x->ended)
		return API_END;
	x->out = out;
	x->rows = 0;
	if (suppressions_list(
		x->api->directory, &x->query, append_entry, x, &failure) < 0)
		return API_BROKEN;
	x->ended = x->rows < x->query.limit;
	return x->rows > 0 ? API_MORE : API_END;
}

static void
export_end(void *stream)
{
	struct export *x = stream;

	directory_snapshot_unref(&x->names);
	arena_free(&x->arena);
	mem_free(x);
}

void
suppressions_export(struct call *call)
{
	struct api_response *r = call->response;
	struct export *x = MEM_NEW(struct export);

	x->api = call->api;
	x->arena = arena_new();
	x->names = directory_snapshot(call->api->directory);
	if (!suppression_query_read(call, x->arena, &x->query)) {
		export_end(x);
		return;
	}
	x->query.limit = ROWS_PER_PIECE;
	r->status = 200;
	r->content_type = "text/csv; charset=utf-8";
	for (int i = 0; i < COLUMNS; i++)
		csv_append(&r->body, span_of(column_names[i]), i == 0);
	csv_end(&r->body);
	r->stream = x;
	r->more = export_more;
	r->end = export_end;
}

/* ---- import ------------------------------------------------------------ */

struct import {
	struct call *call;
	struct directory_snapshot *names;
	struct suppression_scope scope; /* of rows that name none */
	enum suppression_cause cause; /* the same */
	struct csv csv;
	size_t places[COLUMNS]; /* SIZE_MAX: not there */
	struct arena *arena; /* of the rows not yet written */
	struct suppression *rows;
	size_t row_count;
	uint64_t changed, taken, refused;
	json_t *complaints;
};

static void
complain_of(struct import *im, const char *reason)
{
	im->refused++;
	if (json_array_size(im->complaints) >= COMPLAINTS_MAX)
		return;
	json_array_append_new(
	    im->complaints, json_pack("{s:i, s:o}", "line", (int)im->csv.line,
				"reason", json_text(span_of(reason))));
}

static struct span
value_of(const struct import *im, enum column column)
{
	return csv_field(&im->csv, im->places[column]);
}

static bool
read_columns(struct import *im)
{
	for (int i = 0; i < COLUMNS; i++)
		im->places[i] = SIZE_MAX;
	if (csv_next(&im->csv) != 1)
		return false;
	for (size_t at = 0; at < im->csv.count; at++) {
		struct span name = span_trim(csv_field(&im->csv, at));
		/* Some programs begin a file with a byte order mark. */
		if (at == 0 && span_starts(name, SPAN("\xef\xbb\xbf")))
			name = span_skip(name, 3);
		for (int i = 0; i < COLUMNS; i++) {
			if (span_eq_nocase(name, span_of(column_names[i])))
				im->places[i] = at;
		}
	}
	return im->places[COLUMN_ADDRESS] != SIZE_MAX;
}

static const char *
read_scope(const struct import *im, struct suppression *s)
{
	struct span tenant = value_of(im, COLUMN_TENANT);
	struct span stream = value_of(im, COLUMN_STREAM);

	if (span_eq(value_of(im, COLUMN_SCOPE), SPAN("relay")))
		return NULL;
	s->tenant = im->scope.tenant;
	s->stream = im->scope.stream;
	if (tenant.len > 0) {
		const struct directory_tenant *t =
		    directory_find_tenant(im->names, tenant);
		if (t == NULL)
			return "there is no such tenant";
		s->tenant = t->id;
		s->stream = 0;
	}
	if (stream.len > 0) {
		const struct directory_stream *t =
		    directory_find_stream(im->names, s->tenant, stream);
		if (t == NULL)
			return "the tenant has no such stream";
		s->stream = t->id;
	}
	return NULL;
}

static const char *
read_times(const struct import *im, struct suppression *s)
{
	struct span created = value_of(im, COLUMN_CREATED);
	struct span expires = value_of(im, COLUMN_EXPIRES);

	if ((created.len > 0 && !time_parse_rfc3339(created, &s->created_us)) ||
	    (expires.len > 0 && !time_parse_rfc3339(expires, &s->expire_us)) ||
	    s->expire_us < 0)
		return "times are written like 2026-11-23T17:44:49Z";
	return NULL;
}

/* NULL, or what is wrong with the row. */
static const char *
read_row(struct import *im, struct suppression *s)
{
	struct span cause = value_of(im, COLUMN_CAUSE);
	const char *wrong = suppression_address_parse(
	    span_trim(value_of(im, COLUMN_ADDRESS)), im->arena, &s->address);

	if (wrong == NULL)
		wrong = read_scope(im, s);
	if (wrong == NULL)
		wrong = read_times(im, s);
	s->cause = im->cause;
	if (wrong == NULL && cause.len > 0 &&
	    !suppression_cause_parse(cause, &s->cause))
		wrong = "there is no such cause";
	s->evidence =
	    arena_dup(im->arena, span_slice(value_of(im, COLUMN_EVIDENCE), 0,
				     SUPPRESSION_EVIDENCE_MAX));
	return wrong;
}

static int
write_rows(struct import *im, struct failure *ret_failure)
{
	uint64_t changed = 0;

	if (im->row_count == 0)
		return 0;
	TRY(suppressions_add(im->call->api->directory, im->rows, im->row_count,
	    true, &changed, ret_failure));
	im->changed += changed;
	im->taken += im->row_count;
	im->row_count = 0;
	arena_reset(im->arena);
	return 0;
}

static int
read_rows(struct import *im, struct failure *ret_failure)
{
	int code;

	while ((code = csv_next(&im->csv)) != 0) {
		struct suppression s = { 0 };
		const char *wrong = code == ERR_LIMIT ? "the line is too long"
						      : "quotes do not match";
		if (code == 1)
			wrong = read_row(im, &s);
		if (wrong != NULL) {
			complain_of(im, wrong);
			continue;
		}
		im->rows[im->row_count++] = s;
		if (im->row_count == ROWS_AT_ONCE)
			TRY(write_rows(im, ret_failure));
	}
	return write_rows(im, ret_failure);
}

static void
import(struct import *im)
{
	struct failure failure;

	if (!read_columns(im)) {
		respond_error(im->call, 422, "invalid",
		    "the first line of the CSV must name the columns, among "
		    "them `address`");
		return;
	}
	if (read_rows(im, &failure) < 0) {
		respond_failure(im->call, &failure);
		return;
	}
	respond_json(im->call, 200,
	    json_pack("{s:o, s:o, s:o, s:O}", "imported", json_count(im->taken),
		"changed", json_count(im->changed), "refused",
		json_count(im->refused), "complaints", im->complaints));
}

/* False: the answer is made. */
static bool
read_defaults(struct import *im)
{
	struct call *call = im->call;
	const char *cause = query_text(call, "cause");
	const struct suppression_scope_names names = {
		.tenant = query_text(call, "tenant"),
		.stream = query_text(call, "stream"),
		.relay = query_flag(call, "relay"),
	};

	im->cause = SUPPRESSION_MANUAL;
	if (cause != NULL &&
	    !suppression_cause_parse(span_of(cause), &im->cause)) {
		respond_error(
		    call, 422, "invalid", SUPPRESSION_CAUSE_HELP, cause);
		return false;
	}
	return suppression_scope_find(call, &names, &im->scope);
}

void
suppressions_import(struct call *call)
{
	struct import im = { .call = call };

	if (!read_defaults(&im))
		return;
	im.names = directory_snapshot(call->api->directory);
	im.csv = csv_begin(call->request->body);
	im.arena = arena_new();
	im.rows = mem_zalloc(ROWS_AT_ONCE * sizeof(struct suppression));
	im.complaints = json_array();
	import(&im);
	json_decref(im.complaints);
	mem_free(im.rows);
	arena_free(&im.arena);
	csv_done(&im.csv);
	directory_snapshot_unref(&im.names);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/bug.h"
#include "base/time.h"
#include "os/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static int
append_piece(const char *piece, size_t len, void *out)
{
	buf_append(out, span_from(piece, len));
	return 0;
}

void
respond_json(struct call *call, int status, json_t *root)
{
	struct api_response *r = call->response;

	BUG_UNLESS(root != NULL && r->more == NULL);
	r->status = status;
	buf_clear(&r->body);
	(void)json_dump_callback(root, append_piece, &r->body, JSON_COMPACT);
	buf_append_char(&r->body, '\n');
	json_decref(root);
}

void
respond_error(
    struct call *call, int status, const char *code, const char *format, ...)
{
	char text[2 * FAILURE_TEXT_MAX];
	va_list arguments;
	json_t *error = json_object();

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	json_object_set_new(error, "code", json_string(code));
	json_object_set_new(error, "message", json_text(span_of(text)));
	respond_json(call, status, json_pack("{s:o}", "error", error));
}

void
respond_failure(struct call *call, const struct failure *failure)
{
	static const struct {
		int code, status;
		const char *name;
	} kinds[] = {
		{ ERR_NOT_FOUND, 404, "not_found" },
		{ ERR_EXISTS, 409, "exists" },
		{ ERR_REFUSED, 409, "refused" },
		{ ERR_LIMIT, 409, "limit" },
		{ ERR_SYNTAX, 422, "invalid" },
		{ -ENOSPC, 507, "disk_full" },
	};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (kinds[i].code != failure->code)
			continue;
		respond_error(
		    call, kinds[i].status, kinds[i].name, "%s", failure->text);
		return;
	}
	respond_error(call, 500, "failed", "%s", failure->text);
}

json_t *
json_text(struct span s)
{
	struct buf quoted = BUF_EMPTY;
	json_t *text;

	if (s.len == 0)
		return json_string("");
	if (span_is_utf8(s))
		return json_stringn(s.ptr, s.len);
	/* The buffer's writer mends what is not UTF-8. */
	buf_append_json(&quoted, s);
	text = json_loadb(quoted.ptr, buf_size(&quoted),
	    JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	buf_done(&quoted);
	BUG_UNLESS(text != NULL);
	return text;
}

json_t *
json_text_or_null(struct span s)
{
	return s.len == 0 ? json_null() : json_text(s);
}

json_t *
json_time(int64_t wall_us)
{
	char text[TIME_RFC3339_SIZE];

	if (wall_us <= 0 || wall_us == TIME_NEVER)
		return json_null();
	return json_string(time_format_rfc3339(wall_us, text));
}

json_t *
json_count(uint64_t n)
{
	return json_integer((json_int_t)(n < INT64_MAX ? n : INT64_MAX));
}

json_t *
json_counts(const struct count *counts)
{
	json_t *root = json_object();

	for (size_t i = 0; counts[i].name != NULL; i++)
		json_object_set_new(
		    root, counts[i].name, json_count(counts[i].value));
	return root;
}

int64_t
api_wall_us(int64_t monotonic_us)
{
	if (monotonic_us == TIME_NEVER)
		return TIME_NEVER;
	return clock_wall_us() + (monotonic_us - clock_monotonic_us());
}

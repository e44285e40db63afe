/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/bug.h"
#include "base/time.h"
#include "os/clock.h"

#include <string.h>

#define PAGE_DEFAULT 1000
#define PAGE_MAX 10000

/* ---- query ------------------------------------------------------------- */

const char *
query_text(const struct call *call, const char *name)
{
	const char *value = call->request->query == NULL
				? NULL
				: call->request->query(call->request, name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

bool
query_number(struct call *call, const char *name, uint64_t max, uint64_t *value)
{
	const char *text = query_text(call, name);

	if (text == NULL || span_to_u64(span_of(text), max, value))
		return true;
	respond_error(call, 400, "bad_query",
	    "%s must be a number from 0 to %llu, not `%.64s`", name,
	    (unsigned long long)max, text);
	return false;
}

bool
query_time(struct call *call, const char *name, int64_t *ret_us)
{
	const char *text = query_text(call, name);
	int64_t ago_us;

	if (text == NULL || time_parse_rfc3339(span_of(text), ret_us))
		return true;
	if (time_parse_duration(span_of(text), &ago_us) &&
	    ago_us < clock_wall_us()) {
		*ret_us = clock_wall_us() - ago_us;
		return true;
	}
	respond_error(call, 400, "bad_query",
	    "%s must be a time such as 2026-11-23T17:44:49Z or how long ago, "
	    "such as 2h, not `%.64s`",
	    name, text);
	return false;
}

bool
query_flag(const struct call *call, const char *name)
{
	const char *text = query_text(call, name);

	return text != NULL && strcmp(text, "0") != 0 &&
	       strcmp(text, "false") != 0;
}

bool
page_read(struct call *call, struct page *ret_page)
{
	struct page page = { .limit = PAGE_DEFAULT };

	if (!query_number(call, "limit", PAGE_MAX, &page.limit) ||
	    !query_number(call, "after", UINT32_MAX, &page.after))
		return false;
	*ret_page = page;
	return true;
}

/* ---- body -------------------------------------------------------------- */

static const struct body_field *
find_field(const struct body_field *fields, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	}
	return NULL;
}

static bool
is_list_of_strings(const json_t *value)
{
	size_t i;
	json_t *item;

	if (!json_is_array(value))
		return false;
	json_array_foreach(value, i, item)
	{
		if (!json_is_string(item))
			return false;
	}
	return true;
}

/* Null stands for what is not given. False: wrong type. */
static bool
take_value(const struct body_field *field, json_t *value)
{
	if (json_is_null(value))
		return true;
	switch (field->type) {
	case BODY_STRING:
		if (!json_is_string(value))
			return false;
		*(const char **)field->value = json_string_value(value);
		return true;
	case BODY_STRINGS:
		if (!is_list_of_strings(value))
			return false;
		*(json_t **)field->value = value;
		return true;
	case BODY_BOOLEAN:
		if (!json_is_boolean(value))
			return false;
		*(bool *)field->value = json_is_true(value);
		return true;
	}
	UNREACHABLE("body_type has no other value");
}

static bool
take_fields(struct call *call, const struct body_field *fields, size_t count,
    json_t *root)
{
	static const char *const types[] = {
		[BODY_STRING] = "a string",
		[BODY_STRINGS] = "a list of strings",
		[BODY_BOOLEAN] = "true or false",
	};
	const char *name;
	json_t *value;

	json_object_foreach(root, name, value)
	{
		const struct body_field *f = find_field(fields, count, name);

		if (f == NULL) {
			respond_error(call, 400, "unknown_field",
			    "the field `%.64s` is not known here", name);
			return false;
		}
		if (!take_value(f, value)) {
			respond_error(call, 400, "bad_field",
			    "the field `%s` must be %s", name, types[f->type]);
			return false;
		}
	}
	for (size_t i = 0; i < count; i++) {
		json_t *given = json_object_get(root, fields[i].name);

		if (!fields[i].required ||
		    (given != NULL && !json_is_null(given)))
			continue;
		respond_error(call, 400, "missing_field",
		    "the field `%s` is required", fields[i].name);
		return false;
	}
	return true;
}

bool
body_read(struct call *call, const struct body_field *fields, size_t count,
    json_t **ret_root)
{
	struct span body = call->request->body;
	json_error_t error;
	json_t *root = json_loadb(body.len > 0 ? body.ptr : "", body.len,
	    JSON_REJECT_DUPLICATES, &error);

	if (root == NULL) {
		respond_error(call, 400, "bad_json",
		    "the body is not JSON: line %d, column %d: %s", error.line,
		    error.column, error.text);
		return false;
	}
	if (!json_is_object(root)) {
		respond_error(call, 400, "bad_json",
		    "the body must be a JSON object: {\"…\": …}");
		json_decref(root);
		return false;
	}
	if (!take_fields(call, fields, count, root)) {
		json_decref(root);
		return false;
	}
	*ret_root = root;
	return true;
}

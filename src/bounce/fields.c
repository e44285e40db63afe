/* SPDX-License-Identifier: Apache-2.0 */

/* "Name: value" lines, in headers and in machine-readable parts. */

#include "base/buf.h"
#include "bounce/internal.h"

#include <string.h>

static bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static size_t
name_length(struct span line)
{
	size_t i = 0;

	while (i < line.len && is_name_char(line.ptr[i]))
		i++;
	size_t colon = i;
	while (colon < line.len && line.ptr[colon] == ' ')
		colon++;
	return i > 0 && colon < line.len && line.ptr[colon] == ':' ? i : 0;
}

bool
field_is_line(struct span line)
{
	return name_length(line) > 0;
}

/* Folded lines become one, with single spaces. */
static struct span
unfold(struct span raw, struct arena *arena)
{
	if (span_find(raw, '\n') == SIZE_MAX)
		return span_trim(raw);
	char *text = arena_alloc(arena, raw.len + 1);
	size_t length = 0;
	for (size_t i = 0; i < raw.len; i++) {
		char c = raw.ptr[i];
		if (c == '\n' || c == '\t')
			c = ' ';
		if (c != ' ' || (length > 0 && text[length - 1] != ' '))
			text[length++] = c;
	}
	return span_trim(span_from(text, length));
}

bool
field_next(struct span *rest, struct arena *arena, struct field *ret_field)
{
	while (rest->len > 0) {
		struct span before = *rest;
		struct span line = span_cut(rest, '\n');
		if (span_trim(line).len == 0)
			return false;
		size_t length = name_length(line);
		if (length == 0)
			continue;
		const char *end = line.ptr + line.len;
		while (rest->len > 0 &&
		       (rest->ptr[0] == ' ' || rest->ptr[0] == '\t')) {
			struct span more = span_cut(rest, '\n');
			if (span_trim(more).len == 0)
				break;
			end = more.ptr + more.len;
		}
		struct span raw =
		    span_from(before.ptr, (size_t)(end - before.ptr));
		struct span value = span_skip(raw, span_find(raw, ':') + 1);
		ret_field->name = span_slice(line, 0, length);
		ret_field->value = unfold(value, arena);
		return true;
	}
	return false;
}

struct span
field_find(struct span section, const char *name, struct arena *arena)
{
	struct field field;

	while (field_next(&section, arena, &field)) {
		if (span_eq_nocase(field.name, span_of(name)))
			return field.value;
	}
	return SPAN_EMPTY;
}

/* ---- addresses ---------------------------------------------------------- */

static bool
is_address_char(char c)
{
	return (unsigned char)c > ' ' && c != '\x7f' &&
	       strchr("<>\"'(),;:[]\\`|=", c) == NULL;
}

static bool
is_domain_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
	       (unsigned char)c >= 0x80;
}

/* Where the local part before the "@" begins. */
static size_t
local_start(struct span text, size_t at)
{
	size_t start = at;

	if (at > 1 && text.ptr[at - 1] == '"') {
		for (start = at - 1; start > 0 && at - start < 66;) {
			if (text.ptr[--start] == '"')
				return start;
		}
		return at;
	}
	/* Quotes and "=" stand in VERP and bad local parts, too, but not
	 * first: "dda:SMTP=joe@…" is a key and an address. */
	while (start > 0 && at - start < 128 &&
	       (is_address_char(text.ptr[start - 1]) ||
		   text.ptr[start - 1] == '\'' || text.ptr[start - 1] == '='))
		start--;
	while (
	    start < at && (text.ptr[start] == '\'' || text.ptr[start] == '='))
		start++;
	struct span local = span_slice(text, start, at - start);
	if (span_starts_nocase(local, SPAN("SMTP=")))
		start += 5;
	return start;
}

bool
address_next(struct span *rest, struct span *ret_address)
{
	struct span text = *rest;

	for (size_t at = span_find(text, '@'); at < text.len; at++) {
		if (text.ptr[at] != '@')
			continue;
		size_t end = at + 1;
		while (end < text.len && end - at < 256 &&
		       is_domain_char(text.ptr[end]))
			end++;
		while (end > at + 1 && strchr(".-_", text.ptr[end - 1]) != NULL)
			end--;
		size_t start = local_start(text, at);
		if (start == at || end == at + 1)
			continue;
		*ret_address = span_slice(text, start, end - start);
		*rest = span_skip(text, end);
		return true;
	}
	*rest = SPAN_EMPTY;
	return false;
}

/* "rfc822; <joe@example.com> (Joe)" */
struct span
address_of_field(struct span value)
{
	size_t type = span_find(value, ';');
	struct span found;

	if (type != SIZE_MAX && type < span_find(value, '@'))
		value = span_skip(value, type + 1);
	struct span rest = value = span_trim(value);
	if (value.len > 0 && value.ptr[0] == '<') {
		size_t end = span_find(value, '>');
		if (end != SIZE_MAX && span_find(value, '@') < end)
			return span_trim(span_slice(value, 1, end - 1));
	}
	return address_next(&rest, &found) ? found : SPAN_EMPTY;
}

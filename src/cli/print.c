/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/time.h"
#include "cli/internal.h"
#include "os/clock.h"

#include <stdarg.h>
#include <string.h>

int
print_json(json_t *root)
{
	(void)json_dumpf(root, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(root);
	return 0;
}

void
append_plain(struct buf *out, struct span s)
{
	while (s.len > 0) {
		unsigned char c = (unsigned char)s.ptr[0];
		size_t len = span_utf8_length(s);
		/* C1 controls (U+0080 to U+009F) move terminals, too. */
		bool control =
		    c < 0x20 || c == 0x7f ||
		    (c == 0xc2 && len == 2 && (unsigned char)s.ptr[1] < 0xa0);

		if (len == 0 || control)
			buf_append_char(out, c == '\t' ? ' ' : '?');
		else
			buf_append(out, span_slice(s, 0, len));
		s = span_skip(s, len == 0 ? 1 : len);
	}
}

const char *
text_at(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

long long
number_at(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

bool
flag_at(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

/* Seconds below a minute, else as ages are told. */
static void
format_span(int64_t us, char *buffer, size_t size)
{
	if (us < US_PER_MIN)
		(void)snprintf(
		    buffer, size, "%lld s", (long long)(us / US_PER_S));
	else
		(void)time_format_age(us, buffer, size);
}

const char *
when_next(const char *time, char buffer[static WHEN_SIZE])
{
	char text[24];
	int64_t us;

	if (!time_parse_rfc3339(span_of(time), &us)) {
		(void)snprintf(buffer, WHEN_SIZE, "-");
		return buffer;
	}
	us -= clock_wall_us();
	format_span(us, text, sizeof(text));
	(void)snprintf(
	    buffer, WHEN_SIZE, us < US_PER_S ? "now" : "in %s", text);
	return buffer;
}

const char *
when_past(const char *time, char buffer[static WHEN_SIZE])
{
	int64_t us;

	if (!time_parse_rfc3339(span_of(time), &us)) {
		(void)snprintf(buffer, WHEN_SIZE, "-");
		return buffer;
	}
	us = clock_wall_us() - us;
	format_span(us > 0 ? us : 0, buffer, WHEN_SIZE);
	return buffer;
}

const char *
format_bytes(long long bytes, char buffer[static WHEN_SIZE])
{
	static const char *const units[] = { "KB", "MB", "GB", "TB" };
	double value = (double)bytes;
	int unit = -1;

	while (value >= 1000 && unit < 3) {
		value /= 1000;
		unit++;
	}
	if (unit < 0)
		(void)snprintf(buffer, WHEN_SIZE, "%lld B", bytes);
	else
		(void)snprintf(buffer, WHEN_SIZE,
		    value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return buffer;
}

void
print_fact(const char *name, const char *format, ...)
{
	struct buf line = BUF_EMPTY;
	char text[4096];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	append_plain(&line, span_of(text));
	printf("%-12s %s\n", name, buf_cstring(&line));
	buf_done(&line);
}

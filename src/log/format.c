/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/time.h"
#include "log/internal.h"

#include <inttypes.h>

static const char *
level_name(enum log_level level)
{
	switch (level) {
	case LOG_DEBUG:
		return "debug";
	case LOG_INFO:
		return "info";
	case LOG_WARNING:
		return "warning";
	case LOG_ERROR:
		return "error";
	}
	UNREACHABLE("log level");
}

/* Five columns wide. */
static const char *
level_column(enum log_level level)
{
	switch (level) {
	case LOG_DEBUG:
		return "debug";
	case LOG_INFO:
		return "info ";
	case LOG_WARNING:
		return "warn ";
	case LOG_ERROR:
		return "error";
	}
	UNREACHABLE("log level");
}

static bool
is_left_out(const struct log_field *field)
{
	return field->kind == LOG_FIELD_SPAN && !field->span.ptr;
}

/* Cuts a long value where a character begins. */
static struct span
shorten(struct span value)
{
	size_t len = LOG_VALUE_MAX;

	if (value.len <= len)
		return value;
	for (int i = 0; i < 3; i++)
		if (((unsigned char)value.ptr[len] & 0xc0) == 0x80)
			len--;
	return span_slice(value, 0, len);
}

/* Printable ASCII but what the format itself uses: everything else goes into
 * quotes, where controls are escaped and foreign bytes replaced. */
static bool
is_plain(struct span value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];
		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return value.len > 0;
}

static void
append_text_field(struct buf *b, const struct log_field *field)
{
	buf_append_str(b, field->name);
	buf_append_char(b, '=');
	if (field->kind == LOG_FIELD_NUMBER) {
		buf_printf(b, "%" PRId64, field->number);
		return;
	}
	struct span value = shorten(field->span);
	if (is_plain(value))
		buf_append(b, value);
	else
		buf_append_json(b, value);
	if (value.len < field->span.len)
		buf_append_str(b, "...");
}

void
log_format_text(struct buf *b, const struct log_record *record)
{
	char time[TIME_RFC3339_SIZE];
	const char *separator = "  ";

	buf_printf(b, "%s %s %s: %s",
	    time_format_rfc3339(record->wall_us, time),
	    level_column(record->level), record->room, record->message);
	for (const struct log_field *f = record->fields; f->name; f++) {
		if (is_left_out(f))
			continue;
		buf_append_str(b, separator);
		append_text_field(b, f);
		separator = " ";
	}
	buf_append_char(b, '\n');
}

static void
append_json_field(struct buf *b, const struct log_field *field)
{
	buf_printf(b, ",\"%s\":", field->name);
	if (field->kind == LOG_FIELD_NUMBER)
		buf_printf(b, "%" PRId64, field->number);
	else
		buf_append_json(b, shorten(field->span));
}

void
log_format_json(struct buf *b, const struct log_record *record)
{
	char time[TIME_RFC3339_SIZE];

	buf_printf(b, "{\"time\":\"%s\",\"level\":\"%s\",\"room\":\"%s\"",
	    time_format_rfc3339(record->wall_us, time),
	    level_name(record->level), record->room);
	buf_append_str(b, ",\"message\":");
	buf_append_json(b, span_of(record->message));
	for (const struct log_field *f = record->fields; f->name; f++)
		if (!is_left_out(f))
			append_json_field(b, f);
	buf_append_str(b, "}\n");
}

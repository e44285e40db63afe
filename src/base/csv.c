/* SPDX-License-Identifier: Apache-2.0 */
#include "base/csv.h"

struct csv
csv_begin(struct span text)
{
	return (struct csv){ .rest = text, .next_line = 1 };
}

void
csv_done(struct csv *csv)
{
	buf_done(&csv->text);
}

/* ---- reading ----------------------------------------------------------- */

static char
take(struct csv *csv)
{
	char c = csv->rest.ptr[0];

	csv->rest = span_skip(csv->rest, 1);
	if (c == '\n')
		csv->next_line++;
	return c;
}

static bool
is_risky(char c)
{
	return c == '=' || c == '+' || c == '-' || c == '@' || c == '\t' ||
	       c == '\r' || c == '\'';
}

/* Up to the quote that ends the field. False: there is none. */
static bool
read_quoted(struct csv *csv)
{
	while (csv->rest.len > 0) {
		char c = take(csv);

		if (c != '"') {
			buf_append_char(&csv->text, c);
			continue;
		}
		if (csv->rest.len == 0 || csv->rest.ptr[0] != '"')
			return true;
		buf_append_char(&csv->text, take(csv));
	}
	return false;
}

static bool
ends_record(struct span rest)
{
	return rest.len == 0 || rest.ptr[0] == '\n' ||
	       (rest.ptr[0] == '\r' && (rest.len == 1 || rest.ptr[1] == '\n'));
}

static bool
read_field(struct csv *csv)
{
	if (csv->rest.len > 0 && csv->rest.ptr[0] == '"') {
		(void)take(csv);
		if (!read_quoted(csv))
			return false;
	}
	while (!ends_record(csv->rest) && csv->rest.ptr[0] != ',') {
		if (csv->rest.ptr[0] == '"')
			return false;
		buf_append_char(&csv->text, take(csv));
	}
	return true;
}

static void
skip_line(struct csv *csv)
{
	while (csv->rest.len > 0 && take(csv) != '\n')
		;
}

static int
read_record(struct csv *csv)
{
	size_t before = csv->rest.len;

	for (;;) {
		if (csv->count == CSV_FIELDS_MAX)
			return ERR_LIMIT;
		if (!read_field(csv))
			return ERR_SYNTAX;
		if (before - csv->rest.len > CSV_RECORD_MAX)
			return ERR_LIMIT;
		csv->ends[csv->count++] = buf_size(&csv->text);
		if (ends_record(csv->rest))
			return 1;
		(void)take(csv); /* the comma */
	}
}

int
csv_next(struct csv *csv)
{
	while (csv->rest.len > 0 && ends_record(csv->rest))
		skip_line(csv);
	buf_clear(&csv->text);
	csv->count = 0;
	csv->line = csv->next_line;
	if (csv->rest.len == 0)
		return 0;
	int code = read_record(csv);
	skip_line(csv);
	if (code < 0)
		csv->count = 0;
	return code;
}

struct span
csv_field(const struct csv *csv, size_t number)
{
	if (number >= csv->count)
		return SPAN_EMPTY;
	size_t start = number == 0 ? 0 : csv->ends[number - 1];
	struct span s =
	    span_slice(buf_span(&csv->text), start, csv->ends[number] - start);
	if (s.ptr != NULL && s.len > 1 && s.ptr[0] == '\'' &&
	    is_risky(s.ptr[1]))
		s = span_skip(s, 1);
	return s;
}

/* ---- writing ----------------------------------------------------------- */

static bool
needs_quotes(struct span field)
{
	for (size_t i = 0; i < field.len; i++) {
		char c = field.ptr[i];
		if (c == '"' || c == ',' || c == '\r' || c == '\n')
			return true;
	}
	return false;
}

void
csv_append(struct buf *out, struct span field, bool is_first)
{
	bool quotes = needs_quotes(field);

	if (!is_first)
		buf_append_char(out, ',');
	if (quotes)
		buf_append_char(out, '"');
	if (field.len > 0 && is_risky(field.ptr[0]))
		buf_append_char(out, '\'');
	for (size_t i = 0; i < field.len; i++) {
		if (field.ptr[i] == '"')
			buf_append_char(out, '"');
		buf_append_char(out, field.ptr[i]);
	}
	if (quotes)
		buf_append_char(out, '"');
}

void
csv_end(struct buf *out)
{
	buf_append(out, SPAN("\r\n"));
}

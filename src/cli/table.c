/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "cli/internal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS_MAX 16
#define GAP 2

struct table {
	const struct table_column *columns;
	size_t column_count;
	char **cells;
	size_t cell_count;
	size_t widths[COLUMNS_MAX];
};

struct table *
table_new(const struct table_column *columns, size_t count)
{
	struct table *t = MEM_NEW(struct table);

	BUG_UNLESS(count > 0 && count <= COLUMNS_MAX);
	t->columns = columns;
	t->column_count = count;
	for (size_t i = 0; i < count; i++)
		t->widths[i] = text_width(span_of(columns[i].title));
	return t;
}

void
table_free(struct table **table)
{
	struct table *t = *table;

	if (t == NULL)
		return;
	for (size_t i = 0; i < t->cell_count; i++)
		mem_free(t->cells[i]);
	mem_free(t->cells);
	mem_free(t);
	*table = NULL;
}

void
table_text(struct table *t, const char *text)
{
	struct buf plain = BUF_EMPTY;
	size_t column = t->cell_count % t->column_count;

	append_plain(&plain, span_of(text));
	size_t width = text_width(buf_span(&plain));
	if (width > t->widths[column])
		t->widths[column] = width;
	if ((t->cell_count & (t->cell_count - 1)) == 0)
		t->cells = mem_resize(t->cells,
		    t->cell_count == 0 ? 1 : 2 * t->cell_count,
		    sizeof(*t->cells));
	t->cells[t->cell_count++] = span_dup(buf_span(&plain));
	buf_done(&plain);
}

void
table_number(struct table *t, long long number)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lld", number);
	table_text(t, text);
}

/* ---- width ------------------------------------------------------------- */

struct range {
	uint32_t first, last;
};

static bool
is_in(const struct range *ranges, size_t count, uint32_t c)
{
	for (size_t i = 0; i < count; i++) {
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	}
	return false;
}

static uint32_t
decode(struct span s)
{
	static const unsigned char first_bits[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	uint32_t c = (unsigned char)s.ptr[0] & first_bits[s.len];

	for (size_t i = 1; i < s.len; i++)
		c = c << 6 | ((unsigned char)s.ptr[i] & 0x3f);
	return c;
}

/* Close enough to what terminals do: East Asian wide characters and pictures
 * take two columns, combining marks none. */
static size_t
character_width(uint32_t c)
{
	static const struct range none[] = { { 0x300, 0x36f }, { 0x483, 0x489 },
		{ 0x591, 0x5bd }, { 0x610, 0x61a }, { 0x64b, 0x65f },
		{ 0x200b, 0x200f }, { 0x202a, 0x202e }, { 0x20d0, 0x20ff },
		{ 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f } };
	static const struct range wide[] = { { 0x1100, 0x115f },
		{ 0x2e80, 0x303e }, { 0x3041, 0xa4cf }, { 0xac00, 0xd7a3 },
		{ 0xf900, 0xfaff }, { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 },
		{ 0xffe0, 0xffe6 }, { 0x1f300, 0x1faff },
		{ 0x20000, 0x3fffd } };

	if (c < 0x300)
		return 1;
	if (is_in(none, sizeof none / sizeof *none, c))
		return 0;
	return is_in(wide, sizeof wide / sizeof *wide, c) ? 2 : 1;
}

/* Bytes and columns of the first character. */
static size_t
first_character(struct span s, size_t *ret_width)
{
	size_t len = span_utf8_length(s);

	*ret_width =
	    len == 0 ? 1 : character_width(decode(span_slice(s, 0, len)));
	return len == 0 ? 1 : len;
}

size_t
text_width(struct span s)
{
	size_t width = 0, one;

	while (s.len > 0) {
		s = span_skip(s, first_character(s, &one));
		width += one;
	}
	return width;
}

/* ---- rendering --------------------------------------------------------- */

static void
append_spaces(struct buf *out, size_t count)
{
	while (count-- > 0)
		buf_append_char(out, ' ');
}

static void
append_row(const struct table *t, char *const *cells, struct buf *out)
{
	for (size_t i = 0; i < t->column_count; i++) {
		struct span text =
		    span_of(cells != NULL ? cells[i] : t->columns[i].title);
		size_t space = t->widths[i] - text_width(text);
		bool last = i + 1 == t->column_count;

		if (t->columns[i].right)
			append_spaces(out, space);
		buf_append(out, text);
		if (!t->columns[i].right && !last)
			append_spaces(out, space);
		if (!last)
			append_spaces(out, GAP);
	}
}

static struct span
cut(struct span line, size_t width)
{
	size_t used = 0, one, len = 0;

	while (len < line.len) {
		size_t step = first_character(span_skip(line, len), &one);

		if (used + one > width)
			break;
		used += one;
		len += step;
	}
	return span_slice(line, 0, len);
}

static void
append_line(
    const struct table *t, char *const *cells, size_t width, struct buf *out)
{
	struct buf line = BUF_EMPTY;

	append_row(t, cells, &line);
	struct span text = buf_span(&line);
	if (width > 0)
		text = cut(text, width);
	while (span_ends_nocase(text, SPAN(" ")))
		text.len--;
	buf_append(out, text);
	buf_append_char(out, '\n');
	buf_done(&line);
}

void
table_render(const struct table *t, size_t width, struct buf *out)
{
	BUG_UNLESS(t->cell_count % t->column_count == 0);
	append_line(t, NULL, width, out);
	for (size_t i = 0; i < t->cell_count; i += t->column_count)
		append_line(t, &t->cells[i], width, out);
}

void
table_print(struct table *table)
{
	struct winsize size = { 0 };
	struct buf out = BUF_EMPTY;

	if (!isatty(STDOUT_FILENO) ||
	    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		size.ws_col = 0;
	table_render(table, size.ws_col, &out);
	(void)fwrite(out.ptr, 1, buf_size(&out), stdout);
	buf_done(&out);
}

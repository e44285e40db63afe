/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/internal.h"

/* RFC 5321 §4.5.3.1.6 ends a line at 1000 octets with its CRLF; indentation
 * and a word's neighbours need some of them. */
#define WORD_MAX 900

/* The first len octets of word, without a UTF-8 sequence cut in two. */
static size_t
cut_between_points(struct span word, size_t len)
{
	size_t cut = len;

	while (cut > len - 3 && ((unsigned char)word.ptr[cut] & 0xc0) == 0x80)
		cut--;
	return cut;
}

static struct span
word_take(struct span *line)
{
	size_t end = span_find(*line, ' ');
	size_t len = end == SIZE_MAX ? line->len : end;

	if (len > WORD_MAX) {
		len = cut_between_points(*line, WORD_MAX);
		struct span part = span_slice(*line, 0, len);
		*line = span_skip(*line, len);
		return part;
	}
	struct span word = span_slice(*line, 0, len);
	*line = span_skip(*line, end == SIZE_MAX ? len : len + 1);
	return word;
}

/* Returns the column after the word. */
static size_t
word_append(
    const struct fold *f, struct span word, size_t column, struct buf *out)
{
	bool is_line_start = column <= f->indent.len;

	if (!is_line_start && column + 1 + word.len > f->width) {
		buf_append_str(out, "\r\n");
		buf_append(out, f->indent);
		column = f->indent.len;
	} else if (!is_line_start) {
		buf_append_char(out, ' ');
		column++;
	}
	buf_append(out, word);
	return column + word.len;
}

void
fold_append(const struct fold *f, struct span text, struct buf *out)
{
	size_t column = f->start;

	while (text.len > 0) {
		struct span line = span_cut(&text, '\n');
		while (line.len > 0) {
			struct span word = word_take(&line);
			if (word.len > 0)
				column = word_append(f, word, column, out);
		}
		if (text.len == 0)
			break;
		buf_append_str(out, "\r\n");
		buf_append(out, f->indent);
		column = f->indent.len;
	}
	buf_append_str(out, "\r\n");
}

void
fold_append_field(struct span text, struct buf *out)
{
	static const struct fold field = { .width = 78, .indent = { "\t", 1 } };

	fold_append(&field, text, out);
}

void
field_append(
    const char *name, struct span value, enum plain kind, struct buf *out)
{
	struct buf field = BUF_EMPTY;

	buf_append_str(&field, name);
	buf_append_str(&field, ": ");
	plain_append(value, kind, &field);
	fold_append_field(buf_span(&field), out);
	buf_done(&field);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/internal.h"

#include <stdbool.h>

#define WIDTH_MAX 76 /* RFC 2045 §6.7 (5) */

static bool
is_plain(struct span line, size_t i)
{
	char c = line.ptr[i];

	if (c == ' ' || c == '\t')
		return i + 1 < line.len;
	return c > ' ' && c < 0x7f && c != '=';
}

static void
append_line(struct span line, struct buf *out)
{
	size_t column = 0;

	for (size_t i = 0; i < line.len; i++) {
		bool plain = is_plain(line, i);
		size_t width = plain ? 1 : 3;

		if (column + width > WIDTH_MAX - 1) {
			buf_append_str(out, "=\r\n");
			column = 0;
		}
		if (plain)
			buf_append_char(out, line.ptr[i]);
		else
			buf_printf(out, "=%02X", (unsigned char)line.ptr[i]);
		column += width;
	}
}

void
quoted_append(struct span text, struct buf *out)
{
	while (text.len > 0) {
		size_t end = span_search(text, SPAN("\r\n"));

		append_line(span_slice(text, 0, end), out);
		if (end == SIZE_MAX)
			return;
		buf_append_str(out, "\r\n");
		text = span_skip(text, end + 2);
	}
}

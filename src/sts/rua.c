/* SPDX-License-Identifier: Apache-2.0 */
#include "sts/rua.h"

static bool
find_rua(struct span text, struct span *ret_list)
{
	if (!span_eq(span_trim(span_cut(&text, ';')), SPAN("v=TLSRPTv1")))
		return false;
	while (text.len > 0) {
		struct span value = span_trim(span_cut(&text, ';'));
		struct span name = span_trim(span_cut(&value, '='));
		if (span_eq(name, SPAN("rua"))) {
			*ret_list = span_trim(value);
			return true;
		}
	}
	return false;
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* What stands behind '?' are header fields of a mail, which is ours. */
static bool
decode(struct span s, char *buffer, size_t size)
{
	size_t len = 0;

	s = span_slice(s, 0, span_find(s, '?'));
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '%') {
			int high = i + 2 < s.len ? hex(s.ptr[i + 1]) : -1;
			int low = i + 2 < s.len ? hex(s.ptr[i + 2]) : -1;
			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0' || len + 1 >= size)
			return false;
		buffer[len++] = c;
	}
	buffer[len] = '\0';
	return len > 0;
}

bool
sts_rua_next(struct span text, size_t *at, char *buffer, size_t size)
{
	struct span list;

	if (!find_rua(text, &list))
		return false;
	while (*at < list.len) {
		struct span rest = span_skip(list, *at);
		struct span uri = span_cut(&rest, ',');
		*at += uri.len + 1;
		uri = span_trim(uri);
		if (span_starts_nocase(uri, SPAN("mailto:")) &&
		    decode(span_skip(uri, 7), buffer, size))
			return true;
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/xtext.h"

#include "mail/internal.h"

#include <string.h>

/*
 * xtext   = *( xchar / hexchar )                     RFC 3461 §4
 * xchar   = "!".."~" without "+" and "="
 * hexchar = "+" 2HEXDIG
 */

/* The value of a hexadecimal digit, or -1. RFC 3461 wants upper case; lower
 * case cannot mean anything else. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool
is_xchar(char c)
{
	return c > ' ' && c < 0x7f && c != '+' && c != '=';
}

/* Takes one character off *s. */
static int
take_character(struct span *s, char *ret_c)
{
	char c = s->ptr[0];

	if (c != '+') {
		*s = span_skip(*s, 1);
		*ret_c = c;
		return is_xchar(c) ? 0 : ERR_SYNTAX;
	}
	if (s->len < 3)
		return ERR_SYNTAX;
	int high = hex_value(s->ptr[1]), low = hex_value(s->ptr[2]);
	if (high < 0 || low < 0)
		return ERR_SYNTAX;
	/* Both uses are printable ASCII when decoded (§4.2, §4.4). */
	if (high < 2 || high > 7 || (high == 7 && low == 15))
		return ERR_SYNTAX;
	*s = span_skip(*s, 3);
	*ret_c = (char)(high << 4 | low);
	return 0;
}

int
xtext_decode(struct span s, struct buf *out)
{
	struct span rest = s;
	char c;

	while (rest.len > 0)
		TRY(take_character(&rest, &c));
	/* Known to be good: *out is not touched on failure. */
	while (s.len > 0) {
		TRY(take_character(&s, &c));
		buf_append_char(out, c);
	}
	return 0;
}

void
xtext_encode(struct span s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		if (is_xchar(s.ptr[i]))
			buf_append_char(out, s.ptr[i]);
		else
			buf_printf(out, "+%02X", (unsigned char)s.ptr[i]);
	}
}

/*
 * utf-8-addr-xtext = 1*(QCHAR / "\x{" HEXPOINT "}")  RFC 6533 §3
 * QCHAR            = "!".."~" without "\", "+" and "="
 * utf-8-addr-unitext has UTF-8 as it is in place of the escapes.
 */

static bool
is_escaped_point(uint32_t point)
{
	if (point >= 0xd800 && point <= 0xdfff)
		return false;
	return point <= 0x10ffff && plain_is_harmless(point);
}

/* "\x{…}" with at most six digits. */
static int
take_escape(struct span *s, uint32_t *ret_point)
{
	struct span prefix = SPAN("\\x{");
	uint32_t point = 0;
	size_t i = prefix.len;

	if (!span_starts(*s, prefix))
		return ERR_SYNTAX;
	for (; i < s->len && s->ptr[i] != '}'; i++) {
		int value = hex_value(s->ptr[i]);
		if (value < 0 || i >= prefix.len + 6)
			return ERR_SYNTAX;
		point = point << 4 | (uint32_t)value;
	}
	if (i == s->len || i == prefix.len || !is_escaped_point(point))
		return ERR_SYNTAX;
	*s = span_skip(*s, i + 1);
	*ret_point = point;
	return 0;
}

static int
take_point(struct span *s, uint32_t *ret_point)
{
	uint32_t point = 0;

	if (s->ptr[0] == '\\')
		return take_escape(s, ret_point);
	if (!utf8_next(s, &point) || !plain_is_harmless(point))
		return ERR_SYNTAX;
	if (point < 0x80 && !is_xchar((char)point))
		return ERR_SYNTAX;
	*ret_point = point;
	return 0;
}

int
xtext_decode_utf8_address(struct span s, struct buf *out)
{
	struct span rest = s;
	uint32_t point;

	while (rest.len > 0)
		TRY(take_point(&rest, &point));
	while (s.len > 0) {
		TRY(take_point(&s, &point));
		utf8_append(point, out);
	}
	return 0;
}

void
xtext_encode_utf8_address(struct span s, struct buf *out)
{
	while (s.len > 0) {
		uint32_t point = 0;
		if (!utf8_next(&s, &point)) {
			point = 0xfffd;
			s = span_skip(s, 1);
		}
		if (point < 0x80 && is_xchar((char)point) && point != '\\')
			buf_append_char(out, (char)point);
		else
			buf_printf(out, "\\x{%02X}", (unsigned)point);
	}
}

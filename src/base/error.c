/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include "base/bug.h"
#include "base/span.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const own_texts[] = {
	[ERR_BASE - ERR_CORRUPT] = "corrupt data",
	[ERR_BASE - ERR_TRUNCATED] = "truncated data",
	[ERR_BASE - ERR_SYNTAX] = "syntax error",
	[ERR_BASE - ERR_LIMIT] = "limit reached",
	[ERR_BASE - ERR_NOT_FOUND] = "not found",
	[ERR_BASE - ERR_EXISTS] = "already exists",
	[ERR_BASE - ERR_TLS] = "TLS error",
	[ERR_BASE - ERR_DNS] = "DNS error",
	[ERR_BASE - ERR_REFUSED] = "refused",
	[ERR_BASE - ERR_CLOSED] = "connection closed",
	[ERR_BASE - ERR_VERSION] = "format newer than this program",
};

const char *
error_text(int code)
{
	if (code < ERR_BASE) {
		size_t i = (size_t)(ERR_BASE - (long)code);
		if (i < sizeof own_texts / sizeof *own_texts && own_texts[i])
			return own_texts[i];
		return "unknown error";
	}
	if (code >= 0)
		return "success";
	const char *text = strerrordesc_np(-code);
	return text ? text : "unknown error";
}

/* A cut in the middle of a UTF-8 character would make the text invalid. */
static void
trim_partial_character(char *text, size_t len)
{
	size_t start = len;

	while (start > 0 && len - start < 3 &&
	       ((unsigned char)text[start - 1] & 0xc0) == 0x80)
		start--;
	if (start == 0 || (unsigned char)text[start - 1] < 0xc0)
		return;
	start--;
	if (!span_is_utf8(span_from(text + start, len - start)))
		text[start] = '\0';
}

int
failure_set(struct failure *f, int code, const char *format, ...)
{
	BUG_UNLESS(code < 0);
	if (!f)
		return code;

	/* Through a copy, because the old text may be among the arguments. */
	char text[FAILURE_TEXT_MAX];
	va_list args;
	va_start(args, format);
	int len = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (len < 0)
		text[0] = '\0';
	if (len >= (int)sizeof text)
		trim_partial_character(text, sizeof text - 1);
	f->code = code;
	memcpy(f->text, text, sizeof text);
	return code;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/reply.h"

#include "base/bug.h"
#include "base/decimal.h"
#include "base/mem.h"

#include <string.h>

enum {
	WIRE_LINE_MAX = 510, /* RFC 5321 §4.5.3.1.5, without CRLF */
	HEAD_SIZE = 24, /* "550-5.999.999 " and to spare */
	PARSE_LINE_MAX = 4096,
	PARSE_LINES_MAX = 100,
	PARSE_TEXT_MAX = 8192,
};

static bool
is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

static char
clean(char c, char instead)
{
	if (is_control(c))
		return instead;
	return c;
}

static bool
is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Where to cut s so that at most max octets stand before: behind a space if
 * there is one in the second half, else between characters. */
static size_t
cut_position(struct span s, size_t max)
{
	if (s.len <= max)
		return s.len;
	for (size_t i = max; i > max / 2; i--) {
		if (s.ptr[i - 1] == ' ')
			return i;
	}
	size_t at = max;
	while (at > max - 4 && is_continuation(s.ptr[at]))
		at--;
	return at;
}

static void
append_clean(struct span s, struct buf *out)
{
	if (s.len == 0)
		return;
	char *to = buf_reserve(out, s.len);
	for (size_t i = 0; i < s.len; i++)
		to[i] = clean(s.ptr[i], ' ');
	buf_added(out, s.len);
}

/* Takes what fits on one wire line off *rest. */
static struct span
take_line(struct span *rest, size_t max)
{
	struct span line = *rest;
	size_t newline = span_find(line, '\n');
	if (newline != SIZE_MAX)
		line.len = newline;
	if (line.len > max) {
		line.len = cut_position(line, max);
		*rest = span_skip(*rest, line.len);
		return line;
	}
	*rest = span_skip(*rest, line.len + 1);
	return line;
}

static char *
put_enhanced(char *to, const struct enhanced_code *e)
{
	to = decimal_put(to, e->class);
	*to++ = '.';
	to = decimal_put(to, e->subject);
	*to++ = '.';
	return decimal_put(to, e->detail);
}

void
reply_append(const struct reply *r, struct buf *out)
{
	BUG_UNLESS(r->code >= 200 && r->code <= 599);
	char head[HEAD_SIZE];
	char *end = decimal_put(head, r->code);
	*end++ = '-';
	if (r->enhanced.class != 0) {
		end = put_enhanced(end, &r->enhanced);
		*end++ = ' ';
	}
	size_t n = (size_t)(end - head);
	struct span rest = r->text;
	do {
		struct span line = take_line(&rest, WIRE_LINE_MAX - n);
		head[3] = rest.len > 0 ? '-' : ' ';
		buf_append(out, span_from(head, n));
		append_clean(line, out);
		buf_append(out, SPAN("\r\n"));
	} while (rest.len > 0);
}

struct span
reply_format(const struct reply *r, struct arena *arena)
{
	struct span s =
	    r->enhanced.class != 0
		? arena_printf(arena, "%03u %u.%u.%u %.*s", r->code,
		      r->enhanced.class, r->enhanced.subject,
		      r->enhanced.detail, SPAN_ARG(r->text))
		: arena_printf(arena, "%03u %.*s", r->code, SPAN_ARG(r->text));
	/* A NUL in the text ends the line early, which is as good a place. */
	char *line = arena_strdup(arena, s);
	for (size_t i = 0; i < s.len; i++) {
		if (is_control(line[i]))
			line[i] = ' ';
	}
	return span_from(line, s.len);
}

struct span
reply_status(const struct reply *r, struct arena *arena)
{
	char text[HEAD_SIZE];
	if (r->enhanced.class != 0)
		return arena_dup(arena,
		    span_from(text,
			(size_t)(put_enhanced(text, &r->enhanced) - text)));
	if (reply_is_permanent(r))
		return SPAN("5.0.0");
	return reply_is_temporary(r) ? SPAN("4.0.0") : SPAN("2.0.0");
}

struct reply_parser {
	struct buf line; /* an unfinished line */
	struct buf text; /* of the lines so far, joined by '\n' */
	unsigned lines;
	uint16_t code;
	struct enhanced_code enhanced;
	bool complete; /* the last call returned 1: begin afresh */
	int failed; /* 0 or the code of the error, until reset */
	const char *error;
};

struct reply_parser *
reply_parser_new(void)
{
	return MEM_NEW(struct reply_parser);
}

void
reply_parser_free(struct reply_parser **p)
{
	if (*p == NULL)
		return;
	buf_done(&(*p)->line);
	buf_done(&(*p)->text);
	mem_free(*p);
	*p = NULL;
}

void
reply_parser_reset(struct reply_parser *p)
{
	buf_clear(&p->line);
	buf_clear(&p->text);
	p->lines = 0;
	p->code = 0;
	p->enhanced = (struct enhanced_code){ 0 };
	p->complete = false;
	p->failed = 0;
	p->error = NULL;
}

const char *
reply_parser_error(const struct reply_parser *p)
{
	return p->error != NULL ? p->error : "no error";
}

static int
parser_fail(struct reply_parser *p, int code, const char *why)
{
	p->failed = code;
	p->error = why;
	return code;
}

/* One to three digits; false when there are none or more. */
static bool
take_number(struct span *s, uint16_t *ret_value)
{
	uint16_t value = 0;
	size_t n = 0;
	while (n < s->len && s->ptr[n] >= '0' && s->ptr[n] <= '9') {
		if (n == 3)
			return false;
		value = (uint16_t)(value * 10 + (s->ptr[n] - '0'));
		n++;
	}
	*s = span_skip(*s, n);
	*ret_value = value;
	return n > 0;
}

static bool
take_char(struct span *s, char c)
{
	if (s->len == 0 || s->ptr[0] != c)
		return false;
	*s = span_skip(*s, 1);
	return true;
}

/* RFC 3463 §2: class "." subject "." detail, here followed by a space or the
 * end of the line. Its class must be that of the code (RFC 2034 §4). */
static bool
take_enhanced(struct span *s, uint16_t code, struct enhanced_code *ret_enhanced)
{
	struct span rest = *s;
	struct enhanced_code e = { 0 };
	uint16_t class;
	if (!take_number(&rest, &class) || !take_char(&rest, '.') ||
	    !take_number(&rest, &e.subject) || !take_char(&rest, '.') ||
	    !take_number(&rest, &e.detail))
		return false;
	if (class != code / 100 || class == 3)
		return false;
	if (rest.len > 0 && !take_char(&rest, ' '))
		return false;
	e.class = (uint8_t) class;
	*ret_enhanced = e;
	*s = rest;
	return true;
}

static bool
enhanced_eq(struct enhanced_code a, struct enhanced_code b)
{
	return a.class == b.class && a.subject == b.subject &&
	       a.detail == b.detail;
}

/* The first status code counts; it is taken off every line that repeats it. */
static struct span
strip_enhanced(struct reply_parser *p, struct span text)
{
	struct enhanced_code e;
	struct span rest = text;
	if (!take_enhanced(&rest, p->code, &e))
		return text;
	if (p->enhanced.class == 0)
		p->enhanced = e;
	return enhanced_eq(p->enhanced, e) ? rest : text;
}

static void
keep_text(struct reply_parser *p, struct span text)
{
	size_t room = PARSE_TEXT_MAX - buf_size(&p->text);
	if (p->lines > 0 && room > 0) {
		buf_append_char(&p->text, '\n');
		room--;
	}
	if (text.len > room) {
		text.len = room;
		while (text.len > 0 && is_continuation(text.ptr[text.len]))
			text.len--;
	}
	if (text.len == 0)
		return;
	char *to = buf_reserve(&p->text, text.len);
	for (size_t i = 0; i < text.len; i++) {
		char instead = '?';
		if (text.ptr[i] == '\t')
			instead = ' ';
		to[i] = clean(text.ptr[i], instead);
	}
	buf_added(&p->text, text.len);
}

/* Reply-line of RFC 5321 §4.2: 1 when it is the last one. */
static int
parse_line(struct reply_parser *p, struct span line)
{
	while (span_ends_nocase(line, SPAN("\r")))
		line.len--;
	uint64_t code;
	if (!span_to_u64(span_slice(line, 0, 3), 999, &code) || line.len < 3)
		return parser_fail(p, ERR_SYNTAX, "no reply code in the line");
	if (code < 200 || code > 599)
		return parser_fail(p, ERR_SYNTAX, "reply code out of range");
	if (p->lines > 0 && code != p->code)
		return parser_fail(
		    p, ERR_SYNTAX, "reply code changes between lines");
	struct span mark = span_slice(line, 3, 1);
	bool last = mark.len == 0 || span_eq(mark, SPAN(" "));
	if (!last && !span_eq(mark, SPAN("-")))
		return parser_fail(p, ERR_SYNTAX, "no space after reply code");
	if (p->lines == PARSE_LINES_MAX)
		return parser_fail(p, ERR_LIMIT, "too many lines in the reply");
	p->code = (uint16_t)code;
	keep_text(p, strip_enhanced(p, span_skip(line, 4)));
	p->lines++;
	return last;
}

/* One line's worth of *in; 1 when that completes the reply. */
static int
feed_line(struct reply_parser *p, struct span *in)
{
	size_t newline = span_find(*in, '\n');
	struct span piece = *in;
	if (newline != SIZE_MAX)
		piece.len = newline;
	if (buf_size(&p->line) + piece.len > PARSE_LINE_MAX + 1)
		return parser_fail(p, ERR_LIMIT, "reply line too long");
	*in = span_skip(*in, piece.len + 1);
	if (newline == SIZE_MAX) {
		buf_append(&p->line, piece);
		return 0;
	}
	if (buf_size(&p->line) == 0)
		return parse_line(p, piece);
	buf_append(&p->line, piece);
	int r = parse_line(p, buf_span(&p->line));
	buf_clear(&p->line);
	return r;
}

int
reply_parser_feed(
    struct reply_parser *p, struct span *in, struct reply *ret_reply)
{
	if (p->complete)
		reply_parser_reset(p);
	if (p->failed != 0)
		return p->failed;
	while (in->len > 0) {
		int r = feed_line(p, in);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		p->complete = true;
		*ret_reply = (struct reply){
			.code = p->code,
			.enhanced = p->enhanced,
			.text = buf_span(&p->text),
		};
		return 1;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A message as a flat list of parts with their text in UTF-8. GMime takes the
 * MIME apart. Before it does, what would make it nest deeply is counted, since
 * it descends by recursion.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "bounce/internal.h"

#include <gmime/gmime.h>
#include <iconv.h>
#include <pthread.h>
#include <string.h>

#define NESTING_SIGNS_MAX 200 /* "boundary=", "message/…": then no MIME */
#define PART_BYTES_MAX ((size_t)256 * 1024)

/* ---- line ends ---------------------------------------------------------- */

/* A copy with LF line ends, without a mailbox file's first line and without
 * NULs. A file whose lines end in CR alone is read as it was meant. */
static struct span
plain_lines(struct span message, struct arena *arena)
{
	bool has_lf = span_find(message, '\n') != SIZE_MAX;
	char *copy = arena_alloc(arena, message.len + 1);
	size_t length = 0;

	for (size_t i = 0; i < message.len; i++) {
		char c = message.ptr[i];
		if (c == '\r')
			c = has_lf ? '\0' : '\n';
		if (c != '\0')
			copy[length++] = c;
	}
	struct span s = span_from(copy, length);
	while (s.len > 0 && (s.ptr[0] == '\n' || s.ptr[0] == ' '))
		s = span_skip(s, 1);
	while (span_starts(s, SPAN("From ")) || span_starts(s, SPAN(">From ")))
		(void)span_cut(&s, '\n');
	return s;
}

/* ---- characters --------------------------------------------------------- */

static struct span
latin_to_utf8(struct span s, struct arena *arena)
{
	char *text = arena_alloc(arena, s.len * 2 + 1);
	size_t length = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (c < 0x80) {
			text[length++] = (char)c;
			continue;
		}
		text[length++] = (char)(0xc0 | c >> 6);
		text[length++] = (char)(0x80 | (c & 0x3f));
	}
	return span_from(text, length);
}

/* Bytes that are not of the charset become "?". */
static struct span
convert(iconv_t converter, struct span s, struct arena *arena)
{
	size_t size = s.len * 4 + 16, left = size;
	char *text = arena_alloc(arena, size + 1), *out = text;
	char *in = (char *)(uintptr_t)s.ptr;
	size_t in_left = s.len;

	while (in_left > 0 && left > 4) {
		if (iconv(converter, &in, &in_left, &out, &left) !=
			(size_t)-1 ||
		    in_left == 0)
			break;
		in++;
		in_left--;
		*out++ = '?';
		left--;
	}
	return span_from(text, size - left);
}

/* The charset that text has, whatever it is declared to have. */
static const char *
guess_charset(struct span s, const char *declared)
{
	if (span_search(s, SPAN("\x1b$")) != SIZE_MAX)
		return "ISO-2022-JP";
	return declared;
}

struct span
text_to_utf8(struct span s, const char *charset, struct arena *arena)
{
	const char *name = guess_charset(s, charset);

	if (span_is_ascii(s) && name == charset &&
	    (name == NULL || strncasecmp(name, "utf-16", 6) != 0))
		return s;
	if (name == charset && span_is_utf8(s))
		return s;
	iconv_t converter =
	    name != NULL ? iconv_open("UTF-8", name) : (iconv_t)-1;
	if (converter == (iconv_t)-1)
		return span_is_utf8(s) ? s : latin_to_utf8(s, arena);
	struct span text = convert(converter, s, arena);
	(void)iconv_close(converter);
	return span_is_utf8(text) ? text : latin_to_utf8(s, arena);
}

/* Before any of GMime is used. */
static void
start_gmime(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, g_mime_init);
}

/* RFC 2047. */
struct span
header_to_utf8(struct span value, struct arena *arena)
{
	start_gmime();
	char *raw = arena_strdup(arena, value);
	char *text = g_mime_utils_header_decode_text(NULL, raw);
	struct span decoded = arena_dup(arena, span_of(text));

	g_free(text);
	return text_to_utf8(decoded, NULL, arena);
}

/* ---- parts -------------------------------------------------------------- */

static const struct {
	const char *type, *subtype;
	enum part_kind kind;
} part_types[] = {
	{ "message", "delivery-status", PART_DELIVERY_STATUS },
	{ "message", "global-delivery-status", PART_DELIVERY_STATUS },
	{ "message", "feedback-report", PART_FEEDBACK },
	{ "message", "disposition-notification", PART_DISPOSITION },
	{ "message", "global-disposition-notification", PART_DISPOSITION },
	{ "text", "rfc822-headers", PART_ORIGINAL },
	{ "text", "rfc822-header", PART_ORIGINAL },
	{ "message", "rfc822-headers", PART_ORIGINAL },
	{ "message", "global-headers", PART_ORIGINAL },
	{ "message", "rfc822", PART_ORIGINAL },
	{ "message", "global", PART_ORIGINAL },
	{ "message", "partial", PART_OTHER },
	{ "text", "html", PART_HTML },
	{ "text", "*", PART_TEXT },
};

static enum part_kind
kind_of(GMimeContentType *type)
{
	if (type == NULL)
		return PART_TEXT;
	for (size_t i = 0; i < sizeof(part_types) / sizeof(part_types[0]);
	     i++) {
		if (g_mime_content_type_is_type(
			type, part_types[i].type, part_types[i].subtype))
			return part_types[i].kind;
	}
	return PART_OTHER;
}

static void
add_part(struct parts *parts, enum part_kind kind, struct span text)
{
	if (parts->count == REPORT_PARTS_MAX)
		return;
	parts->part[parts->count++] =
	    (struct part){ .kind = kind, .text = text };
}

/* What a stream got, as far as it is looked at; gives the stream back. */
static struct span
take_stream(GMimeStream *stream, struct arena *arena)
{
	GByteArray *bytes =
	    g_mime_stream_mem_get_byte_array(GMIME_STREAM_MEM(stream));
	size_t length =
	    bytes->len < PART_BYTES_MAX ? bytes->len : PART_BYTES_MAX;
	struct span text = arena_dup(arena, span_from(bytes->data, length));

	g_object_unref(stream);
	return text;
}

static void
add_leaf(struct parts *parts, GMimePart *leaf, struct arena *arena)
{
	GMimeContentType *type =
	    g_mime_object_get_content_type(GMIME_OBJECT(leaf));
	GMimeDataWrapper *content = g_mime_part_get_content(leaf);
	enum part_kind kind = kind_of(type);

	if (kind == PART_OTHER || content == NULL)
		return;
	GMimeStream *stream = g_mime_stream_mem_new();
	(void)g_mime_data_wrapper_write_to_stream(content, stream);
	struct span text = take_stream(stream, arena);
	const char *charset =
	    type != NULL ? g_mime_content_type_get_parameter(type, "charset")
			 : NULL;
	text = text_to_utf8(text, charset, arena);
	if (kind == PART_HTML)
		text = html_to_text(text, arena);
	add_part(parts, kind, text);
}

/* The message that is reported on: all of it, since some quote their
 * diagnosis in front of its header. */
static void
add_message(struct parts *parts, GMimeMessagePart *part, struct arena *arena)
{
	GMimeMessage *message = g_mime_message_part_get_message(part);

	if (message == NULL)
		return;
	GMimeStream *stream = g_mime_stream_mem_new();
	(void)g_mime_object_write_to_stream(
	    GMIME_OBJECT(message), NULL, stream);
	add_part(parts, PART_ORIGINAL,
	    text_to_utf8(take_stream(stream, arena), NULL, arena));
}

struct walk {
	GMimeMultipart *multipart;
	int next;
};

/* Leaves in their order. */
static void
walk_parts(struct parts *parts, GMimeObject *root, struct arena *arena)
{
	struct walk stack[REPORT_DEPTH_MAX];
	size_t depth = 0;
	GMimeObject *at = root;

	for (;;) {
		if (at != NULL && GMIME_IS_MULTIPART(at)) {
			if (depth < REPORT_DEPTH_MAX)
				stack[depth++] =
				    (struct walk){ GMIME_MULTIPART(at), 0 };
		} else if (at != NULL && GMIME_IS_MESSAGE_PART(at)) {
			add_message(parts, GMIME_MESSAGE_PART(at), arena);
		} else if (at != NULL && GMIME_IS_PART(at)) {
			add_leaf(parts, GMIME_PART(at), arena);
		}
		while (depth > 0 &&
		       stack[depth - 1].next >= g_mime_multipart_get_count(
						    stack[depth - 1].multipart))
			depth--;
		if (depth == 0 || parts->count == REPORT_PARTS_MAX)
			return;
		struct walk *top = &stack[depth - 1];
		at = g_mime_multipart_get_part(top->multipart, top->next++);
	}
}

/* Is the message one that GMime would descend into for long? */
static bool
nests_deeply(struct span message)
{
	static const struct span signs[] = { { "oundary", 7 },
		{ "essage/", 7 } };
	size_t count = 0;

	for (size_t i = 0; i < 2; i++) {
		struct span rest = message;
		size_t at;
		while ((at = span_search(rest, signs[i])) != SIZE_MAX) {
			rest = span_skip(rest, at + signs[i].len);
			if (++count > NESTING_SIGNS_MAX)
				return true;
		}
	}
	return false;
}

static GMimeMessage *
parse_message(struct span message)
{
	start_gmime();
	GMimeStream *stream =
	    g_mime_stream_mem_new_with_buffer(message.ptr, message.len);
	GMimeParser *parser = g_mime_parser_new_with_stream(stream);
	GMimeMessage *parsed = g_mime_parser_construct_message(parser, NULL);
	g_object_unref(parser);
	g_object_unref(stream);
	return parsed;
}

static struct span
body_of(struct span message)
{
	size_t end = span_search(message, SPAN("\n\n"));

	return end == SIZE_MAX ? SPAN_EMPTY : span_skip(message, end + 2);
}

static bool
has_text(const struct parts *parts)
{
	for (size_t i = 0; i < parts->count; i++) {
		if (parts->part[i].kind != PART_ORIGINAL &&
		    span_trim(parts->part[i].text).len > 0)
			return true;
	}
	return false;
}

void
parts_read(struct span message, struct arena *arena, struct parts *ret_parts)
{
	memset(ret_parts, 0, sizeof(*ret_parts));
	message = span_slice(message, 0, REPORT_BYTES_MAX);
	message = plain_lines(message, arena);
	ret_parts->message = message;
	size_t end = span_search(message, SPAN("\n\n"));
	ret_parts->header =
	    span_slice(message, 0, end == SIZE_MAX ? message.len : end + 1);
	if (message.len > 0 && !nests_deeply(message)) {
		GMimeMessage *parsed = parse_message(message);
		if (parsed != NULL) {
			walk_parts(ret_parts,
			    g_mime_message_get_mime_part(parsed), arena);
			g_object_unref(parsed);
		}
	}
	/* Broken MIME is read as the text that it is to the eye. */
	if (!has_text(ret_parts))
		add_part(ret_parts, PART_TEXT,
		    text_to_utf8(
			span_slice(body_of(message), 0, PART_BYTES_MAX), NULL,
			arena));
}

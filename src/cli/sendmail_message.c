/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "cli/sendmail.h"
#include "mail/header.h"

#include <string.h>

/* ---- address lists ----------------------------------------------------- */

void
address_list_done(struct address_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		mem_free(list->list[i]);
	mem_free(list->list);
	*list = (struct address_list){ 0 };
}

static void
add_address(struct address_list *list, struct span text, struct span host)
{
	bool is_bare = span_find(text, '@') == SIZE_MAX;

	if (text.len == 0)
		return;
	if ((list->count & (list->count - 1)) == 0)
		list->list = mem_resize(list->list,
		    list->count == 0 ? 1 : 2 * list->count,
		    sizeof(*list->list));
	list->list[list->count++] =
	    is_bare ? mem_printf("%.*s@%.*s", SPAN_ARG(text), SPAN_ARG(host))
		    : span_dup(text);
}

/* Length of a comment, nested ones included, or of what there is of it. */
static size_t
comment_length(struct span s)
{
	size_t depth = 0, i = 0;

	for (; i < s.len; i++) {
		if (s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == '(')
			depth++;
		else if (s.ptr[i] == ')' && --depth == 0)
			return i + 1;
	}
	return s.len;
}

static size_t
quoted_length(struct span s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == '"')
			return i + 1;
	}
	return s.len;
}

/* One address of a list as it is being read. */
struct reading {
	struct buf text;
	bool in_brackets; /* <…> */
	bool in_literal; /* […] */
	bool complete; /* after '>' nothing more counts */
};

static void
end_address(struct reading *r, struct address_list *list, struct span host)
{
	add_address(list, span_trim(buf_span(&r->text)), host);
	buf_clear(&r->text);
	r->complete = r->in_brackets = r->in_literal = false;
}

/* False: the character belongs to the address's text. */
static bool
take_special(struct reading *r, char c)
{
	switch (c) {
	case '<':
		buf_clear(&r->text); /* that was the name for people */
		r->in_brackets = true;
		return true;
	case '>':
		r->in_brackets = false;
		r->complete = true;
		return true;
	case ':':
		/* "friends: …": a group's name; in a literal it is IPv6. */
		if (r->in_literal || r->in_brackets)
			return false;
		buf_clear(&r->text);
		return true;
	case '[':
	case ']':
		r->in_literal = c == '[';
		return false;
	case '\r':
	case '\n':
		return true; /* folding */
	default:
		return false;
	}
}

void
address_list_add(struct address_list *list, struct span text, struct span host)
{
	struct reading r = { 0 };

	while (text.len > 0) {
		char c = text.ptr[0];
		size_t len = 1;

		if (c == '(')
			len = comment_length(text);
		else if (c == '"')
			len = quoted_length(text);
		if ((c == ',' || c == ';') && !r.in_brackets)
			end_address(&r, list, host);
		else if (c != '(' && !take_special(&r, c) && !r.complete)
			buf_append(&r.text, span_slice(text, 0, len));
		text = span_skip(text, len);
	}
	end_address(&r, list, host);
	buf_done(&r.text);
}

/* ---- lines ------------------------------------------------------------- */

/* Takes a line off *rest; its end is LF, CRLF, CR or the end of the text. */
static struct span
take_line(struct span *rest)
{
	size_t i = 0;

	while (i < rest->len && rest->ptr[i] != '\r' && rest->ptr[i] != '\n')
		i++;
	struct span line = span_slice(*rest, 0, i);
	bool crlf = span_starts(span_skip(*rest, i), SPAN("\r\n"));
	*rest = span_skip(*rest, crlf ? i + 2 : i + 1);
	return line;
}

void
sendmail_normalise(struct span text, bool ignores_dots, struct buf *out)
{
	if (span_starts(text, SPAN("From ")) ||
	    span_starts(text, SPAN(">From ")))
		(void)take_line(&text);
	while (text.len > 0) {
		struct span line = take_line(&text);

		if (!ignores_dots && span_eq(line, SPAN(".")))
			return;
		buf_append(out, line);
		buf_append_str(out, "\r\n");
	}
}

/* ---- the From field ---------------------------------------------------- */

/* RFC 2047 §4.2, in words of at most 75 characters, broken between
 * characters. */
static void
append_encoded(struct buf *out, struct span name)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz0123456789";
	size_t column = 0;

	while (name.len > 0) {
		size_t len = span_utf8_length(name);

		if (column == 0)
			buf_append_str(out, "=?UTF-8?Q?");
		for (size_t i = 0; i < len; i++) {
			char c = name.ptr[i];
			bool as_is = c != '\0' && strchr(plain, c) != NULL;

			if (as_is)
				buf_append_char(out, c);
			else
				buf_printf(out, "=%02X", (unsigned char)c);
			column += as_is ? 1 : 3;
		}
		name = span_skip(name, len);
		if (column < 48 && name.len > 0)
			continue;
		buf_append_str(out, name.len > 0 ? "?=\r\n " : "?=");
		column = 0;
	}
}

static void
append_quoted(struct buf *out, struct span name)
{
	buf_append_char(out, '"');
	for (size_t i = 0; i < name.len; i++) {
		if (name.ptr[i] == '"' || name.ptr[i] == '\\')
			buf_append_char(out, '\\');
		buf_append_char(out, name.ptr[i]);
	}
	buf_append_char(out, '"');
}

static bool
has_control(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 127)
			return true;
	}
	return false;
}

static void
append_from(struct buf *out, const struct sendmail_identity *self)
{
	struct span name = span_slice(self->full_name, 0, 200);

	buf_append_str(out, "From: ");
	if (name.len == 0 || has_control(name) || !span_is_utf8(name)) {
		buf_append(out, self->address);
	} else {
		if (span_is_ascii(name))
			append_quoted(out, name);
		else
			append_encoded(out, name);
		buf_printf(out, " <%.*s>", SPAN_ARG(self->address));
	}
	buf_append_str(out, "\r\n");
}

/* ---- composing --------------------------------------------------------- */

struct composing {
	const struct sendmail_identity *self;
	bool takes_recipients;
	struct address_list plain, resent;
	struct buf fields;
	bool has_from, has_recipients; /* To, Cc or Bcc */
};

static bool
is_one_of(struct span name, const char *const *names)
{
	for (; *names != NULL; names++) {
		if (span_eq_nocase(name, span_of(*names)))
			return true;
	}
	return false;
}

static void
take_field(struct composing *c, const struct header_field *field)
{
	static const char *const plain[] = { "To", "Cc", "Bcc", NULL };
	static const char *const resent[] = { "Resent-To", "Resent-Cc",
		"Resent-Bcc", NULL };
	static const char *const hidden[] = { "Bcc", "Resent-Bcc", NULL };

	if (is_one_of(field->name, plain)) {
		c->has_recipients = true;
		address_list_add(&c->plain, field->value, c->self->host);
	} else if (is_one_of(field->name, resent)) {
		address_list_add(&c->resent, field->value, c->self->host);
	} else if (span_eq_nocase(field->name, SPAN("From"))) {
		c->has_from = true;
	}
	if (!c->takes_recipients || !is_one_of(field->name, hidden))
		buf_append(&c->fields, field->raw);
}

/* Takes the fields off *rest, which then is the body. */
static void
take_header(struct composing *c, struct span *rest)
{
	struct header_field field;
	int result;

	while ((result = header_next(rest, &field)) > 0)
		take_field(c, &field);
	if (result == 0)
		return;
	/* A line that is no field: the body begins with it. */
	size_t back = (size_t)(rest->ptr - field.raw.ptr);
	*rest = span_from(field.raw.ptr, back + rest->len);
}

static void
move_addresses(struct address_list *from, struct address_list *to)
{
	for (size_t i = 0; i < from->count; i++)
		add_address(to, span_of(from->list[i]), SPAN_EMPTY);
}

void
sendmail_compose(struct span text, const struct sendmail_identity *self,
    struct address_list *found, struct buf *out)
{
	struct composing c = { .self = self,
		.takes_recipients = found != NULL };

	take_header(&c, &text);
	if (!c.has_from)
		append_from(out, self);
	if (!c.has_recipients)
		buf_append_str(out, "To: undisclosed-recipients:;\r\n");
	buf_append(out, buf_span(&c.fields));
	buf_append_str(out, "\r\n");
	buf_append(out, text);
	if (found != NULL)
		move_addresses(
		    c.resent.count > 0 ? &c.resent : &c.plain, found);
	address_list_done(&c.plain);
	address_list_done(&c.resent);
	buf_done(&c.fields);
}

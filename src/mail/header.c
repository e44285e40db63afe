/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/header.h"

#include "base/bug.h"

/*
 * field = field-name *WSP ":" unstructured CRLF      RFC 5322 §2.2, §4.5
 * A line that starts with a space or a tab continues the field (§2.2.3).
 */

#define CRLF SPAN("\r\n")

static bool
is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

/* Length of the first line of s with its CRLF, or of all of s without one. */
static size_t
line_length(struct span s)
{
	size_t end = span_search(s, CRLF);

	return end == SIZE_MAX ? s.len : end + 2;
}

/* The first line of s and the lines that continue it. */
static size_t
folded_length(struct span s)
{
	size_t len = line_length(s);

	while (len < s.len && is_wsp(s.ptr[len]))
		len += line_length(span_skip(s, len));
	return len;
}

/* Length of a field name, or 0 when none stands at the start of s. */
static size_t
name_length(struct span s)
{
	size_t len = 0;

	while (len < s.len && s.ptr[len] > ' ' && s.ptr[len] < 0x7f &&
	       s.ptr[len] != ':')
		len++;
	size_t colon = len;
	while (colon < s.len && is_wsp(s.ptr[colon]))
		colon++;
	return colon < s.len && s.ptr[colon] == ':' ? len : 0;
}

static struct span
without_crlf(struct span s)
{
	if (s.len >= 2 && s.ptr[s.len - 2] == '\r' && s.ptr[s.len - 1] == '\n')
		s.len -= 2;
	return s;
}

int
header_next(struct span *rest, struct header_field *ret_field)
{
	if (rest->len == 0)
		return 0;
	if (span_starts(*rest, CRLF)) {
		*rest = span_skip(*rest, 2);
		return 0;
	}
	size_t len = folded_length(*rest);
	struct header_field field = { .raw = span_slice(*rest, 0, len) };
	size_t name_len = name_length(field.raw);
	*rest = span_skip(*rest, len);
	if (name_len == 0) {
		*ret_field = field;
		return ERR_SYNTAX;
	}
	size_t colon = span_find(field.raw, ':');
	BUG_UNLESS(colon != SIZE_MAX);
	field.name = span_slice(field.raw, 0, name_len);
	field.value = without_crlf(span_skip(field.raw, colon + 1));
	*ret_field = field;
	return 1;
}

size_t
header_section_length(struct span message)
{
	if (span_starts(message, CRLF))
		return 2;
	size_t end = span_search(message, SPAN("\r\n\r\n"));
	return end == SIZE_MAX ? 0 : end + 4;
}

/* RFC 3834 §5: "no", perhaps with a comment or parameters behind it. */
static bool
is_auto_submitted(struct span value)
{
	struct span s = span_trim(value);
	size_t len = 0;

	while (len < s.len && s.ptr[len] != ';' && s.ptr[len] != '(' &&
	       s.ptr[len] != ' ' && s.ptr[len] != '\t' && s.ptr[len] != '\r')
		len++;
	return !span_eq_nocase(span_slice(s, 0, len), SPAN("no"));
}

static void
inspect_field(const struct header_field *field, struct header_facts *f)
{
	const struct {
		struct span name;
		size_t *count;
		struct span *first;
	} known[] = {
		{ SPAN("Received"), &f->received_count, NULL },
		{ SPAN("From"), &f->from_count, &f->from },
		{ SPAN("Date"), &f->date_count, NULL },
		{ SPAN("Message-ID"), &f->message_id_count, &f->message_id },
		{ SPAN("Subject"), &f->subject_count, &f->subject },
		{ SPAN("Bcc"), &f->bcc_count, NULL },
		{ SPAN("Return-Path"), &f->return_path_count, NULL },
		{ SPAN("Sender"), &f->sender_count, NULL },
	};

	f->field_count++;
	if (span_eq_nocase(field->name, SPAN("Auto-Submitted")))
		f->auto_submitted |= is_auto_submitted(field->value);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!span_eq_nocase(field->name, known[i].name))
			continue;
		if (known[i].first != NULL && *known[i].count == 0)
			*known[i].first = field->value;
		*known[i].count += 1;
		return;
	}
}

void
header_inspect(struct span section, struct header_facts *ret_facts)
{
	struct header_facts facts = { .field_count = 0 };
	struct header_field field;
	struct span rest = section;
	int code;

	while ((code = header_next(&rest, &field)) != 0) {
		if (code > 0)
			inspect_field(&field, &facts);
		else if (facts.first_bad_line.len == 0)
			facts.first_bad_line = field.raw;
	}
	facts.message_id = span_trim(facts.message_id);
	facts.has_8bit = !span_is_ascii(section);
	*ret_facts = facts;
}

static bool
is_named(struct span name, const char *const *names)
{
	for (size_t i = 0; names[i] != NULL; i++) {
		if (span_eq_nocase(name, span_of(names[i])))
			return true;
	}
	return false;
}

void
header_copy_without(
    struct span section, const char *const *names, struct buf *out)
{
	struct header_field field;
	struct span rest = section;
	struct span kept = section; /* not copied yet */
	int code;

	while ((code = header_next(&rest, &field)) != 0) {
		if (code < 0 || !is_named(field.name, names))
			continue;
		size_t len = (size_t)(field.raw.ptr - kept.ptr);
		buf_append(out, span_slice(kept, 0, len));
		kept = span_skip(kept, len + field.raw.len);
	}
	buf_append(out, kept);
}

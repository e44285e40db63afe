/* SPDX-License-Identifier: Apache-2.0 */

/* HTML as lines of text: tags that break lines do, the rest goes. */

#include "bounce/internal.h"

#include <string.h>
#include <strings.h>

#define TAG_NAME_MAX 12

static const struct {
	const char *name;
	char c;
} entities[] = { { "lt;", '<' }, { "gt;", '>' }, { "amp;", '&' },
	{ "quot;", '"' }, { "nbsp;", ' ' }, { "#39;", '\'' }, { "apos;", '\'' },
	{ "#64;", '@' }, { "#46;", '.' }, { "#160;", ' ' } };

static const char *const breaking[] = { "br", "p", "div", "tr", "li", "h1",
	"h2", "h3", "h4", "table", "pre", "hr", "ul", "ol", "dd", "dt",
	"blockquote", "td", "title" };

struct html {
	struct span rest;
	char *text;
	size_t length;
};

static void
put(struct html *h, char c)
{
	h->text[h->length++] = c;
}

static void
take_entity(struct html *h)
{
	struct span after = span_skip(h->rest, 1);

	for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++) {
		struct span name = span_of(entities[i].name);
		if (span_starts_nocase(after, name)) {
			put(h, entities[i].c);
			h->rest = span_skip(after, name.len);
			return;
		}
	}
	put(h, '&');
	h->rest = after;
}

static bool
is_name(struct span tag, const char *name)
{
	size_t length = strlen(name);

	return tag.len >= length && strncasecmp(tag.ptr, name, length) == 0 &&
	       (tag.len == length || strchr(" \t\n/", tag.ptr[length]) != NULL);
}

/* Style sheets, scripts and comments are no text. */
static bool
skip_hidden(struct html *h, struct span tag)
{
	struct span end = SPAN_EMPTY;

	if (span_starts(tag, SPAN("!--")))
		end = SPAN("-->");
	else if (is_name(tag, "style"))
		end = SPAN("</style");
	else if (is_name(tag, "script"))
		end = SPAN("</script");
	if (end.len == 0)
		return false;
	size_t at = span_search(h->rest, end);
	h->rest = span_skip(h->rest, at == SIZE_MAX ? h->rest.len : at);
	struct span ignored = span_cut(&h->rest, '>');
	(void)ignored;
	return true;
}

static void
take_tag(struct html *h)
{
	struct span after = span_skip(h->rest, 1);
	size_t end = span_find(after, '>');
	struct span tag = span_slice(after, 0, end == SIZE_MAX ? 0 : end);

	/* "<joe@example.com>" is what it looks like, and so is "<" alone. */
	if (end == SIZE_MAX || span_find(tag, '@') == end ||
	    (span_find(tag, '@') != SIZE_MAX &&
		span_find(tag, ' ') == SIZE_MAX &&
		span_find(tag, '"') == SIZE_MAX)) {
		put(h, '<');
		h->rest = after;
		return;
	}
	if (skip_hidden(h, tag))
		return;
	h->rest = span_skip(after, end + 1);
	if (span_starts(tag, SPAN("/")))
		tag = span_skip(tag, 1);
	for (size_t i = 0; i < sizeof(breaking) / sizeof(breaking[0]); i++) {
		if (is_name(tag, breaking[i])) {
			put(h, '\n');
			return;
		}
	}
}

struct span
html_to_text(struct span html, struct arena *arena)
{
	struct html h = { html, arena_alloc(arena, html.len + 1), 0 };

	while (h.rest.len > 0) {
		char c = h.rest.ptr[0];
		if (c == '<') {
			take_tag(&h);
		} else if (c == '&') {
			take_entity(&h);
		} else {
			put(&h, c);
			h.rest = span_skip(h.rest, 1);
		}
	}
	return span_from(h.text, h.length);
}

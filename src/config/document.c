/* SPDX-License-Identifier: Apache-2.0 */

/*
 * YAML within bounds. libyaml's own tree builder has none but for depth, and
 * finds anchors by linear search; so the events are looked at first, without
 * keeping any, and the tree is built only from a file known to be modest.
 */

#include "base/bug.h"
#include "config/internal.h"

#include <string.h>

#define DEPTH_MAX 16
#define NODES_MAX 200000
#define ANCHORS_MAX 100
#define ALIASES_MAX 1000

struct scan {
	struct config_mistakes *mistakes;
	unsigned depth, nodes, anchors, aliases, documents;
};

/* libyaml counts an error in the encoding by octets, all others by lines. */
static yaml_mark_t
mark_of_offset(struct span text, size_t offset)
{
	yaml_mark_t mark = { 0 };

	for (size_t i = 0; i < offset && i < text.len; i++) {
		mark.column++;
		if (text.ptr[i] == '\n') {
			mark.line++;
			mark.column = 0;
		}
	}
	return mark;
}

static void
report_problem(const yaml_parser_t *parser, struct span text,
    struct config_mistakes *mistakes)
{
	const char *problem = parser->problem ? parser->problem : "cannot read";

	if (parser->error == YAML_READER_ERROR)
		config_mistakes_add(mistakes,
		    mark_of_offset(text, parser->problem_offset),
		    "not readable as YAML: %s; save the file as UTF-8 without "
		    "control characters",
		    problem);
	else if (parser->context)
		config_mistakes_add(mistakes, parser->problem_mark,
		    "not readable as YAML: %s %s that begins at line %zu; "
		    "check quotes, colons, brackets and indentation",
		    problem, parser->context, parser->context_mark.line + 1);
	else
		config_mistakes_add(mistakes, parser->problem_mark,
		    "not readable as YAML: %s; check quotes, colons, brackets "
		    "and indentation",
		    problem);
}

/* The anchor and tag of an event that makes a node. */
static void
node_properties(const yaml_event_t *event, const yaml_char_t **ret_anchor,
    const yaml_char_t **ret_tag)
{
	*ret_anchor = *ret_tag = NULL;
	if (event->type == YAML_SCALAR_EVENT) {
		*ret_anchor = event->data.scalar.anchor;
		*ret_tag = event->data.scalar.tag;
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		*ret_anchor = event->data.sequence_start.anchor;
		*ret_tag = event->data.sequence_start.tag;
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		*ret_anchor = event->data.mapping_start.anchor;
		*ret_tag = event->data.mapping_start.tag;
	}
}

static bool
scan_refuse(struct scan *s, const yaml_event_t *event, const char *text)
{
	config_mistakes_add(s->mistakes, event->start_mark, "%s", text);
	return false;
}

static bool
scan_event(struct scan *s, const yaml_event_t *event)
{
	const yaml_char_t *anchor, *tag;
	bool opens = event->type == YAML_SEQUENCE_START_EVENT ||
		     event->type == YAML_MAPPING_START_EVENT;
	bool closes = event->type == YAML_SEQUENCE_END_EVENT ||
		      event->type == YAML_MAPPING_END_EVENT;

	node_properties(event, &anchor, &tag);
	BUG_UNLESS(!closes || s->depth > 0);
	s->depth += opens;
	s->depth -= closes;
	s->nodes += opens || event->type == YAML_SCALAR_EVENT;
	s->anchors += anchor != NULL;
	s->aliases += event->type == YAML_ALIAS_EVENT;
	s->documents += event->type == YAML_DOCUMENT_START_EVENT;
	if (s->documents > 1)
		return scan_refuse(s, event,
		    "a second YAML document begins here; keep one in the file");
	if (s->depth > DEPTH_MAX)
		return scan_refuse(s, event,
		    "maps and lists are nested too deeply; no key needs more "
		    "than four levels");
	if (s->nodes > NODES_MAX)
		return scan_refuse(s, event,
		    "the file has more than 200000 values; shorten it");
	if (s->anchors > ANCHORS_MAX || s->aliases > ALIASES_MAX)
		return scan_refuse(s, event,
		    "the file has more than 100 anchors or 1000 aliases; write "
		    "the values out");
	if (tag)
		return scan_refuse(
		    s, event, "tags (`!name`) mean nothing here; remove it");
	return true;
}

/* Whether the file is one well-formed document of bounded size. */
static bool
is_modest(struct span text, struct config_mistakes *mistakes)
{
	struct scan scan = { .mistakes = mistakes };
	yaml_parser_t parser;
	yaml_event_t event;
	bool is_good, is_end = false;

	BUG_UNLESS(yaml_parser_initialize(&parser));
	yaml_parser_set_input_string(
	    &parser, (const unsigned char *)text.ptr, text.len);
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	do {
		is_good = yaml_parser_parse(&parser, &event) != 0;
		if (!is_good) {
			report_problem(&parser, text, mistakes);
			break;
		}
		is_good = scan_event(&scan, &event);
		is_end = event.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	} while (is_good && !is_end);
	yaml_parser_delete(&parser);
	return is_good;
}

bool
config_document_load(struct span text, struct config_mistakes *mistakes,
    yaml_document_t *ret_document)
{
	yaml_parser_t parser;
	bool is_good;

	/* Editors of Windows put it there; told of the encoding, libyaml takes
	 * it for the first column. */
	if (span_starts(text, SPAN("\xef\xbb\xbf")))
		text = span_skip(text, 3);
	/* libyaml takes no NULL for its input. */
	if (!text.ptr)
		text = SPAN("");
	if (!is_modest(text, mistakes))
		return false;
	BUG_UNLESS(yaml_parser_initialize(&parser));
	yaml_parser_set_input_string(
	    &parser, (const unsigned char *)text.ptr, text.len);
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	/* An undefined alias or a repeated anchor is only found now. */
	is_good = yaml_parser_load(&parser, ret_document) != 0;
	if (!is_good)
		report_problem(&parser, text, mistakes);
	yaml_parser_delete(&parser);
	return is_good;
}

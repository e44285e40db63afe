/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Private to bounce: how rules are kept. */

#include "base/arena.h"
#include "base/pattern.h"
#include "bounce/report.h"

/* ---- replies.rules ------------------------------------------------------ */

#define RULE_WHEN_MAX 40 /* codes and statuses in one rule */

enum verdict {
	VERDICT_REPLY,
	VERDICT_TEMPORARY,
	VERDICT_KEEP,
};

struct judge_rule {
	enum reply_class class;
	enum verdict verdict;
	uint16_t line;
	uint8_t when_count;
	struct span *when; /* views into the arena; each a prefix */
	struct pattern *pattern; /* NULL: any text */
};

struct judge {
	struct arena *arena;
	struct judge_rule *rules;
	size_t count, capacity;
};

/* Takes the next line off *rest, without comment lines and empty ones and with
 * its spaces trimmed; counts *line. False at the end. */
bool rule_line_next(struct span *rest, unsigned *line, struct span *ret_line);
/* The next word of a line. */
struct span rule_word(struct span *line);

/* ---- parts.c, html.c: a message in pieces ------------------------------- */

enum part_kind {
	PART_OTHER,
	PART_TEXT,
	PART_HTML, /* as text */
	PART_DELIVERY_STATUS,
	PART_FEEDBACK,
	PART_DISPOSITION,
	PART_ORIGINAL, /* the message reported on, or its header only */
};

struct part {
	enum part_kind kind;
	struct span text; /* UTF-8, lines end in LF */
};

struct parts {
	struct span message; /* all of it, lines end in LF */
	struct span header; /* its header section, raw */
	struct part part[REPORT_PARTS_MAX];
	size_t count;
};

void parts_read(
    struct span message, struct arena *arena, struct parts *ret_parts);
struct span html_to_text(struct span html, struct arena *arena);
/* charset: as declared, or NULL. */
struct span text_to_utf8(
    struct span s, const char *charset, struct arena *arena);
/* A header field's value (RFC 2047). */
struct span header_to_utf8(struct span value, struct arena *arena);

/* ---- fields.c ----------------------------------------------------------- */

struct field {
	struct span name, value; /* unfolded and trimmed */
};

/* Takes the next field off *rest; false at an empty line or the end. Lines
 * that are no field are skipped. */
bool field_next(
    struct span *rest, struct arena *arena, struct field *ret_field);
/* The first of that name in the section; empty when there is none. */
struct span field_find(
    struct span section, const char *name, struct arena *arena);
bool field_is_line(struct span line);
/* Takes the text off *rest up to the end of the next address in it. */
bool address_next(struct span *rest, struct span *ret_address);
/* The address of a field such as Final-Recipient; empty when it has none. */
struct span address_of_field(struct span value);

/* ---- text.c: reports in words, by reports.rules -------------------------- */

#define TEXT_RECIPIENTS_MAX 1000

enum text_rule_kind {
	TEXT_FROM,
	TEXT_SUBJECT,
	TEXT_AUTO,
	TEXT_END,
	TEXT_SKIP,
	TEXT_ONE,
	TEXT_LIST,
	TEXT_STOP,
	TEXT_DELAY,
	TEXT_MAYBE,
	TEXT_LONE,
	TEXT_RULE_KINDS
};

struct text_recipient {
	struct span address;
	struct span reply; /* what follows it, on one line */
};

struct text_report {
	struct text_recipient recipients[TEXT_RECIPIENTS_MAX];
	size_t count;
	struct span maybe; /* if there is no other */
	struct span local_part; /* a recipient of the reporter's domain */
	struct span above, below; /* the first text; the quoted original */
	bool is_delay;
};

struct text_rules;

struct text_rules *text_rules_new(void);
void text_rules_free(struct text_rules **rules);
bool text_rule_fits(
    const struct text_rules *rules, enum text_rule_kind kind, struct span line);
/* Adds to *report, which the caller has zeroed. */
void text_read(const struct text_rules *rules, struct span text,
    struct arena *arena, struct text_report *report);

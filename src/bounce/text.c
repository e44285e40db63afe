/* SPDX-License-Identifier: Apache-2.0 */

/* Reads reports in words by reports.rules, line by line. */

#include "base/bug.h"
#include "base/mem.h"
#include "bounce/internal.h"

#include <string.h>

#define LINE_MAX 1000 /* of a line looked at */
#define REPLY_MAX 1000 /* of a recipient's explanation */

extern const char reports_rules[];
extern const size_t reports_rules_size;

struct text_rule {
	enum text_rule_kind kind;
	struct pattern *pattern;
};

struct text_rules {
	struct text_rule *rules;
	size_t count, capacity;
};

static const char *const kind_names[TEXT_RULE_KINDS] = {
	[TEXT_FROM] = "from",
	[TEXT_SUBJECT] = "subject",
	[TEXT_AUTO] = "auto",
	[TEXT_END] = "end",
	[TEXT_SKIP] = "skip",
	[TEXT_ONE] = "one",
	[TEXT_LIST] = "list",
	[TEXT_STOP] = "stop",
	[TEXT_DELAY] = "delay",
	[TEXT_MAYBE] = "maybe",
	[TEXT_LONE] = "lone",
};

/* ---- the rules ---------------------------------------------------------- */

static int
add_rule(struct text_rules *rules, struct span line, unsigned number,
    struct failure *f)
{
	struct span word = rule_word(&line);
	struct text_rule rule = { 0 };
	struct failure why;
	size_t kind = 0;

	while (
	    kind < TEXT_RULE_KINDS && !span_eq(word, span_of(kind_names[kind])))
		kind++;
	if (kind == TEXT_RULE_KINDS)
		return failure_set(f, ERR_SYNTAX,
		    "line %u: `%.*s` is no kind of rule", number,
		    SPAN_ARG(word));
	rule.kind = (enum text_rule_kind)kind;
	if (pattern_compile(line, 0, &rule.pattern, &why) < 0)
		return failure_set(
		    f, ERR_SYNTAX, "line %u: %s", number, why.text);
	if (rules->count == rules->capacity) {
		rules->capacity = rules->capacity ? rules->capacity * 2 : 64;
		rules->rules = mem_resize(
		    rules->rules, rules->capacity, sizeof(rules->rules[0]));
	}
	rules->rules[rules->count++] = rule;
	return 0;
}

struct text_rules *
text_rules_new(void)
{
	struct text_rules *rules = MEM_NEW(struct text_rules);
	struct span rest = span_from(reports_rules, reports_rules_size);
	struct span line;
	struct failure why;
	unsigned number = 0;

	while (rule_line_next(&rest, &number, &line)) {
		if (add_rule(rules, line, number, &why) < 0)
			bug(why.text, "reports.rules", (int)number);
	}
	return rules;
}

void
text_rules_free(struct text_rules **rules)
{
	if (*rules == NULL)
		return;
	for (size_t i = 0; i < (*rules)->count; i++)
		pattern_free(&(*rules)->rules[i].pattern);
	mem_free((*rules)->rules);
	mem_free(*rules);
	*rules = NULL;
}

static bool
find_with(const struct text_rules *rules, enum text_rule_kind kind,
    struct span line, struct span captures[static PATTERN_CAPTURES])
{
	struct pattern_sieve sieve;

	if (line.len == 0)
		return false;
	line = span_slice(line, 0, LINE_MAX);
	pattern_sieve_fill(&sieve, line);
	for (size_t i = 0; i < rules->count; i++) {
		const struct text_rule *rule = &rules->rules[i];
		if (rule->kind == kind &&
		    pattern_may_match(rule->pattern, &sieve) &&
		    pattern_find(rule->pattern, line, captures))
			return true;
	}
	return false;
}

bool
text_rule_fits(
    const struct text_rules *rules, enum text_rule_kind kind, struct span line)
{
	struct span captures[PATTERN_CAPTURES];

	return find_with(rules, kind, line, captures);
}

/* ---- reading ------------------------------------------------------------ */

struct reading {
	const struct text_rules *rules;
	struct arena *arena;
	struct text_report *report;
	struct span previous; /* line that was not empty */
	bool in_list;
	struct text_recipient *current;
};

static struct text_recipient *
add_recipient(struct reading *r, struct span address)
{
	struct text_report *report = r->report;

	while (address.len > 0 &&
	       strchr(".:,;>)]'\"", address.ptr[address.len - 1]) != NULL)
		address.len--;
	/* Three dots stand where something was cut out. */
	if (span_find(address, '@') == SIZE_MAX ||
	    span_search(address, SPAN("...")) != SIZE_MAX)
		return r->current;
	for (size_t i = 0; i < report->count; i++) {
		if (span_eq_nocase(report->recipients[i].address, address))
			return &report->recipients[i];
	}
	if (report->count == TEXT_RECIPIENTS_MAX)
		return r->current;
	report->recipients[report->count] =
	    (struct text_recipient){ .address = address };
	return &report->recipients[report->count++];
}

/* In a list: does the line begin with an address? */
static bool
begins_with_address(struct span line, struct span *ret_address)
{
	struct span rest = span_trim(line);

	while (rest.len > 0 && strchr("<>*\"'-[ \t", rest.ptr[0]) != NULL)
		rest = span_skip(rest, 1);
	if (span_starts_nocase(rest, SPAN("smtp:")))
		rest = span_skip(rest, 5);
	struct span start = rest, found;
	if (!address_next(&rest, &found))
		return false;
	/* A name in front of brackets is one, too: Joe <joe@example.com> */
	size_t before = (size_t)(found.ptr - start.ptr);
	bool in_brackets =
	    before > 0 && before < 60 && found.ptr[-1] == '<' &&
	    span_find(span_slice(start, 0, before), ':') == SIZE_MAX;
	if (before > 0 && !in_brackets)
		return false;
	*ret_address = found;
	return true;
}

static void
add_reply(struct reading *r, struct span line)
{
	struct text_recipient *to = r->current;

	line = span_trim(line);
	if (to == NULL || line.len == 0 || to->reply.len > REPLY_MAX)
		return;
	to->reply =
	    to->reply.len == 0
		? arena_dup(r->arena, span_slice(line, 0, LINE_MAX))
		: arena_printf(r->arena, "%.*s %.*s", SPAN_ARG(to->reply),
		      SPAN_ARG(span_slice(line, 0, LINE_MAX)));
}

static bool
starts_list(struct reading *r, struct span line)
{
	if (text_rule_fits(r->rules, TEXT_LIST, line))
		return true;
	if (r->previous.len == 0)
		return false;
	struct span both = arena_printf(r->arena, "%.*s %.*s",
	    SPAN_ARG(span_slice(r->previous, 0, 200)),
	    SPAN_ARG(span_slice(span_trim(line), 0, 200)));
	return text_rule_fits(r->rules, TEXT_LIST, both);
}

static void
read_line(struct reading *r, struct span line)
{
	struct span captures[PATTERN_CAPTURES], address;

	if (text_rule_fits(r->rules, TEXT_DELAY, line))
		r->report->is_delay = true;
	bool has_at = span_find(line, '@') != SIZE_MAX;
	bool skip = has_at && text_rule_fits(r->rules, TEXT_SKIP, line);
	if (has_at && !skip && find_with(r->rules, TEXT_ONE, line, captures)) {
		r->current = add_recipient(r, captures[1]);
		add_reply(r, line);
		return;
	}
	if (has_at && r->report->maybe.len == 0 &&
	    find_with(r->rules, TEXT_MAYBE, line, captures))
		r->report->maybe = captures[1];
	if (has_at && !skip && r->in_list &&
	    begins_with_address(line, &address)) {
		r->current = add_recipient(r, address);
		add_reply(r, line);
		return;
	}
	if (!has_at && text_rule_fits(r->rules, TEXT_STOP, line))
		r->in_list = false;
	if (r->in_list && !has_at && r->report->local_part.len == 0 &&
	    find_with(r->rules, TEXT_LONE, line, captures)) {
		r->report->local_part = captures[1];
	} else if (starts_list(r, line)) {
		r->in_list = true;
	}
	add_reply(r, line);
}

void
text_read(const struct text_rules *rules, struct span text, struct arena *arena,
    struct text_report *report)
{
	struct reading r = { .rules = rules, .arena = arena, .report = report };
	struct span all = text;

	for (size_t lines = 0; text.len > 0 && lines < REPORT_LINES_MAX;
	     lines++) {
		struct span before = text;
		struct span line = span_cut(&text, '\n');
		line = span_slice(line, 0, LINE_MAX);
		if (span_trim(line).len == 0)
			continue;
		if (lines > 0 && text_rule_fits(rules, TEXT_END, line)) {
			report->below = before;
			break;
		}
		read_line(&r, line);
		r.previous = span_trim(line);
	}
	size_t above = all.len - report->below.len;
	if (report->above.len == 0)
		report->above = span_slice(all, 0, above);
}

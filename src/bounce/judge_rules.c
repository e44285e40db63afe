/* SPDX-License-Identifier: Apache-2.0 */

/* Reads replies.rules, whose head says what a line means. */

#include "base/bug.h"
#include "base/mem.h"
#include "bounce/internal.h"

extern const char replies_rules[];
extern const size_t replies_rules_size;

static const char *const class_names[REPLY_CLASSES] = {
	[CLASS_NO_SUCH_USER] = "no_such_user",
	[CLASS_NO_SUCH_DOMAIN] = "no_such_domain",
	[CLASS_MOVED] = "moved",
	[CLASS_MAILBOX_FULL] = "mailbox_full",
	[CLASS_MAILBOX_DISABLED] = "mailbox_disabled",
	[CLASS_TOO_LARGE] = "too_large",
	[CLASS_CONTENT] = "content",
	[CLASS_POLICY] = "policy",
	[CLASS_AUTHENTICATION] = "authentication",
	[CLASS_REPUTATION] = "reputation",
	[CLASS_RATE_LIMIT] = "rate_limit",
	[CLASS_GREYLIST] = "greylist",
	[CLASS_TLS] = "tls",
	[CLASS_NETWORK] = "network",
	[CLASS_RELAYING_DENIED] = "relaying_denied",
	[CLASS_OTHER] = "other",
};

const char *reply_class_name(enum reply_class class)
{
	BUG_UNLESS(class < REPLY_CLASSES);
	return class_names[class];
}

bool
reply_class_parse(struct span name, enum reply_class *ret_class)
{
	for (size_t i = 0; i < REPLY_CLASSES; i++) {
		if (span_eq(name, span_of(class_names[i]))) {
			*ret_class = (enum reply_class)i;
			return true;
		}
	}
	return false;
}

/* ---- lines and words ---------------------------------------------------- */

bool
rule_line_next(struct span *rest, unsigned *line, struct span *ret_line)
{
	while (rest->len > 0) {
		struct span found = span_trim(span_cut(rest, '\n'));
		(*line)++;
		if (found.len > 0 && found.ptr[0] != '#') {
			*ret_line = found;
			return true;
		}
	}
	return false;
}

struct span
rule_word(struct span *line)
{
	struct span word = span_cut(line, ' ');

	*line = span_trim(*line);
	return word;
}

/* ---- rules --------------------------------------------------------------- */

static bool
parse_verdict(struct span word, enum verdict *ret_verdict)
{
	static const char *const names[] = {
		[VERDICT_REPLY] = "reply",
		[VERDICT_TEMPORARY] = "temporary",
		[VERDICT_KEEP] = "keep",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (span_eq(word, span_of(names[i]))) {
			*ret_verdict = (enum verdict)i;
			return true;
		}
	}
	return false;
}

static bool
parse_when(struct judge *judge, struct span word, struct judge_rule *rule)
{
	struct span list[RULE_WHEN_MAX];
	size_t count = 0;

	if (span_eq(word, SPAN("-")))
		return true;
	while (word.len > 0) {
		struct span prefix = span_cut(&word, ',');
		if (prefix.len == 0 || count == RULE_WHEN_MAX ||
		    prefix.ptr[0] < '4' || prefix.ptr[0] > '5')
			return false;
		list[count++] = arena_dup(judge->arena, prefix);
	}
	rule->when = ARENA_ARRAY(judge->arena, struct span, count);
	for (size_t i = 0; i < count; i++)
		rule->when[i] = list[i];
	rule->when_count = (uint8_t)count;
	return count > 0;
}

static int
parse_rule(struct judge *judge, struct span line, struct judge_rule *rule,
    struct failure *f)
{
	struct span class = rule_word(&line);
	struct span verdict = rule_word(&line);
	struct span when = rule_word(&line);

	if (!reply_class_parse(class, &rule->class))
		return failure_set(f, ERR_SYNTAX,
		    "line %u: `%.*s` is no class of replies", rule->line,
		    SPAN_ARG(class));
	if (!parse_verdict(verdict, &rule->verdict))
		return failure_set(f, ERR_SYNTAX,
		    "line %u: `%.*s` is not reply, temporary or keep",
		    rule->line, SPAN_ARG(verdict));
	if (!parse_when(judge, when, rule))
		return failure_set(f, ERR_SYNTAX,
		    "line %u: `%.*s` are no codes: write 550,5.1. or -",
		    rule->line, SPAN_ARG(when));
	if (line.len == 0)
		return failure_set(f, ERR_SYNTAX,
		    "line %u: the pattern is missing: write - for any text",
		    rule->line);
	if (span_eq(line, SPAN("-")))
		return 0;
	struct failure why;
	if (pattern_compile(line, 0, &rule->pattern, &why) < 0)
		return failure_set(
		    f, ERR_SYNTAX, "line %u: %s", rule->line, why.text);
	return 0;
}

static void
add_rule(struct judge *judge, const struct judge_rule *rule)
{
	if (judge->count == judge->capacity) {
		judge->capacity = judge->capacity ? judge->capacity * 2 : 64;
		judge->rules = mem_resize(
		    judge->rules, judge->capacity, sizeof(judge->rules[0]));
	}
	judge->rules[judge->count++] = *rule;
}

int
judge_read(
    struct span rules, struct judge **ret_judge, struct failure *ret_failure)
{
	struct judge *judge = MEM_NEW(struct judge);
	struct span line;
	unsigned number = 0;

	judge->arena = arena_new();
	while (rule_line_next(&rules, &number, &line)) {
		struct judge_rule rule = { .line = (uint16_t)number };
		int code = parse_rule(judge, line, &rule, ret_failure);
		if (code < 0) {
			judge_free(&judge);
			return code;
		}
		add_rule(judge, &rule);
	}
	*ret_judge = judge;
	return 0;
}

struct judge *
judge_new(void)
{
	struct judge *judge = NULL;
	struct failure why = { 0 };

	/* A mistake in our own rules: the unit test would have failed. */
	if (judge_read(
		span_from(replies_rules, replies_rules_size), &judge, &why) < 0)
		bug(why.text, "replies.rules", 0);
	return judge;
}

void
judge_free(struct judge **judge)
{
	if (*judge == NULL)
		return;
	for (size_t i = 0; i < (*judge)->count; i++)
		pattern_free(&(*judge)->rules[i].pattern);
	mem_free((*judge)->rules);
	arena_free(&(*judge)->arena);
	mem_free(*judge);
	*judge = NULL;
}

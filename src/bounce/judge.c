/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/judge.h"

#include "base/bug.h"
#include "bounce/internal.h"

#include <stdio.h>
#include <string.h>

#define JUDGED_TEXT_MAX 2048 /* of a reply; what it means stands at its front */

/* What a rule's WHEN is compared with. */
struct codes {
	char code[8];
	char status[24];
};

static void
format_codes(const struct refusal *refusal, struct codes *codes)
{
	memset(codes, 0, sizeof(*codes));
	if (refusal->code != 0)
		(void)snprintf(
		    codes->code, sizeof(codes->code), "%u", refusal->code);
	if (refusal->status_class != 0)
		(void)snprintf(codes->status, sizeof(codes->status), "%u.%u.%u",
		    refusal->status_class, refusal->status_subject,
		    refusal->status_detail);
}

/* "550", "550-5.1.1", "5.1.1", "#5.1.1": in the middle of a text that was
 * several lines they would stand between words that belong together. */
static bool
is_code(struct span word)
{
	size_t digits = 0, dots = 0;

	for (size_t i = 0; i < word.len; i++) {
		char c = word.ptr[i];
		if (c >= '0' && c <= '9')
			digits++;
		else if (c == '.')
			dots++;
		else if (c != '-' && c != '#')
			return false;
	}
	return (digits == 3 && dots == 0) || dots == 2;
}

/* One line without codes and with single spaces. */
static struct span
plain_text(struct span text, char buffer[static JUDGED_TEXT_MAX])
{
	size_t length = 0, at = 0;

	while (at < text.len) {
		size_t start = at;
		while (at < text.len && (unsigned char)text.ptr[at] > ' ')
			at++;
		struct span word = span_slice(text, start, at - start);
		while (at < text.len && (unsigned char)text.ptr[at] <= ' ')
			at++;
		if (word.len == 0 || is_code(word))
			continue;
		if (length + word.len + 1 > JUDGED_TEXT_MAX)
			break;
		if (length > 0)
			buffer[length++] = ' ';
		memcpy(buffer + length, word.ptr, word.len);
		length += word.len;
	}
	return span_from(buffer, length);
}

static bool
is_when(const struct judge_rule *rule, const struct codes *codes)
{
	if (rule->when_count == 0)
		return true;
	for (size_t i = 0; i < rule->when_count; i++) {
		struct span prefix = rule->when[i];
		/* "5.1.1" is not to fit 5.1.10. */
		bool whole = prefix.len >= 5;
		struct span status = span_of(codes->status);
		if (whole ? span_eq(status, prefix)
			  : span_starts(status, prefix))
			return true;
		if (span_starts(span_of(codes->code), prefix))
			return true;
	}
	return false;
}

static bool concerns_address(enum reply_class class)
{
	return class == CLASS_NO_SUCH_USER || class == CLASS_NO_SUCH_DOMAIN ||
	       class == CLASS_MOVED || class == CLASS_MAILBOX_DISABLED;
}

void
judge_reply(const struct judge *judge, const struct refusal *refusal,
    struct judgement *ret_judgement)
{
	char buffer[JUDGED_TEXT_MAX];
	struct span text = plain_text(refusal->text, buffer);
	struct pattern_sieve sieve;
	struct codes codes;
	struct judgement j = { .class = CLASS_OTHER };

	format_codes(refusal, &codes);
	pattern_sieve_fill(&sieve, text);
	j.is_permanent = refusal->code != 0 ? refusal->code >= 500
					    : refusal->status_class == 5;
	for (size_t i = 0; i < judge->count; i++) {
		const struct judge_rule *rule = &judge->rules[i];
		if (!is_when(rule, &codes))
			continue;
		if (rule->pattern != NULL &&
		    (!pattern_may_match(rule->pattern, &sieve) ||
			!pattern_matches(rule->pattern, text)))
			continue;
		j.class = rule->class;
		j.rule = rule->line;
		if (rule->verdict == VERDICT_TEMPORARY)
			j.is_permanent = false;
		j.suppresses = j.is_permanent &&
			       rule->verdict == VERDICT_REPLY &&
			       concerns_address(rule->class);
		break;
	}
	*ret_judgement = j;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "deliver/internal.h"

#define GREYLIST_DELAY_US (5 * US_PER_MIN)

struct result
result_of_fate(const struct smtp_client_fate *fate)
{
	struct result r = {
		.kind = SPOOL_DEFERRED,
		.local = fate->local,
		.step = smtp_client_step_name(fate->step),
		.reply = fate->reply,
	};
	/* Decided before a word was said. */
	if (fate->step == SMTP_CLIENT_STEP_IDLE)
		r.step = smtp_client_step_name(SMTP_CLIENT_STEP_MAIL);
	if (fate->kind == SMTP_FATE_DELIVERED) {
		r.kind = SPOOL_DELIVERED;
		r.relayed = fate->relayed_without_dsn;
	} else if (fate->kind == SMTP_FATE_PERMANENT) {
		r.kind = SPOOL_BOUNCED;
	} else {
		r.duplicate_risk = fate->unknown;
	}
	return r;
}

/* RFC 5321 §4.5.3.1.10: 452 to RCPT, of old 552, says that there are too many
 * recipients; those before it are fine. (Another 552 bounces.) */
static bool
is_too_many(const struct result *r)
{
	const struct enhanced_code *e = &r->reply.enhanced;
	return r->kind == SPOOL_DEFERRED &&
	       (r->reply.code == 452 || r->reply.code == 552) &&
	       span_eq(span_of(r->step), SPAN("rcpt")) &&
	       (e->class == 0 || (e->subject == 5 && e->detail == 3));
}

void
result_mark_again(struct result *results, size_t count)
{
	bool progress = false;
	for (size_t i = 0; i < count; i++)
		progress |= results[i].kind == SPOOL_DELIVERED;
	for (size_t i = 0; i < count; i++)
		results[i].again = progress && is_too_many(&results[i]);
}

static bool
is_same_run(const struct result *a, const struct result *b)
{
	if (a->kind != b->kind || a->again != b->again)
		return false;
	return a->kind == SPOOL_DEFERRED || a->reply.code == b->reply.code;
}

size_t
result_make_runs(const struct result *results, size_t count, struct run *runs)
{
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && is_same_run(&results[i - 1], &results[i])) {
			runs[n - 1].count++;
			continue;
		}
		runs[n++] = (struct run){ .first = (uint32_t)i, .count = 1 };
	}
	return n;
}

static bool
contains_nocase(struct span text, struct span word)
{
	for (; text.len >= word.len; text = span_skip(text, 1)) {
		if (span_starts_nocase(text, word))
			return true;
	}
	return false;
}

int64_t
result_min_delay_us(const struct result *result)
{
	if (result->kind != SPOOL_DEFERRED || result->local)
		return 0;
	bool grey = contains_nocase(result->reply.text, SPAN("greylist")) ||
		    contains_nocase(result->reply.text, SPAN("graylist"));
	return grey ? GREYLIST_DELAY_US : 0;
}

static bool
says_any(struct span text, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (contains_nocase(text, span_of(*words)))
			return true;
	}
	return false;
}

enum result_pace
result_pace(const struct result *result)
{
	static const char *const crowded[] = { "too many connections",
		"concurrent", "too many concurrent", "too many sessions",
		NULL };
	static const char *const fast[] = { "too many", "rate", "throttl",
		"slow down", "limit", NULL };
	const struct reply *r = &result->reply;
	if (result->kind != SPOOL_DEFERRED || result->local ||
	    r->code / 100 != 4)
		return RESULT_PACE_FINE;
	bool of_policy = r->enhanced.class == 4 && r->enhanced.subject == 7;
	if (says_any(r->text, crowded) && (r->code == 421 || of_policy))
		return RESULT_PACE_CROWDED;
	if (r->code == 421 || (of_policy && says_any(r->text, fast)))
		return RESULT_PACE_FAST;
	return RESULT_PACE_FINE;
}

struct span
result_status(const struct result *result, struct arena *arena)
{
	const struct enhanced_code *e = &result->reply.enhanced;
	unsigned class = 4;
	if (result->kind == SPOOL_DELIVERED)
		class = 2;
	else if (result->kind != SPOOL_DEFERRED)
		class = 5;
	/* A server may pair 550 with 4.7.1; a report must not contradict what
	 * became of the recipient (RFC 3464 §2.3.4). */
	if (e->class == 0)
		return arena_printf(arena, "%u.0.0", class);
	return arena_printf(arena, "%u.%u.%u", class, (unsigned)e->subject,
	    (unsigned)e->detail);
}

/* Replies come with lines joined by '\n'; logs and events have one line. */
static struct span
flatten(struct span text, struct arena *arena)
{
	struct span copy = arena_dup(arena, text);
	char *p = (char *)(uintptr_t)copy.ptr;
	for (size_t i = 0; i < copy.len; i++) {
		if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
			p[i] = ' ';
	}
	return copy;
}

struct span
result_line(const struct result *result, struct arena *arena)
{
	if (result->local || result->reply.code == 0)
		return flatten(result->reply.text, arena);
	return flatten(reply_format(&result->reply, arena), arena);
}

/*
 * A greeting of 521 or 556 (RFC 7504) says that this host, or this domain,
 * never takes mail. Everything else in place of 220, 554 included, speaks of
 * us or of the moment (RFC 5321 §3.1: "no SMTP service here", in practice a
 * block list or a full server): another host may think otherwise, and if none
 * does, the mail waits.
 */
bool
result_greeting_is_final(const struct reply *reply)
{
	return reply->code == 521 || reply->code == 556;
}

struct result
result_of_resolve(enum resolve_result resolve, struct span problem)
{
	/* clang-format off */
	static const struct {
		enum spool_outcome_kind kind;
		struct enhanced_code code;
		const char *text;
	} table[] = {
		[RESOLVE_OK]         = { SPOOL_DEFERRED, { 4, 3, 4 }, "the domain could not be looked up" },
		[RESOLVE_TEMPORARY]  = { SPOOL_DEFERRED, { 4, 3, 4 }, "the domain could not be looked up" },
		[RESOLVE_NO_DOMAIN]  = { SPOOL_BOUNCED,  { 1, 2, 5 }, "the domain does not exist" },
		[RESOLVE_NULL_MX]    = { SPOOL_BOUNCED,  { 1, 10, 5 }, "the domain does not accept mail (null MX)" },
		[RESOLVE_NO_ADDRESS] = { SPOOL_BOUNCED,  { 4, 4, 5 }, "the domain has no mail server with an address" },
		[RESOLVE_PRIVATE]    = { SPOOL_BOUNCED,  { 4, 4, 5 }, "the domain's mail servers have only private addresses" },
		[RESOLVE_LOOP]       = { SPOOL_BOUNCED,  { 4, 6, 5 }, "mail for the domain loops back to this server" },
	};

	/* clang-format on */
	BUG_UNLESS((size_t)resolve < sizeof table / sizeof table[0]);
	struct result r = {
		.kind = table[resolve].kind,
		.local = true,
		.step = "resolve",
		.reply = { .enhanced = table[resolve].code, .text = problem },
	};
	if (problem.len == 0)
		r.reply.text = span_of(table[resolve].text);
	return r;
}

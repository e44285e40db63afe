/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Machine-readable reports: groups of fields as RFC 3464 and RFC 5965 define
 * them, wherever in the message they stand.
 */

#include "report/returned_read.h"

#include "base/bug.h"

#include <string.h>

/* Of one field: a header may be folded into any number of lines. */
enum { CONTINUATIONS_MAX = 32, LINE_MAX_OCTETS = 1000 };

struct reading {
	const struct judge *judge;
	struct arena *arena;
	struct returned_report *report;
	struct returned_recipient *recipients;
	bool is_automatic;
};

/* The fields of one group that matter. */
enum field_name {
	FIELD_FINAL,
	FIELD_ORIGINAL,
	FIELD_ACTION,
	FIELD_STATUS,
	FIELD_MTA,
	FIELD_DIAGNOSTIC,
	FIELD_REPORTING,
	FIELD_FEEDBACK,
	FIELD_AGENT,
	FIELD_MAIL_FROM,
	FIELD_RCPT_TO,
	FIELD_DOMAIN,
	FIELD_AUTO,
	FIELD_RETURN_PATH,
	FIELD_TO,
	FIELDS
};

static const char *const field_names[FIELDS] = { "Final-Recipient",
	"Original-Recipient", "Action", "Status", "Remote-MTA",
	"Diagnostic-Code", "Reporting-MTA", "Feedback-Type", "User-Agent",
	"Original-Mail-From", "Original-Rcpt-To", "Reported-Domain",
	"Auto-Submitted", "Return-Path", "To" };

static const char *const kind_names[] = {
	[RETURNED_NONE] = "none",
	[RETURNED_DELIVERY_REPORT] = "delivery_report",
	[RETURNED_FEEDBACK_REPORT] = "feedback_report",
	[RETURNED_AUTOMATIC_REPLY] = "automatic_reply",
};

static const char *const action_names[] = {
	[ACTION_FAILED] = "failed",
	[ACTION_DELAYED] = "delayed",
	[ACTION_DELIVERED] = "delivered",
	[ACTION_RELAYED] = "relayed",
	[ACTION_EXPANDED] = "expanded",
};

const char *
returned_kind_name(enum returned_kind kind)
{
	BUG_UNLESS((size_t)kind < sizeof kind_names / sizeof *kind_names);
	return kind_names[kind];
}

/* ---- lines ------------------------------------------------------------- */

static struct span
next_line(struct span *rest)
{
	struct span line = span_cut(rest, '\n');

	if (line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* A field with its continuation lines as one, as far as it is read. */
static struct span
next_field(struct span *rest, struct arena *arena)
{
	struct span line = span_slice(next_line(rest), 0, LINE_MAX_OCTETS);

	for (unsigned i = 0; line.len > 0 && rest->len > 0 &&
			     (rest->ptr[0] == ' ' || rest->ptr[0] == '\t');
	     i++) {
		struct span more = span_trim(next_line(rest));
		if (i >= CONTINUATIONS_MAX || more.len == 0)
			continue;
		line = span_slice(
		    arena_printf(arena, "%.*s %.*s", SPAN_ARG(line),
			SPAN_ARG(span_slice(more, 0, LINE_MAX_OCTETS))),
		    0, LINE_MAX_OCTETS);
	}
	return line;
}

static void
take_field(struct span line, struct span values[static FIELDS])
{
	struct span rest = line, name = span_cut(&rest, ':');

	if (name.len == line.len)
		return;
	for (int i = 0; i < FIELDS; i++) {
		if (values[i].len == 0 &&
		    span_eq_nocase(span_trim(name), span_of(field_names[i])))
			values[i] = span_trim(rest);
	}
}

/* ---- groups ------------------------------------------------------------ */

static struct span
behind_type(struct span value)
{
	size_t semicolon = span_find(value, ';');

	return semicolon == SIZE_MAX
		   ? value
		   : span_trim(span_skip(value, semicolon + 1));
}

static void
judge_recipient(const struct reading *g, struct returned_recipient *r)
{
	struct refusal refusal = { .text = r->reply };
	struct judgement judgement;
	struct span rest = r->status;
	uint64_t number[3] = { 0 }, code = 0;
	bool good = rest.len > 0;

	for (int i = 0; i < 3 && good; i++)
		good = span_to_u64(span_cut(&rest, '.'), 999, &number[i]);
	if (good) {
		refusal.status_class = (uint8_t)number[0];
		refusal.status_subject = (uint16_t)number[1];
		refusal.status_detail = (uint16_t)number[2];
	}
	if (span_to_u64(span_slice(r->reply, 0, 3), 599, &code) && code >= 400)
		refusal.code = (uint16_t)code;
	judge_reply(g->judge, &refusal, &judgement);
	r->class = judgement.class;
	r->suppresses = r->action == ACTION_FAILED && judgement.suppresses;
}

static void
append(struct reading *g, const struct returned_recipient *r)
{
	size_t count = g->report->recipient_count;

	/* Full at each power of two. */
	if (g->recipients == NULL || (count & (count - 1)) == 0) {
		struct returned_recipient *more = ARENA_ARRAY(g->arena,
		    struct returned_recipient, count == 0 ? 1 : count * 2);
		for (size_t i = 0; i < count && g->recipients != NULL; i++)
			more[i] = g->recipients[i];
		g->recipients = more;
	}
	g->recipients[count] = *r;
	g->report->recipient_count = count + 1;
}

static void
add_recipient(struct reading *g, const struct span v[static FIELDS])
{
	struct returned_recipient r = {
		.address = behind_type(v[FIELD_FINAL]),
		.original = behind_type(v[FIELD_ORIGINAL]),
		.status = span_slice(
		    v[FIELD_STATUS], 0, span_find(v[FIELD_STATUS], ' ')),
		.remote_mta = behind_type(v[FIELD_MTA]),
		.reply = behind_type(v[FIELD_DIAGNOSTIC]),
	};
	bool known = false;

	for (int i = 0; i <= ACTION_EXPANDED && !known; i++) {
		known = span_starts_nocase(
		    v[FIELD_ACTION], span_of(action_names[i]));
		r.action = (enum returned_action)i;
	}
	if (!known || g->report->recipient_count == REPORT_RECIPIENTS_MAX)
		return;
	judge_recipient(g, &r);
	append(g, &r);
}

static void
add_feedback(struct reading *g, const struct span v[static FIELDS])
{
	struct returned_report *r = g->report;

	r->feedback_type = v[FIELD_FEEDBACK];
	r->user_agent = v[FIELD_AGENT];
	r->original_mail_from = v[FIELD_MAIL_FROM];
	r->original_rcpt_to = v[FIELD_RCPT_TO];
	r->reported_domain = v[FIELD_DOMAIN];
}

static void
take_group(struct reading *g, const struct span v[static FIELDS], bool is_first)
{
	struct returned_report *report = g->report;

	if (is_first) {
		g->is_automatic =
		    span_starts_nocase(v[FIELD_AUTO], SPAN("auto-"));
		return;
	}
	if (v[FIELD_FINAL].len > 0 && v[FIELD_ACTION].len > 0)
		add_recipient(g, v);
	else if (v[FIELD_REPORTING].len > 0)
		report->reporting_mta = behind_type(v[FIELD_REPORTING]);
	else if (v[FIELD_FEEDBACK].len > 0)
		add_feedback(g, v);
	if (v[FIELD_RETURN_PATH].len > 0)
		report->return_path = v[FIELD_RETURN_PATH];
	if (v[FIELD_TO].len > 0)
		report->to = v[FIELD_TO];
}

void
returned_read(const struct judge *judge, struct span message,
    struct arena *arena, struct returned_report *ret_report)
{
	struct span rest =
	    arena_dup(arena, span_slice(message, 0, REPORT_BYTES_MAX));
	struct span values[FIELDS] = { 0 };
	struct reading g = {
		.judge = judge, .arena = arena, .report = ret_report
	};
	bool is_first = true;

	*ret_report = (struct returned_report){ .kind = RETURNED_NONE };
	while (rest.len > 0) {
		struct span line = next_field(&rest, arena);
		if (line.len > 0) {
			take_field(line, values);
			if (rest.len > 0)
				continue;
		}
		take_group(&g, values, is_first);
		memset(values, 0, sizeof values);
		is_first = false;
	}
	ret_report->recipients = g.recipients;
	if (ret_report->feedback_type.len > 0)
		ret_report->kind = RETURNED_FEEDBACK_REPORT;
	else if (ret_report->recipient_count > 0)
		ret_report->kind = RETURNED_DELIVERY_REPORT;
	else if (g.is_automatic)
		ret_report->kind = RETURNED_AUTOMATIC_REPLY;
}

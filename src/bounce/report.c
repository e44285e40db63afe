/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/report.h"

#include "base/bug.h"
#include "base/mem.h"
#include "bounce/internal.h"

#include <string.h>

#define REPLY_BYTES_MAX 2000

struct bounce_reader {
	const struct judge *judge;
	struct text_rules *rules;
};

/* One message being read. */
struct work {
	const struct bounce_reader *reader;
	struct arena *arena;
	struct bounce_report *report;
	struct parts *parts;
	struct text_report *text;
	struct bounce_recipient *recipients;
	size_t count, capacity;
	struct span from, subject; /* decoded */
	struct span reporter, sender; /* addresses: From and To */
	bool is_list; /* the original went to a list, not to its To */
};

struct bounce_reader *
bounce_reader_new(const struct judge *judge)
{
	struct bounce_reader *reader = MEM_NEW(struct bounce_reader);

	reader->judge = judge;
	reader->rules = text_rules_new();
	return reader;
}

void
bounce_reader_free(struct bounce_reader **reader)
{
	if (*reader == NULL)
		return;
	text_rules_free(&(*reader)->rules);
	mem_free(*reader);
	*reader = NULL;
}

/* ---- recipients --------------------------------------------------------- */

static struct bounce_recipient *
add_recipient(struct work *w, struct span address)
{
	for (size_t i = 0; i < w->count; i++) {
		if (span_eq_nocase(w->recipients[i].address, address))
			return NULL;
	}
	if (w->count == REPORT_RECIPIENTS_MAX)
		return NULL;
	if (w->count == w->capacity) {
		size_t capacity = w->capacity != 0 ? w->capacity * 2 : 8;
		struct bounce_recipient *more =
		    ARENA_ARRAY(w->arena, struct bounce_recipient, capacity);
		for (size_t i = 0; i < w->count; i++)
			more[i] = w->recipients[i];
		w->recipients = more;
		w->capacity = capacity;
	}
	struct bounce_recipient *r = &w->recipients[w->count++];
	*r = (struct bounce_recipient){ .address = address };
	return r;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "5.1.1" at the start of s, behind "#" maybe. */
static bool
take_status(struct span s, struct refusal *refusal)
{
	uint64_t subject, detail;

	if (s.len > 0 && s.ptr[0] == '#')
		s = span_skip(s, 1);
	if (s.len < 5 || (s.ptr[0] != '4' && s.ptr[0] != '5') ||
	    s.ptr[1] != '.')
		return false;
	struct span rest = span_skip(s, 2);
	struct span first = span_cut(&rest, '.');
	size_t digits = 0;
	while (digits < rest.len && digits < 4 && is_digit(rest.ptr[digits]))
		digits++;
	if (!span_to_u64(first, 999, &subject) ||
	    !span_to_u64(span_slice(rest, 0, digits), 999, &detail))
		return false;
	refusal->status_class = (uint8_t)(s.ptr[0] - '0');
	refusal->status_subject = (uint16_t)subject;
	refusal->status_detail = (uint16_t)detail;
	return true;
}

static bool
take_code(struct span s, struct refusal *refusal)
{
	if (s.len < 3 || (s.ptr[0] != '4' && s.ptr[0] != '5') ||
	    !is_digit(s.ptr[1]) || s.ptr[1] > '7' || !is_digit(s.ptr[2]))
		return false;
	if (s.len > 3 && strchr(" -:<;,\t\n)", s.ptr[3]) == NULL)
		return false;
	refusal->code = (uint16_t)((s.ptr[0] - '0') * 100 +
				   (s.ptr[1] - '0') * 10 + (s.ptr[2] - '0'));
	return true;
}

/* The first reply code and the first telling status in a text. */
static void
scan_codes(struct span text, struct refusal *refusal)
{
	for (size_t i = 0; i < text.len; i++) {
		const char *before = i > 0 ? &text.ptr[i - 1] : " ";
		if (strchr(" (:-\t\n#", *before) == NULL)
			continue;
		struct span at = span_skip(text, i);
		if (refusal->code == 0 && *before != '-' &&
		    take_code(at, refusal))
			continue;
		bool vague = refusal->status_class == 0 ||
			     (refusal->status_subject == 0 &&
				 refusal->status_detail == 0);
		if (vague)
			(void)take_status(at, refusal);
	}
}

static struct span
one_line(struct span text, struct arena *arena)
{
	char *line = arena_alloc(arena, text.len + 1);
	size_t length = 0;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		if (c == '\n' || c == '\t')
			c = ' ';
		if (c != ' ' || (length > 0 && line[length - 1] != ' '))
			line[length++] = c;
	}
	return span_trim(span_from(line, length));
}

static void
judge_recipient(struct work *w, struct bounce_recipient *r)
{
	struct refusal refusal = { .text = r->reply };
	struct judgement j;

	r->reply = refusal.text = one_line(r->reply, w->arena);
	(void)take_status(r->status, &refusal);
	scan_codes(r->reply, &refusal);
	bool failed = r->action == ACTION_FAILED;
	if (refusal.code == 0 && refusal.status_class == 0)
		refusal.status_class = failed ? 5 : 4;
	if (r->status.len == 0 &&
	    (refusal.status_subject != 0 || refusal.status_detail != 0))
		r->status =
		    arena_printf(w->arena, "%u.%u.%u", refusal.status_class,
			refusal.status_subject, refusal.status_detail);
	judge_reply(w->reader->judge, &refusal, &j);
	r->class = j.class;
	r->is_permanent = failed;
	r->suppresses = failed && j.suppresses;
}

/* ---- machine-readable parts --------------------------------------------- */

static enum bounce_action
action_of(struct span value)
{
	static const struct {
		const char *name;
		enum bounce_action action;
	} names[] = { { "delayed", ACTION_DELAYED },
		{ "delivered", ACTION_DELIVERED },
		{ "relayed", ACTION_RELAYED },
		{ "expanded", ACTION_EXPANDED } };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (span_starts_nocase(value, span_of(names[i].name)))
			return names[i].action;
	}
	return ACTION_FAILED;
}

static struct span
after_type(struct span value)
{
	size_t type = span_find(value, ';');

	if (type != SIZE_MAX && type < 20)
		value = span_skip(value, type + 1);
	return span_slice(span_trim(value), 0, REPLY_BYTES_MAX);
}

/* "rfc822; joe@example.com", or a name that only the reporter knows. */
static struct span
recipient_of(struct span value)
{
	struct span address = address_of_field(value);
	struct span name = after_type(value);

	if (address.len > 0)
		return address;
	return span_slice(span_cut(&name, ' '), 0, 320);
}

static void
read_group_field(struct work *w, const struct field *f,
    struct bounce_recipient *found, bool *has_action)
{
	if (span_eq_nocase(f->name, SPAN("Final-Recipient")))
		found->final = recipient_of(f->value);
	else if (span_eq_nocase(f->name, SPAN("Original-Recipient")))
		found->original = address_of_field(f->value);
	else if (span_eq_nocase(f->name, SPAN("Action"))) {
		found->action = action_of(f->value);
		*has_action = true;
	} else if (span_eq_nocase(f->name, SPAN("Status")))
		found->status = span_slice(f->value, 0, 100);
	else if (span_eq_nocase(f->name, SPAN("Remote-MTA")))
		found->remote_mta = after_type(f->value);
	else if (span_eq_nocase(f->name, SPAN("Diagnostic-Code")))
		found->reply = after_type(f->value);
	else if (span_eq_nocase(f->name, SPAN("Reporting-MTA")))
		w->report->reporting_mta = after_type(f->value);
	else if (span_eq_nocase(f->name, SPAN("Original-Envelope-Id")))
		w->report->envelope_id = f->value;
}

static void
read_group(struct work *w, struct span *rest)
{
	struct bounce_recipient found = { 0 };
	bool has_action = false;
	struct field f;

	while (field_next(rest, w->arena, &f))
		read_group_field(w, &f, &found, &has_action);
	/* The address that mail was sent to is the one to know. */
	found.address = found.original.len > 0 ? found.original : found.final;
	if (found.address.len == 0)
		return;
	if (!has_action && found.status.len > 0 && found.status.ptr[0] == '4')
		found.action = ACTION_DELAYED;
	if (!has_action && found.status.len > 0 && found.status.ptr[0] == '2')
		found.action = ACTION_DELIVERED;
	/* "5.1.1 (bad destination)" */
	found.status = span_cut(&found.status, ' ');
	struct bounce_recipient *r = add_recipient(w, found.address);
	if (r == NULL)
		return;
	*r = found;
}

static void
read_status(struct work *w, struct span text)
{
	while (text.len > 0) {
		if (text.ptr[0] == '\n')
			text = span_skip(text, 1);
		else
			read_group(w, &text);
	}
}

static const struct part *
find_part(const struct parts *parts, enum part_kind kind)
{
	for (size_t i = 0; i < parts->count; i++) {
		if (parts->part[i].kind == kind)
			return &parts->part[i];
	}
	return NULL;
}

static struct span
without_brackets(struct span s)
{
	s = span_trim(s);
	if (s.len >= 2 && s.ptr[0] == '<' && s.ptr[s.len - 1] == '>')
		s = span_slice(s, 1, s.len - 2);
	return s;
}

static void
read_feedback(struct work *w, struct span text)
{
	struct bounce_feedback *fb = &w->report->feedback;
	struct span *list =
	    ARENA_ARRAY(w->arena, struct span, REPORT_PARTS_MAX);
	struct arena *a = w->arena;
	struct field f;
	struct span rest = text;

	fb->type = field_find(text, "Feedback-Type", a);
	fb->user_agent = field_find(text, "User-Agent", a);
	fb->source_ip = field_find(text, "Source-IP", a);
	fb->arrival_date = field_find(text, "Arrival-Date", a);
	if (fb->arrival_date.len == 0)
		fb->arrival_date = field_find(text, "Received-Date", a);
	fb->reported_domain = field_find(text, "Reported-Domain", a);
	fb->original_envelope_id = field_find(text, "Original-Envelope-Id", a);
	fb->original_mail_from =
	    without_brackets(field_find(text, "Original-Mail-From", a));
	while (field_next(&rest, a, &f)) {
		if (span_eq_nocase(f.name, SPAN("Original-Rcpt-To")) &&
		    fb->recipient_count < REPORT_PARTS_MAX)
			list[fb->recipient_count++] = without_brackets(f.value);
	}
	if (fb->recipient_count == 0 && w->report->original.to.len > 0)
		list[fb->recipient_count++] = w->report->original.to;
	fb->recipients = list;
	w->report->kind = BOUNCE_FEEDBACK_REPORT;
}

/* ---- the original ------------------------------------------------------- */

static void
read_original(struct work *w, struct span text)
{
	struct bounce_original *o = &w->report->original;
	struct bounce_field *fields =
	    ARENA_ARRAY(w->arena, struct bounce_field, REPORT_X_FIELDS_MAX);
	struct field f;

	while (text.len > 0 && !field_is_line(text))
		(void)span_cut(&text, '\n');
	while (field_next(&text, w->arena, &f)) {
		if (span_eq_nocase(f.name, SPAN("Message-ID")))
			o->message_id = without_brackets(f.value);
		else if (span_eq_nocase(f.name, SPAN("Return-Path")))
			o->return_path = without_brackets(f.value);
		else if (span_eq_nocase(f.name, SPAN("List-Post")))
			w->is_list = true;
		else if (span_eq_nocase(f.name, SPAN("From")))
			o->from = address_of_field(f.value);
		else if (span_eq_nocase(f.name, SPAN("To")) && o->to.len == 0)
			o->to = address_of_field(f.value);
		else if (span_eq_nocase(f.name, SPAN("Subject")))
			o->subject = header_to_utf8(f.value, w->arena);
		else if (span_starts_nocase(f.name, SPAN("X-")) &&
			 o->x_field_count < REPORT_X_FIELDS_MAX)
			fields[o->x_field_count++] =
			    (struct bounce_field){ f.name, f.value };
	}
	o->x_fields = fields;
}

/* ---- words -------------------------------------------------------------- */

static bool
is_own(const struct work *w, struct span address)
{
	return span_eq_nocase(address, w->reporter) ||
	       (w->sender.len > 0 && span_eq_nocase(address, w->sender));
}

static void
add_text_recipient(struct work *w, struct span address, struct span reply)
{
	struct bounce_recipient *r = add_recipient(w, address);

	if (r == NULL)
		return;
	r->action = w->text->is_delay ? ACTION_DELAYED : ACTION_FAILED;
	r->reply = span_slice(reply, 0, REPLY_BYTES_MAX);
}

static void
take_failed_header(struct work *w)
{
	struct span value =
	    field_find(w->parts->header, "X-Failed-Recipients", w->arena);
	struct span address;

	while (
	    w->count < REPORT_RECIPIENTS_MAX && address_next(&value, &address))
		add_text_recipient(w, address, w->text->above);
}

static void
take_words(struct work *w)
{
	struct text_report *t = w->text;

	for (size_t i = 0; i < t->count; i++) {
		if (!is_own(w, t->recipients[i].address))
			add_text_recipient(w, t->recipients[i].address,
			    t->recipients[i].reply);
	}
	take_failed_header(w);
	/* Somebody may write to himself. */
	for (size_t i = 0; w->count == 0 && i < t->count; i++)
		add_text_recipient(
		    w, t->recipients[i].address, t->recipients[i].reply);
	if (w->count == 0 && t->maybe.len > 0 && !is_own(w, t->maybe))
		add_text_recipient(w, t->maybe, t->above);
	size_t at = span_find(w->reporter, '@');
	struct span domain =
	    at == SIZE_MAX ? SPAN_EMPTY : span_skip(w->reporter, at + 1);
	if (w->count == 0 && t->local_part.len > 0 && domain.len > 0)
		add_text_recipient(w,
		    arena_printf(w->arena, "%.*s@%.*s", SPAN_ARG(t->local_part),
			SPAN_ARG(domain)),
		    t->above);
}

/* No address in the words, but the looks or the words of a refusal: whom the
 * quoted message was to. */
static void
take_original(struct work *w, bool is_sure)
{
	struct refusal refusal = { .text = span_slice(w->text->above, 0, 1500),
		.status_class = 5 };
	struct judgement j;

	if (w->count > 0 || w->is_list || w->report->original.to.len == 0 ||
	    is_own(w, w->report->original.to))
		return;
	judge_reply(w->reader->judge, &refusal, &j);
	if (is_sure || j.class != CLASS_OTHER)
		add_text_recipient(w, w->report->original.to, w->text->above);
}

static bool
is_automatic(const struct work *w)
{
	struct span section = w->parts->header;
	struct field f;

	while (field_next(&section, w->arena, &f)) {
		struct span line = arena_printf(w->arena, "%.*s: %.*s",
		    SPAN_ARG(f.name),
		    SPAN_ARG(
			header_to_utf8(span_slice(f.value, 0, 900), w->arena)));
		if (text_rule_fits(w->reader->rules, TEXT_AUTO, line))
			return true;
	}
	return false;
}

/* By a header that only reports have. */
static bool
is_declared(const struct work *w)
{
	struct span section = w->parts->header;
	struct span type = field_find(section, "Content-Type", w->arena);

	return field_find(section, "X-Failed-Recipients", w->arena).len > 0 ||
	       span_search(type, SPAN("report-type=delivery-status")) !=
		   SIZE_MAX ||
	       span_search(type, SPAN("report-type=\"delivery-status")) !=
		   SIZE_MAX;
}

static void
read_words(struct work *w)
{
	const struct text_rules *rules = w->reader->rules;
	bool from = text_rule_fits(rules, TEXT_FROM, w->from);
	bool subject = text_rule_fits(rules, TEXT_SUBJECT, w->subject);
	bool automatic = is_automatic(w);
	bool declared = is_declared(w);

	if (automatic && !from && !subject) {
		w->report->kind = BOUNCE_AUTOMATIC_REPLY;
		return;
	}
	if (!from && !subject && !declared)
		return;
	take_words(w);
	take_original(w, from && subject);
	if (w->count > 0 || (from && subject))
		w->report->kind = BOUNCE_TEXT;
	else if (automatic)
		w->report->kind = BOUNCE_AUTOMATIC_REPLY;
}

/* ---- all ---------------------------------------------------------------- */

static void
read_heads(struct work *w)
{
	struct span section = w->parts->header;
	struct arena *a = w->arena;

	w->from = header_to_utf8(field_find(section, "From", a), a);
	w->subject = header_to_utf8(field_find(section, "Subject", a), a);
	w->reporter = address_of_field(w->from);
	w->sender = address_of_field(field_find(section, "To", a));
}

static void
read_texts(struct work *w)
{
	size_t read = 0;

	for (size_t i = 0; i < w->parts->count && read < 3; i++) {
		const struct part *part = &w->parts->part[i];
		if (part->kind == PART_ORIGINAL)
			break;
		if (part->kind != PART_TEXT && part->kind != PART_HTML)
			continue;
		text_read(w->reader->rules, part->text, w->arena, w->text);
		read++;
		/* An original in the text: what follows belongs to it. */
		if (w->text->below.len > 0)
			break;
	}
}

/* Names that only the reporter knows, where its words may tell addresses. */
static void
prefer_words(struct work *w)
{
	struct bounce_recipient *names = w->recipients;
	size_t count = w->count;

	for (size_t i = 0; i < count; i++) {
		if (span_find(names[i].address, '@') != SIZE_MAX)
			return;
	}
	w->recipients = NULL;
	w->count = w->capacity = 0;
	take_words(w);
	if (w->count > 0)
		return;
	w->recipients = names;
	w->count = w->capacity = count;
}

static void
read_parts(struct work *w)
{
	const struct part *feedback = find_part(w->parts, PART_FEEDBACK);
	const struct part *original = find_part(w->parts, PART_ORIGINAL);
	const struct part *status = find_part(w->parts, PART_DELIVERY_STATUS);

	read_texts(w);
	read_original(w, original != NULL ? original->text : w->text->below);
	if (feedback != NULL) {
		read_feedback(w, feedback->text);
		return;
	}
	if (status != NULL)
		read_status(w, status->text);
	else if (span_search(w->text->above, SPAN("Final-Recipient:")) !=
		 SIZE_MAX)
		read_status(w, w->text->above);
	if (w->count > 0) {
		w->report->kind = BOUNCE_DELIVERY_REPORT;
		prefer_words(w);
		return;
	}
	read_words(w);
}

void
bounce_read(const struct bounce_reader *reader, struct span message,
    struct arena *arena, struct bounce_report *ret_report)
{
	struct bounce_report report = { .kind = BOUNCE_NONE };
	struct work w = { .reader = reader, .arena = arena, .report = &report };

	w.parts = ARENA_NEW(arena, struct parts);
	w.text = ARENA_NEW(arena, struct text_report);
	parts_read(message, arena, w.parts);
	read_heads(&w);
	read_parts(&w);
	if (report.kind == BOUNCE_DELIVERY_REPORT ||
	    report.kind == BOUNCE_TEXT) {
		for (size_t i = 0; i < w.count; i++) {
			if (w.recipients[i].reply.len == 0)
				w.recipients[i].reply =
				    span_slice(w.text->above, 0,
					w.count == 1 ? REPLY_BYTES_MAX : 0);
			judge_recipient(&w, &w.recipients[i]);
		}
		report.recipients = w.recipients;
		report.recipient_count = w.count;
	}
	*ret_report = report;
}

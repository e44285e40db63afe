/* SPDX-License-Identifier: Apache-2.0 */

/* A report as JSON. */

#include "base/bug.h"
#include "bounce/report.h"

static const char *const kind_names[] = {
	[BOUNCE_NONE] = "none",
	[BOUNCE_DELIVERY_REPORT] = "delivery_report",
	[BOUNCE_TEXT] = "bounce",
	[BOUNCE_FEEDBACK_REPORT] = "feedback_report",
	[BOUNCE_AUTOMATIC_REPLY] = "automatic_reply",
};

static const char *const action_names[] = {
	[ACTION_FAILED] = "failed",
	[ACTION_DELAYED] = "delayed",
	[ACTION_DELIVERED] = "delivered",
	[ACTION_RELAYED] = "relayed",
	[ACTION_EXPANDED] = "expanded",
};

const char *
bounce_kind_name(enum bounce_kind kind)
{
	BUG_UNLESS(kind <= BOUNCE_AUTOMATIC_REPLY);
	return kind_names[kind];
}

const char *
bounce_action_name(enum bounce_action action)
{
	BUG_UNLESS(action <= ACTION_EXPANDED);
	return action_names[action];
}

/* Empty texts are left out. */
static void
put_text(struct buf *out, const char *name, struct span value)
{
	if (value.len == 0)
		return;
	buf_printf(out, ",\"%s\":", name);
	buf_append_json(out, value);
}

static void
put_recipient(struct buf *out, const struct bounce_recipient *r)
{
	buf_append_str(out, "{\"address\":");
	buf_append_json(out, r->address);
	put_text(out, "original_address", r->original);
	put_text(out, "final_address", r->final);
	buf_printf(out, ",\"action\":\"%s\"", bounce_action_name(r->action));
	put_text(out, "status", r->status);
	put_text(out, "smtp_reply", r->reply);
	put_text(out, "remote_mta", r->remote_mta);
	buf_printf(out, ",\"class\":\"%s\",\"permanent\":%s,\"suppresses\":%s}",
	    reply_class_name(r->class), r->is_permanent ? "true" : "false",
	    r->suppresses ? "true" : "false");
}

static void
put_feedback(struct buf *out, const struct bounce_feedback *f)
{
	buf_append_str(out, ",\"feedback\":{\"type\":");
	buf_append_json(out, f->type);
	put_text(out, "user_agent", f->user_agent);
	put_text(out, "source_ip", f->source_ip);
	put_text(out, "arrival_date", f->arrival_date);
	put_text(out, "reported_domain", f->reported_domain);
	put_text(out, "original_envelope_id", f->original_envelope_id);
	put_text(out, "original_mail_from", f->original_mail_from);
	buf_append_str(out, ",\"original_recipients\":[");
	for (size_t i = 0; i < f->recipient_count; i++) {
		if (i > 0)
			buf_append_char(out, ',');
		buf_append_json(out, f->recipients[i]);
	}
	buf_append_str(out, "]}");
}

static void
put_original(struct buf *out, const struct bounce_original *o)
{
	/* The first member settles the commas. */
	buf_append_str(out, ",\"original\":{\"message_id\":");
	buf_append_json(out, o->message_id);
	put_text(out, "return_path", o->return_path);
	put_text(out, "from", o->from);
	put_text(out, "to", o->to);
	put_text(out, "subject", o->subject);
	buf_append_str(out, ",\"x_fields\":[");
	for (size_t i = 0; i < o->x_field_count; i++) {
		buf_append_str(out, i > 0 ? ",{\"name\":" : "{\"name\":");
		buf_append_json(out, o->x_fields[i].name);
		buf_append_str(out, ",\"value\":");
		buf_append_json(out, o->x_fields[i].value);
		buf_append_char(out, '}');
	}
	buf_append_str(out, "]}");
}

void
bounce_report_render(const struct bounce_report *report, struct buf *out)
{
	buf_printf(out, "{\"kind\":\"%s\"", bounce_kind_name(report->kind));
	put_text(out, "reporting_mta", report->reporting_mta);
	put_text(out, "envelope_id", report->envelope_id);
	buf_append_str(out, ",\"recipients\":[");
	for (size_t i = 0; i < report->recipient_count; i++) {
		if (i > 0)
			buf_append_char(out, ',');
		put_recipient(out, &report->recipients[i]);
	}
	buf_append_char(out, ']');
	if (report->kind == BOUNCE_FEEDBACK_REPORT)
		put_feedback(out, &report->feedback);
	if (report->kind != BOUNCE_NONE)
		put_original(out, &report->original);
	buf_append_char(out, '}');
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "event/event.h"

#include "base/bug.h"
#include "base/decimal.h"
#include "base/time.h"

static const char *const type_names[EVENT_TYPES] = {
	[EVENT_ACCEPTED] = "accepted",
	[EVENT_DEFERRED] = "deferred",
	[EVENT_DELIVERED] = "delivered",
	[EVENT_BOUNCED] = "bounced",
	[EVENT_EXPIRED] = "expired",
	[EVENT_SUPPRESSED] = "suppressed",
	[EVENT_CANCELLED] = "cancelled",
	[EVENT_REJECTED] = "rejected",
	[EVENT_COMPLAINED] = "complained",
};

const char *
event_type_name(enum event_type type)
{
	BUG_UNLESS(type < EVENT_TYPES);
	return type_names[type];
}

bool
event_type_parse(struct span name, enum event_type *ret_type)
{
	for (int i = 0; i < EVENT_TYPES; i++) {
		if (span_eq(name, span_of(type_names[i]))) {
			*ret_type = (enum event_type)i;
			return true;
		}
	}
	return false;
}

static void
put_name(struct buf *out, const char *name)
{
	buf_append(out, SPAN(",\""));
	buf_append_str(out, name);
	buf_append(out, SPAN("\":"));
}

static void
put_text(struct buf *out, const char *name, struct span value)
{
	if (value.len == 0)
		return;
	put_name(out, name);
	buf_append_json(out, value);
}

static void
put_number(struct buf *out, const char *name, uint64_t value)
{
	if (value == 0)
		return;
	put_name(out, name);
	buf_append_u64(out, value);
}

static void
put_time(struct buf *out, const char *name, int64_t wall_us)
{
	char text[TIME_RFC3339_SIZE];

	if (wall_us != 0)
		put_text(
		    out, name, span_of(time_format_rfc3339(wall_us, text)));
}

/* Durations go out as seconds with millisecond digits. */
static void
put_seconds(struct buf *out, const char *name, int64_t us)
{
	if (us <= 0)
		return;
	/* The point takes the place of the 1 that keeps the zeros. */
	uint64_t ms = (uint64_t)(us % US_PER_S / US_PER_MS);
	put_name(out, name);
	buf_append_u64(out, (uint64_t)(us / US_PER_S));
	char *point = buf_reserve(out, DECIMAL_SIZE);
	buf_append_u64(out, 1000 + ms);
	*point = '.';
}

static void
put_message(const struct event *e, struct buf *out)
{
	char id[MSGID_TEXT_SIZE];

	if (e->mno == 0)
		put_text(out, "message_id",
		    span_of(msgid_format(&e->message_id, id)));
	put_number(out, "mno", e->mno);
	put_number(out, "recipients", e->recipients);
	put_text(out, "tenant", e->tenant);
	put_text(out, "stream", e->stream);
	put_text(out, "sender", e->sender);
	put_text(out, "recipient", e->recipient);
	put_text(out, "header_from", e->header_from);
	put_text(out, "subject", e->subject);
	put_text(out, "origin", e->origin);
	put_text(out, "warning", e->warning);
	put_text(out, "user", e->user);
	put_text(out, "client", e->client);
	put_number(out, "size", e->size);
}

static void
put_attempt(const struct event *e, struct buf *out)
{
	put_number(out, "attempt", e->attempt);
	put_number(out, "code", e->code);
	put_text(out, "enhanced", e->enhanced);
	put_text(out, "reply", e->reply);
	put_text(out, "class", e->class);
	if (e->suppresses)
		buf_append_str(out, ",\"suppresses\":true");
	put_text(out, "cause", e->cause);
	put_text(out, "step", e->step);
	put_text(out, "route", e->route);
	put_text(out, "site", e->site);
	put_text(out, "peer_host", e->peer_host);
	put_text(out, "peer_address", e->peer_address);
	put_text(out, "source_address", e->source_address);
	put_text(out, "tls", e->tls);
	if (e->tls.len > 0)
		buf_append_str(out, e->tls_verified
					? ",\"tls_verified\":true"
					: ",\"tls_verified\":false");
	put_text(out, "tls_policy", e->tls_policy);
	put_seconds(out, "attempt_seconds", e->attempt_us);
	put_seconds(out, "age_seconds", e->age_us);
	put_time(out, "next_attempt", e->next_attempt_us);
	if (e->duplicate_risk)
		buf_append_str(out, ",\"duplicate_risk\":true");
}

void
event_render(const struct event *e, struct buf *out)
{
	char id[MSGID_TEXT_SIZE], time[TIME_RFC3339_SIZE];

	buf_append(out, SPAN("{\"type\":\""));
	buf_append_str(out, event_type_name(e->type));
	buf_append(out, SPAN("\",\"time\":\""));
	buf_append_str(out, time_format_rfc3339(e->time_us, time));
	buf_append(out, SPAN("\",\"event_id\":\""));
	buf_append_str(out, msgid_format(&e->event_id, id));
	buf_append_char(out, '"');
	put_message(e, out);
	put_attempt(e, out);
	buf_append_str(out, "}\n");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"

static void
append_field(struct buf *out, const char *before, const char *text)
{
	if (text[0] == '\0')
		return;
	buf_append_str(out, before);
	append_plain(out, span_of(text));
}

/* The reply of a peer has its codes in it; a sentence of our own has not. */
static void
append_reply(struct buf *out, const json_t *event)
{
	const char *reply = text_at(event, "reply");

	if (reply[0] < '2' || reply[0] > '5')
		append_field(out, "  ", text_at(event, "enhanced"));
	append_field(out, "  ", reply);
}

void
event_line(const json_t *event, struct buf *out)
{
	const char *sender = text_at(event, "sender");
	char when[WHEN_SIZE];

	buf_printf(
	    out, "%s  %-10s", text_at(event, "time"), text_at(event, "type"));
	append_field(out, "  ", text_at(event, "message_id"));
	buf_append_str(out, "  ");
	append_plain(out, span_of(sender[0] != '\0' ? sender : "<>"));
	append_field(out, " -> ", text_at(event, "recipient"));
	append_reply(out, event);
	append_field(out, "  at ", text_at(event, "peer_host"));
	if (text_at(event, "next_attempt")[0] != '\0')
		buf_printf(out, "  next %s",
		    when_next(text_at(event, "next_attempt"), when));
}

static void
print_event(const json_t *event)
{
	struct buf line = BUF_EMPTY;

	event_line(event, &line);
	puts(buf_cstring(&line));
	buf_done(&line);
}

static void
print_events(const json_t *root)
{
	const json_t *event;
	size_t i;

	json_array_foreach(json_object_get(root, "events"), i, event)
	    print_event(event);
}

/* ---- a line of a stream ------------------------------------------------ */

struct printer {
	bool json;
	void (*print)(const json_t *line);
};

static void
print_line(void *arg, struct span line)
{
	const struct printer *p = arg;
	json_t *root;

	if (p->json) {
		printf("%.*s\n", SPAN_ARG(line));
		return;
	}
	root = json_loadb(line.ptr, line.len, JSON_ALLOW_NUL, NULL);
	if (root != NULL)
		p->print(root);
	json_decref(root);
}

int
cmd_events(struct invocation *inv)
{
	bool follows = option_value(inv, "follow") != NULL;
	struct printer printer = { inv->json, print_event };
	const struct pair query[] = {
		{ "type", option_value(inv, "type") },
		{ "recipient", option_value(inv, "recipient") },
		{ "message", option_value(inv, "message") },
		{ "tenant", option_value(inv, "tenant") },
		{ "since", option_value(inv, "since") },
		{ "until", option_value(inv, "until") },
		{ "limit", option_value(inv, "limit") },
		{ "follow", follows ? "1" : NULL },
		{ 0 },
	};

	if (follows)
		return ask_lines(
		    inv, "/api/v1/events", query, print_line, &printer);
	return get_and_show(inv, "/api/v1/events", query, print_events);
}

/* ---- trace ------------------------------------------------------------- */

/* "17:44:49.123  #7 client 192.0.2.1  <- 250 ok": `<-` came to us. */
static void
print_trace(const json_t *line)
{
	struct span time = span_of(text_at(line, "time"));
	const char *direction = text_at(line, "direction");
	const char *arrow = direction[0] == 'i'   ? "<-"
			    : direction[0] == 'o' ? "->"
						  : "--";
	struct buf text = BUF_EMPTY;

	append_plain(&text, span_slice(time, 11, 12));
	if (number_at(line, "session") > 0)
		buf_printf(&text, "  #%lld", number_at(line, "session"));
	append_field(&text, " ", text_at(line, "side"));
	append_field(&text, " ", text_at(line, "peer"));
	buf_printf(&text, "  %s ", arrow);
	append_plain(&text, span_of(text_at(line, "line")));
	puts(buf_cstring(&text));
	buf_done(&text);
}

int
cmd_trace(struct invocation *inv)
{
	struct printer printer = { inv->json, print_trace };
	const struct pair query[] = {
		{ "peer", option_value(inv, "peer") },
		{ 0 },
	};

	return ask_lines(inv, "/api/v1/trace", query, print_line, &printer);
}

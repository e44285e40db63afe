/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "cli/internal.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static void
print_traffic(const json_t *root)
{
	const json_t *in = json_object_get(root, "inbound");
	const json_t *out = json_object_get(root, "outbound");

	print_fact("in",
	    "%lld sessions open; %lld messages accepted, %lld refused; %lld "
	    "failed logins",
	    number_at(in, "sessions_open"), number_at(in, "messages_accepted"),
	    number_at(in, "messages_refused"), number_at(in, "auth_failures"));
	print_fact("out",
	    "%lld connections open; %lld delivered, %lld deferred, %lld "
	    "bounced, %lld expired",
	    number_at(out, "connections_open"), number_at(out, "delivered"),
	    number_at(out, "deferred"), number_at(out, "bounced"),
	    number_at(out, "expired"));
}

bool
status_print(const json_t *root)
{
	const json_t *queue = json_object_get(root, "queue");
	const json_t *spool = json_object_get(root, "spool");
	char age[WHEN_SIZE], free_text[WHEN_SIZE], size[WHEN_SIZE];
	const json_t *line;
	size_t i;

	print_fact("posthouse", "%s on %s: %s, up %s", text_at(root, "version"),
	    text_at(root, "hostname"), text_at(root, "status"),
	    when_past(text_at(root, "started"), age));
	print_fact("queue",
	    "%lld messages with %lld recipients in %lld queues, %lld in "
	    "flight; %lld of %lld sites parked",
	    number_at(queue, "messages"), number_at(queue, "recipients"),
	    number_at(queue, "queues"), number_at(queue, "in_flight"),
	    number_at(queue, "sites_parked"), number_at(queue, "sites"));
	if (number_at(queue, "ending") > 0)
		print_fact("ending", "%lld deliveries, by an operator's order",
		    number_at(queue, "ending"));
	print_traffic(root);
	print_fact("spool", "%s; %lld segments; %s of %s free",
	    text_at(spool, "state"), number_at(spool, "segments"),
	    format_bytes(number_at(spool, "disk_free"), free_text),
	    format_bytes(number_at(spool, "disk_size"), size));
	if (number_at(spool, "loaded_percent") < 100)
		print_fact("loading",
		    "%lld %% of what was queued before the start",
		    number_at(spool, "loaded_percent"));
	print_fact("dnssec", "%s", text_at(root, "dnssec"));
	json_array_foreach(json_object_get(root, "problems"), i, line)
	    print_fact("problem", "%s", json_string_value(line));
	json_array_foreach(json_object_get(root, "warnings"), i, line)
	    print_fact("warning", "%s", json_string_value(line));
	return strcmp(text_at(root, "status"), "ok") == 0;
}

int
cmd_status(struct invocation *inv)
{
	json_t *root;
	bool works;

	if (ask_get(inv, "/api/v1/status", NULL, &root) != 0)
		return 1;
	works = strcmp(text_at(root, "status"), "ok") == 0;
	if (inv->json)
		return print_json(root) + !works;
	(void)status_print(root);
	json_decref(root);
	return works ? 0 : 1;
}

/* ---- top --------------------------------------------------------------- */

static int
look(struct invocation *inv)
{
	static const struct pair largest[] = { { "limit", "15" }, { 0 } };
	json_t *status, *queues;

	if (ask_get(inv, "/api/v1/status", NULL, &status) != 0)
		return 1;
	if (inv->json)
		return print_json(status);
	if (ask_get(inv, "/api/v1/queues", largest, &queues) != 0) {
		json_decref(status);
		return 1;
	}
	if (isatty(STDOUT_FILENO))
		fputs("\033[H\033[2J", stdout); /* home, clear */
	(void)status_print(status);
	putchar('\n');
	queues_print(json_object_get(queues, "queues"),
	    json_object_get(queues, "totals"));
	json_decref(status);
	json_decref(queues);
	return 0;
}

int
cmd_top(struct invocation *inv)
{
	const char *text = option_value(inv, "interval");
	int64_t us = US_PER_S;

	if (text != NULL &&
	    (!time_parse_duration(span_of(text), &us) || us < US_PER_S / 10)) {
		(void)complain(
		    "`%s` is not a duration such as 1s or 500ms", text);
		return usage_error(inv->command, NULL);
	}
	struct timespec pause = { .tv_sec = us / US_PER_S,
		.tv_nsec = us % US_PER_S * 1000 };
	/* Until ^C, or until nobody reads on. */
	while (look(inv) == 0 && fflush(stdout) == 0)
		(void)nanosleep(&pause, NULL);
	return 1;
}

/* ---- reload ------------------------------------------------------------ */

static void
print_reloaded(const json_t *root)
{
	(void)root;
	puts("reloaded");
}

int
cmd_reload(struct invocation *inv)
{
	return post_and_show(
	    inv, "/api/v1/reload", json_object(), print_reloaded);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"
#include "spool/spool.h"

/* ---- looking ----------------------------------------------------------- */

static const char *
state_of(const json_t *q)
{
	if (flag_at(q, "held"))
		return "held";
	return flag_at(q, "parked") ? "parked" : "active";
}

/* Why it waits, in one cell. */
static const char *
note_of(const json_t *q)
{
	return flag_at(q, "held") ? text_at(q, "hold_reason")
				  : text_at(q, "last_reply");
}

void
queues_print(const json_t *queues, const json_t *totals)
{
	static const struct table_column columns[] = { { "TENANT", false },
		{ "STREAM", false }, { "CLASS", false }, { "DOMAIN", false },
		{ "FRESH", true }, { "RETRY", true }, { "OUT", true },
		{ "CONNS", true }, { "NEXT", false }, { "STATE", false },
		{ "NOTE", false } };
	struct table *table = table_new(columns, 11);
	const json_t *q;
	char when[WHEN_SIZE];
	size_t i;

	json_array_foreach(queues, i, q)
	{
		table_text(table, text_at(q, "tenant"));
		table_text(table, text_at(q, "stream"));
		table_text(table, text_at(q, "class"));
		table_text(table, text_at(q, "domain"));
		table_number(table, number_at(q, "fresh"));
		table_number(table, number_at(q, "retry"));
		table_number(table, number_at(q, "in_flight"));
		table_number(table, number_at(q, "site_connections"));
		table_text(table, when_next(text_at(q, "next_attempt"), when));
		table_text(table, state_of(q));
		table_text(table, note_of(q));
	}
	if (i > 0)
		table_print(table);
	table_free(&table);
	if (totals == NULL)
		return;
	printf("%lld deliveries wait in %lld queues (%lld held, %lld parked), "
	       "%lld recipients are on their way\n",
	    number_at(totals, "deliveries"), number_at(totals, "queues"),
	    number_at(totals, "held"), number_at(totals, "parked"),
	    number_at(totals, "in_flight"));
}

static int
get_selected(struct invocation *inv, const char *path, const char *domain,
    json_t **ret_root)
{
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "stream", option_value(inv, "stream") },
		{ "domain", domain },
		{ "site", option_value(inv, "site") },
		{ "class", option_value(inv, "class") },
		{ "limit", option_value(inv, "limit") },
		{ 0 },
	};

	return ask_get(inv, path, query, ret_root);
}

static int
show_selected(struct invocation *inv, const char *path, show_fn *show)
{
	json_t *root;

	if (get_selected(inv, path, option_value(inv, "domain"), &root) != 0)
		return 1;
	return show_answer(inv, root, show);
}

static void
print_summary(const json_t *root)
{
	queues_print(
	    json_object_get(root, "queues"), json_object_get(root, "totals"));
}

int
cmd_queue_summary(struct invocation *inv)
{
	return show_selected(inv, "/api/v1/queues", print_summary);
}

/* The first recipient, and how many more. */
static char *
recipients_of(const json_t *d)
{
	const json_t *list = json_object_get(d, "recipients");
	const char *first = json_string_value(json_array_get(list, 0));
	long long count = number_at(d, "recipient_count");

	if (count > 1)
		return mem_printf(
		    "%s and %lld more", first != NULL ? first : "", count - 1);
	return mem_strdup(first != NULL ? first : "");
}

static void
print_deliveries(const json_t *root)
{
	static const struct table_column columns[] = { { "MESSAGE", false },
		{ "SIZE", true }, { "AGE", false }, { "FROM", false },
		{ "TO", false }, { "TRIES", true }, { "NEXT", false },
		{ "STATE", false }, { "NOTE", false } };
	struct table *table = table_new(columns, 9);
	char text[WHEN_SIZE];
	const json_t *d;
	size_t i;

	json_array_foreach(json_object_get(root, "deliveries"), i, d)
	{
		const char *sender = text_at(d, "sender");
		AUTO_FREE char *recipients = recipients_of(d);

		table_text(table, text_at(d, "message_id"));
		table_text(table, format_bytes(number_at(d, "size"), text));
		table_text(table, when_past(text_at(d, "accepted"), text));
		table_text(table, sender[0] != '\0' ? sender : "<>");
		table_text(table, recipients);
		table_number(table, number_at(d, "attempts"));
		table_text(table, when_next(text_at(d, "next_attempt"), text));
		table_text(table, state_of(d));
		table_text(table, note_of(d));
	}
	if (i > 0)
		table_print(table);
	else
		puts("nothing waits");
	table_free(&table);
	if (flag_at(root, "more"))
		puts("there may be more: ask with --limit");
}

int
cmd_queue_list(struct invocation *inv)
{
	return show_selected(
	    inv, "/api/v1/queues/deliveries", print_deliveries);
}

void
queue_print(const json_t *q)
{
	char when[WHEN_SIZE];

	print_fact("domain", "%s", text_at(q, "domain"));
	print_fact("tenant", "%s", text_at(q, "tenant"));
	print_fact(
	    "stream", "%s (%s)", text_at(q, "stream"), text_at(q, "class"));
	print_fact("site", "%s",
	    text_at(q, "site")[0] != '\0' ? text_at(q, "site")
					  : "not looked up yet");
	print_fact("state", "%s", state_of(q));
	if (flag_at(q, "held"))
		print_fact("hold reason", "%s", text_at(q, "hold_reason"));
	print_fact("deliveries", "%lld fresh, %lld to retry; %lld recipients",
	    number_at(q, "fresh"), number_at(q, "retry"),
	    number_at(q, "recipients"));
	print_fact("in flight", "%lld", number_at(q, "in_flight"));
	const char *until = text_at(q, "waits_until");
	print_fact("waits for", "%s%s%s", text_at(q, "waits_for_text"),
	    until[0] != '\0' ? ", until " : "", until);
	if (text_at(q, "waits_set_by")[0] != '\0')
		print_fact("set by", "%s", text_at(q, "waits_set_by"));
	if (text_at(q, "waits_freed_by")[0] != '\0')
		print_fact("freed by", "%s", text_at(q, "waits_freed_by"));
	if (text_at(q, "source")[0] != '\0')
		print_fact("source", "%s (pool %s)", text_at(q, "source"),
		    text_at(q, "pool"));
	if (json_is_real(json_object_get(q, "site_pace")))
		print_fact("pace", "%.2f/s, as the site bears",
		    json_real_value(json_object_get(q, "site_pace")));
	print_fact("connections",
	    "%lld; the site bears %lld as far as known, and may have %lld",
	    number_at(q, "site_connections"), number_at(q, "site_window"),
	    number_at(q, "site_limit"));
	print_fact("next", "%s", when_next(text_at(q, "next_attempt"), when));
	print_fact("expires", "%s (the oldest)",
	    when_next(text_at(q, "oldest_expires"), when));
	if (text_at(q, "last_reply")[0] != '\0')
		print_fact("last reply", "%s", text_at(q, "last_reply"));
}

int
cmd_queue_show(struct invocation *inv)
{
	json_t *root, *q;
	size_t i;

	if (option_value(inv, "domain") != NULL)
		return usage_error(
		    inv->command, "the domain is given without --domain");
	if (get_selected(inv, "/api/v1/queues", inv->arguments[0], &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	json_array_foreach(json_object_get(root, "queues"), i, q)
	{
		if (i > 0)
			putchar('\n');
		queue_print(q);
	}
	json_decref(root);
	if (i > 0)
		return 0;
	return complain("no queue for %s has mail", inv->arguments[0]);
}

/* ---- operating --------------------------------------------------------- */

static int
operate(struct invocation *inv, const char *path, const char *format)
{
	const struct cli_option *o = inv->command->options;
	json_t *body = json_object(), *root;
	long long count;

	for (size_t i = 0; o[i].name != NULL; i++) {
		if (inv->values[i] == NULL)
			continue;
		json_object_set_new(body, o[i].name,
		    o[i].value == NULL ? json_true()
				       : json_string(inv->values[i]));
	}
	size_t others = (json_object_get(body, "reason") != NULL) +
			(json_object_get(body, "to") != NULL);
	if (json_object_size(body) == others) {
		json_decref(body);
		return usage_error(inv->command,
		    "which ones? select queues, or say --all where you mean "
		    "everything");
	}
	if (ask_post(inv, path, body, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	count = number_at(root, "queues") + number_at(root, "deliveries");
	printf("%lld %s\n", count, format);
	json_decref(root);
	return 0;
}

int
cmd_queue_hold(struct invocation *inv)
{
	return operate(inv, "/api/v1/queues/hold",
	    "queues with mail are held now, and so will be new ones that "
	    "match");
}

int
cmd_queue_release(struct invocation *inv)
{
	return operate(
	    inv, "/api/v1/queues/release", "queues with mail are released");
}

int
cmd_queue_retry(struct invocation *inv)
{
	return operate(
	    inv, "/api/v1/queues/retry", "deliveries are tried again now");
}

int
cmd_queue_bounce(struct invocation *inv)
{
	return operate(inv, "/api/v1/queues/bounce",
	    "deliveries are given up; their senders get a report");
}

int
cmd_queue_expire(struct invocation *inv)
{
	return operate(inv, "/api/v1/queues/expire",
	    "deliveries are expired; their senders get a report");
}

int
cmd_queue_cancel(struct invocation *inv)
{
	return operate(
	    inv, "/api/v1/queues/cancel", "deliveries are cancelled");
}

int
cmd_queue_move(struct invocation *inv)
{
	if (option_value(inv, "to") == NULL)
		return usage_error(inv->command, "where to? say --to STREAM");
	return operate(inv, "/api/v1/queues/move", "deliveries are moved");
}

/* ---- verifying --------------------------------------------------------- */

struct findings {
	json_t *list; /* NULL: print */
};

static void
on_problem(void *arg, const char *file, uint64_t offset, const char *problem)
{
	struct findings *f = arg;

	if (f->list == NULL)
		printf("%s: at %llu: %s\n", file, (unsigned long long)offset,
		    problem);
	else
		json_array_append_new(f->list,
		    json_pack("{s:s, s:I, s:s}", "file", file, "offset",
			(json_int_t)offset, "problem", problem));
}

static void
print_verified(const struct spool_verify_result *r, struct findings *f)
{
	if (f->list != NULL) {
		(void)print_json(json_pack(
		    "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "segments",
		    (json_int_t)r->segments, "records", (json_int_t)r->records,
		    "messages", (json_int_t)r->messages, "live_messages",
		    (json_int_t)r->live_messages, "live_recipients",
		    (json_int_t)r->live_recipients, "torn_bytes",
		    (json_int_t)r->torn_bytes, "problems",
		    (json_int_t)r->problems, "found", f->list));
		return;
	}
	printf("%llu segments, %llu records, %llu messages; %llu messages "
	       "with %llu recipients wait\n",
	    (unsigned long long)r->segments, (unsigned long long)r->records,
	    (unsigned long long)r->messages,
	    (unsigned long long)r->live_messages,
	    (unsigned long long)r->live_recipients);
	if (r->torn_bytes > 0)
		printf("%llu octets at the end were never acknowledged: "
		       "harmless\n",
		    (unsigned long long)r->torn_bytes);
	if (r->problems == 0)
		puts("ok");
	else
		printf("%llu problems\n", (unsigned long long)r->problems);
}

static int
verify(const struct invocation *inv, const char *directory)
{
	struct findings findings = { inv->json ? json_array() : NULL };
	struct spool_verify_result verified = { 0 };
	int result = spool_verify(directory, on_problem, &findings, &verified);

	if (result >= 0)
		print_verified(&verified, &findings);
	json_decref(findings.list);
	if (result == ERR_EXISTS)
		return complain("the service has the spool %s open and checks "
				"it itself; to verify it, stop the service",
		    directory);
	if (result == ERR_NOT_FOUND)
		return complain("there is no spool in %s", directory);
	if (result < 0)
		return complain("the spool in %s cannot be read: %s", directory,
		    error_text(result));
	return verified.problems > 0;
}

int
cmd_queue_verify(struct invocation *inv)
{
	struct config *config;

	if (inv->argument_count > 0)
		return verify(inv, inv->arguments[0]);
	config = config_load_for(inv->config_path, false, stderr);
	if (config == NULL)
		return 1;
	AUTO_FREE char *directory = mem_printf("%s/spool", config->data_dir);
	config_unref(&config);
	return verify(inv, directory);
}

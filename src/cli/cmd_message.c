/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"

/* ---- show -------------------------------------------------------------- */

static void
print_given(const json_t *root, const char *name, const char *title)
{
	if (text_at(root, name)[0] != '\0')
		print_fact(title, "%s", text_at(root, name));
}

static void
print_envelope(const json_t *root)
{
	const char *sender = text_at(root, "sender");
	char size[WHEN_SIZE], age[WHEN_SIZE];

	print_fact("message", "%s", text_at(root, "message_id"));
	print_fact("sender", "%s", sender[0] != '\0' ? sender : "<>");
	print_given(root, "header_from", "from");
	print_given(root, "subject", "subject");
	print_fact("tenant", "%s", text_at(root, "tenant"));
	print_fact("stream", "%s", text_at(root, "stream"));
	print_given(root, "user", "user");
	print_given(root, "client", "client");
	print_fact("size", "%s", format_bytes(number_at(root, "size"), size));
	print_fact("accepted", "%s (%s ago)", text_at(root, "accepted"),
	    when_past(text_at(root, "accepted"), age));
	print_given(root, "expires", "expires");
	print_fact(
	    "in spool", "%s", flag_at(root, "in_spool") ? "yes" : "no more");
}

static void
print_recipients(const json_t *root)
{
	static const struct table_column columns[] = { { "RECIPIENT", false },
		{ "STATE", false }, { "TRIES", true }, { "NEXT", false },
		{ "REPLY", false } };
	struct table *table = table_new(columns, 5);
	char when[WHEN_SIZE];
	const json_t *r;
	size_t i;

	json_array_foreach(json_object_get(root, "recipients"), i, r)
	{
		table_text(table, text_at(r, "recipient"));
		table_text(table, text_at(r, "state"));
		table_number(table, number_at(r, "attempt"));
		table_text(table, when_next(text_at(r, "next_attempt"), when));
		table_text(table, text_at(r, "reply"));
	}
	putchar('\n');
	table_print(table);
	table_free(&table);
}

static void
print_story(const json_t *root)
{
	struct buf line = BUF_EMPTY;
	const json_t *event;
	size_t i;

	puts("\nEvents");
	json_array_foreach(json_object_get(root, "events"), i, event)
	{
		buf_clear(&line);
		event_line(event, &line);
		printf("  %s\n", buf_cstring(&line));
	}
	buf_done(&line);
}

static void
print_message(const json_t *root)
{
	const json_t *queues = json_object_get(root, "queues");

	print_envelope(root);
	print_recipients(root);
	if (json_array_size(queues) > 0) {
		puts("\nIts queues");
		queues_print(queues, NULL);
	}
	print_story(root);
}

static char *
path_of(const struct invocation *inv)
{
	return mem_printf("/api/v1/messages/%s", inv->arguments[0]);
}

int
cmd_message_show(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return get_and_show(inv, path, NULL, print_message);
}

/* ---- why ---------------------------------------------------------------- */

static void
print_why(const json_t *root)
{
	const json_t *queues = json_object_get(root, "queues"), *q;
	size_t i;

	print_fact("message", "%s", text_at(root, "message_id"));
	print_recipients(root);
	json_array_foreach(queues, i, q)
	{
		putchar('\n');
		queue_print(q);
	}
	if (json_array_size(queues) == 0)
		puts("\nIt waits for nothing.");
}

int
cmd_message_why(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return get_and_show(inv, path, NULL, print_why);
}

/* ---- cancel, raw ------------------------------------------------------- */

static void
print_cancelled(const json_t *root)
{
	printf("%lld deliveries are cancelled\n", number_at(root, "cancelled"));
}

int
cmd_message_cancel(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return delete_and_show(inv, path, print_cancelled);
}

static bool
copy_out(void *arg, struct span piece)
{
	(void)arg;
	return fwrite(piece.ptr, 1, piece.len, stdout) == piece.len;
}

int
cmd_message_raw(struct invocation *inv)
{
	AUTO_FREE char *path =
	    mem_printf("/api/v1/messages/%s/raw", inv->arguments[0]);
	const struct question q = {
		.method = "GET", .path = path, .on_piece = copy_out
	};
	json_t *root = NULL;
	int status = ask(inv, &q, &root);

	json_decref(root);
	return status;
}

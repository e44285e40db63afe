/* SPDX-License-Identifier: Apache-2.0 */

/* mailq: what waits, in the shape that people and scripts know. */

#include "base/time.h"
#include "cli/internal.h"

#include <string.h>
#include <time.h>

/* "Mon Nov 23 17:44:49", local. */
static void
format_arrival(const char *time, char *buffer, size_t size)
{
	int64_t us = 0;
	struct tm parts;

	(void)time_parse_rfc3339(span_of(time), &us);
	time_t seconds = (time_t)(us / US_PER_S);
	if (localtime_r(&seconds, &parts) == NULL ||
	    strftime(buffer, size, "%a %b %e %H:%M:%S", &parts) == 0)
		buffer[0] = '\0';
}

static void
print_plain(const char *before, const char *text, const char *after)
{
	struct buf plain = BUF_EMPTY;

	append_plain(&plain, span_of(text));
	printf("%s%s%s\n", before, buf_cstring(&plain), after);
	buf_done(&plain);
}

static void
print_head(const json_t *d)
{
	const char *sender = text_at(d, "sender");
	char arrival[32];

	format_arrival(text_at(d, "accepted"), arrival, sizeof(arrival));
	printf("%s%c %8lld %s  ", text_at(d, "message_id"),
	    flag_at(d, "held") ? '!' : ' ', number_at(d, "size"), arrival);
	print_plain("", sender[0] != '\0' ? sender : "MAILER-DAEMON", "");
}

static void
print_recipients(const json_t *d)
{
	const json_t *recipient;
	size_t i;

	if (text_at(d, "last_reply")[0] != '\0')
		print_plain("    (", text_at(d, "last_reply"), ")");
	json_array_foreach(json_object_get(d, "recipients"), i, recipient)
	    print_plain("                                         ",
		json_string_value(recipient), "");
}

/* A message's deliveries to several domains may stand apart: each has a head
 * of its own then. */
static void
print_mail(const json_t *root)
{
	const char *last = "";
	long long size = 0, count = 0;
	const json_t *d;
	size_t i;

	if (json_array_size(json_object_get(root, "deliveries")) == 0) {
		puts("Mail queue is empty");
		return;
	}
	puts("-Queue ID-                  --Size-- ----Arrival Time---- "
	     "-Sender/Recipient-------");
	json_array_foreach(json_object_get(root, "deliveries"), i, d)
	{
		if (strcmp(last, text_at(d, "message_id")) != 0) {
			print_head(d);
			size += number_at(d, "size");
			count++;
		}
		last = text_at(d, "message_id");
		print_recipients(d);
		putchar('\n');
	}
	printf("-- %lld Kbytes in %lld Request%s.\n", (size + 1023) / 1024,
	    count, count == 1 ? "" : "s");
}

static const struct command mailq = { "mailq", NULL, "", 0, 0,
	"the mail that waits", NULL, NULL };

int
cli_mailq(int argc, char **argv)
{
	static const struct pair all[] = { { "limit", "10000" }, { 0 } };
	struct invocation inv = { .command = &mailq };
	int status;

	/* Other mail systems' -v, -Ac and the like narrow nothing here. */
	while (argc > 1 && argv[1][0] == '-' && argv[1][1] != '-' &&
	       argv[1][1] != '\0') {
		argv[1] = argv[0];
		argv++;
		argc--;
	}

	if (!options_parse(&inv, argc, argv, &status))
		return status;
	status =
	    get_and_show(&inv, "/api/v1/queues/deliveries", all, print_mail);
	client_close(&inv.client);
	return status;
}

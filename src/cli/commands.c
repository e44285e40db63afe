/* SPDX-License-Identifier: Apache-2.0 */

/* The table of contents: every command, its options and its sentence. */

#include "base/bug.h"
#include "cli/internal.h"

#include <string.h>

static const struct cli_option explain[] = {
	{ "explain", NULL, "with a comment on each key" },
	{ "shaping", NULL, "shaping.yaml instead of posthouse.yaml" },
	{ 0 },
};
static const struct cli_option interval[] = {
	{ "interval", "DURATION", "between two looks (default 1s)" },
	{ 0 },
};
static const struct cli_option tenant[] = {
	{ "tenant", "T", "of this tenant" },
	{ 0 },
};
static const struct cli_option stream_add[] = {
	{ "tenant", "T", "whose stream (default: default)" },
	{ "class", "CLASS", "transactional (default) or bulk" },
	{ "expire", "DURATION", "give up after (default: the config's)" },
	{ "pool", "P", "mail leaves by this pool of sources" },
	{ 0 },
};
static const struct cli_option stream_set[] = {
	{ "tenant", "T", "of this tenant" },
	{ "pool", "P", "mail leaves by this pool; \"\": by the default one" },
	{ 0 },
};
static const struct cli_option credential_add[] = {
	{ "tenant", "T", "whose credential (default: default)" },
	{ "stream", "S", "for mail of this stream (default: transactional)" },
	{ "name", "N", "a note for people" },
	{ "networks", "CIDR,…", "good from these client networks only" },
	{ 0 },
};
static const struct cli_option credential_list[] = {
	{ "tenant", "T", "of this tenant" },
	{ "revoked", NULL, "revoked ones, too" },
	{ 0 },
};
static const struct cli_option suppression_add[] = {
	{ "tenant", "T", "whose mail (default: default)" },
	{ "stream", "S", "of this stream only" },
	{ "relay", NULL, "all tenants' mail" },
	{ "cause", "CAUSE", "manual (default), complaint, unsubscribe, …" },
	{ "evidence", "TEXT", "for people" },
	{ "expire", "DURATION", "for so long (default: for good)" },
	{ 0 },
};
static const struct cli_option suppression_list[] = {
	{ "tenant", "T", "of this tenant" },
	{ "stream", "S", "of this stream" },
	{ "relay", NULL, "of the whole relay" },
	{ "cause", "CAUSE", "with this cause" },
	{ "after", "ID", "those behind this one" },
	{ "limit", "N", "at most so many (default 1000)" },
	{ 0 },
};
static const struct cli_option suppression_scope[] = {
	{ "tenant", "T", "for this tenant's mail (default: default)" },
	{ "stream", "S", "for this stream's mail" },
	{ "relay", NULL, "for all tenants' mail" },
	{ 0 },
};
static const struct cli_option suppression_import[] = {
	{ "tenant", "T", "of rows that name none (default: default)" },
	{ "stream", "S", "the same" },
	{ "relay", NULL, "rows that name none are the whole relay's" },
	{ "cause", "CAUSE", "of rows that name none (default: manual)" },
	{ 0 },
};
static const struct cli_option suppression_export[] = {
	{ "tenant", "T", "of this tenant" },
	{ "stream", "S", "of this stream" },
	{ "relay", NULL, "of the whole relay" },
	{ "cause", "CAUSE", "with this cause" },
	{ 0 },
};
static const struct cli_option domain_rotate[] = {
	{ "force", NULL, "without seeing new keys, or keeping old ones" },
	{ 0 },
};
static const struct cli_option tenant_set[] = {
	{ "sender-policy", "P", "warn, rewrite or enforce" },
	{ 0 },
};
static const struct cli_option domain_add[] = {
	{ "tenant", "T", "whose domain (default: default)" },
	{ "return-path", "HOST", "for bounces (default: bounces.NAME)" },
	{ 0 },
};
static const struct cli_option selection[] = {
	{ "tenant", "T", "queues of this tenant" },
	{ "stream", "S", "queues of streams of this name" },
	{ "domain", "D", "queues of this recipient domain, or *.D" },
	{ "site", "SITE", "queues that go to this receiving system" },
	{ "class", "CLASS", "transactional, report or bulk" },
	{ "limit", "N", "at most so many" },
	{ 0 },
};
static const struct cli_option standing[] = {
	{ "tenant", "T", "queues of this tenant" },
	{ "stream", "S", "queues of streams of this name" },
	{ "domain", "D", "queues of this recipient domain, or *.D" },
	{ "site", "SITE", "queues that go to this receiving system" },
	{ "class", "CLASS", "transactional, report or bulk" },
	{ "all", NULL, "all queues" },
	{ "reason", "TEXT", "for people" },
	{ 0 },
};
static const struct cli_option operation[] = {
	{ "tenant", "T", "queues of this tenant" },
	{ "stream", "S", "queues of streams of this name" },
	{ "domain", "D", "queues of this recipient domain, or *.D" },
	{ "site", "SITE", "queues that go to this receiving system" },
	{ "class", "CLASS", "transactional, report or bulk" },
	{ "message", "ID", "this message" },
	{ "all", NULL, "all queues" },
	{ "reason", "TEXT", "for people" },
	{ 0 },
};
static const struct cli_option move[] = {
	{ "to", "S", "another stream of the tenant" },
	{ "tenant", "T", "queues of this tenant" },
	{ "stream", "S", "queues of streams of this name" },
	{ "domain", "D", "queues of this recipient domain, or *.D" },
	{ "site", "SITE", "queues that go to this receiving system" },
	{ "class", "CLASS", "transactional, report or bulk" },
	{ "reason", "TEXT", "for people" },
	{ 0 },
};
static const struct cli_option export[] = {
	{ "tenant", "T", "queues of this tenant" },
	{ "stream", "S", "queues of streams of this name" },
	{ "domain", "D", "queues of this recipient domain, or *.D" },
	{ "site", "SITE", "queues that go to this receiving system" },
	{ "class", "CLASS", "transactional, report or bulk" },
	{ 0 },
};
static const struct cli_option import[] = {
	{ "tenant", "T", "for this tenant instead of the one it was of" },
	{ "stream", "S", "into this stream instead of the one it was in" },
	{ "fresh", NULL, "with the stream's full time to live" },
	{ 0 },
};
static const struct cli_option events[] = {
	{ "follow", NULL, "wait for more, as they happen" },
	{ "type", "T", "accepted, deferred, delivered, bounced, …" },
	{ "recipient", "A", "of this recipient address" },
	{ "message", "ID", "of this message" },
	{ "tenant", "T", "of this tenant" },
	{ "since", "TIME", "RFC 3339, or how long ago: 2h" },
	{ "until", "TIME", "the same" },
	{ "limit", "N", "the newest N (default 100)" },
	{ 0 },
};
static const struct cli_option trace[] = {
	{ "peer", "ADDRESS", "only sessions with addresses that begin so" },
	{ 0 },
};

/* clang-format off */
const struct command commands[] = {
	{ "sandbox", NULL, "[--port N] [--dir DIR] [--json]", 0, 0, "the relay on one machine, nothing leaves it", NULL, NULL },
	{ "serve", NULL, "[--config FILE]", 0, 0, "the service, in the foreground", NULL, NULL },
	{ "config", "check", "", 0, 0, "look for mistakes in the config", NULL, cmd_config_check },
	{ "config", "show", "", 0, 0, "print the config in effect", explain, cmd_config_show },
	{ "status", NULL, "", 0, 0, "health at a glance", NULL, cmd_status },
	{ "doctor", NULL, "", 0, 0, "what should be mended: DNS, certificate, clock, disk", NULL, cmd_doctor },
	{ "top", NULL, "", 0, 0, "status and largest queues, again and again", interval, cmd_top },
	{ "tenant", "add", "NAME", 1, 1, "add a tenant", NULL, cmd_tenant_add },
	{ "tenant", "list", "", 0, 0, "list tenants", NULL, cmd_tenant_list },
	{ "tenant", "show", "NAME", 1, 1, "show a tenant", NULL, cmd_tenant_show },
	{ "tenant", "set", "NAME", 1, 1, "change a tenant", tenant_set, cmd_tenant_set },
	{ "tenant", "remove", "NAME", 1, 1, "disable a tenant for good", NULL, cmd_tenant_remove },
	{ "stream", "add", "NAME", 1, 1, "add a stream", stream_add, cmd_stream_add },
	{ "stream", "list", "", 0, 0, "list streams", tenant, cmd_stream_list },
	{ "stream", "show", "NAME", 1, 1, "show a stream", tenant, cmd_stream_show },
	{ "stream", "set", "NAME", 1, 1, "change a stream", stream_set, cmd_stream_set },
	{ "stream", "remove", "NAME", 1, 1, "remove a stream", tenant, cmd_stream_remove },
	{ "credential", "add", "", 0, 0, "make a user name and password", credential_add, cmd_credential_add },
	{ "credential", "list", "", 0, 0, "list credentials", credential_list, cmd_credential_list },
	{ "credential", "show", "USERNAME", 1, 1, "show a credential", NULL, cmd_credential_show },
	{ "credential", "remove", "USERNAME", 1, 1, "revoke a credential at once", NULL, cmd_credential_remove },
	{ "suppression", "add", "ADDRESS", 1, 1, "send no mail to an address", suppression_add, cmd_suppression_add },
	{ "suppression", "list", "", 0, 0, "list suppressed addresses", suppression_list, cmd_suppression_list },
	{ "suppression", "show", "ADDRESS", 1, 1, "why an address is suppressed", NULL, cmd_suppression_show },
	{ "suppression", "remove", "ADDRESS", 1, 1, "send mail to an address again", suppression_scope, cmd_suppression_remove },
	{ "suppression", "import", "FILE", 1, 1, "take in a CSV file; -: standard input", suppression_import, cmd_suppression_import },
	{ "suppression", "export", "", 0, 0, "print suppressions as CSV", suppression_export, cmd_suppression_export },
	{ "domain", "add", "NAME", 1, 1, "add a sender domain, with keys for DKIM", domain_add, cmd_domain_add },
	{ "domain", "list", "", 0, 0, "list sender domains", tenant, cmd_domain_list },
	{ "domain", "show", "NAME", 1, 1, "show a sender domain and its keys", NULL, cmd_domain_show },
	{ "domain", "dns", "NAME", 1, 1, "print what to publish in the DNS", NULL, cmd_domain_dns },
	{ "domain", "verify", "NAME", 1, 1, "look what of it is published", NULL, cmd_domain_verify },
	{ "domain", "rotate", "NAME", 1, 1, "take the next stage to new keys", domain_rotate, cmd_domain_rotate },
	{ "domain", "remove", "NAME", 1, 1, "remove a sender domain and its keys", NULL, cmd_domain_remove },
	{ "queue", "summary", "", 0, 0, "the queues, the largest first", selection, cmd_queue_summary },
	{ "queue", "list", "", 0, 0, "the mail that waits", selection, cmd_queue_list },
	{ "queue", "show", "DOMAIN", 1, 1, "all about a domain's queues", selection, cmd_queue_show },
	{ "queue", "hold", "", 0, 0, "stop deliveries until released", standing, cmd_queue_hold },
	{ "queue", "release", "", 0, 0, "end a hold", standing, cmd_queue_release },
	{ "queue", "retry", "", 0, 0, "try again now", operation, cmd_queue_retry },
	{ "queue", "bounce", "", 0, 0, "give up, with a report to the sender", operation, cmd_queue_bounce },
	{ "queue", "expire", "", 0, 0, "end as undeliverable in time, with a report", operation, cmd_queue_expire },
	{ "queue", "cancel", "", 0, 0, "end without a report", operation, cmd_queue_cancel },
	{ "queue", "move", "", 0, 0, "hand mail to another stream of its tenant", move, cmd_queue_move },
	{ "queue", "export", "DIR", 1, 1, "write what waits into files", export, cmd_queue_export },
	{ "queue", "import", "DIR", 1, 1, "take in what was exported", import, cmd_queue_import },
	{ "queue", "verify", "[SPOOL]", 0, 1, "check the spool of a stopped service", NULL, cmd_queue_verify },
	{ "message", "show", "ID", 1, 1, "a message's whole story", NULL, cmd_message_show },
	{ "message", "why", "ID", 1, 1, "what a message waits for right now", NULL, cmd_message_why },
	{ "message", "cancel", "ID", 1, 1, "end what still waits, without a report", NULL, cmd_message_cancel },
	{ "message", "raw", "ID", 1, 1, "print the stored message", NULL, cmd_message_raw },
	{ "events", NULL, "", 0, 0, "what became of mail", events, cmd_events },
	{ "parse-report", NULL, "[FILE|-]…", 0, CLI_ARGUMENTS, "what bounces and complaints report, as JSON", NULL, cmd_parse_report },
	{ "trace", NULL, "", 0, 0, "live SMTP dialogue, in and out", trace, cmd_trace },
	{ "reload", NULL, "", 0, 0, "read config and certificates again", NULL, cmd_reload },
	{ "version", NULL, "", 0, 0, "print the version", NULL, cmd_version },
	{ "help", NULL, "[COMMAND]", 0, 1, "this text, or a command's", NULL, cmd_help },
	{ 0 },
};

/* clang-format on */

static bool
is_known(const char *name)
{
	for (const struct command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) == 0)
			return true;
	}
	return false;
}

static void
help_all(FILE *out)
{
	fputs("posthouse: a self-hosted SMTP relay\n\n"
	      "usage: posthouse COMMAND [OPTION…]\n\n",
	    out);
	for (const struct command *c = commands; c->name != NULL; c++) {
		const char *sub = c->sub != NULL ? c->sub : "";

		fprintf(out, "  %-10s %-8s %s\n", c->name, sub, c->summary);
	}
	fputs("\n`posthouse help COMMAND` tells its options. Every command "
	      "takes --config FILE\n(default: $POSTHOUSE_CONFIG, then "
	      "/etc/posthouse/posthouse.yaml), --control SOCKET\n(default: "
	      "$POSTHOUSE_CONTROL, then the config's) and --json.\n"
	      "The manual: posthouse(8).\n",
	    out);
}

static void
help_command(const char *name, FILE *out)
{
	for (const struct command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) == 0)
			usage_print(c, out);
	}
}

/* A line for each of the commands that begin with a name. */
static int
list_subcommands(const char *name, const char *sub)
{
	if (sub != NULL && sub[0] != '-')
		(void)complain("there is no command `%s %s`", name, sub);
	fputs("usage:\n", stderr);
	for (const struct command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) == 0)
			fprintf(stderr, "  posthouse %s %-8s %-9s %s\n", name,
			    c->sub, c->arguments, c->summary);
	}
	return 2;
}

void
cli_help(const char *command)
{
	if (command == NULL || !is_known(command))
		help_all(stdout);
	else
		help_command(command, stdout);
}

int
cmd_help(struct invocation *inv)
{
	const char *name = inv->arguments[0];

	if (name != NULL && !is_known(name)) {
		(void)complain("there is no command `%s`; `posthouse help` "
			       "lists them",
		    name);
		return 2;
	}
	cli_help(name);
	return 0;
}

int
cmd_version(struct invocation *inv)
{
	if (inv->json)
		printf("{\"version\":\"%s\"}\n", POSTHOUSE_VERSION);
	else
		printf("posthouse %s\n", POSTHOUSE_VERSION);
	return 0;
}

static const struct command *
find_command(const char *name, const char *sub)
{
	for (const struct command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) != 0)
			continue;
		if (c->sub == NULL || (sub != NULL && strcmp(c->sub, sub) == 0))
			return c;
	}
	return NULL;
}

/* The status, or 1 when not all that was printed could be written. */
static int
flushed(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	return complain("cannot write the output: is the disk full?");
}

static int
run(const struct command *command, int argc, char **argv)
{
	struct invocation inv = { .command = command };
	int status;

	BUG_UNLESS(command->run != NULL);
	if (!options_parse(&inv, argc, argv, &status))
		return status;
	status = command->run(&inv);
	client_close(&inv.client);
	return flushed(status);
}

/* `posthouse -h`, `posthouse queue --help`, … False: not asked for help. */
static bool
asks_for_help(int argc, char **argv)
{
	const char *last = argc > 2 ? argv[2] : argv[1];

	return strcmp(last, "--help") == 0 || strcmp(last, "-h") == 0;
}

void
cli_put_command_first(int argc, char **argv)
{
	while (argc > 2 && strncmp(argv[1], "--", 2) == 0) {
		int words = options_takes_value(argv[1]) ? 2 : 1;
		char *moved[2] = { argv[1], argv[2] };

		if (argc <= words + 1)
			return;
		memmove(&argv[1], &argv[1 + words],
		    (size_t)(argc - 1 - words) * sizeof(char *));
		memcpy(
		    &argv[argc - words], moved, (size_t)words * sizeof(char *));
		argc -= words;
	}
}

int
cli_run(int argc, char **argv)
{
	if (argc < 2) {
		help_all(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("posthouse %s\n", POSTHOUSE_VERSION);
		return flushed(0);
	}
	if (asks_for_help(argc, argv)) {
		cli_help(argc > 2 ? argv[1] : NULL);
		return flushed(0);
	}
	const char *sub = argc > 2 ? argv[2] : NULL;
	const struct command *c = find_command(argv[1], sub);
	if (c != NULL && c->run != NULL) {
		int skip = c->sub != NULL ? 2 : 1;

		return run(c, argc - skip, argv + skip);
	}
	if (c == NULL && is_known(argv[1]))
		return list_subcommands(argv[1], sub);
	(void)complain(
	    "there is no command `%s`; `posthouse help` lists them", argv[1]);
	return 2;
}

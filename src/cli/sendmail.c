/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sendmail, as programs know it: a message on standard input, recipients as
 * arguments or in its header. It is handed to the running service; exit status
 * 0 means that it is on stable storage. When the service is down nothing is
 * kept here: EX_TEMPFAIL tells the caller to try again.
 */

#include "cli/sendmail.h"

#include "base/mem.h"
#include "cli/internal.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define ANSWER_TIMEOUT_S 120
#define READ_SIZE ((size_t)64 * 1024)

static void
say(const char *text)
{
	struct buf line = BUF_EMPTY;

	append_plain(&line, span_of(text));
	fprintf(stderr, "sendmail: %s\n", buf_cstring(&line));
	buf_done(&line);
}

/* ---- who sends --------------------------------------------------------- */

struct sender {
	char *user, *full_name, *host;
	char *address; /* of the envelope; "": null sender */
	char *from; /* for a From field */
};

static void
sender_done(struct sender *s)
{
	mem_free(s->user);
	mem_free(s->full_name);
	mem_free(s->host);
	mem_free(s->address);
	mem_free(s->from);
}

static void
find_user(struct sender *s, const struct sendmail_options *o)
{
	const struct passwd *user = getpwuid(getuid());

	s->user = user != NULL ? mem_strdup(user->pw_name)
			       : mem_printf("uid-%u", (unsigned)getuid());
	if (o->full_name != NULL) {
		s->full_name = mem_strdup(o->full_name);
	} else if (user != NULL && user->pw_gecos != NULL) {
		struct span gecos = span_of(user->pw_gecos);

		s->full_name = span_dup(span_cut(&gecos, ','));
	} else {
		s->full_name = mem_strdup("");
	}
}

static void
find_sender(struct sender *s, const struct sendmail_options *o,
    const struct config *config)
{
	char host[HOST_NAME_MAX + 1] = "localhost";
	struct address_list given = { 0 };

	find_user(s, o);
	if (config == NULL)
		(void)gethostname(host, sizeof(host) - 1);
	s->host = mem_strdup(config != NULL ? config->hostname : host);
	if (o->sender != NULL)
		address_list_add(&given, span_of(o->sender), span_of(s->host));
	if (o->sender == NULL)
		s->address = mem_printf("%s@%s", s->user, s->host);
	else
		s->address = mem_strdup(given.count > 0 ? given.list[0] : "");
	s->from = s->address[0] != '\0' ? mem_strdup(s->address)
					: mem_printf("%s@%s", s->user, s->host);
	address_list_done(&given);
}

/* ---- the message ------------------------------------------------------- */

static int
read_input(struct buf *out)
{
	for (;;) {
		char *room = buf_reserve(out, READ_SIZE);
		ssize_t n = read(STDIN_FILENO, room, READ_SIZE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			say("cannot read the message from standard input");
			return EX_IOERR;
		}
		if (n == 0)
			return EX_OK;
		buf_added(out, (size_t)n);
		if (buf_size(out) > API_MESSAGE_MAX) {
			say("the message is larger than 64 MiB");
			return EX_DATAERR;
		}
	}
}

struct submission {
	struct buf message;
	struct address_list recipients;
};

static int
prepare(const struct sendmail_options *o, const struct sender *s,
    struct submission *sub)
{
	const struct sendmail_identity self = {
		.address = span_of(s->from),
		.full_name = span_of(s->full_name),
		.host = span_of(s->host),
	};
	struct buf input = BUF_EMPTY, lines = BUF_EMPTY;
	int status = read_input(&input);

	for (size_t i = 0; i < o->recipient_count; i++)
		address_list_add(
		    &sub->recipients, span_of(o->recipients[i]), self.host);
	if (status == EX_OK) {
		sendmail_normalise(buf_span(&input), o->ignores_dots, &lines);
		sendmail_compose(buf_span(&lines), &self,
		    o->reads_recipients ? &sub->recipients : NULL,
		    &sub->message);
	}
	buf_done(&input);
	buf_done(&lines);
	if (status != EX_OK || sub->recipients.count > 0)
		return status;
	say(o->reads_recipients
		? "no recipients: To, Cc and Bcc of the message are empty"
		: "no recipients: name them as arguments, or in the header "
		  "with -t");
	return o->reads_recipients ? EX_DATAERR : EX_USAGE;
}

/* ---- handing over ------------------------------------------------------ */

/* What the service's no means in sysexits. */
static int
status_of_refusal(int http_status, const json_t *error)
{
	static const struct {
		const char *begins; /* the enhanced code */
		int status;
	} kinds[] = {
		{ "4.5.3", EX_UNAVAILABLE }, /* would be so again */
		{ "4", EX_TEMPFAIL },
		{ "5.1.", EX_NOUSER },
		{ "5.2.3", EX_DATAERR },
		{ "5.3.4", EX_DATAERR },
		{ "5.6.", EX_DATAERR },
		{ "5.7.", EX_NOPERM },
	};

	const char *enhanced = text_at(error, "enhanced");

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (span_starts(span_of(enhanced), span_of(kinds[i].begins)))
			return kinds[i].status;
	}
	if (strcmp(text_at(error, "code"), "bad_recipient") == 0)
		return EX_NOUSER;
	if (strcmp(text_at(error, "code"), "bad_sender") == 0 ||
	    http_status == 413 || http_status == 422)
		return EX_DATAERR;
	if (http_status == 400)
		return EX_USAGE;
	return http_status >= 500 ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

static char *
join_recipients(const struct address_list *list)
{
	struct buf joined = BUF_EMPTY;
	char *text;

	for (size_t i = 0; i < list->count; i++) {
		if (i > 0)
			buf_append_char(&joined, ',');
		buf_append_str(&joined, list->list[i]);
	}
	text = mem_strdup(buf_cstring(&joined));
	buf_done(&joined);
	return text;
}

/* The service names what it was asked with, which our caller did not see. */
static void
say_refusal(const json_t *error)
{
	static const struct {
		const char *code, *text;
	} ours[] = {
		{ "bad_notify",
		    "the value of -N is `never`, or some of `success`, "
		    "`failure` and `delay`, with commas between" },
		{ "bad_ret", "the value of -R is `full` or `hdrs`" },
		{ "bad_envid",
		    "the value of -V may have at most 100 printable ASCII "
		    "characters" },
		{ "bad_line",
		    "the message has a NUL, which mail cannot carry: encode "
		    "it, for instance as a base64 attachment" },
	};

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
		if (strcmp(text_at(error, "code"), ours[i].code) == 0) {
			say(ours[i].text);
			return;
		}
	}
	say(error != NULL ? text_at(error, "message")
			  : "the service refused the message");
}

static int
read_answer(const struct sendmail_options *o, struct answer *answer)
{
	json_t *root = json_loadb(
	    buf_cstring(&answer->body), buf_size(&answer->body), 0, NULL);
	const json_t *error = json_object_get(root, "error");
	int status = EX_OK;

	if (answer->status >= 300) {
		status = status_of_refusal(answer->status, error);
		say_refusal(error);
	} else if (o->is_verbose) {
		printf("queued as %s\n", text_at(root, "message_id"));
	}
	json_decref(root);
	buf_done(&answer->body);
	return status;
}

static bool
has_newline(const char *text)
{
	return text != NULL && strpbrk(text, "\r\n") != NULL;
}

static int
hand_over(struct client *client, const struct sendmail_options *o,
    const struct sender *s, const struct submission *sub)
{
	AUTO_FREE char *recipients = join_recipients(&sub->recipients);
	const struct pair headers[] = {
		{ "X-Posthouse-Sender", s->address },
		{ "X-Posthouse-Recipient", recipients },
		{ "X-Posthouse-Notify", o->notify },
		{ "X-Posthouse-Ret", o->ret },
		{ "X-Posthouse-Envid", o->envid },
		{ 0 },
	};
	const struct question q = {
		.method = "POST",
		.path = "/api/v1/messages/raw",
		.headers = headers,
		.body = buf_span(&sub->message),
		.timeout_s = ANSWER_TIMEOUT_S,
	};
	struct failure failure;
	struct answer answer;

	for (const struct pair *p = headers; p->name != NULL; p++) {
		if (!has_newline(p->value))
			continue;
		say("an address or option has a line break in it");
		return EX_USAGE;
	}
	if (client_ask(client, &q, &answer, &failure) < 0) {
		say(failure.text);
		return EX_TEMPFAIL;
	}
	return read_answer(o, &answer);
}

static int
status_of_failure(int code)
{
	switch (code) {
	case -EACCES:
	case -EPERM:
		return EX_NOPERM;
	case ERR_SYNTAX:
		return EX_CONFIG;
	default:
		return EX_TEMPFAIL;
	}
}

static int
submit(const struct sendmail_options *o)
{
	struct submission sub = { 0 };
	struct sender sender = { 0 };
	struct client *client;
	struct failure failure;
	const char *control =
	    o->control != NULL ? o->control : getenv("POSTHOUSE_CONTROL");

	if (control != NULL && control[0] == '\0')
		control = NULL;
	if (client_open(o->config != NULL ? o->config : cli_default_config(),
		control, CLIENT_NEEDS_SERVICE | CLIENT_SUBMITS, &client,
		&failure) < 0) {
		say(failure.text);
		return status_of_failure(failure.code);
	}
	find_sender(&sender, o, client_config(client));
	int status = prepare(o, &sender, &sub);
	if (status == EX_OK)
		status = hand_over(client, o, &sender, &sub);
	client_close(&client);
	address_list_done(&sub.recipients);
	buf_done(&sub.message);
	sender_done(&sender);
	return status;
}

/* ---- the other modes --------------------------------------------------- */

static int
list_queue(const struct sendmail_options *o, char *program)
{
	char config_option[] = "--config", control_option[] = "--control";
	AUTO_FREE char *config =
	    o->config != NULL ? mem_strdup(o->config) : NULL;
	AUTO_FREE char *control =
	    o->control != NULL ? mem_strdup(o->control) : NULL;
	char *argv[6] = { program };
	int argc = 1;

	if (config != NULL) {
		argv[argc++] = config_option;
		argv[argc++] = config;
	}
	if (control != NULL) {
		argv[argc++] = control_option;
		argv[argc++] = control;
	}
	return cli_mailq(argc, argv) == 0 ? EX_OK : EX_UNAVAILABLE;
}

int
cli_sendmail(int argc, char **argv)
{
	struct sendmail_options options;
	struct failure failure;
	const char *slash = strrchr(argv[0], '/');
	const char *name = slash != NULL ? slash + 1 : argv[0];

	if (sendmail_options_parse(argc, argv, &options, &failure) < 0) {
		say(failure.text);
		return EX_USAGE;
	}
	if (strcmp(name, "newaliases") == 0)
		options.mode = SENDMAIL_ALIASES;
	switch (options.mode) {
	case SENDMAIL_LIST:
		return list_queue(&options, argv[0]);
	case SENDMAIL_ALIASES:
		return EX_OK; /* there are no aliases to rebuild */
	case SENDMAIL_FLUSH:
		say("the service runs its queue by itself; to hurry it: "
		    "posthouse queue retry --all");
		return EX_OK;
	case SENDMAIL_SUBMIT:
		break;
	}
	return submit(&options);
}

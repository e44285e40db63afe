/* SPDX-License-Identifier: Apache-2.0 */
#include "main/sandbox.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "main/engine.h"
#include "main/sandbox_text.h"
#include "os/file.h"
#include "report/export.h"
#include "tls/stream.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_US (US_PER_S / 4)

struct sandbox {
	struct sandbox_places places;
	bool json;
	pid_t receiver;
	bool receiver_lost; /* it ended by itself */
	struct sandbox_credential credential;
	struct loop *loop;
	struct loop_timer poll;
	struct event_cursor cursor; /* in the receiver's events */
};

static int
usage(FILE *out)
{
	fputs("usage: posthouse sandbox [--dir DIR] [--port PORT] [--json]\n"
	      "\n"
	      "Starts a relay from which nothing leaves this machine. It "
	      "listens on PORT\n"
	      "(default 2525, STARTTLS), PORT+1 (implicit TLS) and PORT+2 "
	      "(the catch-all\n"
	      "receiving server), all on 127.0.0.1, and keeps its data in DIR "
	      "(default\n"
	      "./posthouse-sandbox).\n",
	    out);
	return out == stdout ? 0 : 2;
}

static bool
parse_options(struct sandbox *s, int argc, char **argv, int *ret_status)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "port", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	uint64_t port = 2525;
	int c;

	s->places.dir = "posthouse-sandbox";
	optind = 2;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'd') {
			s->places.dir = optarg;
		} else if (c == 'j') {
			s->json = true;
		} else if (c != 'p' ||
			   !span_to_u64(span_of(optarg), 65533, &port) ||
			   port == 0) {
			*ret_status = usage(c == 'h' ? stdout : stderr);
			return false;
		}
	}
	if (optind < argc) {
		*ret_status = usage(stderr);
		return false;
	}
	s->places.port = (uint16_t)port;
	return true;
}

/* ---- preparing the folder ---------------------------------------------- */

static int
make_certificate(const struct sandbox_places *p)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;
	AUTO_FREE char *directory = mem_printf("%s/tls", p->dir);
	int result;

	if (access(p->certificate, R_OK) == 0 && access(p->key, R_OK) == 0)
		return 0;
	TRY(file_make_directory(directory, 0700));
	TRY(tls_make_self_signed("localhost", &certificate, &key));
	result = file_replace(p->key, buf_span(&key), 0600);
	if (result == 0)
		result =
		    file_replace(p->certificate, buf_span(&certificate), 0644);
	mem_wipe(key.ptr, key.len);
	buf_done(&certificate);
	buf_done(&key);
	return result;
}

static int
prepare(struct sandbox *s, struct failure *f)
{
	struct sandbox_places *p = &s->places;
	int result = file_make_directory(p->dir, 0700);

	if (result == 0) {
		/* Absolute, for lines that are pasted elsewhere. */
		p->dir = realpath(p->dir, NULL);
		sandbox_fill_places(p);
		result = make_certificate(p);
	}
	if (result == 0)
		result = file_make_directory(p->receiver_data, 0700);
	if (result < 0)
		return failure_set(f, result,
		    "cannot prepare the sandbox's folder: %s; choose another "
		    "with --dir",
		    error_text(result));
	return 0;
}

static void
print_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)arg;
	fprintf(stderr, "posthouse: %s:%u:%u: %s\n", file, line, column, text);
}

static int
parse_config(struct buf *text, const char *name, struct config **ret_config,
    struct failure *f)
{
	int result = config_parse(
	    buf_span(text), name, true, print_mistake, NULL, ret_config);

	buf_done(text);
	if (result < 0)
		return failure_set(
		    f, result, "the sandbox's own config has a mistake");
	return 0;
}

/* ---- the receiving server ---------------------------------------------- */

static _Noreturn void
run_receiver(const struct sandbox *s, pid_t parent)
{
	static const struct engine_options options = { .keep_user = true };
	struct failure failure;
	struct config *config = NULL;
	struct buf text = BUF_EMPTY;

	/* It ends with the relay, however that ends; ^C is for the relay. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(0);
	setpgid(0, 0);
	sandbox_receiver_config(&s->places, &text);
	int result = parse_config(&text, "sandbox receiver", &config, &failure);
	if (result == 0)
		result = engine_run(config, &options, &failure);
	if (result < 0)
		fprintf(
		    stderr, "posthouse: sandbox receiver: %s\n", failure.text);
	_exit(result < 0 ? 1 : 0);
}

static int
start_receiver(struct sandbox *s, struct failure *f)
{
	pid_t parent = getpid();

	s->receiver = fork();
	if (s->receiver < 0)
		return failure_set(f, -errno,
		    "cannot start the receiving server: %s",
		    error_text(-errno));
	if (s->receiver == 0)
		run_receiver(s, parent);
	return 0;
}

static void
stop_receiver(struct sandbox *s)
{
	if (s->receiver <= 0)
		return;
	kill(s->receiver, SIGTERM);
	while (waitpid(s->receiver, NULL, 0) < 0 && errno == EINTR)
		continue;
}

/* Without it the mail would go to whoever has its port. */
static bool
receiver_has_ended(struct sandbox *s)
{
	if (waitpid(s->receiver, NULL, WNOHANG) != s->receiver)
		return false;
	s->receiver = 0;
	s->receiver_lost = true;
	kill(getpid(), SIGTERM);
	return true;
}

/* ---- showing what arrives ---------------------------------------------- */

static void
show_arrivals(struct loop_timer *timer)
{
	static const struct event_query accepted = { .type = SPAN("accepted") };
	struct sandbox *s = LIST_ENTRY(timer, struct sandbox, poll);
	struct buf lines = BUF_EMPTY;

	if (receiver_has_ended(s))
		return;
	if (events_follow(
		s->places.receiver_events, &accepted, &s->cursor, &lines) > 0)
		sandbox_print_arrivals(buf_span(&lines), s->json);
	buf_done(&lines);
	loop_timer_set(s->loop, timer, loop_now_us(s->loop) + POLL_US);
}

static void
on_ready(void *arg, struct engine *engine)
{
	struct sandbox *s = arg;
	struct failure failure;
	struct buf ignored = BUF_EMPTY;

	if (sandbox_credential(&s->places, engine_directory(engine),
		&s->credential, &failure) < 0) {
		fprintf(stderr, "posthouse: %s\n", failure.text);
		kill(getpid(), SIGTERM);
		return;
	}
	sandbox_print_welcome(&s->places, &s->credential, s->json);
	/* From now on: what came in former runs is in the Maildir. */
	static const struct event_query none = { .type = SPAN("none") };
	IGNORE(events_follow(
	    s->places.receiver_events, &none, &s->cursor, &ignored));
	buf_done(&ignored);
	s->loop = engine_chief_loop(engine);
	s->poll.on_time = show_arrivals;
	loop_timer_set(s->loop, &s->poll, 0);
}

static int
run_relay(struct sandbox *s, struct failure *f)
{
	const struct engine_options options = {
		.keep_user = true, .on_ready = on_ready, .arg = s
	};
	struct config *config;
	struct buf text = BUF_EMPTY;

	sandbox_relay_config(&s->places, &text);
	TRY(parse_config(&text, "sandbox relay", &config, f));
	int result = engine_run(config, &options, f);
	config_unref(&config);
	return result;
}

int
sandbox_run(int argc, char **argv)
{
	static struct sandbox s; /* its paths live as long as the process */
	struct failure failure;
	int status;

	if (!parse_options(&s, argc, argv, &status))
		return status;
	int result = prepare(&s, &failure);
	if (result == 0)
		result = start_receiver(&s, &failure);
	if (result == 0)
		result = run_relay(&s, &failure);
	stop_receiver(&s);
	mem_wipe(&s.credential, sizeof(s.credential));
	if (result < 0)
		fprintf(stderr, "posthouse: %s\n", failure.text);
	if (result == -EADDRINUSE)
		fputs("posthouse: choose other ports with --port\n", stderr);
	if (s.receiver_lost)
		fprintf(stderr,
		    "posthouse: the receiving server on port %u has ended, and "
		    "so does the sandbox; choose other ports with --port if "
		    "that one is taken\n",
		    s.places.port + 2U);
	return result < 0 || s.receiver_lost;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Load generator: submits a number of messages over a number of connections
 * and says how fast they were acknowledged, as JSON on standard output. The
 * time to the reply is from the write of the final dot to the reading of its
 * 250. Exit status: 0 when every message was acknowledged, 1 when not, 2
 * usage.
 */

#include "base/mem.h"
#include "base/time.h"
#include "load.h"
#include "options.h"
#include "os/clock.h"
#include "os/privilege.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FAILURES_IN_ROW_MAX = 100 };

static const char usage[] =
    "usage: smtp_load --to ADDRESS:PORT [options]\n"
    "  --messages N           how many in all (1000)\n"
    "  --connections N        at the same time (32)\n"
    "  --size BYTES           of a message, header included (4096)\n"
    "  --recipients N         of each message (1)\n"
    "  --mode MODE            pipelined (default), ahead: the next envelope\n"
    "                         goes with the final dot, lockstep: each command\n"
    "                         waits for its reply\n"
    "  --per-connection N     messages on one connection (any number)\n"
    "  --rate N               messages per second, all together (as fast as\n"
    "                         it goes); not with --mode ahead\n"
    "  --sender PATTERN       (sender@bench.invalid)\n"
    "  --recipient PATTERN    (user{n}@d{d}.bench.invalid): {n} number of the\n"
    "                         message, {r} of the recipient in it, {d} of the\n"
    "                         domain\n"
    "  --domains N            to spread recipients over (1)\n"
    "  --username U --password P   AUTH PLAIN\n"
    "  --starttls, --implicit-tls  certificates are not checked\n"
    "  --tag TEXT             X-Bench-Id is TEXT-NUMBER (bench)\n"
    "  --ledger FILE          append ID MICROSECONDS (wall time) of each\n"
    "                         acknowledged message\n"
    "  --stall SECONDS        give up when nothing happens for so long (60)\n";

/* Signal handlers know nothing else. */
static struct loop *running_loop;

/* --- what sessions tell ------------------------------------------------ */

bool
load_take(struct load *load, uint64_t *ret_number)
{
	if (load->returned_count) {
		*ret_number = load->returned[--load->returned_count];
		return true;
	}
	if (load->next_number >= load->options.messages)
		return false;
	*ret_number = load->next_number++;
	return true;
}

void
load_give_back(struct load *load, uint64_t number)
{
	load->returned[load->returned_count++] = number;
}

int64_t
load_due_us(const struct load *load, uint64_t number)
{
	uint64_t rate = load->options.rate;

	if (rate == 0)
		return load->start_us;
	return load->start_us + (int64_t)(number * US_PER_S / rate);
}

static void
progressed(struct load *load)
{
	load->end_us = load->last_progress_us = clock_monotonic_us();
	load->failures_in_row = 0;
}

void
load_acknowledged(struct load *load, uint64_t number, int64_t time_us)
{
	load->acknowledged++;
	histogram_add(&load->time_to_reply, time_us);
	progressed(load);
	/* At once: whoever reads it may have killed the server meanwhile. */
	if (load->ledger &&
	    (fprintf(load->ledger, "%s-%" PRIu64 " %" PRId64 "\n",
		 load->options.tag, number, clock_wall_us()) < 0 ||
		fflush(load->ledger) != 0))
		load_give_up(load, SPAN("cannot write the ledger"));
}

void
load_note_refusal(struct load *load, struct span reply)
{
	if (!*load->first_refusal)
		(void)snprintf(load->first_refusal, sizeof load->first_refusal,
		    "%.*s", SPAN_ARG(reply));
}

void
load_refused(struct load *load, struct span reply)
{
	load->refused++;
	load_note_refusal(load, reply);
	progressed(load);
}

void
load_unknown(struct load *load)
{
	load->unknown++;
}

void
load_failed(struct load *load, struct span why)
{
	if (load->failures++ == 0)
		(void)snprintf(
		    load->failure, sizeof load->failure, "%.*s", SPAN_ARG(why));
	if (++load->failures_in_row >= FAILURES_IN_ROW_MAX)
		loop_stop(load->loop);
}

void
load_give_up(struct load *load, struct span why)
{
	(void)snprintf(
	    load->failure, sizeof load->failure, "%.*s", SPAN_ARG(why));
	load->failures++;
	loop_stop(load->loop);
}

void
load_session_over(struct load *load)
{
	if (--load->open_sessions == 0)
		loop_stop(load->loop);
}

/* --- watching over it -------------------------------------------------- */

struct ticker {
	struct loop_timer timer;
	struct load *load;
	uint64_t before; /* acknowledged at the last tick */
	bool is_shown;
};

static void
on_tick(struct loop_timer *timer)
{
	struct ticker *t = (struct ticker *)timer;
	struct load *load = t->load;
	int64_t now_us = loop_now_us(load->loop);

	if (t->is_shown)
		(void)fprintf(stderr,
		    "\r%" PRIu64 " of %" PRIu64 ", %" PRIu64 "/s   ",
		    load->acknowledged, load->options.messages,
		    load->acknowledged - t->before);
	t->before = load->acknowledged;
	if (now_us - load->last_progress_us > load->options.stall_us)
		load_give_up(load, SPAN("nothing happens any more"));
	loop_timer_set(load->loop, timer, now_us + US_PER_S);
}

static void
on_signal(int number)
{
	(void)number;
	loop_stop(running_loop);
}

static void
handle_signals(struct load *load)
{
	const struct sigaction stop = { .sa_handler = on_signal };

	running_loop = load->loop;
	(void)sigaction(SIGINT, &stop, NULL);
	(void)sigaction(SIGTERM, &stop, NULL);
}

/* --- the result -------------------------------------------------------- */

static double
seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / (double)US_PER_S;
}

static void
append_outcome(const struct load *load, struct buf *out)
{
	double wall_s =
	    (double)(load->end_us - load->start_us) / (double)US_PER_S;

	buf_printf(out,
	    "\"acknowledged\": %" PRIu64 ", \"refused\": %" PRIu64
	    ", \"unknown\": %" PRIu64 ", \"recipients_refused\": %" PRIu64
	    ", \"connects\": %" PRIu64 ", \"failures\": %" PRIu64
	    ", \"bytes\": %" PRIu64,
	    load->acknowledged, load->refused, load->unknown,
	    load->recipients_refused, load->connects, load->failures,
	    load->bytes);
	buf_append(out, SPAN(", \"first_refusal\": "));
	buf_append_json(out, span_of(load->first_refusal));
	buf_append(out, SPAN(", \"first_failure\": "));
	buf_append_json(out, span_of(load->failure));
	buf_printf(out,
	    ", \"start_us\": %" PRId64 ", \"end_us\": %" PRId64
	    ", \"wall_s\": %.6f, \"per_second\": %.1f",
	    load->start_us, load->end_us, wall_s,
	    wall_s > 0 ? (double)load->acknowledged / wall_s : 0);
}

static void
append_costs(const struct load *load, struct buf *out)
{
	const struct histogram *h = &load->time_to_reply;
	struct rusage spent = { 0 };

	(void)getrusage(RUSAGE_SELF, &spent);
	buf_printf(out, ", \"cpu_s\": {\"user\": %.3f, \"system\": %.3f}",
	    seconds(spent.ru_utime), seconds(spent.ru_stime));
	buf_printf(out,
	    ", \"time_to_250_us\": {\"mean\": %.1f, \"p50\": %" PRId64
	    ", \"p90\": %" PRId64 ", \"p99\": %" PRId64 ", \"p999\": %" PRId64
	    ", \"max\": %" PRId64 "}",
	    histogram_mean(h), histogram_percentile(h, 0.5),
	    histogram_percentile(h, 0.9), histogram_percentile(h, 0.99),
	    histogram_percentile(h, 0.999), h->max_us);
}

static int
print_result(const struct load *load)
{
	struct buf out = BUF_EMPTY;

	buf_append_char(&out, '{');
	append_outcome(load, &out);
	append_costs(load, &out);
	buf_append(&out, SPAN("}"));
	int result = puts(buf_cstring(&out)) < 0 || fflush(stdout) != 0;
	buf_done(&out);
	if (load->acknowledged == load->options.messages)
		return result;
	(void)fprintf(stderr,
	    "smtp_load: %" PRIu64 " of %" PRIu64 " messages acknowledged%s%s"
	    "%s%s\n",
	    load->acknowledged, load->options.messages,
	    load->refused ? "; " : "", load->first_refusal,
	    load->failures ? "; " : "", load->failure);
	return 1;
}

/* --- the command line -------------------------------------------------- */

static enum load_mode
parse_mode(const char *value)
{
	static const char *const names[] = {
		[LOAD_PIPELINED] = "pipelined",
		[LOAD_AHEAD] = "ahead",
		[LOAD_LOCKSTEP] = "lockstep",
	};

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(value, names[i]) == 0)
			return (enum load_mode)i;
	option_fail(
	    "--mode is pipelined, ahead or lockstep, not \"%s\"", value);
}

static void
show_help(void)
{
	(void)fputs(usage, stdout);
	exit(0);
}

static void
parse_text(struct load_options *o, int option, const char *value)
{
	switch (option) {
	case 'f':
		o->sender = value;
		break;
	case 'r':
		o->recipient = value;
		break;
	case 'u':
		o->username = value;
		break;
	case 'p':
		o->password = value;
		break;
	case 'g':
		o->tag = value;
		break;
	case 'l':
		o->ledger = value;
		break;
	default:
		exit(2); /* getopt has said why */
	}
}

static void
parse_option(struct load_options *o, int option, const char *value)
{
	switch (option) {
	case 't':
		o->to = option_address("--to", value);
		break;
	case 'm':
		o->messages = option_number("--messages", value, 1, UINT32_MAX);
		break;
	case 'c':
		o->connections =
		    (uint32_t)option_number("--connections", value, 1, 100000);
		break;
	case 's':
		o->size = (uint32_t)option_number("--size", value, 1, 1 << 30);
		break;
	case 'n':
		o->recipients =
		    (uint32_t)option_number("--recipients", value, 1, 100000);
		break;
	case 'd':
		o->domains =
		    (uint32_t)option_number("--domains", value, 1, UINT32_MAX);
		break;
	case 'k':
		o->per_connection =
		    option_number("--per-connection", value, 0, UINT32_MAX);
		break;
	case 'R':
		o->rate = option_number("--rate", value, 1, 1000000);
		break;
	case 'S':
		o->stall_us =
		    (int64_t)option_number("--stall", value, 1, 86400) *
		    US_PER_S;
		break;
	case 'M':
		o->mode = parse_mode(value);
		break;
	case 'T':
		o->starttls = true;
		break;
	case 'I':
		o->implicit_tls = true;
		break;
	case 'h':
		show_help();
		break;
	default:
		parse_text(o, option, value);
	}
}

static void
parse_options(int argc, char **argv, struct load_options *o)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },
		{ "messages", required_argument, NULL, 'm' },
		{ "connections", required_argument, NULL, 'c' },
		{ "size", required_argument, NULL, 's' },
		{ "recipients", required_argument, NULL, 'n' },
		{ "domains", required_argument, NULL, 'd' },
		{ "per-connection", required_argument, NULL, 'k' },
		{ "rate", required_argument, NULL, 'R' },
		{ "stall", required_argument, NULL, 'S' },
		{ "mode", required_argument, NULL, 'M' },
		{ "starttls", no_argument, NULL, 'T' },
		{ "implicit-tls", no_argument, NULL, 'I' },
		{ "sender", required_argument, NULL, 'f' },
		{ "recipient", required_argument, NULL, 'r' },
		{ "username", required_argument, NULL, 'u' },
		{ "password", required_argument, NULL, 'p' },
		{ "tag", required_argument, NULL, 'g' },
		{ "ledger", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		parse_option(o, option, optarg);
	if (optind < argc)
		option_fail("\"%s\" is not an option", argv[optind]);
	if (o->to.family == NETADDR_NONE)
		option_fail("--to ADDRESS:PORT is missing");
	if (!o->username != !o->password)
		option_fail("--username and --password belong together");
	if (o->starttls && o->implicit_tls)
		option_fail("--starttls or --implicit-tls, not both");
	if (o->rate && o->mode == LOAD_AHEAD)
		option_fail("--rate and --mode ahead exclude each other");
}

/* --- the run ----------------------------------------------------------- */

static void
open_load(struct load *load)
{
	const struct load_options *o = &load->options;
	struct failure failure = { 0 };

	(void)privilege_raise_file_limit();
	if (loop_new(&load->loop) < 0)
		option_fail("cannot make an epoll loop");
	if ((o->starttls || o->implicit_tls) &&
	    tls_context_new_client(NULL, &load->tls, &failure) < 0)
		option_fail("%s", failure.text);
	if (o->ledger) {
		load->ledger = fopen(o->ledger, "ae");
		if (!load->ledger)
			option_fail("cannot open %s: %s", o->ledger,
			    error_text(-errno));
	}
	/* A session holds at most two numbers. */
	load->returned = mem_resize(
	    NULL, (size_t)o->connections * 2 + 1, sizeof *load->returned);
	load->open_sessions = o->connections;
	load->last_progress_us = clock_monotonic_us();
	message_prepare(load);
}

static int
close_load(struct load *load)
{
	int status = 0;

	if (load->ledger && fclose(load->ledger) != 0)
		status = 1;
	tls_context_unref(&load->tls);
	loop_free(&load->loop);
	buf_done(&load->body);
	mem_free(load->returned);
	return status;
}

static int
run(struct load *load)
{
	uint32_t count = load->options.connections;
	struct session **sessions =
	    mem_resize(NULL, count, sizeof(struct session *));
	struct ticker ticker = {
		.timer.on_time = on_tick,
		.load = load,
		.is_shown = isatty(STDERR_FILENO) == 1,
	};

	handle_signals(load);
	for (uint32_t i = 0; i < count; i++)
		sessions[i] = session_new(load);
	loop_timer_set(
	    load->loop, &ticker.timer, loop_now_us(load->loop) + US_PER_S);
	int result = loop_run(load->loop);
	loop_timer_clear(&ticker.timer);
	if (ticker.is_shown)
		(void)fputs("\r", stderr);
	for (uint32_t i = 0; i < count; i++)
		session_free(&sessions[i]);
	mem_free(sessions);
	return result;
}

int
main(int argc, char **argv)
{
	static struct load load = {
		.options = {
			.messages = 1000,
			.connections = 32,
			.size = 4096,
			.recipients = 1,
			.domains = 1,
			.sender = "sender@bench.invalid",
			.recipient = "user{n}@d{d}.bench.invalid",
			.tag = "bench",
			.stall_us = 60 * US_PER_S,
		},
	};

	parse_options(argc, argv, &load.options);
	open_load(&load);
	int result = run(&load);
	int status = print_result(&load);
	if (close_load(&load) != 0 || result < 0)
		status = 1;
	return status;
}

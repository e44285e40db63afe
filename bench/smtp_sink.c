/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Receiving server: takes all mail as fast as it comes, keeps none, and counts.
 * The first line on standard output says where it listens. The counts come as
 * one line of JSON at SIGTERM, and whenever somebody connects to the Unix
 * socket of --statistics.
 */

#include "base/list.h"
#include "base/time.h"
#include "options.h"
#include "os/clock.h"
#include "os/privilege.h"
#include "os/socket.h"
#include "sink.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define LEDGER_FLUSH_US (20 * US_PER_MS)

static const char usage[] =
    "usage: smtp_sink [options]\n"
    "  --listen ADDRESS:PORT   (127.0.0.1:0: any free port)\n"
    "  --statistics PATH       Unix socket that gives the counts\n"
    "  --ledger FILE           append ID BYTES RECIPIENTS MICROSECONDS (wall\n"
    "                          time) of each message that has an X-Bench-Id\n"
    "  --delay MILLISECONDS    before each reply to a message\n"
    "  --answer MOMENT:SHARE:REPLY   another reply than yes for a share of\n"
    "                          the occasions; MOMENT is connect, mail, rcpt,\n"
    "                          data or end; e.g. \"rcpt:0.1:450 4.2.1 later\"\n"
    "  --chunking              offer CHUNKING\n"
    "  --starttls              offer STARTTLS, with a certificate of its own\n";

/* Signal handlers know nothing else. */
static struct loop *running_loop;

/* --- what clients tell ------------------------------------------------- */

const char *
sink_answer(struct sink *sink, enum sink_moment moment)
{
	for (size_t i = 0; i < sink->script_count; i++) {
		struct sink_script *s = &sink->scripts[i];

		if (s->moment != moment)
			continue;
		s->due += s->share;
		if (s->due < 1)
			continue;
		s->due -= 1;
		return s->reply;
	}
	return NULL;
}

static struct span
bench_id(struct span head)
{
	static const struct span name = { "\r\nX-Bench-Id:", 13 };
	size_t at = span_search(head, name);
	struct span rest =
	    at == SIZE_MAX ? SPAN_EMPTY : span_skip(head, at + name.len);

	return span_trim(span_cut(&rest, '\n'));
}

void
sink_accepted(
    struct sink *sink, uint32_t recipients, uint64_t bytes, struct span head)
{
	sink->last_us = clock_monotonic_us();
	if (!sink->first_us)
		sink->first_us = sink->last_us;
	sink->messages++;
	sink->recipients += recipients;
	sink->bytes += bytes;
	if (!sink->ledger)
		return;
	struct span id = bench_id(head);
	if (!id.len)
		id = SPAN("-");
	/* A failed write shows at the end, by ferror. */
	(void)fprintf(sink->ledger,
	    "%.*s %" PRIu64 " %" PRIu32 " %" PRId64 "\n", SPAN_ARG(id), bytes,
	    recipients, clock_wall_us());
}

/* --- counts ------------------------------------------------------------ */

static double
seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / (double)US_PER_S;
}

static void
append_counts(const struct sink *sink, struct buf *out)
{
	struct rusage spent = { 0 };

	(void)getrusage(RUSAGE_SELF, &spent);
	buf_printf(out,
	    "{\"messages\": %" PRIu64 ", \"recipients\": %" PRIu64
	    ", \"bytes\": %" PRIu64 ", \"refused\": %" PRIu64
	    ", \"connections\": %" PRIu64 ", \"tls_connections\": %" PRIu64
	    ", \"open\": %" PRIu64 ", \"open_max\": %" PRIu64,
	    sink->messages, sink->recipients, sink->bytes, sink->refused,
	    sink->connections, sink->tls_connections, sink->open,
	    sink->open_max);
	buf_printf(out,
	    ", \"first_us\": %" PRId64 ", \"last_us\": %" PRId64
	    ", \"cpu_s\": {\"user\": %.3f, \"system\": %.3f}}\n",
	    sink->first_us, sink->last_us, seconds(spent.ru_utime),
	    seconds(spent.ru_stime));
}

static void
on_statistics(struct loop_watch *watch, unsigned events)
{
	struct sink *sink = LIST_ENTRY(watch, struct sink, statistics);
	struct buf out = BUF_EMPTY;
	struct netaddr peer;
	int fd = socket_accept(watch->fd, &peer);

	(void)events;
	if (fd < 0)
		return;
	append_counts(sink, &out);
	struct span text = buf_span(&out);
	/* One line fits the socket's buffer; whoever left misses it. */
	(void)!send(fd, text.ptr, text.len, MSG_NOSIGNAL);
	(void)close(fd);
	buf_done(&out);
}

/* --- listening --------------------------------------------------------- */

static void
on_connection(struct loop_watch *watch, unsigned events)
{
	struct sink *sink = LIST_ENTRY(watch, struct sink, listener);
	struct netaddr peer;
	int fd;

	(void)events;
	while ((fd = socket_accept(watch->fd, &peer)) >= 0) {
		if (sink->open >= SINK_CLIENTS_MAX) {
			(void)close(fd);
			continue;
		}
		sink->connections++;
		sink_client_start(sink, fd);
		if (sink->open > sink->open_max)
			sink->open_max = sink->open;
	}
}

static void
listen_on(struct sink *sink, struct loop_watch *watch,
    const struct netaddr *addr, loop_ready_fn *on_ready)
{
	char text[NETADDR_TEXT_SIZE];
	int fd = socket_listen(addr, 0);

	if (fd < 0)
		option_fail("cannot listen on %s: %s",
		    netaddr_format(addr, text), error_text(fd));
	watch->on_ready = on_ready;
	if (loop_watch_fd(sink->loop, watch, fd, LOOP_READ) < 0)
		option_fail("cannot watch a listener");
}

static void
announce(const struct sink *sink)
{
	char text[NETADDR_TEXT_SIZE];
	struct netaddr addr;

	if (socket_local(sink->listener.fd, &addr) < 0)
		option_fail("cannot tell the address of the listener");
	(void)printf("{\"listening\": \"%s\"}\n", netaddr_format(&addr, text));
	(void)fflush(stdout);
}

/* --- the command line -------------------------------------------------- */

static enum sink_moment
parse_moment(struct span name)
{
	static const char *const names[SINK_MOMENTS] = {
		[SINK_CONNECT] = "connect",
		[SINK_MAIL] = "mail",
		[SINK_RCPT] = "rcpt",
		[SINK_DATA] = "data",
		[SINK_END] = "end",
	};

	for (unsigned i = 0; i < SINK_MOMENTS; i++)
		if (span_eq(name, span_of(names[i])))
			return (enum sink_moment)i;
	option_fail("--answer wants connect, mail, rcpt, data or end before "
		    "the first colon");
}

static void
parse_script(struct sink *sink, const char *value)
{
	struct span rest = span_of(value);
	struct span moment = span_cut(&rest, ':');
	struct span share = span_cut(&rest, ':');
	char number[32];
	uint64_t code;

	if (sink->script_count == SINK_SCRIPTS_MAX)
		option_fail("too many --answer");
	if (!span_to_cstring(share, number, sizeof number) ||
	    !span_to_u64(span_slice(rest, 0, 3), 599, &code) || code < 400)
		option_fail("--answer wants MOMENT:SHARE:REPLY with a reply "
			    "of 4xx or 5xx, not \"%s\"",
		    value);
	sink->scripts[sink->script_count++] = (struct sink_script){
		.moment = parse_moment(moment),
		.share = option_share("--answer", number),
		.reply = rest.ptr,
	};
}

static void
offer_tls(struct sink *sink)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;
	struct failure failure = { .text = "cannot make a certificate" };

	if (tls_make_self_signed("sink.invalid", &certificate, &key) < 0 ||
	    tls_context_new_server_pem(buf_span(&certificate), buf_span(&key),
		&sink->tls, &failure) < 0)
		option_fail("%s", failure.text);
	buf_done(&certificate);
	buf_done(&key);
}

static void
open_ledger(struct sink *sink, const char *path)
{
	sink->ledger = fopen(path, "ae");
	if (!sink->ledger)
		option_fail("cannot open %s: %s", path, error_text(-errno));
}

static void
parse_option(
    struct sink *sink, struct netaddr *address, int option, const char *value)
{
	switch (option) {
	case 'a':
		*address = option_address("--listen", value);
		break;
	case 's':
		sink->statistics_path = value;
		break;
	case 'l':
		open_ledger(sink, value);
		break;
	case 'd':
		sink->delay_us =
		    (int64_t)option_number("--delay", value, 0, 86400000) *
		    US_PER_MS;
		break;
	case 'r':
		parse_script(sink, value);
		break;
	case 'c':
		sink->chunking = true;
		break;
	case 't':
		offer_tls(sink);
		break;
	case 'h':
		(void)fputs(usage, stdout);
		exit(0);
	default:
		exit(2); /* getopt has said why */
	}
}

static void
parse_options(int argc, char **argv, struct sink *sink, struct netaddr *address)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'a' },
		{ "statistics", required_argument, NULL, 's' },
		{ "ledger", required_argument, NULL, 'l' },
		{ "delay", required_argument, NULL, 'd' },
		{ "answer", required_argument, NULL, 'r' },
		{ "chunking", no_argument, NULL, 'c' },
		{ "starttls", no_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		parse_option(sink, address, option, optarg);
	if (optind < argc)
		option_fail("\"%s\" is not an option", argv[optind]);
}

/* --- the run ----------------------------------------------------------- */

static void
on_signal(int number)
{
	(void)number;
	loop_stop(running_loop);
}

static void
on_flush(struct loop_timer *timer)
{
	struct sink *sink = LIST_ENTRY(timer, struct sink, flush_timer);

	(void)fflush(sink->ledger);
	loop_timer_set(
	    sink->loop, timer, loop_now_us(sink->loop) + LEDGER_FLUSH_US);
}

static int
run(struct sink *sink)
{
	const struct sigaction stop = { .sa_handler = on_signal };
	struct buf out = BUF_EMPTY;

	running_loop = sink->loop;
	(void)sigaction(SIGINT, &stop, NULL);
	(void)sigaction(SIGTERM, &stop, NULL);
	sink->flush_timer.on_time = on_flush;
	if (sink->ledger)
		on_flush(&sink->flush_timer);
	announce(sink);
	int result = loop_run(sink->loop);
	append_counts(sink, &out);
	(void)fputs(buf_cstring(&out), stdout);
	buf_done(&out);
	return result;
}

static struct netaddr
unix_address(const char *path)
{
	struct netaddr addr = { .family = NETADDR_UNIX };

	if (!span_to_cstring(span_of(path), addr.path, sizeof addr.path))
		option_fail("the path of --statistics is too long");
	return addr;
}

int
main(int argc, char **argv)
{
	static struct sink sink;
	struct netaddr address = option_address("--listen", "127.0.0.1:0");

	(void)privilege_raise_file_limit();
	if (loop_new(&sink.loop) < 0)
		option_fail("cannot make an epoll loop");
	parse_options(argc, argv, &sink, &address);
	listen_on(&sink, &sink.listener, &address, on_connection);
	if (sink.statistics_path) {
		struct netaddr path = unix_address(sink.statistics_path);
		listen_on(&sink, &sink.statistics, &path, on_statistics);
	}
	int status = run(&sink) < 0;
	if (sink.statistics_path)
		(void)unlink(sink.statistics_path);
	if (sink.ledger && (ferror(sink.ledger) | fclose(sink.ledger)) != 0) {
		(void)fputs("smtp_sink: cannot write the ledger\n", stderr);
		status = 1;
	}
	/* Clients end with the process. */
	return status;
}

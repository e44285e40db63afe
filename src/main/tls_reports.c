/* SPDX-License-Identifier: Apache-2.0 */

/*
 * TLS reports (RFC 8460), on the chief's loop: the results of days that are
 * over go, one domain after the other, to whom its record _smtp._tls names.
 * They leave as reports of our own, with the null sender, so that nobody
 * reports on a report. Results are written to DATA_DIR/tls-reports each
 * minute. What cannot be sent for three days is forgotten.
 */

#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "mail/address.h"
#include "main/internal.h"
#include "os/clock.h"
#include "os/file.h"
#include "sts/results.h"
#include "sts/rua.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define FIRST_US (2 * US_PER_S)
#define NEXT_US (US_PER_S / 5) /* between two domains */

enum { DAYS_MAX = 3, RUAS_MAX = 3, FILE_MAX = 64 * 1024 * 1024 };

struct tls_reports {
	struct engine *engine;
	struct sts_results *results;
	char *path;
	struct loop_timer timer;
	struct resolver *resolver;
	struct resolve_query *query;
	bool is_asking;
	int64_t saved_us; /* monotonic */
	char domain[256]; /* being asked about */
	int64_t day;
};

/* ---- the letter ---------------------------------------------------------- */

struct letter {
	const struct tls_reports *reports;
	const char *to;
	struct span packed; /* the report, by gzip */
};

static bool
pack(struct span text, struct buf *out)
{
	struct isal_zstream stream;
	size_t room = text.len + text.len / 8 + 1024;

	isal_deflate_stateless_init(&stream);
	stream.gzip_flag = IGZIP_GZIP;
	stream.end_of_stream = 1;
	stream.next_in = (uint8_t *)(uintptr_t)text.ptr;
	stream.avail_in = (uint32_t)text.len;
	stream.next_out = (uint8_t *)buf_reserve(out, room);
	stream.avail_out = (uint32_t)room;
	if (isal_deflate_stateless(&stream) != COMP_OK)
		return false;
	buf_added(out, stream.total_out);
	return true;
}

static void
append_base64(struct span octets, struct buf *out)
{
	enum { LINE = 57 };

	unsigned char line[80];

	while (octets.len > 0) {
		struct span piece = span_slice(octets, 0, LINE);
		int len = EVP_EncodeBlock(
		    line, (const unsigned char *)piece.ptr, (int)piece.len);
		buf_append(out, span_from(line, (size_t)len));
		buf_append_str(out, "\r\n");
		octets = span_skip(octets, piece.len);
	}
}

static void
append_head(const struct letter *l, struct span message_id, struct buf *out)
{
	const struct config *c = l->reports->engine->config;
	const char *domain = l->reports->domain;
	char date[TIME_RFC5322_SIZE], day[TIME_RFC3339_SIZE];

	(void)time_format_rfc3339(l->reports->day * US_PER_DAY, day);
	buf_printf(out,
	    "From: TLS reports <%s>\r\n"
	    "To: <%s>\r\n"
	    "Subject: Report Domain: %s Submitter: %s Report-ID: "
	    "<%.10s.%s@%s>\r\n"
	    "Date: %s\r\n"
	    "Message-ID: <%.*s@%s>\r\n"
	    "TLS-Report-Domain: %s\r\n"
	    "TLS-Report-Submitter: %s\r\n"
	    "Auto-Submitted: auto-generated\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n"
	    "\tboundary=\"=_tls-report\"\r\n\r\n",
	    c->reports.postmaster, l->to, domain, c->hostname, day, domain,
	    c->hostname, time_format_rfc5322(clock_wall_us(), date),
	    SPAN_ARG(message_id), c->hostname, domain, c->hostname);
}

static void
compose(void *arg, struct span message_id, struct buf *out)
{
	const struct letter *l = arg;
	const char *hostname = l->reports->engine->config->hostname;
	const char *domain = l->reports->domain;
	long long from = (long long)l->reports->day * 86400;

	append_head(l, message_id, out);
	buf_printf(out,
	    "--=_tls-report\r\n"
	    "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
	    "This is a report on TLS with the mail servers of %s,\r\n"
	    "as RFC 8460 describes it, from %s.\r\n\r\n"
	    "--=_tls-report\r\n"
	    "Content-Type: application/tlsrpt+gzip\r\n"
	    "Content-Transfer-Encoding: base64\r\n"
	    "Content-Disposition: attachment;\r\n"
	    "\tfilename=\"%s!%s!%lld!%lld.json.gz\"\r\n\r\n",
	    domain, hostname, hostname, domain, from, from + 86399);
	append_base64(l->packed, out);
	buf_append_str(out, "--=_tls-report--\r\n");
}

/* ---- sending ------------------------------------------------------------- */

struct sent {
	struct sts_results *results;
	int64_t day;
	char domain[256];
};

/* On the committer's thread. What is not on the disk stays due. */
static void
on_durable(void *arg, int result)
{
	struct sent *s = arg;

	if (result == 0)
		sts_results_drop(s->results, s->day, s->domain);
	mem_free(s);
}

static bool
submit(struct tls_reports *t, const char *to, struct span packed)
{
	struct engine *e = t->engine;
	struct directory_snapshot *names = directory_snapshot(e->directory);
	const struct directory_stream *stream = directory_find_stream(
	    names, DIRECTORY_DEFAULT_TENANT, SPAN("transactional"));
	struct letter letter = { t, to, packed };
	const struct intake_report report = {
		.to = span_of(to),
		.tenant = DIRECTORY_DEFAULT_TENANT,
		.stream = stream != NULL ? stream->id : 0,
		.compose = compose,
		.arg = &letter,
	};
	struct spool_txn *txn = spool_txn_new(e->spool);
	struct intake_message *m = NULL;

	directory_snapshot_unref(&names);
	if (intake_add_report(e->intake, txn, &report, &m) < 0) {
		spool_txn_free(&txn);
		return false;
	}
	struct sent *sent = MEM_NEW(struct sent);
	sent->results = t->results;
	sent->day = t->day;
	memcpy(sent->domain, t->domain, sizeof(sent->domain));
	intake_submit(e->intake, &txn, &m, 1, on_durable, sent);
	LOG(LOG_INFO, "main", "a TLS report is on its way",
	    LOG_C("domain", t->domain), LOG_C("to", to));
	return true;
}

/* An address of a stranger's record: mail may go there, no more. */
static bool
is_address(const char *text)
{
	struct arena *arena = arena_new();
	struct address address;
	const char *reason;
	bool is_good =
	    span_is_ascii(span_of(text)) &&
	    address_parse(span_of(text), 0, arena, &address, &reason) >= 0 &&
	    address.domain.len > 0;

	arena_free(&arena);
	return is_good;
}

static unsigned
send_to_all(struct tls_reports *t, struct span record, struct span packed)
{
	char to[ADDRESS_MAX + 1];
	unsigned count = 0;
	size_t at = 0;

	while (count < RUAS_MAX && sts_rua_next(record, &at, to, sizeof(to))) {
		if (is_address(to))
			count += submit(t, to, packed);
	}
	return count;
}

static unsigned
send_report(struct tls_reports *t, struct span record)
{
	const struct config *c = t->engine->config;
	const struct sts_reporter reporter = {
		.organization = c->tls_reports.organization != NULL
				    ? c->tls_reports.organization
				    : c->hostname,
		.contact = c->reports.postmaster,
	};
	struct buf text = BUF_EMPTY, packed = BUF_EMPTY;
	unsigned count = 0;

	if (sts_results_compose(
		t->results, t->day, t->domain, &reporter, &text) &&
	    pack(buf_span(&text), &packed))
		count = send_to_all(t, record, buf_span(&packed));
	buf_done(&packed);
	buf_done(&text);
	return count;
}

static void
on_record(void *arg, const struct resolve_records *records)
{
	struct tls_reports *t = arg;
	bool is_old = t->day + DAYS_MAX < sts_day(clock_wall_us());
	unsigned sent = 0;

	t->query = NULL;
	t->is_asking = false;
	for (size_t i = 0; i < records->count && sent == 0; i++) {
		struct buf text = BUF_EMPTY;
		if (resolve_txt_join(records->rdata[i], &text))
			sent = send_report(t, buf_span(&text));
		buf_done(&text);
	}
	/* Who asks for none gets none; who cannot be asked, later. */
	if (sent == 0 && (records->result != RESOLVE_TEMPORARY || is_old))
		sts_results_drop(t->results, t->day, t->domain);
	loop_timer_set(t->engine->loop, &t->timer,
	    loop_now_us(t->engine->loop) +
		(records->result == RESOLVE_TEMPORARY ? US_PER_MIN : NEXT_US));
}

static bool
has_resolver(struct tls_reports *t)
{
	struct engine *e = t->engine;
	struct resolver_options options = resolver_options_of(e->config);
	struct failure failure;

	if (t->resolver != NULL)
		return true;
	pthread_mutex_lock(&e->facts_lock);
	options.dnssec &= strcmp(e->facts.dnssec, "validates") == 0;
	pthread_mutex_unlock(&e->facts_lock);
	if (resolver_new(e->loop, &options, &t->resolver, &failure) == 0)
		return true;
	LOG(LOG_ERROR, "main", "no TLS report can be sent",
	    LOG_C("reason", failure.text));
	return false;
}

static void
send_next(struct tls_reports *t)
{
	int64_t today = sts_day(clock_wall_us());

	if (t->is_asking || t->engine->stopping ||
	    !t->engine->config->tls_reports.enabled ||
	    !sts_results_due(t->results, today, t->domain, &t->day) ||
	    !has_resolver(t))
		return;
	AUTO_FREE char *name = mem_printf("_smtp._tls.%s", t->domain);
	t->is_asking = true;
	struct resolve_query *query = resolve_records(
	    t->resolver, RESOLVE_TXT, span_of(name), on_record, t);
	if (query != NULL)
		t->query = query;
}

/* ---- keeping ------------------------------------------------------------- */

static void
save(struct tls_reports *t)
{
	struct buf text = BUF_EMPTY;
	int err = 0;

	if (sts_results_save(t->results, &text))
		err = file_replace(t->path, buf_span(&text), 0640);
	if (err < 0)
		LOG(LOG_WARNING, "main", "results for TLS reports are not kept",
		    LOG_C("file", t->path), LOG_C("error", error_text(err)));
	buf_done(&text);
}

static void
on_time(struct loop_timer *timer)
{
	struct tls_reports *t = LIST_ENTRY(timer, struct tls_reports, timer);
	int64_t now_us = loop_now_us(t->engine->loop);

	loop_timer_set(t->engine->loop, timer, now_us + US_PER_MIN);
	if (now_us - t->saved_us >= US_PER_MIN) {
		t->saved_us = now_us;
		save(t);
	}
	send_next(t);
}

static void
load(struct tls_reports *t)
{
	struct buf text = BUF_EMPTY;
	int err = file_read(t->path, FILE_MAX, &text);

	if (err == 0)
		sts_results_load(t->results, buf_span(&text));
	else if (err != -ENOENT)
		LOG(LOG_WARNING, "main",
		    "results for TLS reports cannot be read",
		    LOG_C("file", t->path), LOG_C("error", error_text(err)));
	buf_done(&text);
}

struct tls_reports *
tls_reports_new(struct engine *e)
{
	struct tls_reports *t = MEM_NEW(struct tls_reports);

	t->engine = e;
	t->results = sts_results_new();
	t->path = mem_printf("%s/tls-reports", e->config->data_dir);
	t->timer.on_time = on_time;
	load(t);
	loop_timer_set(e->loop, &t->timer, loop_now_us(e->loop) + FIRST_US);
	return t;
}

struct sts_results *
tls_reports_results(const struct tls_reports *reports)
{
	return reports->results;
}

void
tls_reports_reload(struct tls_reports *t)
{
	resolve_cancel(&t->query);
	t->is_asking = false;
	resolver_free(&t->resolver);
}

void
tls_reports_free(struct tls_reports **reports)
{
	struct tls_reports *t = *reports;

	if (t == NULL)
		return;
	*reports = NULL;
	tls_reports_reload(t);
	loop_timer_clear(&t->timer);
	save(t);
	sts_results_free(&t->results);
	mem_free(t->path);
	mem_free(t);
}

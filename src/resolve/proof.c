/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/proof.h"

#include "base/bug.h"
#include "base/mem.h"
#include "os/clock.h"
#include "os/file.h"
#include "resolve/internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#define TRY_US (5 * US_PER_S)
#define SLICE_MS 100 /* between two looks at whether to stop */
#define AGAIN_US US_PER_MIN

enum { ANCHOR_FILE_MAX = 64 * 1024, RR_SOA = 6 };

struct resolve_proof {
	struct resolver_options options;
	struct netaddr *servers;
	char *trust_anchor;
	resolve_proof_fn *fn;
	void *arg;
	pthread_t thread;
	atomic_bool stopping;
};

/* ---- one question, waited for ------------------------------------------ */

struct waiter {
	bool is_done, is_secure, is_bogus;
	char why[192];
};

static void
on_unbound(void *arg, int err, struct ub_result *result)
{
	struct waiter *w = arg;

	w->is_done = true;
	if (err || !result) {
		(void)snprintf(w->why, sizeof w->why, "%s", ub_strerror(err));
		return;
	}
	w->is_secure = result->secure;
	w->is_bogus = result->bogus;
	if (result->bogus)
		(void)snprintf(w->why, sizeof w->why, "%s",
		    result->why_bogus ? result->why_bogus : "bogus");
	else if (result->rcode)
		(void)snprintf(w->why, sizeof w->why,
		    "the servers answer with rcode %d", result->rcode);
	else
		(void)snprintf(
		    w->why, sizeof w->why, "the answer is not signed");
	ub_resolve_free(result);
}

static bool
must_stop(const atomic_bool *stopping)
{
	return stopping && atomic_load(stopping);
}

static void
wait_for(struct ub_ctx *ctx, struct waiter *w, int64_t end_us,
    const atomic_bool *stopping)
{
	while (!w->is_done && clock_monotonic_us() < end_us &&
	       !must_stop(stopping)) {
		struct pollfd p = { .fd = ub_fd(ctx), .events = POLLIN };
		(void)poll(&p, 1, SLICE_MS);
		if (ub_process(ctx) != 0)
			return;
	}
}

/* False: it could not even be asked. */
static bool
ask(const struct resolver_options *o, const char *anchor, const char *zone,
    const atomic_bool *stopping, struct waiter *ret)
{
	struct failure failure = { .text = "" };
	struct waiter w = { .is_done = false };
	struct ub_ctx *ctx = NULL;
	int id;

	bool is_asked =
	    unbound_open(o, anchor, &ctx, &failure) == 0 &&
	    unbound_ask(ctx, zone, RR_SOA, &w, on_unbound, &id) == 0;
	if (is_asked)
		wait_for(ctx, &w,
		    clock_monotonic_us() +
			(o->timeout_us > 0 ? o->timeout_us : TRY_US),
		    stopping);
	if (is_asked && !w.is_done)
		(void)snprintf(w.why, sizeof w.why, "no answer in time");
	if (!is_asked)
		(void)snprintf(w.why, sizeof w.why, "%.*s",
		    (int)sizeof w.why - 1, failure.text);
	unbound_close(&ctx);
	*ret = w;
	return is_asked;
}

/* ---- the two questions -------------------------------------------------- */

/* The owner of the first record in a file of DS or DNSKEY records. */
static bool
anchor_zone(struct span text, char ret_zone[static DNS_NAME_SIZE + 1])
{
	while (text.len) {
		struct span line = span_trim(span_cut(&text, '\n'));
		size_t end = 0;
		if (!line.len || line.ptr[0] == ';' || line.ptr[0] == '$')
			continue;
		while (end < line.len && line.ptr[end] != ' ' &&
		       line.ptr[end] != '\t')
			end++;
		if (end == line.len)
			continue;
		struct span name = span_slice(line, 0, end);
		if (span_eq(name, SPAN("."))) {
			(void)snprintf(ret_zone, DNS_NAME_SIZE + 1, ".");
			return true;
		}
		return dns_name_normalise(name, ret_zone);
	}
	return false;
}

static bool
find_zone(const struct resolver_options *o,
    char ret_zone[static DNS_NAME_SIZE + 1], struct resolve_verdict *v)
{
	const char *path = unbound_anchor(o);
	struct buf text = BUF_EMPTY;
	int err = file_read(path, ANCHOR_FILE_MAX, &text);
	bool is_found = err == 0 && anchor_zone(buf_span(&text), ret_zone);

	buf_done(&text);
	if (!is_found)
		(void)snprintf(v->problem, sizeof v->problem,
		    "the trust anchor %.100s cannot be used: %s", path,
		    err < 0 ? error_text(err) : "it has no record");
	return is_found;
}

static void
prove(const struct resolver_options *o, const atomic_bool *stopping,
    struct resolve_verdict *v)
{
	/* A key tag and a digest that no key has. */
	static const char nobody[] =
	    "DS 4711 13 2 "
	    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
	char zone[DNS_NAME_SIZE + 1], forged[DNS_NAME_SIZE + sizeof nobody + 8];
	struct waiter w = { .is_done = false };

	if (!find_zone(o, zone, v))
		return;
	(void)ask(o, NULL, zone, stopping, &w);
	if (!w.is_secure) {
		(void)snprintf(v->problem, sizeof v->problem,
		    "the zone of the trust anchor (%.40s) cannot be "
		    "validated: %.150s",
		    zone, w.why);
		return;
	}
	(void)snprintf(forged, sizeof forged, "%s IN %s", zone, nobody);
	w = (struct waiter){ .is_done = false };
	(void)ask(o, forged, zone, stopping, &w);
	v->validates = w.is_bogus;
	if (!w.is_bogus)
		(void)snprintf(v->problem, sizeof v->problem,
		    "an answer that must be refused (%.40s under a made-up "
		    "key) was not: %.100s",
		    zone, w.is_secure ? "it was believed" : w.why);
}

void
resolve_prove(
    const struct resolver_options *options, struct resolve_verdict *ret_verdict)
{
	*ret_verdict = (struct resolve_verdict){ .validates = false };
	prove(options, NULL, ret_verdict);
}

/* ---- the thread --------------------------------------------------------- */

static void
pause_for(const struct resolve_proof *p, int64_t us)
{
	int64_t end_us = clock_monotonic_us() + us;

	while (clock_monotonic_us() < end_us && !must_stop(&p->stopping))
		(void)poll(NULL, 0, SLICE_MS);
}

static void *
run(void *arg)
{
	struct resolve_proof *p = arg;
	bool is_first = true;

	(void)pthread_setname_np(pthread_self(), "proof");
	while (!must_stop(&p->stopping)) {
		struct resolve_verdict v = { .validates = false };
		prove(&p->options, &p->stopping, &v);
		if (must_stop(&p->stopping))
			break;
		if (is_first || v.validates)
			p->fn(p->arg, &v);
		if (v.validates)
			break;
		is_first = false;
		pause_for(p, AGAIN_US);
	}
	return NULL;
}

static void
proof_free(struct resolve_proof *p)
{
	mem_free(p->servers);
	mem_free(p->trust_anchor);
	mem_free(p);
}

int
resolve_proof_start(const struct resolver_options *options,
    resolve_proof_fn *fn, void *arg, struct resolve_proof **ret_proof)
{
	struct resolve_proof *p = MEM_NEW(struct resolve_proof);
	sigset_t all, before;

	p->options = *options;
	p->options.dnssec = true;
	p->options.timeout_us = 0;
	p->options.hostname = NULL;
	if (options->server_count)
		p->options.servers = p->servers = mem_dup(options->servers,
		    options->server_count * sizeof *options->servers);
	if (options->trust_anchor)
		p->options.trust_anchor = p->trust_anchor =
		    mem_strdup(options->trust_anchor);
	p->fn = fn;
	p->arg = arg;
	atomic_init(&p->stopping, false);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = -pthread_create(&p->thread, NULL, run, p);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err < 0) {
		proof_free(p);
		return err;
	}
	*ret_proof = p;
	return 0;
}

void
resolve_proof_stop(struct resolve_proof **proof)
{
	struct resolve_proof *p = *proof;

	if (!p)
		return;
	*proof = NULL;
	atomic_store(&p->stopping, true);
	(void)pthread_join(p->thread, NULL);
	proof_free(p);
}

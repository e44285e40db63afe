/* SPDX-License-Identifier: Apache-2.0 */
#include "sts/fetch.h"

#include "base/buf.h"
#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "sts/policy.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* While something is under way libcurl is looked at so often. */
#define LOOK_US (20 * US_PER_MS)

struct fetch {
	struct list link;
	struct fetcher *fetcher;
	CURL *easy;
	struct curl_slist *resolve;
	struct buf body;
	char *url, *ca_file;
	bool allow_private, is_long;
	char error[CURL_ERROR_SIZE];
	fetch_fn *fn;
	void *arg;
};

struct fetcher {
	struct loop *loop;
	struct loop_timer timer;
	CURLM *multi;
	struct list running, waiting;
	unsigned count; /* running */
};

/* ---- what libcurl asks -------------------------------------------------- */

static size_t
on_body(char *p, size_t size, size_t count, void *arg)
{
	struct fetch *f = arg;
	size_t len = size * count;

	if (buf_size(&f->body) + len > STS_POLICY_MAX) {
		f->is_long = true;
		return 0;
	}
	buf_append(&f->body, span_from(p, len));
	return len;
}

static bool
is_allowed(const struct fetch *f, const struct curl_sockaddr *to)
{
	struct netaddr address = { .family = NETADDR_IP4 };
	struct sockaddr_in6 six;
	struct sockaddr_in four;

	if (to->family == AF_INET6) {
		memcpy(&six, &to->addr, sizeof six);
		address.family = NETADDR_IP6;
		memcpy(address.ip, &six.sin6_addr, 16);
	} else if (to->family == AF_INET) {
		memcpy(&four, &to->addr, sizeof four);
		memcpy(address.ip, &four.sin_addr, 4);
	} else {
		return false;
	}
	return f->allow_private || !netaddr_is_private(&address);
}

static curl_socket_t
on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	const struct fetch *f = arg;

	if (purpose != CURLSOCKTYPE_IPCXN || !is_allowed(f, to))
		return CURL_SOCKET_BAD;
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- one fetch ---------------------------------------------------------- */

static void
fetch_free(struct fetch *f)
{
	list_remove(&f->link);
	if (f->easy != NULL)
		curl_easy_cleanup(f->easy);
	curl_slist_free_all(f->resolve);
	buf_done(&f->body);
	mem_free(f->url);
	mem_free(f->ca_file);
	mem_free(f);
}

/* "host:port:addr,addr": libcurl asks no resolver of its own. */
static struct curl_slist *
addresses_of(const struct fetch_options *o)
{
	struct buf line = BUF_EMPTY;
	char text[NETADDR_TEXT_SIZE];

	buf_printf(&line, "%s:%u:", o->host, o->port);
	for (size_t i = 0; i < o->address_count; i++) {
		bool is_six = o->addresses[i].family == NETADDR_IP6;
		(void)netaddr_format_ip(&o->addresses[i], text);
		buf_printf(&line, "%s%s%s%s", i > 0 ? "," : "",
		    is_six ? "[" : "", text, is_six ? "]" : "");
	}
	struct curl_slist *list = curl_slist_append(NULL, buf_cstring(&line));
	buf_done(&line);
	return list;
}

static bool
set_up(struct fetch *f, const struct fetch_options *o)
{
	CURL *e = f->easy;
	long ms = (long)(o->timeout_us / US_PER_MS);
	CURLcode bad = CURLE_OK;

	bad |= curl_easy_setopt(e, CURLOPT_URL, f->url);
	bad |= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "https");
	bad |= curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	bad |= curl_easy_setopt(e, CURLOPT_PROXY, "");
	bad |= curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	bad |= curl_easy_setopt(e, CURLOPT_RESOLVE, f->resolve);
	bad |= curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, ms > 0 ? ms : 1L);
	bad |= curl_easy_setopt(e, CURLOPT_USERAGENT, "posthouse");
	bad |= curl_easy_setopt(e, CURLOPT_ERRORBUFFER, f->error);
	bad |= curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	bad |= curl_easy_setopt(e, CURLOPT_WRITEDATA, f);
	bad |= curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	bad |= curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, f);
	bad |= curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_PRIVATE, f);
	if (f->ca_file != NULL)
		bad |= curl_easy_setopt(e, CURLOPT_CAINFO, f->ca_file);
	return bad == CURLE_OK;
}

static bool
is_plain_text(const char *type)
{
	struct span rest = span_of(type);

	return span_eq_nocase(
	    span_trim(span_cut(&rest, ';')), SPAN("text/plain"));
}

static void
finish(struct fetch *f, CURLcode result)
{
	char problem[CURL_ERROR_SIZE + 64] = "";
	long status = 0;
	char *type = NULL;

	(void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(f->easy, CURLINFO_CONTENT_TYPE, &type);
	if (f->is_long)
		(void)snprintf(
		    problem, sizeof problem, "the answer is longer than 64 KB");
	else if (result != CURLE_OK)
		(void)snprintf(problem, sizeof problem, "%s",
		    *f->error ? f->error : curl_easy_strerror(result));
	else if (status != 200)
		(void)snprintf(problem, sizeof problem,
		    "the server answers with status %ld", status);
	else if (!is_plain_text(type))
		(void)snprintf(
		    problem, sizeof problem, "the answer is not text/plain");
	f->fn(f->arg, buf_span(&f->body), *problem ? problem : NULL);
	fetch_free(f);
}

/* ---- all of them -------------------------------------------------------- */

static void
run_waiting(struct fetcher *r)
{
	while (r->count < FETCHES_MAX && !list_is_empty(&r->waiting)) {
		struct fetch *f =
		    LIST_ENTRY(r->waiting.next, struct fetch, link);
		list_remove(&f->link);
		if (curl_multi_add_handle(r->multi, f->easy) != CURLM_OK) {
			f->fn(f->arg, SPAN_EMPTY, "libcurl refuses it");
			fetch_free(f);
			continue;
		}
		list_append(&r->running, &f->link);
		r->count++;
	}
}

static void
take_finished(struct fetcher *r)
{
	int left;
	struct CURLMsg *message;

	while ((message = curl_multi_info_read(r->multi, &left)) != NULL) {
		CURLcode result = message->data.result;
		CURL *easy = message->easy_handle;
		void *owner = NULL;
		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
		(void)curl_multi_remove_handle(r->multi, easy);
		r->count--;
		finish(owner, result);
	}
}

static void
on_time(struct loop_timer *timer)
{
	struct fetcher *r = LIST_ENTRY(timer, struct fetcher, timer);
	int running;

	run_waiting(r);
	(void)curl_multi_perform(r->multi, &running);
	take_finished(r);
	if (r->count > 0 || !list_is_empty(&r->waiting))
		loop_timer_set(
		    r->loop, &r->timer, loop_now_us(r->loop) + LOOK_US);
}

void
fetch_start(struct fetcher *r, const struct fetch_options *options,
    fetch_fn *fn, void *arg)
{
	struct fetch *f = MEM_NEW(struct fetch);

	f->fetcher = r;
	list_init(&f->link);
	f->easy = curl_easy_init();
	f->url = mem_printf("https://%s:%u/.well-known/mta-sts.txt",
	    options->host, options->port);
	if (options->port == 443) {
		mem_free(f->url);
		f->url = mem_printf(
		    "https://%s/.well-known/mta-sts.txt", options->host);
	}
	f->ca_file =
	    options->ca_file != NULL ? mem_strdup(options->ca_file) : NULL;
	f->allow_private = options->allow_private;
	f->resolve = addresses_of(options);
	f->fn = fn;
	f->arg = arg;
	if (f->easy == NULL || f->resolve == NULL || !set_up(f, options)) {
		fn(arg, SPAN_EMPTY, "libcurl cannot be set up");
		fetch_free(f);
		return;
	}
	list_append(&r->waiting, &f->link);
	loop_timer_set(r->loop, &r->timer, loop_now_us(r->loop));
}

int
fetcher_new(struct loop *loop, struct fetcher **ret_fetcher)
{
	struct fetcher *r = MEM_NEW(struct fetcher);

	r->loop = loop;
	r->timer.on_time = on_time;
	list_init(&r->running);
	list_init(&r->waiting);
	r->multi = curl_multi_init();
	if (r->multi == NULL) {
		mem_free(r);
		return -ENOMEM;
	}
	*ret_fetcher = r;
	return 0;
}

static void
drop_all(struct list *fetches, CURLM *multi)
{
	while (!list_is_empty(fetches)) {
		struct fetch *f = LIST_ENTRY(fetches->next, struct fetch, link);
		(void)curl_multi_remove_handle(multi, f->easy);
		fetch_free(f);
	}
}

void
fetcher_free(struct fetcher **fetcher)
{
	struct fetcher *r = *fetcher;

	if (r == NULL)
		return;
	*fetcher = NULL;
	loop_timer_clear(&r->timer);
	drop_all(&r->running, r->multi);
	drop_all(&r->waiting, r->multi);
	(void)curl_multi_cleanup(r->multi);
	mem_free(r);
}

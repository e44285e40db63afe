/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reload: the config and the certificates are read again; on any mistake
 * everything stays as it was. New sessions and decisions use the new config,
 * open sessions keep theirs. Listeners, data_dir, user and the number of
 * threads take a restart, which is said.
 */

#include "base/list.h"
#include "base/mem.h"
#include "config/shaping.h"
#include "log/log.h"
#include "main/internal.h"
#include "os/notify.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int
engine_load_tls(const struct config *config, struct tls_context **ret_context,
    struct failure *f)
{
	*ret_context = NULL;
	if (config->tls.certificate == NULL)
		return 0;
	return tls_context_new_server(
	    config->tls.certificate, config->tls.private_key, ret_context, f);
}

/* Root may have read what the service's user may not. */
static void
warn_if_unreadable(const char *path)
{
	if (path == NULL || access(path, R_OK) == 0)
		return;
	LOG(LOG_WARNING, "main",
	    "a file cannot be read again by the service's user, which a "
	    "reload or a delivery will need",
	    LOG_C("file", path), LOG_C("error", error_text(-errno)));
}

/* Nobody should believe that mail leaves from there. */
static void
warn_of_sources(const struct config *config)
{
	if (config->source_count == 0 || config->pool_count > 0)
		return;
	LOG(LOG_WARNING, "main",
	    "sources without pools are not used: mail leaves from the address "
	    "that the system chooses, under the general hostname; name the "
	    "sources in a pool",
	    LOG_N("sources", config->source_count));
}

struct event_limits
engine_event_limits(const struct config *config)
{
	return (struct event_limits){ config->limits.events_us,
		config->limits.events_size };
}

void
engine_check_reload(const struct engine *e)
{
	const struct config *c = e->config;

	warn_of_sources(c);
	warn_if_unreadable(e->options->config_path);
	warn_if_unreadable(c->shaping ? c->shaping->path : NULL);
	warn_if_unreadable(c->tls.certificate);
	warn_if_unreadable(c->tls.private_key);
	warn_if_unreadable(c->mta_sts.ca_file);
	for (size_t i = 0; i < c->route_count; i++) {
		warn_if_unreadable(c->routes[i].password_file);
		warn_if_unreadable(c->routes[i].tls_ca);
	}
}

struct mistakes {
	unsigned count;
	char first[FAILURE_TEXT_MAX / 2];
};

static void
on_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	struct mistakes *m = arg;

	if (m->count++ == 0) {
		AUTO_FREE char *all =
		    mem_printf("%s:%u:%u: %s", file, line, column, text);

		(void)span_to_cstring(
		    span_slice(span_of(all), 0, sizeof(m->first) - 1), m->first,
		    sizeof(m->first));
	}
	LOG(LOG_ERROR, "main", "mistake in the config", LOG_C("file", file),
	    LOG_N("line", line), LOG_N("column", column),
	    LOG_C("mistake", text));
}

static bool
same_listeners(const struct config *a, const struct config *b)
{
	if (a->listener_count != b->listener_count)
		return false;
	for (size_t i = 0; i < a->listener_count; i++) {
		const struct config_listener *x = &a->listeners[i];
		const struct config_listener *y = &b->listeners[i];
		char m[NETADDR_TEXT_SIZE], n[NETADDR_TEXT_SIZE];

		if (x->service != y->service || x->tls != y->tls ||
		    strcmp(netaddr_format(&x->address, m),
			netaddr_format(&y->address, n)) != 0)
			return false;
	}
	return true;
}

static bool
has_maildir(const struct config *config, const char *path)
{
	for (size_t i = 0; i < config->route_count; i++) {
		const struct config_route *r = &config->routes[i];

		if (r->deliver == CONFIG_DELIVER_MAILDIR &&
		    strcmp(r->to_path, path) == 0)
			return true;
	}
	return false;
}

static bool
has_new_maildir(const struct config *old, const struct config *new)
{
	for (size_t i = 0; i < new->route_count; i++) {
		const struct config_route *r = &new->routes[i];

		if (r->deliver == CONFIG_DELIVER_MAILDIR &&
		    !has_maildir(old, r->to_path))
			return true;
	}
	return false;
}

static int
refuse_restart_changes(
    const struct engine *e, const struct config *new, struct failure *f)
{
	const struct config *old = e->config;
	const char *what = NULL;

	if (!same_listeners(old, new))
		what = "listeners";
	else if (strcmp(old->data_dir, new->data_dir) != 0)
		what = "data_dir";
	else if (strcmp(old->user, new->user) != 0)
		what = "user";
	else if (old->delivery.threads != new->delivery.threads)
		what = "delivery.threads";
	else if (dispatch_share(old, e->reactor_count) !=
		 dispatch_share(new, e->reactor_count))
		what = "a limit of delivery connections below the number of "
		       "threads";
	else if (has_new_maildir(old, new))
		what = "a maildir route's directory (writing is confined)";
	if (what == NULL)
		return 0;
	return failure_set(f, ERR_REFUSED,
	    "%s changed: that takes a restart; nothing was reloaded", what);
}

/* ---- handing out ------------------------------------------------------- */

struct handover {
	struct loop_item item;
	struct reactor *reactor;
	struct config *config;
	struct tls_context *tls;
};

static void
take_over(struct loop_item *item)
{
	struct handover *h = LIST_ENTRY(item, struct handover, item);

	receiver_reload(h->reactor->receiver, h->config, h->tls);
	dispatch_reload(h->reactor->dispatch, h->config);
	config_unref(&h->config);
	tls_context_unref(&h->tls);
	mem_free(h);
}

static void
hand_out(struct engine *e)
{
	for (uint32_t i = 0; i < e->reactor_count; i++) {
		struct handover *h = MEM_NEW(struct handover);

		h->item.run = take_over;
		h->reactor = &e->reactors[i];
		h->config = config_ref(e->config);
		h->tls = e->tls != NULL ? tls_context_ref(e->tls) : NULL;
		loop_post(e->reactors[i].loop, &h->item);
	}
	intake_set_config(e->intake, e->config);
	returned_set_config(e->returned, e->config);
	signing_set_config(e->signing, e->config);
}

int
engine_reload(struct engine *e, struct failure *f)
{
	struct mistakes mistakes = { 0 };
	struct config *config;
	struct tls_context *tls = NULL;

	if (e->stopping)
		return failure_set(f, ERR_REFUSED, "the service is stopping");
	if (e->options->config_path == NULL)
		return failure_set(f, ERR_REFUSED,
		    "this service was not started from a config file");
	int result = config_load(
	    e->options->config_path, true, on_mistake, &mistakes, &config);
	if (result < 0)
		return failure_set(f, result,
		    "%u mistakes in the config, the old one stays; the first: "
		    "%s",
		    mistakes.count, mistakes.first);
	result = refuse_restart_changes(e, config, f);
	if (result == 0)
		result = engine_load_tls(config, &tls, f);
	if (result < 0) {
		config_unref(&config);
		return result;
	}
	config_unref(&e->config);
	tls_context_unref(&e->tls);
	e->config = config;
	e->tls = tls;
	log_set((enum log_level)config->log.level,
	    (enum log_format)config->log.format);
	engine_take_facts(e);
	warn_of_sources(config);
	hand_out(e);
	validation_reload(e);
	const struct event_limits limits = engine_event_limits(config);
	exporter_set_limits(e->exporter, &limits);
	LOG(LOG_INFO, "main", "reloaded",
	    LOG_C("config", e->options->config_path));
	return 0;
}

/* ---- asked for by the control socket ----------------------------------- */

struct reload_call {
	struct loop_item item;
	struct engine *engine;
	struct failure *failure;
	int result;
	pthread_mutex_t lock;
	pthread_cond_t finished;
	bool done;
};

static void
run_reload(struct loop_item *item)
{
	struct reload_call *c = LIST_ENTRY(item, struct reload_call, item);

	c->result = engine_reload(c->engine, c->failure);
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->finished);
	pthread_mutex_unlock(&c->lock);
}

/* False: the chief takes nothing any more. */
static bool
post_to_chief(struct engine *e, struct loop_item *item)
{
	pthread_mutex_lock(&e->reload_lock);
	bool ended = e->reload_ended;
	if (!ended)
		loop_post(e->loop, item);
	pthread_mutex_unlock(&e->reload_lock);
	return !ended;
}

void
engine_reload_end(struct engine *e)
{
	pthread_mutex_lock(&e->reload_lock);
	e->reload_ended = true;
	pthread_mutex_unlock(&e->reload_lock);
	if (e->loop != NULL)
		IGNORE(loop_turn(e->loop, 0));
}

int
engine_reload_from(void *engine, struct failure *f)
{
	struct engine *e = engine;
	struct reload_call c = { .engine = e, .failure = f };

	c.item.run = run_reload;
	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.finished, NULL);
	if (!post_to_chief(e, &c.item)) {
		c.done = true;
		c.result =
		    failure_set(f, ERR_REFUSED, "the service is stopping");
	}
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.finished, &c.lock);
	pthread_mutex_unlock(&c.lock);
	pthread_cond_destroy(&c.finished);
	pthread_mutex_destroy(&c.lock);
	return c.result;
}

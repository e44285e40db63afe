/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How the engine is put together; private to main. */

#include "api/api.h"
#include "api/rotation.h"
#include "deliver/deliver.h"
#include "intake/intake.h"
#include "main/engine.h"
#include "receive/receive.h"
#include "report/export.h"
#include "report/returned.h"
#include "resolve/proof.h"
#include "spool/spool.h"
#include "sts/store.h"
#include "tls/stream.h"

#include <pthread.h>
#include <stdatomic.h>

struct reactor {
	struct engine *engine;
	uint32_t number;
	pthread_t thread;
	bool started;
	struct loop *loop;
	struct receiver *receiver;
	struct dispatch *dispatch;
	struct loop_timer tick; /* turns at least so often, for the watchdog */
	struct loop_item drain, recovered;
	int64_t drain_until_us; /* monotonic; 0: not draining */
	bool drained; /* counted off; turns on for those who ask it */
};

enum certificate_state {
	CERTIFICATE_FINE, /* or there is none */
	CERTIFICATE_ENDS_SOON,
	CERTIFICATE_ENDED,
};

struct engine {
	struct config *config;
	const struct engine_options *options;
	struct tls_context *tls;
	struct directory *directory;
	struct signing *signing;
	struct rotation *rotation; /* of sender domains' keys */
	struct spool *spool;
	int64_t learned_us; /* when it was saved; 0: not loaded */
	struct intake *intake;
	struct judge *judge;
	struct suppressor *suppressor;
	struct return_key return_key;
	struct bounce_reader *bounce_reader;
	struct returned *returned;
	struct receive_shared *receive;
	uint64_t sessions_max; /* in */
	uint32_t deliveries_max; /* connections out */
	struct exporter *exporter;
	struct api api;
	struct api_server **servers; /* control socket first */
	size_t server_count;
	struct reactor *reactors;
	uint32_t reactor_count;
	uint32_t dispatch_share; /* of their dispatchers get mail */
	struct schedule_ledger *ledger; /* of the dispatchers */
	/* The latest command that the spool told of at the start. */
	struct dispatch_order *replayed;
	uint64_t replayed_cut;
	struct load *load;
	int *listen_fds; /* reactor_count × listener_count, -1 once taken */
	int control_fd, submit_fd;
	char *data_dir; /* the config's, which a reload replaces */
	pthread_mutex_t facts_lock;
	struct api_facts facts;
	struct resolve_proof *proof; /* that the resolver validates */
	struct sts_store *sts;
	struct tls_reports *tls_reports;

	/* The chief's own. */
	struct loop *loop;
	struct loop_watch signals;
	struct loop_timer second; /* directory, what is told */
	struct loop_timer watchdog;
	int64_t watchdog_us; /* between two signs of life; 0: none wanted */
	atomic_uint reactors_left; /* that may still have open work */
	bool stopping;
	enum spool_space told_space; /* in the log */
	uint64_t told_quarantined;
	int told_checkpoint; /* error of the last one */
	enum certificate_state told_certificate;
	char told_status[128]; /* to the service manager */
	pthread_mutex_t reload_lock;
	bool reload_ended;
};

/* listen.c: sockets, while we may still bind. */
MUST_CHECK int engine_bind(struct engine *e, struct failure *ret_failure);
/* The sockets in data_dir, once the spool's lock is ours. */
MUST_CHECK int engine_bind_doors(struct engine *e, struct failure *ret_failure);
void engine_close_sockets(struct engine *e);

/* reactor.c */
MUST_CHECK int reactor_init(
    struct engine *e, uint32_t number, struct failure *ret_failure);
MUST_CHECK int reactor_start(struct reactor *r);
void reactor_drain(struct reactor *r); /* any thread */
void reactor_join(struct reactor *r);
void reactor_done(struct reactor *r);

/* Hands a delivery to the reactor that owns its domain. Any thread. */
void reactor_post_delivery(struct engine *e, const struct dispatch_delivery *d);
/* Behind all deliveries posted before: that was what the spool had. */
void reactor_post_recovered(struct reactor *r);
/* Runs fn on each dispatcher's thread in turn and waits. Any other thread. */
void reactor_each_dispatch(
    void *engine, void (*fn)(void *arg, struct dispatch *dispatch), void *arg);

/* validation.c: finds out whether DNSSEC works, and tells the dispatchers. */
/* Does any mail need DNS, and should that validate? */
bool validation_is_needed(const struct config *config);
MUST_CHECK int validation_start(struct engine *e);
void validation_reload(struct engine *e); /* begins anew */
void validation_stop(struct engine *e);

/* tls_reports.c: on the chief's loop. */
struct tls_reports *tls_reports_new(struct engine *e);
struct sts_results *tls_reports_results(const struct tls_reports *reports);
void tls_reports_reload(struct tls_reports *reports);
/* Once nothing is submitted any more. */
void tls_reports_free(struct tls_reports **reports);

/* load.c: what a former life left, loaded while all else runs. */
MUST_CHECK int load_start(struct engine *e);
void load_cancel(struct engine *e); /* soon */
void load_stop(struct engine *e); /* waits; the reactors still turn */
/* Negative: the spool could not be read, and the chief was stopped. */
MUST_CHECK int load_result(const struct engine *e, struct failure *ret_failure);
void load_free(struct engine *e); /* no reactor has any of it */

/* watch.c: tells the log and the service manager what has changed. Chief
 * only. */
/* ---- learned.c: what receiving systems bear, over a restart ---- */

void engine_load_learned(struct engine *e);
/* Once a minute, or now; does nothing before it was loaded. */
void engine_save_learned(struct engine *e, bool is_last);

void engine_watch(struct engine *e);
/* The config or the certificate is another. */
void engine_take_facts(struct engine *e);
/* For the API: any thread. */
void engine_facts(void *engine, struct api_facts *ret_facts);

/* reload.c: reads the config again and gives it to everyone. Chief only. */
MUST_CHECK int engine_reload(struct engine *e, struct failure *ret_failure);
/* The same, asked for by another thread, which waits. */
int engine_reload_from(void *engine, struct failure *ret_failure);
/* Answers those who wait; who comes later is refused. Chief only. */
void engine_reload_end(struct engine *e);
/* Says which files a reload could not read, now that root is given up. */
void engine_check_reload(const struct engine *e);

struct event_limits engine_event_limits(const struct config *config);

/* A server context from the config's files; NULL with 0 when none are named. */
MUST_CHECK int engine_load_tls(const struct config *config,
    struct tls_context **ret_context, struct failure *ret_failure);

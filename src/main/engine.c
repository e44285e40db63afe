/* SPDX-License-Identifier: Apache-2.0 */
#include "main/engine.h"

#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "bounce/judge.h"
#include "directory/suppression.h"
#include "log/log.h"
#include "main/internal.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/notify.h"
#include "os/privilege.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* A reactor that has not turned for so long is stuck. */
#define STUCK_US (10 * US_PER_S)
/* Each second; the chief has other work. */
#define SUPPRESSIONS_EXPIRED_AT_ONCE 200

struct directory *
engine_directory(struct engine *engine)
{
	return engine->directory;
}

struct loop *
engine_chief_loop(struct engine *engine)
{
	return engine->loop;
}

/* ---- from the committer: accepted mail to its dispatchers -------------- */

static void
on_accepted(void *arg, const struct intake_accepted *a)
{
	for (size_t i = 0; i < a->group_count; i++) {
		const struct intake_group *g = &a->groups[i];
		const struct dispatch_delivery d = {
			.mno = a->mno,
			.tenant = a->tenant,
			.stream = a->stream,
			.class = a->class,
			.domain = g->domain,
			.rcpt_first = g->rcpt_first,
			.rcpt_count = g->rcpt_count,
			.wants_delay_warning = g->wants_delay_warning,
			.accepted_us = a->accepted_us,
			.expire_us = a->expire_us,
		};

		reactor_post_delivery(arg, &d);
	}
}

/* ---- from the spool: what a former life left --------------------------- */

static struct dispatch_request
request_of(const struct spool_order *order)
{
	static const enum dispatch_operation operations[] = {
		[SPOOL_ORDER_HOLD] = DISPATCH_HOLD,
		[SPOOL_ORDER_RELEASE] = DISPATCH_RELEASE,
		[SPOOL_ORDER_BOUNCE] = DISPATCH_BOUNCE,
		[SPOOL_ORDER_EXPIRE] = DISPATCH_EXPIRE,
		[SPOOL_ORDER_CANCEL] = DISPATCH_CANCEL,
		[SPOOL_ORDER_MOVE] = DISPATCH_MOVE,
	};

	BUG_UNLESS(
	    (size_t)order->kind < sizeof operations / sizeof operations[0]);
	return (struct dispatch_request){
		.operation = operations[order->kind],
		.selector = { .tenant = order->tenant,
		    .stream = order->stream,
		    .domain = order->domain,
		    .site = order->site,
		    .classes = order->classes },
		.reason = order->reason,
		.cut_mno = order->cut_mno,
		.to_stream = order->to_stream,
		.to_class = order->to_class,
	};
}

/* The orders of one command stand together and share what withdraws them. */
static void
replay(struct engine *e, struct dispatch_request *request)
{
	if (e->replayed_cut != request->cut_mno) {
		dispatch_order_unref(&e->replayed);
		e->replayed = dispatch_order_new(e->spool, request->cut_mno);
		e->replayed_cut = request->cut_mno;
	}
	request->order = e->replayed;
	for (uint32_t i = 0; i < e->reactor_count; i++)
		dispatch_replay(e->reactors[i].dispatch, request);
}

static void
on_standing_order(void *arg, const struct spool_order *order)
{
	struct engine *e = arg;
	struct dispatch_request request = request_of(order);

	/* The reactors do not run yet: their loops are this thread's. */
	if (order->kind >= SPOOL_ORDER_BOUNCE) {
		replay(e, &request);
		return;
	}
	for (uint32_t i = 0; i < e->reactor_count; i++)
		(void)dispatch_operate(e->reactors[i].dispatch, &request);
}

/* ---- start ------------------------------------------------------------- */

/* data_dir may be passed through on the way to submit.sock; what stands in it
 * keeps others out by its own mode. */
#define DATA_DIR_MODE 0751
#define MAILDIR_MODE 0750

/* Makes a directory that the service writes. As root: his, when it is new. */
static int
prepare_directory(
    const struct engine *e, const char *path, mode_t mode, struct failure *f)
{
	bool exists = access(path, F_OK) == 0;
	int result = file_make_directory(path, mode);

	if (result == 0 && !exists && chmod(path, mode) < 0)
		result = -errno;

	if (result < 0)
		return failure_set(f, result,
		    "cannot make %s: %s; make it by hand and give it to the "
		    "service's user",
		    path, error_text(result));
	if (geteuid() != 0 || e->options->keep_user ||
	    (exists && mode != DATA_DIR_MODE))
		return 0;
	const struct passwd *user = getpwnam(e->config->user);
	if (user == NULL)
		return failure_set(f, ERR_NOT_FOUND,
		    "the user %s of the config does not exist: add it "
		    "(adduser --system --group %s) or name another",
		    e->config->user, e->config->user);
	if (chown(path, user->pw_uid, user->pw_gid) < 0)
		return failure_set(f, -errno, "cannot give %s to %s: %s", path,
		    e->config->user, error_text(-errno));
	return 0;
}

/* What confinement lets us write must be there before. */
static int
prepare_directories(struct engine *e, struct failure *f)
{
	const struct config *c = e->config;

	TRY(prepare_directory(e, c->data_dir, DATA_DIR_MODE, f));
	for (size_t i = 0; i < c->route_count; i++) {
		if (c->routes[i].deliver == CONFIG_DELIVER_MAILDIR)
			TRY(prepare_directory(
			    e, c->routes[i].to_path, MAILDIR_MODE, f));
	}
	return 0;
}

static int
open_stores(struct engine *e, struct failure *f)
{
	const char *dir = e->config->data_dir;
	AUTO_FREE char *directory = mem_printf("%s/directory.db", dir);
	AUTO_FREE char *spool = mem_printf("%s/spool", dir);
	AUTO_FREE char *events = mem_printf("%s/events", dir);
	AUTO_FREE char *key = mem_printf("%s/returns.key", dir);
	const struct spool_options spool_options = {
		.directory = spool,
		.pass_rate = e->config->limits.upkeep_rate,
		.scrub_period_us = e->config->limits.scrub_us,
		.share_bytes = e->config->limits.shared_bodies,
	};

	TRY(directory_open(directory, &e->directory, f));
	/* Before any mail goes: not a moment without them. */
	TRY(suppressions_load(e->directory, f));
	TRY(spool_open(&spool_options, &e->spool, f));
	TRY(return_key_open(key, &e->return_key, f));
	const struct intake_options intake = {
		.spool = e->spool,
		.directory = e->directory,
		.config = e->config,
		.return_key = &e->return_key,
		.on_accepted = on_accepted,
		.arg = e,
	};
	e->intake = intake_new(&intake);
	e->signing = signing_new(&(struct signing_options){
	    .config = e->config,
	    .directory = e->directory,
	    .spool = e->spool,
	});
	e->judge = judge_new();
	e->bounce_reader = bounce_reader_new(e->judge);
	e->returned = returned_new(&(struct returned_options){
	    .directory = e->directory,
	    .spool = e->spool,
	    .intake = e->intake,
	    .config = e->config,
	    .key = &e->return_key,
	    .reader = e->bounce_reader,
	    .events = events,
	});
	int result = suppressor_start(e->directory, e->intake, &e->suppressor);
	if (result < 0)
		return failure_set(
		    f, result, "cannot start a thread: %s", error_text(result));
	e->receive = receive_shared_new();
	receive_shared_cap(e->receive, e->sessions_max);
	return 0;
}

static int
start_reactors(struct engine *e, struct failure *f)
{
	AUTO_FREE char *policies =
	    mem_printf("%s/mta-sts.cache", e->config->data_dir);

	TRY(sts_store_start(e->config, policies, &e->sts, f));
	e->tls_reports = tls_reports_new(e);
	e->ledger = schedule_ledger_new();
	engine_load_learned(e);
	for (uint32_t i = 0; i < e->reactor_count; i++)
		TRY(reactor_init(e, i, f));
	/* Before any mail goes. */
	spool_orders(e->spool, on_standing_order, e);
	for (uint32_t i = 0; i < e->reactor_count; i++) {
		int result = reactor_start(&e->reactors[i]);
		if (result < 0)
			return failure_set(f, result,
			    "cannot start a thread: %s", error_text(result));
	}
	int result = validation_start(e);
	if (result == 0)
		result = load_start(e);
	if (result < 0)
		return failure_set(
		    f, result, "cannot start a thread: %s", error_text(result));
	return 0;
}

static int
start_server(struct engine *e, int fd, enum api_door door, struct failure *f)
{
	return api_server_start(
	    &e->api, fd, door, &e->servers[e->server_count++], f);
}

static struct config *
engine_config(void *engine)
{
	return intake_config(((struct engine *)engine)->intake);
}

static int
start_services(struct engine *e, struct failure *f)
{
	AUTO_FREE char *events = mem_printf("%s/events", e->config->data_dir);
	size_t listeners = e->config->listener_count;

	const struct event_limits limits = engine_event_limits(e->config);

	TRY(exporter_start(e->spool, events, &limits, &e->exporter, f));
	e->api = (struct api){
		.directory = e->directory,
		.data_dir = e->data_dir,
		.spool = e->spool,
		.intake = e->intake,
		.receive = e->receive,
		.signing = e->signing,
		.each_dispatch = reactor_each_dispatch,
		.reload = engine_reload_from,
		.facts = engine_facts,
		.config = engine_config,
		.owner = e,
		.started_us = clock_wall_us(),
	};
	engine_take_facts(e);
	e->servers = mem_zalloc((listeners + 2) * sizeof(struct api_server *));
	int control = e->control_fd, submit = e->submit_fd;
	e->control_fd = e->submit_fd = -1;
	TRY(start_server(e, control, API_DOOR_CONTROL, f));
	TRY(start_server(e, submit, API_DOOR_SUBMIT, f));
	for (size_t i = 0; i < listeners; i++) {
		int fd = e->listen_fds[i];

		if (e->config->listeners[i].service != CONFIG_HTTP)
			continue;
		e->listen_fds[i] = -1;
		TRY(start_server(e, fd, API_DOOR_PUBLIC, f));
	}
	const struct rotation_options rotation = {
		.directory = e->directory,
		.config = engine_config,
		.owner = e,
	};
	int result = rotation_start(&rotation, &e->rotation);
	if (result < 0)
		return failure_set(
		    f, result, "cannot start a thread: %s", error_text(result));
	return 0;
}

static int
confine(struct engine *e, struct failure *f)
{
	const struct config *c = e->config;
	const char **writable =
	    mem_zalloc((c->route_count + 1) * sizeof(const char *));
	bool landlock = false;
	size_t count = 0;

	for (size_t i = 0; i < c->route_count; i++) {
		if (c->routes[i].deliver == CONFIG_DELIVER_MAILDIR)
			writable[count++] = c->routes[i].to_path;
	}
	const struct privilege_paths paths = { .data_dir = c->data_dir,
		.writable = writable };
	int result = privilege_confine(&paths, &landlock, f);
	mem_free(writable);
	if (result == 0)
		LOG(LOG_DEBUG, "main", "confined",
		    LOG_C("landlock", landlock ? "yes" : "not in this kernel"));
	return result;
}

/* ---- the chief --------------------------------------------------------- */

static void
stop(struct engine *e)
{
	if (e->stopping) {
		LOG(LOG_WARNING, "main", "told to stop again: ending at once");
		log_stop();
		_exit(1);
	}
	e->stopping = true;
	notify_stopping();
	LOG(LOG_INFO, "main", "stopping: open work may finish",
	    LOG_N("seconds", e->config->limits.shutdown_us / US_PER_S));
	load_cancel(e);
	for (uint32_t i = 0; i < e->reactor_count; i++)
		reactor_drain(&e->reactors[i]);
}

static void
on_signal(struct loop_watch *watch, unsigned events)
{
	struct engine *e = LIST_ENTRY(watch, struct engine, signals);
	struct signalfd_siginfo info;
	struct failure failure;

	(void)events;
	while (read(watch->fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGHUP) {
			stop(e);
			continue;
		}
		notify_reloading();
		if (engine_reload(e, &failure) < 0)
			LOG(LOG_ERROR, "main", "reload failed",
			    LOG_C("reason", failure.text));
		notify_ready();
	}
}

static bool
all_reactors_turn(const struct engine *e)
{
	int64_t now_us = clock_monotonic_us();

	for (uint32_t i = 0; i < e->reactor_count; i++) {
		if (now_us - loop_last_turn_us(e->reactors[i].loop) > STUCK_US)
			return false;
	}
	return true;
}

static void
on_watchdog(struct loop_timer *timer)
{
	struct engine *e = LIST_ENTRY(timer, struct engine, watchdog);

	if (all_reactors_turn(e))
		notify_watchdog();
	loop_timer_set(e->loop, timer, loop_now_us(e->loop) + e->watchdog_us);
}

static void
on_second(struct loop_timer *timer)
{
	struct engine *e = LIST_ENTRY(timer, struct engine, second);
	int result = directory_refresh(e->directory);

	if (result < 0)
		LOG(LOG_ERROR, "main", "the directory cannot be read",
		    LOG_C("error", error_text(result)));
	result = suppressions_expire(
	    e->directory, clock_wall_us(), SUPPRESSIONS_EXPIRED_AT_ONCE);
	if (result < 0)
		LOG(LOG_ERROR, "main", "suppressions cannot be ended",
		    LOG_C("error", error_text(result)));
	engine_save_learned(e, false);
	engine_watch(e);
	loop_timer_set(e->loop, timer, loop_now_us(e->loop) + US_PER_S);
}

static int
watch_signals(struct engine *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* Libraries write to sockets that the peer has closed, too. */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	/* Before any thread starts, so that all of them block these. */
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		return -errno;
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	e->signals.on_ready = on_signal;
	return loop_watch_fd(e->loop, &e->signals, fd, LOOP_READ);
}

static int
serve(struct engine *e)
{
	LOG(LOG_INFO, "main", "ready", LOG_C("version", POSTHOUSE_VERSION),
	    LOG_C("hostname", e->config->hostname),
	    LOG_N("reactors", e->reactor_count));
	notify_ready();
	e->second.on_time = on_second;
	loop_timer_set(e->loop, &e->second, clock_monotonic_us());
	e->watchdog.on_time = on_watchdog;
	e->watchdog_us = notify_watchdog_interval_us();
	if (e->watchdog_us > 0)
		loop_timer_set(e->loop, &e->watchdog, clock_monotonic_us());
	if (e->options->on_ready != NULL)
		e->options->on_ready(e->options->arg, e);
	return loop_run(e->loop);
}

/* ---- end --------------------------------------------------------------- */

/* From the outside in: nobody asks any more, reactors end, what they brought is
 * committed, and when they have let go of it the spool closes. Also undoes half
 * a start. */
static void
engine_close(struct engine *e)
{
	engine_reload_end(e);
	rotation_stop(&e->rotation);
	for (size_t i = 0; i < e->server_count; i++)
		api_server_stop(&e->servers[i]);
	validation_stop(e);
	load_stop(e);
	for (uint32_t i = 0; i < e->reactor_count; i++) {
		if (e->reactors[i].started)
			loop_stop(e->reactors[i].loop);
		reactor_join(&e->reactors[i]);
	}
	suppressor_stop(&e->suppressor);
	/* It posts to the reactors' loops. */
	if (e->signing != NULL)
		signing_stop(e->signing);
	sts_store_stop(e->sts);
	exporter_stop(&e->exporter);
	engine_save_learned(e, true);
	spool_stop(e->spool);
	for (uint32_t i = 0; i < e->reactor_count; i++)
		reactor_done(&e->reactors[i]);
	signing_free(&e->signing);
	sts_store_free(&e->sts);
	tls_reports_free(&e->tls_reports);
	load_free(e);
	dispatch_order_unref(&e->replayed);
	schedule_ledger_unref(&e->ledger);
	spool_close(&e->spool);
	intake_free(&e->intake);
	returned_free(&e->returned);
	bounce_reader_free(&e->bounce_reader);
	judge_free(&e->judge);
	receive_shared_free(&e->receive);
	directory_close(&e->directory);
	engine_close_sockets(e);
	tls_context_unref(&e->tls);
	if (e->signals.loop != NULL) {
		loop_unwatch(&e->signals);
		close(e->signals.fd);
	}
	loop_free(&e->loop);
	config_unref(&e->config);
	mem_free(e->data_dir);
	mem_free(e->servers);
	mem_free(e->reactors);
}

/* Half of the descriptors is for sessions, a quarter for deliveries, the rest
 * for the spool, the resolver and the commands. */
static void
divide_descriptors(struct engine *e)
{
	long limit = privilege_raise_file_limit();
	uint32_t wanted = e->config->limits.connections;

	if (limit < 0 || limit > UINT32_MAX)
		limit = UINT32_MAX;
	e->sessions_max = (uint64_t)limit / 2;
	e->deliveries_max = (uint32_t)(limit / 4);
	if (e->sessions_max < wanted)
		LOG(LOG_WARNING, "main",
		    "few files may be open (LimitNOFILE, ulimit -n): there "
		    "will be fewer sessions than limits.connections allows",
		    LOG_N("files", limit),
		    LOG_N("sessions", (int64_t)e->sessions_max),
		    LOG_N("connections", wanted));
}

static int
start(struct engine *e, struct failure *f)
{
	int result = loop_new(&e->loop);

	if (result == 0)
		result = watch_signals(e);
	if (result < 0)
		return failure_set(f, result, "cannot make an event loop: %s",
		    error_text(result));
	/* Each place says the mode it wants; a root of umask 077 would make
	 * directories that the service's user cannot reach. */
	(void)umask(022);
	divide_descriptors(e);
	TRY(engine_load_tls(e->config, &e->tls, f));
	TRY(prepare_directories(e, f));
	TRY(engine_bind(e, f));
	/* From here on mail, its events and secrets are nobody else's. */
	(void)umask(027);
	if (!e->options->keep_user)
		TRY(privilege_drop(e->config->user, f));
	engine_check_reload(e);
	/* Before any thread but the log's exists: confinement is a thread's. */
	TRY(confine(e, f));
	TRY(open_stores(e, f));
	TRY(engine_bind_doors(e, f));
	TRY(start_reactors(e, f));
	return start_services(e, f);
}

int
engine_run(struct config *config, const struct engine_options *options,
    struct failure *f)
{
	struct engine e = { .config = config_ref(config),
		.options = options,
		.control_fd = -1,
		.submit_fd = -1,
		.signals.fd = -1,
		.data_dir = mem_strdup(config->data_dir),
		.facts_lock = PTHREAD_MUTEX_INITIALIZER,
		.reload_lock = PTHREAD_MUTEX_INITIALIZER };
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int result;

	e.reactor_count = config->delivery.threads != 0
			      ? config->delivery.threads
			      : (uint32_t)(cores > 0 ? cores : 1);
	e.reactors = mem_zalloc(e.reactor_count * sizeof(*e.reactors));
	result = log_start((enum log_level)config->log.level,
	    (enum log_format)config->log.format);
	if (result == 0)
		result = start(&e, f);
	else
		failure_set(f, result, "cannot start the log writer: %s",
		    error_text(result));
	if (result == 0) {
		result = serve(&e);
		if (result < 0)
			failure_set(f, result, "the chief loop failed: %s",
			    error_text(result));
		else
			result = load_result(&e, f);
	}
	engine_close(&e);
	LOG(LOG_INFO, "main", "stopped");
	log_stop();
	return result;
}

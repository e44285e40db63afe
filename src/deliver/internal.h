/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How the room is divided:
 *
 *	dispatch.c    the dispatcher: the scheduler's wants, limits, timers
 *	lookup.c      a queue's domain becomes a site
 *	secure.c      what each of a site's hosts must show: TLSA records
 *	site.c        what is known of a site: its route, hosts, addresses
 *	source.c      the ways to it: pools and their sources
 *	connect.c     one connection: host by host, up to a greeting
 *	session.c     an SMTP or LMTP session over it, until it is closed
 *	login.c       SASL for the session
 *	tlsreport.c   what TLS came to, for reports to domains
 *	transaction.c one delivery's message on its way through a session
 *	signing.c     signatures (DKIM), made by threads of the process
 *	local.c       deliveries that need no session: maildir, discard
 *	maildir.c     writing into a Maildir, on a thread of its own
 *	result.c      what a reply means for a recipient (pure)
 *	outcome.c     results become spool records, events and reports
 *	backlog.c     many deliveries that came to the same end at once
 *	return_path.c senders that tell what came back
 *	suppressed.c  recipients that must not be sent to
 *	verdict.c     what a refusal means for the address
 *	submission.c  outcomes with reports, until they are on the disk
 *	operate.c     operators' requests
 *	order.c       those that are durable, until they are worked off
 *
 * Everything belongs to the loop's thread; maildir.c's thread only gets jobs.
 */

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/time.h"
#include "bounce/judge.h"
#include "config/shaping.h"
#include "deliver/deliver.h"
#include "event/event.h"
#include "log/tap.h"
#include "smtp/client.h"
#include "smtp/dots.h"
#include "sts/results.h"
#include "sts/store.h"

#include <stdatomic.h>

/* ---- result.c: pure ---- */

/* What one attempt came to for one recipient. */
struct result {
	enum spool_outcome_kind kind;
	bool again; /* not an attempt: goes back untouched */
	bool local; /* we decided: the peer never said .reply */
	bool duplicate_risk; /* the final dot may have been taken */
	bool relayed; /* delivered, but the next hop knows no DSN */
	const char *step;
	const char *cause; /* of a suppression; static, or NULL */
	enum reply_class class; /* when judged */
	bool is_judged;
	bool suppresses; /* no more mail to this recipient */
	struct reply reply;
};

/* Adjacent recipients that share their result. */
struct run {
	uint32_t first, count; /* first: index into the results */
	int64_t due_us; /* wall; deferred only */
	uint8_t attempts;
};

struct result result_of_fate(const struct smtp_client_fate *fate);
/* Recipients that a server only had no room for in this transaction go into
 * another one at once, provided that this one got somewhere. */
void result_mark_again(struct result *results, size_t count);
/* Fills runs (room for count) and returns their number. Temporary results make
 * one run whatever their codes: they will be tried again together. */
size_t result_make_runs(
    const struct result *results, size_t count, struct run *runs);
/* Greylisting that says so is not worth trying again within minutes. */
int64_t result_min_delay_us(const struct result *result);

/* What a refusal says of our pace (421, 4.7.x): too many connections, or too
 * much in a time. */
enum result_pace { RESULT_PACE_FINE, RESULT_PACE_FAST, RESULT_PACE_CROWDED };

enum result_pace result_pace(const struct result *result);
/* "4.4.1", with a fitting default when the reply has no enhanced code. */
struct span result_status(const struct result *result, struct arena *arena);
/* The reply as one line: as the peer said it, or our sentence. */
struct span result_line(const struct result *result, struct arena *arena);
/* RFC 7504 and RFC 5321 §3.1: does a refused greeting speak of the domain for
 * good (521, 556), or only of this host and this moment? */
bool result_greeting_is_final(const struct reply *reply);
struct result result_of_resolve(
    enum resolve_result resolve, struct span problem);

/* ---- site.c ---- */

enum {
	PLAN_HOSTS_MAX = 20,
	PLAN_ADDRESSES_MAX = 32, /* bits of connection.tried */
};

/* What a host must show before it gets mail, beside what the route says. */
enum security {
	SECURITY_ROUTE, /* nothing */
	SECURITY_ENCRYPTED, /* TLS; it has TLSA records, but none is usable */
	SECURITY_DANE, /* a key that a TLSA record names */
	SECURITY_STS, /* a certificate for its name, from an authority */
	SECURITY_BARRED, /* .problem: DANE: it may not be used now */
	SECURITY_STS_BARRED, /* .problem: the domain's policy has it not */
};

struct plan_host {
	char *name;
	char *canonical; /* the name is an alias of this; or NULL */
	bool secure; /* MX and address answers validated */
	enum security security;
	char *base; /* DANE: the TLSA base domain */
	struct tls_dane_record *dane; /* into .octets */
	size_t dane_count;
	char *octets;
	char *problem;
};

struct plan_address {
	struct netaddr address;
	size_t host;
	int64_t avoid_until_us; /* monotonic: it failed a moment ago */
};

/* How to reach a site, as of one lookup. Counted: connections keep the plan
 * they began with while the site already has a newer one. */
struct plan {
	unsigned references;
	struct config *config; /* counted: route lives in it */
	const struct config_route *route;
	char *place; /* all of the route that sites differ by */
	bool mx_secure; /* the MX answer was validated */
	struct sts_policy *policy; /* counted; the domain's, or NULL */
	char *report_domain; /* whom to tell of failed TLS; or NULL */
	char *terms; /* of the site's name, beside the route's */
	/* Rules of the config's shaping.yaml, or NULL. A domain with one is a
	 * site of its own: then `domain` is its name. */
	const struct shaping_rule *provider, *domain_rule;
	char *domain;
	struct plan_host *hosts;
	size_t host_count;
	struct plan_address addresses[PLAN_ADDRESSES_MAX];
	size_t address_count;
};

struct plan *plan_new(struct config *config, const struct config_route *route);
struct plan *plan_ref(struct plan *plan);
/* Before hosts are added: which rules shape this domain's mail to them. */
void plan_shape(struct plan *plan, struct span domain, const char *const *hosts,
    size_t host_count);
void plan_unref(struct plan **plan);
void plan_add_host(struct plan *plan, const struct resolve_host *host);
void plan_add_address(
    struct plan *plan, const char *host, const struct netaddr *address);

/* ---- tlsreport.c ---- */

struct connection;

/* A delivery to the domain was taken. */
void tls_report_session(struct connection *c, struct span domain);
/* Before the connection was usable, `text` says why. */
void tls_report_failure(
    struct connection *c, const char *step, struct span text);

/* ---- secure.c ---- */

struct secure;

/* Looks for what the hosts of an MX plan must show for mail to the domain and
 * writes it into the plan. Done may be called before this returns; then the
 * handle is NULL, else it is good until then. valid_until_us: of the plan,
 * now. */
typedef void secure_fn(void *arg, int64_t valid_until_us);

struct secure_options {
	struct plan *plan;
	struct span domain;
	int64_t valid_until_us;
	secure_fn *fn;
	void *arg;
};

struct secure *secure_find(
    struct dispatch *d, const struct secure_options *options);
void secure_cancel(struct secure **secure);
/* "dane", "dane-unusable", "sts", "require", "opportunistic", "none": what the host
 * had to show. Static. */
const char *secure_policy_name(
    const struct plan *plan, const struct plan_host *host);

/* The driver's side of a place, of all its ways; its owner there. */
struct site {
	struct dispatch *dispatch;
	struct plan *plan;
};

/* The route's place ("lmtp unix:/run/x"), to compare routes by. mem_free. */
char *route_place(const struct config_route *route);
const char *route_kind(const struct config_route *route);
/* The name under which the scheduler knows the site. mem_free. */
char *route_site_name(const struct config_route *route, const char *mx_site);
/* The same, for the mail of a plan: a domain with a rule has its own. */
char *plan_site_name(const struct plan *plan, const char *mx_site);
/* Puts the queue under its site and gives the site this plan (taken). */
void site_assign(struct dispatch *d, struct schedule_queue *queue,
    struct plan *plan, const char *mx_site, int64_t valid_until_us);
void site_on_free(void *owner);
/* What the server said may concern how many connections it bears. */
void site_note_result(struct site *site, struct schedule_connection *c,
    const struct result *result);
/* Takes the next delivery for a connection, if any may be taken at all. */
bool site_take(struct site *site, struct schedule_connection *c,
    struct schedule_queue **ret_queue, struct schedule_delivery *ret_delivery);

/* ---- source.c ---- */

/* The pool for a queue on this route; NULL: the system chooses the source. */
const struct config_pool *pool_for(struct dispatch *d,
    const struct config_route *route, const struct schedule_key *key);
/* The ways to a site by a pool (or NULL) of the plan's config: one for each
 * source that is on this machine and of a family that the plan has. Names are
 * made in the arena. */
size_t ways_make(struct dispatch *d, const struct plan *plan,
    const struct config_pool *pool, const char *site_name, struct arena *arena,
    struct schedule_way ret_ways[static SCHEDULE_WAYS]);
/* A connection could not be bound to it. */
void source_not_here(struct dispatch *d, const struct config_source *source);
void sources_start(struct dispatch *d);
void sources_done(struct dispatch *d);

/* ---- outcome.c ---- */

/* What is common to the recipients of one attempt; empty and zero: unknown. */
struct attempt {
	struct spool_message *message;
	uint32_t tenant, stream;
	struct schedule_delivery delivery; /* before the attempt */
	bool counts; /* the attempt is the message's */
	bool is_final; /* no further hop: maildir, LMTP */
	const char *route;
	struct span site, peer_host, peer_address, source_address, tls;
	const char *tls_policy; /* as by secure_policy_name, or NULL */
	bool tls_verified;
	int64_t took_us;
	bool recounted; /* counted before; it could not be recorded then */
	struct dispatch_order *order; /* that this is part of, or NULL */
};

/* Ends an attempt of what was taken from queue: tells the scheduler, and
 * writes outcomes, events and reports. Not to be used afterwards: queue. */
void outcome_settle(struct dispatch *d, struct schedule_queue *queue,
    const struct attempt *a, struct result *results);

/* The same for a delivery that the scheduler has let go of or already
 * deferred: `next` is its state to record, all recipients share `result`.
 * A negative code when it could not be recorded (try again later). */
MUST_CHECK int outcome_record(struct dispatch *d, const struct attempt *a,
    const struct result *result, const struct schedule_delivery *next);
/* A delay warning: the delivery stays queued. */
MUST_CHECK int outcome_warn(
    struct dispatch *d, const struct attempt *a, const struct result *result);
/* The message cannot be opened any more: the recipients of `a` end here, which
 * an event and the postmaster are told. A negative code as above. */
MUST_CHECK int outcome_expire_unreadable(
    struct dispatch *d, const struct attempt *a);

/* ---- verdict.c ---- */

/* Fills in the classes of refusals among an attempt's results. */
void verdict_judge(
    struct dispatch *d, const struct attempt *a, struct result *results);
/* Those whom the results suppress, in d->scratch; 0: none. Results that will
 * suppress nobody after all do not say so afterwards. */
size_t verdict_entries(struct dispatch *d, const struct attempt *a,
    struct result *results, struct suppression **ret_entries);

/* ---- suppressed.c ---- */

/* Ends the suppressed recipients at the front of `rest`, of which there are
 * some; afterwards there may be none, and then no queue either. Of `a` only its
 * delivery is set. */
void suppressed_settle(struct dispatch *d, struct schedule_queue *queue,
    struct attempt *a, struct schedule_delivery *rest);
/* How many recipients, of `count` from `first` on, stand before the next
 * suppressed one; `first` is none. */
uint32_t suppressed_before(struct dispatch *d, const struct spool_envelope *m,
    uint32_t first, uint32_t count);

/* ---- backlog.c ---- */

/* Why many deliveries came to the same end at once. Counted. */
struct cause {
	unsigned references;
	bool warning; /* a delay warning is due, nothing else */
	bool recounted; /* as in struct attempt */
	struct result result; /* its text is in .text */
	char text[512];
	const char *route;
	char *site, *peer_host, *peer_address; /* or NULL */
	const char *tls_policy; /* as by secure_policy_name, or NULL */
	struct dispatch_order *order; /* counted, or NULL */
};

struct cause *cause_new(const struct result *result);
void cause_unref(struct cause **cause);

struct backlog_entry {
	struct list link;
	struct cause *cause;
	uint32_t tenant, stream;
	struct schedule_delivery delivery;
};

void backlog_add(struct dispatch *d, struct cause *cause,
    struct schedule_queue *queue, const struct schedule_delivery *delivery);
/* What could not be recorded: it is tried again after a while. */
void backlog_put_back(struct dispatch *d, struct list *entries);
struct backlog_entry *backlog_entry_new(struct cause *cause, uint32_t tenant,
    uint32_t stream, const struct schedule_delivery *delivery);
void backlog_entry_free(struct backlog_entry *entry);

/* For the scheduler's functions that tell of many. */
struct backlog_sink {
	struct dispatch *dispatch;
	struct cause *cause;
};

void backlog_take(void *arg, struct schedule_queue *queue,
    const struct schedule_delivery *delivery);
void backlog_run(struct loop_timer *timer);
void backlog_start(struct dispatch *d);
void backlog_flush(struct dispatch *d);
void backlog_free(struct dispatch *d);

/* ---- order.c ---- */

/* It will not be worked off by this process: the spool keeps it. */
void order_keep(struct dispatch_order *order);
/* Keeps a request for mail that is still to come; `cause`: of its outcomes. */
void works_add(struct dispatch *d, const struct dispatch_request *request,
    struct cause *cause, bool is_replay);
/* Mail that an order meant: true when that was its end here. */
bool works_apply(struct dispatch *d, struct schedule_key *key,
    const struct schedule_delivery *delivery);
/* Nothing is left to be reaped. */
void works_end(struct dispatch *d);
void works_free(struct dispatch *d);

/* ---- submission.c ---- */

/* An outcome that is on its way to the disk together with its report. */
struct submission;

struct submission *submission_new(struct dispatch *d);
/* What to record anew should it fail. */
void submission_add(struct submission *s, const struct attempt *a,
    const struct result *result, const struct schedule_delivery *delivery,
    bool warning);
/* For spool_txn_submit; takes the submission (arg). */
void submission_done(void *arg, int result);
/* Those under way become nobody's. */
void submission_leave_all(struct dispatch *d);

/* ---- transaction.c ---- */

struct connection;

/* One delivery on its way through a session: at most recipients_per_message
 * at a time, so that a delivery may take several turns. */
struct transaction {
	bool open; /* a turn is under way */
	bool uncounted; /* cut off by us: goes back untouched */
	struct schedule_queue *queue; /* NULL: no delivery is held */
	struct schedule_delivery rest; /* without what is settled; the turn's
					  recipients stand first */
	struct spool_message *message;
	bool is_sign_clear; /* signed, or not to be signed */
	struct signing_request *signing; /* under way, or NULL */
	struct signature *signature; /* goes before the message, or NULL */
	struct arena *arena;
	struct smtp_client_transaction smtp;
	int64_t started_us;

	/* the body on its way out */
	bool body; /* pieces remain to be written */
	bool stuff; /* dots must be doubled */
	bool data; /* DATA: the body must end in CRLF */
	bool completed; /* the missing CRLF was added */
	bool early; /* the session already knows of the end:
				      what is left of piece goes out before
				      its output, not behind it */
	uint64_t offset; /* of the next piece in signature and message */
	struct span piece; /* being written: spool's or stuffed's */
	struct dots dots;
	struct buf stuffed;
	char tail[2]; /* last two octets given out */
};

/* Opens the message of a taken delivery. False: it was settled at once. */
bool transaction_open(struct connection *c, struct schedule_queue *queue,
    const struct schedule_delivery *delivery);
/* False: nothing was left to be sent, and the message is let go of. */
bool transaction_start(struct connection *c);
/* return_path.c: the sender for this transaction of `*count` recipients from
 * t->rest on; perhaps of one only, who then has a return path of his own. */
struct span return_path_sender(struct connection *c, uint32_t *count);
/* The fates are known. */
void transaction_done(struct connection *c);
/* Gives back what was not settled and lets go of the message. */
void transaction_release(struct connection *c);
void transaction_body_begin(struct connection *c, bool dot_stuff);
/* Makes the next piece. 1; 0 at the body's end; a negative code: unreadable. */
MUST_CHECK int transaction_body_next(struct transaction *t);
/* Nothing will follow the present piece. */
bool transaction_body_ends_here(const struct transaction *t);
/* For deliveries without a session, too. False: it was settled at once. */
bool transaction_open_message(struct dispatch *d, struct schedule_queue *queue,
    const struct schedule_delivery *delivery,
    struct spool_message **ret_message);

/* ---- login.c ---- */

struct login;

/* What we can do, best first. `bound`: to the TLS session, where there is. */
struct span login_mechanisms(bool bound);

struct login_options {
	struct span mechanism;
	const char *username, *password;
	const char *hostname; /* the server's */
	bool bound;
	unsigned char binding[32]; /* tls-exporter */
};

MUST_CHECK int login_new(const struct login_options *options,
    struct login **ret_login, struct failure *ret_failure);
void login_free(struct login **login);
/* Answers a challenge ("": the initial response; base64 both). The answer
 * lives until the next call. */
MUST_CHECK int login_step(
    struct login *login, struct span challenge, struct span *ret_response);
/* Has the server proved what the mechanism makes it prove? */
bool login_is_complete(const struct login *login);

/* ---- connect.c, session.c ---- */

enum connection_state {
	CONNECTION_NEXT, /* to try the next address */
	CONNECTION_CONNECTING,
	CONNECTION_HANDSHAKE, /* implicit TLS, or after STARTTLS */
	CONNECTION_SESSION, /* speaks SMTP */
	CONNECTION_IDLE, /* waits for mail */
	CONNECTION_SIGNING, /* has mail that waits for its signature */
	CONNECTION_QUITTING, /* takes no more; still counted at the site */
	CONNECTION_CLOSED, /* to be freed */
};

struct connection {
	struct list link; /* dispatch.connections */
	struct schedule_connection counted; /* what the scheduler knows of us */
	struct dispatch *dispatch;
	struct site *site; /* NULL once it is not the site's any more */
	struct plan *plan; /* counted */
	const struct config_source *from; /* the plan's config's, or NULL */
	struct shaping_limits limits;
	enum connection_state state;
	bool busy; /* inside connection_drive */

	uint32_t tried; /* bits: addresses of the plan */
	unsigned tries;
	size_t at; /* the address being tried */
	struct cause *problem; /* why the last address failed */
	bool all_final; /* each greeting so far refused for good */

	int fd; /* -1 once it is the stream's */
	struct stream *stream;
	struct loop_watch watch;
	struct loop_timer timer;
	struct smtp_client *client;
	struct login *login;
	char *in; /* IN_SIZE octets */
	size_t in_start, in_end;
	bool input_ended, input_drained, write_broke;
	bool write_waits; /* for readiness, */
	bool write_waits_for_read; /* of the other direction, with TLS */
	bool moved; /* the peer moved: its time starts anew */
	bool in_auth; /* what is said is a secret */
	bool is_out_of_step; /* answered before it had heard all */
	bool is_ready; /* the greeting and all that lies behind us */
	size_t tapped; /* octets of the output already shown */
	int64_t deadline_us; /* of the whole transaction */
	int64_t ready_us; /* when the session became usable */
	uint32_t transactions;
	struct transaction transaction;

	struct tap_session tap;
	char peer[NETADDR_TEXT_SIZE];
	char source[NETADDR_TEXT_SIZE];
	char tls[96];
	bool tls_verified;
	char *told_domain; /* that the last session was counted for */
};

enum { CONNECTION_IN_SIZE = 8192 };

/* Answers SCHEDULE_CONNECT. */
void connection_open(struct site *site, struct schedule_site *way);
/* Turns the crank; the connection may be gone afterwards. */
void connection_drive(struct connection *c);
/* Answers SCHEDULE_WAKE. */
void connection_wake(struct schedule_connection *counted);
/* Answers SCHEDULE_CLOSE. */
void connection_yield(struct schedule_connection *counted);
/* No more deliveries. What is on its way goes on, unless `abrupt`. */
void connection_retire(struct connection *c, bool abrupt);
void connection_free(struct connection *c);
/* The address failed: on to the next one. `local`: we say so, not the peer. */
void connection_fail(struct connection *c, const char *step,
    const struct reply *reply, bool local);
/* Says QUIT and takes no more. */
void connection_close(struct connection *c);
/* The site loses this connection (once). */
void connection_leave_site(struct connection *c, bool failed);
const char *connection_host(const struct connection *c);
const struct plan_host *connection_plan_host(const struct connection *c);
const struct netaddr *connection_address(const struct connection *c);
void connection_set_timer(struct connection *c, int64_t after_us);
void connection_watch(struct connection *c, unsigned events);
void connection_begin_tls(struct connection *c);
/* What its transactions have in common. */
struct attempt connection_attempt(const struct connection *c);

/* What we can log in by on this connection, best first. */
struct span session_mechanisms(const struct connection *c);
void session_begin(struct connection *c, bool secured);
void session_run(struct connection *c);
void session_on_timer(struct connection *c);
/* Takes the next delivery and starts it. False: there is none. */
bool session_take(struct connection *c);
/* Usable again: takes the next delivery, waits for one, or leaves. */
void session_go_on(struct connection *c);
void session_broken(struct connection *c, const char *why);

/* ---- local.c, maildir.c ---- */

void local_open(struct site *site, struct schedule_site *way);
bool local_is_busy(const struct dispatch *d);
void local_free_all(struct dispatch *d);

struct maildir;

/* One message into one Maildir for some of its recipients; or, where `returned`
 * says so, taken in as a report on our mail. */
struct maildir_job {
	struct returned *returned;
	struct loop_item done; /* run on the loop's thread afterwards */
	struct maildir_job *next;
	struct spool_message *message;
	uint32_t rcpt_first, rcpt_count;
	const char *directory, *hostname;
	int *codes; /* per recipient: 0 or a negative code */
	bool finished; /* set before `done` is posted */
};

MUST_CHECK int maildir_start(struct loop *loop, struct maildir **ret_maildir);
void maildir_stop(struct maildir **maildir);
void maildir_submit(struct maildir *m, struct maildir_job *job);
/* The work itself; blocks. For the thread and for tests. */
void maildir_deliver(struct maildir_job *job);

/* ---- lookup.c ---- */

/* Answers SCHEDULE_RESOLVE. */
void site_find(struct dispatch *d, struct schedule_queue *queue);
/* With another config or resolver: those under way begin again. */
void lookup_restart_all(struct dispatch *d);
void lookup_free_all(struct dispatch *d);

/* ---- dispatch.c ---- */

/* What we have learned of an address. */
struct hint {
	int64_t plain_until_us; /* its TLS is broken: do without */
	int64_t no_chunks_until_us; /* it offers BDAT and refuses it */
};

enum validation {
	VALIDATION_UNKNOWN, /* what needs DNS waits for the verdict */
	VALIDATION_WORKS, /* or is not wanted */
	VALIDATION_FAILS, /* the resolver does without it */
};

struct dispatch_counters {
	atomic_uint_fast64_t connections_open, connections_made,
	    connections_failed;
	atomic_uint_fast64_t delivered, deferred, bounced, expired, suppressed,
	    unreadable;
	atomic_uint_fast64_t transactions;
};

struct dispatch {
	struct loop *loop;
	struct config *config;
	struct spool *spool;
	struct directory *directory;
	struct intake *intake;
	const struct judge *judge;
	struct suppressor *suppressor;
	struct signing *signing; /* or NULL */
	struct sts_store *sts; /* or NULL */
	const struct return_key *return_key;
	struct returned *returned;
	struct sts_results *results; /* or NULL */
	uint32_t share, number, connections_cap; /* as in the options */
	struct schedule *schedule;
	struct resolver *resolver;
	enum validation validation;

	struct loop_timer timer; /* looks at the scheduler's wants */
	struct loop_item news; /* of the schedulers' ledger */
	atomic_bool has_news; /* it is posted */

	struct list connections; /* from newest to oldest */
	size_t connection_count;
	struct map *hints; /* by address: struct hint */
	struct map *tls_contexts; /* by CA file */
	struct list lookups;
	struct list locals;
	/* NULL until the first job: */
	struct maildir *maildir, *returns;

	struct list backlog;
	size_t backlog_count;
	struct loop_timer backlog_timer;
	int64_t backlog_pause_until_us; /* the disk refused what was recorded */
	struct list works; /* orders being worked off, oldest first */
	uint64_t works_cut; /* no message from this number on is meant */
	struct list submissions;

	struct arena *scratch; /* of one settlement */
	struct buf lines; /* the events of one settlement */
	uint64_t event_seed[2], event_count;

	struct map *missing; /* sources that are not on this machine, by
				address; NULL: none looked for yet */
	struct loop_timer source_timer;

	bool draining;
	struct loop_timer drain_timer;
	struct dispatch_counters counters;
};

/* Looks at the scheduler's wants in the next turn of the loop. */
void dispatch_pump_soon(struct dispatch *d);
/* May mail be taken at all? Not while draining, not with a failed spool. */
bool dispatch_may_take(const struct dispatch *d);
int64_t dispatch_wall_us(const struct dispatch *d, int64_t monotonic_us);
enum schedule_class dispatch_class_of(enum spool_class class);
uint32_t dispatch_connections_max(const struct dispatch *d);
/* Of a limit, what dispatcher `number` of `share` may use: together all of it;
 * at least 1. */
uint32_t dispatch_part(uint32_t limit, uint32_t share, uint32_t number);
struct schedule_rate dispatch_rate(const struct config_rate *rate);
struct hint *dispatch_hint(struct dispatch *d, const struct netaddr *address);
const struct hint *dispatch_find_hint(
    const struct dispatch *d, const struct netaddr *address);
MUST_CHECK int dispatch_tls_context(struct dispatch *d, const char *ca_file,
    struct tls_context **ret_context, struct failure *ret_failure);
void dispatch_count(atomic_uint_fast64_t *counter, uint64_t n);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inside of the scheduler. Three layers, each using those above it:
 *
 *   slab, wheel, heap      memory and time
 *   queue, site           what waits, and the places it goes to
 *   want, take, operate   what the driver and operators call
 *
 * Invariant kept by queue_update, which follows every change of a queue: the
 * queue stands in its lane exactly when it could be served now, in the look-up
 * line exactly when only its site is missing, and its share of the site's
 * count of ready deliveries is right. Kept by site_update: the site stands in
 * the line for a wake or a connection exactly when it needs one.
 */

#include "base/list.h"
#include "base/map.h"
#include "base/time.h"
#include "schedule/ledger.h"
#include "schedule/schedule.h"

#define NONE UINT32_MAX

/* ---- ticks ---- */

/* Deliveries keep times in 32 bits: steps of 2^16 us since shortly before the
 * scheduler's first use, good for 8.9 years of running. */
#define TICK_SHIFT 16
#define TICK_NEVER UINT32_MAX

/* ---- slab of deliveries ---- */

enum delivery_list {
	LIST_FRESH,
	LIST_DUE, /* retries whose time has come, in the order it came */
	LIST_LEVEL, /* …and the levels after it: retries that wait */
	LISTS = LIST_LEVEL + SCHEDULE_LEVELS,
	LIST_FREE = 0xff, /* not in use */
};

struct delivery {
	uint64_t mno;
	uint32_t next, prev; /* in one of its queue's lists */
	uint32_t wheel_next, wheel_prev;
	uint32_t due, warn, expire; /* ticks */
	uint32_t queue; /* position in the scheduler's table */
	uint32_t rcpt_first : 24, list : 8;
	uint32_t rcpt_count : 24, attempts : 8;
};

_Static_assert(sizeof(struct delivery) == 48, "ten millions of these");

#define SLAB_BLOCK 4096U

struct slab {
	struct delivery **blocks;
	uint32_t block_count, block_capacity;
	uint32_t free_head, used;
};

static inline struct delivery *
slab_at(const struct slab *slab, uint32_t i)
{
	return &slab->blocks[i / SLAB_BLOCK][i % SLAB_BLOCK];
}

uint32_t slab_take(struct slab *slab);
void slab_give(struct slab *slab, uint32_t i);
void slab_done(struct slab *slab);

/* ---- wheel: each waiting delivery's next event ---- */

/* Two rings: near slots of one tick (67 s in all), far slots of NEAR ticks
 * (6.4 days; what is later waits in the last one and is placed again). */
#define WHEEL_NEAR 1024U
#define WHEEL_FAR 8192U

enum wheel_line {
	WHEEL_SPREAD = WHEEL_NEAR + WHEEL_FAR, /* from a far slot, to be placed
						  among the near ones */
	WHEEL_READY, /* its time has come */
	WHEEL_FIRED, /* and it must be told: a warning or the end */
	WHEEL_SLOTS,
};

struct wheel {
	uint32_t now; /* all up to here has gone to WHEEL_READY */
	uint32_t heads[WHEEL_SLOTS];
	uint64_t near_used[WHEEL_NEAR / 64], far_used[WHEEL_FAR / 64];
};

void wheel_init(struct wheel *w);
/* TICK_NEVER: not at all. The delivery must not be in the wheel. */
void wheel_place(struct wheel *w, struct slab *slab, uint32_t i, uint32_t tick);
void wheel_put(struct wheel *w, struct slab *slab, uint32_t i, uint32_t slot);
void wheel_remove(struct wheel *w, struct slab *slab, uint32_t i);
/* Goes on to the next tick with something in it, which lands in WHEEL_SPREAD
 * and WHEEL_READY; both must be empty. False: nothing up to `until`. */
bool wheel_advance(struct wheel *w, struct slab *slab, uint32_t until);
/* UINT64_MAX: nothing in the rings. */
uint64_t wheel_next_tick(const struct wheel *w);

/* ---- heap: timers of queues and sites, and the turns of tenants ---- */

enum heap_kind {
	TIMER_QUEUE,
	TIMER_SITE,
	TIMER_GATE,
	TIMER_TENANT,
	TIMER_ALL,
	TURN_LANE
};

struct heap_node {
	int64_t rank;
	uint32_t position; /* NONE: not set */
	enum heap_kind kind;
};

struct heap {
	struct heap_node **nodes;
	uint32_t count, capacity;
};

void heap_node_init(struct heap_node *node, enum heap_kind kind);
void heap_set(struct heap *heap, struct heap_node *node, int64_t rank);
void heap_remove(struct heap *heap, struct heap_node *node);
struct heap_node *heap_first(const struct heap *heap);

/* ---- queues ---- */

struct fifo {
	uint32_t head, tail, count;
};

enum queue_place { PLACE_NOWHERE, PLACE_LANE, PLACE_LOOKUP };

struct schedule_queue {
	struct schedule *s;
	struct heap_node timer; /* end of the pause, or of life */
	struct list place_link;
	struct list goal_link; /* among all queues of the goal */
	struct goal *goal;
	struct lane *lane;
	int64_t valid_until_us; /* of the goal */
	int64_t pause_until_us; /* after a failed look-up; 0: none */
	uint64_t recipients, in_flight;
	/* Position in the scheduler's table; other positions may lead here,
	 * too, chained by s->aliases: those of queues that were moved here. */
	uint32_t index;
	uint32_t tenant, stream;
	/* How many of each level, from the head on, an operator wants now: so
	 * a retry of a whole queue costs nothing per delivery. When one of them
	 * ends before its turn, the next behind may go early instead. */
	uint32_t forced[SCHEDULE_LEVELS];
	uint32_t forced_total;
	uint32_t counted_ready; /* its share in the site's ready[] */
	uint8_t class, place;
	uint8_t turn; /* of fresh and retry */
	uint8_t lookup_failures;
	bool is_held, is_looked_up, was_served; /* since it got its site */
	bool is_limited; /* the pause is the domain's rate */
	struct domain *domain_limit; /* counted; NULL: not limited */
	bool is_reaped, is_replayed; /* not a queue any more: see reap.c */
	void *tag; /* of what is reaped */
	uint64_t cut_mno;
	struct fifo lists[LISTS];
	char *hold_reason, *last_reply;
	uint64_t reply_order;
	size_t domain_len;
	char domain[];
};

/* Finds or makes. */
struct schedule_queue *queue_of(
    struct schedule *s, const struct schedule_key *key);
/* Without a position, known to nobody. */
struct schedule_queue *queue_blank(
    struct schedule *s, const struct schedule_key *key);
void queue_free(struct schedule_queue *q);
/* Its memory alone. */
void queue_drop(struct schedule_queue *q);
/* For going through all: NULL when the position is free, another way to a queue
 * that stands elsewhere, or reaped. */
struct schedule_queue *queue_at(const struct schedule *s, uint32_t i);
uint32_t index_take(struct schedule *s);
/* Leads every position of `from` to `to`. */
void index_hand_over(struct schedule_queue *from, struct schedule_queue *to);
void queue_update(struct schedule_queue *q);
void queue_leave_place(struct schedule_queue *q);
void queue_on_timer(struct schedule_queue *q);
uint32_t queue_ready(const struct schedule_queue *q); /* by time alone */
bool queue_is_servable(const struct schedule_queue *q); /* given a site */
bool queue_has_mail(const struct schedule_queue *q); /* waiting */
bool queue_matches(
    const struct schedule_queue *q, const struct schedule_selector *sel);
/* "*" in the pattern stands for any octets. */
bool glob_matches(struct span pattern, struct span text);
void text_replace(char **text, struct span now, size_t max);

/* Puts a delivery into a list of the queue and into the wheel. */
uint32_t delivery_add(struct schedule_queue *q,
    const struct schedule_delivery *d, unsigned list, bool at_front);
/* Out of list and wheel, slot given back. */
struct schedule_delivery delivery_remove(struct schedule_queue *q, uint32_t i);
struct schedule_delivery delivery_facts(
    const struct schedule *s, const struct delivery *d);
void delivery_list_move(struct schedule_queue *q, uint32_t i, unsigned list);
void delivery_arm(struct schedule *s, uint32_t i); /* (again) in the wheel */
/* The one that goes next of a queue with something ready. */
uint32_t queue_pick(struct schedule_queue *q);
/* Sets attempts and due_us, and queues it. `level` is the least level. */
void delivery_defer(struct schedule_queue *q, struct schedule_delivery *d,
    unsigned level, int64_t min_delay_us);
unsigned level_of(const struct schedule *s, unsigned attempts);

/* ---- sites ---- */

/* What the queues of one domain share. */
struct domain {
	struct bucket messages;
	uint32_t users;
};

/* A tenant that may have to wait. */
struct tenant {
	struct schedule *s;
	struct bucket *messages; /* the ledger's */
	struct heap_node timer; /* its lanes are unlinked until then */
	struct list lanes; /* by block_link */
};

/* A tenant's queues of one class at one site. */
struct lane {
	struct heap_node turn; /* in the site's ring while it has queues to
				  serve; by recipients served so far */
	struct list queues;
	struct goal *goal;
	uint32_t tenant, users;
	enum schedule_class class;
	struct list block_link;
	bool is_blocked;
	uint64_t ready; /* of its queues, counted in the goal's unless
			   blocked */
};

enum connection_state {
	CONNECTION_OPENING,
	CONNECTION_BUSY,
	CONNECTION_IDLE,
	CONNECTION_WOKEN, /* about to take */
	CONNECTION_LENT, /* told to close: its place is another's */
	CONNECTION_CLOSING, /* open, but of no more use */
};

/* A receiving system, for the mail of one pool: who waits, and whose turn it
 * is. Its ways pull from here. */
struct goal {
	struct schedule *s;
	struct list all_link;
	struct list queues; /* all that belong here */
	struct list ways; /* struct schedule_site, by goal_link */
	uint32_t way_count, parked_count; /* those not retired */
	struct heap rings[SCHEDULE_CLASSES]; /* of lanes */
	int64_t served[SCHEDULE_CLASSES]; /* the latest turn's rank */
	uint64_t ready[SCHEDULE_CLASSES]; /* deliveries of queues in lanes */
	uint32_t passed[SCHEDULE_CLASSES]; /* turns that a class has waited */
	uint32_t coming[2]; /* connections: opening or woken, of all ways */
	uint32_t connections; /* of all ways */
	uint64_t turn; /* the furthest way's */
	void *owner;
	char *last_reply;
	uint64_t reply_order;
	size_t name_len, key_len; /* name, NUL, pool */
	char name[];
};

struct schedule_site {
	struct schedule *s;
	struct goal *goal;
	struct list goal_link;
	struct list all_link;
	struct list want_link;
	struct list *line; /* it stands in: s->to_close, … or NULL */
	struct ledger_share share;
	struct schedule_limits limits;
	bool has_limits; /* its own; else the policy's */
	bool is_retired; /* takes no more; is freed with its connections */
	uint32_t weight;
	uint64_t turn; /* deliveries taken, by weight */
	int64_t last_taken_us;
	struct list idle[2]; /* connections; [1]: reserved ones */
	struct heap_node timer; /* next probe, or end of the sparing */
	/* The earliest of these times, which are 0 when passed. */
	struct heap_node gate;
	int64_t message_at_us, connect_at_us; /* the rates allow it */
	int64_t suspended_us; /* until then nothing goes */
	int64_t turn_at_us; /* who is slower has had his chance */
	int64_t patience_us; /* what was ready then must have gone */
	uint64_t patience_ready, patience_taken;
	uint64_t taken; /* deliveries, ever */

	/* … a second ago or more, and a second before that. */
	struct mark {
		int64_t at_us;
		uint64_t taken;
	} marks[2];
	struct schedule_rate rate; /* that the last one was let go by */
	int64_t service_us; /* of one delivery, on average; 0: unknown */
	bool is_urged; /* they are slower than thought */
	uint8_t grant; /* enum grant: of the connection wanted */
	enum ledger_answer denial; /* by the ledger, until it has news */
	uint32_t open[2], opening, closing;
	uint32_t failures; /* in a row */
	uint32_t probes; /* failed ones in a row */
	bool is_parked;
	bool is_probe_due; /* its time has come, and waits for mail */
	uint32_t spared_at; /* not more connections before the timer; 0: any */
	char *ledger_name;
	size_t source_len;
	char source[];
};

/* A way that has had no turn for so long holds nobody up. */
#define TURN_PATIENCE_US US_PER_S

enum grant { GRANT_NONE, GRANT_PLAIN, GRANT_RESERVED };

struct ledger_limits site_limits(const struct schedule_site *site);
struct schedule_limits limits_of_policy(const struct schedule_policy *policy);
bool goal_is_parked(const struct goal *goal);
struct span goal_name(const struct goal *goal);
/* Some change of what waits concerns all its ways. */
void goal_update(struct goal *goal);
/* Another way is behind in turns and could go on: this one lets it. */
bool site_lets_others(const struct schedule_site *site);
bool site_is_paced(const struct schedule_site *site);
/* A delivery has gone this way. */
void site_count_turn(struct schedule_site *site);
/* … and looks again when that one did not go on after all. */
void site_wait_for_turn(struct schedule_site *site);
/* The wish alone, whatever other ways do. */
bool site_could_connect(const struct schedule_site *site, bool *ret_reserved);
bool site_could_go(const struct schedule_site *site); /* at once, or soon */
void site_on_gate(struct schedule_site *site);
/* Takes what the policy's rates allow; false: closed until the gate's time. */
bool site_open_gate(struct schedule_site *site);
void site_shut_gate(struct schedule_site *site); /* it was not used */
/* The connection that goes next was allowed by the ledger. */
bool site_be_granted(struct schedule_site *site);
/* The ledger has something for us. */
void sites_hear_news(struct schedule *s);

/* ---- limit.c ---- */

void limits_init(struct schedule *s);
void limits_done(struct schedule *s);
void limits_renew(struct schedule *s); /* the policy has changed */
bool site_may_connect(struct schedule_site *site);
/* Connections are enough, provided that all that is ready has gone then. */
void site_be_patient(
    struct schedule_site *site, uint64_t ready, int64_t until_us);
/* One delivery of the queue may go now, as far as tenant and domain are
 * concerned; else what stands in the way is unlinked until it may. */
bool limit_take(struct schedule_queue *q);
void lane_on_ready(struct lane *lane, uint64_t less, uint64_t more);
void lane_enter_ring(struct lane *lane);
void tenant_on_timer(struct tenant *tenant);
/* Until then its domain's rate must not be forgotten. */
int64_t domain_keep_until(const struct schedule_queue *q);
void domain_release(struct schedule_queue *q);

/* The site, if it is of no more use, and its goal, if nothing is left of it. */
void site_free_if_unused(struct schedule_site *site);
void goal_free_if_unused(struct goal *goal);
void goal_bind(struct schedule_queue *q, const struct schedule_place *place);
void goal_unbind(struct schedule_queue *q); /* may free goal and sites */
void site_update(struct schedule_site *site); /* and its goal's others */
void site_on_timer(struct schedule_site *site);
void site_unpark(struct schedule_site *site);
/* A queue of a parked goal has mail ready. */
void goal_probe_if_due(struct goal *goal);
void goal_probe_now(struct goal *goal);
/* More than our part, and somebody waits for his. */
bool site_is_lent(const struct schedule_site *site);
/* The one that has been idle longest, or NULL. */
struct schedule_connection *site_idle(const struct schedule_site *site);
bool site_wants_connection(
    const struct schedule_site *site, bool *ret_reserved);
/* An idle connection for the work there is, or NULL. */
struct schedule_connection *site_wakeable(const struct schedule_site *site);
uint32_t site_usable(const struct schedule_site *site); /* connections */
/* Out of what its state says of it, except being open. */
void connection_leave_state(struct schedule_connection *c);

/* ---- the whole ---- */

struct hold_rule {
	struct list link;
	bool is_hold; /* or a release */
	uint32_t tenant, stream;
	uint8_t classes;
	char *domain, *site;
	char *reason;
};

struct schedule {
	struct schedule_policy policy;
	int64_t now_us; /* the latest time heard of */
	int64_t base_us; /* of ticks */
	bool has_base;
	uint64_t random;
	uint64_t reply_order;
	struct slab slab;
	struct wheel wheel;
	struct heap timers;
	struct map *queues_by_key, *goals_by_name, *lanes_by_key;
	struct schedule_queue **queues; /* by index; NULL: free */
	uint32_t queue_count, queue_capacity;
	uint32_t *free_queues;
	uint32_t *aliases; /* by position: the queue's next one, or NONE */
	uint32_t free_count;
	uint64_t queue_bytes;
	struct list goals, sites;
	struct list to_look_up, to_wake, to_connect, to_close;
	struct schedule_ledger *ledger;
	struct ledger_member member;
	struct map *tenants; /* struct tenant by id, once rated */
	struct map *domains; /* struct domain, once rated */
	struct heap_node all_timer; /* nothing goes before, by the rate */
	struct list holds; /* oldest first */
	struct list reaped; /* by place_link */
	struct map *replayed; /* those of a restart, by tag and stream */
	uint64_t reaped_count; /* deliveries there */
	uint32_t lookups_open;
	uint32_t connections; /* open or opening, everywhere */
	uint32_t sites_parked, goal_count; /* goals without a way count */
	uint64_t recipients, in_flight; /* waiting; taken */
	void (*on_site_free)(void *owner);
};

void schedule_hear(struct schedule *s, int64_t now_us);
bool schedule_has_room(const struct schedule *s); /* for a connection */
uint32_t tick_after(const struct schedule *s, int64_t time_us);
int64_t tick_time(const struct schedule *s, uint32_t tick);
/* Within ± percent, even spread. */
int64_t jittered(struct schedule *s, int64_t delay_us, uint32_t percent);
/* The latest rule that matches, applied to a queue that comes into being or
 * has come to a site. */
void holds_apply(struct schedule_queue *q);
void holds_free(struct schedule *s);

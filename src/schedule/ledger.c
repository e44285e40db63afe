/* SPDX-License-Identifier: Apache-2.0 */
#include "schedule/ledger.h"

#include "base/bug.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"

#include <string.h>

/* Sites that nobody uses, remembered for what was learned. */
#define REMEMBERED_MAX 10000
#define REMEMBERED_US US_PER_DAY
#define MEMBERS_MAX 256
#define REPLY_MAX 200

/* Paces, in messages per 10^6 seconds: at which one begins at all, and between
 * which it stays. */
#define PACE_FIRST INT64_C(1000000)
#define PACE_MIN INT64_C(200000)
#define PACE_MAX INT64_C(100000000000)
/* One fall in a round; refused again so soon, it was not enough. */
#define PACE_ROUND_US US_PER_S
#define PACE_AGAIN_US (3 * US_PER_S)

struct ledger_site {
	struct schedule_ledger *ledger;
	struct list shares; /* none: it is only remembered */
	struct list old_link;
	int64_t left_us; /* when the last share was closed */
	uint32_t used[2]; /* connections; [1]: reserved ones */
	atomic_uint owed; /* shares that others should give to */
	atomic_uint yielding; /* connections that are about to be given */
	/* Congestion control as of Postfix: doubles per round until the first
	 * failure, then one more per round; one step back per round at most. */
	atomic_uint window; /* 0: nothing learned yet */
	uint32_t credit; /* successes towards the next step */
	uint32_t calm; /* events before the next step back */
	bool has_failed;
	/* The same for the rate of messages. A refusal sets the ceiling; from
	 * below the rate comes near it soon, then creeps, and beyond it grows
	 * ever faster, since the limit seems to have gone. */
	atomic_int_fast64_t pace; /* 0: none */
	int64_t pace_ceiling, pace_step;
	int64_t pace_rose_us, pace_fell_us;
	unsigned pace_falls; /* one soon after the other */
	char *pace_reply;
	struct bucket messages, connections;
	size_t name_len;
	char name[];
};

struct schedule_ledger {
	pthread_mutex_t lock;
	atomic_uint references;
	struct map *sites; /* by name */
	struct list old; /* remembered, the oldest first */
	size_t old_count;
	struct map *tenants; /* struct bucket by id; few, never freed */
	struct bucket all;
};

/* ---- buckets ---- */

bool
bucket_take(struct bucket *bucket, const struct schedule_rate *rate,
    int64_t now_us, int64_t *ret_at_us)
{
	if (rate->interval_ns <= 0)
		return true;
	int64_t burst = rate->burst ? rate->burst : 1;
	int64_t ahead_ns = (burst - 1) * rate->interval_ns;
	int64_t now_ns = now_us * 1000;
	int64_t next_ns = atomic_load(&bucket->next_ns);

	for (;;) {
		int64_t from_ns = next_ns > now_ns ? next_ns : now_ns;
		if (from_ns - now_ns > ahead_ns) {
			*ret_at_us = (from_ns - ahead_ns + 999) / 1000;
			return false;
		}
		if (atomic_compare_exchange_weak(&bucket->next_ns, &next_ns,
			from_ns + rate->interval_ns))
			return true;
	}
}

void
bucket_give(struct bucket *bucket, const struct schedule_rate *rate)
{
	if (rate->interval_ns > 0)
		(void)atomic_fetch_sub(&bucket->next_ns, rate->interval_ns);
}

/* ---- the ledger ---- */

struct schedule_ledger *
schedule_ledger_new(void)
{
	struct schedule_ledger *ledger = MEM_NEW(struct schedule_ledger);

	(void)pthread_mutex_init(&ledger->lock, NULL);
	atomic_init(&ledger->references, 1);
	ledger->sites = map_new();
	ledger->tenants = map_new();
	list_init(&ledger->old);
	return ledger;
}

struct schedule_ledger *
schedule_ledger_ref(struct schedule_ledger *ledger)
{
	atomic_fetch_add(&ledger->references, 1);
	return ledger;
}

static void
site_free(void *value)
{
	struct ledger_site *site = value;

	mem_free(site->pace_reply);
	mem_free(site);
}

void
schedule_ledger_unref(struct schedule_ledger **ledger)
{
	struct schedule_ledger *old = *ledger;

	*ledger = NULL;
	if (!old || atomic_fetch_sub(&old->references, 1) > 1)
		return;
	map_free(&old->sites, site_free);
	map_free(&old->tenants, mem_free);
	(void)pthread_mutex_destroy(&old->lock);
	mem_free(old);
}

static void
lock(struct schedule_ledger *ledger)
{
	(void)pthread_mutex_lock(&ledger->lock);
}

static void
unlock(struct schedule_ledger *ledger)
{
	(void)pthread_mutex_unlock(&ledger->lock);
}

struct bucket *
ledger_all(struct schedule_ledger *ledger)
{
	return &ledger->all;
}

struct bucket *
ledger_tenant(struct schedule_ledger *ledger, uint32_t tenant)
{
	lock(ledger);
	struct bucket *bucket = map_get_u64(ledger->tenants, tenant);
	if (!bucket) {
		bucket = MEM_NEW(struct bucket);
		(void)map_put_u64(ledger->tenants, tenant, bucket);
	}
	unlock(ledger);
	return bucket;
}

/* ---- telling ---- */

/* Who is to be told once the lock is given back. */
struct audience {
	struct ledger_member *members[MEMBERS_MAX];
	unsigned count;
};

static void
audience_add(struct audience *a, struct ledger_share *share)
{
	struct ledger_member *member = share->member;

	if (list_is_empty(&share->news_link))
		list_append(&member->news, &share->news_link);
	if (atomic_exchange(&member->has_news, true) || !member->tell)
		return;
	BUG_UNLESS(a->count < MEMBERS_MAX);
	a->members[a->count++] = member;
}

static void
audience_tell(const struct audience *a)
{
	for (unsigned i = 0; i < a->count; i++)
		a->members[i]->tell(a->members[i]->arg);
}

static void
add_waiting(struct ledger_site *site, struct audience *a)
{
	LIST_FOR_EACH(link, &site->shares) {
		struct ledger_share *share =
		    LIST_ENTRY(link, struct ledger_share, link);
		if (!share->waits)
			continue;
		share->waits = false;
		audience_add(a, share);
	}
}

static uint32_t
window_now(const struct ledger_site *site, const struct ledger_limits *limits)
{
	uint32_t window = atomic_load(&site->window);

	if (!limits->window_first)
		return limits->connections;
	if (!window)
		window = limits->window_first;
	return window < limits->connections ? window : limits->connections;
}

static uint32_t
own_now(const struct ledger_site *site, const struct ledger_limits *limits)
{
	uint64_t own = (uint64_t)window_now(site, limits) * limits->own /
		       limits->connections;

	return own ? (uint32_t)own : 1;
}

static void
add_others(struct ledger_share *from, struct audience *a)
{
	LIST_FOR_EACH(link, &from->site->shares) {
		struct ledger_share *share =
		    LIST_ENTRY(link, struct ledger_share, link);
		if (share != from && share->held > share->own)
			audience_add(a, share);
	}
}

/* ---- sites ---- */

static void
waive(struct ledger_share *share)
{
	if (!share->is_owed)
		return;
	share->is_owed = false;
	(void)atomic_fetch_sub(&share->site->owed, 1);
}

void
ledger_waive(struct ledger_share *share)
{
	struct audience audience;

	if (!share->is_owed)
		return;
	audience.count = 0;
	lock(share->site->ledger);
	waive(share);
	add_waiting(share->site, &audience);
	unlock(share->site->ledger);
	audience_tell(&audience);
}

static void
forget(struct ledger_site *site)
{
	struct schedule_ledger *ledger = site->ledger;

	list_remove(&site->old_link);
	ledger->old_count--;
	(void)map_remove(ledger->sites, span_from(site->name, site->name_len));
	site_free(site);
}

static void
forget_old(struct schedule_ledger *ledger, int64_t now_us)
{
	while (!list_is_empty(&ledger->old)) {
		struct ledger_site *site =
		    LIST_ENTRY(ledger->old.next, struct ledger_site, old_link);
		if (ledger->old_count <= REMEMBERED_MAX &&
		    now_us - site->left_us < REMEMBERED_US)
			return;
		forget(site);
	}
}

static struct ledger_site *
site_make(struct schedule_ledger *ledger, struct span name)
{
	struct ledger_site *site = mem_zalloc(sizeof *site + name.len + 1);

	site->ledger = ledger;
	site->name_len = name.len;
	if (name.len)
		memcpy(site->name, name.ptr, name.len);
	list_init(&site->shares);
	list_init(&site->old_link);
	(void)map_put(ledger->sites, name, site);
	return site;
}

void
ledger_open(struct schedule_ledger *ledger, struct span name,
    struct ledger_member *member, int64_t now_us,
    struct ledger_share *ret_share)
{
	lock(ledger);
	forget_old(ledger, now_us);
	struct ledger_site *site = map_get(ledger->sites, name);
	if (!site)
		site = site_make(ledger, name);
	if (!list_is_empty(&site->old_link)) {
		list_remove(&site->old_link);
		ledger->old_count--;
	}
	*ret_share = (struct ledger_share){
		.member = member,
		.site = site,
		.owed = &site->owed,
		.pace = &site->pace,
	};
	list_init(&ret_share->link);
	list_init(&ret_share->news_link);
	list_append(&site->shares, &ret_share->link);
	unlock(ledger);
}

void
ledger_close(struct ledger_share *share, int64_t now_us)
{
	struct ledger_site *site = share->site;
	struct schedule_ledger *ledger = site->ledger;

	BUG_UNLESS(share->held == 0);
	lock(ledger);
	waive(share);
	list_remove(&share->link);
	list_remove(&share->news_link);
	if (list_is_empty(&site->shares)) {
		site->left_us = now_us;
		list_append(&ledger->old, &site->old_link);
		ledger->old_count++;
		forget_old(ledger, now_us);
	}
	unlock(ledger);
	share->site = NULL;
}

void
ledger_member_init(
    struct ledger_member *member, void (*tell)(void *arg), void *arg)
{
	*member = (struct ledger_member){ .tell = tell, .arg = arg };
	list_init(&member->news);
}

struct ledger_share *
ledger_news(struct schedule_ledger *ledger, struct ledger_member *member)
{
	struct ledger_share *share = NULL;

	lock(ledger);
	if (list_is_empty(&member->news)) {
		atomic_store(&member->has_news, false);
	} else {
		share = LIST_ENTRY(
		    member->news.next, struct ledger_share, news_link);
		list_remove(&share->news_link);
	}
	unlock(ledger);
	return share;
}

/* ---- connections ---- */

static void
count_in(struct ledger_share *share, bool is_reserved)
{
	struct ledger_site *site = share->site;

	site->used[is_reserved]++;
	share->held++;
	share->waits = false;
	waive(share);
}

static enum ledger_answer
may_take(const struct ledger_share *share, const struct ledger_limits *limits,
    bool is_reserved)
{
	const struct ledger_site *site = share->site;
	uint32_t used = site->used[0] + site->used[1];
	uint32_t unreserved = limits->connections - limits->reserved;

	if (used >= limits->connections ||
	    (!is_reserved && site->used[0] >= unreserved))
		return LEDGER_FULL;
	if (used >= window_now(site, limits))
		return LEDGER_WINDOW;
	/* What another gives is for those it is owed to. */
	if (atomic_load(&site->owed) > 0 && !share->is_owed)
		return LEDGER_FULL;
	return LEDGER_YES;
}

enum ledger_answer
ledger_take(struct ledger_share *share, const struct ledger_limits *limits,
    bool is_reserved)
{
	struct ledger_site *site = share->site;
	struct audience audience;

	audience.count = 0;
	lock(site->ledger);
	enum ledger_answer answer = may_take(share, limits, is_reserved);
	share->own = own_now(site, limits);
	if (answer == LEDGER_YES) {
		count_in(share, is_reserved);
		unlock(site->ledger);
		return LEDGER_YES;
	}
	share->waits = true;
	if (share->held < share->own &&
	    share->held < site->used[0] + site->used[1]) {
		if (!share->is_owed)
			(void)atomic_fetch_add(&site->owed, 1);
		share->is_owed = true;
		add_others(share, &audience);
	}
	unlock(site->ledger);
	audience_tell(&audience);
	return answer;
}

void
ledger_force(struct ledger_share *share, bool is_reserved)
{
	lock(share->site->ledger);
	count_in(share, is_reserved);
	unlock(share->site->ledger);
}

void
ledger_give(struct ledger_share *share, bool is_reserved)
{
	struct ledger_site *site = share->site;
	struct audience audience;

	audience.count = 0;
	lock(site->ledger);
	BUG_UNLESS(share->held > 0 && site->used[is_reserved] > 0);
	site->used[is_reserved]--;
	share->held--;
	if (share->yielding) {
		share->yielding--;
		(void)atomic_fetch_sub(&site->yielding, 1);
	}
	add_waiting(site, &audience);
	unlock(site->ledger);
	audience_tell(&audience);
}

bool
ledger_may_yield(
    const struct ledger_share *share, const struct ledger_limits *limits)
{
	const struct ledger_site *site = share->site;

	return atomic_load(&site->owed) > atomic_load(&site->yielding) &&
	       share->held > own_now(site, limits) + share->yielding;
}

bool
ledger_yields(struct ledger_share *share, const struct ledger_limits *limits)
{
	struct ledger_site *site = share->site;

	if (!ledger_may_yield(share, limits))
		return false;
	lock(site->ledger);
	bool yields = ledger_may_yield(share, limits);
	if (yields) {
		share->yielding++;
		(void)atomic_fetch_add(&site->yielding, 1);
	}
	unlock(site->ledger);
	return yields;
}

/* ---- the window ---- */

uint32_t
ledger_window(
    const struct ledger_share *share, const struct ledger_limits *limits)
{
	return window_now(share->site, limits);
}

void
ledger_success(struct ledger_share *share, const struct ledger_limits *limits)
{
	struct ledger_site *site = share->site;
	struct audience audience;

	if (window_now(site, limits) >= limits->connections)
		return;
	audience.count = 0;
	lock(site->ledger);
	uint32_t window = window_now(site, limits);
	if (site->calm)
		site->calm--;
	/* What is not used proves nothing. */
	if (site->used[0] + site->used[1] >= window &&
	    window < limits->connections &&
	    (!site->has_failed || ++site->credit >= window)) {
		site->credit = 0;
		atomic_store(&site->window, window + 1);
		add_waiting(site, &audience);
	}
	unlock(site->ledger);
	audience_tell(&audience);
}

void
ledger_failure(
    struct ledger_share *share, const struct ledger_limits *limits, bool halve)
{
	struct ledger_site *site = share->site;

	if (!limits->window_first)
		return;
	lock(site->ledger);
	uint32_t window = window_now(site, limits);
	site->has_failed = true;
	site->credit = 0;
	if (site->calm) {
		site->calm--;
	} else {
		window = halve ? window / 2 : window - 1;
		if (!window)
			window = 1;
		atomic_store(&site->window, window);
		site->calm = window;
	}
	unlock(site->ledger);
}

/* ---- the pace ---- */

static void
pace_rise(struct ledger_site *site)
{
	int64_t pace = atomic_load(&site->pace);
	int64_t ceiling = site->pace_ceiling;

	if (pace < ceiling / 100 * 90) {
		pace += (ceiling - pace) / 10;
	} else if (pace <= ceiling / 100 * 105) {
		site->pace_step = ceiling / 200;
		pace += site->pace_step;
	} else {
		site->pace_step += site->pace_step / 7;
		pace += site->pace_step;
	}
	/* Nobody is held up any more. */
	atomic_store(&site->pace, pace < PACE_MAX ? pace : 0);
}

int64_t
ledger_pace(const struct ledger_share *share, bool is_used, int64_t now_us)
{
	struct ledger_site *site = share->site;

	lock(site->ledger);
	if (is_used && atomic_load(&site->pace) &&
	    now_us - site->pace_rose_us >= US_PER_S) {
		site->pace_rose_us = now_us;
		pace_rise(site);
	}
	int64_t pace = atomic_load(&site->pace);
	unlock(site->ledger);
	return pace;
}

/* To how much of it, in percent: a little below the limit that was just met;
 * refused again at once, we were further from it. */
static const unsigned char falls[] = { 93, 85, 70, 50 };

enum { FALLS = sizeof falls };

static void
pace_fall(struct ledger_site *site, int64_t measured, int64_t now_us)
{
	int64_t pace = atomic_load(&site->pace);
	int64_t since_us = now_us - site->pace_fell_us;

	/* Where nothing was known it may have been many times too much. */
	if (!pace)
		site->pace_falls = FALLS - 2;
	else if (since_us >= PACE_AGAIN_US)
		site->pace_falls = 0;
	else if (site->pace_falls < FALLS - 1)
		site->pace_falls++;
	site->pace_ceiling = pace ? pace : measured;
	pace = site->pace_ceiling / 100 * falls[site->pace_falls];
	if (pace < PACE_MIN)
		pace = PACE_MIN;
	if (site->pace_ceiling < pace)
		site->pace_ceiling = pace;
	atomic_store(&site->pace, pace);
	site->pace_fell_us = site->pace_rose_us = now_us;
}

void
ledger_slow(const struct ledger_share *share, int64_t measured,
    struct span reply, int64_t now_us)
{
	struct ledger_site *site = share->site;

	lock(site->ledger);
	bool has_pace = atomic_load(&site->pace) != 0;
	/* What was on its way when it fell says nothing new. */
	if (has_pace ? now_us - site->pace_fell_us >= PACE_ROUND_US
		     : measured >= PACE_FIRST) {
		pace_fall(site, measured, now_us);
		mem_free(site->pace_reply);
		site->pace_reply = span_dup(span_slice(
		    reply, 0, reply.len < REPLY_MAX ? reply.len : REPLY_MAX));
	}
	unlock(site->ledger);
}

void
ledger_pace_reply(const struct ledger_share *share, char *buffer, size_t size)
{
	struct ledger_site *site = share->site;

	lock(site->ledger);
	struct span reply = span_of(site->pace_reply ? site->pace_reply : "");
	if (reply.len >= size)
		reply.len = size - 1;
	if (!span_to_cstring(reply, buffer, size))
		buffer[0] = '\0'; /* it has a NUL */
	unlock(site->ledger);
}

/* ---- what outlives a restart ---- */

void
schedule_ledger_each_learned(
    struct schedule_ledger *ledger, schedule_learned_fn *fn, void *arg)
{
	struct map_cursor cursor = { 0 };

	lock(ledger);
	while (map_next(ledger->sites, &cursor)) {
		const struct ledger_site *site = cursor.value;
		struct schedule_learned learned = {
			.name = span_from(site->name, site->name_len),
			.window = atomic_load(&site->window),
			.pace = atomic_load(&site->pace),
			.ceiling = site->pace_ceiling,
			.reply =
			    span_of(site->pace_reply ? site->pace_reply : ""),
		};
		if (learned.window || learned.pace)
			fn(arg, &learned);
	}
	unlock(ledger);
}

void
schedule_ledger_learn(struct schedule_ledger *ledger,
    const struct schedule_learned *learned, int64_t now_us)
{
	lock(ledger);
	struct ledger_site *site = map_get(ledger->sites, learned->name);
	if (!site && ledger->old_count < REMEMBERED_MAX) {
		site = site_make(ledger, learned->name);
		site->left_us = now_us;
		list_append(&ledger->old, &site->old_link);
		ledger->old_count++;
	}
	if (site && !atomic_load(&site->window)) {
		atomic_store(&site->window, learned->window);
		site->has_failed = learned->window > 0;
	}
	if (site && !atomic_load(&site->pace) && learned->pace >= PACE_MIN &&
	    learned->pace < PACE_MAX && learned->ceiling >= learned->pace) {
		atomic_store(&site->pace, learned->pace);
		site->pace_ceiling = learned->ceiling;
		site->pace_step = learned->ceiling / 200;
		site->pace_rose_us = site->pace_fell_us = now_us;
		mem_free(site->pace_reply);
		site->pace_reply = span_dup(learned->reply);
	}
	unlock(ledger);
}

struct bucket *
ledger_messages(const struct ledger_share *share)
{
	return &share->site->messages;
}

struct bucket *
ledger_connections(const struct ledger_share *share)
{
	return &share->site->connections;
}

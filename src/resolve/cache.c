/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "resolve/internal.h"

#include <string.h>

void
entry_free(struct entry *e)
{
	for (size_t i = 0; i < e->host_count; i++) {
		mem_free(e->hosts[i].name);
		mem_free(e->hosts[i].problem);
		mem_free(e->hosts[i].canonical);
		mem_free(e->hosts[i].ips);
	}
	for (size_t i = 0; i < e->record_count; i++)
		mem_free(e->records[i].octets);
	mem_free(e->records);
	mem_free(e->hosts);
	mem_free(e->key);
	mem_free(e->problem);
	mem_free(e->site);
	mem_free(e);
}

struct entry *
cache_take(struct resolver *r, struct entry *e)
{
	void *removed = map_remove(r->cache, span_of(e->key));

	BUG_UNLESS(removed == e);
	list_remove(&e->lru_link);
	return e;
}

static void
cache_drop(struct resolver *r, struct entry *e)
{
	entry_free(cache_take(r, e));
}

struct entry *
cache_find(struct resolver *r, const char *key)
{
	struct entry *e = map_get(r->cache, span_of(key));

	if (e) {
		list_remove(&e->lru_link);
		list_append(&r->lru, &e->lru_link);
	}
	return e;
}

void
cache_put(struct resolver *r, struct entry *e)
{
	struct entry *old = map_get(r->cache, span_of(e->key));

	if (old)
		cache_drop(r, old);
	else if (map_count(r->cache) >= CACHE_MAX)
		cache_drop(r, LIST_ENTRY(r->lru.next, struct entry, lru_link));
	(void)map_put(r->cache, span_of(e->key), e);
	list_append(&r->lru, &e->lru_link);
}

void
cache_free(struct resolver *r)
{
	while (!list_is_empty(&r->lru))
		cache_drop(r, LIST_ENTRY(r->lru.next, struct entry, lru_link));
	map_free(&r->cache, NULL);
}

void
entry_serve(
    struct resolver *r, const struct entry *e, const struct asker *asker)
{
	struct resolve_answer answer;
	struct resolve_records records;

	/* A callback may ask again and be answered inside of this one. */
	r->depth++;
	if (asker->records_fn) {
		records_fill(e, r->answers, &records);
		asker->records_fn(asker->arg, &records);
	} else {
		answer_fill(e, r->answers, &answer);
		asker->fn(asker->arg, &answer);
	}
	if (--r->depth == 0)
		arena_reset(r->answers);
}

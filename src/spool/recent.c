/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A body that comes for the first time leaves nothing but a key behind. When it
 * comes again it gets a number, and its octets are kept: all that come after
 * are compared with them. So mail that is all different pays a checksum, and
 * equal mail is stored twice at most: once as it came, once to share.
 */

#include "base/hash.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <string.h>

struct content {
	struct list link;
	uint64_t key;
	uint32_t tenant;
	struct body_reference body;
	char octets[];
};

void
recent_init(struct recent *recent)
{
	(void)pthread_mutex_init(&recent->lock, NULL);
	list_init(&recent->contents);
	recent->by_key = map_new();
}

static void
forget(struct recent *recent, struct content *content)
{
	list_remove(&content->link);
	(void)map_remove_u64(recent->by_key, content->key);
	recent->bytes -= content->body.size;
	mem_free(content);
}

void
recent_done(struct recent *recent)
{
	LIST_FOR_EACH_SAFE(link, &recent->contents)
		forget(recent, LIST_ENTRY(link, struct content, link));
	map_free(&recent->by_key, NULL);
	(void)pthread_mutex_destroy(&recent->lock);
}

/* ---- the octets of a draft behind its own ------------------------------ */

static struct span
shared_part(const struct draft_chunk *chunk, uint64_t *skip)
{
	struct span all = span_from(chunk->bytes, chunk->len);
	uint64_t part = *skip < all.len ? *skip : all.len;

	*skip -= part;
	return span_skip(all, part);
}

/* Continued from `crc`. */
static uint32_t
checksum(const struct spool_draft *draft, uint32_t crc)
{
	uint64_t skip = draft->own;

	for (const struct draft_chunk *c = draft->first; c; c = c->next) {
		struct span part = shared_part(c, &skip);

		crc = hash_crc32c(crc, part.ptr, part.len);
	}
	return crc;
}

uint32_t
draft_body_crc(
    const struct spool_draft *draft, uint64_t number, uint32_t tenant)
{
	uint8_t head[FORMAT_BODY];

	body_encode(number, tenant, head);
	return checksum(draft, hash_crc32c(0, head, sizeof head));
}

static bool
is_equal(const struct spool_draft *draft, const struct content *content)
{
	uint64_t skip = draft->own;
	const char *at = content->octets;

	if (draft->size - draft->own != content->body.size)
		return false;
	for (const struct draft_chunk *c = draft->first; c; c = c->next) {
		struct span part = shared_part(c, &skip);

		if (memcmp(part.ptr, at, part.len) != 0)
			return false;
		at += part.len;
	}
	return true;
}

static void
copy_octets(const struct spool_draft *draft, struct content *content)
{
	uint64_t skip = draft->own;
	char *at = content->octets;

	for (const struct draft_chunk *c = draft->first; c; c = c->next) {
		struct span part = shared_part(c, &skip);

		memcpy(at, part.ptr, part.len);
		at += part.len;
	}
}

/* ---- remembering ------------------------------------------------------- */

static struct content *
remember(struct spool *spool, uint64_t key, uint32_t tenant,
    const struct spool_draft *draft)
{
	struct recent *recent = &spool->recent;
	uint32_t size = (uint32_t)(draft->size - draft->own);

	while (recent->bytes + size > spool->options.share_bytes)
		forget(recent,
		    LIST_ENTRY(recent->contents.next, struct content, link));
	struct content *content = mem_alloc(sizeof *content + size);
	content->key = key;
	content->tenant = tenant;
	content->body = (struct body_reference){
		.number = spool_next_mno(spool),
		.size = size,
	};
	copy_octets(draft, content);
	content->body.crc = draft_body_crc(draft, content->body.number, tenant);
	recent->bytes += size;
	list_append(&recent->contents, &content->link);
	(void)map_put_u64(recent->by_key, key, content);
	return content;
}

/* NULL: there is none to share with. */
static const struct content *
match(struct spool *spool, uint64_t key, uint32_t tenant,
    const struct spool_draft *draft)
{
	struct recent *recent = &spool->recent;
	struct content *content = map_get_u64(recent->by_key, key);
	uint64_t *seen = &recent->seen[key % RECENT_SEEN];

	if (content) {
		if (content->tenant != tenant || !is_equal(draft, content))
			return NULL;
		list_remove(&content->link);
		list_append(&recent->contents, &content->link);
		return content;
	}
	if (*seen == key)
		return remember(spool, key, tenant, draft);
	*seen = key;
	return NULL;
}

bool
recent_match(struct spool *spool, uint32_t tenant,
    const struct spool_draft *draft, struct body_reference *ret_body)
{
	const struct spool_options *o = &spool->options;
	uint64_t size = draft->size - draft->own;

	if (draft->path || size < o->share_min || size > o->share_bytes)
		return false;
	uint64_t key =
	    hash_mix((uint64_t)checksum(draft, 0) << 32 | (uint32_t)size) ^
	    hash_mix(tenant);
	(void)pthread_mutex_lock(&spool->recent.lock);
	const struct content *content = match(spool, key, tenant, draft);
	if (content)
		*ret_body = content->body;
	(void)pthread_mutex_unlock(&spool->recent.lock);
	return content != NULL;
}

void
recent_forget(struct recent *recent, uint64_t number)
{
	(void)pthread_mutex_lock(&recent->lock);
	LIST_FOR_EACH_SAFE(link, &recent->contents) {
		struct content *c = LIST_ENTRY(link, struct content, link);

		if (c->body.number == number)
			forget(recent, c);
	}
	(void)pthread_mutex_unlock(&recent->lock);
}

uint64_t
recent_bytes(struct recent *recent)
{
	(void)pthread_mutex_lock(&recent->lock);
	uint64_t bytes = recent->bytes;
	(void)pthread_mutex_unlock(&recent->lock);
	return bytes;
}

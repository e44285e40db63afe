/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/live.h"

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "mail/address.h"
#include "spool/bytes.h"
#include "spool/format.h"

#define LIVE_MAGIC 0x314c4850u /* "PHL1" */
#define CATALOGUE_MAGIC 0x31434850u /* "PHC1" */

static const uint8_t *
bytes_of(struct span s)
{
	return (const uint8_t *)s.ptr;
}

/* ---- entries ----------------------------------------------------------- */

void
live_entry_done(struct live_entry *entry)
{
	mem_free(entry->runs);
	*entry = (struct live_entry){ 0 };
}

static void
make_room(struct live_entry *entry, size_t count)
{
	if (count > entry->run_capacity) {
		entry->run_capacity = 2 * count;
		entry->runs = mem_resize(
		    entry->runs, entry->run_capacity, sizeof *entry->runs);
	}
	entry->message.runs = entry->runs;
}

static bool
is_same_state(const struct spool_live_run *a, const struct spool_live_run *b)
{
	return a->notify == b->notify && a->attempts == b->attempts &&
	       a->warned == b->warned && a->due_us == b->due_us &&
	       span_eq(a->domain, b->domain);
}

/* One more at the end, joined to the last if they are alike. */
static void
add_run(struct live_entry *entry, const struct spool_live_run *run)
{
	uint32_t count = entry->message.run_count;
	struct spool_live_run *last =
	    count > 0 ? &entry->runs[count - 1] : NULL;

	if (last && last->rcpt_first + last->rcpt_count == run->rcpt_first &&
	    is_same_state(last, run)) {
		last->rcpt_count += run->rcpt_count;
		return;
	}
	make_room(entry, count + 1);
	entry->runs[count] = *run;
	entry->message.run_count = count + 1;
}

void
live_from_envelope(const struct spool_envelope *e, struct live_entry *entry)
{
	entry->message = (struct spool_live){
		.mno = e->mno,
		.tenant = e->tenant,
		.stream = e->stream,
		.class = e->class,
		.flags = e->flags,
		.has_sender = e->sender.len > 0,
		.accepted_us = e->accepted_us,
		.expire_us = e->expire_us,
		.not_before_us = e->not_before_us,
		.runs = entry->runs,
	};
	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		const struct spool_live_run run = {
			.rcpt_first = i,
			.rcpt_count = 1,
			.domain = address_domain_of(e->rcpts[i].address),
			.notify = e->rcpts[i].notify,
		};

		add_run(entry, &run);
	}
}

uint32_t
live_count(const struct live_entry *entry)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < entry->message.run_count; i++)
		count += entry->runs[i].rcpt_count;
	return count;
}

static void
add_part(struct live_entry *entry, const struct spool_live_run *run,
    uint32_t first, uint32_t last)
{
	struct spool_live_run part = *run;

	if (first >= last)
		return;
	part.rcpt_first = first;
	part.rcpt_count = last - first;
	add_run(entry, &part);
}

/* What becomes of one run: the part before, the part meant, the part behind. */
static void
apply_to_run(struct live_entry *entry, const struct spool_live_run *run,
    const struct spool_outcome *o)
{
	uint32_t first = run->rcpt_first, last = first + run->rcpt_count;
	uint32_t from = o->rcpt_first, to = from + o->rcpt_count;

	from = from < first ? first : from > last ? last : from;
	to = to < from ? from : to > last ? last : to;
	add_part(entry, run, first, from);
	if (o->kind == SPOOL_DEFERRED) {
		struct spool_live_run later = *run;

		later.attempts = o->attempts;
		later.warned = o->warned;
		later.due_us = o->due_us;
		add_part(entry, &later, from, to);
	}
	add_part(entry, run, to, last);
}

void
live_apply(struct live_entry *entry, const struct spool_outcome *outcome)
{
	uint32_t count = entry->message.run_count;
	struct spool_live_run *old = entry->runs;

	entry->runs = NULL;
	entry->run_capacity = 0;
	entry->message.run_count = 0;
	make_room(entry, count + 2);
	for (uint32_t i = 0; i < count; i++)
		apply_to_run(entry, &old[i], outcome);
	mem_free(old);
}

/* ---- their bytes -------------------------------------------------------- *
 * 0 mno | 8 at | 12 len | 16 tenant | 20 stream | 24 flags | 28 class |
 * 29 bits | 30 runs | 32 accepted | 40 expire | [not before] | [body]
 * run: 0 first | 2 recipients | 4 notify | 5 attempts | 6 bits | 7 len of the
 * domain | [9 due] | domain */

enum { ENTRY_FIXED = 48, RUN_FIXED = 9 };

enum {
	ENTRY_FILE = 1,
	ENTRY_SENDER = 2,
	ENTRY_NOT_BEFORE = 4,
	ENTRY_BODY = 8,
};

enum { RUN_WARNED = 1, RUN_DUE = 2 };

static void
encode_run(const struct spool_live_run *run, struct buf *b)
{
	size_t len = RUN_FIXED + (run->due_us != 0 ? 8 : 0) + run->domain.len;
	uint8_t *p = (uint8_t *)buf_reserve(b, len);

	BUG_UNLESS(run->domain.len <= UINT16_MAX);
	put_u16(p, (uint16_t)run->rcpt_first);
	put_u16(p + 2, (uint16_t)run->rcpt_count);
	p[4] = run->notify;
	p[5] = run->attempts;
	p[6] = (uint8_t)((run->warned ? RUN_WARNED : 0) |
			 (run->due_us != 0 ? RUN_DUE : 0));
	put_u16(p + 7, (uint16_t)run->domain.len);
	if (run->due_us != 0)
		put_u64(p + RUN_FIXED, (uint64_t)run->due_us);
	if (run->domain.len > 0)
		memcpy(p + len - run->domain.len, run->domain.ptr,
		    run->domain.len);
	buf_added(b, len);
}

void
live_encode(const struct live_entry *entry, struct buf *b)
{
	const struct spool_live *m = &entry->message;
	size_t body_at = ENTRY_FIXED + (m->not_before_us != 0 ? 8 : 0);
	size_t len = body_at + (entry->body != 0 ? 8 : 0);
	uint8_t *p = (uint8_t *)buf_reserve(b, len);

	put_u64(p, m->mno);
	put_u32(p + 8, entry->at);
	put_u32(p + 12, entry->len);
	put_u32(p + 16, m->tenant);
	put_u32(p + 20, m->stream);
	put_u32(p + 24, m->flags);
	p[28] = (uint8_t)m->class;
	p[29] = (uint8_t)((entry->is_file ? ENTRY_FILE : 0) |
			  (m->has_sender ? ENTRY_SENDER : 0) |
			  (entry->body != 0 ? ENTRY_BODY : 0) |
			  (m->not_before_us != 0 ? ENTRY_NOT_BEFORE : 0));
	put_u16(p + 30, (uint16_t)m->run_count);
	put_u64(p + 32, (uint64_t)m->accepted_us);
	put_u64(p + 40, (uint64_t)m->expire_us);
	if (m->not_before_us != 0)
		put_u64(p + ENTRY_FIXED, (uint64_t)m->not_before_us);
	if (entry->body != 0)
		put_u64(p + body_at, entry->body);
	buf_added(b, len);
	for (uint32_t i = 0; i < m->run_count; i++)
		encode_run(&entry->runs[i], b);
}

static bool
decode_run(struct span *rest, struct spool_live_run *ret_run)
{
	const uint8_t *p = bytes_of(*rest);
	size_t fixed = RUN_FIXED;

	if (rest->len < RUN_FIXED)
		return false;
	fixed += p[6] & RUN_DUE ? 8 : 0;
	size_t domain = get_u16(p + 7);
	if (rest->len < fixed + domain)
		return false;
	*ret_run = (struct spool_live_run){
		.rcpt_first = get_u16(p),
		.rcpt_count = get_u16(p + 2),
		.notify = p[4],
		.attempts = p[5],
		.warned = (p[6] & RUN_WARNED) != 0,
		.due_us = p[6] & RUN_DUE ? (int64_t)get_u64(p + RUN_FIXED) : 0,
		.domain = span_slice(*rest, fixed, domain),
	};
	*rest = span_skip(*rest, fixed + domain);
	return ret_run->rcpt_count > 0;
}

static bool
decode_runs(struct span *rest, uint32_t count, struct live_entry *entry)
{
	uint32_t next = 0;

	if (count == 0 || count > rest->len / RUN_FIXED)
		return false;
	make_room(entry, count);
	for (uint32_t i = 0; i < count; i++) {
		struct spool_live_run *run = &entry->runs[i];

		if (!decode_run(rest, run) || run->rcpt_first < next)
			return false;
		next = run->rcpt_first + run->rcpt_count;
	}
	entry->message.run_count = count;
	return next <= FORMAT_RCPT_MAX;
}

bool
live_decode(struct span *rest, struct live_entry *entry)
{
	const uint8_t *p = bytes_of(*rest);
	size_t fixed = ENTRY_FIXED;

	if (rest->len < ENTRY_FIXED)
		return false;
	fixed += p[29] & ENTRY_NOT_BEFORE ? 8 : 0;
	size_t body_at = fixed;
	fixed += p[29] & ENTRY_BODY ? 8 : 0;
	if (rest->len < fixed || p[28] > SPOOL_BULK || get_u64(p) == 0)
		return false;
	entry->at = get_u32(p + 8);
	entry->len = get_u32(p + 12);
	entry->is_file = (p[29] & ENTRY_FILE) != 0;
	entry->body = p[29] & ENTRY_BODY ? get_u64(p + body_at) : 0;
	entry->message = (struct spool_live){
		.mno = get_u64(p),
		.tenant = get_u32(p + 16),
		.stream = get_u32(p + 20),
		.flags = get_u32(p + 24),
		.class = (enum spool_class)p[28],
		.has_sender = (p[29] & ENTRY_SENDER) != 0,
		.accepted_us = (int64_t)get_u64(p + 32),
		.expire_us = (int64_t)get_u64(p + 40),
		.not_before_us = p[29] & ENTRY_NOT_BEFORE
				     ? (int64_t)get_u64(p + ENTRY_FIXED)
				     : 0,
	};
	*rest = span_skip(*rest, fixed);
	return decode_runs(rest, get_u16(p + 30), entry);
}

/* ---- live file ---------------------------------------------------------- *
 * 0 magic | 4 checksum of the header | 8 segment | 12 checksum of the rest |
 * 16 serial | 24 bodies and entries | 32 octets of them | 40 bodies | 44 zeros
 * body: 0 number | 8 at | 12 len */

void
live_body_encode(const struct live_body *body, struct buf *b)
{
	uint8_t *p = (uint8_t *)buf_reserve(b, LIVE_BODY);

	put_u64(p, body->number);
	put_u32(p + 8, body->at);
	put_u32(p + 12, body->len);
	buf_added(b, LIVE_BODY);
}

bool
live_body_decode(struct span *rest, struct live_body *ret_body)
{
	if (rest->len < LIVE_BODY)
		return false;
	const uint8_t *p = bytes_of(*rest);
	*ret_body = (struct live_body){
		.number = get_u64(p),
		.at = get_u32(p + 8),
		.len = get_u32(p + 12),
	};
	*rest = span_skip(*rest, LIVE_BODY);
	return ret_body->number != 0;
}

void
live_file_encode(struct live_file *file, uint32_t seal, struct span content,
    uint8_t ret_header[static LIVE_HEADER])
{
	file->len = content.len;
	file->crc = hash_crc32c(seal, content.ptr, content.len);
	memset(ret_header, 0, LIVE_HEADER);
	put_u32(ret_header, LIVE_MAGIC);
	put_u32(ret_header + 8, file->segment);
	put_u32(ret_header + 12, file->crc);
	put_u64(ret_header + 16, file->serial);
	put_u64(ret_header + 24, file->count);
	put_u64(ret_header + 32, file->len);
	put_u32(ret_header + 40, file->bodies);
	put_u32(
	    ret_header + 4, hash_crc32c(seal, ret_header + 8, LIVE_HEADER - 8));
}

bool
live_file_decode_header(
    struct span bytes, uint32_t seal, struct live_file *ret_file)
{
	const uint8_t *p = bytes_of(bytes);

	if (bytes.len < LIVE_HEADER || get_u32(p) != LIVE_MAGIC ||
	    get_u32(p + 4) != hash_crc32c(seal, p + 8, LIVE_HEADER - 8))
		return false;
	*ret_file = (struct live_file){
		.segment = get_u32(p + 8),
		.crc = get_u32(p + 12),
		.serial = get_u64(p + 16),
		.count = get_u64(p + 24),
		.len = get_u64(p + 32),
		.bodies = get_u32(p + 40),
	};
	return true;
}

bool
live_file_decode(struct span bytes, uint32_t seal, struct live_file *ret_file,
    struct span *ret_bodies, struct span *ret_entries)
{
	struct live_file file;

	if (!live_file_decode_header(bytes, seal, &file))
		return false;
	struct span content = span_skip(bytes, LIVE_HEADER);
	if (file.len != content.len ||
	    hash_crc32c(seal, content.ptr, content.len) != file.crc ||
	    file.bodies > content.len / LIVE_BODY)
		return false;
	size_t bodies = (size_t)file.bodies * LIVE_BODY;
	*ret_file = file;
	*ret_bodies = span_slice(content, 0, bodies);
	*ret_entries = span_skip(content, bodies);
	return true;
}

/* ---- catalogue ---------------------------------------------------------- *
 * 0 magic | 4 checksum of the header | 8 serial | 16 folded | 20 items |
 * 24 next mno | 32 checksum of the items | 36 zeros
 * item: 0 segment | 4 checksum of its entries | 8 serial of the live file |
 * 16 end | 24 entries | 32 octets of messages */

void
catalogue_encode(const struct catalogue *c, uint32_t seal, struct buf *b)
{
	size_t len = (size_t)c->count * CATALOGUE_ITEM;
	uint8_t *header = (uint8_t *)buf_reserve(b, CATALOGUE_HEADER + len);
	uint8_t *p = header + CATALOGUE_HEADER;

	memset(header, 0, CATALOGUE_HEADER);
	for (uint32_t i = 0; i < c->count; i++, p += CATALOGUE_ITEM) {
		put_u32(p, c->items[i].segment);
		put_u32(p + 4, c->items[i].live_crc);
		put_u64(p + 8, c->items[i].live_serial);
		put_u64(p + 16, c->items[i].end);
		put_u64(p + 24, c->items[i].entries);
		put_u64(p + 32, c->items[i].live_bytes);
	}
	put_u32(header, CATALOGUE_MAGIC);
	put_u64(header + 8, c->serial);
	put_u32(header + 16, c->folded);
	put_u32(header + 20, c->count);
	put_u64(header + 24, c->next_mno);
	put_u32(header + 32, hash_crc32c(seal, header + CATALOGUE_HEADER, len));
	put_u32(
	    header + 4, hash_crc32c(seal, header + 8, CATALOGUE_HEADER - 8));
	buf_added(b, CATALOGUE_HEADER + len);
}

bool
catalogue_decode(
    struct span bytes, uint32_t seal, struct catalogue *ret_catalogue)
{
	const uint8_t *p = bytes_of(bytes);

	if (bytes.len < CATALOGUE_HEADER || get_u32(p) != CATALOGUE_MAGIC ||
	    get_u32(p + 4) != hash_crc32c(seal, p + 8, CATALOGUE_HEADER - 8))
		return false;
	struct catalogue c = {
		.serial = get_u64(p + 8),
		.folded = get_u32(p + 16),
		.count = get_u32(p + 20),
		.next_mno = get_u64(p + 24),
	};
	struct span items = span_skip(bytes, CATALOGUE_HEADER);
	if (items.len != (uint64_t)c.count * CATALOGUE_ITEM ||
	    hash_crc32c(seal, items.ptr, items.len) != get_u32(p + 32))
		return false;
	c.items = mem_zalloc((c.count + 1) * sizeof *c.items);
	p = bytes_of(items);
	for (uint32_t i = 0; i < c.count; i++, p += CATALOGUE_ITEM)
		c.items[i] = (struct catalogue_item){
			.segment = get_u32(p),
			.live_crc = get_u32(p + 4),
			.live_serial = get_u64(p + 8),
			.end = get_u64(p + 16),
			.entries = get_u64(p + 24),
			.live_bytes = get_u64(p + 32),
		};
	*ret_catalogue = c;
	return true;
}

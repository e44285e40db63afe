/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/format.h"

#include "base/bug.h"
#include "base/hash.h"
#include "spool/bytes.h"

#include <string.h>

#define RECORD_MAGIC 0x31524850u /* "PHR1" */

static const uint8_t superblock_magic[8] = "PHSPOOL"; /* with its NUL */

static const uint8_t *
bytes_of(struct span s)
{
	return (const uint8_t *)s.ptr;
}

/* ---- record header ----------------------------------------------------- */

void
record_stamp(uint8_t bytes[static FORMAT_HEADER], uint64_t lsn, uint16_t epoch,
    uint32_t seal)
{
	put_u64(bytes + 8, lsn);
	put_u16(bytes + 26, epoch);
	put_u32(bytes + 4, hash_crc32c(seal, bytes + 8, FORMAT_HEADER - 8));
}

void
record_set_flags(uint8_t bytes[static FORMAT_HEADER], uint8_t flags)
{
	bytes[25] = flags;
}

void
record_encode(const struct record_header *h, uint32_t seal,
    uint8_t ret_bytes[static FORMAT_HEADER])
{
	put_u32(ret_bytes, RECORD_MAGIC);
	put_u32(ret_bytes + 16, h->len);
	put_u32(ret_bytes + 20, h->payload_crc);
	ret_bytes[24] = h->type;
	ret_bytes[25] = h->flags;
	put_u32(ret_bytes + 28, h->aux);
	record_stamp(ret_bytes, h->lsn, h->epoch, seal);
}

bool
record_decode(const uint8_t bytes[static FORMAT_HEADER], uint32_t seal,
    struct record_header *ret_header)
{
	if (get_u32(bytes) != RECORD_MAGIC)
		return false;
	if (get_u32(bytes + 4) !=
	    hash_crc32c(seal, bytes + 8, FORMAT_HEADER - 8))
		return false;
	*ret_header = (struct record_header){
		.lsn = get_u64(bytes + 8),
		.len = get_u32(bytes + 16),
		.payload_crc = get_u32(bytes + 20),
		.type = bytes[24],
		.flags = bytes[25],
		.epoch = get_u16(bytes + 26),
		.aux = get_u32(bytes + 28),
	};
	return true;
}

/* ---- superblock -------------------------------------------------------- */

void
superblock_encode(
    const struct superblock *sb, uint8_t ret_page[static FORMAT_PAGE])
{
	memset(ret_page, 0, FORMAT_PAGE);
	memcpy(ret_page, superblock_magic, sizeof superblock_magic);
	put_u32(ret_page + 12, FORMAT_VERSION);
	put_u32(ret_page + 16, sb->kind);
	put_u32(ret_page + 20, sb->epoch);
	put_u64(ret_page + 24, sb->serial);
	put_u64(ret_page + 32, sb->durable_lsn);
	put_u64(ret_page + 40, sb->next_mno);
	put_u64(ret_page + 48, (uint64_t)sb->wall_us);
	put_u64(ret_page + 56, sb->id_key);
	put_u32(ret_page + 64, sb->seal);
	ret_page[68] = sb->is_clean;
	ret_page[69] = sb->is_end;
	put_u64(ret_page + 72, sb->catalogue);
	put_u32(ret_page + 8, hash_crc32c(0, ret_page + 12, FORMAT_PAGE - 12));
}

int
superblock_decode(
    const uint8_t page[static FORMAT_PAGE], struct superblock *ret_sb)
{
	uint32_t kind = get_u32(page + 16);

	if (memcmp(page, superblock_magic, sizeof superblock_magic) != 0)
		return ERR_CORRUPT;
	if (get_u32(page + 8) != hash_crc32c(0, page + 12, FORMAT_PAGE - 12))
		return ERR_CORRUPT;
	if (get_u32(page + 12) > FORMAT_VERSION)
		return ERR_VERSION;
	if (kind < SUPERBLOCK_SEGMENT || kind > SUPERBLOCK_COPIES)
		return ERR_CORRUPT;
	*ret_sb = (struct superblock){
		.kind = (enum superblock_kind)kind,
		.epoch = get_u32(page + 20),
		.serial = get_u64(page + 24),
		.durable_lsn = get_u64(page + 32),
		.next_mno = get_u64(page + 40),
		.wall_us = (int64_t)get_u64(page + 48),
		.id_key = get_u64(page + 56),
		.seal = get_u32(page + 64),
		.is_clean = page[68] != 0,
		.is_end = page[69] != 0,
		.catalogue = get_u64(page + 72),
	};
	return 0;
}

/* ---- batch ------------------------------------------------------------- */

void
batch_encode(const struct batch *b, uint8_t ret_bytes[static FORMAT_BATCH])
{
	put_u64(ret_bytes, b->number);
	put_u64(ret_bytes + 8, b->durable_lsn);
	put_u64(ret_bytes + 16, b->next_mno);
	put_u64(ret_bytes + 24, (uint64_t)b->wall_us);
	put_u32(ret_bytes + 32, b->records);
	put_u32(ret_bytes + 36, b->bytes);
}

bool
batch_decode(struct span payload, struct batch *ret_batch)
{
	const uint8_t *p = bytes_of(payload);

	if (payload.len != FORMAT_BATCH)
		return false;
	*ret_batch = (struct batch){
		.number = get_u64(p),
		.durable_lsn = get_u64(p + 8),
		.next_mno = get_u64(p + 16),
		.wall_us = (int64_t)get_u64(p + 24),
		.records = get_u32(p + 32),
		.bytes = get_u32(p + 36),
	};
	return true;
}

/* ---- message ------------------------------------------------------------ *
 * 0 mno | 8 id | 24 tenant | 28 stream | 32 flags | 36 class | 37 ret |
 * 38 where the body is | 40 accepted | 48 expire | 56 not before |
 * 64 body size | 72 envelope len | 76 prefix len | 80 len of what stands for
 * the body | 84 recipients
 * envelope: six strings, u16 len each; per recipient u16 and u16 len of address
 * and orcpt, u8 notify, address, orcpt
 * a reference, behind octets of the message's own: 0 number | 8 checksum of
 * the BODY record's payload | 12 zeros */

enum { STRING_COUNT = 6, RCPT_MIN = 5 };

enum body_kind { BODY_INLINE, BODY_FILE, BODY_SHARED };

static int
add_to_len(uint64_t *len, struct span s)
{
	if (s.len > UINT16_MAX)
		return ERR_LIMIT;
	*len += s.len;
	return 0;
}

static int
envelope_len(const struct spool_envelope *e, uint64_t *ret_len)
{
	uint64_t len = UINT64_C(2) * STRING_COUNT;

	if (e->rcpt_count == 0 || e->rcpt_count > FORMAT_RCPT_MAX)
		return ERR_LIMIT;
	TRY(add_to_len(&len, e->sender));
	TRY(add_to_len(&len, e->envid));
	TRY(add_to_len(&len, e->user));
	TRY(add_to_len(&len, e->client));
	TRY(add_to_len(&len, e->header_from));
	TRY(add_to_len(&len, e->subject));
	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		len += RCPT_MIN;
		TRY(add_to_len(&len, e->rcpts[i].address));
		TRY(add_to_len(&len, e->rcpts[i].orcpt));
	}
	if (len > UINT32_MAX / 4 || e->prefix.len > UINT32_MAX / 4)
		return ERR_LIMIT;
	*ret_len = len;
	return 0;
}

static uint8_t *
put_bytes(uint8_t *p, struct span s)
{
	if (s.len > 0)
		memcpy(p, s.ptr, s.len);
	return p + s.len;
}

static uint8_t *
put_string(uint8_t *p, struct span s)
{
	put_u16(p, (uint16_t)s.len);
	return put_bytes(p + 2, s);
}

static uint8_t *
put_envelope(uint8_t *p, const struct spool_envelope *e)
{
	p = put_string(p, e->sender);
	p = put_string(p, e->envid);
	p = put_string(p, e->user);
	p = put_string(p, e->client);
	p = put_string(p, e->header_from);
	p = put_string(p, e->subject);
	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		const struct spool_rcpt *r = &e->rcpts[i];

		put_u16(p, (uint16_t)r->address.len);
		put_u16(p + 2, (uint16_t)r->orcpt.len);
		p[4] = r->notify;
		p = put_bytes(p + RCPT_MIN, r->address);
		p = put_bytes(p, r->orcpt);
	}
	return p;
}

/* Of what stands for the body. */
static uint64_t
tail_length(const struct spool_envelope *e, const struct message_body *body)
{
	if (body->is_file)
		return body->piece_crcs.len;
	if (body->is_shared)
		return body->own_octets.len + FORMAT_REFERENCE;
	return e->body_size;
}

int
message_encode(const struct spool_envelope *e, const struct message_body *body,
    struct buf *b)
{
	struct span tail = body->is_file ? body->piece_crcs : SPAN_EMPTY;
	uint64_t env_len, tail_len = tail_length(e, body);

	TRY(envelope_len(e, &env_len));
	if (tail_len > UINT32_MAX / 4)
		return ERR_LIMIT;
	uint64_t total = FORMAT_MESSAGE + env_len + e->prefix.len + tail.len;
	uint8_t *p = (uint8_t *)buf_reserve(b, total);

	memset(p, 0, FORMAT_MESSAGE);
	put_u64(p, e->mno);
	memcpy(p + 8, e->id.bytes, sizeof e->id.bytes);
	put_u32(p + 24, e->tenant);
	put_u32(p + 28, e->stream);
	put_u32(p + 32, e->flags);
	p[36] = (uint8_t)e->class;
	p[37] = e->ret;
	p[38] = body->is_file ? BODY_FILE : BODY_INLINE;
	if (body->is_shared)
		p[38] = BODY_SHARED;
	put_u64(p + 40, (uint64_t)e->accepted_us);
	put_u64(p + 48, (uint64_t)e->expire_us);
	put_u64(p + 56, (uint64_t)e->not_before_us);
	put_u64(p + 64, e->body_size);
	put_u32(p + 72, (uint32_t)env_len);
	put_u32(p + 76, (uint32_t)e->prefix.len);
	put_u32(p + 80, (uint32_t)tail_len);
	put_u32(p + 84, e->rcpt_count);
	uint8_t *end = put_envelope(p + FORMAT_MESSAGE, e);
	end = put_bytes(end, e->prefix);
	end = put_bytes(end, tail);
	BUG_UNLESS((uint64_t)(end - p) == total);
	buf_added(b, total);
	return 0;
}

static bool
take_string(struct span *rest, struct span *ret_s)
{
	if (rest->len < 2)
		return false;
	size_t len = get_u16(bytes_of(*rest));
	if (rest->len - 2 < len)
		return false;
	*ret_s = span_slice(*rest, 2, len);
	*rest = span_skip(*rest, 2 + len);
	return true;
}

static bool
take_strings(struct span *rest, struct spool_envelope *e)
{
	return take_string(rest, &e->sender) && take_string(rest, &e->envid) &&
	       take_string(rest, &e->user) && take_string(rest, &e->client) &&
	       take_string(rest, &e->header_from) &&
	       take_string(rest, &e->subject);
}

uint64_t
message_decode_head_len(struct span payload)
{
	if (payload.len < FORMAT_MESSAGE)
		return 0;
	const uint8_t *p = bytes_of(payload);
	return (uint64_t)FORMAT_MESSAGE + get_u32(p + 72) + get_u32(p + 76);
}

static bool
is_sound(const struct spool_envelope *e, const struct message_body *body,
    uint32_t tail_len)
{
	if (e->class > SPOOL_BULK || e->rcpt_count == 0 ||
	    e->rcpt_count > FORMAT_RCPT_MAX ||
	    e->rcpt_count > body->rcpts.len / RCPT_MIN)
		return false;
	if (body->is_shared)
		return tail_len >= FORMAT_REFERENCE &&
		       tail_len - FORMAT_REFERENCE <= e->body_size &&
		       e->body_size <= UINT32_MAX / 4;
	if (!body->is_file)
		return e->body_size == tail_len;
	return tail_len == 4 * (uint64_t)message_pieces(e->body_size);
}

static void
take_tail(
    struct span tail, const struct spool_envelope *e, struct message_body *body)
{
	if (body->is_file) {
		body->piece_crcs = tail;
		return;
	}
	if (!body->is_shared) {
		body->inline_octets = tail;
		return;
	}
	if (tail.len < FORMAT_REFERENCE)
		return;
	size_t own = tail.len - FORMAT_REFERENCE;
	const uint8_t *p = bytes_of(span_skip(tail, own));

	body->own_octets = span_slice(tail, 0, own);
	body->shared = (struct body_reference){
		.number = get_u64(p),
		.crc = get_u32(p + 8),
		.size = (uint32_t)(e->body_size - own),
	};
}

int
message_decode(struct span payload, struct spool_envelope *ret_envelope,
    struct message_body *ret_body)
{
	uint64_t head = message_decode_head_len(payload);
	const uint8_t *p = bytes_of(payload);

	if (head == 0 || head > payload.len)
		return ERR_CORRUPT;
	uint32_t env_len = get_u32(p + 72), tail_len = get_u32(p + 80);
	/* A caller that reads only the head passes no tail. */
	if (payload.len != head && payload.len != head + tail_len)
		return ERR_CORRUPT;
	struct spool_envelope e = {
		.mno = get_u64(p),
		.tenant = get_u32(p + 24),
		.stream = get_u32(p + 28),
		.flags = get_u32(p + 32),
		.class = (enum spool_class)p[36],
		.ret = p[37],
		.accepted_us = (int64_t)get_u64(p + 40),
		.expire_us = (int64_t)get_u64(p + 48),
		.not_before_us = (int64_t)get_u64(p + 56),
		.body_size = get_u64(p + 64),
		.rcpt_count = get_u32(p + 84),
		.prefix = span_slice(
		    payload, FORMAT_MESSAGE + env_len, get_u32(p + 76)),
	};
	memcpy(e.id.bytes, p + 8, sizeof e.id.bytes);
	struct message_body body = { .is_file = p[38] == BODY_FILE,
		.is_shared = p[38] == BODY_SHARED };
	body.rcpts = span_slice(payload, FORMAT_MESSAGE, env_len);
	if (p[38] > BODY_SHARED || !take_strings(&body.rcpts, &e) ||
	    !is_sound(&e, &body, tail_len))
		return ERR_CORRUPT;
	take_tail(span_skip(payload, head), &e, &body);
	*ret_envelope = e;
	*ret_body = body;
	return 0;
}

int
message_decode_rcpts(
    struct span rcpts, uint32_t count, struct spool_rcpt *ret_rcpts)
{
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = bytes_of(rcpts);

		if (rcpts.len < RCPT_MIN)
			return ERR_CORRUPT;
		size_t address = get_u16(p), orcpt = get_u16(p + 2);
		if (rcpts.len - RCPT_MIN < address + orcpt)
			return ERR_CORRUPT;
		ret_rcpts[i] = (struct spool_rcpt){
			.address = span_slice(rcpts, RCPT_MIN, address),
			.orcpt = span_slice(rcpts, RCPT_MIN + address, orcpt),
			.notify = p[4],
		};
		rcpts = span_skip(rcpts, RCPT_MIN + address + orcpt);
	}
	return rcpts.len == 0 ? 0 : ERR_CORRUPT;
}

void
reference_encode(const struct body_reference *body,
    uint8_t ret_bytes[static FORMAT_REFERENCE])
{
	memset(ret_bytes, 0, FORMAT_REFERENCE);
	put_u64(ret_bytes, body->number);
	put_u32(ret_bytes + 8, body->crc);
}

void
message_add_piece_crc(struct span piece, struct buf *crcs)
{
	put_u32((uint8_t *)buf_reserve(crcs, 4),
	    hash_crc32c(0, piece.ptr, piece.len));
	buf_added(crcs, 4);
}

uint32_t
message_pieces(uint64_t body_size)
{
	uint64_t pieces = body_size / FORMAT_PIECE;

	pieces += body_size % FORMAT_PIECE != 0;
	return pieces > UINT32_MAX / 4 ? UINT32_MAX : (uint32_t)pieces;
}

uint32_t
message_piece_crc(struct span piece_crcs, uint32_t i)
{
	BUG_UNLESS(piece_crcs.len / 4 > i);
	return get_u32(bytes_of(piece_crcs) + 4 * (size_t)i);
}

/* ---- shared body -------------------------------------------------------- *
 * 0 number | 8 tenant | 12 zeros | octets */

void
body_encode(
    uint64_t number, uint32_t tenant, uint8_t ret_bytes[static FORMAT_BODY])
{
	memset(ret_bytes, 0, FORMAT_BODY);
	put_u64(ret_bytes, number);
	put_u32(ret_bytes + 8, tenant);
}

bool
body_decode(struct span payload, uint64_t *ret_number, uint32_t *ret_tenant,
    struct span *ret_octets)
{
	if (payload.len < FORMAT_BODY || get_u64(bytes_of(payload)) == 0)
		return false;
	*ret_number = get_u64(bytes_of(payload));
	*ret_tenant = get_u32(bytes_of(payload) + 8);
	*ret_octets = span_skip(payload, FORMAT_BODY);
	return true;
}

/* ---- outcomes ----------------------------------------------------------- *
 * both: 0 mno | 8 first recipient | 10 recipients | 12 code
 * DONE: 14 kind     DEFER: 14 attempts | 15 warned | 16 due */

void
outcome_encode(const struct spool_outcome *o, struct buf *b)
{
	bool deferred = o->kind == SPOOL_DEFERRED;
	size_t len = deferred ? FORMAT_DEFER : FORMAT_DONE;

	BUG_UNLESS(o->rcpt_count > 0 && o->rcpt_count <= FORMAT_RCPT_MAX);
	BUG_UNLESS(o->rcpt_first < FORMAT_RCPT_MAX);
	uint8_t *p = (uint8_t *)buf_reserve(b, len);
	put_u64(p, o->mno);
	put_u16(p + 8, (uint16_t)o->rcpt_first);
	put_u16(p + 10, (uint16_t)o->rcpt_count);
	put_u16(p + 12, o->code);
	p[14] = deferred ? o->attempts : (uint8_t)o->kind;
	p[15] = deferred ? o->warned : 0;
	if (deferred)
		put_u64(p + 16, (uint64_t)o->due_us);
	buf_added(b, len);
}

bool
outcome_decode(
    enum record_type type, struct span item, struct spool_outcome *ret_outcome)
{
	bool deferred = type == RECORD_DEFER;
	const uint8_t *p = bytes_of(item);

	if (item.len != (deferred ? FORMAT_DEFER : FORMAT_DONE))
		return false;
	if (!deferred && p[14] >= SPOOL_DEFERRED)
		return false;
	*ret_outcome = (struct spool_outcome){
		.mno = get_u64(p),
		.rcpt_first = get_u16(p + 8),
		.rcpt_count = get_u16(p + 10),
		.code = get_u16(p + 12),
		.kind =
		    deferred ? SPOOL_DEFERRED : (enum spool_outcome_kind)p[14],
		.attempts = deferred ? p[14] : 0,
		.warned = deferred && p[15] != 0,
		.due_us = deferred ? (int64_t)get_u64(p + 16) : 0,
	};
	return ret_outcome->rcpt_count > 0;
}

/* ---- order -------------------------------------------------------------- *
 * 0 kind | 1 form | 2 classes | 3 to_class | 4 tenant | 8 stream | 12 since |
 * 20 cut_mno | 28 to_stream | 32 domain, reason, site as strings. Form 0, of
 * holds and releases only, ends its fixed part at 20 and has no site. */

enum { ORDER_FIXED_0 = 20, ORDER_FIXED = 32 };

int
order_encode(const struct spool_order *o, struct buf *b)
{
	uint64_t len = ORDER_FIXED + 6;

	TRY(add_to_len(&len, o->domain));
	TRY(add_to_len(&len, o->reason));
	TRY(add_to_len(&len, o->site));
	uint8_t *p = (uint8_t *)buf_reserve(b, len);
	p[0] = (uint8_t)o->kind;
	p[1] = 1;
	p[2] = o->classes;
	p[3] = (uint8_t)o->to_class;
	put_u32(p + 4, o->tenant);
	put_u32(p + 8, o->stream);
	put_u64(p + 12, (uint64_t)o->since_us);
	put_u64(p + 20, o->cut_mno);
	put_u32(p + 28, o->to_stream);
	p = put_string(put_string(p + ORDER_FIXED, o->domain), o->reason);
	put_string(p, o->site);
	buf_added(b, len);
	return 0;
}

static void
order_decode_more(const uint8_t *p, struct spool_order *o)
{
	o->classes = p[2];
	o->to_class = (enum spool_class)p[3];
	o->cut_mno = get_u64(p + 20);
	o->to_stream = get_u32(p + 28);
}

bool
order_decode(struct span payload, struct spool_order *ret_order)
{
	const uint8_t *p = bytes_of(payload);
	struct spool_order o = { 0 };

	if (payload.len < ORDER_FIXED_0 || p[1] > 1)
		return false;
	bool is_old = p[1] == 0;
	size_t fixed = is_old ? ORDER_FIXED_0 : ORDER_FIXED;
	if (payload.len < fixed || p[3] > SPOOL_BULK ||
	    p[0] > (is_old ? SPOOL_ORDER_RELEASE : SPOOL_ORDER_END))
		return false;
	o.kind = (enum spool_order_kind)p[0];
	o.tenant = get_u32(p + 4);
	o.stream = get_u32(p + 8);
	o.since_us = (int64_t)get_u64(p + 12);
	if (!is_old)
		order_decode_more(p, &o);
	struct span rest = span_skip(payload, fixed);
	if (!take_string(&rest, &o.domain) || !take_string(&rest, &o.reason) ||
	    (!is_old && !take_string(&rest, &o.site)))
		return false;
	*ret_order = o;
	return rest.len == 0;
}

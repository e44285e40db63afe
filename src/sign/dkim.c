/* SPDX-License-Identifier: Apache-2.0 */
#include "sign/dkim.h"

#include "base/bug.h"
#include "base/mem.h"
#include "mail/header.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

enum { LINE_WIDTH = 72, FIELDS_FIRST = 32 };

struct dkim_message {
	struct buf header; /* with the empty line, once it has come */
	size_t header_max;
	size_t scanned; /* of header, for the empty line */
	bool in_body, ended;
	enum canon canon;
	struct canon_body body;
	EVP_MD_CTX *hash;
	bool broken; /* the hash failed */
	unsigned char body_hash[SIGN_HASH_SIZE];
	struct header_field *fields; /* views into header */
	size_t field_count, field_capacity;
};

/* RFC 6376 §5.4.1, and what mail readers and lists go by today. Return-Path
 * and Received are others' to write. */
/* clang-format off */
const struct dkim_field dkim_fields[] = {
	{ "From", true },
	{ "Reply-To", true },
	{ "Subject", true },
	{ "Date", true },
	{ "To", true },
	{ "Cc", true },
	{ "Message-ID", true },
	{ "In-Reply-To", true },
	{ "References", true },
	{ "MIME-Version", true },
	{ "Content-Type", true },
	{ "Content-Transfer-Encoding", true },
	{ "Content-Disposition", false },
	{ "Content-Language", false },
	{ "Sender", false },
	{ "Auto-Submitted", false },
	{ "List-Id", true },
	{ "List-Help", true },
	{ "List-Unsubscribe", true },
	{ "List-Unsubscribe-Post", true },
	{ "List-Subscribe", true },
	{ "List-Post", true },
	{ "List-Owner", true },
	{ "List-Archive", true },
	{ "Feedback-ID", false },
	{ "Resent-From", false },
	{ "Resent-To", false },
	{ "Resent-Cc", false },
	{ "Resent-Date", false },
	{ "Resent-Message-ID", false },
	{ NULL, false },
};

/* clang-format on */

/* ---- taking a message -------------------------------------------- */

static void
hash_body(void *arg, struct span piece)
{
	struct dkim_message *m = arg;

	if (EVP_DigestUpdate(m->hash, piece.ptr, piece.len) != 1)
		m->broken = true;
}

struct dkim_message *
dkim_message_new(enum canon body, size_t header_max)
{
	struct dkim_message *m = MEM_NEW(struct dkim_message);

	m->header_max = header_max;
	m->canon = body;
	canon_body_init(&m->body, body, hash_body, m);
	m->hash = EVP_MD_CTX_new();
	BUG_UNLESS(m->hash != NULL);
	m->broken = EVP_DigestInit_ex(m->hash, EVP_sha256(), NULL) != 1;
	return m;
}

void
dkim_message_free(struct dkim_message **message)
{
	struct dkim_message *m = *message;

	*message = NULL;
	if (m == NULL)
		return;
	EVP_MD_CTX_free(m->hash);
	buf_done(&m->header);
	mem_free(m->fields);
	mem_free(m);
}

/* Where the body begins in what is gathered, 0: not seen yet. */
static size_t
find_body(struct dkim_message *m)
{
	struct span all = buf_span(&m->header);

	if (span_starts(all, SPAN("\r\n")))
		return 2;
	size_t from = m->scanned > 3 ? m->scanned - 3 : 0;
	size_t at = span_search(span_skip(all, from), SPAN("\r\n\r\n"));
	m->scanned = all.len;
	return at == SIZE_MAX ? 0 : from + at + 4;
}

static int
gather(struct dkim_message *m, struct span piece)
{
	size_t before = buf_size(&m->header);
	struct span kept = span_slice(piece, 0, m->header_max - before);

	buf_append(&m->header, kept);
	size_t body = find_body(m);
	if (body == 0)
		return kept.len < piece.len ? ERR_LIMIT : 0;
	m->in_body = true;
	m->header.len = m->header.head + body;
	BUG_UNLESS(body > before); /* else it had been found then */
	canon_body_feed(&m->body, span_skip(piece, body - before));
	return 0;
}

int
dkim_message_feed(struct dkim_message *m, struct span piece)
{
	BUG_UNLESS(!m->ended);
	if (piece.len == 0)
		return 0;
	if (!m->in_body)
		return gather(m, piece);
	canon_body_feed(&m->body, piece);
	return 0;
}

static void
split_fields(struct dkim_message *m)
{
	struct span rest = buf_span(&m->header);
	struct header_field field;
	int code;

	while ((code = header_next(&rest, &field)) != 0) {
		if (code < 0)
			continue; /* a line that is no field signs nothing */
		if (m->field_count == m->field_capacity) {
			m->field_capacity = m->field_capacity == 0
						? FIELDS_FIRST
						: m->field_capacity * 2;
			m->fields = mem_resize(
			    m->fields, m->field_capacity, sizeof *m->fields);
		}
		m->fields[m->field_count++] = field;
	}
}

int
dkim_message_end(struct dkim_message *m)
{
	unsigned len = 0;

	BUG_UNLESS(!m->ended);
	m->ended = true;
	canon_body_end(&m->body);
	if (m->broken || EVP_DigestFinal_ex(m->hash, m->body_hash, &len) != 1 ||
	    len != SIGN_HASH_SIZE)
		return -EIO;
	split_fields(m);
	return 0;
}

/* ---- a signature ------------------------------------------------- */

/* What is being put together. */
struct draft {
	const struct dkim_message *message;
	const struct dkim_options *options;
	struct buf *out; /* the field, begun at `start` */
	size_t start;
	size_t column; /* in out's last line */
	struct buf canonical; /* what is hashed */
};

/* Appends text, on a new line where it would be too long. */
static void
add_folded(struct draft *d, struct span text)
{
	if (d->column + text.len > LINE_WIDTH) {
		buf_append_str(d->out, "\r\n\t");
		d->column = 8;
	}
	buf_append(d->out, text);
	d->column += text.len;
}

static void
add_name(struct draft *d, const char *name, bool *is_first)
{
	if (!*is_first)
		add_folded(d, SPAN(":"));
	*is_first = false;
	add_folded(d, span_of(name));
}

/* RFC 6376 §5.4.2: instances count from the bottom of the header. */
static void
add_fields(struct draft *d)
{
	const struct dkim_message *m = d->message;
	bool is_first = true;

	buf_append_str(d->out, "h=");
	d->column += 2;
	for (const struct dkim_field *f = dkim_fields; f->name != NULL; f++) {
		struct span name = span_of(f->name);

		for (size_t i = m->field_count; i-- > 0;) {
			if (!span_eq_nocase(m->fields[i].name, name))
				continue;
			add_name(d, f->name, &is_first);
			canon_field(d->options->header, m->fields[i].raw,
			    &d->canonical);
		}
		if (f->oversigned)
			add_name(d, f->name, &is_first);
	}
	buf_append_str(d->out, ";");
}

static const char *
canon_name(enum canon canon)
{
	return canon == CANON_SIMPLE ? "simple" : "relaxed";
}

static void
begin_line(struct draft *d)
{
	buf_append_str(d->out, "\r\n\t");
	d->column = 8;
}

static void
add_tags(struct draft *d, const struct sign_key *key)
{
	const struct dkim_options *o = d->options;
	struct buf text = BUF_EMPTY;

	buf_printf(d->out, "DKIM-Signature: v=1; a=%s; c=%s/%s;",
	    sign_algorithm_name(sign_key_algorithm(key)), canon_name(o->header),
	    canon_name(d->message->canon));
	begin_line(d);
	buf_printf(d->out, "d=%.*s; s=%.*s;", SPAN_ARG(o->domain),
	    SPAN_ARG(o->selector));
	begin_line(d);
	buf_printf(d->out, "t=%lld;", (long long)o->time_s);
	if (o->expire_s > 0)
		buf_printf(d->out, " x=%lld;", (long long)o->expire_s);
	begin_line(d);
	add_fields(d);
	begin_line(d);
	sign_base64(span_from(d->message->body_hash, SIGN_HASH_SIZE), &text);
	buf_printf(d->out, "bh=%.*s;", SPAN_ARG(buf_span(&text)));
	begin_line(d);
	buf_append_str(d->out, "b=");
	d->column += 2;
	buf_done(&text);
}

/* The signature's own field counts without its CRLF (§3.7). */
static int
hash_canonical(struct draft *d, unsigned char hash[static SIGN_HASH_SIZE])
{
	struct span field = buf_span(d->out);
	unsigned len = 0;

	canon_field(
	    d->options->header, span_skip(field, d->start), &d->canonical);
	struct span all = buf_span(&d->canonical);
	if (EVP_Digest(all.ptr, all.len - 2, hash, &len, EVP_sha256(), NULL) !=
		1 ||
	    len != SIGN_HASH_SIZE)
		return -EIO;
	return 0;
}

static int
add_signature(struct draft *d, const struct sign_key *key)
{
	unsigned char hash[SIGN_HASH_SIZE];
	struct buf raw = BUF_EMPTY, text = BUF_EMPTY;
	int code = hash_canonical(d, hash);

	if (code == 0)
		code = sign_key_sign(key, hash, &raw);
	if (code == 0)
		sign_base64(buf_span(&raw), &text);
	struct span rest = buf_span(&text);
	while (rest.len > 0) {
		size_t room = LINE_WIDTH - d->column;
		add_folded(d, span_slice(rest, 0, room));
		rest = span_skip(rest, room);
		if (rest.len > 0)
			begin_line(d);
	}
	buf_done(&raw);
	buf_done(&text);
	return code;
}

int
dkim_sign(const struct dkim_message *message, const struct sign_key *key,
    const struct dkim_options *options, struct buf *out)
{
	struct draft d = {
		.message = message,
		.options = options,
		.out = out,
		.start = buf_size(out),
	};

	BUG_UNLESS(message->ended);
	add_tags(&d, key);
	int code = add_signature(&d, key);
	buf_done(&d.canonical);
	if (code < 0)
		out->len = out->head + d.start;
	else
		buf_append_str(out, "\r\n");
	return code;
}

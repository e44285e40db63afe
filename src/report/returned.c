/* SPDX-License-Identifier: Apache-2.0 */
#include "report/returned.h"

#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "directory/returned.h"
#include "directory/suppression.h"
#include "log/log.h"
#include "os/clock.h"
#include "report/internal.h"
#include "report/returned_internal.h"

#include <errno.h>
#include <pthread.h>

struct returned {
	struct returned_options options;
	char *events;
	pthread_mutex_t lock; /* of options.config */
};

struct returned *
returned_new(const struct returned_options *options)
{
	struct returned *r = MEM_NEW(struct returned);

	r->options = *options;
	r->options.config = config_ref(options->config);
	r->events = mem_strdup(options->events);
	BUG_UNLESS(pthread_mutex_init(&r->lock, NULL) == 0);
	return r;
}

void
returned_free(struct returned **returned)
{
	struct returned *r = *returned;

	*returned = NULL;
	if (r == NULL)
		return;
	config_unref(&r->options.config);
	(void)pthread_mutex_destroy(&r->lock);
	mem_free(r->events);
	mem_free(r);
}

void
returned_set_config(struct returned *r, struct config *config)
{
	(void)pthread_mutex_lock(&r->lock);
	struct config *old = r->options.config;
	r->options.config = config_ref(config);
	(void)pthread_mutex_unlock(&r->lock);
	config_unref(&old);
}

/* ---- whom it is about -------------------------------------------------- */

static bool
is_recipient(const struct work *w, struct span canonical)
{
	return canonical.len > 0 && return_address_hash(w->options->key,
					canonical) == w->token.address_hash;
}

/* As it stands in a report, "rfc822;a@x.example" or "<a@x.example>" too. */
static struct span
canonical_of(const struct work *w, struct span text)
{
	struct address address;
	const char *reason;
	size_t semicolon = span_find(text, ';');

	if (semicolon != SIZE_MAX)
		text = span_skip(text, semicolon + 1);
	text = span_trim(text);
	if (text.len > 2 && text.ptr[0] == '<' && text.ptr[text.len - 1] == '>')
		text = span_slice(text, 1, text.len - 2);
	if (address_parse(text, ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL,
		w->arena, &address, &reason) < 0)
		return SPAN_EMPTY;
	return address.text;
}

/* The token of an address of ours somewhere in a complaint. */
static bool
take_token(struct work *w, struct span text)
{
	struct span address = canonical_of(w, text);
	const char *domain = w->config->returns.domain;

	return domain != NULL &&
	       span_eq(address_domain_of(address), span_of(domain)) &&
	       return_token_check(w->options->key,
		   span_slice(address, 0, span_find_last(address, '@')),
		   w->now_us, w->config->returns.expire_us,
		   &w->token) == RETURN_GOOD;
}

/* ---- what becomes of it ------------------------------------------------ */

static bool
is_first(struct work *w, enum told_kind kind, int *ret_code)
{
	struct failure failure;
	const struct directory_return claim = {
		.mno = w->token.mno,
		.rcpt = w->token.rcpt,
		.kind = (uint32_t)kind,
		.by_mno = w->envelope->mno,
		.expire_us = w->token.sent_us + w->config->returns.expire_us +
			     US_PER_DAY,
	};

	*ret_code = directory_claim_return(
	    w->options->directory, &claim, w->now_us, &failure);
	if (*ret_code < 0)
		LOG(LOG_ERROR, "report", "a report cannot be recorded yet",
		    LOG_C("reason", failure.text));
	else if (*ret_code == 0)
		LOG(LOG_INFO, "report", "a report repeats another",
		    LOG_N("mno", w->token.mno), LOG_N("rcpt", w->token.rcpt));
	return *ret_code == 1;
}

static int
suppress(struct work *w, uint32_t stream, enum suppression_cause cause,
    struct span evidence)
{
	int64_t expire_us = w->config->suppressions.bounce_expire_us;
	struct failure failure;
	uint64_t changed;
	const struct suppression entry = {
		.tenant = w->token.tenant,
		.stream = stream,
		.address = w->facts.address,
		.cause = cause,
		.evidence = evidence,
		.created_us = w->now_us,
		.expire_us = expire_us > 0 && cause != SUPPRESSION_COMPLAINT
				 ? w->now_us + expire_us
				 : 0,
	};
	int code = suppressions_add(
	    w->options->directory, &entry, 1, false, &changed, &failure);

	if (code < 0)
		LOG(LOG_ERROR, "report", "a suppression cannot be written yet",
		    LOG_C("reason", failure.text));
	return code;
}

static struct span
evidence_of(const struct work *w, struct span words)
{
	char id[MSGID_TEXT_SIZE];

	return arena_printf(w->arena, "%.*s (message %s, report %s)",
	    SPAN_ARG(span_slice(words, 0, 800)), msgid_format(&w->facts.id, id),
	    msgid_format(&w->envelope->id, (char[MSGID_TEXT_SIZE]){ 0 }));
}

static enum suppression_cause cause_of(enum reply_class class)
{
	static const struct {
		enum reply_class class;
		enum suppression_cause cause;
	} table[] = {
		{ CLASS_NO_SUCH_USER, SUPPRESSION_NO_SUCH_USER },
		{ CLASS_NO_SUCH_DOMAIN, SUPPRESSION_NO_SUCH_DOMAIN },
		{ CLASS_MOVED, SUPPRESSION_MOVED },
		{ CLASS_MAILBOX_DISABLED, SUPPRESSION_MAILBOX_DISABLED },
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		if (table[i].class == class)
			return table[i].cause;
	}
	return SUPPRESSION_BOUNCE;
}

static enum told_kind
kind_of(enum bounce_action action)
{
	switch (action) {
	case ACTION_FAILED:
		return TOLD_FAILED;
	case ACTION_DELAYED:
		return TOLD_DELAYED;
	case ACTION_DELIVERED:
	case ACTION_RELAYED:
	case ACTION_EXPANDED:
		break;
	}
	return TOLD_DELIVERED;
}

/* ---- delivery reports and bounces -------------------------------------- */

static const struct bounce_recipient *
find_recipient(struct work *w)
{
	for (size_t i = 0; i < w->report.recipient_count; i++) {
		const struct bounce_recipient *r = &w->report.recipients[i];
		struct span original = canonical_of(w, r->original);
		struct span final = canonical_of(w, r->address);
		bool is_original = is_recipient(w, original);
		if (!is_original && !is_recipient(w, final))
			continue;
		w->facts.address = is_original ? original : final;
		return r;
	}
	return NULL;
}

static int
take_bounce(struct work *w)
{
	const struct bounce_recipient *r = find_recipient(w);
	int code = 0;

	if (r == NULL) {
		LOG(LOG_INFO, "report",
		    "a report does not name the recipient of its return path",
		    LOG_N("mno", w->token.mno),
		    LOG_N("recipients", w->report.recipient_count));
		return 0;
	}
	enum told_kind kind = kind_of(r->action);
	returned_find_facts(w);
	if (!is_first(w, kind, &code))
		return code;
	bool suppresses = kind == TOLD_FAILED && r->suppresses &&
			  w->config->suppressions.bounces;
	if (suppresses)
		TRY(suppress(w, 0, cause_of(r->class),
		    evidence_of(w, r->reply.len > 0 ? r->reply : r->status)));
	const struct told told = {
		.kind = kind,
		.class = span_of(reply_class_name(r->class)),
		.suppresses = suppresses,
		.status = r->status,
		.reply = r->reply,
		.remote_mta = r->remote_mta.len > 0 ? r->remote_mta
						    : w->report.reporting_mta,
	};
	return returned_tell(w, &told);
}

/* ---- complaints -------------------------------------------------------- */

static void
find_complainer(struct work *w)
{
	const struct bounce_feedback *f = &w->report.feedback;

	for (size_t i = 0; i < f->recipient_count; i++) {
		struct span address = canonical_of(w, f->recipients[i]);
		if (is_recipient(w, address))
			w->facts.address = address;
	}
}

static int
take_complaint(struct work *w, bool has_token)
{
	const struct bounce_feedback *f = &w->report.feedback;
	int code = 0;

	if (!has_token && !take_token(w, f->original_mail_from) &&
	    !take_token(w, w->report.original.return_path)) {
		LOG(LOG_INFO, "report",
		    "a complaint has no return path of ours that is good",
		    LOG_S("type", f->type), LOG_S("agent", f->user_agent));
		return 0;
	}
	find_complainer(w);
	returned_find_facts(w);
	if (w->facts.address.len == 0) {
		LOG(LOG_INFO, "report",
		    "whose complaint this is is not known any more",
		    LOG_N("mno", w->token.mno));
		return 0;
	}
	if (!is_first(w, TOLD_COMPLAINT, &code))
		return code;
	struct span words = arena_printf(w->arena, "%.*s (%.*s)",
	    SPAN_ARG(span_slice(f->type, 0, 100)),
	    SPAN_ARG(span_slice(f->user_agent, 0, 200)));
	TRY(suppress(
	    w, w->token.stream, SUPPRESSION_COMPLAINT, evidence_of(w, words)));
	const struct told told = {
		.kind = TOLD_COMPLAINT,
		.suppresses = true,
		.reply = words,
		.remote_mta = f->reported_domain,
	};
	return returned_tell(w, &told);
}

/* ---- all --------------------------------------------------------------- */

static int
read_text(struct spool_message *message, struct buf *text)
{
	while (buf_size(text) < REPORT_BYTES_MAX) {
		struct span piece;
		TRY(spool_message_read(message, buf_size(text), &piece));
		if (piece.len == 0)
			break;
		buf_append(text,
		    span_slice(piece, 0, REPORT_BYTES_MAX - buf_size(text)));
	}
	return 0;
}

/* The report's own address has the token, or is the complaints mailbox. It
 * was good when the report came, however long that had to wait. */
static bool
read_address(struct work *w, struct span address)
{
	return return_token_check(w->options->key,
		   span_slice(address, 0, span_find_last(address, '@')), 0, 0,
		   &w->token) == RETURN_GOOD;
}

static int
take(struct work *w, struct spool_message *message, uint32_t rcpt)
{
	struct buf text = BUF_EMPTY;
	bool has_token = read_address(w, w->envelope->rcpts[rcpt].address);
	int code = read_text(message, &text);

	if (code == 0) {
		bounce_read(
		    w->options->reader, buf_span(&text), w->arena, &w->report);
		if (w->report.kind == BOUNCE_FEEDBACK_REPORT)
			code = take_complaint(w, has_token);
		else if (has_token &&
			 (w->report.kind == BOUNCE_DELIVERY_REPORT ||
			     w->report.kind == BOUNCE_TEXT))
			code = take_bounce(w);
		else
			LOG(LOG_DEBUG, "report",
			    "returned mail reports nothing",
			    LOG_C("kind", bounce_kind_name(w->report.kind)));
	}
	buf_done(&text);
	/* What is damaged will not be read another time. */
	return code == ERR_CORRUPT ? 0 : code;
}

int
returned_take(struct returned *r, struct spool_message *message, uint32_t rcpt)
{
	struct work w = {
		.options = &r->options,
		.events = r->events,
		.arena = arena_new(),
		.envelope = spool_message_envelope(message),
		.now_us = clock_wall_us(),
	};

	(void)pthread_mutex_lock(&r->lock);
	w.config = config_ref(r->options.config);
	(void)pthread_mutex_unlock(&r->lock);
	int code = take(&w, message, rcpt);
	spool_message_unref(&w.original);
	arena_free(&w.arena);
	config_unref(&w.config);
	return code;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "deliver/internal.h"
#include "log/log.h"

enum { FLUSH_MAX = 256 };

static struct cause *
cause_of(const struct dispatch_request *request)
{
	/* clang-format off */
	static const struct {
		enum spool_outcome_kind kind;
		const char *step, *text;
		struct enhanced_code code;
	} table[] = {
		[DISPATCH_BOUNCE] = { SPOOL_BOUNCED,   "bounce", "given up by the postmaster", { 0, 0, 5 } },
		[DISPATCH_EXPIRE] = { SPOOL_EXPIRED,   "expire", "expired by the postmaster",  { 4, 7, 5 } },
		[DISPATCH_CANCEL] = { SPOOL_CANCELLED, "cancel", "cancelled",                  { 0, 0, 5 } },
	};

	/* clang-format on */
	enum dispatch_operation o = request->operation;
	BUG_UNLESS(o >= DISPATCH_BOUNCE && o <= DISPATCH_CANCEL);
	struct result result = {
		.kind = table[o].kind,
		.local = true,
		.step = table[o].step,
		.reply = { .enhanced = table[o].code, .text = request->reason },
	};
	if (request->reason.len == 0)
		result.reply.text = span_of(table[o].text);
	struct cause *cause = cause_new(&result);
	cause->order = dispatch_order_ref(request->order);
	return cause;
}

static size_t
take_out_message(struct dispatch *d, const struct dispatch_request *request)
{
	struct cause *cause = cause_of(request);
	struct backlog_sink sink = { d, cause };
	size_t count = schedule_remove_message(
	    d->schedule, request->mno, backlog_take, &sink);
	cause_unref(&cause);
	/* On its way to the disk when the operator is answered. */
	if (d->backlog_count <= FLUSH_MAX)
		backlog_flush(d);
	return count;
}

static size_t
take_out(struct dispatch *d, const struct dispatch_request *request)
{
	if (request->mno != 0)
		return take_out_message(d, request);
	BUG_UNLESS(request->order != NULL);
	struct cause *cause = cause_of(request);
	works_add(d, request, cause, false);
	size_t count = schedule_reap(
	    d->schedule, &request->selector, request->cut_mno, cause);
	cause_unref(&cause);
	backlog_start(d);
	return count;
}

static size_t
move(struct dispatch *d, const struct dispatch_request *request)
{
	BUG_UNLESS(request->order != NULL);
	works_add(d, request, NULL, false);
	return schedule_move(d->schedule, &request->selector, request->cut_mno,
	    request->to_stream, dispatch_class_of(request->to_class),
	    loop_now_us(d->loop));
}

void
dispatch_replay(struct dispatch *d, const struct dispatch_request *request)
{
	bool is_move = request->operation == DISPATCH_MOVE;
	struct cause *cause = is_move ? NULL : cause_of(request);
	works_add(d, request, cause, true);
	if (cause != NULL)
		cause_unref(&cause);
}

static size_t
retry(struct dispatch *d, const struct dispatch_request *request)
{
	int64_t now_us = loop_now_us(d->loop);
	/* What is still to be recorded as deferred must not be recorded after
	 * what becomes of it now. */
	backlog_flush(d);
	if (request->mno != 0)
		return schedule_retry_message(
		    d->schedule, request->mno, now_us);
	return schedule_retry(d->schedule, &request->selector, now_us);
}

static size_t
operate(struct dispatch *d, const struct dispatch_request *request)
{
	switch (request->operation) {
	case DISPATCH_HOLD:
		return schedule_hold(
		    d->schedule, &request->selector, request->reason);
	case DISPATCH_RELEASE:
		return schedule_release(
		    d->schedule, &request->selector, loop_now_us(d->loop));
	case DISPATCH_RETRY:
		return retry(d, request);
	case DISPATCH_BOUNCE:
	case DISPATCH_EXPIRE:
	case DISPATCH_CANCEL:
		return take_out(d, request);
	case DISPATCH_MOVE:
		return move(d, request);
	}
	UNREACHABLE("dispatch_operation has no other value");
}

size_t
dispatch_operate(struct dispatch *d, const struct dispatch_request *request)
{
	static const char *const names[] = {
		[DISPATCH_HOLD] = "hold",
		[DISPATCH_RELEASE] = "release",
		[DISPATCH_RETRY] = "retry",
		[DISPATCH_BOUNCE] = "bounce",
		[DISPATCH_EXPIRE] = "expire",
		[DISPATCH_CANCEL] = "cancel",
		[DISPATCH_MOVE] = "move",
	};
	size_t count = operate(d, request);
	LOG(LOG_INFO, "deliver", "operator's request",
	    LOG_C("operation", names[request->operation]),
	    LOG_S("domain", request->selector.domain),
	    LOG_N("tenant", request->selector.tenant),
	    LOG_N("stream", request->selector.stream),
	    LOG_N("mno", request->mno), LOG_N("count", count));
	dispatch_pump_soon(d);
	return count;
}

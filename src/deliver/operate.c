/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "deliver/internal.h"
#include "log/log.h"

enum { FLUSH_MAX = 256 };

static struct cause *
cause_of(const struct dispatch_request *request)
{
	bool bounce = request->operation == DISPATCH_BOUNCE;
	struct result result = {
		.kind = bounce ? SPOOL_BOUNCED : SPOOL_CANCELLED,
		.local = true,
		.step = bounce ? "bounce" : "cancel",
		.reply = { .enhanced = { 0, 0, 5 }, .text = request->reason },
	};
	if (request->reason.len == 0)
		result.reply.text = bounce ? SPAN("given up by the postmaster")
					   : SPAN("cancelled");
	return cause_new(&result);
}

static size_t
take_out(struct dispatch *d, const struct dispatch_request *request)
{
	struct cause *cause = cause_of(request);
	struct backlog_sink sink = { d, cause };
	size_t count = request->mno != 0
			   ? schedule_remove_message(
				 d->schedule, request->mno, backlog_take, &sink)
			   : schedule_remove(d->schedule, &request->selector,
				 backlog_take, &sink);
	cause_unref(&cause);
	/* A few are on their way to the disk when the operator is answered. */
	if (d->backlog_count <= FLUSH_MAX)
		backlog_flush(d);
	return count;
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
	case DISPATCH_CANCEL:
		return take_out(d, request);
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
		[DISPATCH_CANCEL] = "cancel",
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

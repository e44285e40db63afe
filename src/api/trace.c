/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/time.h"
#include "log/tap.h"

static enum api_more
trace_more(void *stream, struct buf *out)
{
	(void)tap_read(stream, US_PER_S, out);
	return API_MORE;
}

static void
trace_end(void *stream)
{
	struct tap_listener *listener = stream;

	tap_listener_free(&listener);
}

void
trace_follow(struct call *call)
{
	struct api_response *r = call->response;

	r->status = 200;
	r->content_type = "application/x-ndjson";
	r->stream = tap_listen(span_of(query_text(call, "peer")));
	r->more = trace_more;
	r->end = trace_end;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "load.h"
#include "os/clock.h"

#include <inttypes.h>
#include <string.h>

enum { BODY_LINE = 76, NUMBER_WIDTH = 10 };

static void
append_pattern(const struct load *load, const char *pattern, uint64_t n,
    uint32_t recipient, struct buf *out)
{
	uint64_t place = n * load->options.recipients + recipient;

	for (const char *p = pattern; *p; p++) {
		if (strncmp(p, "{n}", 3) == 0)
			buf_printf(out, "%" PRIu64, n);
		else if (strncmp(p, "{r}", 3) == 0)
			buf_printf(out, "%" PRIu32, recipient);
		else if (strncmp(p, "{d}", 3) == 0)
			buf_printf(
			    out, "%" PRIu64, place % load->options.domains);
		else {
			buf_append_char(out, *p);
			continue;
		}
		p += 2;
	}
}

void
message_append_mail(const struct load *load, uint64_t n, struct buf *out)
{
	buf_append(out, SPAN("MAIL FROM:<"));
	append_pattern(load, load->options.sender, n, 0, out);
	buf_append(out, SPAN(">\r\n"));
}

void
message_append_rcpt(
    const struct load *load, uint64_t n, uint32_t recipient, struct buf *out)
{
	buf_append(out, SPAN("RCPT TO:<"));
	append_pattern(load, load->options.recipient, n, recipient, out);
	buf_append(out, SPAN(">\r\n"));
}

/* Lines of letters and digits, none of which begins with a dot. */
void
message_prepare(struct load *load)
{
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
	uint32_t state = 1;

	(void)time_format_rfc5322(clock_wall_us(), load->date);
	while (buf_size(&load->body) < load->options.size) {
		for (int i = 0; i < BODY_LINE; i++) {
			state = state * 1664525 + 1013904223;
			buf_append_char(&load->body, letters[state >> 26]);
		}
		buf_append(&load->body, SPAN("\r\n"));
	}
}

struct span
message_append_header(const struct load *load, uint64_t n, struct buf *out)
{
	const struct load_options *o = &load->options;
	size_t before = buf_size(out);

	buf_append(out, SPAN("From: <"));
	append_pattern(load, o->sender, n, 0, out);
	buf_append(out, SPAN(">\r\nTo: <"));
	append_pattern(load, o->recipient, n, 0, out);
	buf_printf(out,
	    ">\r\nSubject: message %0*" PRIu64 " of a benchmark\r\n"
	    "Date: %s\r\nMessage-ID: <%s.%" PRIu64 "@bench.invalid>\r\n"
	    "X-Bench-Id: %s-%" PRIu64 "\r\n\r\n",
	    NUMBER_WIDTH, n, load->date, o->tag, n, o->tag, n);

	/* The end of the text, so that it ends with a line: at most the size
	 * asked for, and never from the middle of a CRLF. */
	size_t used = buf_size(out) - before;
	size_t room = o->size > used ? o->size - used : 0;
	struct span body = buf_span(&load->body);
	if (room < BODY_LINE)
		room = BODY_LINE;
	if (room < body.len)
		body = span_skip(body, body.len - room);
	return span_starts(body, SPAN("\n")) ? span_skip(body, 1) : body;
}

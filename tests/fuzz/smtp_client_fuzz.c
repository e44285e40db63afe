/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The client session against a server made of the input. The first octet
 * chooses the options, the second the message; the rest is the server's talk,
 * cut into pieces at 0xff. The driver does what the events ask. Checked: no
 * command is ever broken or joined by others, each recipient has a fate at
 * DONE, nobody is delivered whose message was not sent, and the session ends.
 */

#include "base/bug.h"
#include "smtp/client.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct drive {
	struct smtp_client *c;
	struct smtp_client_transaction transaction;
	unsigned transactions;
	bool sends_bodies, body_sent, closed;
};

static const struct smtp_client_rcpt rcpts[] = {
	{ .address = { "b@y.example", 11 } },
	{ .address = { "\xc3\xbc@y.example", 12 },
	    .notify = SMTP_NOTIFY_NEVER },
	{ .address = { "evil@y\r\nDATA", 12 } },
	{ .address = { "\"c d\"@y.example", 15 },
	    .notify = SMTP_NOTIFY_SUCCESS,
	    .orcpt = { "rfc822;c@y.example", 18 } },
};

static void
write_output(struct drive *d)
{
	struct span out = smtp_client_output(d->c);
	for (size_t i = 0; i < out.len; i++) {
		BUG_UNLESS(out.ptr[i] != '\0');
		if (out.ptr[i] == '\n')
			BUG_UNLESS(i > 0 && out.ptr[i - 1] == '\r');
		if (out.ptr[i] == '\r')
			BUG_UNLESS(i + 1 < out.len && out.ptr[i + 1] == '\n');
	}
	BUG_UNLESS(span_search(out, SPAN("evil")) == SIZE_MAX);
	smtp_client_sent(d->c, out.len);
}

static void
check_fates(const struct drive *d)
{
	for (size_t i = 0; i < d->transaction.rcpt_count; i++) {
		const struct smtp_client_fate *f = smtp_client_fate(d->c, i);
		BUG_UNLESS(f->kind != SMTP_FATE_NONE);
		BUG_UNLESS(f->reply.code >= 200 && f->reply.code <= 599);
		BUG_UNLESS(f->kind != SMTP_FATE_DELIVERED || d->body_sent);
		BUG_UNLESS(!f->unknown || d->body_sent);
	}
}

static void
on_ready(struct drive *d)
{
	if (d->transactions++ == 3) {
		smtp_client_quit(d->c);
		return;
	}
	d->body_sent = false;
	smtp_client_start(d->c, &d->transaction);
}

static void
on_event(struct drive *d, const struct smtp_client_event *e)
{
	switch (e->type) {
	case SMTP_CLIENT_STARTTLS:
		smtp_client_secured(d->c);
		break;
	case SMTP_CLIENT_AUTH:
	case SMTP_CLIENT_AUTH_CHALLENGE:
		smtp_client_auth_response(
		    d->c, e->text.len > 20 ? SPAN("*") : SPAN("eA=="));
		break;
	case SMTP_CLIENT_READY:
		on_ready(d);
		break;
	case SMTP_CLIENT_BODY:
		write_output(d);
		d->body_sent = d->sends_bodies;
		if (d->sends_bodies)
			smtp_client_body_sent(d->c);
		break;
	case SMTP_CLIENT_DONE:
		check_fates(d);
		break;
	case SMTP_CLIENT_CLOSED:
		d->closed = true;
		break;
	case SMTP_CLIENT_BODY_ABORT:
		BUG_UNLESS(e->reply != NULL);
		break;
	case SMTP_CLIENT_NONE:
		break;
	}
}

static void
feed_piece(struct drive *d, struct span piece)
{
	struct smtp_client_event e;
	do {
		size_t n = smtp_client_feed(d->c, piece, &e);
		BUG_UNLESS(n <= piece.len);
		BUG_UNLESS(!d->closed || e.type == SMTP_CLIENT_NONE);
		piece = span_skip(piece, n);
		on_event(d, &e);
		BUG_UNLESS(smtp_client_step_seconds(d->c) > 0 ||
			   smtp_client_step(d->c) == SMTP_CLIENT_STEP_CLOSED);
	} while (e.type != SMTP_CLIENT_NONE);
	BUG_UNLESS(piece.len == 0);
	write_output(d);
}

static void
set_up(struct drive *d, uint8_t options, uint8_t message)
{
	struct smtp_client_options o = {
		.hostname = SPAN("relay.example.com"),
		.lmtp = options & 1,
		.tls = (enum smtp_client_tls)((options >> 1 & 3) % 3),
		.secured = options & 8,
		.auth = options & 16,
		.auth_mechanisms = SPAN("SCRAM-SHA-256-PLUS PLAIN LOGIN"),
		.chunk_min = options & 32 ? UINT32_MAX : 100,
	};
	*d = (struct drive){
		.c = smtp_client_new(&o),
		.sends_bodies = !(options & 64),
		.transaction = {
			.sender = SPAN("a@x.example"),
			.size = (uint64_t)message * 10,
			.body = (enum smtp_body)((message >> 2 & 3) % 3),
			.utf8 = message & 16,
			.ret = SMTP_RET_HDRS,
			.envid = message & 32 ? SPAN("id") : SPAN("i\nd"),
			.rcpts = rcpts,
			.rcpt_count = 1 + (message & 3),
		},
	};
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct drive d;
	set_up(&d, data[0], data[1]);
	struct span rest = span_from(data + 2, size - 2);
	while (rest.len > 0)
		feed_piece(&d, span_cut(&rest, (char)0xff));
	smtp_client_broken(d.c, SPAN("the input ends"));
	feed_piece(&d, SPAN_EMPTY);
	BUG_UNLESS(d.closed);
	BUG_UNLESS(smtp_client_step(d.c) == SMTP_CLIENT_STEP_CLOSED);
	smtp_client_free(&d.c);
	return 0;
}

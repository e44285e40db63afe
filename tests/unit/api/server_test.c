/* SPDX-License-Identifier: Apache-2.0 */
#include "os/socket.h"
#include "rig.h"

#include <poll.h>

struct door {
	struct rig rig;
	struct netaddr address;
	struct api_server *server;
};

static void
door_open(struct door *d, enum api_door door)
{
	struct failure failure;

	rig_open(&d->rig);
	AUTO_FREE char *text = mem_printf("unix:%s/control.sock", d->rig.dir);
	assert_true(netaddr_parse(span_of(text), &d->address));
	int fd = socket_listen(&d->address, 0);
	assert_true(fd >= 0);
	assert_int_equal(
	    api_server_start(&d->rig.api, fd, door, &d->server, &failure), 0);
}

static void
door_close(struct door *d)
{
	api_server_stop(&d->server);
	assert_null(d->server);
	rig_close(&d->rig);
}

static int
door_send(const struct door *d, struct span bytes)
{
	int fd = socket_connect(&d->address, NULL);

	assert_true(fd >= 0);
	(void)!write(fd, bytes.ptr, bytes.len);
	return fd;
}

/* Reads until `wanted` was seen or the other side ends. */
static bool
saw(int fd, const char *wanted)
{
	struct buf in = BUF_EMPTY;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	bool found = false;

	while (!found && poll(&p, 1, 5000) > 0) {
		ssize_t n = read(fd, buf_reserve(&in, 4096), 4096);

		if (n <= 0)
			break;
		buf_added(&in, (size_t)n);
		found = strstr(buf_cstring(&in), wanted) != NULL;
	}
	buf_done(&in);
	return found;
}

struct exchange {
	const char *request, *wanted;
};

static void
expect_at(enum api_door door, const struct exchange *cases, size_t count)
{
	struct door d;

	door_open(&d, door);
	for (size_t i = 0; i < count; i++) {
		int fd = door_send(&d, span_of(cases[i].request));

		if (!saw(fd, cases[i].wanted))
			fail_msg("%zu: no %s", i, cases[i].wanted);
		close(fd);
	}
	door_close(&d);
}

static void
requests_are_answered(void **state)
{
	static const struct exchange cases[] = {
		{ "GET /api/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
		    "\"name\":\"default\"" },
		{ "GET /api/v1/tenants?limit=x HTTP/1.1\r\nHost: x\r\n\r\n",
		    "bad_query" },
		{ "PUT /api/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
		    "Allow: GET, POST" },
		{ "POST /api/v1/tenants HTTP/1.1\r\nHost: x\r\n"
		  "Content-Length: 12\r\n\r\n{\"name\":\"a\"}",
		    " 201 " },
		{ "POST /api/v1/tenants HTTP/1.1\r\nHost: x\r\n"
		  "Content-Length: 1048577\r\n\r\n",
		    " 413 " },
		{ "POST /api/v1/tenants HTTP/1.1\r\nHost: x\r\n"
		  "Content-Length: 99999999999999999999999\r\n\r\n",
		    " 413 " },
		{ "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", " 503 " },
	};

	(void)state;
	expect_at(API_DOOR_CONTROL, cases, sizeof cases / sizeof *cases);
}

/* Whatever is written to it, and whenever it is left, the service lives. */
static void
nonsense_and_leaving_do_no_harm(void **state)
{
	/* clang-format off */
	static const struct span cases[] = {
		{ "", 0 },
		{ "\0\0\0\0\r\n\r\n", 8 },
#define SENT(text) { (text), sizeof(text) - 1 }
		SENT("GET"),
		SENT("GET /api/v1/tenants HTTP/1.1\r\n"),
		SENT("EHLO x\r\nMAIL FROM:<>\r\n\r\n"),
		SENT("POST /api/v1/tenants HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 100\r\n\r\n{"),
		SENT("POST /api/v1/tenants HTTP/1.1\r\nHost: x\r\n"
		     "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
		SENT("GET /api/v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
#undef SENT
	};
	/* clang-format on */
	struct door d;

	(void)state;
	door_open(&d, API_DOOR_CONTROL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		close(door_send(&d, cases[i]));
	int fd = door_send(
	    &d, SPAN("GET /api/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n"));
	assert_true(saw(fd, " 200 "));
	close(fd);
	door_close(&d);
}

static void
the_public_door_has_nothing_else(void **state)
{
	static const struct exchange cases[] = {
		{ "GET /api/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n", " 404 " },
		{ "POST /api/v1/tenants HTTP/1.1\r\nHost: x\r\n"
		  "Content-Length: 12\r\n\r\n{\"name\":\"a\"}",
		    " 404 " },
		{ "POST /health HTTP/1.1\r\nHost: x\r\n"
		  "Content-Length: 1\r\n\r\nx",
		    " 405 " },
		{ "GET /health/../api/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
		    " 404 " },
		{ "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", " 503 " },
	};

	(void)state;
	expect_at(API_DOOR_PUBLIC, cases, sizeof cases / sizeof *cases);
}

/* Every local user reaches this door: nothing but a message goes in. */
static void
the_submission_door_takes_messages_only(void **state)
{
	static const struct exchange cases[] = {
		{ "GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n", " 403 " },
		{ "GET /api/v1/messages/raw HTTP/1.1\r\nHost: x\r\n\r\n",
		    " 403 " },
		{ "DELETE /api/v1/tenants/default HTTP/1.1\r\nHost: x\r\n\r\n",
		    " 403 " },
		{ "POST /api/v1/queues/bounce HTTP/1.1\r\nHost: x\r\n"
		  "Content-Length: 0\r\n\r\n",
		    " 403 " },
		/* Without an engine it gets as far as that. */
		{ "POST /api/v1/messages/raw HTTP/1.1\r\nHost: x\r\n"
		  "Content-Length: 0\r\n\r\n",
		    " 503 " },
	};

	(void)state;
	expect_at(API_DOOR_SUBMIT, cases, sizeof cases / sizeof *cases);
}

static void
stopping_ends_streams(void **state)
{
	struct door d;

	(void)state;
	door_open(&d, API_DOOR_CONTROL);
	int fd = door_send(&d,
	    SPAN("GET /api/v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n"));
	assert_true(saw(fd, " 200 "));
	door_close(&d);
	assert_false(saw(fd, "never"));
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_answered),
		cmocka_unit_test(nonsense_and_leaving_do_no_harm),
		cmocka_unit_test(the_public_door_has_nothing_else),
		cmocka_unit_test(the_submission_door_takes_messages_only),
		cmocka_unit_test(stopping_ends_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

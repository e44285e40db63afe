/* SPDX-License-Identifier: Apache-2.0 */

/* Many networks let nobody but their own servers speak to port 25. Whether
 * ours does shows only by speaking to a server outside: to one of the mail
 * hosts of doctor.probe, as far as its greeting. */

#include "base/time.h"
#include "doctor/internal.h"
#include "os/clock.h"
#include "os/socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TRY_US (5 * US_PER_S)
#define ADDRESSES_TRIED 3
#define GREETING_MAX 512

/* False: the time is over. */
static bool
await(int fd, short events, int64_t end_us)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left_us = end_us - clock_monotonic_us();

	return left_us > 0 && poll(&p, 1, (int)(left_us / US_PER_MS) + 1) == 1;
}

/* 0 and the start of the greeting, or a negative code. */
static int
hear_greeting(int fd, char greeting[static GREETING_MAX], int64_t end_us)
{
	if (!await(fd, POLLOUT, end_us))
		return -ETIMEDOUT;
	TRY(socket_connected(fd));
	if (!await(fd, POLLIN, end_us))
		return -ETIMEDOUT;
	ssize_t len = read(fd, greeting, GREETING_MAX - 1);
	if (len < 0)
		return -errno;
	greeting[len] = '\0';
	return len > 0 ? 0 : ERR_CLOSED;
}

static int
try_address(const struct netaddr *to, const struct netaddr *source,
    char greeting[static GREETING_MAX])
{
	int64_t end_us = clock_monotonic_us() + TRY_US;
	int fd = socket_connect(to, source);

	if (fd < 0)
		return fd;
	int result = hear_greeting(fd, greeting, end_us);
	close(fd);
	return result;
}

static void
find_result(struct examination *x, const struct netaddr *source, int result,
    const char *greeting)
{
	const char *probe = x->config->doctor.probe;
	char text[NETADDR_TEXT_SIZE];

	(void)netaddr_format_ip(source, text);
	if (result == 0 && strncmp(greeting, "220", 3) == 0) {
		find(x, DOCTOR_OK, "port 25", text, "reaches a server of %s",
		    probe);
	} else if (result == 0) {
		find(x, DOCTOR_WARNING, "port 25", text,
		    "reaches a server of %s, which greets with: %.*s", probe,
		    (int)strcspn(greeting, "\r\n"), greeting);
	} else {
		find(x, DOCTOR_PROBLEM, "port 25", text,
		    "reaches no server of %s: %s", probe, error_text(result));
		remedy(x,
		    "ask your provider to open outgoing port 25, or send by a "
		    "smarthost: routes: [{domains: [\"*\"], deliver: smtp, to: "
		    "\"HOST:587\"}]");
	}
}

void
examine_way_out(struct examination *x, const struct netaddr *source)
{
	const char *probe = x->config->doctor.probe;
	const struct config_route *route =
	    config_route_for(x->config, span_of(probe));
	char greeting[GREETING_MAX] = "";
	struct interview_answer hosts;
	int result = ERR_NOT_FOUND;
	unsigned tried = 0;

	/* A smarthost takes it elsewhere. */
	if (probe[0] == '\0' || route->deliver != CONFIG_DELIVER_MX)
		return;
	interview_mail_hosts(x->dns, probe, &hosts);
	for (size_t i = 0; i < hosts.address_count && result < 0; i++) {
		struct netaddr to = hosts.addresses[i];

		if (to.family != source->family)
			continue;
		if (tried++ == ADDRESSES_TRIED)
			break;
		to.port = route->port;
		result = try_address(&to, source, greeting);
	}
	if (tried > 0)
		find_result(x, source, result, greeting);
	else if (hosts.result == RESOLVE_TEMPORARY)
		find(x, DOCTOR_WARNING, "port 25", probe,
		    "cannot be looked up, so port 25 was not tried: %s",
		    hosts.problem);
	interview_answer_done(&hosts);
}

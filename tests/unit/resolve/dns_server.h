/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A name server of one thread on a port of 127.0.0.1, UDP and TCP, that serves
 * a table of records. A name that no record has does not exist. Names under
 * "servfail.", "refused." and "silent." behave as they are called; answers
 * over 1200 octets are truncated on UDP.
 */

#include "base/netaddr.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct dns_record {
	const char *name;
	int type;
	const char *data; /* "10 mx.example", "192.0.2.1", "alias.example" */
	unsigned count; /* MX: so many, "%u" of data counted up; 0: one */
};

enum {
	DNS_A = 1,
	DNS_CNAME = 5,
	DNS_SOA = 6,
	DNS_MX = 15,
	DNS_TXT = 16,
	DNS_AAAA = 28
};

struct dns_server;

/* The table must stay. NULL on failure. */
struct dns_server *dns_server_start(
    const struct dns_record *records, size_t count);
void dns_server_stop(struct dns_server *server);
struct netaddr dns_server_address(const struct dns_server *server);
/* Questions for MX seen so far. */
unsigned dns_server_mx_questions(const struct dns_server *server);
/* From now on: SERVFAIL for everything. */
void dns_server_break(struct dns_server *server, bool is_broken);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * posthouse.yaml as a checked, immutable structure. Strict: an unknown or
 * repeated key, a wrong type or an impossible value is a mistake with file,
 * line and column, and all mistakes are found in one reading. What changes at
 * run time (tenants, credentials, …) is not here but in the directory.
 *
 * One table (table.c) names every key with its type, default, bounds and the
 * sentence that explains it: the parser, `config show`, the example file's
 * check and the manual page are all read from it.
 *
 * A config is counted and never changes: a reload makes a new one.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/netaddr.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum config_service { CONFIG_SUBMISSION, CONFIG_MX, CONFIG_LMTP, CONFIG_HTTP };

enum config_tls { CONFIG_TLS_NONE, CONFIG_TLS_STARTTLS, CONFIG_TLS_IMPLICIT };

enum config_newlines { CONFIG_NEWLINES_REFUSE, CONFIG_NEWLINES_NORMALISE };

struct map;

struct config_listener {
	struct netaddr address;
	enum config_service service;
	enum config_tls tls;
	bool proxy_protocol;
	struct netmask *proxy_networks; /* from whom a PROXY header is believed;
					   required with proxy_protocol */
	size_t proxy_network_count;
	enum config_newlines newlines; /* bare CR or LF in messages */
	bool trace_user; /* the Received field names the user */
};

enum config_deliver {
	CONFIG_DELIVER_MX,
	CONFIG_DELIVER_SMTP,
	CONFIG_DELIVER_LMTP,
	CONFIG_DELIVER_MAILDIR,
	CONFIG_DELIVER_DISCARD,
	CONFIG_DELIVER_RETURNS, /* reports on our mail: never written */
};

enum config_route_tls {
	CONFIG_ROUTE_TLS_OPPORTUNISTIC,
	CONFIG_ROUTE_TLS_NONE,
	CONFIG_ROUTE_TLS_REQUIRE, /* encrypted; authentic, too, where verify */
};

struct config_route {
	char **domains; /* "*", "*.corp.example", "example.com" */
	size_t domain_count;
	enum config_deliver deliver;
	char *to; /* as written: host:port, unix:path, directory */
	char *to_host; /* smtp, lmtp over TCP: name or address */
	uint16_t to_port;
	char *to_path; /* unix socket or Maildir */
	uint16_t port; /* mx: the port to speak to, default 25 */
	char *pool; /* leaves by these sources; NULL: mx: the stream's, smtp
		       and lmtp: as the system chooses */
	enum config_route_tls tls;
	bool tls_verify; /* smtp, lmtp: check certificate and name;
				   default: with require, yes */
	char *tls_ca; /* CA file for this route, or NULL: system's */
	bool dane; /* mx: follow TLSA records (RFC 7672) */
	bool mta_sts; /* mx: follow the domain's policy (RFC 8461) */
	char *username;
	char *password_file;
	char *password; /* read from password_file when loaded */
};

/* So many in so many seconds: "6000/h". 0: any number. */
struct config_rate {
	uint32_t count;
	uint32_t seconds; /* 1, 60, 3600 or 86400 */
};

enum config_canon { CONFIG_RELAXED, CONFIG_SIMPLE };

struct config_source {
	char *name;
	struct netaddr address;
	char *hostname;
};

/* Of a site's addresses, which are tried, and in which order. */
enum config_ip {
	CONFIG_IP_ANY, /* IPv6 first */
	CONFIG_IP_PREFER4,
	CONFIG_IP_4,
	CONFIG_IP_6,
};

struct config_pool_member {
	const struct config_source *source;
	uint32_t weight;
};

struct config_pool {
	char *name;
	struct config_pool_member *members;
	size_t member_count;
};

struct config {
	char *path; /* the file, for messages */
	char *hostname;
	char *data_dir;
	char *user;

	struct {
		char *certificate, *private_key; /* paths or NULL */
	} tls;
	struct config_listener *listeners;
	size_t listener_count;
	struct netmask *trusted_networks;
	size_t trusted_network_count;
	struct config_route *routes; /* the implicit last one included */
	size_t route_count;

	struct {
		struct netaddr *servers;
		size_t server_count;
		bool dnssec;
		char *trust_anchor; /* file or NULL */
		int64_t timeout_us;
	} resolver;

	struct {
		char *ca_file; /* or NULL: the system's */
		uint16_t port;
		int64_t fetch_us;
	} mta_sts;

	struct {
		bool enabled;
		char *organization; /* or NULL */
	} tls_reports;
	struct config_source *sources;
	size_t source_count;
	struct config_pool *pools;
	size_t pool_count;

	struct {
		int64_t *schedule_us;
		size_t schedule_count;
		int64_t expire_us, delay_warning_us;
		uint32_t jitter_percent; /* 5 */
	} retry;

	struct {
		uint64_t message_size; /* 50M */
		uint32_t recipients; /* 1000, per transaction */
		uint32_t connections; /* 10000, all listeners together */
		uint32_t connections_per_client; /* 100, per client network */
		uint64_t memory;
		uint64_t header_size; /* 512K */
		uint32_t header_fields; /* 1000 */
		uint32_t line_length; /* 0: any, octets of a message line */
		uint32_t received; /* 50 Received fields: a loop */
		uint32_t errors; /* 20 bad commands per session */
		uint32_t idle_commands; /* 100 */
		uint32_t auth_failures; /* 3 per session */
		uint32_t auth_failures_per_client; /* 10, then lockout */
		int64_t auth_lockout_us; /* 10m */
		int64_t session_us; /* 1h, whole session */
		int64_t idle_us; /* 5m, nothing arrives */
		int64_t command_us; /* 5m, one command line complete */
		int64_t message_us; /* 30m, one message's bytes */
		/* Octets/s a message must keep up over a minute; 0: off. */
		uint32_t message_rate_min;
		int64_t shutdown_us; /* 10s to finish open work at SIGTERM */
		uint64_t shared_bodies; /* 16M of recent ones; 0: none */
		uint64_t upkeep_rate; /* 64M a second, by the spool itself */
		int64_t scrub_us; /* 7d, waiting mail is read again */
		int64_t events_us; /* 90d, kept; 0: for ever */
		uint64_t events_size; /* 20G, kept; 0: any */
	} limits;

	struct {
		bool allow_private; /* private_networks: allow */
		char *pool; /* of streams that name none; NULL: the first */
		enum config_ip ip;
		uint32_t threads;
		uint32_t connections; /* 2000 out, all together */
		uint32_t connections_per_site; /* 20 */
		uint32_t first_connections_per_site; /* 5 */
		struct config_rate message_rate, message_rate_per_site,
		    message_rate_per_domain, message_rate_per_tenant,
		    connection_rate_per_site;
		uint32_t messages_per_connection; /* 500 */
		uint32_t recipients_per_message; /* 100 in one transaction */
		int64_t idle_us; /* 10s: keep an idle connection */
		int64_t connect_us; /* 30s */
		int64_t final_reply_us; /* 10m */
		bool chunking; /* BDAT where offered */
	} delivery;

	struct {
		bool postmaster_copies; /* failed reports also to postmaster */
		char *postmaster; /* default postmaster@hostname */
		bool return_full; /* false: headers unless RET=FULL */
		uint64_t return_size; /* 100K of body at most */
	} reports;

	struct {
		char **blocklists; /* domains that are asked for addresses */
		size_t blocklist_count;
		char *probe; /* domain whose mail host is greeted; "": none */
	} doctor;

	struct {
		char *domain; /* or NULL: senders stay as they are */
		char *complaints; /* a mailbox there, or NULL */
		int64_t expire_us;
		struct config_route route; /* of that domain */
	} returns;

	struct {
		bool accept; /* at_rcpt: accept; they end at dispatch */
		bool bounces; /* by refusals that say so */
		int64_t bounce_expire_us; /* 0: never */
		uint32_t waiting; /* outcomes, for the disk */
	} suppressions;

	struct {
		enum config_canon header, body; /* the canonical forms */
		int64_t expire_us; /* 0: signatures do not */
		uint32_t threads; /* 0: half as many as cores */
		uint32_t signatures; /* kept */
		int64_t rotate_after_us; /* 0: keys are for good */
		int64_t keep_old_us, rotate_check_us;
	} dkim;

	struct {
		int level; /* enum log_level */
		int format; /* enum log_format */
	} log;
	struct map *routes_by_domain; /* the room's own, as is this: */
	char *shaping_path; /* as given, or NULL: beside this file */
	struct shaping *shaping; /* config/shaping.h; NULL: there is none */
	unsigned references;
};

/* One mistake. Line and column count from 1; both are 0 when the file as a
 * whole is meant. The text names the thing, the reason and the remedy. */
typedef void config_mistake_fn(void *arg, const char *file, unsigned line,
    unsigned column, const char *text);

/* Reads, checks and completes with defaults. On mistakes: ERR_SYNTAX after all
 * have been told in the order of the file; a file that cannot be read is told,
 * too, and gives its own code. When `check_files`, also reads password files
 * and tries certificates, keys and authorities as TLS will; without it a
 * route's password stays NULL. May ask the system's resolver for this host's
 * full name when `hostname` is not given. */
MUST_CHECK int config_load(const char *path, bool check_files,
    config_mistake_fn *fn, void *arg, struct config **ret_config);
MUST_CHECK int config_parse(struct span text, const char *name,
    bool check_files, config_mistake_fn *fn, void *arg,
    struct config **ret_config);

struct config *config_ref(struct config *config); /* thread-safe */
void config_unref(struct config **config);

/* The effective configuration as YAML that loads to the same; with comments
 * that explain each key when `explain`. */
void config_show(const struct config *config, bool explain, struct buf *out);

/* NULL when there is none of this name. */
const struct config_source *config_source_find(
    const struct config *config, struct span name);
const struct config_pool *config_pool_find(
    const struct config *config, struct span name);
/* The one for streams that name none; NULL without pools. */
const struct config_pool *config_pool_default(const struct config *config);
/* First match wins; never NULL. Domain in canonical form. */
const struct config_route *config_route_for(
    const struct config *config, struct span domain);
/* Delivered here rather than relayed: an mx listener takes mail for it. */
bool config_route_is_local(const struct config_route *route);
bool config_is_trusted(
    const struct config *config, const struct netaddr *client);

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every key of posthouse.yaml, once. A row's `explain` is one sentence for
 * people: `config show --explain` prints it, and posthouse.yaml(5) and the
 * example file are checked against these tables. Tables are read in this
 * order, whatever the file's order: pools come after the sources they name.
 */

#include "base/time.h"
#include "config/internal.h"

#define AT(member) .offset = offsetof(struct config, member)
#define LIST(member, counter)                                                  \
	.is_list = true, .offset = offsetof(struct config, member),            \
	.count_offset = offsetof(struct config, counter), .most = 1000
#define IN(type, member) .offset = offsetof(struct type, member)
#define LIST_IN(type, member, counter)                                         \
	.is_list = true, .offset = offsetof(struct type, member),              \
	.count_offset = offsetof(struct type, counter)
#define BETWEEN(least, most_) .min = (least), .max = (most_)
#define KEYS(rows) .keys = (rows), .count = sizeof(rows) / sizeof *(rows)

static const char *const service_names[] = { [CONFIG_SUBMISSION] = "submission",
	[CONFIG_MX] = "mx",
	[CONFIG_LMTP] = "lmtp",
	[CONFIG_HTTP] = "http",
	NULL };
static const char *const tls_names[] = { [CONFIG_TLS_NONE] = "none",
	[CONFIG_TLS_STARTTLS] = "starttls",
	[CONFIG_TLS_IMPLICIT] = "implicit",
	NULL };
static const char *const newlines_names[] = { [CONFIG_NEWLINES_REFUSE] =
						  "refuse",
	[CONFIG_NEWLINES_NORMALISE] = "normalise",
	NULL };
static const char *const deliver_names[] = { [CONFIG_DELIVER_MX] = "mx",
	[CONFIG_DELIVER_SMTP] = "smtp",
	[CONFIG_DELIVER_LMTP] = "lmtp",
	[CONFIG_DELIVER_MAILDIR] = "maildir",
	[CONFIG_DELIVER_DISCARD] = "discard",
	NULL };
static const char *const route_tls_names[] = {
	[CONFIG_ROUTE_TLS_OPPORTUNISTIC] = "opportunistic",
	[CONFIG_ROUTE_TLS_NONE] = "none",
	[CONFIG_ROUTE_TLS_REQUIRE] = "require",
	NULL
};
static const char *const at_rcpt_names[] = { "refuse", "accept", NULL };
static const char *const canon_names[] = {
	[CONFIG_RELAXED] = "relaxed", [CONFIG_SIMPLE] = "simple", NULL
};
static const char *const private_names[] = { "refuse", "allow", NULL };
static const char *const ip_names[] = { [CONFIG_IP_ANY] = "any",
	[CONFIG_IP_PREFER4] = "prefer4",
	[CONFIG_IP_4] = "4",
	[CONFIG_IP_6] = "6",
	NULL };
/* In the order of enum log_level and enum log_format of log/log.h, a room that
 * this one may not include; table_test.c holds that they agree. */
static const char *const level_names[] = { "debug", "info", "warning", "error",
	NULL };
static const char *const format_names[] = { "text", "json", NULL };

static const struct config_key tls_keys[] = {
	{ "certificate", VALUE_PATH, AT(tls.certificate), .default_text = "",
	    .explain = "PEM file with the server's certificate and its chain; "
		       "read again at a reload." },
	{ "private_key", VALUE_PATH, AT(tls.private_key), .default_text = "",
	    .explain = "PEM file with the certificate's private key; must not "
		       "be readable by everybody." },
};
static const struct config_table tls_table = { "tls", KEYS(tls_keys) };

static const struct config_key listener_keys[] = {
	{ "address", VALUE_LISTEN, IN(config_listener, address),
	    .explain = "Address and port to listen on: \"0.0.0.0:587\", "
		       "\"[::]:25\"; for lmtp and http also \"unix:/path\"." },
	{ "service", VALUE_CHOICE, IN(config_listener, service),
	    .choices = service_names,
	    .explain = "submission takes mail from users who log in, mx takes "
		       "mail for local domains and never relays, lmtp takes "
		       "mail from a local mail system, http serves the API, "
		       "console and metrics." },
	{ "tls", VALUE_CHOICE, IN(config_listener, tls), .choices = tls_names,
	    .is_computed = true,
	    .default_text =
		"starttls for submission and mx, none for lmtp and http",
	    .explain = "Whether TLS begins at once, on the client's command, "
		       "or never." },
	{ "proxy_protocol", VALUE_BOOL, IN(config_listener, proxy_protocol),
	    .default_text = "false",
	    .explain = "Each connection begins with a PROXY header (version 1 "
		       "or 2) that names the real client." },
	{ "proxy_networks", VALUE_NETWORK,
	    LIST_IN(config_listener, proxy_networks, proxy_network_count),
	    .default_text = "[]", .most = 1000,
	    .explain = "Networks of the proxies whose PROXY header is "
		       "believed; required with proxy_protocol." },
	{ "newlines", VALUE_CHOICE, IN(config_listener, newlines),
	    .choices = newlines_names, .default_text = "refuse",
	    .explain = "What happens to a message with a bare CR or LF: "
		       "refused, or made CRLF before anything looks at it." },
	{ "trace_user", VALUE_BOOL, IN(config_listener, trace_user),
	    .default_text = "false",
	    .explain = "The Received field names the user who logged in." },
};
static const struct config_table listener_table = { "listeners",
	KEYS(listener_keys), .item_size = sizeof(struct config_listener) };

static const struct config_key route_keys[] = {
	{ "domains", VALUE_PATTERN,
	    LIST_IN(config_route, domains, domain_count), .least = 1,
	    .most = 100000,
	    .explain = "Recipient domains: a name, \"*.name\" for everything "
		       "below a name, or \"*\" for all." },
	{ "deliver", VALUE_CHOICE, IN(config_route, deliver),
	    .choices = deliver_names,
	    .explain = "mx finds the domain's servers in DNS, smtp hands over "
		       "to a fixed server, lmtp and maildir deliver to local "
		       "mailboxes, discard forgets the mail." },
	{ "to", VALUE_TEXT, IN(config_route, to), .default_text = "",
	    .max = 512,
	    .explain = "smtp: host:port; lmtp: host:port or unix:/path; "
		       "maildir: a directory; not for mx and discard." },
	{ "port", VALUE_PORT, IN(config_route, port), .default_text = "25",
	    BETWEEN(1, 65535),
	    .explain = "mx: the port of the receiving servers." },
	{ "pool", VALUE_TEXT, IN(config_route, pool), .default_text = "",
	    .max = 64,
	    .explain = "The pool that this mail leaves by, whatever its "
		       "stream; without it, mx takes the stream's pool, and "
		       "for smtp and lmtp the system chooses the address." },
	{ "tls", VALUE_CHOICE, IN(config_route, tls),
	    .choices = route_tls_names, .default_text = "opportunistic",
	    .explain =
		"opportunistic encrypts where the server offers it, require "
		"never sends in the clear, none never encrypts." },
	{ "tls_verify", VALUE_BOOL, IN(config_route, tls_verify),
	    .is_computed = true,
	    .default_text =
		"true for smtp and lmtp with tls: require, else false",
	    .explain = "smtp and lmtp: the server's certificate must be valid "
		       "for the name in `to`." },
	{ "tls_ca", VALUE_PATH, IN(config_route, tls_ca), .default_text = "",
	    .explain = "PEM file with the authorities believed on this route, "
		       "instead of the system's." },
	{ "dane", VALUE_BOOL, IN(config_route, dane), .default_text = "true",
	    .explain = "mx: where a domain's DNS is signed and has TLSA "
		       "records, mail goes only to servers that match them "
		       "(RFC 7672)." },
	{ "mta_sts", VALUE_BOOL, IN(config_route, mta_sts),
	    .default_text = "true",
	    .explain = "mx: where a domain publishes a policy by MTA-STS, mail "
		       "goes only to servers that it allows (RFC 8461)." },
	{ "username", VALUE_TEXT, IN(config_route, username),
	    .default_text = "", .max = 255,
	    .explain = "smtp and lmtp: the name to log in with; needs "
		       "password_file." },
	{ "password_file", VALUE_PATH, IN(config_route, password_file),
	    .default_text = "",
	    .explain = "File whose first line is the password for username; "
		       "must not be readable by everybody." },
};
static const struct config_table route_table = { "routes", KEYS(route_keys),
	.item_size = sizeof(struct config_route) };

static const struct config_key resolver_keys[] = {
	{ "servers", VALUE_SERVER,
	    LIST(resolver.servers, resolver.server_count), .default_text = "[]",
	    .explain = "Recursive DNS servers, each an address or "
		       "address:port; empty: the system's." },
	{ "dnssec", VALUE_BOOL, AT(resolver.dnssec), .default_text = "true",
	    .explain = "Validate answers with DNSSEC." },
	{ "trust_anchor", VALUE_PATH, AT(resolver.trust_anchor),
	    .default_text = "",
	    .explain =
		"File with the DNSSEC keys to begin from; empty: the root's." },
	{ "timeout", VALUE_DURATION, AT(resolver.timeout_us),
	    .default_text = "20s", BETWEEN(100 * US_PER_MS, 5 * US_PER_MIN),
	    .explain =
		"After this long a question counts as a temporary failure." },
};
static const struct config_table resolver_table = { "resolver",
	KEYS(resolver_keys) };

static const struct config_key mta_sts_keys[] = {
	{ "ca_file", VALUE_PATH, AT(mta_sts.ca_file), .default_text = "",
	    .explain = "PEM file with the authorities that are believed, "
		       "instead of the system's, of policy hosts and of the "
		       "mail servers under a policy." },
	{ "port", VALUE_PORT, AT(mta_sts.port), .default_text = "443",
	    BETWEEN(1, 65535), .explain = "The port of the policy hosts." },
	{ "fetch_time", VALUE_DURATION, AT(mta_sts.fetch_us),
	    .default_text = "30s", BETWEEN(100 * US_PER_MS, 5 * US_PER_MIN),
	    .explain = "How long the fetch of a policy may take; mail to the "
		       "domain waits for the first one." },
};
static const struct config_table mta_sts_table = { "mta_sts",
	KEYS(mta_sts_keys) };

static const struct config_key tls_report_keys[] = {
	{ "enabled", VALUE_BOOL, AT(tls_reports.enabled),
	    .default_text = "false",
	    .explain = "Once a day domains that ask for it are told how TLS "
		       "with their servers went (RFC 8460)." },
	{ "organization", VALUE_TEXT, AT(tls_reports.organization),
	    .default_text = "", .max = 200,
	    .explain = "The name of who reports; empty: the hostname above." },
};
static const struct config_table tls_report_table = { "tls_reports",
	KEYS(tls_report_keys) };

static const struct config_key source_keys[] = {
	{ "name", VALUE_NAME, IN(config_source, name), .max = 64,
	    .explain = "The name that pools use." },
	{ "address", VALUE_IP, IN(config_source, address),
	    .explain =
		"An IP address of this machine that connections come from." },
	{ "hostname", VALUE_HOSTNAME, IN(config_source, hostname),
	    .is_computed = true, .default_text = "the hostname above",
	    .explain = "The EHLO name of this source; should resolve to the "
		       "address and back." },
};
static const struct config_table source_table = { "sources", KEYS(source_keys),
	.item_size = sizeof(struct config_source) };

static const struct config_key member_keys[] = {
	{ "name", VALUE_SOURCE, IN(config_pool_member, source),
	    .explain = "The name of one of the sources above." },
	{ "weight", VALUE_NUMBER, IN(config_pool_member, weight),
	    .default_text = "1", BETWEEN(1, 10000),
	    .explain =
		"Its share of the pool's mail, relative to the others'." },
};
static const struct config_table member_table = { "pools.sources",
	KEYS(member_keys), .item_size = sizeof(struct config_pool_member) };

static const struct config_key pool_keys[] = {
	{ "name", VALUE_NAME, IN(config_pool, name), .max = 64,
	    .explain = "The name that streams use." },
	{ "sources", VALUE_MAP, LIST_IN(config_pool, members, member_count),
	    .least = 1, .most = 64, .table = &member_table,
	    .explain = "The sources that share the pool's mail." },
};
static const struct config_table pool_table = { "pools", KEYS(pool_keys),
	.item_size = sizeof(struct config_pool) };

static const struct config_key retry_keys[] = {
	{ "schedule", VALUE_DURATION, .is_list = true, AT(retry.schedule_us),
	    .count_offset = offsetof(struct config, retry.schedule_count),
	    .least = 1, .most = 16,
	    .default_text = "[1m, 5m, 15m, 30m, 1h, 2h, 4h]",
	    BETWEEN(US_PER_MS, 30 * US_PER_DAY),
	    .explain = "How long to wait after each failed attempt; the last "
		       "one repeats." },
	{ "expire", VALUE_DURATION, AT(retry.expire_us), .default_text = "4d",
	    BETWEEN(US_PER_MS, 365 * US_PER_DAY),
	    .explain =
		"After this long undelivered mail goes back to its sender." },
	{ "delay_warning", VALUE_DURATION, AT(retry.delay_warning_us),
	    .default_text = "4h", BETWEEN(0, 365 * US_PER_DAY),
	    .explain = "After this long the sender is told once that mail "
		       "still waits; 0s: never." },
	{ "jitter_percent", VALUE_NUMBER, AT(retry.jitter_percent),
	    .default_text = "5", BETWEEN(0, 50),
	    .explain = "Each wait is varied at random by up to this share, so "
		       "that retries do not come in crowds." },
};
static const struct config_table retry_table = { "retry", KEYS(retry_keys) };

static const struct config_key limit_keys[] = {
	{ "message_size", VALUE_SIZE, AT(limits.message_size),
	    .default_text = "50M", BETWEEN(1024, INT64_C(2) << 30),
	    .explain = "The largest message that is taken." },
	{ "recipients", VALUE_NUMBER, AT(limits.recipients),
	    .default_text = "1000", BETWEEN(1, 100000),
	    .explain = "Recipients in one transaction." },
	{ "connections", VALUE_NUMBER, AT(limits.connections),
	    .default_text = "10000", BETWEEN(1, 1000000),
	    .explain =
		"Open connections from clients, all listeners together." },
	{ "connections_per_client", VALUE_NUMBER,
	    AT(limits.connections_per_client), .default_text = "100",
	    BETWEEN(1, 1000000),
	    .explain = "Open connections from one client network (an IPv4 "
		       "address or an IPv6 /64)." },
	{ "memory", VALUE_SIZE, AT(limits.memory), .default_text = "0",
	    BETWEEN(0, INT64_C(1) << 50),
	    .explain = "Memory for messages under way; 0: a quarter of the "
		       "machine's." },
	{ "header_size", VALUE_SIZE, AT(limits.header_size),
	    .default_text = "512K", BETWEEN(1024, INT64_C(64) << 20),
	    .explain = "The largest header of a message." },
	{ "header_fields", VALUE_NUMBER, AT(limits.header_fields),
	    .default_text = "1000", BETWEEN(10, 100000),
	    .explain = "Fields in a message's header." },
	{ "line_length", VALUE_NUMBER, AT(limits.line_length),
	    .default_text = "0", BETWEEN(0, 1000000000),
	    .explain = "Octets in one line of a message, without its end; 0: "
		       "any number; else at least 998." },
	{ "received_fields", VALUE_NUMBER, AT(limits.received),
	    .default_text = "50", BETWEEN(1, 1000),
	    .explain = "Received fields in a message; one with more goes round "
		       "in a loop and is refused." },
	{ "errors_per_session", VALUE_NUMBER, AT(limits.errors),
	    .default_text = "20", BETWEEN(1, 10000),
	    .explain = "Bad commands after which a session is ended." },
	{ "idle_commands", VALUE_NUMBER, AT(limits.idle_commands),
	    .default_text = "100", BETWEEN(1, 1000000),
	    .explain = "Commands that bring no mail forward (NOOP, RSET, VRFY, "
		       "…) after which a session is ended." },
	{ "auth_failures", VALUE_NUMBER, AT(limits.auth_failures),
	    .default_text = "3", BETWEEN(1, 100),
	    .explain = "Failed logins after which a session is ended." },
	{ "auth_failures_per_client", VALUE_NUMBER,
	    AT(limits.auth_failures_per_client), .default_text = "10",
	    BETWEEN(1, 1000000),
	    .explain =
		"Failed logins after which a client network is locked out." },
	{ "auth_lockout", VALUE_DURATION, AT(limits.auth_lockout_us),
	    .default_text = "10m", BETWEEN(0, 30 * US_PER_DAY),
	    .explain =
		"How long a client network stays locked out; 0s: not at all." },
	{ "session_time", VALUE_DURATION, AT(limits.session_us),
	    .default_text = "1h", BETWEEN(US_PER_S, 7 * US_PER_DAY),
	    .explain = "The longest session." },
	{ "idle_time", VALUE_DURATION, AT(limits.idle_us), .default_text = "5m",
	    BETWEEN(US_PER_MS, US_PER_DAY),
	    .explain = "How long a client may send nothing." },
	{ "command_time", VALUE_DURATION, AT(limits.command_us),
	    .default_text = "5m", BETWEEN(US_PER_MS, US_PER_DAY),
	    .explain =
		"How long a client may take to complete one command line." },
	{ "message_time", VALUE_DURATION, AT(limits.message_us),
	    .default_text = "30m", BETWEEN(US_PER_MS, US_PER_DAY),
	    .explain = "How long a client may take to send one message." },
	{ "message_rate_min", VALUE_NUMBER, AT(limits.message_rate_min),
	    .default_text = "100", BETWEEN(0, 1000000000),
	    .explain = "Octets per second that a client must keep up over a "
		       "minute while it sends a message; 0: any rate." },
	{ "shutdown_time", VALUE_DURATION, AT(limits.shutdown_us),
	    .default_text = "10s", BETWEEN(0, US_PER_HOUR),
	    .explain = "How long open sessions may finish their work when the "
		       "service is stopped." },
	{ "shared_bodies", VALUE_SIZE, AT(limits.shared_bodies),
	    .default_text = "16M", BETWEEN(0, INT64_C(1) << 36),
	    .explain = "Memory for the bodies of recent messages, so that a "
		       "tenant's equal bodies are stored once; 0: each message "
		       "is stored whole; from a start on." },
	{ "upkeep_rate", VALUE_SIZE, AT(limits.upkeep_rate),
	    .default_text = "64M", BETWEEN(1 << 20, INT64_C(1) << 40),
	    .explain = "Octets per second that the spool may read and write "
		       "to keep itself small and to check itself; from a "
		       "start on." },
	{ "scrub_time", VALUE_DURATION, AT(limits.scrub_us),
	    .default_text = "7d", BETWEEN(US_PER_HOUR, 365 * US_PER_DAY),
	    .explain = "Within this time all mail that waits is read again to "
		       "check the disk; from a start on." },
	{ "events_time", VALUE_DURATION, AT(limits.events_us),
	    .default_text = "90d", BETWEEN(0, 36500 * US_PER_DAY),
	    .explain = "How long events are kept, by whole days; 0s: for "
		       "ever." },
	{ "events_size", VALUE_SIZE, AT(limits.events_size),
	    .default_text = "20G", BETWEEN(0, INT64_C(1) << 50),
	    .explain = "Octets of event files that are kept, the newest file "
		       "always; 0: any number." },
};
static const struct config_table limit_table = { "limits", KEYS(limit_keys) };

static const struct config_key delivery_keys[] = {
	{ "private_networks", VALUE_BOOL, AT(delivery.allow_private),
	    .choices = private_names, .default_text = "refuse",
	    .explain = "Whether an MX record may lead to loopback, private or "
		       "otherwise special addresses." },
	{ "pool", VALUE_TEXT, AT(delivery.pool), .default_text = "", .max = 64,
	    .explain = "The pool of sources for streams that name none; "
		       "empty: the first of pools." },
	{ "ip", VALUE_CHOICE, AT(delivery.ip), .choices = ip_names,
	    .default_text = "any",
	    .explain = "Which addresses of a receiving system are tried: any "
		       "(IPv6 first), prefer4 (IPv4 first), 4 or 6 (only "
		       "those)." },
	{ "threads", VALUE_NUMBER, AT(delivery.threads), .default_text = "0",
	    BETWEEN(0, 256),
	    .explain = "Threads that receive and deliver; 0: one per core." },
	{ "connections", VALUE_NUMBER, AT(delivery.connections),
	    .default_text = "2000", BETWEEN(1, 100000),
	    .explain = "Open connections to other servers, all together." },
	{ "connections_per_site", VALUE_NUMBER,
	    AT(delivery.connections_per_site), .default_text = "20",
	    BETWEEN(1, 10000),
	    .explain = "Open connections to one receiving system." },
	{ "first_connections_per_site", VALUE_NUMBER,
	    AT(delivery.first_connections_per_site), .default_text = "5",
	    BETWEEN(1, 10000),
	    .explain = "Open connections to a receiving system that nothing is "
		       "known of; success leads to more, failure to fewer." },
	{ "message_rate", VALUE_RATE, AT(delivery.message_rate),
	    .default_text = "0", .max = 1000000,
	    .explain = "Messages that are sent, all together; 0: any rate." },
	{ "message_rate_per_site", VALUE_RATE,
	    AT(delivery.message_rate_per_site), .default_text = "0",
	    .max = 1000000,
	    .explain = "Messages that are sent to one receiving system; 0: any "
		       "rate." },
	{ "message_rate_per_domain", VALUE_RATE,
	    AT(delivery.message_rate_per_domain), .default_text = "0",
	    .max = 1000000,
	    .explain = "Messages that are sent to one recipient domain; 0: any "
		       "rate." },
	{ "message_rate_per_tenant", VALUE_RATE,
	    AT(delivery.message_rate_per_tenant), .default_text = "0",
	    .max = 1000000,
	    .explain = "Messages that are sent of one tenant; 0: any rate." },
	{ "connection_rate_per_site", VALUE_RATE,
	    AT(delivery.connection_rate_per_site), .default_text = "0",
	    .max = 1000000,
	    .explain = "Connections that are opened to one receiving system; "
		       "0: any rate." },
	{ "messages_per_connection", VALUE_NUMBER,
	    AT(delivery.messages_per_connection), .default_text = "500",
	    BETWEEN(1, 1000000),
	    .explain =
		"Messages after which a connection is closed and made anew." },
	{ "recipients_per_transaction", VALUE_NUMBER,
	    AT(delivery.recipients_per_message), .default_text = "100",
	    BETWEEN(1, 10000),
	    .explain =
		"Recipients of one message that are sent in one transaction." },
	{ "idle_time", VALUE_DURATION, AT(delivery.idle_us),
	    .default_text = "10s", BETWEEN(0, 10 * US_PER_MIN),
	    .explain = "How long a connection without work is kept for the "
		       "next message." },
	{ "connect_time", VALUE_DURATION, AT(delivery.connect_us),
	    .default_text = "30s", BETWEEN(US_PER_MS, 10 * US_PER_MIN),
	    .explain = "How long a server may take to accept a connection." },
	{ "final_reply_time", VALUE_DURATION, AT(delivery.final_reply_us),
	    .default_text = "10m", BETWEEN(US_PER_MS, US_PER_HOUR),
	    .explain =
		"How long a server may take to answer after the message; less "
		"than 10m risks duplicates (RFC 5321 §4.5.3.2.6)." },
	{ "chunking", VALUE_BOOL, AT(delivery.chunking), .default_text = "true",
	    .explain = "Use BDAT (RFC 3030) where the server offers it." },
};
static const struct config_table delivery_table = { "delivery",
	KEYS(delivery_keys) };

static const struct config_key report_keys[] = {
	{ "postmaster_copies", VALUE_BOOL, AT(reports.postmaster_copies),
	    .default_text = "false",
	    .explain = "Reports of failed mail also go to the postmaster." },
	{ "postmaster", VALUE_MAILBOX, AT(reports.postmaster),
	    .is_computed = true,
	    .default_text = "postmaster@ the hostname above",
	    .explain = "The mailbox for what concerns the operator." },
	{ "return_full", VALUE_BOOL, AT(reports.return_full),
	    .default_text = "false",
	    .explain = "Reports return the whole message even when the sender "
		       "did not ask; else its header only." },
	{ "return_size", VALUE_SIZE, AT(reports.return_size),
	    .default_text = "100K", BETWEEN(0, INT64_C(50) << 20),
	    .explain = "The most of a message's body that a report returns." },
};
static const struct config_table report_table = { "reports",
	KEYS(report_keys) };

static const struct config_key doctor_keys[] = {
	{ "blocklists", VALUE_HOSTNAME,
	    LIST(doctor.blocklists, doctor.blocklist_count),
	    .default_text = "[zen.spamhaus.org, bl.spamcop.net, "
			    "b.barracudacentral.org]",
	    .explain = "DNS blocklists that are asked for the sources." },
	{ "probe", VALUE_TEXT, AT(doctor.probe), .default_text = "gmail.com",
	    .max = 253,
	    .explain = "A domain whose mail server is greeted to find out "
		       "whether the world can be reached; \"\": none." },
};
static const struct config_table doctor_table = { "doctor", KEYS(doctor_keys) };

static const struct config_key return_keys[] = {
	{ "domain", VALUE_TEXT, AT(returns.domain), .default_text = "",
	    .max = 253,
	    .explain = "A domain of the relay's own whose mail comes to an mx "
		       "listener: envelope senders become addresses there "
		       "that tell what bounced; empty: they stay." },
	{ "expire", VALUE_DURATION, AT(returns.expire_us), .default_text = "7d",
	    BETWEEN(US_PER_S, 365 * US_PER_DAY),
	    .explain = "How long after its sending a message's return path "
		       "takes reports." },
	{ "complaints", VALUE_TEXT, AT(returns.complaints), .default_text = "",
	    .max = 320,
	    .explain = "A mailbox in that domain that takes feedback reports "
		       "(ARF); empty: none." },
};
static const struct config_table return_table = { "returns",
	KEYS(return_keys) };

static const struct config_key suppression_keys[] = {
	{ "at_rcpt", VALUE_BOOL, AT(suppressions.accept),
	    .choices = at_rcpt_names, .default_text = "refuse",
	    .explain = "What a session is told of a suppressed recipient: "
		       "refused with the cause, or accepted, to end as "
		       "suppressed at dispatch." },
	{ "bounces", VALUE_BOOL, AT(suppressions.bounces),
	    .default_text = "true",
	    .explain = "A refusal for good that concerns the address itself "
		       "(no such user, moved, …) suppresses it for the "
		       "tenant." },
	{ "bounce_expire", VALUE_DURATION, AT(suppressions.bounce_expire_us),
	    .default_text = "0s", BETWEEN(0, 3650 * US_PER_DAY),
	    .explain = "How long such a suppression stands; 0s: for good." },
	{ "waiting", VALUE_NUMBER, AT(suppressions.waiting),
	    .default_text = "10000", BETWEEN(1, 1000000),
	    .explain = "Outcomes that may wait for their suppressions to be "
		       "written; more go without any." },
};
static const struct config_table suppression_table = { "suppressions",
	KEYS(suppression_keys) };

static const struct config_key dkim_keys[] = {
	{ "header", VALUE_CHOICE, AT(dkim.header), .choices = canon_names,
	    .default_text = "relaxed",
	    .explain = "What servers on the way may do to header fields: "
		       "relaxed lets them fold and change white space, simple "
		       "lets them do nothing." },
	{ "body", VALUE_CHOICE, AT(dkim.body), .choices = canon_names,
	    .default_text = "relaxed",
	    .explain = "The same of the body; simple also allows empty lines "
		       "at its end." },
	{ "expire", VALUE_DURATION, AT(dkim.expire_us), .default_text = "0s",
	    BETWEEN(0, 365 * US_PER_DAY),
	    .explain = "How long a signature is good for; 0s: for good." },
	{ "threads", VALUE_NUMBER, AT(dkim.threads), .default_text = "0",
	    BETWEEN(0, 64),
	    .explain = "Threads that sign; 0: half as many as cores. Not "
		       "changed by a reload." },
	{ "signatures", VALUE_NUMBER, AT(dkim.signatures),
	    .default_text = "10000", BETWEEN(0, 10000000),
	    .explain = "Messages whose signatures are kept for their other "
		       "deliveries and retries; each takes about 1.5 kB." },
	{ "rotate_after", VALUE_DURATION, AT(dkim.rotate_after_us),
	    .default_text = "0s", BETWEEN(0, 3650 * US_PER_DAY),
	    .explain = "The age at which keys get successors, which must be "
		       "published then; 0s: by command only." },
	{ "keep_old", VALUE_DURATION, AT(dkim.keep_old_us),
	    .default_text = "7d", BETWEEN(0, 3650 * US_PER_DAY),
	    .explain = "How long the keys before are kept, for mail that is "
		       "still on its way." },
	{ "rotate_check", VALUE_DURATION, AT(dkim.rotate_check_us),
	    .default_text = "1h", BETWEEN(US_PER_S, 30 * US_PER_DAY),
	    .explain = "How often it is looked what rotation may go on." },
};
static const struct config_table dkim_table = { "dkim", KEYS(dkim_keys) };

static const struct config_key log_keys[] = {
	{ "level", VALUE_CHOICE, AT(log.level), .choices = level_names,
	    .default_text = "info",
	    .explain = "The least important lines that are written." },
	{ "format", VALUE_CHOICE, AT(log.format), .choices = format_names,
	    .default_text = "text",
	    .explain = "Lines for people or JSON for machines, to stderr." },
};
static const struct config_table log_table = { "log", KEYS(log_keys) };

static const struct config_key root_keys[] = {
	{ "hostname", VALUE_HOSTNAME, AT(hostname), .is_computed = true,
	    .default_text = "this host's full name",
	    .explain = "The name in EHLO, Received fields and message ids." },
	{ "data_dir", VALUE_PATH, AT(data_dir),
	    .default_text = "/var/lib/posthouse", .max = 94,
	    .explain = "Where the spool, the directory, events and the control "
		       "socket live." },
	{ "user", VALUE_NAME, AT(user), .default_text = "posthouse", .max = 32,
	    .explain = "What root becomes once the listeners are bound." },
	{ "tls", VALUE_MAP, .table = &tls_table,
	    .explain = "The server's certificate." },
	{ "listeners", VALUE_MAP, LIST(listeners, listener_count), .least = 1,
	    .table = &listener_table,
	    .explain = "Where clients connect; at least one." },
	{ "trusted_networks", VALUE_NETWORK,
	    LIST(trusted_networks, trusted_network_count), .default_text = "[]",
	    .explain = "Clients of a submission listener that may relay "
		       "without logging in, as the tenant `default`." },
	{ "routes", VALUE_MAP, LIST(routes, route_count), .default_text = "[]",
	    .table = &route_table,
	    .explain = "How mail leaves: the first route with the recipient's "
		       "domain is taken, and what none names goes by mx." },
	{ "resolver", VALUE_MAP, .table = &resolver_table,
	    .explain = "How names are looked up." },
	{ "mta_sts", VALUE_MAP, .table = &mta_sts_table,
	    .explain = "How policies of receiving domains are fetched." },
	{ "tls_reports", VALUE_MAP, .table = &tls_report_table,
	    .explain = "Reports to receiving domains on TLS." },
	{ "sources", VALUE_MAP, LIST(sources, source_count),
	    .default_text = "[]", .table = &source_table,
	    .explain = "Addresses that mail leaves from." },
	{ "pools", VALUE_MAP, LIST(pools, pool_count), .default_text = "[]",
	    .table = &pool_table, .explain = "Weighted sets of sources." },
	{ "shaping", VALUE_PATH, AT(shaping_path), .default_text = "",
	    .explain = "File with the limits of receiving systems, see "
		       "posthouse-shaping(5); empty: shaping.yaml beside this "
		       "file, if there is one." },
	{ "retry", VALUE_MAP, .table = &retry_table,
	    .explain =
		"When mail that could not be delivered is tried again." },
	{ "limits", VALUE_MAP, .table = &limit_table,
	    .explain = "What clients may use." },
	{ "delivery", VALUE_MAP, .table = &delivery_table,
	    .explain = "How mail is sent on." },
	{ "reports", VALUE_MAP, .table = &report_table,
	    .explain = "Delivery reports to senders." },
	{ "doctor", VALUE_MAP, .table = &doctor_table,
	    .explain = "What `posthouse doctor` asks of others." },
	{ "dkim", VALUE_MAP, .table = &dkim_table,
	    .explain = "Signatures of mail from sender domains." },
	{ "returns", VALUE_MAP, .table = &return_table,
	    .explain = "Bounces and complaints that come back by mail." },
	{ "suppressions", VALUE_MAP, .table = &suppression_table,
	    .explain = "Recipients that must not be sent to." },
	{ "log", VALUE_MAP, .table = &log_table,
	    .explain = "The service's own log." },
};
const struct config_table config_root_table = { NULL, KEYS(root_keys) };

_Static_assert(
    sizeof root_keys / sizeof *root_keys <= CONFIG_TABLE_KEYS_MAX &&
	sizeof limit_keys / sizeof *limit_keys <= CONFIG_TABLE_KEYS_MAX,
    "CONFIG_TABLE_KEYS_MAX holds the longest table");

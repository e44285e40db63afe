/* SPDX-License-Identifier: Apache-2.0 */

/* Every mistake is found, at its place, once, and told with its remedy. */

#include "base/buf.h"
#include "base/mem.h"
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
collect(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)file;
	buf_printf(arg, "%u:%u: %s\n", line, column, text);
}

/* The mistakes of the text, one per line. */
static const char *
mistakes_of(const char *text, struct buf *out)
{
	struct config *config = NULL;
	int code = config_parse(
	    span_of(text), "test.yaml", false, collect, out, &config);

	assert_int_equal(code, buf_size(out) ? ERR_SYNTAX : 0);
	assert_true((config != NULL) == (code == 0));
	config_unref(&config);
	return buf_cstring(out);
}

static size_t
count_lines(const char *text)
{
	size_t count = 0;

	for (; *text; text++)
		count += *text == '\n';
	return count;
}

#define HEAD                                                                   \
	"hostname: a.example\n"                                                \
	"listeners: [{address: \"127.0.0.1:1\", service: http}]\n"

struct row {
	const char *text;
	const char *expected; /* begins the only mistake */
	const char *also; /* stands somewhere in it, or NULL */
};

static const struct row rows[] = {
	{ "", "1:1: the file is empty", "listeners" },
	{ "~", "1:1: the file is empty", NULL },
	{ "[]", "1:1: the file must be a map", "is a list" },
	{ "hostname: a.example\n", "1:1: `listeners` is missing", NULL },
	{ "hostname: a.example\nlisteners: []\n",
	    "2:12: `listeners` has 0 entries; it must have 1", NULL },
	{ HEAD "limits: {recipents: 5}\n", "3:10: unknown key `recipents`",
	    "did you mean `recipients`?" },
	{ HEAD "recipients: 5\n", "3:1: unknown key `recipients`",
	    "belongs in limits" },
	{ HEAD "delivery: {message_rate: 100}\n",
	    "3:26: `delivery.message_rate`: `100` is not a rate", "6000/h" },
	{ HEAD "delivery: {message_rate: 5/y}\n",
	    "3:26: `delivery.message_rate`: `5/y` is not a rate", "6000/h" },
	{ HEAD "delivery: {message_rate: 9000000/s}\n",
	    "3:26: `delivery.message_rate`: 9000000 is too large",
	    "0 for any rate" },
	{ HEAD "zzz: 5\n", "3:1: unknown key `zzz`", "posthouse.yaml(5)" },
	{ HEAD "hostname: b.example\n", "3:1: `hostname` is given twice",
	    NULL },
	{ HEAD "? [a]\n: b\n", "3:3: a key must be a word", NULL },
	{ HEAD "user:\n", "3:6: `user` must be a name, but is empty", NULL },
	{ HEAD "user: ~\n", "3:7: `user` must be a name, but is empty", NULL },
	{ HEAD "user: \"\"\n", "3:7: `user`: must not be empty", NULL },
	{ HEAD "user: \"a b\"\n", "3:7: `user`: `a b` is not a name", NULL },
	{ HEAD "user: [a]\n", "3:7: `user` must be a name, but is a list",
	    NULL },
	{ HEAD "data_dir: data\n", "3:11: `data_dir`: `data` is not an abs",
	    "begin with `/`" },
	{ HEAD "data_dir: \"/a\\x07\"\n", "3:11: `data_dir`: contains a cont",
	    NULL },
	{ HEAD "limits: [1]\n", "3:9: limits must be a map", "is a list" },
	{ HEAD "limits: {recipients: x}\n",
	    "3:22: `limits.recipients`: `x` is not a number", NULL },
	{ HEAD "limits: {recipients: -1}\n",
	    "3:22: `limits.recipients`: `-1` is not a number", NULL },
	{ HEAD "limits: {recipients: 1.5}\n",
	    "3:22: `limits.recipients`: `1.5` is not a number", NULL },
	{ HEAD "limits: {recipients: \"5\"}\n",
	    "3:22: `limits.recipients`: `5` is not a number",
	    "without quotes" },
	{ HEAD "trusted_networks: ['x']\n",
	    "3:20: `trusted_networks`: `x` is not a network such as "
	    "\"192.0.2.0/24\" or \"2001:db8::/32\"\n",
	    NULL },
	{ HEAD "limits: {memory: 1M}\n", "3:18: one message may need 2M",
	    NULL },
	{ HEAD "limits: {recipients: 0}\n",
	    "3:22: `limits.recipients`: 0 is too small; write 1 to 100000",
	    NULL },
	{ HEAD "limits: {recipients: 99999999999}\n",
	    "3:22: `limits.recipients`: 99999999999 is too large", NULL },
	{ HEAD "limits: {message_size: 3G}\n",
	    "3:24: `limits.message_size`: 3G is too large; write 1K to 2G",
	    NULL },
	{ HEAD "limits: {message_size: 3Q}\n",
	    "3:24: `limits.message_size`: `3Q` is not a size", NULL },
	{ HEAD "limits: {message_size: 99999999999999999999G}\n",
	    "3:24: `limits.message_size`: `9", NULL },
	{ HEAD "limits: {idle_time: 30}\n",
	    "3:21: `limits.idle_time`: `30` has no unit", "30s, 30m" },
	{ HEAD "limits: {idle_time: 5 minutes}\n",
	    "3:21: `limits.idle_time`: `5 minutes` is not a duration", NULL },
	{ HEAD "limits: {line_length: 80}\n", "3:23: lines of 998", NULL },
	{ HEAD "resolver: {dnssec: yes}\n",
	    "3:20: `resolver.dnssec`: `yes` is not understood",
	    "write false or true" },
	{ HEAD "resolver: {dnssec: \"true\"}\n",
	    "3:20: `resolver.dnssec`: the quoted `true`", NULL },
	{ HEAD "resolver: {servers: [ns.example]}\n",
	    "3:22: `resolver.servers`: `ns.example` is not the address", NULL },
	{ HEAD "log: {level: loud}\n", "3:14: `log.level`: `loud`",
	    "debug, info, warning or error" },
	{ HEAD "delivery: {private_networks: true}\n",
	    "3:30: `delivery.private_networks`: `true`", "refuse or allow" },
	{ HEAD "retry: {schedule: 5m}\n",
	    "3:19: `retry.schedule` must be a list", "is a single value" },
	{ HEAD "retry: {schedule: []}\n",
	    "3:19: `retry.schedule` has 0 entries", "1 to 16" },
	{ HEAD "retry: {schedule: [1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,"
	       "1s,1s,1s]}\n",
	    "3:19: `retry.schedule` has 17 entries", NULL },
	{ HEAD "retry: {schedule: [0s]}\n",
	    "3:20: `retry.schedule`: 0s is too small", NULL },
	{ HEAD "retry: {schedule: [5m], expire: 1m}\n",
	    "3:33: mail would expire before its first retry", NULL },
	{ HEAD "tls: {certificate: /c}\n", "3:6: tls.certificate and",
	    "give both or none" },
	{ HEAD "reports: {postmaster: a b}\n",
	    "3:23: `reports.postmaster`: `a b` is not a mailbox", NULL },
	/* YAML itself */
	{ "a: [\n", "2:1: not readable as YAML", "begins at line" },
	{ "a: b: c\n", "1:5: not readable as YAML", NULL },
	{ "\ta: b\n", "1:1: not readable as YAML", NULL },
	{ "a: \"\n", "2:1: not readable as YAML", NULL },
	{ "a: *b\n", "1:4: not readable as YAML", NULL },
	{ "a: 1\nb: \xff\n", "2:4: not readable as YAML", "UTF-8" },
	{ HEAD "---\na: b\n", "3:1: a second YAML document", NULL },
	{ HEAD "user: !!str a\n", "3:7: tags", NULL },
	{ "a: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n",
	    "1:19: maps and lists are nested too deeply", NULL },
};

static const struct row listener_rows[] = {
	{ "[{service: mx}]", "2:13: `listeners.address` is missing", NULL },
	{ "[7]", "2:13: listeners must be a map", "is a single value" },
	{ "[{address: \"1.2.3.4\", service: http}]",
	    "2:23: `listeners.address`: `1.2.3.4` is not an address with a",
	    NULL },
	{ "[{address: \"1.2.3.4:0\", service: http}]",
	    "2:23: `listeners.address`: `1.2.3.4:0` has port 0", NULL },
	{ "[{address: \"unix:x\", service: lmtp}]",
	    "2:23: `listeners.address`: `unix:x` has no absolute path", NULL },
	{ "[{address: \"unix:/x\", service: submission, tls: none}]\n"
	  "trusted_networks: [10.0.0.0/8]\n",
	    "2:23: a Unix socket is for lmtp and http", NULL },
	{ "[{address: \"1.2.3.4:5\", service: smtp}]",
	    "2:45: `listeners.service`: `smtp`", "submission, mx, lmtp or" },
	{ "[{address: \"1.2.3.4:5\", service: mx}]",
	    "2:13: this listener needs a certificate", "tls: none" },
	{ "[{address: \"1.2.3.4:5\", service: mx, tls: implicit}]",
	    "2:54: this listener needs a certificate", NULL },
	{ "[{address: \"1.2.3.4:5\", service: http, tls: starttls}]\n"
	  "tls: {certificate: /c, private_key: /k}",
	    "2:56: HTTP has no STARTTLS", NULL },
	{ "[{address: \"1.2.3.4:5\", service: submission, tls: none}]",
	    "2:62: nobody could send mail here", "trusted_networks" },
	{ "[{address: \"1.2.3.4:5\", service: http, proxy_protocol: true}]",
	    "2:67: anybody could forge", "proxy_networks" },
	{ "[{address: \"1.2.3.4:5\", service: http, proxy_networks: [\"::1\"]}"
	  "]",
	    "2:67: proxy_networks has no effect", NULL },
	{ "[{address: \"1.2.3.4:5\", service: http, proxy_protocol: true, "
	  "proxy_networks: [0.0.0.0/0]}]",
	    "2:89: this lets much of the Internet forge", NULL },
	{ "[{address: \"[::1]:5\", service: http},\n"
	  "  {address: \"[0::1]:5\", service: lmtp}]",
	    "3:13: the listener of line 2 has this address already", NULL },
	{ "[{address: \"1.2.3.4:5\", service: http}]\n"
	  "trusted_networks: [0.0.0.0/0]\n",
	    "3:20: this trusts much of the Internet", "open relay" },
	{ "[{address: \"1.2.3.4:5\", service: http}]\n"
	  "trusted_networks: [\"::/0\"]\n",
	    "3:20: this trusts much of the Internet", NULL },
	{ "[{address: \"1.2.3.4:5\", service: http}]\n"
	  "trusted_networks: [128.0.0.0/1, \"fc00::/7\"]\n",
	    "3:20: this trusts much of the Internet", NULL },
	{ "[{address: \"1.2.3.4:5\", service: http}]\n"
	  "trusted_networks: [\"fc00::/6\"]\n",
	    "3:20: this trusts much of the Internet", NULL },
	{ "[{address: \"1.2.3.4:5\", service: http}]\n"
	  "trusted_networks: [10.0.0.1/8]\n",
	    "3:20: `trusted_networks`: `10.0.0.1/8` has address bits", NULL },
	{ "[{address: \"1.2.3.4:5\", service: http}]\n"
	  "trusted_networks: [lan]\n",
	    "3:20: `trusted_networks`: `lan` is not a network", NULL },
	/* No second mistake that only follows from the first. */
	{ "[{address: \"1.2.3.4:5\", service: submission, tls: none}]\n"
	  "trusted_networks: lan\n",
	    "3:19: `trusted_networks` must be a list", NULL },
	{ "[{address: \"1.2.3.4:5\", service: mx}]\n"
	  "tls: {certificate: c, private_key: /k}\n",
	    "3:20: `tls.certificate`: `c` is not an absolute path", NULL },
};

static const struct row route_rows[] = {
	{ "{deliver: mx}", "4:5: `routes.domains` is missing", NULL },
	{ "{domains: [], deliver: mx}", "4:15: `routes.domains` has 0", NULL },
	{ "{domains: [a.example]}", "4:5: `routes.deliver` is missing", NULL },
	{ "{domains: [a..b], deliver: mx}",
	    "4:16: `routes.domains`: `a..b` is not a domain", NULL },
	{ "{domains: [\"*.*.b\"], deliver: mx}",
	    "4:16: `routes.domains`: `*.*.b` is not a domain", NULL },
	{ "{domains: [a.example, a.example], deliver: mx}",
	    "4:15: `a.example` is named before", NULL },
	{ "{domains: [a.example], deliver: mx, to: x}",
	    "4:45: `to` has no meaning", NULL },
	{ "{domains: [a.example], deliver: discard, to: x}",
	    "4:50: `to` has no meaning", NULL },
	{ "{domains: [a.example], deliver: smtp}",
	    "4:5: this route does not say where to", "host:port" },
	{ "{domains: [a.example], deliver: maildir}",
	    "4:5: this route does not say where to", "/directory" },
	{ "{domains: [a.example], deliver: maildir, to: x}",
	    "4:50: `routes.to`: must be an absolute path", NULL },
	{ "{domains: [a.example], deliver: smtp, to: \"unix:/x\"}",
	    "4:47: `routes.to`: a Unix socket is for deliver: lmtp", NULL },
	{ "{domains: [a.example], deliver: smtp, to: \"h.example:0\"}",
	    "4:47: `routes.to`: the port must be", NULL },
	{ "{domains: [a.example], deliver: smtp, to: \"::1:25\"}",
	    "4:47: `routes.to`: an IPv6 address needs brackets", NULL },
	{ "{domains: [a.example], deliver: smtp, to: \"a b:25\"}",
	    "4:47: `routes.to`: `a b` is not a domain name", NULL },
	{ "{domains: [a.example], deliver: smtp, to: \":25\"}",
	    "4:47: `routes.to`: `` is not a domain name", NULL },
	{ "{domains: [a.example], deliver: smtp, to: h.example, port: 26}",
	    "4:64: `port` is for deliver: mx", NULL },
	{ "{domains: [a.example], deliver: mx, port: 65536}",
	    "4:47: `routes.port`: 65536 is too large; write 1 to 65535", NULL },
	{ "{domains: [a.example], deliver: mx, tls_verify: true}",
	    "4:53: only a server named in `to`", NULL },
	{ "{domains: [a.example], deliver: smtp, to: h.example, tls: none, "
	  "tls_verify: true}",
	    "4:81: nothing can be verified", NULL },
	{ "{domains: [a.example], deliver: maildir, to: /m, tls: require}",
	    "4:59: this mail does not leave the machine", NULL },
	{ "{domains: [a.example], deliver: smtp, to: h.example, username: u}",
	    "4:68: `username` needs a password", NULL },
	{ "{domains: [a.example], deliver: smtp, to: h.example, "
	  "password_file: /p}",
	    "4:73: `password_file` needs a name", NULL },
	{ "{domains: [a.example], deliver: mx, username: u, password_file: /p}",
	    "4:51: there is no server to log in to", NULL },
	{ "{domains: [a.example], deliver: smtp, to: h.example, tls: none, "
	  "username: u, password_file: /p}",
	    "4:63: the password would cross the network", NULL },
	{ "{domains: [\"*\"], deliver: mx}\n"
	  "  - {domains: [a.example], deliver: mx}",
	    "5:5: this route is never reached", NULL },
};

static const struct row source_rows[] = {
	{ "[{name: a, address: 0.0.0.0}]", "3:30: this stands for any", NULL },
	{ "[{name: a, address: \"1.2.3.4:5\"}]",
	    "3:30: `sources.address`: `1.2.3.4:5` is not an IP address", NULL },
	{ "[{name: a, address: 1.2.3.4}, {name: a, address: 1.2.3.5}]",
	    "3:47: the name `a` is taken in sources", NULL },
	{ "[{name: a, address: 1.2.3.4}]\n"
	  "pools: [{name: p, sources: [{name: b}]}]\n",
	    "4:36: `pools.sources.name`: there is no source `b`", NULL },
	{ "[{name: a, address: 1.2.3.4}]\n"
	  "pools: [{name: p, sources: [{name: a, weight: 0}]}]\n",
	    "4:47: `pools.sources.weight`: 0 is too small", NULL },
	{ "[{name: a, address: 1.2.3.4}]\n"
	  "pools: [{name: p, sources: [{name: a}, {name: a}]}]\n",
	    "4:28: the source `a` is in this pool twice", NULL },
	{ "[{name: a, address: 1.2.3.4}]\npools: [{name: p, sources: []}]\n",
	    "4:28: `pools.sources` has 0 entries", NULL },
};

static void
check_rows(const struct row *row, size_t count, const char *head)
{
	for (; count; count--, row++) {
		struct buf out = BUF_EMPTY;
		char *AUTO_FREE text = mem_printf("%s%s\n", head, row->text);
		const char *found = mistakes_of(*head ? text : row->text, &out);
		if (count_lines(found) != 1 ||
		    strncmp(found, row->expected, strlen(row->expected)) != 0 ||
		    (row->also && !strstr(found, row->also)))
			fail_msg("%s\ngives\n%s\nnot\n%s … %s", text, found,
			    row->expected, row->also ? row->also : "");
		buf_done(&out);
	}
}

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static void
finds_single_mistakes(void **state)
{
	(void)state;
	check_rows(rows, COUNT(rows), "");
}

static void
checks_listeners(void **state)
{
	(void)state;
	check_rows(listener_rows, COUNT(listener_rows),
	    "hostname: a.example\nlisteners: ");
}

static void
checks_routes(void **state)
{
	(void)state;
	check_rows(route_rows, COUNT(route_rows), HEAD "routes:\n  - ");
}

static void
checks_sources(void **state)
{
	(void)state;
	check_rows(source_rows, COUNT(source_rows), HEAD "sources: ");
}

static void
finds_all_in_one_reading_in_order(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	assert_string_equal(
	    mistakes_of("log: {level: loud}\n"
			"pools: [{name: p, sources: [{name: b}]}]\n"
			"hostnam: a.example\n"
			"listeners: [{address: \"127.0.0.1:1\", "
			"service: http, tls: starttls}]\n"
			"limits: {recipients: 0, memory: x}\n",
		&out),
	    "1:14: `log.level`: `loud` is not understood; write debug, info, "
	    "warning or error\n"
	    "2:36: `pools.sources.name`: there is no source `b`; add it to "
	    "`sources` or correct the name\n"
	    "3:1: unknown key `hostnam`: did you mean `hostname`?\n"
	    "4:58: this listener needs a certificate; set tls.certificate and "
	    "tls.private_key, or write tls: none\n"
	    "4:58: HTTP has no STARTTLS; write tls: implicit or tls: none\n"
	    "5:22: `limits.recipients`: 0 is too small; write 1 to 100000\n"
	    "5:33: `limits.memory`: `x` is not a size such as 4096, 512K or "
	    "50M\n");
	buf_done(&out);
}

static void
stops_after_many_mistakes(void **state)
{
	struct buf text = BUF_EMPTY, out = BUF_EMPTY;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		buf_printf(&text, "zz%u: 1\n", i);
	const char *found = mistakes_of(buf_cstring(&text), &out);
	assert_int_equal(count_lines(found), 101);
	assert_non_null(strstr(found, "there are more mistakes"));
	buf_done(&text);
	buf_done(&out);
}

/* A list of lists of aliases would be ten million listeners. */
static void
bounds_aliases(void **state)
{
	struct buf text = BUF_EMPTY, out = BUF_EMPTY;

	(void)state;
	buf_append_str(&text,
	    "hostname: a.example\nroutes:\n"
	    "  - &r\n    deliver: mx\n    domains: [a.example");
	for (unsigned i = 0; i < 9000; i++)
		buf_append_str(&text, ", \"*\"");
	buf_append_str(&text, "]\n");
	for (unsigned i = 0; i < 900; i++)
		buf_append_str(&text, "  - *r\n");
	const char *found = mistakes_of(buf_cstring(&text), &out);
	assert_non_null(strstr(found, "aliases make the file longer"));
	buf_done(&text);
	buf_done(&out);
}

static void
survives_cycles(void **state)
{
	struct buf out = BUF_EMPTY;
	const char *found =
	    mistakes_of(HEAD "routes: &a\n  - *a\n  - {x: *a}\n", &out);

	(void)state;
	assert_non_null(strstr(found, "routes must be a map"));
	buf_done(&out);
}

static void
bears_what_windows_adds(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	assert_string_equal("", mistakes_of("\xef\xbb\xbf" HEAD, &out));
	buf_done(&out);
}

static void
refuses_a_huge_file(void **state)
{
	struct buf out = BUF_EMPTY;
	size_t size = 1024 * 1024 + 1;
	char *text = mem_alloc(size);
	struct config *config = NULL;

	(void)state;
	memset(text, '#', size);
	assert_int_equal(config_parse(span_from(text, size), "t", false,
			     collect, &out, &config),
	    ERR_SYNTAX);
	assert_non_null(strstr(buf_cstring(&out), "0:0: the file is larger"));
	mem_free(text);
	buf_done(&out);
}

/* What stands in the file may be meant for a terminal. */
static void
quotes_safely(void **state)
{
	struct buf out = BUF_EMPTY;
	const char *found = mistakes_of(HEAD
	    "user: \"\\e[2J\\x85 "
	    "long long long long long long long long long long long long "
	    "long long\"\n",
	    &out);

	(void)state;
	assert_null(strchr(found, '\033'));
	assert_non_null(strstr(found, "`?[2J? long"));
	assert_non_null(strstr(found, "…`"));
	assert_int_equal(count_lines(found), 1);
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_single_mistakes),
		cmocka_unit_test(checks_listeners),
		cmocka_unit_test(checks_routes),
		cmocka_unit_test(checks_sources),
		cmocka_unit_test(finds_all_in_one_reading_in_order),
		cmocka_unit_test(stops_after_many_mistakes),
		cmocka_unit_test(bounds_aliases),
		cmocka_unit_test(survives_cycles),
		cmocka_unit_test(bears_what_windows_adds),
		cmocka_unit_test(refuses_a_huge_file),
		cmocka_unit_test(quotes_safely),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "catch.h"

#include <fcntl.h>

static char dir[] = "/tmp/cli-test-XXXXXX";

static char *
write_config(const char *name, const char *text)
{
	char *path = mem_printf("%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

static int
make_dir(void **state)
{
	(void)state;
	unsetenv("POSTHOUSE_CONFIG");
	unsetenv("POSTHOUSE_CONTROL");
	return mkdtemp(dir) == NULL;
}

static int
remove_dir(void **state)
{
	AUTO_FREE char *command = mem_printf("rm -rf %s", dir);

	(void)state;
	return system(command);
}

/* ---- usage ------------------------------------------------------------- */

static void
usage_errors_exit_with_2(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "posthouse", "usage: posthouse COMMAND" },
		{ "posthouse fly", "no command `fly`" },
		{ "posthouse queue", "posthouse queue bounce" },
		{ "posthouse queue fly", "posthouse queue bounce" },
		{ "posthouse queue fly", "no command `queue fly`" },
		{ "posthouse tenant add", "an argument is missing" },
		{ "posthouse tenant add a b", "too many arguments" },
		{ "posthouse queue hold --reason x", "say --all" },
		{ "posthouse queue hold --all --reason \xff", "not UTF-8" },
		{ "posthouse queue bounce --stream bulk --domain b\xfc.test",
		    "`b?.test` is not UTF-8" },
		{ "posthouse tenant show \xff", "not UTF-8" },
		{ "posthouse tenant add", "usage: posthouse tenant add NAME" },
		{ "posthouse tenant add a b", "posthouse tenant add NAME" },
		{ "posthouse status x", "usage: posthouse status" },
		{ "posthouse status --fly", "usage: posthouse status" },
		{ "posthouse status --config", "usage: posthouse status" },
		{ "posthouse queue hold", "usage: posthouse queue hold" },
		{ "posthouse queue hold --reason x", "posthouse queue hold" },
		{ "posthouse queue hold --message X", "posthouse queue hold" },
		{ "posthouse top --interval soon", "not a duration" },
		{ "posthouse help fly", "no command `fly`" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct caught c;

		catch_run(&c, cli_run, cases[i].line, "");
		if (c.status != 2 || !caught_has(&c.err, cases[i].says) ||
		    buf_size(&c.out) > 0)
			fail_msg("%s: %d: %s", cases[i].line, c.status,
			    buf_cstring(&c.err));
		caught_done(&c);
	}
}

static void
help_is_no_error(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "posthouse help", "queue      hold" },
		{ "posthouse --help", "sandbox" },
		{ "posthouse help queue", "usage: posthouse queue verify" },
		{ "posthouse queue --help", "usage: posthouse queue verify" },
		{ "posthouse queue hold --help", "--reason TEXT" },
		{ "posthouse --version", "posthouse " },
		{ "posthouse version", "posthouse " },
		{ "posthouse version --json", "{\"version\":\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct caught c;

		catch_run(&c, cli_run, cases[i].line, "");
		if (c.status != 0 || !caught_has(&c.out, cases[i].says))
			fail_msg("%s: %d: %s", cases[i].line, c.status,
			    buf_cstring(&c.out));
		caught_done(&c);
	}
}

static int
put_in_order_and_run(int argc, char **argv)
{
	cli_put_command_first(argc, argv);
	return cli_run(argc, argv);
}

static void
options_may_stand_before_the_command(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "posthouse --json version", "{\"version\":\"" },
		{ "posthouse --config /x --json version", "{\"version\":\"" },
		{ "posthouse --control /x --json version", "{\"version\":\"" },
		{ "posthouse --help queue", "usage: posthouse queue verify" },
		{ "posthouse --version", "posthouse " },
		{ "posthouse --help", "sandbox" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct caught c;

		catch_run(&c, put_in_order_and_run, cases[i].line, "");
		if (c.status != 0 || !caught_has(&c.out, cases[i].says))
			fail_msg("%s: %d: %s", cases[i].line, c.status,
			    buf_cstring(&c.out));
		caught_done(&c);
	}
}

/* ---- config ------------------------------------------------------------ */

#define GOOD                                                                   \
	"hostname: relay.example.com\n"                                        \
	"listeners:\n"                                                         \
	"  - {address: \"127.0.0.1:2525\", service: mx, tls: none}\n"

static void
a_good_config_is_ok(void **state)
{
	AUTO_FREE char *path = write_config("good.yaml", GOOD);
	AUTO_FREE char *line =
	    mem_printf("posthouse config check --config %s", path);
	AUTO_FREE char *show =
	    mem_printf("posthouse config show --config %s", path);
	struct caught c;

	(void)state;
	catch_run(&c, cli_run, line, "");
	assert_int_equal(c.status, 0);
	assert_string_equal(buf_cstring(&c.out), "ok\n");
	caught_done(&c);
	catch_run(&c, cli_run, show, "");
	assert_int_equal(c.status, 0);
	assert_true(caught_has(&c.out, "hostname: relay.example.com\n"));
	caught_done(&c);
}

static void
each_mistake_has_its_place(void **state)
{
	AUTO_FREE char *path =
	    write_config("bad.yaml", GOOD "colour: red\nretry: {expire: x}\n");
	AUTO_FREE char *line =
	    mem_printf("posthouse config check --config %s", path);
	AUTO_FREE char *json = mem_printf("%s --json", line);
	AUTO_FREE char *first = mem_printf("%s:4:1: ", path);
	AUTO_FREE char *second = mem_printf("\n%s:5:17: ", path);
	struct caught c;

	(void)state;
	catch_run(&c, cli_run, line, "");
	assert_int_equal(c.status, 1);
	assert_memory_equal(buf_cstring(&c.out), first, strlen(first));
	assert_true(caught_has(&c.out, "colour"));
	assert_true(caught_has(&c.out, second));
	caught_done(&c);
	catch_run(&c, cli_run, json, "");
	assert_int_equal(c.status, 1);
	assert_true(caught_has(&c.out, "\"ok\":false"));
	assert_true(caught_has(&c.out, "\"line\":5,\"column\":17"));
	caught_done(&c);
}

static void
a_missing_config_is_said(void **state)
{
	struct caught c;

	(void)state;
	catch_run(&c, cli_run,
	    "posthouse config check --config /nonexistent/x.yaml", "");
	assert_int_equal(c.status, 1);
	assert_true(caught_has(&c.out, "/nonexistent/x.yaml: "));
	caught_done(&c);
}

/* ---- without a service ------------------------------------------------- */

static void
named_sockets_must_answer(void **state)
{
	struct caught c;

	(void)state;
	catch_run(
	    &c, cli_run, "posthouse status --control /nonexistent/x.sock", "");
	assert_int_equal(c.status, 1);
	assert_true(caught_has(&c.err, "the service is not running"));
	assert_int_equal(buf_size(&c.out), 0);
	caught_done(&c);
	catch_run(&c, cli_run,
	    "posthouse status --json --control /nonexistent/x.sock", "");
	assert_int_equal(c.status, 1);
	assert_true(
	    caught_has(&c.out, "{\"error\":{\"code\":\"service_not_running\""));
	caught_done(&c);
}

/* sysexits.h: 64 EX_USAGE, 75 EX_TEMPFAIL, 78 EX_CONFIG */
static void
sendmail_has_its_own_statuses(void **state)
{
	static const struct {
		const char *line;
		int status;
	} cases[] = {
		{ "sendmail --control /nonexistent/x.sock a@b", 75 },
		{ "sendmail -bs", 64 },
		{ "sendmail -bi", 0 },
		{ "newaliases", 0 },
		{ "sendmail -q", 0 },
		{ "sendmail --config /nonexistent/x.yaml a@b", 78 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct caught c;

		catch_run(&c, cli_sendmail, cases[i].line, "hello\n");
		if (c.status != cases[i].status)
			fail_msg("%s: %d: %s", cases[i].line, c.status,
			    buf_cstring(&c.err));
		caught_done(&c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(usage_errors_exit_with_2),
		cmocka_unit_test(help_is_no_error),
		cmocka_unit_test(options_may_stand_before_the_command),
		cmocka_unit_test(a_good_config_is_ok),
		cmocka_unit_test(each_mistake_has_its_place),
		cmocka_unit_test(a_missing_config_is_said),
		cmocka_unit_test(named_sockets_must_answer),
		cmocka_unit_test(sendmail_has_its_own_statuses),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

/* SPDX-License-Identifier: Apache-2.0 */

/* Commands against handlers in their own process, and against a server. */

#include "api/api.h"
#include "base/mem.h"
#include "catch.h"
#include "cli/internal.h"
#include "os/socket.h"

#include <pwd.h>
#include <sys/stat.h>

static char dir[] = "/tmp/cli-test-XXXXXX";
static char config_path[64];

static int
make_dir(void **state)
{
	FILE *f;

	(void)state;
	unsetenv("POSTHOUSE_CONTROL");
	if (mkdtemp(dir) == NULL)
		return 1;
	chmod(dir, 0755);
	snprintf(config_path, sizeof(config_path), "%s/c.yaml", dir);
	f = fopen(config_path, "w");
	if (f == NULL)
		return 1;
	/* As root, files are made as the config's user. */
	fprintf(f,
	    "hostname: relay.example.com\ndata_dir: %s/data\nuser: nobody\n"
	    "listeners:\n"
	    "  - {address: \"127.0.0.1:2525\", service: mx, tls: none}\n",
	    dir);
	fclose(f);
	return setenv("POSTHOUSE_CONFIG", config_path, 1);
}

static int
remove_dir(void **state)
{
	AUTO_FREE char *command = mem_printf("rm -rf %s", dir);

	(void)state;
	return system(command);
}

static void
expect(const char *line, int status, const char *says)
{
	struct caught c;

	catch_run(&c, cli_run, line, "");
	if (c.status != status ||
	    !caught_has(status == 0 ? &c.out : &c.err, says))
		fail_msg("%s: %d: %s%s", line, c.status, buf_cstring(&c.out),
		    buf_cstring(&c.err));
	caught_done(&c);
}

/* The same commands, whoever answers. */
static void
manage_the_directory(const char *tenant)
{
	AUTO_FREE char *add = mem_printf("posthouse tenant add %s", tenant);
	AUTO_FREE char *show = mem_printf("posthouse tenant show %s", tenant);
	AUTO_FREE char *stream =
	    mem_printf("posthouse stream add news --class bulk --expire 2d "
		       "--tenant %s --json",
		tenant);
	AUTO_FREE char *credential =
	    mem_printf("posthouse credential add --tenant %s --stream news "
		       "--networks 192.0.2.0/24,::1 --json",
		tenant);
	AUTO_FREE char *list =
	    mem_printf("posthouse credential list --tenant %s", tenant);
	AUTO_FREE char *remove =
	    mem_printf("posthouse tenant remove %s", tenant);

	expect(add, 0, "is added");
	expect(add, 1, "already");
	expect(show, 0, "enabled      yes");
	expect("posthouse tenant list", 0, tenant);
	expect(stream, 0, "\"expire\":\"2d\"");
	expect(credential, 0, "\"password\":\"");
	expect(credential, 0, "\"networks\":[\"192.0.2.0/24\",\"::1/128\"]");
	expect(list, 0, "192.0.2.0/24 ::1/128");
	expect("posthouse stream list", 0, "bulk");
	expect("posthouse credential show none", 1, "no credential `none`");
	expect("posthouse tenant show a/../b", 1, "nothing at");
	expect("posthouse tenant show a%2e?b=c#d", 1, "no tenant `a%2e?b=c#d`");
	expect("posthouse events --json", 0, "{\"events\":[]}");
	expect("posthouse events --type x", 1, "no type of event");
	expect(remove, 0, "disabled for good");
	expect(show, 0, "enabled      no");
}

static void
without_a_service_commands_answer_themselves(void **state)
{
	(void)state;
	manage_the_directory("alone");
	expect("posthouse status", 1, "the service is not running");
	expect("posthouse queue list", 1, "the service is not running");
	expect("posthouse trace", 1, "the service is not running");
	if (geteuid() == 0) {
		AUTO_FREE char *path = mem_printf("%s/data/directory.db", dir);
		const struct passwd *nobody = getpwnam("nobody");
		struct stat st;

		assert_non_null(nobody);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_uid, nobody->pw_uid);
	}
}

static void
with_a_service_it_is_asked(void **state)
{
	AUTO_FREE char *database = mem_printf("%s/served.db", dir);
	AUTO_FREE char *socket = mem_printf("%s/s.sock", dir);
	AUTO_FREE char *address_text = mem_printf("unix:%s", socket);
	struct api api = { .data_dir = dir };
	struct netaddr address;
	struct api_server *server;
	struct failure failure;

	(void)state;
	assert_int_equal(directory_open(database, &api.directory, &failure), 0);
	assert_true(netaddr_parse(span_of(address_text), &address));
	int fd = socket_listen(&address, 0);
	assert_true(fd >= 0);
	assert_int_equal(
	    api_server_start(&api, fd, false, &server, &failure), 0);
	setenv("POSTHOUSE_CONTROL", socket, 1);
	manage_the_directory("served");
	unsetenv("POSTHOUSE_CONTROL");
	expect("posthouse tenant show served", 1, "no tenant");
	api_server_stop(&server);
	directory_close(&api.directory);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_service_commands_answer_themselves),
		cmocka_unit_test(with_a_service_it_is_asked),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "os/file.h"
#include "stage.h"

#include <dirent.h>
#include <sys/stat.h>

/* Deliveries that end on this machine: LMTP, Maildir, nothing. */

#define EVENT(type) "\"type\":\"" type "\""

static const struct stage_mail simple = {
	.body = "Subject: a\r\n\r\nhello\r\n",
	.rcpts = { "a@y.example" },
};

/* ---- Maildir ---- */

/* Files in a directory; the content of the last one seen. */
static unsigned
count_files(const char *base, const char *part, struct buf *content)
{
	char *AUTO_FREE path = mem_printf("%s/%s", base, part);
	unsigned n = 0;
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (e->d_name[0] == '.')
			continue;
		char *AUTO_FREE file = mem_printf("%s/%s", path, e->d_name);
		buf_clear(content);
		assert_int_equal(file_read(file, 1 << 20, content), 0);
		n++;
	}
	(void)closedir(dir);
	return n;
}

static void
begin_maildir(struct stage *s, char *path, size_t size)
{
	(void)snprintf(path, size, "/tmp/deliver-maildir.XXXXXX");
	assert_non_null(mkdtemp(path));
	char *AUTO_FREE route = mem_printf(
	    "  - {domains: [\"*\"], deliver: maildir, to: \"%s/box\"}\n", path);
	stage_open(s, route, "retry: {schedule: [100ms], jitter_percent: 0}\n");
}

static void
end_maildir(struct stage *s, const char *path)
{
	stage_close(s);
	(void)nftw(path, stage_remove_file, 16, FTW_DEPTH | FTW_PHYS);
}

static void
test_maildir(void **state)
{
	struct stage_mail mail = simple;
	struct buf content = BUF_EMPTY;
	struct stage s;
	char path[64];
	(void)state;
	mail.body = "Subject: a\r\n\r\n.dot\r\n\xff\rcr\r\n\r\nend";
	mail.flags = SPOOL_DOTS | SPOOL_8BIT;
	begin_maildir(&s, path, sizeof path);
	char *AUTO_FREE box = mem_printf("%s/box", path);
	(void)stage_submit(&s, &mail);
	stage_run_until(&s, EVENT("delivered"), 1);
	assert_int_equal(count_files(box, "new", &content), 1);
	assert_string_equal(buf_cstring(&content),
	    "Return-Path: <sender@source.example>\n"
	    "Delivered-To: a@y.example\n"
	    "Received: by relay.example.com; now\n"
	    "Subject: a\n\n.dot\n\xff\rcr\n\nend");
	assert_int_equal(count_files(box, "tmp", &content), 0);
	assert_int_equal(stage_count(&s, "\"route\":\"maildir\""), 1);
	assert_int_equal(stage_live(&s), 0);
	buf_done(&content);
	end_maildir(&s, path);
}

static void
test_maildir_one_file_each(void **state)
{
	struct stage_mail mail = simple;
	struct buf content = BUF_EMPTY;
	struct stage s;
	char path[64];
	(void)state;
	mail.rcpts[1] = "b@y.example";
	mail.rcpts[2] = "c@y.example";
	mail.notify = SMTP_NOTIFY_SUCCESS;
	begin_maildir(&s, path, sizeof path);
	char *AUTO_FREE box = mem_printf("%s/box", path);
	(void)stage_submit(&s, &mail);
	(void)stage_submit(&s, &simple);
	stage_run_until(&s, EVENT("delivered"), 4);
	assert_int_equal(count_files(box, "new", &content), 4);
	stage_await_reports(&s, 1);
	assert_true(stage_report_says(&s, "Action: delivered\r\n"));
	buf_done(&content);
	end_maildir(&s, path);
}

/* It is in the way at first, and then no more. */
static void
test_maildir_cannot_be_written(void **state)
{
	struct stage s;
	char path[64];
	(void)state;
	begin_maildir(&s, path, sizeof path);
	char *AUTO_FREE box = mem_printf("%s/box", path);
	FILE *file = fopen(box, "w");
	assert_non_null(file);
	(void)fclose(file);
	(void)stage_submit(&s, &simple);
	stage_run_until(&s, EVENT("deferred"), 1);
	assert_int_equal(stage_count(&s, "\"enhanced\":\"4.3.0\""), 1);
	assert_int_equal(unlink(box), 0);
	stage_run_until(&s, EVENT("delivered"), 1);
	end_maildir(&s, path);
}

static void
test_binary_keeps_its_octets(void **state)
{
	struct stage_mail mail = simple;
	struct buf content = BUF_EMPTY;
	struct stage s;
	char path[64];
	(void)state;
	mail.body = "A: b\r\n\r\n\n\r\r\n";
	mail.flags = SPOOL_BINARY;
	begin_maildir(&s, path, sizeof path);
	char *AUTO_FREE box = mem_printf("%s/box", path);
	(void)stage_submit(&s, &mail);
	stage_run_until(&s, EVENT("delivered"), 1);
	assert_int_equal(count_files(box, "new", &content), 1);
	assert_true(span_ends_nocase(
	    buf_span(&content), SPAN("now\r\nA: b\r\n\r\n\n\r\r\n")));
	buf_done(&content);
	end_maildir(&s, path);
}

/* ---- discard ---- */

static void
test_discard(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, "  - {domains: [\"*\"], deliver: discard}\n", "");
	for (unsigned i = 0; i < 200; i++)
		(void)stage_submit(&s, &simple);
	stage_run_until(&s, EVENT("delivered"), 200);
	assert_int_equal(stage_live(&s), 0);
	struct schedule_stats stats;
	stage_run_for(&s, 5 * US_PER_MS);
	schedule_stats(dispatch_schedule(s.dispatch), &stats);
	assert_int_equal(stats.connections, 0);
	assert_int_equal(stats.recipients, 0);
	stage_close(&s);
}

/* ---- LMTP ---- */

static void
test_lmtp(void **state)
{
	static const struct peer_script script = {
		.end_each = { NULL, "452 4.2.2 full", "550 5.7.1 no" },
	};
	struct stage_mail mail = simple;
	struct peer peer = { .tls = NULL };
	struct netaddr address = { .family = NETADDR_UNIX };
	struct stage s;
	(void)state;
	(void)snprintf(address.path, sizeof address.path,
	    "/tmp/deliver-lmtp.%ld", (long)getpid());
	(void)unlink(address.path);
	peer_start(&peer, &address, &script, 1);
	char *AUTO_FREE route = mem_printf(
	    "  - {domains: [\"*\"], deliver: lmtp, to: \"unix:%s\"}\n",
	    address.path);
	stage_open(&s, route, "");
	mail.rcpts[1] = "b@y.example";
	mail.rcpts[2] = "c@y.example";
	mail.notify = SMTP_NOTIFY_SUCCESS;
	(void)stage_submit(&s, &mail);
	stage_run_until(&s, EVENT("bounced"), 1);
	stage_await_reports(&s, 1);
	assert_true(stage_report_says(&s, "Action: delivered\r\n"));
	assert_false(stage_report_says(&s, "Remote-MTA:"));
	assert_int_equal(stage_count(&s, EVENT("delivered")), 1);
	assert_int_equal(stage_count(&s, EVENT("deferred")), 1);
	assert_int_equal(stage_count(&s, "\"route\":\"lmtp\""), 3);
	assert_true(peer_heard(&peer, "LHLO relay.example.com"));
	stage_close(&s);
	peer_stop(&peer);
	(void)unlink(address.path);
}

static void
test_lmtp_socket_is_missing(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s,
	    "  - {domains: [\"*\"], deliver: lmtp, "
	    "to: \"unix:/tmp/deliver-nobody\"}\n",
	    "");
	(void)stage_submit(&s, &simple);
	stage_run_until(&s, EVENT("deferred"), 1);
	assert_int_equal(stage_count(&s, "\"step\":\"connect\""), 1);
	assert_int_equal(stage_live(&s), 1);
	stage_close(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maildir),
		cmocka_unit_test(test_maildir_one_file_each),
		cmocka_unit_test(test_maildir_cannot_be_written),
		cmocka_unit_test(test_binary_keeps_its_octets),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_lmtp),
		cmocka_unit_test(test_lmtp_socket_is_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

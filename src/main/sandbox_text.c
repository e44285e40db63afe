/* SPDX-License-Identifier: Apache-2.0 */
#include "main/sandbox_text.h"

#include "base/mem.h"
#include "os/file.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void
sandbox_fill_places(struct sandbox_places *p)
{
	p->certificate = mem_printf("%s/tls/cert.pem", p->dir);
	p->key = mem_printf("%s/tls/key.pem", p->dir);
	p->relay_data = mem_printf("%s/relay", p->dir);
	p->receiver_data = mem_printf("%s/receiver", p->dir);
	p->receiver_events = mem_printf("%s/receiver/events", p->dir);
	p->maildir = mem_printf("%s/Maildir", p->dir);
	/* Where the confined service may write. */
	p->credential = mem_printf("%s/relay/credential.json", p->dir);
}

/* A path as a YAML scalar: JSON strings are YAML. */
static void
put_path(struct buf *out, const char *key, const char *path)
{
	buf_append_str(out, key);
	buf_append_json(out, span_of(path));
	buf_append_char(out, '\n');
}

static void
put_common(const struct sandbox_places *p, const char *data, struct buf *out)
{
	buf_append_str(out, "hostname: sandbox.localhost\n");
	put_path(out, "data_dir: ", data);
	buf_append_str(out, "tls:\n");
	put_path(out, "  certificate: ", p->certificate);
	put_path(out, "  private_key: ", p->key);
	buf_append_str(out, "log: {level: warning}\n");
	buf_append_str(
	    out, "delivery: {private_networks: allow, threads: 1}\n");
}

void
sandbox_relay_config(const struct sandbox_places *p, struct buf *out)
{
	put_common(p, p->relay_data, out);
	buf_printf(out,
	    "listeners:\n"
	    "  - {address: \"127.0.0.1:%u\", service: submission, tls: "
	    "starttls}\n"
	    "  - {address: \"127.0.0.1:%u\", service: submission, tls: "
	    "implicit}\n"
	    "routes:\n"
	    "  - {domains: [\"*\"], deliver: smtp, to: \"127.0.0.1:%u\"}\n"
	    "retry: {schedule: [1s, 2s, 5s, 10s]}\n",
	    p->port, p->port + 1U, p->port + 2U);
}

void
sandbox_receiver_config(const struct sandbox_places *p, struct buf *out)
{
	put_common(p, p->receiver_data, out);
	buf_printf(out,
	    "listeners:\n"
	    "  - {address: \"127.0.0.1:%u\", service: mx, tls: starttls}\n"
	    "routes:\n"
	    "  - domains: [\"*\"]\n"
	    "    deliver: maildir\n",
	    p->port + 2U);
	put_path(out, "    to: ", p->maildir);
}

/* ---- the credential ---------------------------------------------------- */

static bool
read_kept(const struct sandbox_places *p, struct sandbox_credential *c)
{
	struct buf text = BUF_EMPTY;
	const char *username = NULL, *password = NULL;
	json_t *root = NULL;
	bool good = false;

	if (file_read(p->credential, 4096, &text) == 0)
		root = json_loadb(text.ptr, buf_size(&text), 0, NULL);
	if (root != NULL && json_unpack(root, "{s:s, s:s}", "username",
				&username, "password", &password) == 0)
		good = span_to_cstring(span_of(username), c->username,
			   sizeof(c->username)) &&
		       span_to_cstring(
			   span_of(password), c->password, sizeof(c->password));
	json_decref(root);
	buf_done(&text);
	return good;
}

static bool
still_good(struct directory *directory, const struct sandbox_credential *c)
{
	struct directory_snapshot *s = directory_snapshot(directory);
	const struct directory_credential *found =
	    directory_find_credential(s, span_of(c->username));
	bool good = found != NULL && !found->revoked &&
		    directory_check_secret(found, span_of(c->password));

	directory_snapshot_unref(&s);
	return good;
}

int
sandbox_credential(const struct sandbox_places *p, struct directory *directory,
    struct sandbox_credential *c, struct failure *f)
{
	static const struct directory_new_credential wanted = { .name =
								    "sandbox" };
	struct directory_made_credential made;
	struct buf text = BUF_EMPTY;

	if (read_kept(p, c) && still_good(directory, c))
		return 0;
	TRY(directory_add_credential(directory, &wanted, &made, f));
	memcpy(c->username, made.username, sizeof(c->username));
	memcpy(c->password, made.password, sizeof(c->password));
	mem_wipe(&made, sizeof(made));
	buf_printf(&text, "{\"username\": \"%s\", \"password\": \"%s\"}\n",
	    c->username, c->password);
	int result = file_replace(p->credential, buf_span(&text), 0600);
	mem_wipe(text.ptr, text.len);
	buf_done(&text);
	if (result < 0)
		return failure_set(f, result, "cannot write %s: %s",
		    p->credential, error_text(result));
	return 0;
}

/* ---- lines for people -------------------------------------------------- */

static void
print_examples(
    const struct sandbox_places *p, const struct sandbox_credential *c)
{
	printf("swaks:\n"
	       "  swaks --server 127.0.0.1:%u --tls --auth-user '%s' "
	       "--auth-password '%s' --from you@example.com "
	       "--to friend@example.net --header 'Subject: hello'\n\n",
	    p->port, c->username, c->password);
	printf(
	    "curl:\n"
	    "  printf 'From: you@example.com\\r\\nTo: friend@example.net\\r\\n"
	    "Subject: hello\\r\\n\\r\\nHello.\\r\\n' | curl --silent "
	    "--show-error --ssl-reqd --cacert '%s' --connect-to "
	    "localhost:%u:127.0.0.1:%u --user '%s:%s' --mail-from "
	    "you@example.com --mail-rcpt friend@example.net --upload-file - "
	    "smtp://localhost:%u\n\n",
	    p->certificate, p->port, p->port, c->username, c->password,
	    p->port);
	printf(
	    "Python:\n"
	    "  python3 -c \"import smtplib, ssl; s = smtplib.SMTP('localhost'"
	    ", %u); s.starttls(context=ssl.create_default_context(cafile="
	    "'%s')); s.login('%s', '%s'); s.sendmail('you@example.com', "
	    "['friend@example.net'], 'Subject: hello\\r\\n\\r\\nHello.\\r\\n')"
	    "\"\n\n",
	    p->port, p->certificate, c->username, c->password);
}

/* The program may not be in the PATH yet: it is named as it runs. */
static void
print_commands(const struct sandbox_places *p)
{
	char program[4096];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

	program[n > 0 ? n : 0] = '\0';
	printf("What became of it:\n"
	       "  export POSTHOUSE_CONTROL='%s/control.sock'\n"
	       "  '%s' status      # also: events, queue summary, "
	       "message show ID, trace\n\n",
	    p->relay_data, n > 0 ? program : "posthouse");
}

void
sandbox_print_welcome(const struct sandbox_places *p,
    const struct sandbox_credential *c, bool json)
{
	if (json) {
		json_t *root = json_pack(
		    "{s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:s}", "username",
		    c->username, "password", c->password, "host", "127.0.0.1",
		    "port", p->port, "port_tls", p->port + 1, "receiver_port",
		    p->port + 2, "certificate", p->certificate, "maildir",
		    p->maildir, "data_dir", p->relay_data);

		json_dumpf(root, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(root);
		fflush(stdout);
		return;
	}
	printf("posthouse sandbox: a relay from which nothing leaves this "
	       "machine\n\n"
	       "  submission   127.0.0.1:%u (STARTTLS), 127.0.0.1:%u (TLS)\n"
	       "  user         %s\n"
	       "  password     %s\n"
	       "  certificate  %s\n"
	       "  all mail     %s\n\n"
	       "Paste one of these into another terminal:\n\n",
	    p->port, p->port + 1U, c->username, c->password, p->certificate,
	    p->maildir);
	print_examples(p, c);
	print_commands(p);
	printf("Arrivals (^C ends the sandbox):\n");
	fflush(stdout);
}

static const char *
text_of(json_t *event, const char *key, const char *otherwise)
{
	const char *value = json_string_value(json_object_get(event, key));

	return value != NULL && value[0] != '\0' ? value : otherwise;
}

/* Addresses hold no control characters; a subject may, and is escaped. */
static void
print_arrival(json_t *event)
{
	struct buf subject = BUF_EMPTY;

	buf_append_json(
	    &subject, span_of(text_of(event, "subject", "(no subject)")));
	printf("  %.19s  %s -> %s  %s\n", text_of(event, "time", ""),
	    text_of(event, "sender", "<>"), text_of(event, "recipient", ""),
	    buf_cstring(&subject));
	buf_done(&subject);
}

void
sandbox_print_arrivals(struct span events, bool json)
{
	while (events.len > 0) {
		struct span line = span_cut(&events, '\n');
		json_t *event = json_loadb(line.ptr, line.len, 0, NULL);

		if (json)
			printf("%.*s\n", SPAN_ARG(line));
		else if (event != NULL)
			print_arrival(event);
		json_decref(event);
	}
	fflush(stdout);
}

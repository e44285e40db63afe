/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The other end of the control socket, by libcurl. When no service runs the
 * same handlers answer in this process, with the directory and the event files
 * only; what needs the service is then refused by them in the same words.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "base/netaddr.h"
#include "cli/internal.h"
#include "os/file.h"
#include "os/privilege.h"
#include "os/socket.h"

#include <curl/curl.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

/* Answers that are gathered, and no message, are not larger. */
#define ANSWER_MAX ((size_t)256 * 1024 * 1024)

struct client {
	char *socket; /* NULL: in this process */
	struct config *config; /* may be NULL */
	struct directory *directory;
	struct api api;
};

/* ---- finding the service ----------------------------------------------- */

/* 0: somebody listens. */
static int
probe(const char *path)
{
	AUTO_FREE char *text = mem_printf("unix:%s", path);
	struct netaddr address;

	if (!netaddr_parse(span_of(text), &address))
		return -ENAMETOOLONG;
	int fd = socket_connect(&address, NULL);
	if (fd < 0)
		/* All its places are taken: it lives. */
		return fd == -EAGAIN ? 0 : fd;
	close(fd);
	return 0;
}

static bool
is_absent(int result)
{
	return result == -ENOENT || result == -ECONNREFUSED ||
	       result == -ENOTDIR;
}

static int
explain_absence(const char *socket, int result, struct failure *f)
{
	if (is_absent(result))
		return failure_set(f, ERR_CLOSED,
		    "the service is not running: nothing listens on %s; "
		    "start it with `posthouse serve` or `systemctl start "
		    "posthouse`",
		    socket);
	if (result == -EACCES || result == -EPERM)
		return failure_set(f, result,
		    "no permission for the control socket %s: run this as "
		    "root, or as a member of the group that owns it",
		    socket);
	return failure_set(f, result,
	    "cannot connect to the control socket %s: %s", socket,
	    error_text(result));
}

/* ---- without a service ------------------------------------------------- */

/* Files that we make must be the service's: root becomes its user first. */
static int
become_owner(const struct config *config, struct failure *f)
{
	const char *dir = config->data_dir;
	const struct passwd *user;
	int result = file_make_directory(dir, 0751);

	if (result < 0)
		return failure_set(f, result,
		    "cannot make data_dir %s: %s; run this as root or as %s",
		    dir, error_text(result), config->user);
	if (geteuid() != 0)
		return 0;
	user = getpwnam(config->user);
	if (user != NULL && chown(dir, user->pw_uid, user->pw_gid) < 0)
		return failure_set(f, -errno, "cannot give %s to %s: %s", dir,
		    config->user, error_text(-errno));
	return privilege_drop(config->user, f);
}

static struct config *
config_here(void *client)
{
	return config_ref(((struct client *)client)->config);
}

static int
open_here(struct client *c, struct failure *f)
{
	const char *dir = c->config->data_dir;
	AUTO_FREE char *path = mem_printf("%s/directory.db", dir);

	TRY(become_owner(c->config, f));
	TRY(directory_open(path, &c->directory, f));
	c->api = (struct api){
		.directory = c->directory,
		.data_dir = dir,
		.config = config_here,
		.owner = c,
	};
	return 0;
}

/* ---- opening ----------------------------------------------------------- */

static int
load_config(struct client *c, const char *path, struct failure *f)
{
	c->config = config_load_for(path, false, stderr);
	if (c->config == NULL)
		return failure_set(f, ERR_SYNTAX,
		    "without a config there is no control socket; name the "
		    "file with --config, or the socket of a running service "
		    "with --control");
	c->socket = mem_printf("%s/control.sock", c->config->data_dir);
	return 0;
}

/* For users who may hand in mail and nothing else. */
static int
use_submission_socket(struct client *c)
{
	mem_free(c->socket);
	c->socket = mem_printf("%s/submit.sock", c->config->data_dir);
	return probe(c->socket);
}

static int
open_client(struct client *c, const char *config_path, const char *control,
    int flags, struct failure *f)
{
	if (control != NULL)
		c->socket = mem_strdup(control);
	else
		TRY(load_config(c, config_path, f));
	int result = probe(c->socket);
	if ((result == -EACCES || result == -EPERM) &&
	    (flags & CLIENT_SUBMITS) != 0 && control == NULL)
		result = use_submission_socket(c);
	if (result == 0)
		return 0;
	if (!is_absent(result) || control != NULL ||
	    (flags & CLIENT_NEEDS_SERVICE) != 0)
		return explain_absence(c->socket, result, f);
	mem_free(c->socket);
	c->socket = NULL;
	return open_here(c, f);
}

int
client_open(const char *config_path, const char *control, int flags,
    struct client **ret_client, struct failure *ret_failure)
{
	struct client *c = MEM_NEW(struct client);
	int result = open_client(c, config_path, control, flags, ret_failure);

	if (result < 0)
		client_close(&c);
	else
		*ret_client = c;
	return result;
}

void
client_close(struct client **client)
{
	struct client *c = *client;

	if (c == NULL)
		return;
	directory_close(&c->directory);
	config_unref(&c->config);
	mem_free(c->socket);
	mem_free(c);
	*client = NULL;
}

const struct config *
client_config(const struct client *client)
{
	return client->config;
}

/* ---- by HTTP ----------------------------------------------------------- */

struct transfer {
	CURL *curl;
	const struct question *question;
	struct answer answer;
	bool ended; /* by the one who asked */
};

static size_t
on_received(char *bytes, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	struct span piece = span_from(bytes, size * count);
	long status = 0;

	(void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (t->question->on_piece != NULL && status < 300) {
		t->ended = !t->question->on_piece(t->question->arg, piece);
		return t->ended ? 0 : piece.len;
	}
	if (buf_size(&t->answer.body) + piece.len > ANSWER_MAX)
		return 0;
	buf_append(&t->answer.body, piece);
	return piece.len;
}

/* Everything but the unreserved characters of RFC 3986 and, in a path, '/'. */
static void
append_escaped(struct buf *out, const char *text, bool is_path)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";

	for (; *text != '\0'; text++) {
		if (strchr(plain, *text) != NULL || (is_path && *text == '/'))
			buf_append_char(out, *text);
		else
			buf_printf(out, "%%%02X", (unsigned char)*text);
	}
}

static void
append_url(struct buf *out, const struct question *q)
{
	const struct pair *p = q->query;
	char separator = '?';

	buf_append_str(out, "http://localhost");
	append_escaped(out, q->path, true);
	for (; p != NULL && p->name != NULL; p++) {
		if (p->value == NULL)
			continue;
		buf_append_char(out, separator);
		append_escaped(out, p->name, false);
		buf_append_char(out, '=');
		append_escaped(out, p->value, false);
		separator = '&';
	}
}

static struct curl_slist *
make_headers(const struct question *q)
{
	struct curl_slist *list = NULL;
	const struct pair *p = q->headers;

	/* No pause for a 100, and our own type. */
	list = curl_slist_append(list, "Expect:");
	list = curl_slist_append(list, q->headers != NULL
					   ? "Content-Type: message/rfc822"
					   : "Content-Type: application/json");
	for (; p != NULL && p->name != NULL; p++) {
		/* A semicolon makes libcurl send an empty field. */
		bool empty = p->value != NULL && p->value[0] == '\0';
		AUTO_FREE char *line =
		    empty ? mem_printf("%s;", p->name)
			  : mem_printf("%s: %s", p->name,
				p->value != NULL ? p->value : "");

		if (p->value != NULL)
			list = curl_slist_append(list, line);
	}
	return list;
}

static void
set_up(struct transfer *t, const char *socket, const char *url,
    struct curl_slist *headers, char *error)
{
	const struct question *q = t->question;
	CURL *curl = t->curl;

	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket);
	(void)curl_easy_setopt(curl, CURLOPT_URL, url);
	/* "x/../y" is a wrong name, not another one. */
	(void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, q->method);
	(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_received);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
	(void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, q->timeout_s);
	if (strcmp(q->method, "POST") != 0)
		return;
	(void)curl_easy_setopt(
	    curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.len);
	(void)curl_easy_setopt(
	    curl, CURLOPT_POSTFIELDS, q->body.len > 0 ? q->body.ptr : "");
}

static int
ask_by_http(struct client *c, const struct question *q,
    struct answer *ret_answer, struct failure *f)
{
	struct transfer t = { .question = q, .curl = curl_easy_init() };
	char error[CURL_ERROR_SIZE] = "";
	struct buf url = BUF_EMPTY;
	long status = 0;

	if (t.curl == NULL)
		return failure_set(f, -ENOMEM, "libcurl cannot start");
	append_url(&url, q);
	struct curl_slist *headers = make_headers(q);
	set_up(&t, c->socket, buf_cstring(&url), headers, error);
	CURLcode code = curl_easy_perform(t.curl);
	(void)curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(t.curl);
	buf_done(&url);
	if (code != CURLE_OK && !t.ended) {
		buf_done(&t.answer.body);
		if (status == 200 && q->on_piece != NULL)
			return failure_set(f, ERR_CLOSED,
			    "the service at %s stopped while it answered",
			    c->socket);
		return failure_set(f, ERR_CLOSED,
		    "the service at %s did not answer: %s", c->socket,
		    error[0] != '\0' ? error : curl_easy_strerror(code));
	}
	t.answer.status = (int)status;
	*ret_answer = t.answer;
	return 0;
}

/* ---- in this process --------------------------------------------------- */

static const char *
find_pair(const struct pair *p, const char *name)
{
	for (; p != NULL && p->name != NULL; p++) {
		if (strcmp(p->name, name) == 0)
			return p->value;
	}
	return NULL;
}

static const char *
find_query(const struct api_request *request, const char *name)
{
	const struct question *q = request->owner;

	return find_pair(q->query, name);
}

static const char *
find_header(const struct api_request *request, const char *name)
{
	const struct question *q = request->owner;

	return find_pair(q->headers, name);
}

static void
pump(const struct question *q, struct api_response *r)
{
	enum api_more more = API_MORE;

	for (;;) {
		if (buf_size(&r->body) > 0 &&
		    !q->on_piece(q->arg, buf_span(&r->body)))
			return;
		buf_clear(&r->body);
		if (more != API_MORE || r->more == NULL)
			return;
		more = r->more(r->stream, &r->body);
	}
}

static void
ask_here(struct client *c, const struct question *q, struct answer *ret_answer)
{
	struct api_response response;
	struct question owner = *q;
	const struct api_request request = {
		.method = q->method,
		.path = q->path,
		.query = find_query,
		.header = find_header,
		.body = q->body,
		.owner = &owner,
	};

	api_handle(&c->api, &request, &response);
	ret_answer->status = response.status;
	ret_answer->body = BUF_EMPTY;
	if (q->on_piece != NULL && response.status < 300)
		pump(q, &response);
	else
		buf_append(&ret_answer->body, buf_span(&response.body));
	api_response_done(&response);
}

int
client_ask(struct client *client, const struct question *q,
    struct answer *ret_answer, struct failure *ret_failure)
{
	if (client->socket != NULL)
		return ask_by_http(client, q, ret_answer, ret_failure);
	ask_here(client, q, ret_answer);
	return 0;
}

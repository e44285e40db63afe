/* SPDX-License-Identifier: Apache-2.0 */

/* The files that the config names: there, readable, of use for what they are
 * named for, and secrets kept secret. */

#include "base/mem.h"
#include "config/internal.h"
#include "os/file.h"
#include "tls/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSWORD_FILE_MAX 4096
#define PASSWORD_MAX 1024

static void
report_unreadable(struct config_reader *r, const yaml_node_t *node,
    const char *path, int code)
{
	config_mistake(r, node,
	    "`%s` cannot be read: %s; correct the path or let the service's "
	    "user read it",
	    path, error_text(code));
}

/* Whether it is a regular file that can be read, and, for a secret, not by
 * everybody. */
static bool
check_file(struct config_reader *r, const yaml_node_t *node, const char *path,
    bool is_secret)
{
	struct stat st;
	/* O_NONBLOCK: a FIFO in its place must not hang us. */
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) < 0) {
		report_unreadable(r, node, path, -errno);
		return false;
	}
	if (!S_ISREG(st.st_mode)) {
		config_mistake(r, node, "`%s` is not a regular file", path);
		return false;
	}
	if (is_secret && (st.st_mode & (S_IROTH | S_IWOTH))) {
		config_mistake(r, node,
		    "`%s` is a secret, but everybody may read or write it; "
		    "chmod o-rw it",
		    path);
		return false;
	}
	return true;
}

static bool
check_optional(struct config_reader *r, const char *section, const char *key,
    const char *path, bool is_secret)
{
	return path == NULL ||
	       check_file(r, config_node(r, section, CONFIG_NO_INDEX, key),
		   path, is_secret);
}

/* ---- certificates -------------------------------------------------------- */

static void
check_certificate(struct config_reader *r)
{
	const char *path = r->config->tls.certificate;
	const char *key = r->config->tls.private_key;
	struct tls_context *context = NULL;
	struct failure why;
	bool is_there = check_optional(r, "tls", "certificate", path, false);

	if (!check_optional(r, "tls", "private_key", key, true) || !is_there ||
	    path == NULL || key == NULL)
		return;
	if (tls_context_new_server(path, key, &context, &why) < 0)
		config_mistake(r,
		    config_node(r, "tls", CONFIG_NO_INDEX, "certificate"),
		    "%s; `certificate` must be a chain in PEM, the server's "
		    "own first, and `private_key` the key it was made for",
		    why.text);
	tls_context_unref(&context);
}

/* Mail would wait for ever for a server that nothing here can vouch for. */
static void
check_authorities(
    struct config_reader *r, const char *path, const yaml_node_t *node)
{
	struct tls_context *context = NULL;
	struct failure why;

	if (!check_file(r, node, path, false))
		return;
	if (tls_context_new_client(path, &context, &why) < 0)
		config_mistake(
		    r, node, "%s; it must be certificates in PEM", why.text);
	tls_context_unref(&context);
}

/* ---- passwords ----------------------------------------------------------- */

/* The first line, without its end. */
static bool
is_password(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 127)
			return false;
	return text.len > 0 && text.len <= PASSWORD_MAX && span_is_utf8(text);
}

static void
read_password(struct config_reader *r, struct config_route *route, size_t i)
{
	const yaml_node_t *node = config_node(r, "routes", i, "password_file");
	struct buf content = BUF_EMPTY;

	if (!check_file(r, node, route->password_file, true))
		return;
	int code = file_read(route->password_file, PASSWORD_FILE_MAX, &content);
	struct span rest = buf_span(&content);
	struct span line = span_cut(&rest, '\n');
	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	if (code < 0)
		report_unreadable(r, node, route->password_file, code);
	else if (!is_password(line))
		config_mistake(r, node,
		    "the first line of `%s` is not a password: it must have 1 "
		    "to %d octets and no control characters",
		    route->password_file, PASSWORD_MAX);
	else
		route->password = span_dup(line);
	if (content.ptr)
		mem_wipe(content.ptr, content.capacity);
	buf_done(&content);
}

void
config_check_files(struct config_reader *r)
{
	struct config *c = r->config;

	check_certificate(r);
	(void)check_optional(
	    r, "resolver", "trust_anchor", c->resolver.trust_anchor, false);
	if (c->mta_sts.ca_file)
		check_authorities(r, c->mta_sts.ca_file,
		    config_node(r, "mta_sts", CONFIG_NO_INDEX, "ca_file"));
	for (size_t i = 0; i < c->route_count; i++) {
		struct config_route *route = &c->routes[i];
		if (route->tls_ca)
			check_authorities(r, route->tls_ca,
			    config_node(r, "routes", i, "tls_ca"));
		if (route->password_file)
			read_password(r, route, i);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "log/log.h"
#include "main/internal.h"
#include "os/file.h"
#include "os/notify.h"
#include "os/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int
explain(const struct config_listener *l, int result, struct failure *f)
{
	char text[NETADDR_TEXT_SIZE];

	return failure_set(f, result,
	    "cannot listen on %s: %s; is another mail server running there, "
	    "or the port below 1024 without root?",
	    netaddr_format(&l->address, text), error_text(result));
}

/* A path can be bound once. Whoever can reach the path may connect, as with a
 * port: what is taken there is for local domains only. */
static int
listen_on_path(const struct netaddr *address)
{
	int fd = socket_listen(address, 0);

	TRY(fd);
	if (chmod(address->path, 0666) == 0)
		return fd;
	int result = -errno;
	close(fd);
	return result;
}

/* One socket per reactor on the same address, so that the kernel spreads the
 * connections; a socket handed over by the service manager, or one with a path,
 * is shared. */
static int
bind_listener(struct engine *e, size_t listener, struct failure *f)
{
	const struct config_listener *l = &e->config->listeners[listener];
	bool once = l->service == CONFIG_HTTP;
	int AUTO_CLOSE shared = notify_take_socket(&l->address);

	if (shared < 0 && l->address.family == NETADDR_UNIX) {
		shared = listen_on_path(&l->address);
		if (shared < 0)
			return explain(l, shared, f);
	}
	for (uint32_t r = 0; r < (once ? 1 : e->reactor_count); r++) {
		int flags = r == 0 ? SOCKET_REUSE_PORT | SOCKET_FIRST
				   : SOCKET_REUSE_PORT;
		int fd = shared >= 0
			     ? fcntl(shared, F_DUPFD_CLOEXEC, 3)
			     : socket_listen(&l->address, once ? 0 : flags);

		if (fd < 0)
			return explain(l, shared >= 0 ? -errno : fd, f);
		e->listen_fds[r * e->config->listener_count + listener] = fd;
	}
	return 0;
}

int
engine_bind(struct engine *e, struct failure *f)
{
	size_t count = e->reactor_count * e->config->listener_count;

	e->listen_fds = mem_alloc(count * sizeof(*e->listen_fds));
	for (size_t i = 0; i < count; i++)
		e->listen_fds[i] = -1;
	for (size_t i = 0; i < e->config->listener_count; i++)
		TRY(bind_listener(e, i, f));
	unsigned untaken = notify_untaken_sockets();
	if (untaken > 0)
		LOG(LOG_WARNING, "main",
		    "sockets from the service manager have no listener in the "
		    "config: who connects there waits for ever",
		    LOG_N("sockets", untaken));
	return 0;
}

/* A Unix socket in data_dir; the file's mode is who may use it. */
static int
bind_door(struct engine *e, const char *name, mode_t mode, int *ret_fd,
    struct failure *f)
{
	AUTO_FREE char *path = mem_printf("%s/%s", e->config->data_dir, name);
	AUTO_FREE char *text = mem_printf("unix:%s", path);
	struct netaddr address;

	if (!netaddr_parse(span_of(text), &address))
		return failure_set(f, -ENAMETOOLONG,
		    "the socket's path %s is too long for the system (107 "
		    "bytes): choose a shorter data_dir",
		    path);
	/* Whoever held the spool's lock before is gone, so is its socket. */
	(void)unlink(path);
	int fd = socket_listen(&address, 0);
	if (fd < 0)
		return failure_set(f, fd,
		    "cannot listen on the socket %s: %s; the service's user "
		    "must be able to write its directory",
		    path, error_text(fd));
	*ret_fd = fd;
	if (chmod(path, mode) < 0)
		return failure_set(f, -errno, "cannot set the mode of %s: %s",
		    path, error_text(-errno));
	return 0;
}

int
engine_bind_doors(struct engine *e, struct failure *f)
{
	TRY(bind_door(e, "control.sock", 0660, &e->control_fd, f));
	return bind_door(e, "submit.sock", 0666, &e->submit_fd, f);
}

void
engine_close_sockets(struct engine *e)
{
	size_t count = e->reactor_count * e->config->listener_count;

	for (size_t i = 0; e->listen_fds != NULL && i < count; i++) {
		if (e->listen_fds[i] >= 0)
			close(e->listen_fds[i]);
	}
	mem_free(e->listen_fds);
	e->listen_fds = NULL;
	if (e->control_fd >= 0)
		close(e->control_fd);
	if (e->submit_fd >= 0)
		close(e->submit_fd);
	e->control_fd = e->submit_fd = -1;
}

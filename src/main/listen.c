/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "main/internal.h"
#include "os/notify.h"
#include "os/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* One socket per reactor on the same address, so that the kernel spreads the
 * connections; a socket handed over by the service manager is shared. */
static int
bind_listener(struct engine *e, size_t listener, struct failure *f)
{
	const struct config_listener *l = &e->config->listeners[listener];
	int given = notify_take_socket(&l->address);
	char text[NETADDR_TEXT_SIZE];

	for (uint32_t r = 0; r < e->reactor_count; r++) {
		int fd;

		if (l->service == CONFIG_HTTP && r > 0)
			break;
		if (given >= 0)
			fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
		else
			fd = socket_listen(&l->address,
			    l->service == CONFIG_HTTP ? 0 : SOCKET_REUSE_PORT);
		if (fd < 0)
			return failure_set(f, fd,
			    "cannot listen on %s: %s; is another mail server "
			    "running there, or the port below 1024 without "
			    "root?",
			    netaddr_format(&l->address, text), error_text(fd));
		e->listen_fds[r * e->config->listener_count + listener] = fd;
	}
	if (given >= 0)
		close(given);
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
	return 0;
}

int
engine_bind_control(struct engine *e, struct failure *f)
{
	AUTO_FREE char *path =
	    mem_printf("%s/control.sock", e->config->data_dir);
	AUTO_FREE char *text = mem_printf("unix:%s", path);
	struct netaddr address;

	if (!netaddr_parse(span_of(text), &address))
		return failure_set(f, -ENAMETOOLONG,
		    "the control socket's path %s is too long for the system "
		    "(107 bytes): choose a shorter data_dir",
		    path);
	/* Whoever held the spool's lock before is gone, so is its socket. */
	(void)unlink(path);
	e->control_fd = socket_listen(&address, 0);
	if (e->control_fd < 0)
		return failure_set(f, e->control_fd,
		    "cannot listen on the control socket %s: %s; the "
		    "service's user must be able to write its directory",
		    path, error_text(e->control_fd));
	/* The file's mode is the permission: owner and group. */
	if (chmod(path, 0660) < 0)
		return failure_set(f, -errno, "cannot set the mode of %s: %s",
		    path, error_text(-errno));
	return 0;
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
	e->control_fd = -1;
}

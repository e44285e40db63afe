/* SPDX-License-Identifier: Apache-2.0 */
#include "simdisk.h"

#include "base/bug.h"
#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SECTOR 512
#define HANDLES 512
#define PATH_SIZE 160

struct write {
	struct write *next;
	uint64_t offset;
	size_t len;
	uint8_t bytes[];
};

struct inode {
	struct inode *next;
	uint8_t *now, *safe; /* in the cache, on the platter */
	size_t now_size, safe_size;
	struct write *pending, **pending_last; /* not synced */
};

struct name {
	struct name *next;
	char path[PATH_SIZE];
	struct inode *inode;
};

enum change_kind { CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME };

struct change {
	struct change *next;
	enum change_kind kind;
	char from[PATH_SIZE], to[PATH_SIZE];
	struct inode *inode;
};

struct fault {
	char part[PATH_SIZE];
	unsigned skip, count;
	int code;
};

struct handle {
	struct inode *inode;
	char path[PATH_SIZE];
};

struct simdisk {
	struct spool_io io;
	pthread_mutex_t lock;
	uint64_t random;
	struct inode *inodes;
	struct name *now, *safe;
	struct change *changes, **changes_last;
	struct handle handles[HANDLES];
	struct fault faults[SIMDISK_CALLS];
	uint64_t calls, cut_at, capacity;
	bool is_dead, is_locked;
};

static uint64_t
draw(struct simdisk *d, uint64_t below)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return (d->random >> 11) % below;
}

/* ---- names ------------------------------------------------------------- */

static void
set_path(char path[static PATH_SIZE], const char *from)
{
	BUG_UNLESS(snprintf(path, PATH_SIZE, "%s", from) < PATH_SIZE);
}

static struct name **
find_name(struct name **list, const char *path)
{
	while (*list && strcmp((*list)->path, path) != 0)
		list = &(*list)->next;
	return list;
}

static void
drop_name(struct name **list, const char *path)
{
	struct name **at = find_name(list, path), *gone = *at;

	if (!gone)
		return;
	*at = gone->next;
	mem_free(gone);
}

static void
add_name(struct name **list, const char *path, struct inode *inode)
{
	struct name *name = MEM_NEW(struct name);

	drop_name(list, path);
	set_path(name->path, path);
	name->inode = inode;
	name->next = *list;
	*list = name;
}

static void
apply_change(struct name **list, const struct change *c)
{
	struct name *old = *find_name(list, c->from);

	if (c->kind != CHANGE_LINK && old && old->inode == c->inode)
		drop_name(list, c->from);
	if (c->kind != CHANGE_UNLINK)
		add_name(list, c->to, c->inode);
}

static void
record_change(struct simdisk *d, enum change_kind kind, const char *from,
    const char *to, struct inode *inode)
{
	struct change *c = MEM_NEW(struct change);

	c->kind = kind;
	set_path(c->from, from);
	set_path(c->to, to);
	c->inode = inode;
	*d->changes_last = c;
	d->changes_last = &c->next;
	apply_change(&d->now, c);
}

/* ---- bytes ------------------------------------------------------------- */

static void
put(uint8_t **bytes, size_t *size, uint64_t offset, const uint8_t *from,
    size_t len)
{
	if (len == 0)
		return;
	if (offset + len > *size) {
		*bytes = mem_resize(*bytes, offset + len, 1);
		memset(*bytes + *size, 0, offset + len - *size);
		*size = offset + len;
	}
	memcpy(*bytes + offset, from, len);
}

static void
forget_pending(struct inode *inode)
{
	while (inode->pending) {
		struct write *gone = inode->pending;

		inode->pending = gone->next;
		mem_free(gone);
	}
	inode->pending_last = &inode->pending;
}

enum fate { FATE_NONE, FATE_ALL, FATE_WRITES, FATE_SECTORS, FATES };

static void
settle_write(struct simdisk *d, struct inode *inode, const struct write *w,
    enum fate fate)
{
	if (fate == FATE_NONE || (fate == FATE_WRITES && draw(d, 2)))
		return;
	for (size_t i = 0; i < w->len;) {
		size_t part = SECTOR - (w->offset + i) % SECTOR;

		if (part > w->len - i)
			part = w->len - i;
		if (fate != FATE_SECTORS || draw(d, 2))
			put(&inode->safe, &inode->safe_size, w->offset + i,
			    w->bytes + i, part);
		i += part;
	}
}

static void
settle(struct simdisk *d, struct inode *inode, enum fate fate)
{
	for (const struct write *w = inode->pending; w; w = w->next)
		settle_write(d, inode, w, fate);
	forget_pending(inode);
}

static struct inode *
add_inode(struct simdisk *d)
{
	struct inode *inode = MEM_NEW(struct inode);

	inode->pending_last = &inode->pending;
	inode->next = d->inodes;
	d->inodes = inode;
	return inode;
}

static uint64_t
used_bytes(const struct simdisk *d)
{
	uint64_t used = 0;

	for (const struct name *n = d->now; n; n = n->next)
		used += n->inode->now_size;
	return used;
}

/* ---- faults ------------------------------------------------------------ */

/* Counts a call that changes something. Negative: the power is gone. 1: it
 * goes with this very call. */
static int
count_call(struct simdisk *d)
{
	if (d->is_dead)
		return -EIO;
	d->calls++;
	if (d->cut_at == 0 || d->calls < d->cut_at)
		return 0;
	d->is_dead = true;
	return 1;
}

static int
fault(struct simdisk *d, enum simdisk_call kind, const char *path)
{
	struct fault *f = &d->faults[kind];

	if (f->count == 0 || !strstr(path, f->part))
		return 0;
	if (f->skip > 0) {
		f->skip--;
		return 0;
	}
	f->count--;
	return f->code;
}

static struct simdisk *
enter(void *owner)
{
	struct simdisk *d = owner;

	(void)pthread_mutex_lock(&d->lock);
	return d;
}

static int64_t
leave(struct simdisk *d, int64_t result)
{
	(void)pthread_mutex_unlock(&d->lock);
	return result;
}

/* ---- the calls --------------------------------------------------------- */

static int
free_handle(struct simdisk *d)
{
	for (int i = 0; i < HANDLES; i++) {
		if (!d->handles[i].inode)
			return i;
	}
	return -EMFILE;
}

static int
open_file(struct simdisk *d, const char *path, int flags)
{
	struct name *name = *find_name(&d->now, path);
	int handle = free_handle(d);

	if (d->is_dead)
		return -EIO;
	TRY(fault(d, SIMDISK_OPEN, path));
	TRY(handle);
	if (!name && !(flags & O_CREAT))
		return -ENOENT;
	if (name && (flags & O_EXCL))
		return -EEXIST;
	struct inode *inode = name ? name->inode : NULL;
	if (!inode || (flags & O_TRUNC)) {
		if (count_call(d) != 0)
			return -EIO;
		inode = add_inode(d);
		record_change(d, CHANGE_LINK, path, path, inode);
	}
	d->handles[handle].inode = inode;
	set_path(d->handles[handle].path, path);
	return handle;
}

static int
sim_open(void *owner, const char *path, int flags)
{
	struct simdisk *d = enter(owner);
	return (int)leave(d, open_file(d, path, flags));
}

static int
sim_close(void *owner, int file)
{
	struct simdisk *d = enter(owner);

	BUG_UNLESS(file >= 0 && file <= HANDLES);
	if (file == HANDLES)
		d->is_locked = false;
	else
		d->handles[file].inode = NULL;
	return (int)leave(d, 0);
}

static int64_t
read_file(struct simdisk *d, const struct handle *h, void *p, size_t len,
    uint64_t offset)
{
	const struct inode *inode = h->inode;

	if (d->is_dead)
		return -EIO;
	TRY(fault(d, SIMDISK_READ, h->path));
	if (offset >= inode->now_size)
		return 0;
	if (len > inode->now_size - offset)
		len = inode->now_size - offset;
	memcpy(p, inode->now + offset, len);
	return (int64_t)len;
}

static int64_t
sim_pread(void *owner, int file, void *p, size_t len, uint64_t offset)
{
	struct simdisk *d = enter(owner);

	BUG_UNLESS(d->handles[file].inode);
	return leave(d, read_file(d, &d->handles[file], p, len, offset));
}

static int64_t
write_file(struct simdisk *d, const struct handle *h, const uint8_t *bytes,
    size_t len, uint64_t offset)
{
	struct inode *inode = h->inode;
	int cut = count_call(d);

	if (cut < 0)
		return cut;
	TRY(fault(d, SIMDISK_WRITE, h->path));
	if (offset + len > inode->now_size &&
	    used_bytes(d) + (offset + len - inode->now_size) > d->capacity)
		return -ENOSPC;
	if (cut > 0)
		len = draw(d, len + 1);
	struct write *w = mem_alloc(sizeof *w + len);
	*w = (struct write){ .offset = offset, .len = len };
	memcpy(w->bytes, bytes, len);
	*inode->pending_last = w;
	inode->pending_last = &w->next;
	put(&inode->now, &inode->now_size, offset, bytes, len);
	return cut > 0 ? -EIO : (int64_t)len;
}

static int64_t
sim_pwritev(
    void *owner, int file, const struct iovec *iov, int count, uint64_t offset)
{
	struct simdisk *d = enter(owner);
	size_t len = 0, at = 0;

	BUG_UNLESS(d->handles[file].inode);
	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	uint8_t *AUTO_FREE bytes = mem_alloc(len + 1);
	for (int i = 0; i < count; at += iov[i++].iov_len) {
		if (iov[i].iov_len > 0)
			memcpy(bytes + at, iov[i].iov_base, iov[i].iov_len);
	}
	/* Now and then a short write. */
	if (len > 1 && draw(d, 16) == 0)
		len = 1 + draw(d, len - 1);
	return leave(d, write_file(d, &d->handles[file], bytes, len, offset));
}

static int
sync_file(struct simdisk *d, const struct handle *h)
{
	int cut = count_call(d);

	if (cut != 0)
		return -EIO;
	int code = fault(d, SIMDISK_SYNC, h->path);
	/* After a failure the pages are clean, be they written or not. */
	settle(d, h->inode, code < 0 ? FATE_SECTORS : FATE_ALL);
	return code;
}

static int
sim_datasync(void *owner, int file)
{
	struct simdisk *d = enter(owner);

	BUG_UNLESS(d->handles[file].inode);
	return (int)leave(d, sync_file(d, &d->handles[file]));
}

static int64_t
sim_size(void *owner, int file)
{
	struct simdisk *d = enter(owner);

	BUG_UNLESS(d->handles[file].inode);
	return leave(
	    d, d->is_dead ? -EIO : (int64_t)d->handles[file].inode->now_size);
}

static int
rename_file(struct simdisk *d, const char *from, const char *to)
{
	struct name *name = *find_name(&d->now, from);
	int cut = count_call(d);

	if (cut < 0)
		return cut;
	TRY(fault(d, SIMDISK_RENAME, from));
	if (!name)
		return -ENOENT;
	record_change(d, CHANGE_RENAME, from, to, name->inode);
	return cut > 0 ? -EIO : 0;
}

static int
sim_rename(void *owner, const char *from, const char *to)
{
	struct simdisk *d = enter(owner);
	return (int)leave(d, rename_file(d, from, to));
}

static int
unlink_file(struct simdisk *d, const char *path)
{
	struct name *name = *find_name(&d->now, path);
	int cut = count_call(d);

	if (cut < 0)
		return cut;
	if (!name)
		return -ENOENT;
	record_change(d, CHANGE_UNLINK, path, path, name->inode);
	return cut > 0 ? -EIO : 0;
}

static int
sim_unlink(void *owner, const char *path)
{
	struct simdisk *d = enter(owner);
	return (int)leave(d, unlink_file(d, path));
}

static int
sim_mkdir(void *owner, const char *path)
{
	struct simdisk *d = enter(owner);

	(void)path;
	return (int)leave(d, d->is_dead ? -EIO : 0);
}

static bool
is_in(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	return strncmp(path, directory, len) == 0 && path[len] == '/' &&
	       !strchr(path + len + 1, '/');
}

static int
sync_names(struct simdisk *d, const char *directory)
{
	int cut = count_call(d);

	if (cut != 0)
		return -EIO;
	TRY(fault(d, SIMDISK_SYNC_DIRECTORY, directory));
	struct change **at = &d->changes;
	while (*at) {
		struct change *c = *at;

		if (!is_in(c->to, directory)) {
			at = &c->next;
			continue;
		}
		apply_change(&d->safe, c);
		*at = c->next;
		mem_free(c);
	}
	d->changes_last = at;
	return 0;
}

static int
sim_sync_directory(void *owner, const char *path)
{
	struct simdisk *d = enter(owner);
	return (int)leave(d, sync_names(d, path));
}

static int
sim_list(void *owner, const char *path, void (*fn)(void *arg, const char *name),
    void *arg)
{
	struct simdisk *d = enter(owner);

	if (d->is_dead)
		return (int)leave(d, -EIO);
	for (const struct name *n = d->now; n; n = n->next) {
		if (is_in(n->path, path))
			fn(arg, strrchr(n->path, '/') + 1);
	}
	return (int)leave(d, 0);
}

static int64_t
sim_free_bytes(void *owner, const char *path)
{
	struct simdisk *d = enter(owner);
	uint64_t used = used_bytes(d);

	(void)path;
	return leave(d, used > d->capacity ? 0 : (int64_t)(d->capacity - used));
}

static int
sim_lock(void *owner, const char *path)
{
	struct simdisk *d = enter(owner);

	if (d->is_dead)
		return (int)leave(d, -EIO);
	if (d->is_locked)
		return (int)leave(d, -EWOULDBLOCK);
	if (!*find_name(&d->now, path))
		record_change(d, CHANGE_LINK, path, path, add_inode(d));
	d->is_locked = true;
	return (int)leave(d, HANDLES);
}

/* ---- the hand of fate -------------------------------------------------- */

struct simdisk *
simdisk_new(uint64_t seed)
{
	struct simdisk *d = MEM_NEW(struct simdisk);

	(void)pthread_mutex_init(&d->lock, NULL);
	d->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 88172645463325252u;
	d->changes_last = &d->changes;
	d->capacity = UINT64_C(1) << 40;
	d->io = (struct spool_io){
		.owner = d,
		.open = sim_open,
		.close = sim_close,
		.pread = sim_pread,
		.pwritev = sim_pwritev,
		.datasync = sim_datasync,
		.size = sim_size,
		.rename = sim_rename,
		.unlink = sim_unlink,
		.mkdir = sim_mkdir,
		.sync_directory = sim_sync_directory,
		.list = sim_list,
		.free_bytes = sim_free_bytes,
		.lock = sim_lock,
	};
	return d;
}

static void
forget_changes(struct simdisk *d)
{
	while (d->changes) {
		struct change *gone = d->changes;

		d->changes = gone->next;
		mem_free(gone);
	}
	d->changes_last = &d->changes;
}

static void
free_names(struct name **list)
{
	while (*list)
		drop_name(list, (*list)->path);
}

static bool
has_name(const struct name *list, const struct inode *inode)
{
	for (; list; list = list->next) {
		if (list->inode == inode)
			return true;
	}
	return false;
}

static void
free_nameless(struct simdisk *d)
{
	struct inode **at = &d->inodes;

	while (*at) {
		struct inode *inode = *at;

		if (has_name(d->now, inode) || has_name(d->safe, inode)) {
			at = &inode->next;
			continue;
		}
		*at = inode->next;
		forget_pending(inode);
		mem_free(inode->now);
		mem_free(inode->safe);
		mem_free(inode);
	}
}

void
simdisk_free(struct simdisk **disk)
{
	struct simdisk *d = *disk;

	forget_changes(d);
	free_names(&d->now);
	free_names(&d->safe);
	free_nameless(d);
	(void)pthread_mutex_destroy(&d->lock);
	mem_free(d);
	*disk = NULL;
}

const struct spool_io *
simdisk_io(struct simdisk *disk)
{
	return &disk->io;
}

uint64_t
simdisk_calls(struct simdisk *disk)
{
	struct simdisk *d = enter(disk);
	return (uint64_t)leave(d, (int64_t)d->calls);
}

void
simdisk_cut_at(struct simdisk *disk, uint64_t n)
{
	struct simdisk *d = enter(disk);

	d->cut_at = n ? d->calls + n : 0;
	(void)leave(d, 0);
}

bool
simdisk_is_dead(struct simdisk *disk)
{
	struct simdisk *d = enter(disk);
	return leave(d, d->is_dead) != 0;
}

static void
restart(struct simdisk *d)
{
	memset(d->handles, 0, sizeof d->handles);
	memset(d->faults, 0, sizeof d->faults);
	d->is_dead = d->is_locked = false;
	d->cut_at = 0;
}

void
simdisk_kill(struct simdisk *disk)
{
	struct simdisk *d = enter(disk);

	restart(d);
	(void)leave(d, 0);
}

void
simdisk_power_cycle(struct simdisk *disk)
{
	struct simdisk *d = enter(disk);
	enum fate names = (enum fate)draw(d, FATES);
	enum fate bytes = (enum fate)draw(d, FATES);

	for (const struct change *c = d->changes; c; c = c->next) {
		if (names == FATE_ALL || (names > FATE_ALL && draw(d, 2)))
			apply_change(&d->safe, c);
	}
	forget_changes(d);
	free_names(&d->now);
	for (const struct name *n = d->safe; n; n = n->next)
		add_name(&d->now, n->path, n->inode);
	for (struct inode *i = d->inodes; i; i = i->next) {
		settle(d, i, bytes);
		i->now_size = 0;
		if (i->safe_size > 0)
			put(&i->now, &i->now_size, 0, i->safe, i->safe_size);
	}
	free_nameless(d);
	restart(d);
	(void)leave(d, 0);
}

void
simdisk_fail(struct simdisk *disk, enum simdisk_call kind, const char *part,
    unsigned skip, unsigned count, int code)
{
	struct simdisk *d = enter(disk);

	set_path(d->faults[kind].part, part);
	d->faults[kind].skip = skip;
	d->faults[kind].count = count;
	d->faults[kind].code = code;
	(void)leave(d, 0);
}

void
simdisk_set_capacity(struct simdisk *disk, uint64_t bytes)
{
	struct simdisk *d = enter(disk);

	d->capacity = bytes;
	(void)leave(d, 0);
}

uint8_t *
simdisk_get(struct simdisk *disk, const char *path, size_t *ret_size)
{
	struct simdisk *d = enter(disk);
	const struct name *name = *find_name(&d->now, path);
	uint8_t *copy = NULL;

	if (name) {
		copy = mem_alloc(name->inode->now_size + 1);
		*ret_size = name->inode->now_size;
		if (*ret_size > 0)
			memcpy(copy, name->inode->now, *ret_size);
	}
	(void)leave(d, 0);
	return copy;
}

void
simdisk_put(
    struct simdisk *disk, const char *path, const uint8_t *bytes, size_t size)
{
	struct simdisk *d = enter(disk);
	struct name *name = *find_name(&d->now, path);

	BUG_UNLESS(name);
	struct inode *inode = name->inode;
	forget_pending(inode);
	inode->now_size = inode->safe_size = 0;
	if (size > 0) {
		put(&inode->now, &inode->now_size, 0, bytes, size);
		put(&inode->safe, &inode->safe_size, 0, bytes, size);
	}
	(void)leave(d, 0);
}

unsigned
simdisk_count(struct simdisk *disk, const char *part)
{
	struct simdisk *d = enter(disk);
	unsigned count = 0;

	for (const struct name *n = d->now; n; n = n->next)
		count += strstr(n->path, part) != NULL;
	return (unsigned)leave(d, count);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "log/tap.h"

#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "os/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* A listener that reads nothing costs at most this much memory. */
#define TAP_BYTES_MAX ((size_t)1024 * 1024)

struct tap_listener {
	struct list link;
	struct buf lines; /* JSON lines not read yet */
	size_t count; /* of those */
	uint64_t lost; /* lines that did not fit since the last read */
	char *peer_prefix;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static struct list listeners = { &listeners, &listeners };
static atomic_uint listener_count;
static atomic_uint_fast64_t last_session;

uint64_t
tap_new_session_id(void)
{
	return atomic_fetch_add_explicit(
		   &last_session, 1, memory_order_relaxed) +
	       1;
}

bool
tap_is_on(void)
{
	return atomic_load_explicit(&listener_count, memory_order_relaxed) > 0;
}

static void
render_line(const struct tap_session *session, enum tap_direction direction,
    struct span line, struct buf *out)
{
	static const char *const names[] = { "in", "out", "note" };
	char time[TIME_RFC3339_SIZE];

	buf_printf(out,
	    "{\"time\":\"%s\",\"session\":%llu,\"side\":\"%s\","
	    "\"direction\":\"%s\",\"peer\":",
	    time_format_rfc3339(clock_wall_us(), time),
	    (unsigned long long)session->id,
	    session->inbound ? "server" : "client", names[direction]);
	buf_append_json(out, span_of(session->peer));
	buf_append_str(out, ",\"line\":");
	buf_append_json(out, line);
	buf_append_str(out, "}\n");
}

static void
offer(struct tap_listener *l, const char *peer, struct span rendered)
{
	if (!span_starts(span_of(peer), span_of(l->peer_prefix)))
		return;
	if (buf_size(&l->lines) + rendered.len > TAP_BYTES_MAX) {
		l->lost++;
		return;
	}
	buf_append(&l->lines, rendered);
	l->count++;
}

void
tap_lines(const struct tap_session *session, enum tap_direction direction,
    struct span lines)
{
	struct buf rendered = BUF_EMPTY;

	if (!tap_is_on())
		return;
	pthread_mutex_lock(&lock);
	while (lines.len > 0) {
		struct span line = span_trim(span_cut(&lines, '\n'));

		buf_clear(&rendered);
		render_line(session, direction, line, &rendered);
		LIST_FOR_EACH(link, &listeners)
			offer(LIST_ENTRY(link, struct tap_listener, link),
			    session->peer, buf_span(&rendered));
	}
	pthread_cond_broadcast(&arrived);
	pthread_mutex_unlock(&lock);
	buf_done(&rendered);
}

struct tap_listener *
tap_listen(struct span peer_prefix)
{
	struct tap_listener *l = MEM_NEW(struct tap_listener);

	l->peer_prefix = span_dup(peer_prefix);
	pthread_mutex_lock(&lock);
	list_append(&listeners, &l->link);
	atomic_fetch_add(&listener_count, 1);
	pthread_mutex_unlock(&lock);
	return l;
}

void
tap_listener_free(struct tap_listener **listener)
{
	struct tap_listener *l = *listener;

	if (l == NULL)
		return;
	pthread_mutex_lock(&lock);
	list_remove(&l->link);
	atomic_fetch_sub(&listener_count, 1);
	pthread_mutex_unlock(&lock);
	buf_done(&l->lines);
	mem_free(l->peer_prefix);
	mem_free(l);
	*listener = NULL;
}

static void
append_lost(uint64_t lost, struct buf *out)
{
	char time[TIME_RFC3339_SIZE];

	buf_printf(out,
	    "{\"time\":\"%s\",\"direction\":\"note\","
	    "\"line\":\"%llu lines were lost: the reader is too slow\"}\n",
	    time_format_rfc3339(clock_wall_us(), time),
	    (unsigned long long)lost);
}

size_t
tap_read(struct tap_listener *l, int64_t timeout_us, struct buf *out)
{
	/* The condition variable counts on the wall clock. */
	int64_t until = clock_wall_us() + timeout_us;
	struct timespec deadline = { .tv_sec = until / US_PER_S,
		.tv_nsec = until % US_PER_S * 1000 };
	size_t count;

	pthread_mutex_lock(&lock);
	while (l->count == 0 && l->lost == 0) {
		if (pthread_cond_timedwait(&arrived, &lock, &deadline) != 0)
			break;
	}
	buf_append(out, buf_span(&l->lines));
	buf_clear(&l->lines);
	count = l->count;
	if (l->lost > 0) {
		append_lost(l->lost, out);
		count++;
	}
	l->count = 0;
	l->lost = 0;
	pthread_mutex_unlock(&lock);
	return count;
}

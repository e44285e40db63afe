/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The service manager: readiness, watchdog, status line and sockets handed
 * over at start. Everything is a no-op outside systemd. */

#include "base/error.h"
#include "base/netaddr.h"

#include <stdint.h>

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
void notify_status(const char *format, ...) PRINTF_LIKE(1, 2);
void notify_watchdog(void);
/* How often notify_watchdog must be called, or 0 for never. */
int64_t notify_watchdog_interval_us(void);
/* A listening socket on `addr` handed over by the manager, or -1. Call from
 * the first thread only. */
int notify_take_socket(const struct netaddr *addr);
/* How many were handed over that nobody took: connections to these would wait
 * for ever. */
unsigned notify_untaken_sockets(void);

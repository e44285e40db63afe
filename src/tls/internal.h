/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tls/stream.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct tls_context {
	SSL_CTX *ssl_ctx;
	atomic_int references;
	bool is_server;
	int64_t end_us; /* of our certificate, wall */
};

/* The oldest reason in this thread's error queue, which is emptied. */
const char *tls_take_reason(void);

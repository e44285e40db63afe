/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"
#include "resolve/resolve.h"

struct resolver_options
resolver_options_of(const struct config *config)
{
	return (struct resolver_options){
		.servers = config->resolver.servers,
		.server_count = config->resolver.server_count,
		.dnssec = config->resolver.dnssec,
		.trust_anchor = config->resolver.trust_anchor,
		.timeout_us = config->resolver.timeout_us,
		.allow_private = config->delivery.allow_private,
	};
}

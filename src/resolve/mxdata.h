/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Names and MX records, from the octets of strangers. Pure. */

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

/* The longest name as text, RFC 1035 §2.3.4, and a NUL. */
#define DNS_NAME_SIZE 254

struct mx_record {
	uint16_t preference;
	char name[DNS_NAME_SIZE]; /* lower case, no trailing dot; "": the root,
				     which says that there is no mail here */
};

/* RDATA of one MX record, RFC 1035 §3.3.9, with an uncompressed name. False:
 * too short, too long, or not the name of a host. Never reads past the span. */
bool mx_rdata_parse(struct span rdata, struct mx_record *ret_record);

/* RDATA that is one uncompressed name, RFC 1035 §3.3.12 (PTR, CNAME), on the
 * same terms. */
bool name_rdata_parse(struct span rdata, char ret_name[static DNS_NAME_SIZE]);

/* A name as text into lower case without the trailing dot. False: empty, too
 * long, or with characters that no host's name has (letters, digits, hyphen,
 * underscore). */
bool dns_name_normalise(struct span text, char ret_name[static DNS_NAME_SIZE]);

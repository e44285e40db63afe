/* SPDX-License-Identifier: Apache-2.0 */
#include "report/damage.h"

#include "base/time.h"

static void
append_head(const struct damage *d, struct span message_id, struct buf *out)
{
	const char *postmaster = d->config->reports.postmaster;
	char date[TIME_RFC5322_SIZE];

	buf_printf(out,
	    "From: Mail Delivery Service <%s>\r\n"
	    "To: <%s>\r\n"
	    "Subject: An accepted message was lost to damage\r\n"
	    "Date: %s\r\n"
	    "Message-ID: <%.*s@%s>\r\n"
	    "Auto-Submitted: auto-generated\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: text/plain; charset=utf-8\r\n\r\n",
	    postmaster, postmaster, time_format_rfc5322(d->now_us, date),
	    SPAN_ARG(message_id), d->config->hostname);
}

static void
compose(void *arg, struct span message_id, struct buf *out)
{
	const struct damage *d = arg;

	append_head(d, message_id, out);
	buf_printf(out,
	    "The record of message number %llu in the spool of\r\n"
	    "%s is damaged. Its sender is lost with it and could\r\n"
	    "not be told; %u of its recipients ended without their mail.\r\n"
	    "\r\n"
	    "  Tenant: %.*s\r\n"
	    "  Stream: %.*s\r\n"
	    "\r\n"
	    "The event log names the recipients of the same tenant that "
	    "were\r\n"
	    "accepted and have no end. What is left of the record is kept "
	    "in\r\n"
	    "spool/quarantine; `posthouse queue verify` looks for more "
	    "damage.\r\n"
	    "Check the disk and the memory of this machine.\r\n",
	    (unsigned long long)d->mno, d->config->hostname, d->recipients,
	    SPAN_ARG(d->tenant_name), SPAN_ARG(d->stream_name));
}

int
damage_add(const struct damage *damage, struct spool_txn *txn,
    struct intake_message **ret_letter)
{
	struct damage d = *damage;
	struct span postmaster = span_of(d.config->reports.postmaster);
	const struct intake_report report = {
		.to = postmaster,
		.tenant = d.tenant,
		.stream = d.stream,
		.utf8 = !span_is_ascii(postmaster),
		.compose = compose,
		.arg = &d,
	};

	*ret_letter = NULL;
	if (!d.config->reports.postmaster_copies)
		return 0;
	return intake_add_report(d.intake, txn, &report, ret_letter);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * May this tenant send in this name? A name is good when its domain is, or is
 * below, one of the tenant's verified sender domains. The tenant's policy says
 * what happens to others. The null sender is nobody's name and always good:
 * the header still has to have one.
 */

#include "intake/internal.h"
#include "mail/address.h"
#include "mail/header.h"

static bool
is_own(const struct intake_message *m, struct span address)
{
	struct span domain = address_domain_of(address);

	if (domain.len == 0 || !directory_has_domains(m->intake->directory))
		return false;
	struct directory_snapshot *s = directory_snapshot(m->intake->directory);
	bool is_found =
	    directory_verified_domain(s, m->envelope.tenant, domain) != NULL;
	directory_snapshot_unref(&s);
	return is_found;
}

bool
sender_may_mail(const struct intake_message *m, struct reply *ret_reply)
{
	struct span sender = m->envelope.sender;

	if (!message_is_submission(m) ||
	    m->sender_policy != DIRECTORY_SENDER_ENFORCE || sender.len == 0 ||
	    is_own(m, sender))
		return true;
	*ret_reply = REPLY(550, 5, 7, 1,
	    "this tenant may not send as this address: its domain is none of "
	    "the tenant's verified sender domains (`posthouse domain list`)");
	return false;
}

/* The one mailbox of a field; false when it has none, more, a group (which
 * ends in `;`), or can be read in two ways, as with an encoded address. */
static bool
read_one(struct intake_message *m, struct span value, struct span *ret_address)
{
	size_t count = 0;
	struct span address = SPAN_EMPTY;

	if (header_from_address(value, m->arena, &count, &address) < 0 ||
	    count != 1 || span_ends_nocase(span_trim(value), SPAN(";")))
		return false;
	*ret_address = address;
	return true;
}

static bool
is_name_of_sender(struct span name)
{
	return span_eq_nocase(name, SPAN("From")) ||
	       span_eq_nocase(name, SPAN("Sender")) ||
	       span_eq_nocase(name, SPAN("Resent-From")) ||
	       span_eq_nocase(name, SPAN("Resent-Sender"));
}

/* What is wrong with the header's senders; NULL: nothing. */
static const char *
find_fault(struct intake_message *m, struct span fields)
{
	struct header_field field;
	struct span address;
	size_t from_count = 0;
	int code;

	while ((code = header_next(&fields, &field)) != 0) {
		if (code < 0 || !is_name_of_sender(field.name))
			continue;
		from_count += span_eq_nocase(field.name, SPAN("From"));
		if (!read_one(m, field.value, &address))
			return "the header's sender must be one plain address: "
			       "no list, no group, no encoded address";
		if (!is_own(m, address))
			return "the header's sender (From, Sender or Resent-) "
			       "is in none of the tenant's verified sender "
			       "domains";
	}
	return from_count == 1 ? NULL
			       : "the header must have exactly one From field";
}

static void
rewrite(struct intake_message *m)
{
	struct spool_envelope *e = &m->envelope;

	if (e->sender.len == 0 || is_own(m, e->sender))
		return;
	e->sender = e->header_from;
	if (!span_is_ascii(e->sender))
		e->flags |= SPOOL_UTF8;
}

void
sender_judge_header(struct intake_message *m, struct span fields)
{
	bool only_warns = m->sender_policy == DIRECTORY_SENDER_WARN;

	/* Who has no domains at all is told nothing. */
	if (!message_is_submission(m) ||
	    (only_warns && !directory_has_domains(m->intake->directory)))
		return;
	const char *fault = find_fault(m, fields);
	if (fault == NULL && only_warns && m->envelope.sender.len > 0 &&
	    !is_own(m, m->envelope.sender))
		fault = "the envelope's sender is in none of the tenant's "
			"verified sender domains";
	if (fault == NULL) {
		if (m->sender_policy == DIRECTORY_SENDER_REWRITE)
			rewrite(m);
		return;
	}
	if (only_warns) {
		m->warning = span_of(fault);
		return;
	}
	struct reply refusal = REPLY(550, 5, 7, 1, "");
	refusal.text = span_of(fault);
	message_refuse(m, &refusal);
}

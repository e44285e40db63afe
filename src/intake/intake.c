/* SPDX-License-Identifier: Apache-2.0 */
#include "intake/intake.h"

#include "base/bug.h"
#include "base/mem.h"
#include "intake/internal.h"
#include "os/clock.h"
#include "os/random.h"

#include <unistd.h>

/* Other programs, the queue and connections want memory, too. */
#define SHARE_OF_MACHINE 4

const struct reply message_too_much = REPLY(452, 4, 3, 1,
    "too much mail is arriving at once (limits.memory): try again later");

static uint64_t
memory_max(const struct config *config)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	if (config->limits.memory > 0)
		return config->limits.memory;
	if (pages <= 0 || size <= 0)
		return UINT64_MAX;
	return (uint64_t)pages * (uint64_t)size / SHARE_OF_MACHINE;
}

struct intake *
intake_new(const struct intake_options *options)
{
	struct intake *intake = MEM_NEW(struct intake);

	intake->spool = options->spool;
	intake->directory = options->directory;
	intake->return_key = options->return_key;
	intake->on_accepted = options->on_accepted;
	intake->arg = options->arg;
	intake->config = config_ref(options->config);
	atomic_init(&intake->held_max, memory_max(options->config));
	random_bytes(intake->event_seed, sizeof intake->event_seed);
	pthread_mutex_init(&intake->lock, NULL);
	return intake;
}

void
intake_free(struct intake **intake)
{
	if (*intake == NULL)
		return;
	config_unref(&(*intake)->config);
	pthread_mutex_destroy(&(*intake)->lock);
	mem_free(*intake);
	*intake = NULL;
}

void
intake_set_config(struct intake *intake, struct config *config)
{
	struct config *old;

	pthread_mutex_lock(&intake->lock);
	old = intake->config;
	intake->config = config_ref(config);
	pthread_mutex_unlock(&intake->lock);
	atomic_store(&intake->held_max, memory_max(config));
	config_unref(&old);
}

struct config *
intake_config(struct intake *intake)
{
	pthread_mutex_lock(&intake->lock);
	struct config *config = config_ref(intake->config);
	pthread_mutex_unlock(&intake->lock);
	return config;
}

struct intake_message *
message_new(struct intake *intake, const struct intake_client *client)
{
	struct intake_message *m = MEM_NEW(struct intake_message);

	m->intake = intake;
	m->arena = arena_new();
	m->client = *client;
	m->config = intake_config(intake);
	m->now_us = clock_wall_us();
	m->envelope.accepted_us = m->now_us;
	return m;
}

bool
intake_hold(struct intake *intake, uint64_t octets)
{
	return atomic_fetch_add(&intake->held, octets) + octets <=
	       atomic_load(&intake->held_max);
}

void
intake_let_go(struct intake *intake, uint64_t octets)
{
	atomic_fetch_sub(&intake->held, octets);
}

bool
message_hold(struct intake_message *m, uint64_t octets)
{
	m->held += octets;
	return intake_hold(m->intake, octets);
}

static void
let_go(struct intake_message *m)
{
	intake_let_go(m->intake, m->held);
	m->held = 0;
}

void
message_free(struct intake_message *m)
{
	let_go(m);
	spool_draft_free(&m->draft);
	map_free(&m->seen, NULL);
	mem_free(m->rcpts);
	buf_done(&m->header);
	buf_done(&m->prefix);
	arena_free(&m->arena);
	config_unref(&m->config);
	mem_free(m);
}

void
message_refuse(struct intake_message *m, const struct reply *reply)
{
	if (m->refusal.code == 0)
		m->refusal = *reply;
	spool_draft_free(&m->draft);
	let_go(m);
}

/* ---- MAIL -------------------------------------------------------- */

/* For whom the message is: by credential, else as the client says, else the
 * default tenant. False with the answer when that is no longer allowed. */
static bool
find_tenant(struct intake_message *m, struct reply *ret_reply)
{
	struct directory_snapshot *s = directory_snapshot(m->intake->directory);
	uint32_t tenant_id = m->client.tenant, stream_id = m->client.stream;
	bool allowed = true;

	if (m->client.credential != 0) {
		const struct directory_credential *c =
		    directory_find_credential(s, m->client.user);

		allowed =
		    c != NULL && !c->revoked && c->id == m->client.credential;
		tenant_id = allowed ? c->tenant : 0;
		stream_id = allowed ? c->stream : 0;
	}
	if (tenant_id == 0)
		tenant_id = DIRECTORY_DEFAULT_TENANT;
	const struct directory_tenant *tenant = directory_tenant(s, tenant_id);
	const struct directory_stream *stream =
	    stream_id != 0
		? directory_stream(s, stream_id)
		: directory_find_stream(s, tenant_id, SPAN("transactional"));

	if (!allowed || tenant == NULL || !tenant->enabled || stream == NULL) {
		*ret_reply = REPLY(550, 5, 7, 1,
		    "this credential or its tenant is no longer valid: ask "
		    "the administrator for a new credential");
		directory_snapshot_unref(&s);
		return false;
	}
	m->envelope.tenant = tenant->id;
	m->envelope.stream = stream->id;
	m->envelope.class =
	    stream->class == DIRECTORY_BULK ? SPOOL_BULK : SPOOL_TRANSACTIONAL;
	m->envelope.expire_us =
	    m->now_us + (stream->expire_us != 0 ? stream->expire_us
						: m->config->retry.expire_us);
	m->tenant_name = arena_dup(m->arena, span_of(tenant->name));
	m->sender_policy = tenant->sender_policy;
	m->stream_name = arena_dup(m->arena, span_of(stream->name));
	directory_snapshot_unref(&s);
	return true;
}

static bool
has_space(const struct intake_message *m, struct reply *ret_reply)
{
	switch (spool_space(m->intake->spool)) {
	case SPOOL_SPACE_OK:
		return true;
	case SPOOL_SPACE_LOW:
		if (m->envelope.class != SPOOL_BULK)
			return true;
		*ret_reply = REPLY(452, 4, 3, 1,
		    "disk space is low: bulk mail is not taken now, try "
		    "again later");
		return false;
	case SPOOL_SPACE_FULL:
		*ret_reply =
		    REPLY(452, 4, 3, 1, "out of disk space: try again later");
		return false;
	case SPOOL_FAILED:
		*ret_reply = REPLY(451, 4, 3, 0,
		    "the queue cannot be written: the administrator must "
		    "look at the disk, try again later");
		return false;
	}
	UNREACHABLE("spool_space has no other value");
}

struct intake_message *
intake_mail(struct intake *intake, const struct intake_client *client,
    const struct smtp_mail *mail, struct reply *ret_reply)
{
	struct intake_message *m = message_new(intake, client);

	if (client->origin == INTAKE_SUBMISSION && client->credential == 0 &&
	    !client->trusted) {
		*ret_reply = REPLY(530, 5, 7, 0,
		    "authentication required: log in before sending");
		message_free(m);
		return NULL;
	}
	if (!find_tenant(m, ret_reply) || !has_space(m, ret_reply)) {
		message_free(m);
		return NULL;
	}
	if (client->expire_us != 0)
		m->envelope.expire_us = client->expire_us;
	if (client->is_report) {
		m->envelope.flags |= SPOOL_REPORT_MAIL;
		m->envelope.class = SPOOL_REPORT;
	}
	m->envelope.sender = arena_dup(m->arena, mail->sender.text);
	if (!sender_may_mail(m, ret_reply)) {
		message_free(m);
		return NULL;
	}
	m->envelope.envid = arena_dup(m->arena, mail->envid);
	m->envelope.ret = (uint8_t)mail->ret;
	m->utf8_asked = mail->utf8;
	if (client->origin == INTAKE_MX)
		m->envelope.flags |= SPOOL_INBOUND;
	if (mail->sender.needs_utf8)
		m->envelope.flags |= SPOOL_UTF8;
	if (mail->requiretls)
		m->envelope.flags |= SPOOL_REQUIRETLS;
	m->binary = mail->body == SMTP_BODY_BINARYMIME;
	if (m->binary)
		m->envelope.flags |= SPOOL_BINARY;
	*ret_reply = REPLY(250, 2, 1, 0, "sender ok");
	return m;
}

/* ---- RCPT -------------------------------------------------------- */

static bool
may_relay(const struct intake_message *m)
{
	return m->client.origin != INTAKE_MX;
}

/* RFC 5321 §4.5.1: "postmaster" without a domain is always deliverable, and
 * that of returns.domain, too: it becomes the configured postmaster's
 * address. */
static struct span
recipient_address(struct intake_message *m, const struct smtp_rcpt *rcpt)
{
	const struct address *r = &rcpt->recipient;
	bool is_returns =
	    m->config->returns.domain != NULL &&
	    span_eq(r->domain, span_of(m->config->returns.domain));

	if (r->domain.len > 0 &&
	    !(is_returns && span_eq_nocase(r->local, SPAN("postmaster"))))
		return r->text;
	return span_of(m->config->reports.postmaster);
}

static void
add_recipient(
    struct intake_message *m, struct span address, const struct smtp_rcpt *rcpt)
{
	uint32_t count = m->envelope.rcpt_count;

	if (count == m->rcpt_capacity) {
		m->rcpt_capacity = count == 0 ? 1 : count * 4;
		m->rcpts =
		    mem_resize(m->rcpts, m->rcpt_capacity, sizeof(*m->rcpts));
	}
	m->rcpts[count] = (struct spool_rcpt){
		.address = arena_dup(m->arena, address),
		.orcpt = arena_dup(m->arena, rcpt->orcpt),
		.notify = rcpt->notify,
	};
	m->envelope.rcpt_count++;
	if (rcpt->recipient.needs_utf8)
		m->envelope.flags |= SPOOL_UTF8;
}

/* Remembers address; true when it was there already. The first recipient is
 * only entered into the map when a second one comes. */
static bool
is_repeated(struct intake_message *m, struct span address)
{
	if (m->envelope.rcpt_count == 0)
		return false;
	if (m->seen == NULL) {
		m->seen = map_new();
		map_put(m->seen, m->rcpts[0].address, m);
	}
	return map_put(m->seen, address, m) != NULL;
}

void
intake_rcpt(struct intake_message *m, const struct smtp_rcpt *rcpt,
    struct reply *ret_reply)
{
	struct span address = recipient_address(m, rcpt);
	const struct config_route *route =
	    config_route_for(m->config, address_domain_of(address));
	bool is_postmaster = rcpt->recipient.domain.len == 0 ||
			     address.ptr != rcpt->recipient.text.ptr;

	if (!may_relay(m) && !is_postmaster && !config_route_is_local(route)) {
		*ret_reply = REPLY(550, 5, 7, 1,
		    "relaying denied: this server takes mail for its own "
		    "domains only; to send through it use the submission "
		    "port and log in");
		return;
	}
	if (route->deliver == CONFIG_DELIVER_RETURNS &&
	    !return_path_takes(m, address, ret_reply))
		return;
	if (suppressed_refuses(m, address, ret_reply))
		return;
	if (m->envelope.rcpt_count >= m->config->limits.recipients) {
		*ret_reply = REPLY(452, 4, 5, 3,
		    "too many recipients: send the rest in another message");
		return;
	}
	if (!message_hold(
		m, sizeof(struct spool_rcpt) + address.len + rcpt->orcpt.len)) {
		*ret_reply = message_too_much;
		return;
	}
	if (!is_repeated(m, address))
		add_recipient(m, address, rcpt);
	*ret_reply = REPLY(250, 2, 1, 5, "recipient ok");
}

uint32_t
intake_recipients(const struct intake_message *m)
{
	return m->envelope.rcpt_count;
}

void
intake_abort(struct intake_message **m)
{
	if (*m != NULL) {
		suppressed_tell(*m);
		message_free(*m);
	}
	*m = NULL;
}

static bool
is_wanted(uint8_t notify, enum smtp_notify what)
{
	if (notify == SMTP_NOTIFY_UNSET)
		notify = SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY;
	return (notify & what) != 0;
}

bool
intake_sender_wants(
    const struct spool_envelope *envelope, uint32_t rcpt, enum smtp_notify what)
{
	return envelope->sender.len > 0 &&
	       (envelope->flags & SPOOL_REPORT_MAIL) == 0 &&
	       is_wanted(envelope->rcpts[rcpt].notify, what);
}

bool
intake_live_sender_wants(const struct spool_live *m,
    const struct spool_live_run *run, enum smtp_notify what)
{
	return m->has_sender && (m->flags & SPOOL_REPORT_MAIL) == 0 &&
	       is_wanted(run->notify, what);
}

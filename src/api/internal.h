/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How a request is answered: api.c finds the route, the handler of a resource's
 * file reads what it needs by request.c and answers by respond.c. Private to
 * api.
 */

#include "api/api.h"
#include "directory/suppression.h"

#include <jansson.h>

#define API_ARGUMENTS 2
#define API_ARGUMENT_SIZE 256

/* One request being answered. */
struct call {
	const struct api *api;
	const struct api_request *request;
	struct api_response *response;
	/* What stood in the place of the pattern's {…}, in order. */
	char arguments[API_ARGUMENTS][API_ARGUMENT_SIZE];
};

typedef void handler_fn(struct call *call);

/* ---- respond.c: what goes back ----------------------------------------- */

/* Takes root. Call one of these once per request. */
void respond_json(struct call *call, int status, json_t *root);
/* The message names the thing, the reason and the remedy. */
void respond_error(struct call *call, int status, const char *code,
    const char *format, ...) PRINTF_LIKE(4, 5);
/* An operating error with its sentence. */
void respond_failure(struct call *call, const struct failure *failure);

/* Never NULL; bytes that are not UTF-8 become U+FFFD. */
json_t *json_text(struct span s);
/* null when empty. */
json_t *json_text_or_null(struct span s);
/* RFC 3339; null for 0 and TIME_NEVER. */
json_t *json_time(int64_t wall_us);
json_t *json_count(uint64_t n);

struct count {
	const char *name; /* NULL ends a list */
	uint64_t value;
};

/* An object of them, in their order. */
json_t *json_counts(const struct count *counts);

/* A monotonic time as a wall time; TIME_NEVER stays. */
int64_t api_wall_us(int64_t monotonic_us);

/* ---- request.c: what came in ------------------------------------------- */

/* NULL when not given or empty. */
const char *query_text(const struct call *call, const char *name);
/* False: a number was given that is none or above max, and the answer is
 * made. */
bool query_number(
    struct call *call, const char *name, uint64_t max, uint64_t *value);
/* A time (RFC 3339) or how long ago ("2h"). */
bool query_time(struct call *call, const char *name, int64_t *ret_us);
bool query_flag(const struct call *call, const char *name);

enum body_type { BODY_STRING, BODY_STRINGS, BODY_BOOLEAN };

struct body_field {
	const char *name;
	enum body_type type;
	bool required;
	void *value; /* const char **, json_t ** (array, borrowed), bool * */
};

/* Reads a JSON object strictly: no other fields, none twice, right types. What
 * is not given stays as it is. False: the answer is made. Strings live as long
 * as *ret_root. */
bool body_read(struct call *call, const struct body_field *fields, size_t count,
    json_t **ret_root);

/* A page of a listing in order of id: `limit` entries after the id `after`. */
struct page {
	uint64_t after, limit;
};

bool page_read(struct call *call, struct page *ret_page);

/* ---- names.c: names of the directory ----------------------------------- */

json_t *json_tenant_name(const struct directory_snapshot *s, uint32_t id);
const char *class_name(enum schedule_class class);
json_t *json_stream_name(const struct directory_snapshot *s, uint32_t id);

/* Which queues are meant. A stream without a tenant means the streams of that
 * name of all tenants, hence more than one selector. */
struct selection {
	struct schedule_selector *selectors;
	size_t count;
	char *domain, *site;
	uint8_t classes;
};

struct selection_names {
	/* NULL: any */
	const char *tenant, *stream, *domain, *site, *class;
};

/* False: the answer is made. */
bool selection_find(struct call *call, const struct selection_names *names,
    struct selection *ret_selection);
void selection_done(struct selection *selection);

/* ---- streams.c --------------------------------------------------------- */

/* The tenant whose entries are wanted; 0: all. False: the answer is made. */
bool wanted_tenant(struct call *call, const struct directory_snapshot *s,
    uint32_t *ret_tenant);

/* ---- queues.c ---------------------------------------------------------- */

/* What queues of this request's selection are meant. False: the answer is
 * made. */
bool queues_selected(struct call *call, struct selection *ret_selection);
/* Facts of the queues where one message's recipients wait, up to a bound. */
json_t *queues_of_message(
    const struct api *api, const struct spool_envelope *envelope);

/* ---- orders.c ---------------------------------------------------------- */

/* Until what the dispatchers have written is on stable storage. False: the
 * answer is made. */
bool orders_await_outcomes(struct call *call);

/* ---- submit.c ---------------------------------------------------------- */

/* Lines end in CRLF and there is no NUL. False: the answer is made. */
bool submit_check_lines(struct call *call, struct span message);
/* Refuses in SMTP's words; the recipient may be empty. */
void submit_refuse(
    struct call *call, const struct reply *reply, struct span recipient);
/* Ends the message, waits, and answers. */
void submit_commit(struct call *call, struct intake_message *m);

/* ---- events.c ---------------------------------------------------------- */

char *events_directory(const struct api *api); /* mem_free it */

/* ---- messages.c -------------------------------------------------------- */

/* The message of an id, if the spool still has it. ERR_SYNTAX: not an id. */
/* What acts on mail must not miss any that is still on its way from the spool.
 * False: answered that it is. */
bool is_loaded(struct call *call);
MUST_CHECK int message_find(
    struct spool *spool, const char *text, struct spool_message **ret_message);

/* ---- stats.c: sums over all threads ------------------------------------ */

struct totals {
	struct dispatch_stats dispatch;
	struct schedule_stats schedule;
	struct receive_stats receive;
	struct spool_stats spool;
	struct suppression_memory suppressions;
	struct signing_stats signing;
	uint64_t disk_free, disk_size; /* bytes, for us; 0: unknown */
};

void totals_collect(const struct api *api, struct totals *ret_totals);
const char *spool_space_name(enum spool_space space);
/* A sentence for each thing that will need a hand soon. */
json_t *warnings_json(const struct api_facts *facts);
/* A sentence for each thing that keeps mail from being taken or sent. Asks no
 * reactor, so that it answers even when one is stuck. */
json_t *problems_json(const struct api *api);

/* ---- handlers ---------------------------------------------------------- */

handler_fn status_show;
handler_fn doctor_show;
handler_fn health_show, metrics_show;
handler_fn tenants_list, tenants_add, tenants_show, tenants_set, tenants_remove;
handler_fn streams_list, streams_add, streams_show, streams_set, streams_remove;
handler_fn credentials_list, credentials_add, credentials_show,
    credentials_remove;
handler_fn suppressions_show, suppressions_change, suppressions_delete,
    suppressions_import, suppressions_export;
handler_fn domains_list, domains_add, domains_show, domains_remove, domains_dns,
    domains_verify, domains_rotate;
handler_fn queues_list, queues_deliveries, queues_export;
handler_fn queues_hold, queues_release, queues_retry, queues_bounce,
    queues_expire, queues_cancel, queues_move;
handler_fn messages_show, messages_cancel, messages_raw, messages_submit,
    messages_import;
handler_fn events_list;
handler_fn trace_follow;
handler_fn service_reload;

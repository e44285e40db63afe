/* SPDX-License-Identifier: Apache-2.0 */
#include "api/dns.h"
#include "base/bug.h"

enum { TXT_STRING_MAX = 255, SPF_SOURCES_MAX = 50 };

static struct dns_record *
add(struct dns_plan *plan, const char *purpose, const char *type)
{
	BUG_UNLESS(plan->count < DNS_RECORDS_MAX);
	struct dns_record *r = &plan->records[plan->count++];
	*r = (struct dns_record){ .purpose = purpose, .type = type };
	return r;
}

/* The mechanisms by which SPF (RFC 7208 §5) knows this relay. */
static struct span
mechanisms(const struct config *config, struct arena *arena)
{
	struct buf text = BUF_EMPTY;

	for (size_t i = 0; i < config->source_count && i < SPF_SOURCES_MAX;
	     i++) {
		const struct netaddr *a = &config->sources[i].address;
		char address[NETADDR_TEXT_SIZE];

		buf_printf(&text, "%s%s:%s", i > 0 ? " " : "",
		    a->family == NETADDR_IP4 ? "ip4" : "ip6",
		    netaddr_format_ip(a, address));
	}
	if (config->source_count == 0)
		buf_printf(&text, "a:%s", config->hostname);
	struct span copy = arena_dup(arena, buf_span(&text));
	buf_done(&text);
	return copy;
}

static void
add_keys(struct dns_plan *plan, const struct directory_domain *domain,
    struct arena *arena)
{
	/* Three stages of two keys are the most there ever are. */
	for (size_t i = 0; i < domain->key_count && i < 16; i++) {
		const struct directory_key *key = &domain->keys[i];
		struct dns_record *r = add(plan, "dkim", "TXT");
		struct buf text = BUF_EMPTY;

		sign_record(key->algorithm, span_of(key->public_key), &text);
		r->name = arena_printf(
		    arena, "%s._domainkey.%s", key->selector, domain->name);
		r->value = arena_dup(arena, buf_span(&text));
		r->key = key;
		buf_done(&text);
	}
}

void
dns_plan_make(const struct directory_domain *domain,
    const struct config *config, struct arena *arena, struct dns_plan *ret_plan)
{
	struct span ours = mechanisms(config, arena);

	ret_plan->count = 0;
	ret_plan->cancelled = NULL;
	add_keys(ret_plan, domain, arena);
	struct dns_record *r = add(ret_plan, "spf", "TXT");
	r->name = span_of(domain->name);
	r->value = arena_printf(arena, "v=spf1 %.*s ~all", SPAN_ARG(ours));
	r = add(ret_plan, "dmarc", "TXT");
	r->name = arena_printf(arena, "_dmarc.%s", domain->name);
	r->value = SPAN("v=DMARC1; p=none");
	r = add(ret_plan, "mx", "MX");
	r->name = span_of(domain->return_path);
	r->value = arena_printf(arena, "10 %s.", config->hostname);
	r = add(ret_plan, "spf", "TXT");
	r->name = span_of(domain->return_path);
	r->value = arena_printf(arena, "v=spf1 %.*s -all", SPAN_ARG(ours));
}

struct span
dns_zone_line(const struct dns_record *r, struct arena *arena)
{
	struct buf line = BUF_EMPTY;
	struct span rest = r->value;
	bool is_text = r->type[0] == 'T';

	buf_printf(&line, "%.*s. 3600 IN %s", SPAN_ARG(r->name), r->type);
	if (!is_text)
		buf_printf(&line, " %.*s", SPAN_ARG(rest));
	while (is_text && rest.len > 0) {
		struct span part = span_slice(rest, 0, TXT_STRING_MAX);

		buf_printf(&line, " \"%.*s\"", SPAN_ARG(part));
		rest = span_skip(rest, part.len);
	}
	struct span copy = arena_dup(arena, buf_span(&line));
	buf_done(&line);
	return copy;
}

/* ---- what is there ------------------------------------------------------- */

static struct span
without_space(struct span s, struct arena *arena)
{
	char *copy = arena_strdup(arena, s);
	size_t len = 0;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
			copy[len++] = c;
	}
	return span_from(copy, len);
}

struct span
dns_tag(struct span list, const char *tag, struct arena *arena)
{
	while (list.len > 0) {
		struct span value = span_cut(&list, ';');
		struct span name = span_trim(span_cut(&value, '='));

		if (span_eq(name, span_of(tag)))
			return without_space(value, arena);
	}
	return SPAN_EMPTY;
}

static bool
is_of_kind(const struct dns_record *r, struct span text)
{
	if (r->key != NULL)
		return true;
	if (r->purpose[0] == 'd')
		return span_starts_nocase(text, SPAN("v=DMARC1"));
	return span_eq_nocase(text, SPAN("v=spf1")) ||
	       span_starts_nocase(text, SPAN("v=spf1 "));
}

static void
find_wrong(struct dns_finding *f, enum dns_state state, struct span found,
    struct span problem)
{
	f->state = state;
	f->found = found;
	f->problem = problem;
}

static void
judge_key(const struct dns_record *r, struct span text, struct arena *arena,
    struct dns_finding *f)
{
	struct span public_key = dns_tag(text, "p", arena);
	struct span kind = dns_tag(text, "k", arena);
	struct span wanted = r->key->algorithm == SIGN_RSA_SHA256
				 ? SPAN("rsa")
				 : SPAN("ed25519");

	if (kind.len == 0)
		kind = SPAN("rsa");
	if (public_key.len == 0)
		find_wrong(f, DNS_WRONG, text,
		    SPAN("the record has no key (p=), which says that it is "
			 "revoked"));
	else if (!span_eq(public_key, span_of(r->key->public_key)))
		find_wrong(f, DNS_WRONG, text,
		    SPAN("the record has another key than the one that is "
			 "signed with"));
	else if (!span_eq(kind, wanted))
		find_wrong(f, DNS_WRONG, text,
		    SPAN("the record names another kind of key (k=)"));
}

/* Each of our mechanisms stands in what is published, or an include may say
 * it. */
static void
judge_spf(const struct dns_record *r, struct span text, struct dns_finding *f)
{
	struct span ours = r->value;

	if (span_search(text, SPAN("include:")) != SIZE_MAX ||
	    span_search(text, SPAN("redirect=")) != SIZE_MAX)
		return;
	(void)span_cut(&ours, ' ');
	while (ours.len > 0) {
		struct span word = span_cut(&ours, ' ');
		struct span there = text;
		bool is_there = word.ptr[0] == '~' || word.ptr[0] == '-';

		while (there.len > 0 && !is_there)
			is_there = span_eq_nocase(span_cut(&there, ' '), word);
		if (is_there)
			continue;
		find_wrong(f, DNS_WRONG, text,
		    SPAN("SPF is published but does not name this relay: add "
			 "what the line to publish has between v=spf1 and "
			 "all"));
		return;
	}
}

void
dns_judge(const struct dns_record *r, const struct span *texts, size_t count,
    struct arena *arena, struct dns_finding *finding)
{
	struct span first = SPAN_EMPTY;
	size_t of_kind = 0;

	for (size_t i = 0; i < count; i++) {
		if (!is_of_kind(r, texts[i]))
			continue;
		if (of_kind++ == 0)
			first = texts[i];
	}
	finding->state = DNS_FINE;
	if (of_kind == 0) {
		find_wrong(finding, DNS_MISSING, SPAN_EMPTY,
		    arena_printf(
			arena, "%.*s has no such record", SPAN_ARG(r->name)));
	} else if (of_kind > 1) {
		find_wrong(finding, DNS_WRONG, first,
		    arena_printf(arena,
			"%.*s has %zu such records, and receivers then believe "
			"none: leave one",
			SPAN_ARG(r->name), of_kind));
	} else if (r->key != NULL) {
		judge_key(r, first, arena, finding);
	} else if (r->purpose[0] == 's') {
		judge_spf(r, first, finding);
	}
	if (finding->state == DNS_FINE)
		finding->found = first;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "os/random.h"
#include "resolve/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- MX records ---- */

static int
record_compare(const struct mx_record *a, const struct mx_record *b)
{
	if (a->preference != b->preference)
		return a->preference < b->preference ? -1 : 1;
	return strcmp(a->name, b->name);
}

static void
choice_remove(struct mx_choice *choice, size_t at)
{
	choice->count--;
	memmove(&choice->best[at], &choice->best[at + 1],
	    (choice->count - at) * sizeof *choice->best);
}

/* False: it is there already, and as good. */
static bool
choice_make_unique(struct mx_choice *choice, const struct mx_record *record)
{
	for (size_t i = 0; i < choice->count; i++) {
		if (strcmp(choice->best[i].name, record->name) != 0)
			continue;
		if (choice->best[i].preference <= record->preference)
			return false;
		choice_remove(choice, i);
		break;
	}
	return true;
}

static void
choice_insert(struct mx_choice *choice, const struct mx_record *record)
{
	if (!choice_make_unique(choice, record))
		return;
	size_t at = choice->count;
	while (at > 0 && record_compare(record, &choice->best[at - 1]) < 0)
		at--;
	if (at == HOSTS_MAX)
		return;
	if (choice->count == HOSTS_MAX)
		choice->count--;
	memmove(&choice->best[at + 1], &choice->best[at],
	    (choice->count - at) * sizeof *choice->best);
	choice->best[at] = *record;
	choice->count++;
}

void
mx_choice_add(struct mx_choice *choice, struct span rdata, const char *our_name)
{
	struct mx_record record;

	choice->records++;
	if (!mx_rdata_parse(rdata, &record)) {
		choice->malformed++;
		return;
	}
	/* "." among others means nothing, RFC 7505 §3. */
	if (!*record.name) {
		choice->roots++;
		return;
	}
	if (*our_name && strcmp(record.name, our_name) == 0 &&
	    (!choice->is_ours || record.preference < choice->our_preference)) {
		choice->is_ours = true;
		choice->our_preference = record.preference;
	}
	choice_insert(choice, &record);
}

void
mx_choice_end(struct mx_choice *choice)
{
	if (!choice->is_ours)
		return;
	while (
	    choice->count > 0 && choice->best[choice->count - 1].preference >=
				     choice->our_preference)
		choice->count--;
}

/* ---- addresses ---- */

static bool
is_private(const struct ip *ip)
{
	struct netaddr addr = { .family =
				    ip->is_ip6 ? NETADDR_IP6 : NETADDR_IP4 };

	memcpy(addr.ip, ip->octets, sizeof addr.ip);
	return netaddr_is_private(&addr);
}

void
host_add_addresses(struct host *host, char *const *rdata, const int *len,
    bool is_ip6, bool allow_private)
{
	int size = is_ip6 ? 16 : 4;
	uint8_t first = host->ip_count;
	uint64_t seen = 0, random = random_u64();

	for (size_t i = 0; rdata[i]; i++) {
		struct ip ip = { .is_ip6 = is_ip6 };
		if (len[i] != size)
			continue;
		memcpy(ip.octets, rdata[i], (size_t)size);
		if (!allow_private && is_private(&ip)) {
			if (host->problem == HOST_NO_ADDRESS)
				host->problem = HOST_PRIVATE;
			continue;
		}
		/* Each of too many has the same chance to stay. */
		seen++;
		if (seen <= ADDRESSES_MAX) {
			BUG_UNLESS(host->ip_count < 2 * ADDRESSES_MAX);
			host->ips[host->ip_count++] = ip;
			continue;
		}
		random = hash_mix(random + seen);
		if (random % seen < ADDRESSES_MAX)
			host->ips[first + random % seen] = ip;
	}
}

/* ---- names of sites ---- */

static int
name_compare(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

void
site_name(const struct mx_record *names, size_t count,
    char ret_site[static SITE_SIZE])
{
	char all[HOSTS_MAX * DNS_NAME_SIZE];
	const char *sorted[HOSTS_MAX] = { NULL };
	size_t len = 0;

	BUG_UNLESS(count > 0 && count <= HOSTS_MAX);
	for (size_t i = 0; i < count; i++)
		sorted[i] = names[i].name;
	qsort(sorted, count, sizeof *sorted, name_compare);
	for (size_t i = 0; i < count; i++) {
		size_t more = strlen(sorted[i]);
		if (i)
			all[len++] = '+';
		memcpy(all + len, sorted[i], more);
		len += more;
	}
	if (len < SITE_SIZE) {
		memcpy(ret_site, all, len);
		ret_site[len] = '\0';
		return;
	}
	(void)snprintf(ret_site, SITE_SIZE, "%.183s~%016llx", all,
	    (unsigned long long)hash_stable(span_from(all, len)));
}

/* ---- answers ---- */

void
shuffle(void *items, size_t count, size_t size)
{
	char spare[sizeof(struct resolve_host)], *base = items;
	uint64_t random = count > 1 ? random_u64() : 0;

	BUG_UNLESS(size <= sizeof spare || count < 2);
	for (size_t left = count; left > 1; left--) {
		random = hash_mix(random + left);
		char *a = base + (left - 1) * size;
		char *b = base + random % left * size;
		memcpy(spare, a, size);
		memmove(a, b, size);
		memcpy(b, spare, size);
	}
}

static const struct netaddr *
addresses_fill(const struct entry_host *h, struct arena *arena)
{
	if (!h->ip_count)
		return NULL;
	struct netaddr *addresses =
	    ARENA_ARRAY(arena, struct netaddr, h->ip_count);
	struct ip ips[2 * ADDRESSES_MAX];
	size_t count = 0;

	for (int is_ip6 = 1; is_ip6 >= 0; is_ip6--) {
		size_t first = count;
		for (size_t i = 0; i < h->ip_count; i++)
			if (h->ips[i].is_ip6 == is_ip6)
				ips[count++] = h->ips[i];
		shuffle(ips + first, count - first, sizeof *ips);
	}
	for (size_t i = 0; i < count; i++) {
		addresses[i].family = ips[i].is_ip6 ? NETADDR_IP6 : NETADDR_IP4;
		memcpy(addresses[i].ip, ips[i].octets, sizeof ips[i].octets);
	}
	return addresses;
}

static void
shuffle_equals(struct resolve_host *hosts, size_t count)
{
	size_t first = 0;

	for (size_t i = 1; i <= count; i++) {
		if (i < count && hosts[i].preference == hosts[first].preference)
			continue;
		shuffle(hosts + first, i - first, sizeof *hosts);
		first = i;
	}
}

/* Copies all, because the entry may leave the cache inside the callback. */
void
answer_fill(
    const struct entry *e, struct arena *arena, struct resolve_answer *ret)
{
	struct resolve_host *hosts = NULL;

	if (e->host_count)
		hosts = ARENA_ARRAY(arena, struct resolve_host, e->host_count);
	for (size_t i = 0; i < e->host_count; i++) {
		const struct entry_host *h = &e->hosts[i];
		hosts[i] = (struct resolve_host){ .name = arena_strdup(
						      arena, span_of(h->name)),
			.preference = h->preference,
			.secure = h->is_secure,
			.canonical = h->canonical ? arena_strdup(arena,
							span_of(h->canonical))
						  : NULL,
			.addresses = addresses_fill(h, arena),
			.address_count = h->ip_count,
			.problem = h->problem ? arena_strdup(
						    arena, span_of(h->problem))
					      : NULL };
	}
	shuffle_equals(hosts, e->host_count);
	*ret = (struct resolve_answer){
		.result = (enum resolve_result)e->result,
		.implicit_mx = e->is_implicit_mx,
		.mx_secure = e->is_mx_secure,
		.hosts = hosts,
		.host_count = e->host_count,
		.valid_until_us = e->valid_until_us,
		.site = e->site ? arena_strdup(arena, span_of(e->site)) : NULL,
	};
	(void)span_to_cstring(
	    span_of(e->problem), ret->problem, sizeof ret->problem);
}

void
records_fill(
    const struct entry *e, struct arena *arena, struct resolve_records *ret)
{
	struct span *rdata = NULL;

	if (e->record_count)
		rdata = ARENA_ARRAY(arena, struct span, e->record_count);
	for (size_t i = 0; i < e->record_count; i++)
		rdata[i] = arena_dup(
		    arena, span_from(e->records[i].octets, e->records[i].len));
	*ret = (struct resolve_records){
		.result = (enum resolve_result)e->result,
		.secure = e->is_secure,
		.bogus = e->is_bogus,
		.rdata = rdata,
		.count = e->record_count,
		.valid_until_us = e->valid_until_us,
	};
	(void)span_to_cstring(
	    span_of(e->problem), ret->problem, sizeof ret->problem);
}

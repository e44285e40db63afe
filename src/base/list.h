/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Intrusive doubly linked list: the link lives in the member, the list owns
 * nothing, removal is O(1) from the member alone. A link that is in no list
 * points to itself, so removing twice is harmless.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

/* The structure that contains the link `member`. */
#define LIST_ENTRY(link, type, member)                                         \
	((type *)(void *)((char *)(link)-offsetof(type, member)))

#define LIST_FOR_EACH(link, head)                                              \
	for (struct list *link = (head)->next; link != (head);                 \
	     link = link->next)
/* The current link may be removed in the body. */
#define LIST_FOR_EACH_SAFE(link, head)                                         \
	for (struct list *link = (head)->next, *link##_next = link->next;      \
	     link != (head); link = link##_next, link##_next = link->next)

static inline void
list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool
list_is_empty(const struct list *l)
{
	return l->next == l;
}

static inline void
list_append(struct list *head, struct list *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static inline void
list_prepend(struct list *head, struct list *link)
{
	list_append(head->next, link);
}

static inline void
list_remove(struct list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

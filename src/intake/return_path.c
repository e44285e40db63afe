/* SPDX-License-Identifier: Apache-2.0 */
#include "intake/internal.h"

/*
 * Mail to returns.domain: nobody has a mailbox there. What is taken was asked
 * for: an answer to a return path that we made and that is still good, and
 * complaints where the config says; all else is refused in the session, so
 * that forged bounces cost their sender a connection and us nothing.
 */

bool
return_path_takes(
    struct intake_message *m, struct span address, struct reply *ret_reply)
{
	const struct config *c = m->config;
	struct return_token token;
	enum return_check check = RETURN_FORGED;

	if (c->returns.complaints != NULL &&
	    span_eq_nocase(address, span_of(c->returns.complaints)))
		return true;
	if (m->intake->return_key != NULL)
		check = return_token_check(m->intake->return_key,
		    span_slice(address, 0, span_find_last(address, '@')),
		    m->now_us, c->returns.expire_us, &token);
	if (check == RETURN_GOOD)
		return true;
	*ret_reply = check == RETURN_EXPIRED
			 ? REPLY(550, 5, 1, 1,
			       "this return path has expired: the message it "
			       "was made for is too old")
			 : REPLY(550, 5, 1, 1,
			       "there is no such address: return paths here "
			       "are made for one message each");
	return false;
}

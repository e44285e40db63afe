# SPDX-License-Identifier: Apache-2.0
"""A refusal that says that there is no such user suppresses the address at
once, and is on the disk before its event; a full mailbox, a greylisting, a
block suppresses nothing."""
import pytest

from support.waiting import wait_for

NOBODY = "550 5.1.1 <x@dest.test>: Recipient address rejected: User unknown in virtual mailbox table"


def relay_to(relays, mx, **config):
    return relays(routes=[{"domains": ["*"], "deliver": "smtp",
                           "to": f"127.0.0.1:{mx.port}", "tls": "none"}], **config).start()


def suppressed(relay):
    return [s["address"] for s in relay.cli("suppression", "list")["suppressions"]]


def refuse(words):
    """RCPTs of these users get these replies."""
    def answer(_receiver, _session, argument):
        user = argument.split("@")[0]
        return words.get(user, "250 2.1.5 ok")
    return answer


def test_an_unknown_user_is_suppressed_at_once(relays, receivers):
    mx = receivers(script={"RCPT": refuse({"x": NOBODY})})
    relay = relay_to(relays, mx)
    message = relay.submit("me@sender.test", ["x@dest.test", "y@dest.test"])
    event = relay.wait_event(type="bounced", recipient="x@dest.test")
    assert event["class"] == "no_such_user" and event["suppresses"] is True
    entry, = relay.cli("suppression", "list")["suppressions"]
    assert entry["address"] == "x@dest.test" and entry["scope"] == "tenant"
    assert entry["cause"] == "no_such_user" and entry["tenant"] == "default"
    assert "User unknown" in entry["evidence"] and message in entry["evidence"]
    assert entry["expires"] is None
    client = relay.client()
    client.ehlo()
    client.mail("me@sender.test")
    assert client.rcpt("X@dest.test")[0] == 550
    client.quit()
    # The bounce went out, and nobody was told twice.
    wait_for(lambda: [m for m in mx.messages if m.recipients == ["me@sender.test"]],
             what="a report")
    wait_for(relay.queue_empty, what="empty queue")
    assert len(relay.events(type="bounced")) == 1


@pytest.mark.parametrize("reply", [
    "552 5.2.2 The email account that you tried to reach is over quota",
    "550 5.2.2 mailbox full",
    "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
    "550 5.7.1 Message rejected due to content restrictions",
    "550 5.7.26 Unauthenticated email is not accepted from this domain",
    "554 5.7.1 <x@dest.test>: Relay access denied",
    "450 4.2.0 <x@dest.test>: Recipient address rejected: Greylisted",
    "450 4.1.1 <x@dest.test>: User unknown in virtual mailbox table",
    "550 5.0.0 no",
])
def test_what_suppresses_nobody(relays, receivers, reply):
    mx = receivers(script={"RCPT": refuse({"x": reply})})
    relay = relay_to(relays, mx)
    relay.submit("me@sender.test", "x@dest.test", rcpt_options=["NOTIFY=NEVER"])
    kind = "deferred" if reply.startswith("4") else "bounced"
    event = relay.wait_event(type=kind, recipient="x@dest.test")
    assert "suppresses" not in event and event["class"]
    assert suppressed(relay) == []


def test_only_a_word_about_the_recipient_counts(relays, receivers):
    mx = receivers(script={"MAIL": "550 5.1.1 no such user"})
    relay = relay_to(relays, mx)
    relay.submit("me@sender.test", "x@dest.test", rcpt_options=["NOTIFY=NEVER"])
    relay.wait_event(type="bounced", recipient="x@dest.test")
    assert suppressed(relay) == []
    mx.script["MAIL"] = "250 ok"
    mx.script["END"] = "550 5.1.1 no such user here"
    relay.submit("me@sender.test", ["a@dest.test", "b@dest.test"],
                 rcpt_options=["NOTIFY=NEVER"])
    relay.wait_event(type="bounced", recipient="b@dest.test")
    assert suppressed(relay) == []
    relay.submit("me@sender.test", "c@dest.test", rcpt_options=["NOTIFY=NEVER"])
    relay.wait_event(type="bounced", recipient="c@dest.test")
    assert suppressed(relay) == ["c@dest.test"]


def test_the_switch_and_the_expiry(relays, receivers):
    mx = receivers(script={"RCPT": refuse({"x": NOBODY})})
    relay = relay_to(relays, mx, suppressions={"bounces": False})
    relay.submit("me@sender.test", "x@dest.test", rcpt_options=["NOTIFY=NEVER"])
    event = relay.wait_event(type="bounced", recipient="x@dest.test")
    assert event["class"] == "no_such_user" and "suppresses" not in event
    assert suppressed(relay) == []
    relay.stop()
    relay.config["suppressions"] = {"bounce_expire": "1s"}
    relay.write_config()
    relay.start()
    relay.submit("me@sender.test", "x@dest.test", rcpt_options=["NOTIFY=NEVER"])
    wait_for(lambda: [e for e in relay.events(type="bounced") if "suppresses" in e],
             what="a suppressing bounce")
    wait_for(lambda: suppressed(relay) == [], what="expiry")


def test_one_tenants_bounce_is_not_anothers(relays, receivers):
    mx = receivers(script={"RCPT": refuse({"x": NOBODY})})
    relay = relay_to(relays, mx)
    relay.cli("tenant", "add", "other")
    other = relay.credential(tenant="other")
    relay.submit("me@sender.test", "x@dest.test", rcpt_options=["NOTIFY=NEVER"])
    relay.wait_event(type="bounced", recipient="x@dest.test")
    client = relay.client(login=False)
    client.login(other["username"], other["password"])
    client.ehlo()
    client.mail("me@sender.test")
    assert client.rcpt("x@dest.test")[0] == 250
    client.quit()


def test_a_directory_that_cannot_be_written_holds_the_outcome(relays, receivers):
    import sqlite3
    mx = receivers(script={"RCPT": refuse({"x": NOBODY})})
    relay = relay_to(relays, mx)
    relay.credential()
    lock = sqlite3.connect(relay.data_dir / "directory.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        relay.submit("me@sender.test", "x@dest.test", rcpt_options=["NOTIFY=NEVER"])
        wait_for(lambda: any("RCPT" in c for s in mx.sessions for c in s.commands),
                 what="an attempt")
        relay.submit("me@sender.test", "y@dest.test")
        relay.wait_event(type="delivered", recipient="y@dest.test")
        assert not relay.events(type="bounced")
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    relay.wait_event(type="bounced", recipient="x@dest.test")
    assert suppressed(relay) == ["x@dest.test"]

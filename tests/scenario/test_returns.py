# SPDX-License-Identifier: Apache-2.0
"""Return paths: what comes back to them tells which delivery failed, and
nobody can forge it. A forged bounce suppresses nothing, a full mailbox
suppresses nothing, an unknown user suppresses at once."""
import re
import smtplib
import sqlite3

import pytest

from support.postfix import Postfix, available
from support.waiting import wait_for

DOMAIN = "bounces.relay.test"
TOKEN = re.compile(r"^b\+[a-z2-7]{30,}@bounces\.relay\.test$")
NOBODY = ("5.1.1", "550 5.1.1 <{0}>: Recipient address rejected: User unknown")
FULL = ("5.2.2", "552 5.2.2 <{0}>: mailbox is full")


def relay_to(relays, port, **config):
    returns = {"domain": DOMAIN, "complaints": f"fbl@{DOMAIN}", **config.pop("returns", {})}
    return relays(routes=[{"domains": ["*"], "deliver": "smtp",
                           "to": f"127.0.0.1:{port}", "tls": "none"}],
                  retry={"schedule": ["200ms"]}, returns=returns, **config).start()


@pytest.fixture
def mx(receivers):
    return receivers()


def return_path(mx, recipient):
    """The sender with which a recipient got mail."""
    found = wait_for(lambda: [m for m in mx.messages if m.recipients == [recipient]],
                     what=f"mail for {recipient}")
    assert TOKEN.match(found[-1].sender), found[-1].sender
    return found[-1].sender


def report(recipient, status=NOBODY[0], reply=NOBODY[1], action="failed", extra=""):
    return (f"From: MAILER-DAEMON@dest.test\r\nTo: whoever\r\nSubject: Undelivered\r\n"
            f"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: multipart/report; report-type=delivery-status; boundary=B\r\n\r\n"
            f"--B\r\nContent-Type: text/plain\r\n\r\nIt did not work.\r\n\r\n"
            f"--B\r\nContent-Type: message/delivery-status\r\n\r\n"
            f"Reporting-MTA: dns; mx.dest.test\r\n\r\n"
            f"Final-Recipient: rfc822; {recipient}\r\n{extra}Action: {action}\r\n"
            f"Status: {status}\r\nRemote-MTA: dns; inner.dest.test\r\n"
            f"Diagnostic-Code: smtp; {reply.format(recipient)}\r\n\r\n--B--\r\n")


def send_back(relay, to, data, sender="<>"):
    with smtplib.SMTP("127.0.0.1", relay.port_mx, timeout=10) as client:
        client.ehlo("mx.dest.test")
        assert client.docmd(f"MAIL FROM:{sender}")[0] == 250
        code, text = client.rcpt(to)
        if code != 250:
            return code, text.decode()
        code, text = client.data(data)
        assert code == 250, text
        return code, text.split()[1].decode()


def take_in(relay, to, data):
    """Sends it back and waits until it was read."""
    code, message = send_back(relay, to, data)
    assert code == 250
    relay.wait_event(type="delivered", route="returns", message_id=message)


def suppressed(relay):
    return [s["address"] for s in relay.cli("suppression", "list")["suppressions"]]


def letters(mx, address="me@sender.test"):
    return [m for m in mx.messages if m.recipients == [address] and m.sender == ""]


def test_each_recipient_has_a_return_path(relays, mx):
    relay = relay_to(relays, mx.port)
    relay.submit("me@sender.test", ["a@dest.test", "b@dest.test"])
    one, two = return_path(mx, "a@dest.test"), return_path(mx, "b@dest.test")
    assert one != two
    relay.submit("", "c@dest.test")
    wait_for(lambda: [m for m in mx.messages if m.recipients == ["c@dest.test"]], what="mail")
    assert mx.messages[-1].sender == ""


def test_without_the_domain_senders_stay(relays, mx):
    relay = relays(routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{mx.port}", "tls": "none"}]).start()
    relay.submit("me@sender.test", ["a@dest.test", "b@dest.test"])
    relay.wait_event(type="delivered", recipient="b@dest.test")
    assert [(m.sender, len(m.recipients)) for m in mx.messages] == [("me@sender.test", 2)]


def test_an_unknown_user_is_suppressed_and_the_sender_told_once(relays, mx):
    relay = relay_to(relays, mx.port)
    message = relay.submit("me@sender.test", "Gone@dest.test")
    path = return_path(mx, "Gone@dest.test")
    relay.wait_event(type="delivered", recipient="Gone@dest.test")
    # Some systems write return paths in capitals.
    take_in(relay, path.replace("b+", "B+").upper().split("@")[0] + "@" + DOMAIN,
            report("gone@dest.test"))
    event = relay.wait_event(type="bounced", step="return")
    assert event["message_id"] == message and event["recipient"] == "Gone@dest.test"
    assert event["class"] == "no_such_user" and event["suppresses"] is True
    assert event["sender"] == "me@sender.test" and event["tenant"] == "default"
    assert suppressed(relay) == ["gone@dest.test"]
    wait_for(lambda: letters(mx), what="a report to the sender")
    assert b"Action: failed" in letters(mx)[0].data and b"5.1.1" in letters(mx)[0].data
    for _ in range(3):
        take_in(relay, path, report("gone@dest.test"))
    wait_for(relay.queue_empty, what="empty queue")
    assert len(letters(mx)) == 1 and len(relay.events(type="bounced")) == 1


def test_a_full_mailbox_suppresses_nothing(relays, mx):
    relay = relay_to(relays, mx.port)
    relay.submit("me@sender.test", "full@dest.test")
    take_in(relay, return_path(mx, "full@dest.test"), report("full@dest.test", *FULL))
    event = relay.wait_event(type="bounced", recipient="full@dest.test")
    assert event["class"] == "mailbox_full" and "suppresses" not in event
    assert suppressed(relay) == []
    wait_for(lambda: letters(mx), what="a report to the sender")


def test_a_bounce_in_words_only(relays, mx):
    relay = relay_to(relays, mx.port)
    relay.submit("me@sender.test", "gone@dest.test")
    take_in(relay, return_path(mx, "gone@dest.test"),
            "From: MAILER-DAEMON@dest.test\r\nSubject: failure notice\r\n\r\n"
            "Hi. This is the qmail-send program at dest.test.\r\n"
            "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
            "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
            "<gone@dest.test>:\r\n"
            "Sorry, no mailbox here by that name. (#5.1.1)\r\n\r\n"
            "--- Below this line is a copy of the message.\r\n\r\n"
            "Return-Path: <me@sender.test>\r\nSubject: test\r\n\r\nHello.\r\n")
    event = relay.wait_event(type="bounced", recipient="gone@dest.test")
    assert event["class"] == "no_such_user" and event["suppresses"] is True
    assert suppressed(relay) == ["gone@dest.test"]


def test_a_forged_bounce_suppresses_nothing(relays, mx):
    relay = relay_to(relays, mx.port)
    relay.cli("tenant", "add", "other")
    relay.submit("me@sender.test", ["victim@dest.test", "mallory@dest.test"])
    path = return_path(mx, "victim@dest.test")
    mallorys = return_path(mx, "mallory@dest.test")
    local = path.split("@")[0]
    for forged in (local[:-5] + ("aaaaa" if local[-5:] != "aaaaa" else "bbbbb"),
                   local[:5] + ("b" if local[5] == "a" else "a") + local[6:],
                   "b+" + "a" * 50, "b+", "nobody", local[2:], local + "a" * 10):
        code, text = send_back(relay, f"{forged}@{DOMAIN}", report("victim@dest.test"))
        assert code == 550 and text.startswith("5.1.1"), (forged, code, text)
    # Mallory has a good token: of his own delivery.
    take_in(relay, mallorys, report("victim@dest.test"))
    assert suppressed(relay) == [] and not relay.events(type="bounced")
    assert not letters(mx)
    # A submission may not use it either, and the postmaster is there.
    assert send_back(relay, f"postmaster@{DOMAIN}", report("victim@dest.test"))[0] == 250
    assert suppressed(relay) == []


def test_an_old_return_path_is_refused(relays, mx):
    relay = relay_to(relays, mx.port, returns={"expire": "1s"})
    relay.submit("me@sender.test", "a@dest.test")
    path = return_path(mx, "a@dest.test")
    wait_for(lambda: send_back(relay, path, report("a@dest.test"))[0] == 550, 10,
             "the end of a return path", 0.5)
    code, text = send_back(relay, path, report("a@dest.test"))
    assert code == 550 and "expired" in text


def test_automatic_replies_change_nothing(relays, mx):
    relay = relay_to(relays, mx.port)
    relay.submit("me@sender.test", "a@dest.test")
    take_in(relay, return_path(mx, "a@dest.test"),
            "From: a@dest.test\r\nSubject: away\r\nAuto-Submitted: auto-replied\r\n\r\n"
            "550 5.1.1 no such user a@dest.test. I am away.\r\n")
    assert suppressed(relay) == [] and not relay.events(type="bounced") and not letters(mx)


@pytest.mark.parametrize("notify,action,told", [
    ("NEVER", "failed", 0), ("FAILURE", "failed", 1), ("SUCCESS", "failed", 0),
    ("SUCCESS", "delivered", 1), ("FAILURE", "delivered", 0), (None, "delayed", 1),
    ("FAILURE", "delayed", 0),
])
def test_senders_hear_what_they_asked_for(relays, mx, notify, action, told):
    relay = relay_to(relays, mx.port)
    options = [f"NOTIFY={notify}"] if notify else []
    relay.submit("me@sender.test", "a@dest.test", rcpt_options=options)
    path = return_path(mx, "a@dest.test")
    relay.wait_event(type="delivered", recipient="a@dest.test")
    status = {"failed": "5.1.1", "delivered": "2.0.0", "delayed": "4.2.2"}[action]
    take_in(relay, path, report("a@dest.test", status, "ok", action))
    wait_for(relay.queue_empty, what="empty queue")
    assert len(letters(mx)) == told
    if told:
        assert f"Action: {action}".encode() in letters(mx)[0].data
    assert len(relay.events(type="bounced")) == (action == "failed")


def complaint(path, to="a@dest.test", kind="abuse"):
    return (f"From: fbl@provider.test\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: multipart/report; report-type=feedback-report; boundary=B\r\n\r\n"
            f"--B\r\nContent-Type: text/plain\r\n\r\nSpam.\r\n\r\n"
            f"--B\r\nContent-Type: message/feedback-report\r\n\r\n"
            f"Feedback-Type: {kind}\r\nUser-Agent: Provider/1\r\nVersion: 1\r\n"
            f"Original-Mail-From: <{path}>\r\n\r\n"
            f"--B\r\nContent-Type: message/rfc822\r\n\r\n"
            f"Return-Path: <{path}>\r\nFrom: me@sender.test\r\nTo: {to}\r\n\r\nx\r\n--B--\r\n")


def test_a_complaint_suppresses_for_the_stream(relays, mx):
    relay = relay_to(relays, mx.port)
    message = relay.submit("me@sender.test", "a@dest.test")
    path = return_path(mx, "a@dest.test")
    relay.wait_event(type="delivered", recipient="a@dest.test")
    # Whose mail it was, nobody can make up.
    take_in(relay, f"fbl@{DOMAIN}", complaint("b+" + "a" * 50 + "@" + DOMAIN))
    take_in(relay, f"fbl@{DOMAIN}", complaint("me@sender.test"))
    assert suppressed(relay) == [] and not relay.events(type="complained")
    for _ in range(2):
        take_in(relay, f"fbl@{DOMAIN}", complaint(path, to="undisclosed"))
    entry, = relay.cli("suppression", "list")["suppressions"]
    assert (entry["address"], entry["scope"], entry["stream"], entry["cause"]) == \
        ("a@dest.test", "stream", "transactional", "complaint")
    event, = relay.events(type="complained")
    assert event["message_id"] == message and event["stream"] == "transactional"
    assert "abuse" in event["reply"]
    assert not letters(mx)


def test_nothing_is_lost_when_it_cannot_be_recorded(relays, mx):
    relay = relay_to(relays, mx.port)
    relay.submit("me@sender.test", "a@dest.test")
    path = return_path(mx, "a@dest.test")
    relay.wait_event(type="delivered", recipient="a@dest.test")
    lock = sqlite3.connect(relay.data_dir / "directory.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    code, message = send_back(relay, path, report("a@dest.test"))
    assert code == 250
    relay.kill()
    lock.execute("ROLLBACK")
    lock.close()
    relay.start()
    relay.wait_event(type="bounced", recipient="a@dest.test")
    assert suppressed(relay) == ["a@dest.test"]
    wait_for(lambda: letters(mx), what="a report to the sender")
    wait_for(relay.queue_empty, what="empty queue")
    assert len(letters(mx)) == 1


@pytest.mark.parametrize("returns,word", [
    ({"domain": "relay.test"}, "name of its own"),
    ({"domain": "not a name"}, "domain name"),
    ({"domain": DOMAIN, "complaints": "fbl@elsewhere.test"}, "must be a mailbox in"),
    ({"complaints": f"fbl@{DOMAIN}"}, "not given"),
])
def test_mistakes_in_the_config(relays, returns, word):
    relay = relays(hostname="relay.test", returns=returns)
    relay.write_config()
    result = relay.run("config", "check")
    assert result.returncode == 1 and word in result.stdout.decode() + result.stderr.decode()


@pytest.mark.skipif(not available(), reason="needs root and Postfix")
def test_a_real_receiver_bounces(relays, receivers, place):
    """Postfix takes the mail, and is refused itself a step further."""
    inner = receivers(script={"RCPT": lambda _r, _s, a: {
        "gone": "550 5.1.1 no such user here", "full": "552 5.2.2 mailbox full"}.get(
            a.split("@")[0], "250 2.1.5 ok")})
    postfix = Postfix(place / "postfix", relay_domains="dest.test",
                      smtpd_recipient_restrictions="permit_mynetworks",
                      default_transport="smtp", transport_maps="inline:{{dest.test="
                      f"smtp:[127.0.0.1]:{inner.port}" "}}")
    relay = relay_to(relays, postfix.port)
    postfix.settings["transport_maps"] = (
        f"inline:{{ {{ dest.test = smtp:[127.0.0.1]:{inner.port} }}, "
        f"{{ {DOMAIN} = smtp:[127.0.0.1]:{relay.port_mx} }} }}")
    postfix.start()
    try:
        relay.submit("me@sender.test", ["gone@dest.test", "full@dest.test", "ok@dest.test"],
                     rcpt_options=["NOTIFY=FAILURE"])
        gone = relay.wait_event(60, type="bounced", recipient="gone@dest.test")
        full = relay.wait_event(60, type="bounced", recipient="full@dest.test")
        assert gone["step"] == full["step"] == "return"
        assert gone["suppresses"] is True and "suppresses" not in full
        assert suppressed(relay) == ["gone@dest.test"]
        assert not relay.events(type="bounced", recipient="ok@dest.test")
    finally:
        postfix.stop()

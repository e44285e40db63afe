# SPDX-License-Identifier: Apache-2.0
"""In whose name a tenant may send: envelope and header, and every trick."""
import json
import smtplib
import subprocess

import pytest

from support.relay import BINARY
from support.waiting import wait_for


@pytest.fixture
def receiver(receivers):
    return receivers()


@pytest.fixture
def service(relays, receiver, dns):
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{receiver.port}"}]).start()
    posthouse(relay, "tenant", "add", "other")
    add_verified(relay, dns, "sender.test", "default")
    add_verified(relay, dns, "other.test", "other")
    posthouse(relay, "domain", "add", "unverified.test")
    return relay


def posthouse(relay, *words, status=0):
    got = subprocess.run([BINARY, *words, "--config", relay.config_path, "--json"],
                         capture_output=True, text=True, timeout=30)
    assert got.returncode in (0, 1), got.stderr
    return json.loads(got.stdout)


def add_verified(relay, dns, name, tenant):
    posthouse(relay, "domain", "add", name, "--tenant", tenant)
    for r in posthouse(relay, "domain", "dns", name)["records"]:
        if r["purpose"] == "dkim":
            dns.add(r["name"], "TXT", r["zone"].split(" IN TXT ", 1)[1])
    assert posthouse(relay, "domain", "verify", name)["verified"]


def policy(relay, word):
    shown = posthouse(relay, "tenant", "set", "default", "--sender-policy", word)
    assert shown["sender_policy"] == word


def send(relay, envelope, header, count=1):
    """The reply that decided, as (code, text)."""
    lines = header if isinstance(header, bytes) else f"From: {header}".encode()
    data = lines + b"\r\nTo: b@one.test\r\nSubject: x\r\n\r\nbody\r\n"
    with smtplib.SMTP("localhost", relay.port) as s:
        s.ehlo("client.test")
        code, text = s.mail(envelope)
        if code != 250:
            return code, text
        assert s.rcpt("b@one.test")[0] == 250
        return s.data(data)


REFUSED = [
    ("a@other.test", "a@sender.test"),
    ("a@unverified.test", "a@sender.test"),
    ("a@sender.test", "a@other.test"),
    ("a@sender.test", "a@xsender.test"),
    ("a@sender.test", "a@unverified.test"),
    ("a@sender.test", "a@sender.test, b@other.test"),
    ("a@sender.test", "a@sender.test, b@sender.test"),
    ("a@sender.test", "group: a@sender.test;"),
    ("a@sender.test", "group:;"),
    ("a@sender.test", "=?utf-8?q?a=40sender=2Etest?="),
    ("a@sender.test", "a@=?utf-8?q?sender=2Etest?="),
    ("a@sender.test", '"a@sender.test" <a@other.test>'),
    ("a@sender.test", "a@sender.test <a@other.test>"),
    ("a@sender.test", "<a@sender.test> <a@other.test>"),
    ("a@sender.test", "a@sender.test@other.test"),
    ("a@sender.test", "a"),
    ("a@sender.test", ""),
    ("a@sender.test", b"From: a@sender.test\r\nFrom: a@other.test"),
    ("a@sender.test", b"From: a@sender.test\r\nfrom : a@other.test"),
    ("a@sender.test", b"From: a@sender.test\r\nSender: a@other.test"),
    ("a@sender.test", b"From: a@sender.test\r\nResent-From: a@other.test"),
    ("a@sender.test", b"X-From: a@sender.test"),
    ("", "a@other.test"),
]


def test_enforce_refuses(service, receiver):
    policy(service, "enforce")
    for envelope, header in REFUSED:
        code, text = send(service, envelope, header)
        assert code in (550, 554), (envelope, header, code, text)
    assert receiver.messages == []


def test_enforce_takes_ones_own(service, receiver):
    policy(service, "enforce")
    good = [("a@sender.test", "a@sender.test"), ("a@x.sender.test", "A <b@SENDER.test>"),
            ("", '"A; B" <a@y.x.sender.test>'), ("a@sender.test", "a@sender.test (c)"),
            ("a@sender.test", b"From: a@sender.test\r\nSender: b@sender.test")]
    for envelope, header in good:
        code, text = send(service, envelope, header)
        assert code == 250, (envelope, header, text)
    wait_for(lambda: len(receiver.messages) == len(good), 10, "all arrive")
    assert all(b"d=sender.test;" in m.data for m in receiver.messages)


def test_rewrite_changes_the_envelope_only(service, receiver):
    policy(service, "rewrite")
    assert send(service, "a@other.test", "B <b@sender.test>")[0] == 250
    assert send(service, "a@sender.test", "b@sender.test")[0] == 250
    assert send(service, "", "b@sender.test")[0] == 250
    wait_for(lambda: len(receiver.messages) == 3, 10, "three arrive")
    senders = sorted(m.sender for m in receiver.messages)
    assert senders == ["", "a@sender.test", "b@sender.test"]
    assert send(service, "a@sender.test", "b@other.test")[0] == 550


def test_warn_takes_it_and_says_so(service, receiver):
    assert send(service, "a@sender.test", "b@other.test")[0] == 250
    assert send(service, "a@sender.test", "b@sender.test")[0] == 250
    wait_for(lambda: len(receiver.messages) == 2, 10, "both arrive")
    events = wait_for(lambda: (lambda e: e if len(e) == 2 else None)(
        posthouse(service, "events", "--type", "accepted")["events"]), 5, "events")
    warnings = {e["header_from"]: e.get("warning") for e in events}
    assert "verified sender domains" in warnings["b@other.test"]
    assert warnings["b@sender.test"] is None


def test_other_words_are_refused(service):
    answer = posthouse(service, "tenant", "set", "default", "--sender-policy", "off")
    assert "warn, rewrite or enforce" in answer["error"]["message"]

# SPDX-License-Identifier: Apache-2.0
"""Mail of sender domains leaves signed, once per message, or not at all."""
import json
import smtplib
import socket
import subprocess

import pytest

from support import dkim as verifiers
from support.relay import BINARY
from support.waiting import wait_for

pytest.importorskip("dkim", reason="python3-dkim is not installed")

BODY = b"Hello  \r\n.dot\r\n\r\ngr\xc3\xbc\xc3\x9fe \t x\r\n" + b"y" * 990 + b"\r\n\r\n\r\n"


def message(sender="a@sender.test", body=BODY, extra=b""):
    return (b"From: A <" + sender.encode() + b">\r\nTo: b@one.test\r\nSubject: folded\r\n"
            b"\t subject \r\n" + extra + b"\r\n" + body)


@pytest.fixture
def receiver(receivers):
    return receivers()


@pytest.fixture
def service(relays, receiver):
    return relays(trusted_networks=["127.0.0.0/8"], retry={"schedule": ["2s"]},
                  routes=[{"domains": ["*"], "deliver": "smtp",
                           "to": f"127.0.0.1:{receiver.port}"}]).start()


def posthouse(relay, *words):
    got = subprocess.run([BINARY, *words, "--config", relay.config_path, "--json"],
                         capture_output=True, text=True, timeout=30)
    assert got.returncode == 0, got.stderr
    return json.loads(got.stdout)


def add_domain(relay, name="sender.test", **options):
    words = [w for k, v in options.items() for w in ("--" + k, v)]
    posthouse(relay, "domain", "add", name, *words)
    records = posthouse(relay, "domain", "dns", name)["records"]
    return {r["name"]: r["value"] for r in records if r["purpose"] == "dkim"}


def send(relay, data, recipients=("b@one.test",), sender="a@sender.test"):
    with smtplib.SMTP("localhost", relay.port) as s:
        s.ehlo("client.test")
        s.sendmail(sender, recipients, data)


def metrics_of(relay):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(relay.data_dir / "control.sock"))
        s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    return dict(line.split(" ", 1) for line in text.splitlines()
                if line.startswith("posthouse_"))


def arrived(receiver, count=1):
    wait_for(lambda: len(receiver.messages) >= count, 10, f"{count} messages")
    return receiver.messages


def test_signed_by_both_keys(service, receiver):
    records = add_domain(service)
    send(service, message())
    data = arrived(receiver)[0].data
    assert data.startswith(b"DKIM-Signature:") and data.count(b"DKIM-Signature:") == 2
    assert verifiers.by_dkimpy(data, records) == [True, True]
    assert data.endswith(b"\r\n\r\n" + BODY)


def test_a_domain_below_and_a_foreign_one(service, receiver):
    records = add_domain(service)
    send(service, message("a@news.sender.test"))
    data = arrived(receiver)[0].data
    assert b"d=sender.test;" in data
    assert verifiers.by_dkimpy(data, records) == [True, True]
    send(service, message("a@other.test"))
    assert b"DKIM-Signature" not in arrived(receiver, 2)[1].data


def test_only_the_tenants_own(service, receiver):
    posthouse(service, "tenant", "add", "other")
    add_domain(service, tenant="other")
    send(service, message())
    assert b"DKIM-Signature" not in arrived(receiver)[0].data


def test_once_for_all_recipients(service, receiver):
    add_domain(service)
    send(service, message(), [f"b@{n}.test" for n in range(5)])
    signatures = {m.data[:m.data.index(b"Received:")] for m in arrived(receiver, 5)}
    assert len(signatures) == 1
    metrics = metrics_of(service)
    assert metrics["posthouse_signatures_made_total"] == "1"
    assert metrics["posthouse_signatures_reused_total"] == "4"


def test_a_lost_key_defers(service, receiver):
    records = add_domain(service)
    folder = service.data_dir / "keys" / "sender.test"
    key = next(folder.glob("*-rsa.pem"))
    hidden = key.with_suffix(".hidden")
    key.rename(hidden)
    send(service, message())
    send(service, message("a@other.test"))
    assert b"a@other.test" in arrived(receiver)[0].data
    wait_for(lambda: "mail waits for a key that cannot be used" in service.log_text(), 5,
             "the log tells")
    event = wait_for(lambda: posthouse(service, "events", "--type", "deferred")["events"],
                     5, "the event")[0]
    assert event["step"] == "sign" and "PRIVATE" not in json.dumps(event)
    assert len(receiver.messages) == 1
    hidden.rename(key)
    data = arrived(receiver, 2)[1].data
    assert verifiers.by_dkimpy(data, records) == [True, True]


def test_simple_and_with_an_end(relays, receiver):
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   dkim={"header": "simple", "body": "simple", "expire": "7d"},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{receiver.port}"}]).start()
    records = add_domain(relay)
    send(relay, message(extra=b"MIME-Version: 1.0\r\nList-Id: <x.sender.test>\r\n"))
    data = arrived(receiver)[0].data
    assert b"c=simple/simple" in data and b" x=" in data
    assert verifiers.by_dkimpy(data, records) == [True, True]


def test_forged_copies_do_not_verify(service, receiver):
    """What is oversigned cannot be added afterwards."""
    records = add_domain(service)
    send(service, message())
    data = arrived(receiver)[0].data
    for field in (b"From: x@y.test", b"Subject: other", b"To: c@d.test", b"Cc: c@d.test",
                  b"Reply-To: x@y.test", b"List-Unsubscribe: <x:y>", b"Content-Type: a/b"):
        head, body = data.split(b"\r\n\r\n", 1)
        assert True not in verifiers.by_dkimpy(
            head + b"\r\n" + field + b"\r\n\r\n" + body, records), field


def test_a_large_message(service, receiver):
    records = add_domain(service)
    body = b"x" * 70 + b"\r\n"
    send(service, message(body=body * 50000))
    data = arrived(receiver)[0].data
    assert len(data) > 3_600_000
    assert verifiers.by_dkimpy(data, records) == [True, True]

# SPDX-License-Identifier: Apache-2.0
"""TLS reports (RFC 8460): once a day domains that ask for it hear how TLS with
their servers went (E13, E17)."""
import email
import gzip
import json
import time

import pytest

from support.sts import Scene
from support.waiting import wait_for

NAMES = ("good.test", "cert.test", "plain.test", "listed.test", "testing.test", "quiet.test",
         "desk.test")


@pytest.fixture
def scene(relays, receivers, dns, authority):
    made = Scene(relays, receivers, dns, authority, NAMES)
    yield made
    made.web.stop()


def reports_at(receiver):
    found = {}
    for message in receiver.messages:
        mail = email.message_from_bytes(message.data)
        packed = mail.get_payload()[1]
        assert mail.get_content_type() == "multipart/report"
        assert mail.get_param("report-type") == "tlsrpt"
        assert packed.get_content_type() == "application/tlsrpt+gzip"
        report = json.loads(gzip.decompress(packed.get_payload(decode=True)))
        domain = mail["TLS-Report-Domain"]
        assert mail["TLS-Report-Submitter"] == "relay.test" and message.sender == ""
        assert packed.get_filename().startswith(f"relay.test!{domain}!")
        assert domain not in found
        found[domain] = report
    return found


def test_domains_hear_how_it_went(scene):
    scene.domain("good.test", "mx.good.test", "127.0.0.2")
    scene.domain("cert.test", "mx.cert.test", "127.0.0.3", name="wrong.test")
    scene.domain("plain.test", "mx.plain.test", "127.0.0.4", tls=False)
    scene.domain("listed.test", "mx.listed.test", "127.0.0.5")
    scene.domain("testing.test", "mx.testing.test", "127.0.0.6", name="wrong.test")
    scene.domain("quiet.test", "mx.quiet.test", "127.0.0.7")
    desk = scene.domain("desk.test", "mx.desk.test", "127.0.0.9")
    for name in ("good", "cert", "plain", "quiet"):
        scene.web.publish(f"{name}.test", "enforce", f"mx.{name}.test")
    scene.web.publish("listed.test", "enforce", "mx2.listed.test")
    scene.web.publish("testing.test", "testing", "mx.testing.test")
    scene.web.publish("desk.test", "none")
    for name in NAMES[:-2]:
        scene.dns.add(f"_smtp._tls.{name}", "TXT", '"v=TLSRPTv1; rua=mailto:tls@desk.test"')
    relay = scene.start(tls_reports={"enabled": True, "organization": "Ours"})
    ends = {"good": "delivered", "cert": "deferred", "plain": "deferred", "listed": "deferred",
            "testing": "delivered", "quiet": "delivered"}
    for name, end in ends.items():
        scene.send(f"{name}.test", end)
    # Another message by the same session is no session.
    scene.send("good.test", "delivered", "v")
    assert relay.stop() == 0
    kept = relay.data_dir / "tls-reports"
    today = int(time.time()) // 86400
    text = kept.read_text()
    assert f"day\t{today}\tgood.test\tsts\t1\t" in text
    # A night goes by.
    kept.write_text(text.replace(f"day\t{today}\t", f"day\t{today - 1}\t"))
    relay.start()
    wait_for(lambda: len(desk.messages) == 5, 20, "the reports")
    reports = reports_at(desk)
    assert set(reports) == set(NAMES[:-2])
    day = time.strftime("%Y-%m-%d", time.gmtime((today - 1) * 86400))
    wanted = {"good": (1, 0, None), "cert": (0, 1, "certificate-host-mismatch"),
              "plain": (0, 1, "starttls-not-supported"), "listed": (0, 1, "validation-failure"),
              "testing": (0, 1, "certificate-host-mismatch")}
    for name, (good, bad, failure) in wanted.items():
        report = reports[f"{name}.test"]
        assert report["organization-name"] == "Ours"
        assert report["contact-info"] == "postmaster@relay.test"
        assert report["date-range"] == {"start-datetime": f"{day}T00:00:00Z",
                                        "end-datetime": f"{day}T23:59:59Z"}
        policy, = report["policies"]
        assert policy["policy"]["policy-type"] == "sts"
        assert policy["policy"]["policy-domain"] == f"{name}.test"
        assert "version: STSv1" in policy["policy"]["policy-string"]
        assert policy["summary"] == {"total-successful-session-count": good,
                                     "total-failure-session-count": bad}, name
        details = policy.get("failure-details", [])
        assert [d["result-type"] for d in details] == ([failure] if failure else []), name
        for detail in details:
            assert detail["receiving-mx-hostname"] == f"mx.{name}.test"
            assert detail["failed-session-count"] == 1
    wait_for(lambda: ("_smtp._tls.quiet.test.", "TXT") in scene.dns.queries, 20,
             "the one that wants none")
    time.sleep(0.5)
    # Sent, or not wanted: none of it goes again.
    assert relay.stop() == 0
    assert f"day\t{today - 1}\t" not in kept.read_text()

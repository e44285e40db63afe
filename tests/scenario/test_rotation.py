# SPDX-License-Identifier: Apache-2.0
"""New keys for a sender domain: published, seen, switched to; the old ones kept
and at last deleted. By command, and by itself."""
import json
import smtplib
import subprocess

import pytest

from support import dkim as verifiers
from support.relay import BINARY
from support.waiting import wait_for

pytest.importorskip("dkim", reason="python3-dkim is not installed")


@pytest.fixture
def make(relays, receivers, dns):
    def start(**dkim):
        receiver = receivers()
        relay = relays(trusted_networks=["127.0.0.0/8"], dkim=dkim,
                       resolver={"servers": [dns.address], "dnssec": False},
                       routes=[{"domains": ["*"], "deliver": "smtp",
                                "to": f"127.0.0.1:{receiver.port}"}]).start()
        relay.receiver = receiver
        posthouse(relay, "domain", "add", "sender.test")
        return relay
    return start


def posthouse(relay, *words):
    got = subprocess.run([BINARY, *words, "--config", relay.config_path, "--json"],
                         capture_output=True, text=True, timeout=30)
    assert got.returncode in (0, 1), got.stderr
    return json.loads(got.stdout)


def rotate(relay, *words):
    return posthouse(relay, "domain", "rotate", "sender.test", *words)["stage"]


def keys(relay):
    """Selectors by state."""
    out = {}
    for key in posthouse(relay, "domain", "show", "sender.test")["keys"]:
        out.setdefault(key["state"], set()).add(key["selector"])
    return out


def publish(relay, dns):
    records = {}
    for r in posthouse(relay, "domain", "dns", "sender.test")["records"]:
        if r["purpose"] == "dkim":
            if (r["name"] + ".", "TXT") not in dns.records:
                dns.add(r["name"], "TXT", r["zone"].split(" IN TXT ", 1)[1])
            records[r["name"]] = r["value"]
    return records


def signed_by(relay, records):
    """The selectors on a message that is sent now; its signatures are good."""
    before = len(relay.receiver.messages)
    with smtplib.SMTP("localhost", relay.port) as s:
        s.ehlo("client.test")
        s.sendmail("a@sender.test", ["b@one.test"],
                   b"From: a@sender.test\r\nSubject: x\r\n\r\nbody\r\n")
    wait_for(lambda: len(relay.receiver.messages) > before, 10, "it arrives")
    data = relay.receiver.messages[-1].data
    assert verifiers.by_dkimpy(data, records) == [True, True]
    return {line.split(b"s=")[1].split(b";")[0].decode()
            for line in data.split(b"\r\n\r\n")[0].split(b"\r\n") if b" s=" in line}


def test_by_command(make, dns):
    relay = make()
    first = keys(relay)["active"]
    assert signed_by(relay, publish(relay, dns)) == first
    assert rotate(relay) == "begun"
    assert keys(relay)["active"] == first and len(keys(relay)["next"]) == 2
    assert rotate(relay) == "waiting"
    records = publish(relay, dns)
    assert len(records) == 4
    assert signed_by(relay, records) == first
    second = keys(relay)["next"]
    assert rotate(relay) == "switched"
    assert keys(relay) == {"old": first, "active": second}
    assert signed_by(relay, records) == second
    assert rotate(relay) == "keeping"
    assert rotate(relay, "--force") == "revoked"
    assert keys(relay) == {"active": second}
    files = (relay.data_dir / "keys" / "sender.test").iterdir()
    assert {f.stem for f in files} == second
    assert signed_by(relay, records) == second


def test_by_itself(make, dns):
    relay = make(rotate_after="2s", keep_old="1s", rotate_check="1s")
    first = keys(relay)["active"]
    wait_for(lambda: "next" in keys(relay), 8, "new keys are made")
    second = keys(relay)["next"]
    publish(relay, dns)
    wait_for(lambda: keys(relay)["active"] == second, 8, "they are switched to")
    wait_for(lambda: "old" not in keys(relay), 8, "the old ones are deleted")
    assert first.isdisjoint(set().union(*keys(relay).values()))
    assert "posthouse domain dns" in relay.log_text()


def test_what_was_begun_goes_on_after_a_restart(make, dns):
    relay = make(rotate_check="1s")
    assert rotate(relay) == "begun"
    second = keys(relay)["next"]
    relay.stop()
    relay.start()
    assert keys(relay)["next"] == second
    publish(relay, dns)
    wait_for(lambda: keys(relay)["active"] == second, 8, "they are switched to")


def test_forced_without_the_dns(make):
    relay = make()
    assert rotate(relay) == "begun"
    assert rotate(relay, "--force") == "switched"
    got = posthouse(relay, "domain", "rotate", "other.test")
    assert "there is no sender domain" in got["error"]["message"]


def test_a_silent_name_server_does_not_hold_up_a_stop(make, dns):
    relay = make(rotate_check="1s")
    assert rotate(relay) == "begun"
    asked = [r["name"] for r in posthouse(relay, "domain", "dns", "sender.test")["records"]
             if r["state"] == "next"]
    for name in asked:
        dns.fail(name, "DROP")
    wait_for(lambda: any(q[0] == asked[0] + "." for q in dns.queries), 8, "it is asked for")
    assert relay.stop(4) == 0

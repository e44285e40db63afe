# SPDX-License-Identifier: Apache-2.0
"""What `posthouse doctor` finds, with and without a running service."""
import json
import shutil

import pytest

GOOD, NAMELESS, ASTRAY, LISTED, ABSENT = (
    "127.0.3.1", "127.0.3.2", "127.0.3.3", "127.0.3.4", "203.0.113.9")


def reverse(address, zone):
    return ".".join(reversed(address.split("."))) + "." + zone


@pytest.fixture
def world(dns, receivers):
    """Five sources, a blocklist, and a server outside."""
    receiver = receivers()
    dns.mail_domain("probe.test", "mx.probe.test", "127.0.0.1")
    for address, name in ((GOOD, "good.test"), (ASTRAY, "astray.test"), (LISTED, "listed.test")):
        dns.add(reverse(address, "in-addr.arpa"), "PTR", name + ".")
        dns.add(name, "A", "127.0.3.77" if address == ASTRAY else address)
    dns.add("other.test", "A", LISTED)
    dns.add(reverse(LISTED, "list.test"), "A", "127.0.0.2")
    dns.add(reverse(LISTED, "list.test"), "TXT", '"spam was seen"')
    dns.add(reverse(GOOD, "deaf.test"), "A", "127.255.255.254")
    return {
        "hostname": "good.test",
        "resolver": {"servers": [dns.address], "dnssec": False},
        "routes": [{"domains": ["probe.test"], "deliver": "mx", "port": receiver.port,
                    "tls": "none"}],
        "doctor": {"blocklists": ["list.test", "deaf.test"], "probe": "probe.test"},
        "sources": [
            {"name": "good", "address": GOOD, "hostname": "good.test"},
            {"name": "nameless", "address": NAMELESS, "hostname": "good.test"},
            {"name": "astray", "address": ASTRAY, "hostname": "astray.test"},
            {"name": "listed", "address": LISTED, "hostname": "other.test"},
            {"name": "absent", "address": ABSENT, "hostname": "absent.test"},
        ],
    }


def examine(relay):
    """Exit status, and (area, subject) -> [(level, text, remedy)]."""
    result = relay.run("doctor", "--json")
    answer = json.loads(result.stdout)
    found = {}
    for f in answer["findings"]:
        found.setdefault((f["area"], f["subject"]), []).append(
            (f["level"], f["text"], f["remedy"]))
    assert result.returncode == (answer["verdict"] == "problem")
    return answer["verdict"], found


def levels(found, area, subject):
    return [level for level, _, _ in found[area, subject]]


def check_sources(found):
    assert levels(found, "source", GOOD) == ["ok"]
    assert found["source", NAMELESS][0] == (
        "problem", "has no name (PTR record), so many servers refuse its mail",
        "ask who gave you the address to publish: 2.3.0.127.in-addr.arpa. PTR good.test.")
    assert found["source", ASTRAY][0][::2] == ("problem", f"astray.test. A {ASTRAY}")
    assert found["source", LISTED] == [
        ("ok", "its name listed.test leads back to it", None),
        ("warning", "says EHLO other.test, but is called listed.test",
         "let hostname (of the source, or of the relay) be listed.test")]
    assert levels(found, "source", ABSENT) == ["problem"]
    assert ("port 25", ABSENT) not in found


def test_sources(relays, world):
    verdict, found = examine(relays(**world).start())
    assert verdict == "problem"
    check_sources(found)
    assert levels(found, "blocklist", GOOD) == ["ok", "note"]
    listed = found["blocklist", LISTED][0]
    assert listed[:2] == ("problem", "is listed by list.test: spam was seen")
    for address in (GOOD, NAMELESS, ASTRAY, LISTED):
        assert found["port 25", address] == [
            ("ok", "reaches a server of probe.test", None)]
    assert levels(found, "resolver", "dnssec") == ["note"]
    assert levels(found, "disk", "sync")[0] in ("ok", "note", "warning")
    assert found["clock", "synchronised"][0][0] in ("ok", "warning")
    assert levels(found, "hostname", "good.test") == ["ok"]


def test_without_a_service(relays, world):
    relay = relays(**world).start()
    relay.stop()
    check_sources(examine(relay)[1])


def test_nobody_answers(relays, world, dns):
    """Nothing is called wrong that could not be found out."""
    for name in (reverse(GOOD, "in-addr.arpa"), reverse(GOOD, "list.test"), "probe.test"):
        dns.fail(name, "SERVFAIL")
    world["sources"] = world["sources"][:1]
    verdict, found = examine(relays(**world).start())
    assert verdict == "warning"
    assert levels(found, "source", GOOD) == ["warning"]
    assert levels(found, "blocklist", GOOD)[0] == "note"
    assert levels(found, "port 25", "probe.test") == ["warning"]


def test_port_25_is_closed(relays, world, receivers):
    closed = receivers()
    closed.stop()
    world["routes"][0]["port"] = closed.port
    world["sources"] = world["sources"][:1]
    verdict, found = examine(relays(**world).start())
    assert verdict == "problem"
    level, text, remedy = found["port 25", GOOD][0]
    assert level == "problem" and "refused" in text.lower() and "smarthost" in remedy


def test_certificate(relays, authority, world):
    certificate, key = authority.issue("elsewhere.test", days=3)
    for path in (certificate, key):
        shutil.chown(path, "nobody")
    world["tls"] = {"certificate": str(certificate), "private_key": str(key)}
    _, found = examine(relays(**world).start())
    assert levels(found, "certificate", str(certificate)) == ["warning", "warning"]
    assert "ends soon" in found["certificate", str(certificate)][0][1]


def test_for_people(relays, world):
    result = relays(**world).start().run("doctor")
    lines = result.stdout.decode().splitlines()
    assert result.returncode == 1
    at = next(i for i, line in enumerate(lines) if "has no name" in line)
    assert lines[at].startswith(f"problem  source      {NAMELESS}: ")
    assert lines[at + 1].strip().endswith("PTR good.test.")


def test_sender_domains(relays, world, dns):
    relay = relays(**world).start()
    records = {}
    for domain in ("whole.test", "half.test"):
        assert relay.run("domain", "add", domain).returncode == 0
        answer = json.loads(relay.run("domain", "dns", domain, "--json").stdout)
        records[domain] = answer["records"]
        for r in records[domain]:
            if domain == "whole.test" or r["purpose"] not in ("dkim", "dmarc"):
                dns.add(r["name"], r["type"], r["zone"].split(f" IN {r['type']} ", 1)[1])
    verdict, found = examine(relay)
    assert verdict == "problem"
    assert found["domain", "whole.test"] == [
        ("ok", "what it must publish is published", None)]
    half = found["domain", "half.test"]
    assert [level for level, _, _ in half] == ["problem", "problem", "warning"]
    assert [remedy for _, _, remedy in half] == [
        r["zone"] for r in records["half.test"] if r["purpose"] in ("dkim", "dmarc")]

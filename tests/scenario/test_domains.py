# SPDX-License-Identifier: Apache-2.0
"""Sender domains: what to publish, what is published, and in whose words."""
import json
import subprocess

import pytest

from support.relay import BINARY


@pytest.fixture
def service(relays, dns):
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   routes=[{"domains": ["*"], "deliver": "discard"}],
                   resolver={"servers": [dns.address], "dnssec": False})
    return relay.start()


def run(relay, *words):
    got = subprocess.run([BINARY, "domain", *words, "--config", relay.config_path],
                         capture_output=True, text=True, timeout=30)
    return got.returncode, got.stdout, got.stderr


def run_json(relay, *words, status=0):
    got, out, err = run(relay, *words, "--json")
    assert got == status, (out, err)
    return json.loads(out)


def publish(dns, records, skip=()):
    for r in records:
        if r["purpose"] in skip:
            continue
        text = r["zone"].split(f" IN {r['type']} ", 1)[1]
        dns.add(r["name"], r["type"], text)


def test_add_publish_verify(service, dns):
    added = run_json(service, "add", "sender.test")
    assert [k["algorithm"] for k in added["keys"]] == ["rsa-sha256", "ed25519-sha256"]
    assert not added["verified"] and added["return_path"] == "bounces.sender.test"
    missing = run_json(service, "verify", "sender.test", status=1)
    assert {r["result"] for r in missing["records"]} == {"missing"}
    assert not missing["verified"]
    records = run_json(service, "dns", "sender.test")["records"]
    assert [r["purpose"] for r in records] == ["dkim", "dkim", "spf", "dmarc", "mx", "spf"]
    publish(dns, records)
    dns.add("relay.test", "A", "127.0.0.1")
    verified = run_json(service, "verify", "sender.test")
    assert verified["verified"] and verified["fine"], verified
    shown = run_json(service, "show", "sender.test")
    assert shown["verified"] and shown["problem"] is None
    assert all(k["seen"] for k in shown["keys"])


def test_what_is_wrong_is_said(service, dns):
    run_json(service, "add", "sender.test")
    records = run_json(service, "dns", "sender.test")["records"]
    publish(dns, records, skip=("spf", "mx"))
    dns.add("sender.test", "TXT", '"v=spf1 -all"')
    dns.add("bounces.sender.test", "MX", "10 mail.elsewhere.test.")
    dns.add("mail.elsewhere.test", "A", "127.0.0.1")
    dns.fail("_dmarc.sender.test", "SERVFAIL")
    status, out, _ = run(service, "verify", "sender.test")
    assert status == 1
    assert "SPF is published but does not name this relay" in out
    assert "found:   v=spf1 -all" in out
    assert "bounces.sender.test leads its mail elsewhere" in out
    assert "the DNS did not tell" in out
    assert "the domain sender.test is verified" in out


def test_a_policy_above_counts(service, dns):
    run_json(service, "add", "a.news.sender.test")
    found = run_json(service, "verify", "a.news.sender.test", status=1)["records"]
    assert next(r for r in found if r["purpose"] == "dmarc")["result"] == "missing"
    dns.add("_dmarc.sender.test", "TXT", '"v=DMARC1; p=reject"')
    found = run_json(service, "verify", "a.news.sender.test", status=1)["records"]
    dmarc = next(r for r in found if r["purpose"] == "dmarc")
    assert dmarc["result"] == "fine" and dmarc["found"] == "v=DMARC1; p=reject"


def test_errors_in_words(service):
    run_json(service, "add", "sender.test")
    for words, say in [(("add", "sender.test"), "is here already"),
                       (("add", "nodot"), "must be a domain"),
                       (("verify", "other.test"), "there is no sender domain"),
                       (("dns", "other.test"), "there is no sender domain"),
                       (("add", "x.test", "--tenant", "nobody"), "there is no tenant")]:
        status, _, err = run(service, *words)
        assert status == 1 and say in err, (words, err)


def test_tables_for_people(service):
    status, out, _ = run(service, "add", "sender.test")
    assert status == 0 and "posthouse domain dns sender.test" in out
    assert "sender.test" in run(service, "list")[1]
    out = run(service, "dns", "sender.test")[1]
    assert "_dmarc.sender.test. 3600 IN TXT" in out
    # Strings of a TXT record have 255 octets at most.
    line = next(x for x in out.splitlines() if "-rsa" in x and " IN TXT " in x)
    assert max(len(s) for s in line.split('"')[1::2]) == 255


def test_keys_are_the_services_alone(service):
    run_json(service, "add", "sender.test")
    files = list((service.data_dir / "keys" / "sender.test").iterdir())
    assert len(files) == 2
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in files)
    assert all(f.stat().st_uid == service.data_dir.stat().st_uid for f in files)
    out = run(service, "show", "sender.test", "--json")[1]
    assert "PRIVATE" not in out
    run_json(service, "remove", "sender.test")
    assert not (service.data_dir / "keys" / "sender.test").exists()


def test_without_the_service(relays, dns):
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   resolver={"servers": [dns.address], "dnssec": False})
    relay.write_config()
    run_json(relay, "add", "sender.test")
    publish(dns, run_json(relay, "dns", "sender.test")["records"])
    dns.add("relay.test", "A", "127.0.0.1")
    assert run_json(relay, "verify", "sender.test")["verified"]

# SPDX-License-Identifier: Apache-2.0
"""MTA-STS (RFC 8461): a domain's published policy decides where mail may go;
the numbers are those of the matrix E."""
import shutil
import time

import pytest

from support.ports import free_port
from support.sts import HOST, PolicyHost, Scene
from support.tlsa import Certificate
from support.waiting import wait_for
from support.zone import SignedZone

@pytest.fixture
def scene(relays, receivers, dns, authority):
    made = Scene(relays, receivers, dns, authority,
                 [f"{n}.test" for n in ("good", "wild", "deep", "other", "cert", "plain",
                                        "testing", "none", "redirect", "type", "long", "slow",
                                        "bad", "id", "twice")])
    yield made
    made.web.stop()


def test_enforce(scene):
    """E12: in the list, a certificate for the name, and TLS at all."""
    good = scene.domain("good.test", "mx.good.test", "127.0.0.2")
    scene.web.publish("good.test", "enforce", "mx.good.test")
    wild = scene.domain("wild.test", "mx.wild.test", "127.0.0.3")
    scene.web.publish("wild.test", "enforce", "*.wild.test")
    deep = scene.domain("deep.test", "a.mx.deep.test", "127.0.0.4")
    scene.web.publish("deep.test", "enforce", "*.deep.test")
    other = scene.domain("other.test", "mx.other.test", "127.0.0.5")
    scene.web.publish("other.test", "enforce", "mx2.other.test")
    cert = scene.domain("cert.test", "mx.cert.test", "127.0.0.6", name="wrong.test")
    scene.web.publish("cert.test", "enforce", "mx.cert.test")
    plain = scene.domain("plain.test", "mx.plain.test", "127.0.0.7", tls=False)
    scene.web.publish("plain.test", "enforce", "mx.plain.test")
    scene.start()
    for domain, receiver in (("good.test", good), ("wild.test", wild)):
        event = scene.send(domain, "delivered")
        assert event["tls_policy"] == "sts" and event["tls_verified"]
        assert receiver.messages[0].tls
    for domain, receiver, says in (
            ("deep.test", deep, "does not stand in"), ("other.test", other, "does not stand in"),
            ("cert.test", cert, "hostname mismatch"), ("plain.test", plain, "STARTTLS")):
        event = scene.send(domain, "deferred")
        assert event["tls_policy"] == "sts" and says in event["reply"]
        assert not receiver.messages
        assert not any(c.startswith("MAIL") for s in receiver.sessions for c in s.commands)
    assert len(scene.web.asked) == 6
    assert {path for _, path in scene.web.asked} == {"/.well-known/mta-sts.txt"}


def test_testing_and_none_block_nothing(scene):
    """E13"""
    scene.domain("testing.test", "mx.testing.test", "127.0.0.2", name="wrong.test")
    scene.web.publish("testing.test", "testing", "mx.elsewhere.test")
    scene.domain("none.test", "mx.none.test", "127.0.0.3", tls=False)
    scene.web.publish("none.test", "none")
    scene.start()
    for domain in ("testing.test", "none.test"):
        assert scene.send(domain, "delivered")["tls_policy"] == "opportunistic"


def test_answers_that_are_no_policy(scene):
    """E14: what is not fetched as it must be counts as none."""
    def slow():
        time.sleep(4)
        return 200, {"Content-Type": "text/plain"}, b""

    names = ["redirect", "type", "long", "slow", "bad", "twice"]
    for number, name in enumerate(names, 10):
        scene.domain(f"{name}.test", f"mx.{name}.test", f"127.0.0.{number}", name="wrong.test")
        scene.web.publish(f"{name}.test", "enforce", f"mx.{name}.test")
    answer = scene.web.answers
    answer["mta-sts.redirect.test"] = (
        301, {"Location": f"https://mta-sts.good.test:{scene.web.port}/.well-known/mta-sts.txt",
              "Content-Type": "text/plain"}, b"")
    scene.web.publish("good.test", "enforce", "mx.redirect.test")
    scene.web.publish("type.test", "enforce", "mx.type.test",
                      headers={"Content-Type": "text/html"})
    scene.web.publish("long.test", "enforce", "mx.long.test", body=(
        b"version: STSv1\nmode: enforce\nmax_age: 86400\nmx: mx.long.test\n" + b"x: y\n" * 20000))
    answer["mta-sts.slow.test"] = slow
    # Not in the certificate of the policy host:
    scene.domain("stranger.test", "mx.stranger.test", "127.0.0.20", name="wrong.test")
    scene.web.publish("stranger.test", "enforce", "mx.stranger.test")
    scene.web.publish("bad.test", "enforce", "mx.bad.test",
                      body=b"version: STSv1\nmode: enforce\nmx: mx.bad.test\n")
    scene.dns.add("_mta-sts.twice.test", "TXT", '"v=STSv1; id=2;"')
    scene.start()
    for name in (*names, "stranger"):
        scene.relay.submit("a@sender.test", f"u@{name}.test")
    for name in (*names, "stranger"):
        event = scene.relay.wait_event(recipient=f"u@{name}.test", type="delivered")
        assert event["tls_policy"] == "opportunistic", name
    asked = [host for host, _ in scene.web.asked]
    assert "mta-sts.good.test" not in asked and "mta-sts.stranger.test" not in asked
    assert "mta-sts.twice.test" not in asked


def test_a_policy_outlives_its_host_and_follows_its_id(scene):
    """E14, E15: kept over a restart, counted on while the host is down, and
    fetched anew when the id of the record changes."""
    scene.domain("id.test", "mx.id.test", "127.0.0.2", name="wrong.test")
    scene.web.publish("id.test", "enforce", "mx.id.test")
    relay = scene.start()
    assert scene.send("id.test", "deferred")["tls_policy"] == "sts"
    assert len(scene.web.asked) == 1
    assert relay.stop() == 0
    kept = (relay.data_dir / "mta-sts.cache").read_text()
    assert "domain: id.test\nid: 1\n" in kept and "mode: enforce" in kept
    # Same id: not asked for again; gone: still enforced.
    scene.web.answers["mta-sts.id.test"] = (500, {}, b"")
    relay.start()
    assert scene.send("id.test", "deferred", "same")["tls_policy"] == "sts"
    assert relay.stop() == 0
    assert len(scene.web.asked) == 1
    scene.dns.records["_mta-sts.id.test.", "TXT"] = ['"v=STSv1; id=2;"']
    relay.start()
    assert scene.send("id.test", "deferred", "down")["tls_policy"] == "sts"
    wait_for(lambda: len(scene.web.asked) == 2, what="a fetch")
    assert relay.stop() == 0
    # Back, and of another mind.
    scene.web.publish("id.test", "none")
    relay.start()
    assert scene.send("id.test", "deferred", "before")["tls_policy"] == "sts"
    wait_for(lambda: len(scene.web.asked) == 3, what="another fetch")
    wait_for(lambda: "mode: none" in (relay.data_dir / "mta-sts.cache").read_text(),
             what="the new policy is kept")
    relay.reload()
    wait_for(lambda: "reloaded" in relay.log_text(), what="reload")
    event = scene.send("id.test", "delivered", "after")
    assert event["tls_policy"] == "opportunistic"


def test_dane_outranks_it(relays, receivers, authority, place):
    """E16: TLSA records have the word, whatever the policy says."""
    for program in ("nsd", "ldns-signzone"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    web = PolicyHost(authority, "signed.test")
    port = free_port("127.0.0.2")
    zone = SignedZone(place / "zone", "signed.test", [
        "@ IN MX 10 mx", "mx IN A 127.0.0.2", f"mta-sts IN A {HOST}",
        '_mta-sts IN TXT "v=STSv1; id=1;"',
        f"_{port}._tcp.mx IN TLSA {Certificate('other').tlsa(3, 1, 1)}"]).start()
    web.publish("signed.test", "enforce", "mx.signed.test")
    receiver = receivers(host="127.0.0.2", port=port, tls=True, name="mx.signed.test")
    try:
        relay = relays(
            resolver={"servers": [zone.address], "trust_anchor": str(zone.anchor)},
            retry={"schedule": ["1h"]},
            mta_sts={"ca_file": str(authority.certificate), "port": web.port},
            routes=[{"domains": ["*"], "deliver": "mx", "port": port}]).start()
        # The certificate would do for the policy.
        relay.submit("a@sender.test", "u@signed.test")
        event = relay.wait_event(recipient="u@signed.test", type="deferred")
        assert event["tls_policy"] == "dane" and not receiver.messages
        assert web.asked
    finally:
        zone.stop()
        web.stop()

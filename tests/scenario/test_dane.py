# SPDX-License-Identifier: Apache-2.0
"""DANE (RFC 7672): where the DNS is signed, its TLSA records decide whether
mail may go to a server. Case by case, against a signed zone of nsd, asked
through a validating unbound; the numbers are those of the matrix E."""
import re
import shutil

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from support.ports import free_port
from support.receiver import Receiver
from support.tlsa import Certificate, Shown
from support.zone import SignedZone, Unbound

BOGUS = "3 1 1 " + "ab" * 32     # broken after signing
NONSENSE = "3 1 1 " + "cd" * 32  # well signed, matches nothing
EMPTY = r"\# 3 030101"
OTHER = "3 1 1 " + "ef" * 32     # what BOGUS becomes

DELIVERED, DEFERRED = "delivered", "deferred"


class Case:
    """One domain: what its zone says, what its server shows, what happens."""

    def __init__(self, name, end, policy=None, verified=None, says="", tlsa=(),
                 shows=None, keywords=True, script=None, kind="signed"):
        self.name, self.end, self.policy, self.verified = name, end, policy, verified
        self.says, self.tlsa, self.shows = says, tlsa, shows
        self.keywords, self.script, self.kind = keywords, script, kind

    def __repr__(self):
        return self.name


def leaf(host, by=None, **options):
    return Certificate(host, by=by, names=options.pop("names", [host]), **options)


def make_cases():
    """Certificates are made for host "<case>-mx.signed.test"."""
    cases = []

    def case(name, end, *args, **options):
        make = options.pop("make", None)
        host = f"{name}-mx.{options.get('zone', 'signed')}.test"
        options.pop("zone", None)
        shows, tlsa = make(host) if make else ((leaf(host),), options.pop("tlsa", ()))
        cases.append(Case(name, end, *args, tlsa=tlsa, shows=shows, **options))

    def ee(usage, selector, matching, **options):
        def make(host):
            own = leaf(host, **options)
            return (own,), (own.tlsa(usage, selector, matching),)
        return make

    def ta(record, root=None, middle=None, own=None, sends="middle root"):
        def make(host):
            top = Certificate("root", ca=True, **(root or {}))
            between = Certificate("middle", by=top, **{"ca": True, **(middle or {})})
            end = leaf(host, by=between, **(own or {}))
            by_name = {"root": top, "middle": between,
                       "stranger": Certificate("stranger", ca=True)}
            chain = [by_name[n] for n in sends.split()]
            who, *numbers = record
            return (end, *chain), (by_name[who].tlsa(*numbers),)
        return make

    def direct(*numbers, root=None, own=None):
        """The authority signs the leaf and is not sent."""
        def make(host):
            top = Certificate("root", ca=True, **(root or {}))
            end = leaf(host, by=top, **(own or {}))
            return (end,), (top.tlsa(*numbers),)
        return make

    no_match = "no matching DANE TLSA records"
    wrong = {"names": ["other.test"]}
    # E1, E2: the server's own key
    case("e1-name-and-date", DELIVERED, "dane", True,
         make=ee(3, 1, 1, names=["other.test"], expired=True))
    case("e1-certificate", DELIVERED, "dane", True, make=ee(3, 0, 1))
    case("e1-sha512", DELIVERED, "dane", True, make=ee(3, 1, 2))
    case("e1-whole-key", DELIVERED, "dane", True, make=ee(3, 1, 0))
    case("e2-mismatch", DEFERRED, "dane", says=no_match, tlsa=(NONSENSE,))
    # E3: an authority of their own, and then the name counts
    case("e3-name", DELIVERED, "dane", True, make=ta(("root", 2, 0, 1)))
    case("e3-wrong-name", DEFERRED, "dane", says="ostname mismatch",
         make=ta(("root", 2, 0, 1), own=wrong))
    case("e3-common-name", DEFERRED, "dane", says="ostname mismatch",
         make=ta(("root", 2, 0, 1), own={"names": None}))
    # E4: chains as they come
    case("e4-not-sent", DELIVERED, "dane", True, make=direct(2, 0, 0))
    case("e4-bare-key", DELIVERED, "dane", True, make=direct(2, 1, 0))
    case("e4-private-intermediate", DELIVERED, "dane", True,
         make=ta(("middle", 2, 1, 1), sends="middle"))
    case("e4-disorder", DELIVERED, "dane", True,
         make=ta(("root", 2, 1, 1), sends="stranger root middle"))
    case("e4-digest-not-sent", DEFERRED, "dane", make=direct(2, 0, 1))
    # E5: chains that must not do
    case("e5-expired-intermediate", DEFERRED, "dane", says="expired",
         make=ta(("root", 2, 0, 1), middle={"expired": True}))
    case("e5-path-length", DEFERRED, "dane", says="path length",
         make=ta(("root", 2, 0, 1), root={"pathlen": 0}, middle={"pathlen": 0}))
    case("e5-no-authority", DEFERRED, "dane",
         make=ta(("root", 2, 0, 1), middle={"ca": False}))
    case("e5-purpose", DEFERRED, "dane", says="purpose",
         make=ta(("root", 2, 0, 1), own={"usage": ExtendedKeyUsageOID.CLIENT_AUTH}))
    case("e5-stranger", DEFERRED, "dane",
         make=ta(("stranger", 2, 0, 1), sends="middle root stranger"))
    # E6: records that nobody can use
    for name, record in (("usage-0", "0 0 1 " + "cd" * 32), ("usage-1", "1 1 1 " + "cd" * 32),
                         ("usage-9", "9 1 1 " + "cd" * 32), ("matching-7", "3 1 7 " + "cd" * 32),
                         ("selector-4", "3 4 1 " + "cd" * 32), ("short", "3 1 1 abcd"),
                         ("16-octets", "3 1 1 " + "cd" * 16), ("no-data", EMPTY), ("no-certificate", "2 0 0 3003020101")):
        case(f"e6-{name}", DELIVERED, "dane-unusable", False, tlsa=(record,))
    case("e6-beside-a-good-one", DEFERRED, "dane", says=no_match,
         tlsa=(NONSENSE, "1 1 1 " + "cd" * 32))
    # E7 to E9: what is signed and what is not
    case("e7-bogus", DEFERRED, "dane", says="TLSA records could not be looked up",
         tlsa=(BOGUS,))
    case("e8-insecure", DELIVERED, "opportunistic", False, zone="plain", kind="plain",
         tlsa=(NONSENSE,))
    case("e9-insecure-address", DELIVERED, "opportunistic", False, zone="plain",
         kind="leaves", tlsa=(NONSENSE,))
    case("e9-alias", DEFERRED, "dane", says=no_match, kind="alias", tlsa=(NONSENSE,))
    case("e9-alias-matches", DELIVERED, "dane", True, kind="alias",
         make=ee(3, 1, 1))
    # E10: no TLS
    case("e10-not-offered", DEFERRED, "dane", says="STARTTLS", make=ee(3, 1, 1),
         keywords=False)
    case("e10-unusable", DEFERRED, "dane-unusable", says="STARTTLS",
         tlsa=("1 1 1 " + "cd" * 32,), keywords=False)
    case("e10-refused", DEFERRED, "dane", says="STARTTLS", make=ee(3, 1, 1),
         script={"STARTTLS": "454 4.7.0 not now"})
    case("none", DELIVERED, "opportunistic", False)
    return cases


CASES = make_cases()


class World:
    def __init__(self, place, relays):
        self.place = place
        self.port = free_port("127.7.0.1")
        self.signed, self.plain = [], []
        for number, case in enumerate(CASES, 1):
            case.address = f"127.7.0.{number}"
            self.add(case)
        self.add_pairs()
        self.zone = SignedZone(place / "signed", "signed.test", self.signed)
        served = self.zone.served.read_text()
        assert BOGUS.split()[-1] in served
        served = served.replace(BOGUS.split()[-1], OTHER.split()[-1])
        # The signer writes it in a way that nsd does not read.
        served, count = re.subn(r"TLSA\t3 1 1 *\n", f"TYPE52 {EMPTY}\n".replace("\\", r"\\"),
                                served)
        assert count == 1
        self.zone.served.write_text(served)
        self.other = SignedZone(place / "plain", "plain.test", self.plain, sign=False)
        self.zone.start()
        self.other.start()
        self.unbound = Unbound(place / "unbound", self.zone, self.other).start()
        self.relay = relays(
            resolver={"servers": [self.unbound.address], "dnssec": True,
                      "trust_anchor": str(self.zone.anchor)},
            retry={"schedule": ["1h"]},
            routes=[{"domains": ["*"], "deliver": "mx", "port": self.port}]).start()

    def add(self, case):
        host = case.name + "-mx"
        zone = self.plain if case.kind == "plain" else self.signed
        target = self.signed if case.kind in ("signed", "alias") else self.plain
        origin = "signed.test." if target is self.signed else "plain.test."
        zone.append(f"{case.name} IN MX 10 {host}.{origin}")
        if case.kind == "alias":
            target.append(f"{host} IN CNAME {host}.plain.test.")
            self.plain.append(f"{host} IN A {case.address}")
        else:
            target.append(f"{host} IN A {case.address}")
        for record in case.tlsa:
            target.append(f"_{self.port}._tcp.{host} IN TLSA {record}")

    def add_pairs(self):
        """E11: two hosts; the first may not be used."""
        self.good = leaf("e11-good-mx.signed.test")
        self.signed += [
            "e11-mismatch IN MX 10 e2-mismatch-mx", "e11-mismatch IN MX 20 e11-good-mx",
            "e11-bogus IN MX 10 e7-bogus-mx", "e11-bogus IN MX 20 e11-good-mx",
            "e11-good-mx IN A 127.7.1.1",
            f"_{self.port}._tcp.e11-good-mx IN TLSA {self.good.tlsa(3, 1, 1)}"]

    def receiver(self, address, shown, **options):
        made = Receiver(host=address, port=self.port, tls=True,
                        authority=Shown(self.place, *shown), **options)
        made.start()
        return made

    def stop(self):
        self.unbound.stop()
        self.zone.stop()
        self.other.stop()


@pytest.fixture(scope="module")
def world(module_place, module_relays):
    for program in ("nsd", "unbound", "ldns-signzone"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    made = World(module_place, module_relays)
    yield made
    made.stop()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_case(world, case):
    domain = f"{case.name}.{'plain' if case.kind == 'plain' else 'signed'}.test"
    receiver = world.receiver(case.address, case.shows, script=case.script)
    if not case.keywords:
        receiver.keywords.remove("STARTTLS")
    try:
        world.relay.submit("a@sender.test", f"u@{domain}")
        event = world.relay.wait_event(recipient=f"u@{domain}", type=case.end)
    finally:
        receiver.stop()
    assert event["tls_policy"] == case.policy
    assert case.says in event.get("reply", "")
    if case.end == DEFERRED:
        # Nothing was said of the message, in the clear or otherwise.
        assert not receiver.messages
        assert not any(c.startswith("MAIL") for s in receiver.sessions for c in s.commands)
        assert event["enhanced"].startswith("4.7.")
    else:
        assert receiver.messages[0].tls and event["tls"].startswith("TLSv1.")
        assert event["tls_verified"] == case.verified


@pytest.mark.parametrize("first", ["mismatch", "bogus"])
def test_the_next_host_is_used(world, first):
    """E11: each host is judged by its own records."""
    bad = world.receiver(
        next(c.address for c in CASES if c.name in ("e2-mismatch", "e7-bogus")
             and c.name.endswith(first)), (leaf("bad.test"),))
    good = world.receiver("127.7.1.1", (world.good,))
    try:
        world.relay.submit("a@sender.test", f"u@e11-{first}.signed.test")
        event = world.relay.wait_event(recipient=f"u@e11-{first}.signed.test",
                                       type=DELIVERED)
    finally:
        bad.stop()
        good.stop()
    assert event["peer_host"] == "e11-good-mx.signed.test"
    assert event["tls_policy"] == "dane" and event["tls_verified"]
    assert good.messages and not bad.messages


def test_status_says_that_dnssec_works(world):
    status = world.relay.cli("status")
    assert status["dnssec"] == "validates"
    assert not [w for w in status["warnings"] if "DANE" in w]


def test_without_signatures_dane_is_off(relays, receivers, dns, place, world):
    """A resolver that takes the signatures away makes nothing undeliverable."""
    home = receivers(host="127.0.0.9")
    dns.mail_domain("signed.test", "mx.signed.test", "127.0.0.9")
    relay = relays(
        resolver={"servers": [dns.address], "trust_anchor": str(world.zone.anchor)},
        routes=[{"domains": ["*"], "deliver": "mx", "port": home.port}]).start()
    relay.submit("a@sender.test", "u@signed.test")
    event = relay.wait_event(recipient="u@signed.test", type=DELIVERED)
    assert event["tls_policy"] == "opportunistic"
    status = relay.cli("status")
    assert status["dnssec"] == "fails"
    assert any("DANE is off" in w for w in status["warnings"])
    assert "DANE is off" in relay.log_text()


def test_a_route_may_do_without(relays, world):
    """`dane: false` is the operator's word against the zone's."""
    relay = relays(resolver=world.relay.config["resolver"],
                   routes=[{"domains": ["*"], "deliver": "mx", "port": world.port,
                            "dane": False}]).start()
    case = next(c for c in CASES if c.name == "e2-mismatch")
    receiver = world.receiver(case.address, case.shows)
    try:
        relay.submit("a@sender.test", "u@e2-mismatch.signed.test")
        event = relay.wait_event(recipient="u@e2-mismatch.signed.test", type=DELIVERED)
    finally:
        receiver.stop()
    assert event["tls_policy"] == "opportunistic" and event["tls"]

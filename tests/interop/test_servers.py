# SPDX-License-Identifier: Apache-2.0
"""Real servers receive: Postfix found through MX in a signed zone of our own, by
TLS; Dovecot by LMTP; aiosmtpd."""
import hashlib
import os
import shutil
import subprocess

import pytest

from support import postfix
from support.ports import free_port
from support.waiting import wait_for
from support.zone import SignedZone, Unbound

LINES = ["\u00e4 8-bit line \u20ac", ".dot", "..dots", " leading", "trailing \t",
         "x" * 990, "", "", "end"]
BODY = "\r\n".join(LINES).encode() + b"\r\n"
MESSAGE = (b"From: a@sender.test\r\nTo: u@signed.test\r\nSubject: signed zone\r\n"
           b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
           b"Content-Transfer-Encoding: 8bit\r\n\r\n" + BODY)


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def key_digest(certificate):
    """What a TLSA record 3 1 1 says of a certificate file."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@pytest.fixture
def zone(place):
    need("nsd", "unbound", "ldns-signzone")
    made = SignedZone(place / "zone", "signed.test",
                      ["@ IN MX 10 mx", "mx IN A 127.0.0.2"]).start()
    yield made
    made.stop()


@pytest.fixture
def mta(place, authority):
    if not postfix.available():
        pytest.skip("Postfix needs root")
    certificate, key = authority.issue("mx.signed.test")
    peer = postfix.Postfix(place / "postfix", host="127.0.0.2")
    peer.receives("signed.test").serves_tls(certificate, key).start()
    yield peer
    peer.stop()


@pytest.mark.parametrize("by", ["authority", "unbound"])
def test_postfix_by_mx_in_a_signed_zone_over_tls(relays, place, zone, mta, by):
    resolver = zone
    if by == "unbound":
        resolver = Unbound(place / "unbound", zone).start()
    try:
        relay = relays(
            resolver={"servers": [resolver.address], "dnssec": True,
                      "trust_anchor": str(zone.anchor)},
            routes=[{"domains": ["*"], "deliver": "mx", "port": mta.port}]).start()
        message_id = relay.submit("a@sender.test", "u@signed.test", MESSAGE,
                                  mail_options=["BODY=8BITMIME"])
        path = wait_for(mta.messages, 30, "a file in Postfix's Maildir")[0]
    finally:
        if resolver is not zone:
            resolver.stop()
    data = path.read_bytes()
    # Postfix keeps lines with LF: bytes are equal but for that.
    assert data.split(b"\n\n", 1)[1] == BODY.replace(b"\r\n", b"\n")
    assert b"using TLSv1.3" in data
    event = relay.wait_event(type="delivered", message_id=message_id)
    assert event["peer_host"] == "mx.signed.test" and event["tls"].startswith("TLSv1.3")


@pytest.mark.parametrize("matches", [True, False])
def test_postfix_by_its_tlsa_record(relays, place, authority, mta, matches):
    """DANE: Postfix shows the key that the signed zone names, or another."""
    need("nsd", "ldns-signzone")
    certificate, _ = authority.issue("mx.signed.test" if matches else "other.test")
    digest = key_digest(certificate)
    zone = SignedZone(place / "zone", "signed.test", [
        "@ IN MX 10 mx", "mx IN A 127.0.0.2",
        f"_{mta.port}._tcp.mx IN TLSA 3 1 1 {digest}"]).start()
    try:
        relay = relays(resolver={"servers": [zone.address], "trust_anchor": str(zone.anchor)},
                       routes=[{"domains": ["*"], "deliver": "mx", "port": mta.port}]).start()
        relay.submit("a@sender.test", "u@signed.test", MESSAGE,
                     mail_options=["BODY=8BITMIME"])
        event = relay.wait_event(recipient="u@signed.test",
                                 type="delivered" if matches else "deferred", seconds=30)
    finally:
        zone.stop()
    assert event["tls_policy"] == "dane"
    if matches:
        assert event["tls_verified"] and wait_for(mta.messages, what="the message")
    else:
        assert "no matching DANE TLSA records" in event["reply"] and not mta.messages()


def test_a_bogus_zone_is_temporary(relays, place, mta):
    need("nsd", "ldns-signzone")
    zone = SignedZone(place / "zone", "signed.test",
                      ["@ IN MX 10 mx", "mx IN A 127.0.0.2"])
    # Signed, then changed: the signatures no longer fit.
    zone.served.write_text(zone.served.read_text().replace("127.0.0.2", "127.0.0.3"))
    zone.start()
    try:
        relay = relays(resolver={"servers": [zone.address], "dnssec": True,
                                 "trust_anchor": str(zone.anchor)},
                       routes=[{"domains": ["*"], "deliver": "mx", "port": mta.port}]).start()
        message_id = relay.submit("a@sender.test", "u@signed.test", MESSAGE,
                                  mail_options=["BODY=8BITMIME"])
        event = relay.wait_event(type="deferred", message_id=message_id, seconds=40)
        assert not mta.messages()
        assert "DNSSEC" in event["reply"] or "bogus" in event["reply"].lower()
    finally:
        zone.stop()


def test_postfix_refuses_a_recipient(relays, receivers, dns, place, mta):
    """A 5xx of a real server comes back as one report."""
    mta.stop()
    mta.settings["virtual_mailbox_maps"] = "inline:{known@signed.test=all/}"
    mta.start()
    home = receivers(host="127.0.0.3", port=mta.port)
    dns.mail_domain("signed.test", "mx.signed.test", "127.0.0.2")
    dns.mail_domain("sender.test", "mx.sender.test", "127.0.0.3")
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": mta.port}]).start()
    relay.submit("a@sender.test", ["unknown@signed.test", "known@signed.test"], MESSAGE,
                 mail_options=["BODY=8BITMIME"])
    report = wait_for(lambda: home.messages, what="the report")[0]
    assert b"unknown@signed.test" in report.data and b"Status: 5.1.1" in report.data
    assert wait_for(mta.messages, what="the good one")


DOVECOT = """\
base_dir = {place}/run
state_dir = {place}/run
log_path = {place}/log
info_log_path = {place}/log
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
protocols = lmtp
ssl = no
mail_location = maildir:{place}/mail/%n
first_valid_uid = 1
mail_uid = nobody
mail_gid = nogroup
postmaster_address = postmaster@home.test
auth_mechanisms = plain
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={place}/mail/%n allow_all_users=yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {place}/lmtp.sock {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
"""


@pytest.fixture
def dovecot(place):
    if os.geteuid() != 0:
        pytest.skip("Dovecot needs root")
    need("dovecot")
    root = place / "dovecot"
    (root / "mail").mkdir(parents=True)
    root.chmod(0o755)
    shutil.chown(root / "mail", "nobody", "nogroup")
    port = free_port()
    config = root / "dovecot.conf"
    config.write_text(DOVECOT.format(place=root, port=port))
    process = subprocess.Popen(["dovecot", "-F", "-c", str(config)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root_info = type("Dovecot", (), {"place": root, "port": port, "socket": root / "lmtp.sock",
                                     "log": root / "log"})
    try:
        wait_for(root_info.socket.exists, 15, "Dovecot's socket")
        yield root_info
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("by", ["tcp", "unix"])
def test_dovecot_by_lmtp(relays, dovecot, by):
    to = f"127.0.0.1:{dovecot.port}" if by == "tcp" else f"unix:{dovecot.socket}"
    relay = relays(routes=[{"domains": ["home.test"], "deliver": "lmtp", "to": to}]).start()
    message_id = relay.submit("a@sender.test", ["one@home.test", "two@home.test"],
                              MESSAGE, mail_options=["BODY=8BITMIME"])
    wait_for(lambda: len(relay.events(type="delivered", message_id=message_id)) == 2,
             20, "both delivered: " + dovecot.log.read_text() if dovecot.log.exists() else "")
    for user in ("one", "two"):
        path = next((dovecot.place / "mail" / user / "new").iterdir())
        assert path.read_bytes().split(b"\n\n", 1)[1] == BODY.replace(b"\r\n", b"\n")


def test_aiosmtpd_receives(relays):
    controller = pytest.importorskip("aiosmtpd.controller")

    class Keep:
        def __init__(self):
            self.envelopes = []

        async def handle_DATA(self, server, session, envelope):
            self.envelopes.append(envelope)
            return "250 2.0.0 ok"

    keep = Keep()
    server = controller.Controller(keep, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        relay = relays(routes=[{"domains": ["*"], "deliver": "smtp",
                                "to": f"127.0.0.1:{server.port}"}]).start()
        relay.submit("a@sender.test", "b@example.test", MESSAGE, mail_options=["BODY=8BITMIME"])
        envelope = wait_for(lambda: keep.envelopes, what="delivery")[0]
        assert envelope.content.endswith(b"\r\n\r\n" + BODY)
    finally:
        server.stop()

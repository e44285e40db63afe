# SPDX-License-Identifier: Apache-2.0
"""A message's way from a client who may send to the recipient's server."""
import email
import ssl
import time

import pytest

from support.pki import NO_EXTENDED_MASTER_SECRET
from support.waiting import wait_for

BODY = (b"From: a@sender.test\r\nTo: b@example.test\r\nSubject: exact\r\n\r\n"
        b".leading dot\r\n..two dots\r\n \t trailing space \r\n"
        b"eight bit: \xc3\xa4\xff\r\n" + b"x" * 997 + b"\r\n\r\n\r\nlast line\r\n")


def body_of(data):
    return data.split(b"\r\n\r\n", 1)[1]


@pytest.fixture
def mx(receivers):
    return receivers(host="127.0.0.2", port=None)


@pytest.fixture
def routed(relays, dns, mx):
    """A relay for which example.test's MX is the scripted receiver."""
    dns.mail_domain("example.test", "mx.example.test", mx.host)
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": mx.port}],
                   retry={"schedule": ["1s", "2s"], "expire": "1m"})
    return relay.start()


def test_body_arrives_byte_identical(routed, mx):
    message_id = routed.submit("a@sender.test", "b@example.test", BODY)
    message = wait_for(lambda: mx.messages, what="delivery")[0]
    assert message.sender == "a@sender.test"
    assert message.recipients == ["b@example.test"]
    assert body_of(message.data) == body_of(BODY)
    header = email.message_from_bytes(message.data)
    assert message_id in header["Received"]
    assert "with ESMTPSA" in header["Received"]
    assert header["Date"] and header["Message-ID"]
    event = routed.wait_event(type="delivered", message_id=message_id)
    assert event["recipient"] == "b@example.test"
    assert event["code"] == 250 and event["peer_address"].startswith("127.0.0.2")


def test_what_the_client_wrote_stays(routed, mx):
    routed.submit("a@sender.test", "b@example.test",
                  "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <own@x>\r\n"
                  "Bcc: secret@example.test\r\nReturn-Path: <forged@x>\r\n"
                  "Subject: own\r\n\r\nbody\r\n")
    data = wait_for(lambda: mx.messages, what="delivery")[0].data
    header = email.message_from_bytes(data)
    assert header.get_all("Message-ID") == ["<own@x>"]
    assert len(header.get_all("Date")) == 1
    assert header["Bcc"] is None and header["Return-Path"] is None


def test_one_body_for_many_recipients_of_a_domain(routed, mx):
    recipients = [f"user{n}@example.test" for n in range(30)]
    routed.submit("a@sender.test", recipients)
    wait_for(lambda: sum(len(m.recipients) for m in mx.messages) == 30,
             what="all recipients")
    assert len(mx.messages) == 1


def test_connection_is_used_again(routed, mx):
    for n in range(5):
        routed.submit("a@sender.test", f"b{n}@example.test")
        wait_for(lambda: len(mx.messages) == n + 1, what="the message")
    assert len(mx.sessions) <= 2


def test_temporary_failure_is_tried_again_on_schedule(routed, mx):
    mx.script["RCPT"] = ["451 4.7.1 greylisted, come back", "250 2.1.5 ok"]
    started = time.monotonic()
    message_id = routed.submit("a@sender.test", "b@example.test")
    deferred = routed.wait_event(type="deferred", message_id=message_id)
    assert deferred["code"] == 451 and "greylisted" in deferred["reply"]
    assert deferred["next_attempt"]
    message = wait_for(lambda: mx.messages, what="second attempt")[0]
    assert message.at - started >= 0.9
    routed.wait_event(type="delivered", message_id=message_id, attempt=2)


def test_permanent_failure_makes_one_report(routed, receivers, dns, mx):
    mx.script["RCPT"] = lambda r, s, address: (
        "550 5.1.1 no such user here" if address == "nobody@example.test"
        else "250 2.1.5 ok")
    home = receivers(host="127.0.0.3", port=mx.port)
    dns.mail_domain("sender.test", "mx.sender.test", home.host)
    message_id = routed.submit(
        "a@sender.test", ["nobody@example.test", "somebody@example.test"])
    report = wait_for(lambda: home.messages, what="the report")[0]
    assert report.sender == "" and report.recipients == ["a@sender.test"]
    parsed = email.message_from_bytes(report.data)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    text, status, original = parsed.get_payload()
    assert "nobody@example.test" in text.get_payload(decode=True).decode()
    per_message, per_recipient = status.get_payload()
    assert per_recipient["Final-Recipient"] == "rfc822; nobody@example.test"
    assert per_recipient["Action"] == "failed"
    assert per_recipient["Status"] == "5.1.1"
    assert "no such user here" in per_recipient["Diagnostic-Code"]
    assert per_message["Reporting-MTA"] == "dns; relay.test"
    assert original.get_content_type() in ("text/rfc822-headers", "message/rfc822")
    wait_for(lambda: [m for m in mx.messages
                      if m.recipients == ["somebody@example.test"]], what="the other")
    routed.wait_event(type="bounced", message_id=message_id)
    time.sleep(1.5)
    assert len(home.messages) == 1


def test_dead_host_expires_with_a_report(relays, receivers, dns, mx):
    home = receivers(host="127.0.0.3", port=mx.port)
    dns.mail_domain("sender.test", "mx.sender.test", home.host)
    dns.mail_domain("dead.test", "mx.dead.test", "127.0.0.9")
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": mx.port}],
                   retry={"schedule": ["1s"], "expire": "4s"}).start()
    message_id = relay.submit("a@sender.test", "b@dead.test")
    relay.wait_event(type="deferred", message_id=message_id)
    relay.wait_event(type="expired", message_id=message_id, seconds=30)
    report = wait_for(lambda: home.messages, what="the report", seconds=30)[0]
    status = email.message_from_bytes(report.data).get_payload()[1]
    assert status.get_payload()[1]["Action"] == "failed"
    assert status.get_payload()[1]["Status"] == "5.4.7"


def test_next_mx_is_tried(relays, receivers, dns):
    good = receivers(host="127.0.0.5")
    dns.add("example.test", "MX", "10 dead.example.test.", "20 good.example.test.")
    dns.add("dead.example.test", "A", "127.0.0.9")
    dns.add("good.example.test", "A", "127.0.0.5")
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": good.port}]).start()
    relay.submit("a@sender.test", "b@example.test")
    wait_for(lambda: good.messages, what="delivery by the second MX")


@pytest.mark.parametrize("records, status", [
    ({}, "5.1.2"),                                   # NXDOMAIN
    ({("void.test", "MX"): ["0 ."]}, "5.1.10"),      # null MX
    ({("void.test", "TXT"): ['"x"']}, "5.4.4"),      # neither MX nor address
])
def test_domains_without_mail(routed, dns, records, status):
    for (name, kind), rdata in records.items():
        dns.add(name, kind, *rdata)
    message_id = routed.submit("a@sender.test", "b@void.test")
    assert routed.wait_event(type="bounced", message_id=message_id)["enhanced"] == status


def test_dns_trouble_is_temporary(routed, dns, mx):
    dns.mail_domain("shaky.test", "mx.example.test", mx.host)
    dns.fail("shaky.test", "SERVFAIL")
    message_id = routed.submit("a@sender.test", "b@shaky.test")
    routed.wait_event(type="deferred", message_id=message_id, seconds=40)
    dns.heal("shaky.test")
    routed.wait_event(type="delivered", message_id=message_id, seconds=60)


def test_private_addresses_are_refused_by_default(relays, dns, mx):
    dns.mail_domain("example.test", "mx.example.test", mx.host)
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   delivery={"private_networks": "refuse"}).start()
    message_id = relay.submit("a@sender.test", "b@example.test")
    event = relay.wait_event(type="bounced", message_id=message_id)
    assert event["enhanced"] == "5.4.4"
    assert not mx.sessions


def test_opportunistic_and_required_tls(relays, receivers, authority):
    secure = receivers(tls=True, name="localhost")
    plain = receivers()
    relay = relays(routes=[
        {"domains": ["secure.test"], "deliver": "smtp", "to": f"127.0.0.1:{secure.port}"},
        {"domains": ["plain.test"], "deliver": "smtp", "to": f"127.0.0.1:{plain.port}"},
        {"domains": ["strict.test"], "deliver": "smtp", "tls": "require",
         "to": f"127.0.0.1:{plain.port}"}]).start()
    relay.submit("a@sender.test", "b@secure.test")
    relay.submit("a@sender.test", "b@plain.test")
    strict = relay.submit("a@sender.test", "b@strict.test")
    assert wait_for(lambda: secure.messages, what="by TLS")[0].tls == "TLSv1.3"
    assert wait_for(lambda: plain.messages, what="in plain")[0].tls == ""
    assert relay.wait_event(type="deferred", message_id=strict)["enhanced"].startswith("4.7")
    assert len(plain.messages) == 1


@pytest.fixture
def smarthost_route(place, authority):
    """How to make a route that logs in as `user`."""
    password = place / "password"
    password.write_text("s3cret\n")
    password.chmod(0o600)
    return lambda smarthost: {
        "domains": ["*"], "deliver": "smtp", "to": f"localhost:{smarthost.port}",
        "tls": "require", "tls_ca": str(authority.certificate), "username": "user",
        "password_file": str(password)}


def test_smarthost_with_a_password(relays, receivers, smarthost_route):
    smarthost = receivers(tls=True, name="localhost", auth=("user", "s3cret"))
    relay = relays(routes=[smarthost_route(smarthost)]).start()
    relay.submit("a@sender.test", "b@example.test")
    wait_for(lambda: smarthost.messages, what="delivery")
    assert smarthost.sessions[-1].authenticated


def test_a_login_binds_only_to_what_can_be_bound_to(relays, receivers, smarthost_route):
    """TLS 1.2 without the extended master secret: no SCRAM-SHA-256-PLUS."""
    smarthost = receivers(tls=True, name="localhost", auth=("user", "s3cret"),
                          mechanisms="SCRAM-SHA-256-PLUS PLAIN")
    smarthost._context.maximum_version = ssl.TLSVersion.TLSv1_2
    smarthost._context.options |= NO_EXTENDED_MASTER_SECRET
    relay = relays(routes=[smarthost_route(smarthost)]).start()
    relay.submit("a@sender.test", "b@example.test")
    wait_for(lambda: smarthost.messages, what="delivery")
    assert smarthost.sessions[-1].tls == "TLSv1.2"


def test_local_domains_go_to_a_maildir(relays, place):
    maildir = place / "maildir"
    relay = relays(routes=[{"domains": ["home.test"], "deliver": "maildir",
                            "to": str(maildir)}]).start()
    relay.submit("a@sender.test", "b@home.test", BODY)
    path = wait_for(lambda: list((maildir / "new").glob("*")), what="a file")[0]
    data = path.read_bytes().replace(b"\r\n", b"\n")
    assert data.startswith(b"Return-Path: <a@sender.test>")
    assert body_of(data.replace(b"\n", b"\r\n")) == body_of(BODY)


def test_lmtp_by_tcp_and_unix_socket(relays, receivers, place):
    tcp = receivers(lmtp=True)
    unix = receivers(lmtp=True, unix=place / "lmtp.sock")
    (place / "lmtp.sock").chmod(0o777)
    tcp.script["END"] = lambda r, s, recipient: (
        "452 4.2.2 mailbox full" if recipient == "full@tcp.test" else "250 2.0.0 ok")
    relay = relays(routes=[
        {"domains": ["tcp.test"], "deliver": "lmtp", "to": f"127.0.0.1:{tcp.port}"},
        {"domains": ["unix.test"], "deliver": "lmtp", "to": f"unix:{place}/lmtp.sock"},
    ]).start()
    message_id = relay.submit("a@sender.test", ["ok@tcp.test", "full@tcp.test"])
    relay.submit("a@sender.test", "b@unix.test")
    wait_for(lambda: unix.messages, what="by unix socket")
    relay.wait_event(type="delivered", message_id=message_id, recipient="ok@tcp.test")
    relay.wait_event(type="deferred", message_id=message_id, recipient="full@tcp.test")


def test_discard(relays):
    relay = relays(routes=[{"domains": ["*"], "deliver": "discard"}]).start()
    message_id = relay.submit("a@sender.test", "b@nowhere.test")
    relay.wait_event(type="delivered", message_id=message_id)


def test_late_final_reply_makes_no_duplicate(routed, mx):
    def late(receiver, session, message):
        time.sleep(6)
        return "250 2.0.0 at last"
    mx.script["END"] = late
    message_id = routed.submit("a@sender.test", "b@example.test")
    routed.wait_event(type="delivered", message_id=message_id, seconds=30)
    time.sleep(1)
    assert len(mx.messages) == 1


def test_broken_after_the_dot_is_tried_again_and_said(routed, mx):
    mx.script["END"] = [None, "250 2.0.0 ok"]
    message_id = routed.submit("a@sender.test", "b@example.test")
    event = routed.wait_event(type="deferred", message_id=message_id)
    assert event["duplicate_risk"] is True
    routed.wait_event(type="delivered", message_id=message_id)


def test_success_report_when_asked(relays, receivers, dns, place):
    home = receivers(host="127.0.0.3")
    dns.mail_domain("sender.test", "mx.sender.test", home.host)
    relay = relays(
        resolver={"servers": [dns.address], "dnssec": False},
        routes=[{"domains": ["home.test"], "deliver": "maildir", "to": str(place / "md")},
                {"domains": ["*"], "deliver": "mx", "port": home.port}]).start()
    relay.submit("a@sender.test", "b@home.test", mail_options=["RET=HDRS", "ENVID=QQ+2B1"],
                 rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;orig@home.test"])
    report = wait_for(lambda: home.messages, what="success report")[0]
    per_message, per_recipient = email.message_from_bytes(
        report.data).get_payload()[1].get_payload()
    assert per_message["Original-Envelope-Id"] == "QQ+1"
    assert per_recipient["Action"] == "delivered"
    assert per_recipient["Original-Recipient"] == "rfc822; orig@home.test" or \
        per_recipient["Original-Recipient"] == "rfc822;orig@home.test"


def test_dsn_parameters_are_passed_on(routed, mx):
    routed.submit("a@sender.test", "b@example.test", mail_options=["RET=HDRS", "ENVID=QQ1"],
                  rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;orig@example.test"])
    message = wait_for(lambda: mx.messages, what="delivery")[0]
    assert "RET=HDRS" in message.mail_parameters and "ENVID=QQ1" in message.mail_parameters
    assert "NOTIFY=SUCCESS" in message.rcpt_parameters[0]
    assert "ORCPT=rfc822;orig@example.test" in message.rcpt_parameters[0]


@pytest.mark.parametrize("options", [[], ["SMTPUTF8"], ["BODY=8BITMIME", "SMTPUTF8"]])
def test_a_report_reaches_a_sender_whose_server_knows_nothing(
        routed, receivers, dns, mx, options):
    """Nobody would hear of a report that cannot be delivered (RFC 6533, 6522)."""
    home = receivers(host="127.0.0.3", port=mx.port, keywords=())
    dns.mail_domain("sender.test", "mx.sender.test", home.host)
    mx.script["RCPT"] = "550 5.1.1 unbekannter Empf\u00e4nger"
    recipient = "b\u00f6@example.test" if options else "b@example.test"
    client = routed.client()
    client.ehlo()
    assert client.docmd("MAIL FROM:<a@sender.test> " + " ".join(options))[0] == 250
    client.send(f"RCPT TO:<{recipient}>\r\n".encode())
    assert client.getreply()[0] == 250
    assert client.data("Subject: gr\u00fc\u00dfe\r\n\r\nx\r\n".encode())[0] == 250
    report = wait_for(lambda: home.messages, what="the report")[0]
    assert report.data.isascii()
    text, status, original = email.message_from_bytes(report.data).get_payload()
    assert recipient in text.get_payload(decode=True).decode()
    assert "gr\u00fc\u00dfe" in original.get_payload(decode=True).decode()
    final = status.get_payload()[1]["Final-Recipient"]
    assert final == ("utf-8; b\\x{F6}@example.test" if options else "rfc822; b@example.test")


def test_never_notify(routed, receivers, dns, mx):
    home = receivers(host="127.0.0.3", port=mx.port)
    dns.mail_domain("sender.test", "mx.sender.test", home.host)
    mx.script["RCPT"] = "550 5.1.1 no"
    message_id = routed.submit("a@sender.test", "b@example.test", rcpt_options=["NOTIFY=NEVER"])
    routed.wait_event(type="bounced", message_id=message_id)
    time.sleep(1)
    assert not home.messages


def test_delay_warning(relays, receivers, dns):
    mx = receivers(host="127.0.0.2", script={"RCPT": "450 4.2.0 later"})
    home = receivers(host="127.0.0.3", port=mx.port)
    dns.mail_domain("example.test", "mx.example.test", mx.host)
    dns.mail_domain("sender.test", "mx.sender.test", home.host)
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": mx.port}],
                   retry={"schedule": ["1s"], "expire": "1m", "delay_warning": "2s"}).start()
    relay.submit("a@sender.test", "b@example.test")
    report = wait_for(lambda: home.messages, what="delay warning")[0]
    per_recipient = email.message_from_bytes(report.data).get_payload()[1].get_payload()[1]
    assert per_recipient["Action"] == "delayed"
    assert per_recipient["Will-Retry-Until"]
    time.sleep(3)
    assert len(home.messages) == 1


def test_smtputf8_and_8bit_limits_of_the_receiver(relays, receivers):
    poor = receivers(keywords=("PIPELINING",))
    relay = relays(routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{poor.port}"}]).start()
    eight = relay.submit("a@sender.test", "b@example.test", BODY,
                         mail_options=["BODY=8BITMIME"])
    assert relay.wait_event(type="bounced", message_id=eight)["enhanced"] == "5.6.3"
    utf8 = relay.submit("a@sender.test", "b@example.test",
                        "Subject: gr\u00fc\u00dfe\r\n\r\nx\r\n", mail_options=["SMTPUTF8"])
    assert relay.wait_event(type="bounced", message_id=utf8)["enhanced"].startswith("5.6.")

# SPDX-License-Identifier: Apache-2.0
"""Receiving servers that lie, stall, babble and hang up (reliability D): each
recipient still meets one fate, and what such a server says does no harm."""
import email
import re
import ssl
import subprocess
import time

import pytest

from support.pki import Authority
from support.receiver import Closed, Conversation
from support.waiting import wait_for

ESC = "\x1b[31mred\x07\u009b2J"


def is_clean(data):
    return not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", data)


@pytest.fixture
def toward(relays):
    """A relay whose mail all goes to one receiver."""
    def make(receiver, **config):
        route = {"domains": ["*"], "deliver": "smtp", "to": f"127.0.0.1:{receiver.port}",
                 **config.pop("route", {})}
        return relays(trusted_networks=["127.0.0.0/8"], routes=[route],
                      **{"retry": {"schedule": ["1s", "2s"], "expire": "1m"}, **config}).start()
    return make


def fate(relay, message_id, **wanted):
    """The first event after `accepted`."""
    def found():
        return [e for e in relay.events(message_id=message_id, **wanted)
                if e["type"] != "accepted"]
    return wait_for(found, 20, "an outcome")[0]


# ---- replies that are none

BABBLE = {
    "an endless line": b"220 " + b"x" * 100000,
    "a line of a megabyte": b"220 " + b"x" * 1000000 + b"\r\n",
    "lines for ever": b"250-more\r\n" * 100000,
    "no code": b"hello there\r\n",
    "code 000": b"000 ok\r\n",
    "code 999": b"999 ok\r\n",
    "code 25x": b"25x ok\r\n",
    "code 199": b"199 ok\r\n",
    "two codes": b"250-one\r\n550 two\r\n",
    "no space": b"250ok\r\n",
    "zeros": b"\0" * 5000,
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46\n",
}
VERBS = ("BANNER", "EHLO", "MAIL", "RCPT", "END")


@pytest.mark.parametrize("verb", VERBS)
def test_babble_in_place_of_a_reply(relays, receivers, verb):
    """All babblers at one verb at once, each a domain of one relay."""
    def babble(raw):
        return lambda receiver, session, argument: raw if session.number == 0 else None
    servers = {}
    for number, raw in enumerate(BABBLE.values()):
        server = receivers(keywords=("8BITMIME",), script={verb: babble(raw)})
        servers[f"d{number}.test"] = server
    relay = relays(trusted_networks=["127.0.0.0/8"], routes=[
        {"domains": [domain], "deliver": "smtp", "to": f"127.0.0.1:{server.port}"}
        for domain, server in servers.items()]).start()
    relay.submit("a@sender.test", [f"b@{domain}" for domain in servers])
    wait_for(lambda: len(relay.events(type="deferred")) >= len(servers), 20, "all deferred")
    for domain, server in servers.items():
        events = relay.events(recipient=f"b@{domain}")
        assert {e["type"] for e in events} == {"accepted", "deferred"}, events
        assert not server.messages
    assert is_clean(relay.log_path.read_bytes())


@pytest.mark.parametrize("reply, lines", [
    (b"250 bare line feed\n", 1), (b"250\r\n", 1), (b"250-a\r\n250-b\r\n250\r\n", 3),
    (b"250 \xff\xfe not UTF-8\r\n", 1), (b"250 nul \0 nul\r\n", 1),
    (b"250-" + b"x" * 3000 + b"\r\n250 y\r\n", 2), (b"250\ttab\r\n", 1)])
def test_sloppy_but_clear_replies(toward, receivers, reply, lines):
    server = receivers(script={"END": lambda r, s, a: reply})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@example.test")
    event = fate(relay, message_id)
    expected = "deferred" if b"\t" in reply else "delivered"
    assert event["type"] == expected
    assert "\x00" not in event["reply"] and "\n" not in event["reply"]


# ---- refusals at every step


@pytest.mark.parametrize("verb", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "END"])
def test_421_at_each_verb_is_temporary(toward, receivers, verb):
    server = receivers(keywords=("PIPELINING", "SIZE 60000000", "8BITMIME"), script={
        verb: lambda r, s, a: "421 4.3.2 shutting down" if s.number == 0 else "354 go"
        if verb == "DATA" else "220 welcome" if verb == "BANNER" else "250 2.0.0 ok"})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@example.test")
    first = fate(relay, message_id)
    assert first["type"] == "deferred" and first["code"] == 421, first
    relay.wait_event(type="delivered", message_id=message_id)
    assert len(server.messages) == 1


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "END"])
def test_5xx_at_each_verb_is_final(toward, receivers, verb):
    server = receivers(keywords=("PIPELINING",), script={
        verb: lambda r, s, a: "554 5.7.1 not wanted" if s.sender or verb == "MAIL"
        else "250 ok"})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@example.test", rcpt_options=["NOTIFY=NEVER"])
    event = fate(relay, message_id)
    assert event["type"] == "bounced" and event["code"] == 554
    assert event["enhanced"] == "5.7.1" and "not wanted" in event["reply"]
    assert event["step"] == verb.lower()


@pytest.mark.parametrize("banner", ["421 4.3.2 busy", "450 not now", "554 5.7.1 go away",
                                    "521 no mail here"])
def test_a_refusing_banner_leads_to_the_next_mx(relays, receivers, dns, banner):
    good = receivers(host="127.0.0.5")
    bad = receivers(host="127.0.0.6", port=good.port, script={"BANNER": banner})
    dns.add("example.test", "MX", "10 bad.example.test.", "20 good.example.test.")
    dns.add("bad.example.test", "A", "127.0.0.6")
    dns.add("good.example.test", "A", "127.0.0.5")
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": good.port}]).start()
    relay.submit("a@sender.test", "b@example.test")
    wait_for(lambda: good.messages, what="delivery by the second MX")
    assert bad.sessions and not bad.messages


def test_a_4xx_to_rcpt_does_not_lead_to_the_next_mx(relays, receivers, dns):
    good = receivers(host="127.0.0.5")
    grey = receivers(host="127.0.0.6", port=good.port, script={"RCPT": "450 4.2.0 mailbox busy"})
    dns.add("example.test", "MX", "10 grey.example.test.", "20 good.example.test.")
    dns.add("grey.example.test", "A", "127.0.0.6")
    dns.add("good.example.test", "A", "127.0.0.5")
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": good.port}]).start()
    message_id = relay.submit("a@sender.test", "b@example.test")
    assert fate(relay, message_id)["type"] == "deferred"
    assert grey.sessions and not good.messages


def test_a_server_that_only_knows_helo(toward, receivers):
    server = receivers(script={"EHLO": "502 5.5.1 what is that"})
    relay = toward(server)
    relay.submit("a@sender.test", "b@example.test")
    message = wait_for(lambda: server.messages, what="delivery")[0]
    assert message.mail_parameters == "" and not message.chunked


@pytest.mark.parametrize("verb", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "END"])
def test_hanging_up_at_each_verb(toward, receivers, verb):
    server = receivers(keywords=("8BITMIME",), script={
        verb: lambda r, s, a: None if s.number == 0 else "354 go" if verb == "DATA"
        else "220 welcome" if verb == "BANNER" else "250 2.0.0 ok"})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@example.test")
    first = fate(relay, message_id)
    assert first["type"] == "deferred"
    assert bool(first.get("duplicate_risk")) == (verb == "END")
    relay.wait_event(type="delivered", message_id=message_id)


def test_refused_after_354_without_reading(toward, receivers):
    """The body is larger than any socket buffer; the server has its say first."""
    server = receivers(keywords=("8BITMIME",), script={"DATA": b"354 go\r\n550 5.7.1 no\r\n"})
    relay = toward(server)
    body = b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100000
    message_id = relay.submit("a@sender.test", "b@example.test", body,
                              rcpt_options=["NOTIFY=NEVER"])
    event = fate(relay, message_id)
    assert (event["type"], event.get("code")) == ("bounced", 550), event


def test_a_250_before_the_message_is_not_believed(toward, receivers):
    server = receivers(keywords=("8BITMIME",), script={"DATA": b"354 go\r\n250 2.0.0 taken\r\n"})
    relay = toward(server)
    body = b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100000
    message_id = relay.submit("a@sender.test", "b@example.test", body)
    assert fate(relay, message_id)["type"] == "deferred"


def test_a_silent_final_reply_is_given_up(toward, receivers):
    server = receivers(script={"END": lambda r, s, a: time.sleep(8) or None})
    relay = toward(server, delivery={"final_reply_time": "1s"})
    message_id = relay.submit("a@sender.test", "b@example.test")
    event = fate(relay, message_id)
    assert event["type"] == "deferred" and event["duplicate_risk"] is True


# ---- replies cut anywhere


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_replies_cut_into_pieces(toward, receivers, step, monkeypatch):
    """One octet at a time, CR and LF apart: the same conversation."""
    def dribble(conversation, reply):
        if reply is None:
            raise Closed
        code, text = reply[:3], reply[4:].split("\n")
        wire = "".join(f"{code}-{line}\r\n" for line in text[:-1]) + f"{code} {text[-1]}\r\n"
        data = wire.encode()
        for at in range(0, len(data), step):
            conversation.connection.sendall(data[at:at + step])
            time.sleep(0.001)

    server = receivers()
    monkeypatch.setattr(Conversation, "send", dribble)
    relay = toward(server)
    message_id = relay.submit("a@sender.test", ["b@example.test", "c@example.test"])
    relay.wait_event(type="delivered", message_id=message_id, recipient="c@example.test")
    assert len(server.messages) == 1


def test_replies_of_a_burst_in_one_write(toward, receivers, monkeypatch):
    """A server may keep its replies until it has read all there is."""
    send, more = Conversation.send, Conversation.more

    class Cork:
        def __init__(self, connection):
            self.connection, self.kept = connection, b""

        def sendall(self, data):
            self.kept += data

    def corked(self, reply):
        if not isinstance(self.connection, Cork):
            self.connection = Cork(self.connection)
        send(self, reply)

    def flush_and_read(self):
        if isinstance(self.connection, Cork):
            self.connection, kept = self.connection.connection, self.connection.kept
            self.connection.sendall(kept)
        more(self)

    monkeypatch.setattr(Conversation, "send", corked)
    monkeypatch.setattr(Conversation, "more", flush_and_read)
    server = receivers(keywords=("PIPELINING",), script={
        "RCPT": lambda r, s, a: "550 5.1.1 no" if a.startswith("no") else "250 2.1.5 ok"})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", ["b@example.test", "no@example.test"],
                              rcpt_options=["NOTIFY=NEVER"])
    bounced = relay.wait_event(type="bounced", message_id=message_id)
    assert bounced["recipient"] == "no@example.test" and bounced["enhanced"] == "5.1.1"
    relay.wait_event(type="delivered", message_id=message_id, recipient="b@example.test")


def test_each_recipient_has_a_fate_of_its_own(toward, receivers):
    replies = {"ok@x.test": "250 2.1.5 ok", "later@x.test": "450 4.2.0 busy",
               "no@x.test": "550 5.1.1 no such user", "full@x.test": "452 4.2.2 full"}
    server = receivers(script={"RCPT": lambda r, s, a: replies[a]})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", list(replies), rcpt_options=["NOTIFY=NEVER"])
    fates = {name: fate(relay, message_id, recipient=name)["type"] for name in replies}
    assert fates == {"ok@x.test": "delivered", "later@x.test": "deferred",
                     "no@x.test": "bounced", "full@x.test": "deferred"}
    assert server.messages[0].recipients == ["ok@x.test"]


def test_no_data_when_all_recipients_fail(toward, receivers):
    server = receivers(keywords=("8BITMIME",), script={"RCPT": "550 5.1.1 no"})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", ["b@x.test", "c@x.test"],
                              rcpt_options=["NOTIFY=NEVER"])
    wait_for(lambda: len(relay.events(type="bounced", message_id=message_id)) == 2,
             what="both bounced")
    assert not any("DATA" in s.commands for s in server.sessions)


def test_354_although_nobody_was_accepted(toward, receivers, monkeypatch):
    server = receivers(keywords=("PIPELINING",), script={
        "RCPT": "550 5.1.1 no", "END": "250 2.0.0 taken"})

    def stubborn(self, argument):
        self.send("354 go ahead")
        while self.line() != b".":
            pass
        self.send("250 2.0.0 taken")
    monkeypatch.setattr(Conversation, "on_data", stubborn)
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@x.test", rcpt_options=["NOTIFY=NEVER"])
    assert fate(relay, message_id)["type"] == "bounced"
    time.sleep(0.2)
    assert len(relay.events(message_id=message_id)) == 2


# ---- offers that lie


def test_size_offered_is_respected(toward, receivers):
    server = receivers(keywords=("SIZE 1000",))
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@x.test",
                              "Subject: x\r\n\r\n" + "x" * 900 + "\r\n" + "y" * 900 + "\r\n",
                              rcpt_options=["NOTIFY=NEVER"])
    event = fate(relay, message_id)
    assert event["type"] == "bounced" and event["enhanced"] == "5.3.4"
    assert not any(c.startswith("MAIL") for s in server.sessions for c in s.commands)


@pytest.mark.parametrize("keyword", ["SIZE", "SIZE 0", "SIZE x", "SIZE -1",
                                     "SIZE 99999999999999999999999", "LIMITS RCPTMAX=0",
                                     "LIMITS RCPTMAX=x MAILMAX=", "AUTH", "X" * 500])
def test_senseless_offers_are_ignored(toward, receivers, keyword):
    server = receivers(keywords=("PIPELINING", keyword, "8BITMIME"))
    relay = toward(server)
    relay.submit("a@sender.test", ["b@x.test", "c@x.test"])
    wait_for(lambda: sum(len(m.recipients) for m in server.messages) == 2, what="delivery")


def test_rcptmax_is_respected(toward, receivers):
    server = receivers(keywords=("PIPELINING", "LIMITS RCPTMAX=2"))
    relay = toward(server)
    relay.submit("a@sender.test", [f"u{n}@x.test" for n in range(5)])
    wait_for(lambda: sum(len(m.recipients) for m in server.messages) == 5, what="delivery")
    assert max(len(m.recipients) for m in server.messages) == 2


def test_chunking_offered_and_refused(toward, receivers, monkeypatch):
    """BDAT answered by 5xx: the same mail goes by DATA, at once."""
    server = receivers(keywords=("PIPELINING", "CHUNKING", "8BITMIME"))

    def refuse(self, argument):
        self.exactly(int(argument.split()[0]))
        self.send("502 5.5.1 not implemented")
    monkeypatch.setattr(Conversation, "on_bdat", refuse)
    relay = toward(server)
    started = time.monotonic()
    message_id = relay.submit("a@sender.test", "b@x.test")
    relay.wait_event(type="delivered", message_id=message_id)
    assert time.monotonic() - started < 5
    assert not relay.events(type="bounced")
    assert not server.messages[0].chunked


def test_dsn_not_offered_makes_our_own_relayed_report(toward, receivers):
    server = receivers(keywords=("PIPELINING",))
    relay = toward(server)
    relay.submit("a@sender.test", "b@x.test", rcpt_options=["NOTIFY=SUCCESS"],
                 mail_options=["ENVID=Q1"])
    messages = wait_for(lambda: len(server.messages) == 2 and server.messages, what="both")
    report = next(m for m in messages if m.sender == "")
    assert report.recipients == ["a@sender.test"]
    per_recipient = email.message_from_bytes(report.data).get_payload()[1].get_payload()[1]
    assert per_recipient["Action"] == "relayed"
    original = next(m for m in messages if m.sender)
    assert "NOTIFY" not in original.rcpt_parameters[0]
    assert "ENVID" not in original.mail_parameters


def test_a_server_that_loses_a_pipelined_burst(toward, receivers, monkeypatch):
    """It offers PIPELINING, but drops what came behind MAIL. Nobody can know:
    the relay waits for it, and other mail for the domain goes on meanwhile."""
    original = Conversation.on_mail

    def forget(self, argument):
        time.sleep(0.1)
        original(self, argument)
        if self.session.number == 0:
            self.input = b""
    monkeypatch.setattr(Conversation, "on_mail", forget)
    server = receivers(keywords=("PIPELINING",))
    relay = toward(server)
    stuck = relay.submit("a@sender.test", "b@x.test")
    wait_for(lambda: server.sessions and server.sessions[0].sender, what="MAIL")
    relay.submit("a@sender.test", "c@x.test")
    wait_for(lambda: server.messages, what="the other message")
    assert [e["type"] for e in relay.events(message_id=stuck)] == ["accepted"]


# ---- STARTTLS


@pytest.mark.parametrize("answer", ["454 4.7.0 not now", "502 5.5.1 no", b"garbage\r\n"])
@pytest.mark.parametrize("tls", ["opportunistic", "require"])
def test_starttls_offered_but_not_meant(toward, receivers, answer, tls):
    server = receivers(keywords=("PIPELINING", "STARTTLS"), script={"STARTTLS": answer})
    relay = toward(server, route={"tls": tls})
    message_id = relay.submit("a@sender.test", "b@x.test")
    event = fate(relay, message_id)
    if tls == "require":
        assert event["type"] == "deferred"
        assert not any(c.startswith("MAIL") for s in server.sessions for c in s.commands)
    elif isinstance(answer, str):
        assert event["type"] == "delivered"
    else:
        assert event["type"] == "deferred"


@pytest.mark.parametrize("tls", ["opportunistic", "require"])
def test_a_handshake_that_fails(toward, receivers, tls, monkeypatch):
    """Opportunistic mail goes as it would without TLS; required TLS waits."""
    server = receivers(keywords=("PIPELINING", "STARTTLS"))

    def garbage(self, argument):
        self.send("220 2.0.0 go ahead")
        self.connection.sendall(b"\x15\x03\x01\x00\x02\x02\x28")
        self.more()
        self.send(None)
    monkeypatch.setattr(Conversation, "on_starttls", garbage)
    relay = toward(server, route={"tls": tls})
    message_id = relay.submit("a@sender.test", "b@x.test")
    if tls == "opportunistic":
        relay.wait_event(type="delivered", message_id=message_id)
        assert server.messages[0].tls == ""
    else:
        event = relay.wait_event(type="deferred", message_id=message_id)
        assert event["enhanced"].startswith("4.7.")
        assert not server.messages


def test_replies_injected_behind_starttls_are_dropped(toward, receivers, authority, monkeypatch):
    """CVE-2011-0411 seen from the client: clear text behind the 220 answers
    nothing that is asked under TLS."""
    server = receivers(tls=True, name="localhost")

    def inject(self, argument):
        self.connection.sendall(
            b"220 2.0.0 go\r\n250-evil\r\n250-SIZE 5\r\n250 CHUNKING\r\n250 ok\r\n250 ok\r\n")
        time.sleep(0.1)
        self.connection = self.receiver._context.wrap_socket(self.connection, server_side=True)
        self.input, self.session.tls = b"", self.connection.version()
    monkeypatch.setattr(Conversation, "on_starttls", inject)
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@x.test")
    event = fate(relay, message_id)
    assert event["type"] in ("delivered", "deferred")
    if event["type"] == "delivered":
        assert len(server.messages) == 1 and server.messages[0].tls
        commands = server.messages and server.sessions[-1].commands
        assert sum(c.startswith("EHLO") for c in commands) >= 1


@pytest.mark.parametrize("flaw", ["other name", "unknown authority", "expired"])
def test_certificates_that_do_not_fit(relays, receivers, authority, tmp_path, flaw):
    """Where the route verifies, such a server gets nothing; opportunistic TLS
    takes any certificate."""
    issuer = Authority(tmp_path) if flaw == "unknown authority" else authority
    name = "elsewhere.test" if flaw == "other name" else "localhost"
    server = receivers(tls=True, name=name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if flaw == "expired":
        certificate, key = expired(authority, tmp_path)
    else:
        certificate, key = issuer.issue(name)
    context.load_cert_chain(certificate, key)
    server._context = context
    to = f"localhost:{server.port}"
    relay = relays(trusted_networks=["127.0.0.0/8"], routes=[
        {"domains": ["strict.test"], "deliver": "smtp", "to": to, "tls": "require",
         "tls_ca": str(authority.certificate)},
        {"domains": ["*"], "deliver": "smtp", "to": to}]).start()
    strict = relay.submit("a@sender.test", "b@strict.test")
    event = fate(relay, strict)
    assert event["type"] == "deferred" and event["enhanced"].startswith("4.7."), event
    loose = relay.submit("a@sender.test", "b@loose.test")
    assert relay.wait_event(type="delivered", message_id=loose)["tls"]
    assert [m.recipients for m in server.messages] == [["b@loose.test"]]


def expired(authority, place):
    """A certificate of the right name whose day is over."""
    key, request, certificate = place / "old.key", place / "old.csr", place / "old.pem"
    extensions = place / "old.ext"
    extensions.write_text("subjectAltName=DNS:localhost\n")
    run = lambda *a: subprocess.run(["openssl", *map(str, a)], check=True, capture_output=True)
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=localhost", "-keyout", key, "-out", request)
    run("x509", "-req", "-in", request, "-CA", authority.certificate, "-CAkey", authority.key,
        "-CAcreateserial", "-days", "-1", "-extfile", extensions, "-out", certificate)
    return certificate, key


# ---- texts


def test_reply_text_is_harmless_everywhere(toward, receivers):
    """CR, ESC, NUL and CSI in a reply: not raw in events, logs, reports."""
    raw = b"550-5.1.1 first \x1b[31mred\r \x07\x9b2J\xc2\x9b2J line\r\n" \
          b"550 5.1.1 From: forged@x.test\x00\x08 %s%n\r\n"
    server = receivers(script={
        "RCPT": lambda r, s, a: raw if a.startswith("b@") else "250 ok"})
    relay = toward(server)
    message_id = relay.submit("a@sender.test", "b@example.test")
    report = wait_for(lambda: server.messages, what="the report")[0]
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", report.data)
    assert b"\r" not in report.data.replace(b"\r\n", b"")
    assert b"\xc2\x9b" not in report.data
    parsed = email.message_from_bytes(report.data)
    assert parsed["From"] and "forged" not in parsed["From"]
    text, status, original = parsed.get_payload()
    diagnostic = status.get_payload()[1]["Diagnostic-Code"]
    assert diagnostic.startswith("smtp; 550") and "first" in diagnostic
    event = relay.events(type="bounced", message_id=message_id)[0]
    assert not re.search(r"[\x00-\x1f\x7f]", event["reply"]), event["reply"]
    for path in (relay.data_dir / "events").glob("*.jsonl"):
        assert is_clean(path.read_bytes()) and b"\xc2\x9b" not in path.read_bytes()
    assert is_clean(relay.log_path.read_bytes())
    shown = relay.run("message", "show", message_id).stdout
    assert is_clean(shown) and b"\xc2\x9b" not in shown


def test_status_codes_that_contradict_the_reply(toward, receivers):
    """What became of the mail decides the class (RFC 3464), not the text."""
    server = receivers(script={"RCPT": lambda r, s, a: {
        "a@x.test": "550 4.7.1 confused", "b@x.test": "550 2.1.5 mad",
        "c@x.test": "550 5.999.999 large", "d@x.test": "550 5.1 short"}[a]})
    relay = toward(server)
    message_id = relay.submit("s@sender.test", [f"{x}@x.test" for x in "abcd"],
                              rcpt_options=["NOTIFY=NEVER"])
    events = wait_for(lambda: len(relay.events(type="bounced", message_id=message_id)) == 4 and
                      relay.events(type="bounced", message_id=message_id), what="all four")
    found = {e["recipient"][0]: e.get("enhanced") for e in events}
    assert all(status is None or status.startswith("5.") for status in found.values()), found


def test_a_server_that_babbles_between_transactions(toward, receivers):
    """Surplus replies are never taken for answers to the next message."""
    server = receivers(script={"END": lambda r, s, a: (
        b"250 2.0.0 taken\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 taken\r\n"
        if s.number == 0 else "250 2.0.0 taken")})
    relay = toward(server)
    first = relay.submit("a@sender.test", "first@x.test")
    assert fate(relay, first)["type"] in ("delivered", "deferred")
    second = relay.submit("a@sender.test", "second@x.test")
    relay.wait_event(type="delivered", message_id=second)
    assert [m.recipients for m in server.messages if m.recipients == ["second@x.test"]]


def test_lmtp_with_too_few_replies(relays, receivers):
    """Who got no reply of their own is tried again; who got one is not."""
    server = receivers(lmtp=True, script={
        "END": lambda r, s, a: None if a == "c@x.test" and s.number == 0 else "250 2.0.0 ok"})
    relay = relays(trusted_networks=["127.0.0.0/8"], retry={"schedule": ["1s"]},
                   routes=[{"domains": ["*"], "deliver": "lmtp",
                            "to": f"127.0.0.1:{server.port}"}]).start()
    message_id = relay.submit("a@sender.test", ["b@x.test", "c@x.test"])
    relay.wait_event(type="delivered", message_id=message_id, recipient="b@x.test")
    relay.wait_event(type="deferred", message_id=message_id, recipient="c@x.test")
    relay.wait_event(type="delivered", message_id=message_id, recipient="c@x.test")
    time.sleep(0.3)
    assert sum(m.recipients == ["b@x.test"] for m in server.messages) == 1

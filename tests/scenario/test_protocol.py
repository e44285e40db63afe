# SPDX-License-Identifier: Apache-2.0
"""What clients may say, and what they are told (reliability C): every command,
every wrong form of it, and nothing that is left of it in logs and reports."""
import base64
import email
import json
import re
import socket
import ssl
import struct
import time

import pytest

from support.client import Client
from support.pki import NO_EXTENDED_MASTER_SECRET
from support.ports import free_port
from support.waiting import wait_for

DISCARD = [{"domains": ["*"], "deliver": "discard"}]
KEYWORDS = {"PIPELINING": "", "SIZE": "52428800", "8BITMIME": "", "SMTPUTF8": "",
            "ENHANCEDSTATUSCODES": "", "CHUNKING": "", "BINARYMIME": "", "DSN": "",
            "LIMITS": "RCPTMAX=1000", "HELP": ""}
MECHANISMS = "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"


def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


@pytest.fixture
def service(relays):
    """Takes mail without a login and forgets it."""
    return relays(trusted_networks=["127.0.0.0/8"], routes=DISCARD).start()


@pytest.fixture(scope="module")
def listening(module_relays):
    """The same, for tests that look at replies alone."""
    return module_relays(trusted_networks=["127.0.0.0/8"], routes=DISCARD).start()


@pytest.fixture
def client(listening):
    with Client(listening.port) as made:
        made.ehlo()
        yield made


@pytest.fixture
def open_client(client):
    """In a transaction with one recipient."""
    return client.envelope()


def secure(relay):
    made = Client(relay.port)
    made.ehlo()
    made.starttls(relay.tls_context())
    return made


def is_clean(data):
    """Lines of text without any control byte."""
    return not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", data)


# ---- greetings and plain commands


def test_ehlo_offers_exactly_what_is_there(relays):
    relay = relays(routes=DISCARD).start()
    client = Client(relay.port)
    assert client.ehlo() == {**KEYWORDS, "STARTTLS": ""}
    client.starttls(relay.tls_context())
    assert client.ehlo() == {**KEYWORDS, "AUTH": MECHANISMS, "REQUIRETLS": ""}
    client.login(relay.credential())
    assert "AUTH" not in client.ehlo()
    implicit = Client(relay.port_tls, context=relay.tls_context())
    assert implicit.ehlo() == {**KEYWORDS, "AUTH": MECHANISMS, "REQUIRETLS": ""}
    mx = Client(relay.port_mx)
    assert mx.ehlo() == {**KEYWORDS, "STARTTLS": ""}
    mx.starttls(relay.tls_context())
    assert mx.ehlo() == KEYWORDS
    helo = Client(relay.port).command("HELO client.test")
    assert helo.code == 250 and len(helo.lines) == 1


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("bound", [False, True])
def test_channel_binding_is_offered_where_it_binds(listening, implicit, bound):
    """RFC 9266 section 4.2: not on TLS 1.2 without the extended master secret."""
    context = listening.tls_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if not bound:
        context.options |= NO_EXTENDED_MASTER_SECRET
    if implicit:
        client = Client(listening.port_tls, context=context)
    else:
        client = Client(listening.port)
        client.ehlo()
        client.starttls(context)
    offered = client.ehlo()["AUTH"]
    assert offered == (MECHANISMS if bound else MECHANISMS.split(" ", 1)[1])
    if not bound:
        assert client.code("AUTH SCRAM-SHA-256-PLUS") == 504


def test_limits_of_the_config_are_told(relays):
    relay = relays(limits={"message_size": "1M", "recipients": 3}, routes=DISCARD,
                   trusted_networks=["127.0.0.0/8"]).start()
    client = Client(relay.port)
    keywords = client.ehlo()
    assert keywords["SIZE"] == "1048576" and keywords["LIMITS"] == "RCPTMAX=3"
    client.envelope("a@sender.test", "a@x.test", "b@x.test", "c@x.test")
    reply = client.command("RCPT TO:<d@x.test>")
    assert reply.code == 452 and reply.text.startswith("4.5.3")
    assert client.message().code == 250


def test_greeting_names_the_host(service):
    client = Client(service.port)
    assert client.greeting.lines[0].startswith("relay.test ESMTP")
    assert client.command("EHLO client.test").lines[0].split()[0] == "relay.test"


@pytest.mark.parametrize("line, code", [
    ("NOOP", 250), ("noop with words", 250), ("RSET", 250), ("RSET now", 501),
    ("HELP", 214), ("HELP MAIL", 214), ("VRFY postmaster", 252), ("VRFY", 501),
    ("EXPN staff", 502), ("TURN", 500), ("", 500), ("LHLO client.test", 500),
    ("EHLO", 501), ("EHLO two names", 501), ("HELO", 501), ("DATA", 503),
    ("DATA now", 503), ("RCPT TO:<a@b.test>", 503), ("XCLIENT ADDR=192.0.2.1", 500),
    ("PROXY TCP4 192.0.2.1 192.0.2.2 1 25", 500), ("QUIT now", 501)])
def test_commands_outside_of_a_transaction(client, line, code):
    assert client.code(line) == code
    assert client.code("NOOP") == 250


def test_quit_closes(client):
    assert client.code("QUIT") == 221
    assert client.is_closed()


def test_mail_before_a_greeting_is_refused(service):
    assert Client(service.port).code("MAIL FROM:<a@b.test>") == 503


def test_commands_in_a_transaction(open_client):
    client = open_client
    assert client.code("MAIL FROM:<b@sender.test>") == 503
    assert client.code("AUTH PLAIN") == 503
    assert client.code("VRFY someone") == 252
    assert client.code("NOOP") == 250
    assert client.message().code == 250
    client.envelope()
    client.ehlo()
    assert client.code("DATA") == 503


def test_who_speaks_before_the_greeting_is_refused(service):
    """Such a client does not listen to replies; its commands are not run."""
    refused = 0
    for _ in range(5):
        client = Client(service.port, prelude=b"EHLO x.test\r\nMAIL FROM:<a@b.test>\r\n",
                        greeting=False)
        client.rest(0.3)
        refused += client.data.startswith(b"554 5.5.1")
        client.close()
    # The kernel may deliver the connection before its first bytes.
    assert refused >= 1


# ---- STARTTLS


def test_starttls_out_of_place(service):
    client = Client(service.port)
    client.ehlo()
    assert client.code("STARTTLS now") == 501
    client.envelope()
    assert client.code("STARTTLS") == 503
    client.code("RSET")
    client.starttls(service.tls_context())
    assert client.code("STARTTLS") == 503
    client.ehlo()
    assert client.code("STARTTLS") == 503


def test_nothing_said_in_the_clear_is_remembered(service):
    client = secure(service)
    assert client.code("MAIL FROM:<a@b.test>") == 503
    client.ehlo("other.test")
    client.envelope()
    assert client.message(b"Subject: x\r\n\r\nx\r\n").code == 250
    assert service.wait_event(type="accepted")


def test_garbage_in_place_of_a_handshake(service):
    client = Client(service.port)
    client.ehlo()
    assert client.code("STARTTLS") == 220
    client.send(b"EHLO plain.test\r\nMAIL FROM:<a@b.test>\r\n")
    answer = client.rest(2)
    assert b"250" not in answer and b"220" not in answer
    assert Client(service.port).code("NOOP") == 250


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_protocol_versions_are_refused(service):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = service.tls_context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Client(service.port_tls, context=context)


def test_implicit_tls(relays):
    relay = relays(routes=DISCARD).start()
    plain = Client(relay.port_tls, greeting=False)
    plain.send(b"EHLO plain.test\r\n")
    assert b"250" not in plain.rest(2) and b"220" not in plain.data
    client = Client(relay.port_tls, context=relay.tls_context())
    assert "STARTTLS" not in client.ehlo()
    client.login(relay.credential()).envelope()
    assert client.message().code == 250


def test_tls_ended_amid_a_chunk(relays):
    """CVE-2026-45185: a clear-text byte behind close_notify is nobody's."""
    relay = relays(trusted_networks=["127.0.0.0/8"], routes=DISCARD).start()
    client = secure(relay)
    client.ehlo()
    client.envelope()
    client.send(b"BDAT 100 LAST\r\nten octets")
    raw = client.socket.unwrap() if hasattr(client.socket, "unwrap") else None
    raw.sendall(b"x" * 90 + b"\r\nNOOP\r\n")
    raw.close()
    assert Client(relay.port).code("NOOP") == 250
    time.sleep(0.3)
    assert not relay.events(type="accepted")


# ---- AUTH


MALFORMED = [
    "AUTH", "AUTH FOO", "AUTH PLAIN A", "AUTH PLAIN AA", "AUTH PLAIN AAA",
    "AUTH PLAIN AAAAA", "AUTH PLAIN A=AA", "AUTH PLAIN ====", "AUTH PLAIN AAAA AAAA",
    "AUTH PLAIN " + "A" * 12288, "AUTH PLAIN " + "A" * 100000,
    "AUTH PLAIN =", "AUTH PLAIN " + b64("no nul at all"), "AUTH PLAIN " + b64("\0user"),
    "AUTH PLAIN " + b64("\0user\0"),
    "AUTH PLAIN " + b64("\0\0\0\0"), "AUTH PLAIN " + b64("\0a\0b\0c"),
    "AUTH PLAIN " + b64(b"\0\xff\xfe\0\xc0\x80"),
    "AUTH PLAIN " + b64("\0" + "u" * 3000 + "\0p"),
    "AUTH PLAIN\tAAAA", "AUTH plain!", "AUTH SCRAM-SHA-256 " + b64("n,,n=,r="),
    "AUTH SCRAM-SHA-256 " + b64("garbage"), "AUTH SCRAM-SHA-256-PLUS " + b64("p=none,,n=a,r=b"),
]


def test_malformed_auth(relays):
    """Each is refused in the session, which goes on; none counts as a login."""
    relay = relays(routes=DISCARD, limits={"auth_failures_per_client": 1000,
                                           "auth_failures": 100, "errors_per_session": 1000}).start()
    credential = relay.credential()
    client = secure(relay)
    client.ehlo()
    for line in MALFORMED:
        reply = client.command(line)
        if reply.code == 334:
            reply = client.command("*")
        assert reply.code in (500, 501, 504, 535), (line[:60], reply)
        if reply.code == 535:
            # A success makes the network's next failure the first again.
            good = secure(relay)
            good.ehlo()
            good.login(credential).close()
        assert client.code("MAIL FROM:<a@b.test>") == 530, line[:60]
    client.login(credential)
    assert client.code("AUTH PLAIN " + b64("\0a\0b")) == 503
    client.envelope()
    assert client.code("AUTH PLAIN " + b64("\0a\0b")) == 503
    assert client.message().code == 250


def test_auth_answers_out_of_form(relays):
    relay = relays(routes=DISCARD).start()
    client = secure(relay)
    client.ehlo()
    for answers in (["*"], ["A"], ["!!!!"], ["A" * 20000], [b64("user"), "*"],
                    [b64("user"), "not base64"]):
        assert client.code("AUTH LOGIN") == 334
        for answer in answers[:-1]:
            assert client.code(answer) == 334
        assert client.code(answers[-1]) in (500, 501), answers
    assert client.code("NOOP") == 250


def test_all_mechanisms_log_in(relays):
    """PLAIN with and without an initial response, LOGIN in both forms; SCRAM
    by the clients in tests/interop."""
    relay = relays(routes=DISCARD).start()
    made = relay.credential()
    user, password = made["username"], made["password"]
    plain = b64(f"\0{user}\0{password}")
    dialogues = [
        [("AUTH PLAIN " + plain, 235)],
        [("auth plain", 334), (plain, 235)],
        [("AUTH PLAIN " + b64(f"{user}\0{user}\0{password}"), 235)],
        [("AUTH LOGIN", 334), (b64(user), 334), (b64(password), 235)],
        [("AUTH LOGIN " + b64(user), 334), (b64(password), 235)],
    ]
    for dialogue in dialogues:
        client = secure(relay)
        client.ehlo()
        for line, code in dialogue:
            assert client.code(line) == code, dialogue
        client.envelope()


def test_login_asks_in_the_words_that_old_clients_compare(relays):
    client = secure(relays(routes=DISCARD).start())
    client.ehlo()
    assert client.command("AUTH LOGIN").text == b64("Username:")
    assert client.command(b64("user")).text == b64("Password:")
    assert client.code("*") == 501
    assert client.command("AUTH LOGIN " + b64("user")).text == b64("Password:")


def test_one_name_may_not_act_for_another(relays):
    relay = relays(routes=DISCARD).start()
    made = relay.credential()
    client = secure(relay)
    client.ehlo()
    other = b64(f"admin\0{made['username']}\0{made['password']}")
    assert client.code("AUTH PLAIN " + other) == 535


def test_a_network_is_locked_out(relays):
    relay = relays(routes=DISCARD, limits={"auth_failures_per_client": 2}).start()
    made = relay.credential()
    client = secure(relay)
    client.ehlo()
    for _ in range(2):
        assert client.code("AUTH PLAIN " + b64(f"\0{made['username']}\0wrong")) == 535
    other = secure(relay)
    other.ehlo()
    reply = other.command("AUTH PLAIN " + b64(f"\0{made['username']}\0{made['password']}"))
    assert reply.code == 454 and reply.text.startswith("4.7.0")


# ---- parameters


@pytest.mark.parametrize("parameters, code", [
    ("SIZE=0", 250), ("SIZE=52428800", 250), ("size=100", 250),
    ("SIZE=52428801", 552), ("SIZE=2147483648", 552), ("SIZE=9223372036854775808", 552),
    ("SIZE=18446744073709551616", 501), ("SIZE=-1", 501), ("SIZE=+1", 501),
    ("SIZE=1e3", 501), ("SIZE=", 501), ("SIZE", 501), ("SIZE=1 SIZE=1", 501),
    ("SIZE=0000000000000000000000000000000001", 501),
    ("BODY=7BIT", 250), ("BODY=8bitmime", 250), ("BODY=BINARYMIME", 250),
    ("BODY=9BIT", 501), ("BODY", 501), ("BODY=7BIT BODY=7BIT", 501),
    ("SMTPUTF8", 250), ("SMTPUTF8=1", 501), ("SMTPUTF8=", 501),
    ("RET=FULL", 250), ("RET=HDRS", 250), ("RET=NONE", 501), ("RET=FULL RET=FULL", 501),
    ("AUTH=<>", 250), ("AUTH=a+40b.test", 250), ("AUTH=+0A", 501), ("AUTH=", 501),
    ("ENVID=QQ314159", 250), ("ENVID=a+2Bb", 250), ("ENVID=a+3Db", 250),
    ("ENVID=a+0Ab", 501), ("ENVID=a+0Db", 501), ("ENVID=a+00b", 501), ("ENVID=a+1Bb", 501),
    ("ENVID=a+2b", 250), ("ENVID=a+", 501), ("ENVID=a+G0", 501), ("ENVID=a=b", 501),
    ("ENVID=" + "a" * 100, 250), ("ENVID=" + "a" * 101, 501), ("ENVID=", 501),
    ("XYZZY", 555), ("XYZZY=1", 555), ("NOTIFY=NEVER", 555), ("=1", 501), ("=", 501),
    ('"', 501), ('"a b"', 501), ("-X=1", 501), ("SIZE=1\tBODY=7BIT", 501),
    ("MT-PRIORITY=9", 555), ("X" * 900, 555)])
def test_parameters_of_mail(client, parameters, code):
    reply = client.command(f"MAIL FROM:<a@sender.test> {parameters}")
    assert reply.code == code, reply
    assert client.code("NOOP") == 250


@pytest.mark.parametrize("parameters, code", [
    ("NOTIFY=NEVER", 250), ("NOTIFY=SUCCESS,FAILURE,DELAY", 250), ("notify=delay", 250),
    ("NOTIFY=NEVER,SUCCESS", 501), ("NOTIFY=", 501), ("NOTIFY=SUCCESS,", 501),
    ("NOTIFY=,", 501), ("NOTIFY=ALWAYS", 501), ("NOTIFY=NEVER NOTIFY=NEVER", 501),
    ("ORCPT=rfc822;b@example.test", 250), ("ORCPT=rfc822;b+2Bc@example.test", 250),
    ("ORCPT=rfc822;b+0D+0ARCPT", 501), ("ORCPT=rfc822;b+00", 501), ("ORCPT=rfc822;", 501),
    ("ORCPT=;b@c.test", 501), ("ORCPT=b@c.test", 501), ("ORCPT=", 501),
    ("ORCPT=rfc822;" + "b" * 500, 501), ("ORCPT=utf-8;\u00e4@c.test", 501),
    ("SIZE=1", 555), ("XYZZY", 555), ("=", 501)])
def test_parameters_of_rcpt(client, parameters, code):
    assert client.code("MAIL FROM:<a@sender.test>") == 250
    reply = client.command(f"RCPT TO:<b@example.test> {parameters}".encode())
    assert reply.code == code, reply
    assert client.code("NOOP") == 250


@pytest.mark.parametrize("line, code", [
    ("MAIL FROM:a@b.test", 501), ("MAIL FROM:<a@b.test", 501), ("MAIL FROM:<a@b.test>x", 501),
    ("MAIL FROM <a@b.test>", 501), ("MAIL TO:<a@b.test>", 501), ("MAIL", 501),
    ("MAIL FROM: <a@b.test>", 250), ("MAIL FROM:<>", 250), ("mail from:<a@b.test>", 250),
    ("MAIL FROM:<\u00e4@b.test>", 553), ("MAIL FROM:<\u00e4@b.test> SMTPUTF8", 250),
    (b"MAIL FROM:<\xff@b.test> SMTPUTF8", 501), (b"MAIL FROM:<\xc0\xaf@b.test> SMTPUTF8", 501),
    ("MAIL FROM:<" + "a" * 65 + "@b.test>", 501), ("MAIL FROM:<a@b.test>" + " " * 900, 250)])
def test_forms_of_a_sender(client, line, code):
    reply = client.command(line if isinstance(line, bytes) else line.encode())
    assert reply.code == code, reply


@pytest.mark.parametrize("local", [
    "$(touch /tmp/x)", "${run{/bin/true}}", "|/bin/sh", "../../etc/passwd", "a;b", "a`b`",
    "'or 1=1--", "{0}$1#{x}", "\\\\", "a\\\"b"])
def test_odd_but_valid_local_parts_are_only_text(service, local):
    client = Client(service.port)
    client.ehlo()
    assert client.code(f'MAIL FROM:<"{local}"@sender.test>') == 250
    assert client.code(f'RCPT TO:<"{local}"@example.test>') == 250
    assert client.message().code == 250
    event = service.wait_event(type="delivered")
    assert event["recipient"].endswith("@example.test")
    assert is_clean((service.log_path).read_bytes())


def test_binarymime_needs_bdat(client):
    assert client.code("MAIL FROM:<a@sender.test> BODY=BINARYMIME") == 250
    assert client.code("RCPT TO:<b@example.test>") == 250
    assert client.code("DATA") == 503
    client.send(b"BDAT 20 LAST\r\nSubject: x\r\n\r\nbi\0\r\n\xff")
    assert client.reply().code == 250


def test_a_message_beyond_the_limit(relays):
    relay = relays(trusted_networks=["127.0.0.0/8"], routes=DISCARD,
                   limits={"message_size": "64K"}).start()
    client = Client(relay.port)
    client.ehlo()
    line = b"x" * 62 + b"\r\n"
    client.envelope()
    assert client.message(b"Subject: big\r\n\r\n" + line * 1100).code == 552
    client.envelope()
    client.send(b"BDAT 70000 LAST\r\n" + line * 1093 + b"x" * 48)
    assert client.reply().code == 552
    client.envelope()
    client.send(b"BDAT 40000\r\n" + line * 625)
    assert client.reply().code == 250
    client.send(b"BDAT 40000 LAST\r\n" + line * 625)
    assert client.reply().code == 552
    client.envelope()
    assert client.message(b"Subject: fits\r\n\r\n" + line * 900).code == 250
    relay.wait_event(type="delivered")
    assert len(relay.events(type="accepted")) == 1


def test_tiny_chunks_are_bounded(relays):
    """A million chunks of one octet: every one is counted, none is kept open
    beyond its message."""
    relay = relays(trusted_networks=["127.0.0.0/8"], routes=DISCARD).start()
    client = Client(relay.port)
    client.ehlo()
    client.envelope()
    body = b"Subject: tiny\r\n\r\n" + b"x" * 3000 + b"\r\n"
    client.send(b"".join(b"BDAT 1\r\n%c" % byte for byte in body) + b"BDAT 0 LAST\r\n")
    codes = {client.reply().code for _ in body}
    assert codes == {250} and client.reply().code == 250
    assert relay.wait_event(type="accepted")["size"] > len(body)
    client.envelope()
    client.send(b"BDAT 0\r\n" * 5000)
    assert b"\r\n421 4.7.0" in client.rest(2)


# ---- floods


@pytest.mark.parametrize("line", ["NOOP", "RSET", "VRFY x", "HELP", "EHLO x.test",
                                  "MAIL FROM:<a@sender.test>\r\nRSET"])
def test_commands_that_bring_no_mail_end(client, line):
    try:
        client.send((line + "\r\n").encode() * 20000)
    except OSError:
        pass
    answer = client.rest(2)
    assert b"421 4.7.0" in answer[-200:], answer[-200:]
    assert answer.count(b"\r\n") < 2000


def test_errors_end_a_session(client):
    try:
        client.send(b"XYZZY\r\n" * 20000)
    except OSError:
        pass
    answer = client.rest(2)
    assert b"421 4.7.0" in answer[-200:]
    assert answer.count(b"500 ") == 20


def test_a_flood_of_recipients(client):
    assert client.code("MAIL FROM:<a@sender.test>") == 250
    client.send(b"".join(b"RCPT TO:<u%d@example.test>\r\n" % n for n in range(3000)))
    codes = [client.reply().code for _ in range(3000)]
    assert codes.count(250) == 1000 and codes.count(452) == 2000
    assert client.message().code == 250


def test_a_pipelined_burst_is_answered_in_order(client):
    client.send(b"MAIL FROM:<a@sender.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<bad\r\n"
                b"RCPT TO:<c@x.test>\r\nDATA\r\n")
    assert [client.reply().code for _ in range(5)] == [250, 250, 501, 250, 354]
    client.send(b"Subject: x\r\n\r\nx\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n")
    assert [client.reply().code for _ in range(4)] == [250, 250, 250, 221]
    assert client.is_closed()


def test_all_recipients_refused_sends_nothing(relays, place):
    relay = relays(routes=[{"domains": ["home.test"], "deliver": "maildir",
                            "to": str(place / "md")}]).start()
    client = Client(relay.port_mx)
    client.ehlo()
    client.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@elsewhere.test>\r\nDATA\r\n")
    assert [client.reply().code for _ in range(3)] == [250, 550, 554]
    assert client.code("NOOP") == 250


def test_who_hangs_up_amid_a_message_sent_nothing(service):
    for end in (b"", b"\r\n", b"\r\n."):
        client = Client(service.port)
        client.ehlo()
        client.envelope()
        assert client.code("DATA") == 354
        client.send(b"Subject: half\r\n\r\nhalf" + end)
        client.close()
    time.sleep(0.5)
    assert not service.events(type="accepted")


# ---- what is left in logs, events and reports


def test_nothing_raw_reaches_logs_and_events(relays, receivers):
    """CR, LF, ESC and format characters in every place a client can write."""
    sink = receivers()
    relay = relays(trusted_networks=["127.0.0.0/8"], limits={"errors_per_session": 1000},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}]).start()
    client = secure(relay)
    evil = "%s%n\x1b[31mred\x07"
    assert client.code("EHLO " + evil) == 501
    client.ehlo("%s%n%x\u009b31m")
    client.command("X" + evil)
    token = b64("\0us\x1b[31mer\r\nreceive: auth failed client=192.0.2.1\0pass")
    assert client.code("AUTH PLAIN " + token) in (501, 535)
    client.command(f"MAIL FROM:<a{evil}@sender.test>")
    client.command(f"MAIL FROM:<a@sender.test> {evil}")
    client.envelope("{s}$n@sender.test", "b@example.test")
    assert client.message(b"Subject: \x1b[2J%s%n \x9b31m\x07\r\n\t=?utf-8?q?=1B=5B31m=0D=0Ax?=\r\n"
                          b"From: \x1b]0;title\x07 <a@sender.test>\r\n\r\nx\r\n").code == 250
    relay.wait_event(type="delivered")
    log = relay.log_path.read_bytes()
    assert is_clean(log), [l for l in log.split(b"\n") if not is_clean(l)]
    for line in log.decode().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT", line), line
    for path in (relay.data_dir / "events").glob("*.jsonl"):
        assert is_clean(path.read_bytes())
        for line in path.read_text().splitlines():
            json.loads(line)
    for command in (["events"], ["queue", "list"],
                    ["message", "show", relay.events()[0]["message_id"]]):
        shown = relay.run(*command)
        assert shown.returncode == 0, shown.stderr
        assert is_clean(shown.stdout) and b"\xc2\x9b" not in shown.stdout, shown.stdout


def test_log_as_json_stays_json(relays):
    relay = relays(trusted_networks=["127.0.0.0/8"], routes=DISCARD,
                   log={"format": "json", "level": "debug"}).start()
    client = Client(relay.port)
    client.ehlo('"}{\\u001b')
    client.envelope()
    client.message()
    relay.wait_event(type="delivered")
    relay.stop()
    for line in relay.log_text().splitlines():
        assert {"time", "level", "room", "message"} <= set(json.loads(line))


def test_xtext_comes_back_as_it_was_meant(relays, receivers):
    """ENVID and ORCPT travel on and into reports, decoded there, one line."""
    sink = receivers(script={"RCPT": lambda r, s, a: "550 5.1.1 no" if a.startswith("b@")
                             else "250 ok"})
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}]).start()
    client = Client(relay.port)
    client.ehlo()
    assert client.code("MAIL FROM:<a@sender.test> ENVID=a+2B+3D+41 RET=HDRS") == 250
    assert client.code("RCPT TO:<b@example.test> ORCPT=rfc822;o+2Brig@example.test") == 250
    assert client.message().code == 250
    report = wait_for(lambda: sink.messages, what="the report")[0]
    per_message, per_recipient = email.message_from_bytes(
        report.data).get_payload()[1].get_payload()
    assert per_message["Original-Envelope-Id"] == "a+=A"
    assert per_recipient["Original-Recipient"].split(";")[1].strip() == "o+rig@example.test"
    mail = next(c for s in sink.sessions for c in s.commands if c.startswith("MAIL FROM:<a@"))
    assert "ENVID=a+2B+3DA" in mail


# ---- the PROXY protocol


def proxied(relays, networks, service="submission", **config):
    port = free_port()
    listener = {"address": f"127.0.0.1:{port}", "service": service, "tls": "starttls",
                "proxy_protocol": True, "proxy_networks": networks}
    relay = relays(routes=DISCARD, trusted_networks=["192.0.2.0/24", "2001:db8::/32"],
                   listeners=[listener], **config).start()
    return relay, port


V2 = b"\r\n\r\n\0\r\nQUIT\n"
V2_TCP4 = V2 + b"\x21\x11" + struct.pack("!H4s4sHH", 12, socket.inet_aton("192.0.2.7"),
                                         socket.inet_aton("192.0.2.1"), 4000, 25)
V2_TCP6 = V2 + b"\x21\x21" + struct.pack(
    "!H16s16sHH", 36, socket.inet_pton(socket.AF_INET6, "2001:db8::7"),
    socket.inet_pton(socket.AF_INET6, "2001:db8::1"), 4000, 25)
V2_TLV = V2 + b"\x21\x11" + struct.pack("!H4s4sHH", 19, socket.inet_aton("192.0.2.8"),
                                        socket.inet_aton("192.0.2.1"), 4000, 25) \
    + b"\x04\x00\x04abcd"


@pytest.mark.parametrize("header, address", [
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 25\r\n", "2001:db8::7"),
    (V2_TCP4, "192.0.2.7"), (V2_TCP6, "2001:db8::7"), (V2_TLV, "192.0.2.8")])
def test_a_trusted_proxy_says_who_the_client_is(relays, header, address):
    relay, port = proxied(relays, ["127.0.0.0/8"])
    for pieces in ([header], [header[:5], header[5:20], header[20:]]):
        client = Client(port, prelude=pieces[0], greeting=False)
        for piece in pieces[1:]:
            time.sleep(0.05)
            client.send(piece)
        assert client.reply().code == 220
        client.ehlo()
        client.envelope()
        assert client.message().code == 250
    events = wait_for(lambda: len(relay.events(type="accepted")) == 2 and
                      relay.events(type="accepted"), what="two messages")
    assert {e["client"] for e in events} == {address}


@pytest.mark.parametrize("header", [
    b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", V2 + b"\x20\x00\0\0",
    V2 + b"\x21\x00\0\0"])
def test_a_proxy_that_does_not_know_speaks_for_itself(relays, header):
    relay, port = proxied(relays, ["127.0.0.0/8"])
    client = Client(port, prelude=header)
    client.ehlo()
    # 127.0.0.1 is not of the trusted networks here.
    assert client.code("MAIL FROM:<a@sender.test>") == 530


@pytest.mark.parametrize("header", [
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4000\r\n", b"PROXY TCP4 192.0.2.300 192.0.2.1 1 2\r\n",
    b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 1 99999\r\n",
    b"PROXY TCP4 " + b"1" * 200, b"PROXY TCP4 " + b"1" * 90000, b"EHLO client.test\r\n",
    V2 + b"\x31\x11\0\x0c" + b"x" * 12, V2 + b"\x21\x11\0\x02xx", V2 + b"\x21\x11\xff\xff",
    V2 + b"\x22\x11\0\x0c" + b"x" * 12, b"\x16\x03\x01\x02\x00\x01"])
def test_a_malformed_header_ends_the_connection(relays, header):
    relay, port = proxied(relays, ["127.0.0.0/8"])
    client = Client(port, greeting=False)
    try:
        client.send(header)
    except OSError:
        pass
    assert client.is_closed()
    assert Client(port, prelude=V2_TCP4).code("NOOP") == 250


def test_nobody_else_is_believed(relays):
    relay, port = proxied(relays, ["192.0.2.0/24"])
    client = Client(port, greeting=False)
    try:
        client.send(V2_TCP4)
    except OSError:
        pass
    assert client.is_closed()
    wait_for(lambda: "not from a network of proxy_networks" in relay.log_text(), 5, "the line")


def test_what_follows_the_proxy_header_in_one_packet_is_an_early_talker(relays):
    """Nothing said before the greeting is run as a command of the client."""
    relay, port = proxied(relays, ["127.0.0.0/8"])
    client = Client(port, prelude=V2_TCP4 + b"EHLO x.test\r\nMAIL FROM:<a@b.test>\r\n",
                    greeting=False)
    client.rest(0.5)
    assert client.data[:3] in (b"220", b"554")


# ---- other listeners


def test_ipv6(relays):
    port = free_port()
    relay = relays(routes=DISCARD, trusted_networks=["::1/128"], listeners=[
        {"address": f"[::1]:{port}", "service": "submission", "tls": "starttls"}]).start()
    client = Client(port, host="::1")
    client.ehlo("[IPv6:::1]")
    client.envelope()
    assert client.message().code == 250
    assert relay.wait_event(type="accepted")["client"] == "::1"


def test_lmtp(relays, place):
    port = free_port()
    relay = relays(
        listeners=[{"address": f"127.0.0.1:{port}", "service": "lmtp"}],
        routes=[{"domains": ["home.test"], "deliver": "maildir", "to": str(place / "md")}],
    ).start()
    client = Client(port)
    assert client.greeting.lines[0].startswith("relay.test LMTP")
    assert client.code("EHLO client.test") == 500
    assert client.code("HELO client.test") == 500
    assert "PIPELINING" in client.ehlo(verb="LHLO")
    assert client.code("MAIL FROM:<a@x.test>") == 250
    codes = [client.code(f"RCPT TO:<{r}>")
             for r in ("one@home.test", "b@elsewhere.test", "two@home.test")]
    assert codes == [250, 550, 250]
    assert client.message().code == 250
    assert client.reply().code == 250
    assert client.code("NOOP") == 250
    wait_for(lambda: len(relay.events(type="delivered")) == 2, what="both")
    event = relay.events(type="accepted")[0]
    message = next((place / "md" / "new").glob("*")).read_text()
    assert "with LMTP" in message and event["message_id"] in message


def test_lmtp_by_unix_socket(relays, place):
    path = place / "lmtp"
    relay = relays(
        listeners=[{"address": f"unix:{path}", "service": "lmtp"}],
        routes=[{"domains": ["home.test"], "deliver": "maildir", "to": str(place / "md")}],
    ).start()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(str(path))
        assert s.recv(1000).startswith(b"220 relay.test LMTP")

# SPDX-License-Identifier: Apache-2.0
"""Nobody relays who may not: every address form, every listener, no login."""
import base64
import smtplib
import time

import pytest

from support.client import Client

FORMS = [
    "user@elsewhere.test", "user%elsewhere.test@home.test", "elsewhere.test!user",
    "elsewhere.test!user@home.test", "@home.test:user@elsewhere.test",
    '"user@elsewhere.test"', '"user@elsewhere.test"@home.test',
    '"user%elsewhere.test"@home.test', "user@elsewhere.test@home.test",
    "user@[127.0.0.1]", "user@[IPv6:::1]", '"user"@elsewhere.test',
    "user%elsewhere.test@[127.0.0.1]", "<user@elsewhere.test>", "user@home.test.elsewhere.test",
    "user@elsewhere.test.", "USER@ELSEWHERE.TEST", "@", "", "user@", "@elsewhere.test",
    "user@a..b", "user@-a.test", "user@xn--a.test", "a" * 65 + "@home.test",
    "user@" + "a" * 64 + ".test", "user@elsewhere.test(home.test)",
    "user@home.test, user@elsewhere.test", "user\x00@home.test",
]


@pytest.fixture
def home(relays, place):
    return relays(routes=[{"domains": ["home.test"], "deliver": "maildir",
                           "to": str(place / "md")},
                          {"domains": ["*"], "deliver": "smtp", "to": "127.0.0.1:9"}]).start()


def rcpt(client, form):
    return client.docmd(f"RCPT TO:<{form}>")[0]


@pytest.mark.parametrize("sender", ["<>", "<a@elsewhere.test>", "<a@home.test>",
                                    "<root@[127.0.0.1]>"])
def test_the_mx_listener_takes_only_local_domains(home, sender):
    for form in FORMS:
        # One session each: so many errors would end a session.
        with Client(home.port_mx) as client:
            client.ehlo()
            assert client.code(f"MAIL FROM:{sender}") == 250
            code = client.code(f"RCPT TO:<{form}>")
        assert code >= 500, f"{form!r} was answered {code}"
    assert not home.events(type="accepted")


def test_the_mx_listener_takes_its_own(home):
    client = smtplib.SMTP("127.0.0.1", home.port_mx, timeout=10)
    client.sendmail("a@elsewhere.test", ["b@home.test"], "Subject: x\r\n\r\nx\r\n")
    home.wait_event(type="delivered", recipient="b@home.test")


def test_postmaster_without_a_domain(home):
    client = smtplib.SMTP("127.0.0.1", home.port_mx, timeout=10)
    client.ehlo("client.test")
    client.docmd("MAIL FROM:<>")
    assert rcpt(client, "postmaster") == 250


@pytest.mark.parametrize("form", ["user@elsewhere.test", "user@home.test", "postmaster"])
def test_submission_wants_a_login(home, form):
    with smtplib.SMTP("localhost", home.port, timeout=10) as client:
        client.ehlo("client.test")
        assert client.docmd("MAIL FROM:<a@home.test>")[0] == 530
        assert rcpt(client, form) == 503
        client.starttls(context=home.tls_context())
        client.ehlo("client.test")
        assert client.docmd("MAIL FROM:<a@home.test>")[0] == 530
        assert rcpt(client, form) == 503
    assert not home.events(type="accepted")


def test_no_login_in_the_clear(home):
    with smtplib.SMTP("127.0.0.1", home.port, timeout=10) as client:
        client.ehlo("client.test")
        assert not client.has_extn("auth")
        code, _ = client.docmd("AUTH PLAIN AHVzZXIAcGFzcw==")
        assert code in (530, 538)


def test_trusted_networks_may_relay(relays):
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   routes=[{"domains": ["*"], "deliver": "discard"}]).start()
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=10) as client:
        client.sendmail("a@x.test", ["b@y.test"], "Subject: x\r\n\r\nx\r\n")
    assert relay.wait_event(type="delivered")["tenant"] == "default"


def test_other_networks_may_not(relays):
    relay = relays(trusted_networks=["192.0.2.0/24"],
                   routes=[{"domains": ["*"], "deliver": "discard"}]).start()
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=10) as client:
        client.ehlo("x.test")
        assert client.docmd("MAIL FROM:<a@x.test>")[0] == 530


def test_a_credential_is_bound_to_its_networks(home):
    far = home.credential(networks="192.0.2.0/24")
    near = home.credential(networks="127.0.0.0/8")
    for made, works in ((far, False), (near, True)):
        client = home.client(login=False)
        if works:
            client.login(made["username"], made["password"])
        else:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login(made["username"], made["password"])


def test_a_revoked_credential_is_refused_in_an_open_session(home):
    made = home.credential(name="short-lived")
    client = home.client(login=False)
    client.login(made["username"], made["password"])
    assert client.docmd("MAIL FROM:<a@home.test>")[0] == 250
    client.docmd("RSET")
    home.cli("credential", "remove", made["username"])
    time.sleep(1.5)
    code, text = client.docmd("MAIL FROM:<a@home.test>")
    assert code == 550 and b"no longer valid" in text


def test_wrong_passwords_are_answered_later_and_end_the_session(home):
    made = home.credential()
    client = home.client(login=False)
    client.ehlo()
    started = time.monotonic()
    codes = []
    try:
        for _ in range(5):
            token = base64.b64encode(f"\0{made['username']}\0wrong".encode()).decode()
            codes.append(client.docmd("AUTH PLAIN " + token)[0])
    except smtplib.SMTPServerDisconnected:
        pass
    assert codes[0] == 535 and 3 <= len(codes) <= 4
    assert time.monotonic() - started > 4
    assert "auth failed" in home.log_text() and "client=127.0.0.1" in home.log_text()
    assert "wrong" not in home.log_text()


def test_a_loop_is_cut(home):
    received = "Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\n" * 60
    client = smtplib.SMTP("127.0.0.1", home.port_mx, timeout=10)
    with pytest.raises(smtplib.SMTPDataError) as error:
        client.sendmail("a@x.test", ["b@home.test"], received + "\r\nx\r\n")
    assert error.value.smtp_code == 554 and b"5.4.6" in error.value.smtp_error

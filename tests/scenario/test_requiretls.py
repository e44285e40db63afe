# SPDX-License-Identifier: Apache-2.0
"""REQUIRETLS (RFC 8689): a message that asks for TLS all the way goes only to
servers that prove who they are and promise the same; else it comes back."""
import pytest

from support.sts import Scene


@pytest.fixture
def scene(relays, receivers, dns, authority):
    made = Scene(relays, receivers, dns, authority,
                 [f"{n}.test" for n in ("good", "silent", "sender")])
    yield made
    made.web.stop()


def send(relay, recipient, **options):
    return relay.submit("a@sender.test", recipient, mail_options=["REQUIRETLS"], **options)


def test_it_is_offered_under_tls_only(scene):
    relay = scene.start()
    import smtplib
    with smtplib.SMTP("localhost", relay.port) as client:
        client.ehlo()
        assert not client.has_extn("requiretls")
        client.starttls(context=relay.tls_context())
        client.ehlo()
        assert client.has_extn("requiretls")
    with smtplib.SMTP("localhost", relay.port_mx) as client:
        client.starttls(context=relay.tls_context())
        client.ehlo()
        assert not client.has_extn("requiretls")
        code, text = client.docmd("MAIL FROM:<a@b.test> REQUIRETLS")
        assert code == 555 and b"REQUIRETLS" in text


def test_it_is_passed_on(scene):
    good = scene.domain("good.test", "mx.good.test", "127.0.0.2")
    good.keywords.append("REQUIRETLS")
    scene.web.publish("good.test", "enforce", "mx.good.test")
    relay = scene.start()
    send(relay, "u@good.test")
    event = relay.wait_event(recipient="u@good.test", type="delivered")
    assert event["tls_policy"] == "sts" and event["tls_verified"]
    assert "REQUIRETLS" in good.messages[0].mail_parameters
    # Another message on the same connection does not ask for it.
    relay.submit("a@sender.test", "v@good.test")
    relay.wait_event(recipient="v@good.test", type="delivered")
    assert "REQUIRETLS" not in good.messages[1].mail_parameters


@pytest.mark.parametrize("why", ["does not offer", "has not proved"])
def test_it_comes_back_where_it_cannot(scene, why):
    other = scene.domain("silent.test", "mx.silent.test", "127.0.0.3")
    if why == "does not offer":
        scene.web.publish("silent.test", "enforce", "mx.silent.test")
    else:
        # A good certificate, but nothing says that the host is the domain's.
        scene.web.publish("silent.test", "none")
        other.keywords.append("REQUIRETLS")
    home = scene.domain("sender.test", "mx.sender.test", "127.0.0.4")
    scene.web.publish("sender.test", "none")
    relay = scene.start()
    send(relay, "u@silent.test",
         data="From: a@sender.test\r\nTo: u@silent.test\r\nSubject: s\r\n\r\nsecret text\r\n")
    event = relay.wait_event(recipient="u@silent.test", type="bounced")
    assert event["enhanced"] == "5.7.30" and why in event["reply"]
    assert not other.messages
    relay.wait_event(recipient="a@sender.test", type="delivered")
    report = home.messages[0].data
    assert b"Status: 5.7.30" in report and b"secret text" not in report
    # What does not ask for it goes.
    relay.submit("a@sender.test", "v@silent.test")
    relay.wait_event(recipient="v@silent.test", type="delivered")

# SPDX-License-Identifier: Apache-2.0
"""`queue export` and `queue import`: mail moves from one spool to another as it
is, and no message twice."""
import json
import smtplib

import pytest

from support.waiting import wait_for

TRUSTED = {"trusted_networks": ["127.0.0.0/8"]}
BODY = (b"Subject: exact\r\nFrom: a@sender.test\r\n\r\n.dot\r\n..\r\n\xc3\xa4\xff\r\n"
        + b"x" * 5000 + b"\r\n\r\n")


def to(receiver):
    return [{"domains": ["*"], "deliver": "smtp", "to": f"127.0.0.1:{receiver.port}"}]


@pytest.fixture
def full(relays, receivers):
    """A relay in which three messages wait, one for two domains."""
    relay = relays(**TRUSTED, routes=to(receivers())).start()
    relay.cli("queue", "hold", "--all")
    with smtplib.SMTP("127.0.0.1", relay.port) as client:
        client.sendmail("a@sender.test", ["b@one.test", "c@two.test", "d@two.test"], BODY,
                        mail_options=["BODY=8BITMIME", "RET=HDRS", "ENVID=env+2Bid"],
                        rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;x+2By@z.test"])
        client.sendmail("", ["b@one.test"], b"Subject: null sender\r\n\r\n")
        client.sendmail("a@sender.test", ["big@two.test"],
                        b"Subject: big\r\n\r\n" + (b"y" * 900 + b"\r\n") * 2000)
    wait_for(lambda: relay.cli("status")["queue"]["deliveries"] == 4)
    return relay


@pytest.fixture
def other(relays, receivers):
    sink = receivers()
    relay = relays(**TRUSTED, routes=to(sink)).start()
    relay.sink = sink
    return relay


def envelopes(directory):
    return {path.stem: json.loads(path.read_text()) for path in directory.glob("*.json")}


def export(relay, directory, *selection):
    return relay.cli("queue", "export", directory, *selection)


def test_what_is_moved_is_delivered_as_it_was(full, other, place):
    out = place / "out"
    answer = export(full, out)
    assert answer == {"exported": 3, "ended": 0, "unreadable": 0, "in_flight": 0,
                      "more": False}
    assert out.stat().st_mode & 0o777 == 0o700
    stored = {path.stem: path.read_bytes() for path in out.glob("*.eml")}
    assert stored.keys() == envelopes(out).keys()
    for name in stored:
        assert full.run("message", "raw", name).stdout == stored[name]
    assert other.cli("queue", "import", out) == {"imported": 3, "failed": 0, "done_before": 0}
    wait_for(lambda: len(other.sink.messages) == 4, what="all delivered")
    assert sorted({m.data for m in other.sink.messages}) == sorted(stored.values())
    exact = next(m for m in other.sink.messages if b"exact" in m.data and len(m.recipients) == 2)
    assert exact.recipients == ["c@two.test", "d@two.test"]
    assert "RET=HDRS" in exact.mail_parameters and "ENVID=env+2Bid" in exact.mail_parameters
    for parameters in exact.rcpt_parameters:
        assert "SUCCESS" in parameters and "ORCPT=rfc822;x+2By@z.test" in parameters
    assert {e["origin"] for e in other.events(type="accepted")} == {"import"}


def test_a_repeated_import_repeats_nothing(full, other, place):
    out = place / "out"
    export(full, out, "--domain", "one.test")
    assert len(envelopes(out)) == 2
    assert other.cli("queue", "import", out)["imported"] == 2
    done = {path.stem: json.loads(path.read_text()) for path in out.glob("*.done")}
    assert len(done) == 2 and not envelopes(out)
    for taken in done.values():
        assert other.cli("message", "show", taken["imported_as"])["message_id"]
    assert other.cli("queue", "import", out) == {"imported": 0, "failed": 0, "done_before": 2}
    # One that was taken when the command was killed, before the names changed.
    name, taken = done.popitem()
    (out / f"{name}.json").write_text(json.dumps(taken))
    (out / f"{name}.importing").touch()
    assert other.cli("queue", "import", out) == {"imported": 0, "failed": 0, "done_before": 2}
    assert not list(out.glob("*.importing"))
    wait_for(lambda: len(other.sink.messages) == 2)
    assert all(m.recipients == ["b@one.test"] for m in other.sink.messages)


def test_only_what_still_waits_is_exported(relays, receivers, place):
    """A recipient that has found its end stays out, one that was tried is in."""
    sink = receivers(script={"RCPT": lambda receiver, session, recipient:
                             "450 4.2.0 later" if "later" in recipient else "250 2.1.5 ok"})
    relay = relays(**TRUSTED, routes=to(sink), retry={"schedule": ["1h"]}).start()
    with smtplib.SMTP("127.0.0.1", relay.port) as client:
        client.sendmail("a@sender.test", ["done@x.test", "later@x.test"], b"Subject: x\r\n\r\n")
    relay.wait_event(type="deferred")
    relay.wait_event(type="delivered")
    assert export(relay, place / "out")["exported"] == 1
    envelope, = envelopes(place / "out").values()
    recipient, = envelope["recipients"]
    assert recipient["address"] == "later@x.test" and recipient["attempts"] == 1
    assert recipient["next_attempt"] and envelope["expires"]


def fails(relay, *args):
    answer = relay.run("queue", "import", *args)
    assert answer.returncode == 1
    return answer.stderr.decode()


def test_mistakes_are_told_with_their_file(full, other, place):
    out = place / "out"
    export(full, out, "--domain", "one.test")
    first, second = sorted(envelopes(out))
    assert "is not empty" in full.run("queue", "export", out).stderr.decode()
    # An import that was cut off: nobody knows, so it is left alone.
    (out / f"{first}.importing").touch()
    said = fails(other, out, "--tenant", "nobody")
    assert f"{first}.importing" in said and "cut off" in said
    assert f"{second}.json" in said and "no tenant `nobody`" in said
    assert not (out / f"{second}.importing").exists()
    (out / f"{first}.importing").unlink()
    message = out / f"{first}.eml"
    whole = message.read_bytes()
    message.write_bytes(whole[:-3])
    (out / f"{second}.json").write_text("{\n bad")
    said = fails(other, out)
    assert f"{first}.json" in said and "octets" in said
    assert f"{second}.json:2:" in said
    message.unlink()
    assert f"{first}.eml" in fails(other, out)
    assert not other.events(type="accepted")
    assert other.run("queue", "import", place / "nothing").returncode == 1


@pytest.mark.parametrize("name, value", [
    ("sender", "not an address"), ("sender", None), ("body", "9bit"), ("ret", "some"),
    ("envid", "a b"), ("envid", "x" * 101), ("envid", "a\r\nb"), ("client", "nowhere"),
    ("expires", "tomorrow"), ("recipients", []), ("recipients", "b@one.test"),
    ("recipients", [{"address": "x"}]), ("recipients", [{"address": "a@b.test\r\nRSET"}]),
    ("recipients", [{"address": "a@b.test", "notify": ["never", "delay"]}]),
    ("recipients", [{"address": "a@b.test", "notify": ["sometimes"]}]),
    ("recipients", [{"address": "a@b.test", "orcpt": "rfc822;a b"}]),
    ("recipients", [{"address": "a@b.test", "orcpt": "none"}]), ("size", 3)])
def test_no_envelope_of_another_form_is_taken(other, place, name, value):
    envelope = {"tenant": "default", "stream": "bulk", "sender": "a@b.test", "body": "7bit",
                "size": 8, "recipients": [{"address": "b@one.test", "notify": []}]}
    (place / "x.eml").write_bytes(b"A: b\r\n\r\n")
    (place / "x.json").write_text(json.dumps({**envelope, name: value}))
    assert "x.json" in fails(other, place)
    (place / "x.json").write_text(json.dumps(envelope))
    assert other.cli("queue", "import", place)["imported"] == 1


def test_expiry_moves_along_or_begins_afresh(full, other, place):
    out = place / "out"
    export(full, out, "--domain", "one.test")
    path = sorted(out.glob("*.json"))[0]
    other.cli("queue", "hold", "--all")
    envelope = {**json.loads(path.read_text()), "expires": "2999-01-01T00:00:00.000Z"}
    path.write_text(json.dumps(envelope))
    assert other.cli("queue", "import", out, "--stream", "bulk")["imported"] == 2
    shown = [other.cli("message", "show", json.loads(p.read_text())["imported_as"])
             for p in sorted(out.glob("*.done"))]
    assert shown[0]["expires"] == "2999-01-01T00:00:00.000Z"
    assert [m["stream"] for m in shown] == ["bulk", "bulk"]
    path.write_text(json.dumps(envelope))
    path.with_suffix(".done").unlink()
    assert other.cli("queue", "import", out, "--fresh")["imported"] == 1
    again = json.loads(path.with_suffix(".done").read_text())
    assert other.cli("message", "show", again["imported_as"])["expires"] < "2998"

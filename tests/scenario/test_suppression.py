# SPDX-License-Identifier: Apache-2.0
"""Suppressed addresses get no mail: refused at RCPT with the cause, ended at
dispatch otherwise; listed, added, removed, imported and exported."""
import csv
import io
import time

import pytest

from support.waiting import wait_for


@pytest.fixture
def mx(receivers):
    return receivers()


def relay_to(relays, mx, **config):
    return relays(routes=[{"domains": ["*"], "deliver": "smtp",
                           "to": f"127.0.0.1:{mx.port}", "tls": "none"}], **config).start()


def rcpt(client, address):
    code, text = client.rcpt(address)
    return code, text.decode()


def test_a_suppressed_recipient_is_refused_and_the_others_go(relays, mx):
    relay = relay_to(relays, mx)
    relay.cli("suppression", "add", "Gone@dest.test", "--cause", "no_such_user",
              "--evidence", "550 5.1.1 no such user")
    client = relay.client()
    client.ehlo()
    assert client.mail("a@sender.test")[0] == 250
    code, text = rcpt(client, "gone@DEST.test")
    assert code == 550 and text.startswith("5.7.1 ") and "no_such_user" in text
    assert rcpt(client, "b@dest.test")[0] == 250
    code, text = client.data(b"Subject: x\r\n\r\nx\r\n")
    assert code == 250
    message = text.split()[1].decode()
    relay.wait_event(type="delivered", recipient="b@dest.test")
    event = relay.wait_event(type="suppressed", message_id=message)
    assert event["recipient"] == "gone@dest.test"
    assert event["cause"] == "no_such_user" and event["step"] == "rcpt"
    # Alone: nothing is left to be sent, and the event is there all the same.
    assert client.mail("a@sender.test")[0] == 250
    assert rcpt(client, "gone@dest.test")[0] == 550
    client.quit()
    wait_for(lambda: len(relay.events(type="suppressed")) == 2, what="second event")
    assert [m.recipients for m in mx.messages] == [["b@dest.test"]]


def test_scopes_and_tenants(relays, mx):
    relay = relay_to(relays, mx)
    relay.cli("tenant", "add", "other")
    other = relay.credential(tenant="other")
    relay.cli("suppression", "add", "s@dest.test", "--stream", "bulk")
    relay.cli("suppression", "add", "o@dest.test", "--tenant", "other")
    relay.cli("suppression", "add", "r@dest.test", "--relay", "--cause", "complaint")

    def refused(credential, address):
        client = relay.client(login=False)
        client.login(credential["username"], credential["password"])
        client.ehlo()
        client.mail("a@sender.test")
        code, _ = rcpt(client, address)
        client.quit()
        return code == 550

    mine, bulk = relay.credential(), relay.credential(stream="bulk")
    assert [refused(c, "s@dest.test") for c in (mine, bulk, other)] == [False, True, False]
    assert [refused(c, "o@dest.test") for c in (mine, bulk, other)] == [False, False, True]
    assert [refused(c, "r@dest.test") for c in (mine, bulk, other)] == [True, True, True]
    relay.cli("suppression", "remove", "r@dest.test", "--relay")
    assert not refused(mine, "r@dest.test")
    # It is on the disk.
    relay.kill()
    relay.start()
    assert refused(bulk, "s@dest.test") and not refused(mine, "s@dest.test")


@pytest.mark.parametrize("route", ["smtp", "discard", "maildir"])
def test_what_is_queued_ends_at_dispatch_with_a_report(relays, mx, place, route):
    to = {"smtp": {"to": f"127.0.0.1:{mx.port}", "tls": "none"}, "discard": {},
          "maildir": {"to": str(place / "md")}}[route]
    relay = relays(suppressions={"at_rcpt": "accept"},
                   routes=[{"domains": ["dest.test"], "deliver": route, **to},
                           {"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{mx.port}", "tls": "none"}]).start()
    for user in ("a", "c", "d", "f"):
        relay.cli("suppression", "add", f"{user}@dest.test", "--cause", "moved")
    message = relay.submit("me@sender.test", [f"{u}@dest.test" for u in "abcdef"])
    for user in "be":
        relay.wait_event(type="delivered", recipient=f"{user}@dest.test")
    for user in "acdf":
        event = relay.wait_event(type="suppressed", recipient=f"{user}@dest.test")
        assert event["message_id"] == message and event["cause"] == "moved"
    wait_for(lambda: [m for m in mx.messages if m.recipients == ["me@sender.test"]],
             what="a report")
    assert not [m for m in mx.messages for r in m.recipients if r[0] in "acdf" and "dest" in r]
    wait_for(relay.queue_empty, what="empty queue")
    assert len(relay.events(type="suppressed")) == 4
    assert len(relay.events(type="delivered", message_id=message)) == 2


def test_mail_that_waits_is_met_too(relays, mx):
    mx.script["RCPT"] = ["450 4.2.0 later", "250 ok"]
    relay = relay_to(relays, mx, retry={"schedule": ["1s"]})
    relay.submit("me@sender.test", "late@dest.test", rcpt_options=["NOTIFY=NEVER"])
    relay.wait_event(type="deferred", recipient="late@dest.test")
    relay.cli("suppression", "add", "late@dest.test", "--cause", "unsubscribe")
    relay.wait_event(type="suppressed", recipient="late@dest.test")
    assert not mx.messages


def test_what_the_world_sends_is_not_concerned(relays, mx, place):
    relay = relays(routes=[{"domains": ["home.test"], "deliver": "maildir",
                            "to": str(place / "md")}]).start()
    relay.cli("suppression", "add", "b@home.test", "--relay")
    import smtplib
    with smtplib.SMTP("127.0.0.1", relay.port_mx, timeout=10) as client:
        client.sendmail("a@elsewhere.test", ["b@home.test"], "Subject: x\r\n\r\nx\r\n")
    relay.wait_event(type="delivered", recipient="b@home.test")


def test_an_entry_expires(relays, mx):
    relay = relay_to(relays, mx)
    relay.cli("suppression", "add", "b@dest.test", "--expire", "1s")
    assert len(relay.cli("suppression", "show", "b@dest.test")["suppressions"]) == 1
    wait_for(lambda: not relay.cli("suppression", "show", "b@dest.test")["suppressions"],
             what="expiry")
    relay.submit("a@sender.test", "b@dest.test")


def test_csv_goes_out_and_in_again(relays, mx, place):
    relay = relay_to(relays, mx)
    relay.cli("tenant", "add", "acme")
    path = place / "list.csv"
    path.write_text(
        "Address,cause,evidence,tenant\r\n"
        '"=1+2@dest.test",complaint,"he said ""no"", twice",acme\r\n'
        "U2@b\u00fccher.test,,,\r\n"
        "broken,,,\r\n"
        "u3@dest.test,whatever,,\r\n"
        "u4@dest.test,,,nobody\r\n"
        '"u5@dest.test",,"two\r\nlines",\r\n')
    result = relay.run("suppression", "import", path, "--cause", "unsubscribe", "--json")
    assert result.returncode == 1
    import json
    answer = json.loads(result.stdout)
    assert (answer["imported"], answer["changed"], answer["refused"]) == (3, 3, 3)
    assert [c["line"] for c in answer["complaints"]] == [4, 5, 6]
    relay.cli("suppression", "add", "r@dest.test", "--relay")
    relay.cli("suppression", "add", "s@dest.test", "--stream", "bulk", "--expire", "9d")
    listed = relay.cli("suppression", "list")["suppressions"]
    assert {(s["address"], s["cause"], s["tenant"]) for s in listed} == {
        ("=1+2@dest.test", "complaint", "acme"), ("u2@xn--bcher-kva.test", "unsubscribe", "default"),
        ("u5@dest.test", "unsubscribe", "default"), ("r@dest.test", "manual", None),
        ("s@dest.test", "manual", "default")}

    out = relay.run("suppression", "export")
    assert out.returncode == 0
    rows = list(csv.DictReader(io.StringIO(out.stdout.decode())))
    # A spreadsheet must not take an address for a formula.
    assert {r["address"] for r in rows} == {
        "'=1+2@dest.test", "u2@xn--bcher-kva.test", "u5@dest.test", "r@dest.test", "s@dest.test"}
    for s in listed:
        flags = {"relay": ["--relay"], "tenant": ["--tenant", s["tenant"]],
                 "stream": ["--tenant", s["tenant"], "--stream", s["stream"]]}[s["scope"]]
        relay.cli("suppression", "remove", s["address"], *flags)
    assert relay.cli("suppression", "list")["suppressions"] == []
    result = relay.run("suppression", "import", "-", input=out.stdout)
    assert result.returncode == 0, result.stderr
    again = relay.cli("suppression", "list")["suppressions"]

    def essence(entries):
        return [{k: v for k, v in s.items() if k != "id"} for s in entries]
    assert essence(again) == essence(listed)


def test_a_long_import_goes_in_pieces(relays, mx, place):
    relay = relay_to(relays, mx)
    path = place / "list.csv"
    with path.open("w") as out:
        out.write("address,evidence\n")
        for i in range(12000):
            out.write(f'u{i}@dest.test,"{"x" * 80}"\n')
        out.write("not an address,\n")
    start = time.monotonic()
    result = relay.run("suppression", "import", path)
    assert result.returncode == 1 and b"12000 rows are taken in" in result.stdout
    assert b"line 12002:" in result.stderr
    assert time.monotonic() - start < 20
    page = relay.cli("suppression", "list", "--limit", "10")
    assert len(page["suppressions"]) == 10
    page = relay.cli("suppression", "list", "--limit", "10", "--after", page["next"])
    assert page["suppressions"][0]["address"] == "u10@dest.test"
    client = relay.client()
    client.ehlo()
    client.mail("a@sender.test")
    assert rcpt(client, "u11999@dest.test")[0] == 550
    client.quit()


@pytest.mark.parametrize("arguments,word", [
    (["add", "nobody"], "no address"),
    (["add", "a@dest.test", "--cause", "dislike"], "a cause is"),
    (["add", "a@dest.test", "--tenant", "nobody"], "no tenant"),
    (["add", "a@dest.test", "--relay", "--tenant", "default"], "whole relay"),
    (["add", "a@dest.test", "--expire", "soon"], "duration"),
    (["remove", "a@dest.test"], "not suppressed"),
    (["import", "/nonexistent"], "No such file"),
])
def test_mistakes_are_told(relays, mx, arguments, word):
    relay = relay_to(relays, mx)
    result = relay.run("suppression", *arguments)
    assert result.returncode == 1 and word in result.stderr.decode(), result.stderr

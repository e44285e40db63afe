# SPDX-License-Identifier: Apache-2.0
"""Signatures of random messages verify in dkimpy, OpenDKIM and mailauth: RSA,
Ed25519 and both, relaxed and simple. DKIM_MESSAGES=10000 tries so many."""
import os
import pathlib
import random
import shutil
import struct
import subprocess

import pytest

from support import dkim as verifiers
from support.relay import BINARY

COUNT = int(os.environ.get("DKIM_MESSAGES", "300"))
SIGNER = pathlib.Path(BINARY).parent / "tests" / "interop" / "dkim_signer"
DOMAIN = "sender.test"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Files of keys and their records."""
    if not SIGNER.exists():
        pytest.skip(f"{SIGNER} is not built (meson -Dtests=true)")
    path = tmp_path_factory.mktemp("keys")
    records, arguments = {}, []
    for kind in ("rsa", "ed25519"):
        got = subprocess.run([SIGNER, "--make", kind], capture_output=True, text=True,
                             check=True)
        (path / kind).write_text(got.stdout)
        records[f"{kind}._domainkey.{DOMAIN}"] = got.stderr.strip()
        arguments.append(f"{kind}={path / kind}")
    return arguments, records


def words(r, most):
    return " ".join(r.choice(["a", "bb", "Gru\u00df", "x.y", "\u20ac", ".", "--", "q" * 40])
                    for _ in range(r.randint(1, most))).encode()


def value(r):
    """Of a field: folded here and there, spaces where they may be."""
    text = words(r, 12)
    for _ in range(r.randint(0, 2)):
        text += r.choice([b"\r\n ", b"\r\n\t", b"  ", b" \t ", b"\r\n  \t"]) + words(r, 5)
    return r.choice([b" ", b"", b"\t", b"   "]) + text + r.choice([b"", b" ", b"\t "])


def header(r):
    names = ["Subject", "To", "Cc", "Date", "Message-ID", "Reply-To", "MIME-Version",
             "Content-Type", "Content-Transfer-Encoding", "List-Id", "List-Unsubscribe",
             "X-Other", "Sender", "references", "COMMENTS", "Received"]
    fields = [(b"From", b" a@" + DOMAIN.encode())]
    for name in r.sample(names, r.randint(1, len(names))):
        fields.append((name.encode(), value(r)))
    if r.random() < 0.1:
        fields.append((b"Subject", value(r)))
    r.shuffle(fields)
    return b"".join(name + b":" + text + b"\r\n" for name, text in fields)


def line(r):
    return r.choice([
        lambda: words(r, 15), lambda: b"", lambda: b"", lambda: b" \t", lambda: b".",
        lambda: b"..dots", lambda: words(r, 3) + b"  \t ", lambda: b"   " + words(r, 3),
        lambda: bytes(r.choice(range(128, 256)) for _ in range(r.randint(1, 30))),
        lambda: b"long" * r.choice([249, 1000]), lambda: b"From here", lambda: b"\tx\t\ty",
    ])()


def body(r):
    kind = r.random()
    if kind < 0.08:
        return b""
    if kind < 0.16:
        return b"\r\n" * r.randint(1, 4)
    text = b"\r\n".join(line(r) for _ in range(r.randint(1, 40)))
    # Readers differ on white space in a last line that does not end; on the wire
    # it always does.
    if r.random() < 0.1 and text[-1:] not in b" \t":
        return text
    return text + b"\r\n" * r.randint(1, 3)


def messages():
    r = random.Random(6376)
    for _ in range(COUNT):
        yield r.randrange(4) | r.choice([4, 8, 12]), header(r) + b"\r\n" + body(r)


@pytest.fixture(scope="module")
def signed(keys):
    """(bits, message with its signatures)."""
    plain = list(messages())
    order = b"".join(bytes([bits]) + struct.pack(">I", len(m)) + m for bits, m in plain)
    got = subprocess.run([SIGNER, DOMAIN, *keys[0]], input=order, capture_output=True,
                         check=True).stdout
    out = []
    for bits, message in plain:
        size = struct.unpack(">I", got[:4])[0]
        fields, got = got[4:4 + size], got[4 + size:]
        assert fields.count(b"DKIM-Signature:") == bin(bits >> 2).count("1")
        out.append((bits, fields + message))
    assert len(out) == COUNT and not got
    return out


def test_dkimpy_verifies(signed, keys):
    pytest.importorskip("dkim", reason="python3-dkim is not installed")
    for n, (bits, message) in enumerate(signed):
        results = verifiers.by_dkimpy(message, keys[1])
        assert results == [True] * bin(bits >> 2).count("1"), (n, bits, message)


def test_dkimpy_notices_changes(signed, keys):
    """The verifiers would tell."""
    pytest.importorskip("dkim", reason="python3-dkim is not installed")
    bits, message = next((b, m) for b, m in signed if b"\r\n\r\n" in m)
    changed = message.replace(b"\r\n\r\n", b"\r\n\r\nmore\r\n", 1)
    assert True not in verifiers.by_dkimpy(changed, keys[1])
    added = message.replace(b"\r\n\r\n", b"\r\nReply-To: b@other.test\r\n\r\n", 1)
    assert True not in verifiers.by_dkimpy(added, keys[1])


def test_opendkim_verifies(signed, keys, tmp_path):
    try:
        library = verifiers.OpenDkim(keys[1], tmp_path / "records")
    except OSError:
        pytest.skip("libopendkim11 is not installed")
    wanted = 12 if library.knows_ed25519() else 4
    tried = 0
    for n, (bits, message) in enumerate(signed):
        if bits & wanted != bits & 12:
            continue
        tried += 1
        # It knows mail from the wire only, where the last line ends.
        whole = message if message.endswith(b"\r\n") else message + b"\r\n"
        results = library.verify(whole)
        assert len(results) == bin(bits >> 2).count("1")
        assert all(passed for passed, _ in results), (n, bits, results, message)
    assert tried >= COUNT / 4


def test_mailauth_verifies(signed, keys, tmp_path, node_modules):
    files = []
    for n, (_, message) in enumerate(signed):
        files.append(tmp_path / str(n))
        files[-1].write_bytes(message)
    results = verifiers.by_mailauth(files, keys[1], tmp_path / "records.json")
    for (bits, message), got in zip(signed, results):
        assert len(got) == bin(bits >> 2).count("1")
        assert all(r[0] == "pass" for r in got), (bits, got, message)
    assert len(results) == len(files)


@pytest.fixture(scope="module")
def node_modules():
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if (verifiers.JS / "node_modules" / "mailauth").is_dir():
        return
    try:
        got = subprocess.run(["npm", "ci", "--prefix", str(verifiers.JS)],
                             capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("mailauth comes by `npm ci`, and npm's registry does not answer")
    if got.returncode != 0 and "network" in got.stderr:
        pytest.skip("mailauth comes by `npm ci`, and npm's registry cannot be reached")
    assert got.returncode == 0, got.stderr

# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by scenarios and interop tests: a relay, scripted receivers,
a name server, a certificate authority. Everything lives on 127.0.0.0/8."""
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from support.dns import NameServer  # noqa: E402
from support.pki import Authority  # noqa: E402
from support.receiver import Receiver  # noqa: E402
from support.relay import Relay  # noqa: E402


@pytest.fixture(scope="session")
def authority():
    """In a place that a service which gave root up can read."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-pki-"))
    path.chmod(0o755)
    yield Authority(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def dns():
    with NameServer() as server:
        yield server


@pytest.fixture
def receivers(authority):
    """Makes scripted receivers that end with the test."""
    made = []

    def make(**options):
        receiver = Receiver(authority=authority, **options)
        made.append(receiver)
        receiver.start()
        return receiver

    yield make
    for receiver in made:
        receiver.stop()


def make_place():
    path = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def make_relays(place, authority):
    made = []

    def make(**config):
        relay = Relay(place / f"relay{len(made)}", authority, config)
        made.append(relay)
        return relay

    yield make
    for relay in made:
        relay.close()


@pytest.fixture
def place():
    """A directory that a service which gave root up can reach."""
    yield from make_place()


@pytest.fixture
def relays(place, authority):
    """Makes relays that end with the test."""
    yield from make_relays(place, authority)


@pytest.fixture(scope="module")
def module_place():
    yield from make_place()


@pytest.fixture(scope="module")
def module_relays(module_place, authority):
    """For tests that only talk: makes relays that end with the file's tests."""
    yield from make_relays(module_place, authority)


@pytest.fixture
def relay(relays, dns):
    """A started relay that resolves by the test's name server."""
    instance = relays(resolver={"servers": [dns.address], "dnssec": False})
    instance.start()
    return instance

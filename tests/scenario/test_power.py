# SPDX-License-Identifier: Apache-2.0
"""A power cut: ext4 on a loop device is shut down without flushing its log
(EXT4_IOC_SHUTDOWN), mounted again, and everything acknowledged is still there.
Ledgers are kept outside of the image. SIGKILL alone would prove nothing here:
it does not lose the page cache."""
import fcntl
import os
import random
import shutil
import struct
import subprocess
import time

import pytest

from scenario.test_durability import SUBMITTERS, Submitter, tokens
from support.counts import record
from support.waiting import wait_for

CYCLES = int(os.environ.get("POWER_CYCLES", "10"))
EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, place, megabytes=512):
        self.image, self.mounted = place / "disk.img", place / "disk"
        self.mounted.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop,commit=60", self.image, self.mounted],
                       check=True, capture_output=True)
        self.mounted.chmod(0o755)

    def cut_power(self):
        fd = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(fd)

    def unmount(self):
        # Mounted twice, one image would be two: better no result than that.
        wait_for(self._unmounted, 30, "the disk is unmounted", pause=0.1)

    def _unmounted(self):
        return subprocess.run(["umount", self.mounted],
                              capture_output=True).returncode == 0


@pytest.fixture
def disk(place):
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("power cuts need root and mkfs.ext4")
    try:
        made = Disk(place)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop mounts here: {error}")
    yield made
    made.unmount()


def test_power_cuts_under_load_lose_nothing(relays, receivers, disk):
    sink = receivers(backlog=1000)
    relay = relays(data_dir=str(disk.mounted / "data"), trusted_networks=["127.0.0.0/8"],
                   log={"level": "warning"},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}],
                   retry={"schedule": ["1s"]})
    relay.data_dir = disk.mounted / "data"
    relay.start()
    submitters = [Submitter(relay, n) for n in range(SUBMITTERS)]
    for submitter in submitters:
        submitter.start()
    cuts = []
    for _ in range(CYCLES):
        time.sleep(random.uniform(0.3, 0.8))
        begin = time.monotonic()
        disk.cut_power()
        relay.kill()
        cuts.append((begin, time.monotonic()))
        disk.unmount()
        disk.mount()
        relay.start()
    for submitter in submitters:
        submitter.stopping = True
    for submitter in submitters:
        submitter.join(20)
    # What is said while the power is going would never have been heard.
    acknowledged = {token for s in submitters for token, at in s.ledger
                    if not any(begin <= at <= end for begin, end in cuts)}
    assert len(acknowledged) > CYCLES * 5, "the load was too thin to prove anything"
    try:
        wait_for(lambda: acknowledged <= set(tokens(sink.messages)), 60,
                 "all acknowledged messages delivered", pause=0.2)
    except AssertionError:
        missing = acknowledged - set(tokens(sink.messages))
        raise AssertionError(f"{len(missing)} of {len(acknowledged)} acknowledged "
                             f"messages are missing; queue: "
                             f"{relay.cli('queue', 'summary')}")
    arrived = tokens(sink.messages)
    record("power cut under load", cycles=CYCLES, acked=len(acknowledged), lost=0,
           duplicates=len(arrived) - len(set(arrived)))
    assert relay.stop() == 0

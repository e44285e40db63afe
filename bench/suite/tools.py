# SPDX-License-Identifier: Apache-2.0
"""The project's own generator and sink, and the build they come from."""
import json
import pathlib
import select
import socket
import subprocess
import time

from .host import Trouble, command, stop_process

ROOT = pathlib.Path(__file__).resolve().parents[2]
STALL_S = 60  # without a message more at the sink


class Sink:
    def __init__(self, build, path, *options):
        self.path = path
        self.process = subprocess.Popen(
            [build / "bench" / "smtp_sink", "--statistics", path, *options],
            stdout=subprocess.PIPE, text=True)
        if not select.select([self.process.stdout], [], [], 10)[0]:
            raise Trouble("smtp_sink does not start")
        line = self.process.stdout.readline()
        if not line:
            raise Trouble("smtp_sink ended at once")
        address = json.loads(line)["listening"]
        self.port = int(address.rpartition(":")[2])

    def counts(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(self.path))
            return json.loads(s.makefile().read())

    def wait_for(self, messages):
        """Until so many have come in all."""
        last, since = -1, time.monotonic()
        while True:
            counts = self.counts()
            if counts["messages"] >= messages:
                return counts
            if counts["messages"] != last:
                last, since = counts["messages"], time.monotonic()
            if time.monotonic() - since > STALL_S:
                raise Trouble(f"only {last} of {messages} messages have come"
                              f" to the sink, and none in {STALL_S} s")
            time.sleep(0.01)

    def stop(self):
        stop_process(self.process)


class Load:
    """A generator at work: `options` as on its command line."""

    def __init__(self, build, port, **options):
        words = []
        for name, value in options.items():
            name = "--" + name.replace("_", "-")
            words += [name] if value is True else [name, str(value)]
        self.process = subprocess.Popen(
            [build / "bench" / "smtp_load", "--to", f"127.0.0.1:{port}", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def is_running(self):
        return self.process.poll() is None

    def wait(self):
        """What it counted; every message must have been acknowledged."""
        out, err = self.process.communicate()
        if self.process.returncode != 0:
            raise Trouble(err.strip())
        return json.loads(out)

    def stop(self):
        """Ends it early; what it counted until then, if it could still say."""
        if self.is_running():
            self.process.terminate()
        out, _ = self.process.communicate()
        return json.loads(out) if out else None


def load(build, port, **options):
    return Load(build, port, **options).wait()


def posthouse_version(build):
    project = json.loads(command("meson", "introspect", "--projectinfo", build))
    described = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"],
        capture_output=True, text=True)
    commit = described.stdout.strip()
    return project["version"] + (f" ({commit})" if commit else "")


def posthouse_binary(build):
    path = build / "posthouse"
    if path.is_file():
        return path
    raise Trouble(f"there is no posthouse under {build}")


def make_tools(build):
    if not (build / "build.ninja").exists():
        command("meson", "setup", build, ROOT, "-Dtests=false")
    # Brings what meson knows about targets up to date, when files changed.
    command("ninja", "-C", build, "build.ninja")
    options = json.loads(command("meson", "introspect", "--buildoptions", build))
    value = {o["name"]: o["value"] for o in options}
    if value["buildtype"] != "release" or value["b_sanitize"] != "none":
        raise Trouble(f"{build} is not a release build: meson configure {build}"
                      " -Dbuildtype=release -Db_sanitize=none")
    command("meson", "compile", "-C", build, "posthouse", "smtp_load",
            "smtp_sink", "make_certificate")

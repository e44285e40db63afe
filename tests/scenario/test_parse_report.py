# SPDX-License-Identifier: Apache-2.0
"""What messages report, by `posthouse parse-report`: real bounces where the
shared fixtures are there."""
import json
import os
import pathlib
import subprocess

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("POSTHOUSE", str(PROJECT / "build" / "posthouse"))
FIXTURES = pathlib.Path(os.environ.get(
    "POSTHOUSE_FIXTURES", PROJECT.parent / "shared" / "fixtures"))
# A directory service's free text; a report that is itself attached to an empty
# message; and a redacted address.
KNOWN_GAPS = {"yale_01.txt", "dsn_15.txt", "simple_42.txt"}

NOTICE = b"""From: MAILER-DAEMON@relay.example
Subject: failure notice

<ann@one.example>:
user unknown
"""


def parse(*files, stdin=b""):
    run = subprocess.run([PROGRAM, "parse-report", *map(str, files)],
                         input=stdin, capture_output=True, timeout=30)
    return run.returncode, [json.loads(line)
                            for line in run.stdout.splitlines()]


def addresses(report):
    return {r["address"].lower() for r in report["recipients"]}


def test_standard_input():
    for files in ([], ["-"]):
        status, reports = parse(*files, stdin=NOTICE)
        assert status == 0
        assert reports[0]["kind"] == "bounce"
        assert addresses(reports[0]) == {"ann@one.example"}
        assert reports[0]["recipients"][0]["class"] == "no_such_user"
        assert reports[0]["recipients"][0]["permanent"] is True


def test_unreadable_file(tmp_path):
    good = tmp_path / "good"
    good.write_bytes(NOTICE)
    status, reports = parse(tmp_path / "none", good)
    assert status == 1
    assert len(reports) == 1


def expectations():
    table = {}
    for line in (FIXTURES / "bounces/expected.tsv").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, kind, found = line.split("\t")
        table.setdefault(name, (kind, set()))[1].update(found.lower().split())
    return table


def test_real_bounces():
    if not (FIXTURES / "bounces").is_dir():
        pytest.skip(f"{FIXTURES} is not there")
    for name, (kind, expected) in expectations().items():
        if name in KNOWN_GAPS:
            continue
        _, reports = parse(FIXTURES / "bounces" / name)
        assert addresses(reports[0]) == expected, name
        assert all(r["permanent"] == (kind == "permanent")
                   for r in reports[0]["recipients"]), name


def test_reports():
    if not (FIXTURES / "reports").is_dir():
        pytest.skip(f"{FIXTURES} is not there")
    for path in sorted((FIXTURES / "reports").iterdir()):
        _, reports = parse(path)
        kind = "feedback" if path.name.startswith("feedback") else "delivery"
        assert reports[0]["kind"] == kind + "_report", path.name

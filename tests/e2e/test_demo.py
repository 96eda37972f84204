"""The demo proves itself: every number agrees though something was killed midway."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.e2e.workers import ROOT

pytestmark = pytest.mark.e2e

EVENTS = 60_000
DEADLINE_S = 300.0


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "demo", "--exit", "--json", "--events", str(EVENTS), *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "victim"),
    [
        (["--embedded"], "worker"),
        ([], "worker"),
        pytest.param(["--kill", "thrift"], "thrift", marks=pytest.mark.long),
        pytest.param(["--kill", "datanode"], "datanode", marks=pytest.mark.long),
    ],
)
def test_every_number_agrees_whatever_is_killed_midway(arguments: list[str], victim: str) -> None:
    done = demo(*arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["agree"] is True
    assert result["sent"] == result["archive_distinct_ids"] == EVENTS
    assert result["live_total"] == result["on_time"] + result["late"]
    assert result["hbase_total"] == (None if "--embedded" in arguments else result["live_total"])
    assert min(result[kind] for kind in ("on_time", "late", "expired", "malformed")) > 0
    assert (result["victim"], type(result["killed"])) == (victim, int)
    if victim != "worker":
        assert result["outage"]["counted_meanwhile"] > EVENTS / 10
        assert result["outage"]["down_s"] > 1


def test_a_server_that_is_not_there_can_not_be_killed() -> None:
    done = demo("--embedded", "--kill", "thrift")
    assert done.returncode == 2
    assert "--kill: there is no thrift with --embedded" in done.stderr

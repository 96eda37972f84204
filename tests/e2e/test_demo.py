"""The demo proves itself: every number agrees though a worker was killed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.e2e.workers import ROOT

pytestmark = pytest.mark.e2e

EVENTS = 60_000
DEADLINE_S = 240.0


def test_every_number_agrees_with_a_worker_killed_midway() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "demo", "--exit", "--json", "--embedded", "--events", str(EVENTS)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["agree"] is True
    assert result["sent"] == result["archive_distinct_ids"] == EVENTS
    assert result["live_total"] == result["on_time"] + result["late"]
    assert result["hbase_total"] is None
    assert min(result[kind] for kind in ("on_time", "late", "expired", "malformed")) > 0
    assert isinstance(result["killed"], int)

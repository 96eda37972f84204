"""Commits that hang while records come faster than they can be committed: what waits stays bounded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.load import send
from tests.e2e.workers import Worker
from tests.kafka import run_apart, unique
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PARTITIONS = 4  # of what `send` makes
EVENTS = 600_000
CHUNK = 4_000
CELLS = 20_000
BATCH = (1 << 20) // 100  # events of one fetch: the one that begins a pause is folded whole

CONFIG = """
[app]
id = "{app}"
data_dir = "{folder}/data"
[kafka]
bootstrap_servers = "{bootstrap}"
replication = 1
min_insync_replicas = 1
[[topics]]
name = "{topic}"
event_time = {{ field = "ts", format = "epoch_ms" }}
[[tables]]
name = "views"
topic = "{topic}"
key = ["page"]
[state]
cache_cells = {cells}
"""


def chunks() -> list[tuple[int, list[bytes]]]:
    """Every event has a key of its own, so that each is a cell that waits."""
    now_ms = int(time.time() * 1000)
    values = [b'{"page":"/a/%07d","ts":%d,"user":"%064d"}' % (n, now_ms, n) for n in range(EVENTS)]
    return [(n % PARTITIONS, values[at : at + CHUNK]) for n, at in enumerate(range(0, EVENTS, CHUNK))]


def test_what_waits_for_commits_that_hang_is_bounded_and_all_is_counted(
    kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, config, most = unique("clicks"), tmp_path / "recount.toml", tmp_path / "most"
    run_apart(send(kafka_bootstrap, topic, chunks()))
    config.write_text(
        CONFIG.format(app=unique("app"), folder=tmp_path, bootstrap=kafka_bootstrap, topic=topic, cells=CELLS)
    )
    monkeypatch.setenv("FAULT", "hanging")
    monkeypatch.setenv("MOST", str(most))
    worker = Worker("w1", config, tmp_path, "tests.e2e.faulty_app")
    try:
        worker.start()
        wait_for("a pause", lambda: worker.entries("commits lag"), 120)

        def counted() -> bool:
            assert worker.running, worker.log()[-3000:]
            tallies = worker.get("/api/v1/tallies")["tables"][0]["tallies"]
            return bool(tallies.get("on_time") == EVENTS)

        wait_for("all to be counted", counted, 300)
        worker.terminate()
    finally:
        worker.close()
    share = CELLS // 2 // PARTITIONS
    assert int(most.read_text()) <= share + BATCH

"""Without faults, and through clean stops."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import MakeScene
from tests.e2e.scene import TABLES, without_tables
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e


def test_one_worker_counts_and_archives_every_record(make_scene: MakeScene) -> None:
    scene = make_scene()
    (worker,) = scene.start("w1")
    with scene.load(seed=1) as driver:
        driver.wait_sent(25_000)
    expected = scene.verifier.check_live(worker)
    assert expected.records == driver.total
    wanted = {"on_time", "late", "expired", "unkeyed", "malformed"}
    assert set(expected.tallies("page_views")) == wanted
    assert set(expected.tallies("visits")) == wanted | {"duplicate", "filtered"}
    assert min(min(expected.tallies(table).values()) for table in TABLES) > 10, "classes that hardly occur prove little"
    assert expected.dropped > 10, "hardly a window has left the state"
    assert expected.finals > 100, "hardly a window was closed"
    scene.stop()
    scene.verifier.check_stopped(expected, repeats=False)


def counted(worker: Worker) -> int:
    """Records counted and committed."""
    return sum(one["next_offset"] for one in worker.get("/api/v1/partitions")["partitions"])


def test_sigterm_under_load_ends_in_time_and_the_next_start_reads_a_tail(make_scene: MakeScene) -> None:
    scene = make_scene()
    (worker,) = scene.start("w1")
    with scene.load(seed=3) as driver:
        for _ in range(2):
            driver.wait_sent(driver.total + 8_000)  # however long the restart took
            wait_for("the worker to keep up", lambda: counted(worker) > driver.total / 2, 60)
            sent = sum(driver.attempted.values())
            worker.terminate()
            before = scene.verifier.committed()
            assert sum(scene.verifier.ends().values()) > sum(state for state, _ in before.values()) > sent / 3
            assert all(archive == state for state, archive in before.values()), "the archive is as far as the state"
            worker.start()
            worker.wait_ready()
            restored = worker.entries("restored")
            assert len(restored) == scene.partitions
            assert all((entry["rows"], entry["cold"]) == (1, False) for entry in restored), restored
        driver.wait_sent(driver.total + 6_000)
    expected = scene.verifier.check_live(worker)
    scene.stop()
    # Nothing was folded, so nothing archived, twice.
    scene.verifier.check_stopped(expected, repeats=False)


def test_fetches_thrown_away_are_read_again_also_the_last_one(make_scene: MakeScene) -> None:
    scene = make_scene()
    worker = scene.worker("w1", "tests.e2e.lossy_app")
    worker.start()
    worker.wait_ready()
    with scene.load(seed=5) as driver:
        driver.wait_sent(12_000)
    expected = scene.verifier.check_live(worker)
    assert worker.metric("recount_holes_total") > 10, "too few fetches were lost to prove anything"
    scene.stop()
    scene.verifier.check_stopped(expected, repeats=False)


def test_a_topic_that_no_table_counts_is_archived_all_the_same(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    without_tables(scene)
    (worker,) = scene.start("w1")
    with scene.load(seed=7, rate=1000) as driver:
        driver.wait_sent(3_000)
        worker.kill()
        worker.start()
        worker.wait_ready()
        driver.wait_sent(driver.total + 2_000)
    expected = scene.verifier.check_live(worker)
    scene.stop()
    scene.verifier.check_stopped(expected)

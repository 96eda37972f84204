"""HBase beside the counting: exact after kills and outages, and never in the way."""

from __future__ import annotations

import time

import pytest

from lab import Lab
from tests import kafka
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import Driver
from tests.e2e.scene import Scene
from tests.e2e.test_kill import churn
from tests.e2e.test_refusals import worker as start_refused
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

OUTAGE_S = 60.0


def check(scene: Scene, worker: Worker) -> None:
    """Once the driver has stopped: everything, HBase included."""
    expected = scene.verifier.check_live(worker)
    scene.verifier.wait_in_hbase(worker)
    scene.verifier.check_hbase(expected)
    scene.verifier.check_past(expected, worker)


def progress(worker: Worker) -> tuple[int, int]:
    """Over all partitions: counted and committed, and in HBase."""
    found = worker.get("/api/v1/partitions")["partitions"]
    return sum(one["next_offset"] for one in found), sum(one["hbase_next_offset"] or 0 for one in found)


@pytest.mark.long
def test_killed_workers_leave_hbase_exact(make_scene: MakeScene) -> None:
    scene = make_scene(hbase=True)
    first, _ = churn(scene, seed=61, kills=2)
    check(scene, first)
    scene.stop()
    # A restart finds HBase as it left it.
    first.start()
    first.wait_ready()
    check(scene, first)
    assert first.metric("recount_hbase_rescans_total") == 0
    scene.stop()


@pytest.mark.parametrize("backlog", [pytest.param(1_000_000, marks=pytest.mark.long), 500])
def test_counting_goes_on_for_a_minute_without_thrift_and_hbase_catches_up(
    make_scene: MakeScene, lab: Lab, backlog: int
) -> None:
    scene = make_scene(hbase=True, backlog=backlog)
    thrift = lab.hbase().thrift
    outage_s = OUTAGE_S if backlog > 500 else 10.0
    (worker,) = scene.start("w1")
    with scene.load(seed=62, rate=1500) as driver:
        wait_for("counts in HBase", lambda: progress(worker)[1], 60)
        thrift.kill()
        try:
            began, standing = time.monotonic(), progress(worker)
            # A connection may have put its last batch just before.
            counted = driver.total + 10_000
            wait_for("counting to go on", lambda: progress(worker)[0] > counted, 60)
            wait_for("the outage to pass", lambda: time.monotonic() > began + outage_s, outage_s + 10)
            counted_now, in_hbase = progress(worker)
            lag = counted_now - in_hbase
            assert counted_now > standing[0] + 500 * outage_s, "it went on all the time"
            assert lag > 8_000
            assert sum(one["hbase_lag"] for one in worker.get("/api/v1/partitions")["partitions"]) >= lag
            assert worker.metric("recount_hbase_lag_offsets") >= lag
            assert worker.metric("recount_hbase_errors_total") > 2
            assert worker.metric("recount_paused") == 0
            if backlog == 500:
                assert worker.metric("recount_hbase_backlog_cells") <= 500
        finally:
            thrift.start()
    check(scene, worker)
    rescans = worker.metric("recount_hbase_rescans_total")
    assert (rescans > 12) == (backlog == 500), f"{rescans} rescans, 12 of them at the start"
    scene.stop()


def test_a_hanging_thrift_holds_nobody_up(make_scene: MakeScene, lab: Lab) -> None:
    scene = make_scene(hbase=True)
    thrift = lab.hbase().thrift
    (worker,) = scene.start("w1")
    with scene.load(seed=63, rate=2000) as driver:
        wait_for("counts in HBase", lambda: progress(worker)[1], 60)
        thrift.pause()
        try:
            counted = driver.total + 8_000
            wait_for("counting to go on", lambda: progress(worker)[0] > counted, 60)
            worker.terminate()
        finally:
            thrift.resume()
        worker.start()
        worker.wait_ready()
    check(scene, worker)
    scene.stop()


def test_tables_dropped_under_load_are_filled_again(make_scene: MakeScene, hbase_thrift: str) -> None:
    scene = make_scene(hbase=True)
    (worker,) = scene.start("w1")
    host, _, port = hbase_thrift.rpartition(":")
    import happybase

    stranger = happybase.Connection(host, int(port))
    with scene.load(seed=64, rate=1000) as driver:
        driver.wait_sent(5_000)
        wait_for("counts in HBase", lambda: progress(worker)[1] > 2_000, 60)
        for name in (f"recount_{scene.tables[0]}", f"recount_{scene.tables[0]}_windows"):
            stranger.delete_table(name, disable=True)
        driver.wait_sent(driver.total + 5_000)
    expected = scene.verifier.check_live(worker)
    scene.verifier.wait_in_hbase(worker)
    scene.verifier.check_hbase(expected, refilled=True)
    assert worker.entries("the sink's tables have a new id: writing all counts of the state again")
    scene.stop()


def test_counts_of_another_app_are_not_written_over(make_scene: MakeScene) -> None:
    scene = make_scene(hbase=True, partitions=1)
    (worker,) = scene.start("w1")
    with scene.load(seed=65, rate=1000) as driver:
        driver.wait_sent(4_000)
    check(scene, worker)
    scene.stop()
    scene.config.write_text(scene.config.read_text().replace(f'id = "{scene.app}"', 'id = "another"'))
    code, said = start_refused(scene.config)
    assert code == 4
    assert f"it holds other counts (app {scene.app}, " in said
    assert "Give the table another name" in said


def test_without_hbase_only_a_partition_that_nobody_has_counted_waits(make_scene: MakeScene, lab: Lab) -> None:
    scene = make_scene(hbase=True, partitions=1)
    thrift = lab.hbase().thrift
    (worker,) = scene.start("w1")
    with scene.load(seed=67, rate=1000) as driver:
        driver.wait_sent(4_000)
    check(scene, worker)
    scene.stop()
    kafka.run_apart(kafka.grow_topic(scene.bootstrap, scene.topic, 2))
    thrift.kill()
    try:
        worker.start()
        with Driver(scene.bootstrap, scene.topic, partitions=2, seed=68) as more:
            more.wait_sent(2_000)
        end = scene.verifier.ends()[0]

        def partitions() -> dict[int, int]:
            """How far each is counted that somebody counts."""
            answer = worker.get("/api/v1/partitions")
            return {one["partition"]: one["next_offset"] for one in answer["partitions"] if one["state"] == "running"}

        wait_for("the one to be counted", lambda: partitions() == {0: end}, 60)
        (said, *_) = wait_for("a word of the other", lambda: worker.entries("partition not taken over yet"))
        assert said["partition"] == f"{scene.topic}-1"
        assert "HBase can't be asked" in said["reason"]
    finally:
        thrift.start()
    worker.wait_ready()
    check(scene, worker)
    scene.stop()

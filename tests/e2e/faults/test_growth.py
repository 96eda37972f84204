"""Partitions added to a source topic while its workers run."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from tests import kafka
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import BACK_MS
from tests.e2e.faults.sharing import wait_shared
from tests.e2e.input import Input
from tests.e2e.scene import Scene
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

NOTICED_S = 90.0  # the client looks every 30 s


def grow(scene: Scene, records: Input, partitions: int) -> None:
    """The topic has that many partitions, and input comes to all of them at once."""
    kafka.run_apart(kafka.grow_topic(scene.bootstrap, scene.topic, partitions))
    scene.partitions = records.partitions = partitions


def check(scene: Scene, workers: Sequence[Worker]) -> None:
    """Everything there is, once the driver has stopped; ends the workers."""
    expected = scene.verifier.check_live(workers[0])
    assert expected.log.keys() == set(range(scene.partitions))
    assert all(len(log) > 100 for log in expected.log.values())
    for other in workers[1:]:
        scene.verifier.check_api(expected, other)
    scene.stop()
    scene.verifier.check_stopped(expected)


def test_partitions_added_under_load_are_counted_once_another_worker_joins(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    records = Input(41, 2, int(time.time() * 1000) - BACK_MS)
    workers = scene.start("w1")
    with scene.load(records=records, rate=1000) as driver:
        driver.wait_sent(1_000)
        grow(scene, records, 4)
        workers += scene.start("w2")
        wait_shared(workers, 4)
        driver.wait_sent(driver.total + 1_000)
        assert all(len(one.entries("worker up")) == 1 for one in workers), "no restart"
    check(scene, workers)


@pytest.mark.long
def test_partitions_added_under_load_again_and_again_are_noticed_by_themselves(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    records = Input(42, 2, int(time.time() * 1000) - BACK_MS)
    workers = scene.start("w1", "w2")
    with scene.load(records=records, rate=1000) as driver:
        for partitions in (3, 6):
            driver.wait_sent(driver.total + 1_000)
            grow(scene, records, partitions)
            sent = driver.total
            wait_shared(workers, partitions, NOTICED_S)
            assert driver.total > sent, "nothing was sent while the topic grew"
            assert all(len(one.entries("worker up")) == 1 for one in workers), "no restart"
        workers[0].kill()
        driver.wait_sent(driver.total + 500)
        workers[0].start()
        wait_shared(workers, 6)
        # Killed while it takes new partitions over, with their changelog not grown or just grown.
        driver.wait_sent(driver.total + 1_000)
        grow(scene, records, 8)
        wait_for("somebody to notice", lambda: any(one.entries("topic has grown") for one in workers), NOTICED_S)
        victim = next(one for one in workers if one.entries("topic has grown"))
        victim.kill()
        victim.start()
        wait_shared(workers, 8)
        driver.wait_sent(driver.total + 1_000)
    check(scene, workers)

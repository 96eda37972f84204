"""A restore that lasts holds up its own partition alone, and the worker stays in the group."""

from __future__ import annotations

import time
import urllib.error

import pytest

from tests.e2e.conftest import MakeScene
from tests.e2e.scene import Scene
from tests.e2e.test_kill import owned
from tests.e2e.test_membership import counting, wait_owned
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SESSION_S = 4.0
HELD = 0
MODULE = "tests.e2e.slow_app"


def held_worker(scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """One whose restore of partition 0 ends when the scene's file `held` is gone."""
    held = scene.folder / "held"
    held.touch()
    monkeypatch.setenv("HELD", str(held))
    worker = scene.worker(name, MODULE)
    worker.start()
    return worker


def unready(worker: Worker) -> str:
    """Why it says that it isn't ready; empty when it is."""
    try:
        worker.get("/readyz")
    except urllib.error.HTTPError as err:
        return str(err.read().decode())
    return ""


def wait_counts_on(worker: Worker, partitions: set[int]) -> None:
    before = owned(worker)
    assert before.keys() == partitions

    def further() -> bool:
        now = owned(worker)
        return now.keys() == partitions and all(now[one] > before[one] for one in partitions)

    wait_for(f"{worker.name} to commit more of {partitions}", further, 60)


def test_a_restore_longer_than_the_session_keeps_no_other_partition_waiting(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(partitions=3)
    (first,) = scene.start("w1")
    with scene.load(seed=41, rate=1000) as driver:
        driver.wait_sent(4_000)
        first.kill()
        worker = held_worker(scene, "w2", monkeypatch)
        others = {one for one in range(scene.partitions) if one != HELD}
        wait_for("the others to be counted", lambda: owned(worker).keys() == others, 60)
        began = time.monotonic()
        while time.monotonic() - began < 3 * SESSION_S:
            wait_counts_on(worker, others)
        assert "restoring" in unready(worker)
        assert f"{scene.topic}-{HELD}" in unready(worker)
        assert worker.entries("held back")
        assert len(counting(worker)) == len(others), "none was given up and taken over again"
        (scene.folder / "held").unlink()
        wait_owned(worker, scene.partitions)
        wait_for("it to be ready", lambda: not unready(worker))
    expected = scene.verifier.check_live(worker)
    scene.stop()
    scene.verifier.check_stopped(expected)


def test_a_rebalance_lets_go_of_a_restore_under_way(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene()
    with scene.load(seed=42, rate=1000) as driver:
        worker = held_worker(scene, "w1", monkeypatch)
        wait_for("it to hold a restore back", lambda: worker.entries("held back"), 60)
        driver.wait_sent(2_000)
        (other,) = scene.start("w2")  # what is held may become the other's, or stay
        wait_owned(other, 2)
        driver.wait_sent(driver.total + 2_000)
        (scene.folder / "held").unlink()
        wait_owned(worker, 2)
    expected = scene.verifier.check_live(other)
    scene.verifier.check_api(expected, worker)
    scene.stop()
    scene.verifier.check_stopped(expected)

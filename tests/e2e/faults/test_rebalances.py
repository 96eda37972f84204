"""Whoever owns a partition, and whoever thinks so, it is counted once."""

from __future__ import annotations

import signal

import pytest

from domain.probe import Point
from tests.e2e.conftest import MakeScene
from tests.e2e.faults.sharing import wait_shared
from tests.e2e.faults.stage import MODULE, REACH_S
from tests.e2e.faults.test_pauses import stopped
from tests.e2e.faults.trap import Marker, Trap
from tests.e2e.scene import Scene
from tests.e2e.test_kill import owned
from tests.e2e.test_membership import failures
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

RATE = 1000
FORGETFUL = "tests.e2e.faults.forgetful_worker"


def sprung(worker: Worker, trap: Trap) -> Marker:
    def marker() -> Marker | None:
        found = trap.sprung()
        assert found or worker.running, f"it ended before {trap.point}:\n{worker.log()[-3000:]}"
        return found

    return wait_for(f"{worker.name} to come to {trap.point}", marker, REACH_S)


def check(scene: Scene, workers: list[Worker], *, told: bool = True) -> None:
    """Everything there is, once the driver has stopped, asked from each; ends the workers. `told`: so are lag tools."""
    expected = scene.verifier.check_live(workers[0])
    for other in workers[1:]:
        scene.verifier.check_api(expected, other)
    scene.stop()
    scene.verifier.check_archive(expected)
    if told:
        scene.verifier.check_group_offsets()


@pytest.mark.parametrize("hears", ["of the group at once", "late"])
def test_a_sleeper_that_initialises_after_its_session_takes_nothing_from_the_new_owner(
    make_scene: MakeScene, hears: str
) -> None:
    scene = make_scene(partitions=2)
    sleeper = scene.worker("w1", FORGETFUL if hears == "late" else MODULE)
    trap = Trap(Point.PARTITION_ASSIGNED, str(scene.folder / "sleeper.marker"), nth=3, signal=signal.SIGSTOP)
    sleeper.start(trap.argument())
    sleeper.wait_ready()
    with scene.load(seed=55, rate=RATE) as driver:
        wait_for("the first records to be committed", lambda: sum(owned(sleeper).values()) > RATE, REACH_S)
        other = scene.worker("w2")
        other.start()
        sprung(sleeper, trap)
        wait_for("the sleeper to be stopped", lambda: stopped(sleeper))
        shares = wait_shared([other], 2)
        before, sent = shares[0], driver.total
        wait_for("the other to commit", lambda: all(owned(other).get(p, 0) > at for p, at in before.items()), REACH_S)
        assert failures(other) == 0
        assert stopped(sleeper)
        sleeper.watched = False  # until it hears from the group it may show what it knew before
        sleeper.signal(signal.SIGCONT)
        if hears == "late":
            wait_for("the sleeper's own commit to be fenced", lambda: failures(sleeper), REACH_S)
            assert failures(other) == 1, "the sleeper fenced the one partition it was given, once"
        wait_shared([sleeper, other], 2)
        sleeper.watched = True
        fences = (failures(sleeper), failures(other))
        assert max(fences) <= 1, fences
        driver.wait_sent(driver.total + 3 * RATE)  # some checkpoints
        assert (failures(sleeper), failures(other)) == fences, "they go on fencing each other"
        assert driver.total > sent
        if hears != "late":
            lost = other.entries("no last checkpoint: the next owner folds it again")
            assert fences[1] or lost, "the sleeper did not fence anybody"
    check(scene, [other, sleeper], told=hears != "late")

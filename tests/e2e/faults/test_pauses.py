"""A worker stopped at a named point for longer than its session, another takes over; then the first one goes on."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.cli_errors import ExitCode
from domain.probe import Point
from tests.e2e.conftest import MakeScene
from tests.e2e.faults.stage import MODULE, Stage, Step
from tests.e2e.faults.test_crash_points import RATE, check
from tests.e2e.test_kill import owned
from tests.e2e.workers import GRACE_S, Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

REJOIN_S = 90.0
TELLING = (Point.ROWS_ACKED, Point.LINES_WRITTEN, Point.COUNTS_TAKEN)
ENDS = {Point.LAST_CHECKPOINT_DONE: ExitCode.OK}  # stopped on its way out


def stopped(worker: Worker) -> bool:
    """Whether the kernel holds every thread of it."""
    tasks = Path(f"/proc/{worker.pid}/task").iterdir()
    return all(task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def sleep_through_a_takeover(stage: Stage, point: Point) -> None:
    """The victim stops at the point, alone; it wakes when another worker has counted on for a while."""
    victim = stage.victim
    stage.reach(Step(point), signal.SIGSTOP)
    wait_for(f"{victim.name} to be stopped", lambda: stopped(victim))
    if stage.other is None or not stage.other.running:
        stage.start_other()
    stage.wait_taken_over()
    assert stopped(victim)
    # Until it hears from the group it may show what it knew before.
    victim.watched = False
    victim.signal(signal.SIGCONT)
    if point in ENDS:
        assert victim.wait(GRACE_S) == ENDS[point], victim.log()[-3000:]
        victim.start()
    wait_shared(stage)
    victim.watched = True


def wait_shared(stage: Stage) -> None:
    """Until both workers count, each what the other doesn't, and agree on that."""
    victim, other = stage.victim, stage.other
    assert other is not None
    everything = set(range(stage.scene.partitions))

    def shared() -> bool:
        assert victim.running, f"{victim.name} ended:\n{victim.log()[-3000:]}"
        one, two = owned(victim).keys(), owned(other).keys()
        return bool(one) and bool(two) and one | two == everything and not one & two

    wait_for("the two workers to share the partitions", shared, REJOIN_S)


def play(make_scene: MakeScene, points: Sequence[Point]) -> None:
    scene = make_scene("hdfs", 2, hbase=True)
    with scene.load(seed=len(points), rate=RATE) as driver:
        stage = Stage(scene, driver, scene.worker("victim", MODULE))
        for point in points:
            scene.stop()
            sleep_through_a_takeover(stage, point)
    assert stage.other is not None
    check(scene, stage.other, hbase=True)


def test_a_worker_that_wakes_after_its_partitions_moved_changes_nothing(make_scene: MakeScene) -> None:
    play(make_scene, TELLING)


@pytest.mark.long
@pytest.mark.parametrize("point", Point)
def test_a_worker_paused_at_any_named_point_changes_nothing_when_it_wakes(make_scene: MakeScene, point: Point) -> None:
    play(make_scene, [point])

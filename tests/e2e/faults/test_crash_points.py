"""kill -9 at every named point, under load; every store is checked against the oracle afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from domain.probe import Point
from tests.e2e.conftest import MakeScene
from tests.e2e.faults.stage import MODULE, WAYS, Stage, Step
from tests.e2e.scene import Scene
from tests.e2e.workers import Worker

pytestmark = pytest.mark.e2e

RATE = 1000


@dataclass(frozen=True)
class Play:
    """Deaths in a row, in one scene that is checked at its end."""

    steps: Sequence[Step]
    archive: str = "file"
    hbase: bool = False
    beside: bool = False  # another worker is there from the start


PLAYS = {
    "a batch and its checkpoint": Play(
        [
            Step(Point.BATCH_FETCHED),
            Step(Point.TABLE_FOLDED),
            Step(Point.CHECKPOINT_CUT),
            Step(Point.ROWS_SENT),
            Step(Point.ROWS_ACKED),
            Step(Point.COMMIT_BEGUN),
            Step(Point.COMMIT_BEGUN, nth=8, moment_s=0.01),
            Step(Point.ROWS_COMMITTED),
            Step(Point.ROWS_APPLIED),
        ]
    ),
    "a partition taken over and given up": Play(
        [
            Step(Point.ROWS_ACKED, nth=4, taken_over=True),
            Step(Point.PARTITION_ASSIGNED),
            Step(Point.WRITER_FENCED),
            Step(Point.ROWS_PARTLY_RESTORED),
            Step(Point.PARTITION_RESTORED),
            Step(Point.ROWS_COMMITTED, nth=3, taken_over=True),
            Step(Point.LOGS_CLOSED),
            Step(Point.LAST_CHECKPOINT_DONE),
        ],
        beside=True,
    ),
    "the archive on HDFS": Play(
        [
            Step(Point.LINES_WRITTEN),
            Step(Point.LINES_SYNCED),
            Step(Point.LEDGER_SYNCED),
            Step(Point.PART_CLOSED),
            Step(Point.PART_PUBLISHED),
            Step(Point.ORPHANS_CLAIMED),
            Step(Point.LEASES_TAKEN),
            Step(Point.WHOLE_LINES_COPIED),
            Step(Point.COPY_PUBLISHED),
        ],
        archive="hdfs",
    ),
    "HBase": Play(
        [
            Step(Point.EVENTS_PARTLY_PUT),
            Step(Point.COUNTS_TAKEN),
            Step(Point.CELLS_PUT),
            Step(Point.CERTIFICATES_PUT),
            Step(Point.FRONTIER_PUT),
            Step(Point.CELLS_PUT, nth=1),  # in the rescan after a death
        ],
        hbase=True,
    ),
}


def check(scene: Scene, worker: Worker, *, hbase: bool) -> None:
    """Everything there is, once the driver has stopped; ends the workers."""
    expected = scene.verifier.check_live(worker)
    if hbase:
        scene.verifier.wait_in_hbase(worker)
        scene.verifier.check_hbase(expected)
    scene.stop()
    scene.verifier.check_stopped(expected)


@pytest.mark.parametrize("name", PLAYS)
def test_a_worker_killed_at_named_points_counts_every_record_once(make_scene: MakeScene, name: str) -> None:
    play = PLAYS[name]
    scene = make_scene(play.archive, 2, hbase=play.hbase)
    victim = scene.worker("victim", MODULE)
    with scene.load(seed=len(name), rate=RATE) as driver:
        stage = Stage(scene, driver, victim)
        if play.beside:
            stage.start_other()
        for step in play.steps:
            stage.die(step)
        victim.start()
        victim.wait_ready()
    check(scene, victim, hbase=play.hbase)


@pytest.mark.parametrize("point", Point)
def test_every_named_point_is_one_that_a_worker_is_killed_at(point: Point) -> None:
    assert point in WAYS
    assert any(point is step.point for play in PLAYS.values() for step in play.steps)

"""How each named point is reached, and what a worker stopped there leaves to see."""

from __future__ import annotations

import signal
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from domain.probe import Point
from sinks.archive.fs import FileSystem, length, open_file_system
from sinks.archive.reader import list_open
from tests.e2e.driver import Driver
from tests.e2e.faults.trap import Marker, Trap
from tests.e2e.scene import Scene
from tests.e2e.test_kill import owned
from tests.e2e.workers import GRACE_S, Worker
from tests.waiting import wait_for

MODULE = "tests.e2e.faults.probed_worker"
REACH_S = 60.0
BACKLOG = 15_000  # more than a chunk of each partition's records


@dataclass
class Stage:
    """One victim, started again for every point, under load; maybe another worker beside it."""

    scene: Scene
    driver: Driver
    victim: Worker
    other: Worker | None = None
    markers: list[Marker] = field(default_factory=list)

    def reach(self, step: Step, number: signal.Signals) -> Trap:
        """Start the victim with a trap, and bring it there; returns when the trap is sprung."""
        way = WAYS[step.point]
        way.before(self)
        trap = Trap(
            step.point,
            str(self.scene.folder / f"{step.point}-{len(self.markers)}.marker"),
            step.nth or way.nth,
            number,
            way.checkpoints,
            way.moment_s if step.moment_s is None else step.moment_s,
        )
        self.victim.start(trap.argument())

        def counts() -> bool:
            return trap.sprung() is not None or bool(owned(self.victim))

        if way.push is not None:
            wait_for(f"{self.victim.name} to count", counts, REACH_S)
            way.push(self)

        def sprung() -> Marker | None:
            marker = trap.sprung()
            assert marker or self.victim.running, f"it ended before {step.point}:\n{self.victim.log()[-3000:]}"
            return marker

        marker = wait_for(f"{self.victim.name} to come to {step.point}", sprung, REACH_S)
        self.markers.append(marker)
        assert (marker.point, marker.nth) == (step.point, trap.nth)
        assert marker.held_checkpoints >= way.checkpoints, f"{step.point}: {marker}"
        if step.point in IN_HAND:
            assert marker.uncommitted, f"{step.point}: nothing was at stake: {marker}"
        return trap

    def die(self, step: Step) -> None:
        """SIGKILL of the victim at a point, while input goes on."""
        self.reach(step, signal.SIGKILL)
        code = self.victim.wait(GRACE_S)
        assert code == -signal.SIGKILL, f"it exited {code} at {step.point}:\n{self.victim.log()[-3000:]}"
        sent = self.driver.total
        wait_for(f"more input after the death at {step.point}", lambda: self.driver.total > sent)
        if step.taken_over:
            self.wait_taken_over()

    def wait_taken_over(self) -> None:
        """Until the other worker counts all partitions, further than they were."""
        other = self.other
        assert other is not None
        before = {partition: state for partition, (state, _) in self.scene.verifier.committed().items()}

        def taken_over() -> bool:
            found = owned(other)
            return found.keys() == before.keys() and all(found[one] > before[one] for one in before)

        wait_for(f"{other.name} to take over", taken_over, REACH_S)

    def start_other(self) -> None:
        """Another worker joins, so the victim gives up what it has; one that is there already leaves first."""
        if self.other is None:
            self.other = self.scene.worker("other", MODULE)
        elif self.other.running:
            self.other.terminate()
        self.other.start()


@dataclass(frozen=True)
class Step:
    point: Point
    nth: int = 0  # 0: as usual
    moment_s: float | None = None
    taken_over: bool = False  # the victim stays dead until the other worker has its partitions


def _nothing(stage: Stage) -> None:
    """Reached by counting alone."""


def _leave_state(stage: Stage) -> None:
    """A death that leaves committed rows to restore, unless an earlier one has."""
    if not stage.markers:
        stage.die(Step(Point.ROWS_APPLIED))


def open_files(scene: Scene) -> tuple[FileSystem, list[str]]:
    config = tomllib.loads(scene.config.read_text())
    fs, root = open_file_system(config["sinks"]["archive"]["url"])
    return fs, [status.path for _, status in list_open(fs, root, scene.topic)]


def _leave_files_open(stage: Stage) -> None:
    """A death that leaves some, unless an earlier one has."""
    if not open_files(stage.scene)[1]:
        stage.die(Step(Point.LEDGER_SYNCED))


def _leave_torn_files(stage: Stage) -> None:
    _leave_files_open(stage)
    assert tear(stage.scene, *open_files(stage.scene)), "no file with lines was left open"


def tear(scene: Scene, fs: FileSystem, paths: Sequence[str]) -> int:
    """End up to two files of the dead in half a line, as after a write that was cut off; returns how many."""
    torn = 0
    for path in paths:
        wait_for(f"the lease of {path}", partial(fs.recover_lease, path))
        if not length(fs, path):
            continue
        handle = fs.append(path)
        handle.write(b"%s-0-99999999\t179" % scene.topic.encode())
        handle.sync()
        handle.close()
        torn += 1
        if torn == 2:
            break
    return torn


def _pile_up(stage: Stage) -> None:
    """Records enough for several chunks, before anybody reads them."""
    wanted = stage.driver.total + BACKLOG
    wait_for(f"{wanted} records sent", lambda: stage.driver.total >= wanted, REACH_S)


def _stop(stage: Stage) -> None:
    stage.victim.signal(signal.SIGTERM)


@dataclass(frozen=True)
class Way:
    """How a point is reached."""

    nth: int = 1
    checkpoints: int = 0
    moment_s: float = 0.0
    before: Callable[[Stage], None] = _nothing
    push: Callable[[Stage], None] | None = None


# Sinks are held until checkpoints have committed whatever progress they reported: more than one a partition.
HOLD = 5
TABLES = 3
WAYS = {
    Point.BATCH_FETCHED: Way(nth=20),
    Point.TABLE_FOLDED: Way(nth=20 * TABLES + 1),
    Point.CHECKPOINT_CUT: Way(nth=6),
    Point.ROWS_SENT: Way(nth=7),
    Point.ROWS_ACKED: Way(nth=8),
    Point.COMMIT_BEGUN: Way(nth=7, moment_s=0.002),
    Point.ROWS_COMMITTED: Way(nth=6),
    Point.ROWS_APPLIED: Way(nth=6),
    Point.LINES_WRITTEN: Way(nth=3, checkpoints=HOLD),
    Point.LINES_SYNCED: Way(nth=3, checkpoints=HOLD),
    Point.LEDGER_SYNCED: Way(nth=3, checkpoints=HOLD),
    Point.PART_CLOSED: Way(nth=2),
    Point.PART_PUBLISHED: Way(nth=2),
    Point.ORPHANS_CLAIMED: Way(before=_leave_files_open),
    Point.LEASES_TAKEN: Way(before=_leave_files_open),
    Point.WHOLE_LINES_COPIED: Way(before=_leave_torn_files),
    Point.COPY_PUBLISHED: Way(before=_leave_torn_files),
    Point.EVENTS_PARTLY_PUT: Way(checkpoints=HOLD, before=_pile_up),
    Point.COUNTS_TAKEN: Way(nth=10, checkpoints=HOLD),
    Point.CELLS_PUT: Way(nth=10, checkpoints=HOLD),
    Point.CERTIFICATES_PUT: Way(nth=10, checkpoints=HOLD),
    Point.FRONTIER_PUT: Way(nth=10, checkpoints=HOLD),
    Point.PARTITION_ASSIGNED: Way(),
    Point.WRITER_FENCED: Way(),
    Point.ROWS_PARTLY_RESTORED: Way(before=_leave_state),
    Point.PARTITION_RESTORED: Way(before=_leave_state),
    Point.LOGS_CLOSED: Way(push=Stage.start_other),
    Point.LAST_CHECKPOINT_DONE: Way(push=_stop),
}
# Where batches were folded, and no commit speaks of them.
IN_HAND = frozenset(
    {
        Point.BATCH_FETCHED,
        Point.TABLE_FOLDED,
        Point.CHECKPOINT_CUT,
        Point.ROWS_SENT,
        Point.ROWS_ACKED,
        Point.COMMIT_BEGUN,
    }
)

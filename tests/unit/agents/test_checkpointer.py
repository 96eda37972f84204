"""Checkpoints: the order of a commit, what ends them, and that none takes more or less than is its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
from aiokafka.errors import KafkaError, ProducerFenced

from agents import checkpointer as module
from agents.checkpointer import Checkpointer, Committed
from agents.intake import StuckError
from agents.partition import Partition, TableFold, first_progress
from agents.room import Room
from domain.errors import FencedError, TaintedError
from domain.fold import Ahead
from domain.probe import Point
from domain.record import Batch
from domain.rows import Role, Row, progress_key
from tables.changelog import NO_FINALS
from tables.rocksdb import Position, RocksSettings
from tests.unit.agents.clock import pass_time, until
from tests.unit.agents.fakes import (
    STATE_ID,
    TOPIC,
    UNIQUE,
    VIEWS,
    FakeLog,
    FakeWriter,
    FaultyStore,
    batch,
    counted,
    rows_of,
)

NEVER_S = 1e9


class LoggedStore(FaultyStore):
    """Writes down when it is asked."""

    def __init__(self, path: Path, steps: list[str]) -> None:
        super().__init__(path, RocksSettings(cache_bytes=1 << 20))
        self._steps = steps

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._steps.append("rows")
        return super().get_many(keys)

    def commit(self, rows: Iterable[Row], position: Position | None = None) -> None:
        self._steps.append("store.commit")
        super().commit(rows, position)


class LoggedWriter(FakeWriter):
    def __init__(self, steps: list[str]) -> None:
        super().__init__(FakeLog())
        self._steps = steps

    async def commit(self, rows: Sequence[Row], finals: Mapping[str, Sequence[Row]] = NO_FINALS) -> int:
        self._steps.append("writer.commit")
        return await super().commit(rows, finals)


class Scene:
    """A partition with two tables and its checkpointer; `steps` is what happened, in order."""

    def __init__(self, path: Path, interval_s: float = NEVER_S, room: Room | None = None) -> None:
        self.steps: list[str] = []
        self.crowded: list[tuple[int, bool]] = []
        self.store = LoggedStore(path, self.steps)
        self.writer = LoggedWriter(self.steps)
        tables = [
            TableFold.resume(spec, first_progress(TOPIC, spec, STATE_ID, 0, []), None) for spec in (VIEWS, UNIQUE)
        ]
        self.partition = Partition(TOPIC, 0, self.store, STATE_ID, tables)
        self.done: list[Committed] = []
        self.failures: list[Exception] = []
        self.checkpointer = Checkpointer(
            self.partition,
            self.writer,
            interval_s,
            self._done,
            self._failed,
            probe=self._probe,
            room=room,
            crowded=lambda cells, full: self.crowded.append((cells, full)),
        )

    def _probe(self, point: Point) -> None:
        self.steps.append(point)

    def _done(self, partition: Partition, result: Committed) -> None:
        assert partition is self.partition
        self.steps.append(f"published {partition.checkpoints} to {partition.group_offset()}")
        self.done.append(result)

    def _failed(self, partition: Partition, error: Exception) -> None:
        assert partition is self.partition
        self.failures.append(error)

    def fold(self, *batches: Batch) -> None:
        for one in batches:
            self.partition.fold(one)
            self.checkpointer.folded()

    async def hold_a_commit(self) -> tuple[asyncio.Task[None], asyncio.Event]:
        """A checkpoint that is in flight until the event is set."""
        self.writer.gate = gate = asyncio.Event()
        flying = asyncio.create_task(self.checkpointer.checkpoint())
        begun = self.writer.begun
        await until("a commit in flight", lambda: self.writer.begun > begun)
        return flying, gate


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(interval_s: float = NEVER_S, room: Room | None = None) -> Scene:
        made.append(Scene(tmp_path / f"state-{len(made)}", interval_s, room))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


MakeScene = Callable[..., Scene]


async def test_a_commit_is_rows_then_changelog_then_store_then_published(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.fold(batch(0, "abc"))
    scene.steps.clear()
    await scene.checkpointer.checkpoint()
    assert list(dict.fromkeys(scene.steps)) == [
        Point.CHECKPOINT_CUT,
        "rows",
        "writer.commit",
        Point.ROWS_COMMITTED,
        "store.commit",
        Point.ROWS_APPLIED,
        "published 1 to 3",
    ]
    assert scene.steps.index("writer.commit") > max(n for n, step in enumerate(scene.steps) if step == "rows")
    (rows,) = scene.writer.commits
    assert rows_of(scene.store) == dict(rows)
    assert scene.store.position() == Position(STATE_ID, len(rows) - 1)
    assert [len(one.encoded.rows) for one in scene.done] == [len(rows)]


async def test_nothing_moved_is_nothing_committed(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    task = scene.checkpointer.start()
    await pass_time(10)
    assert scene.writer.begun == 0
    scene.fold(batch(0, "a"))
    await pass_time(10)
    assert scene.writer.begun == 1
    await scene.checkpointer.close()
    assert task.done()


async def test_dirty_sets_are_cut_early_when_half_their_room_is_used(make_scene: MakeScene) -> None:
    scene = make_scene(room=Room(20))
    scene.checkpointer.start()
    scene.fold(batch(0, "abc"))  # three cells in each table, three ids
    await pass_time(1000)
    assert scene.writer.begun == 0
    scene.fold(batch(3, "de"))
    await until("an early checkpoint", lambda: scene.done)
    assert asyncio.get_running_loop().time() < NEVER_S
    assert scene.crowded == []
    await scene.checkpointer.close()


async def test_commits_that_hang_hold_up_intake_until_they_end(make_scene: MakeScene) -> None:
    scene = make_scene(room=Room(20))
    scene.writer.gate = gate = asyncio.Event()
    scene.checkpointer.start()
    scene.fold(batch(0, "abcd"))  # four cells in each table, four ids
    await until("a commit in flight", lambda: scene.writer.begun)
    assert scene.crowded == [], "there is room for the same again while it is in flight"
    scene.fold(batch(4, "ab"), batch(6, "cd"))
    assert scene.crowded == [(24, True)], "both, what is in flight and what is dirty, once"
    gate.set()
    await until("room", lambda: len(scene.crowded) > 1)
    assert scene.crowded == [(24, True), (0, False)]
    assert len(scene.done) == 2
    await scene.checkpointer.close()


async def test_partitions_share_their_room_evenly_until_one_is_given_up(make_scene: MakeScene) -> None:
    room = Room(40)
    one, other = make_scene(room=room), make_scene(room=room)
    for scene in (one, other):
        scene.writer.gate = asyncio.Event()
        scene.checkpointer.start()
    one.fold(batch(0, "abcdefg"))
    assert one.crowded == [(21, True)]
    other.checkpointer.abort()
    assert room.share == 40
    one.checkpointer.abort()


async def test_a_partition_that_catches_up_is_never_held_up(make_scene: MakeScene) -> None:
    scene = make_scene(room=Room(2))
    scene.partition.tables[0].ahead = Ahead(cells={}, certificates={}, until=9)
    scene.fold(batch(0, "abcd"))
    assert scene.crowded == [], "it can't commit before it has read on"
    scene.fold(batch(4, "abcdef"))
    assert scene.crowded == [(22, True)]


@pytest.mark.parametrize(
    ("raised", "expected"), [(KafkaError("lost"), TaintedError), (ProducerFenced("again"), FencedError)]
)
async def test_a_failed_commit_is_told_once_and_is_the_last(
    make_scene: MakeScene, raised: Exception, expected: type[Exception]
) -> None:
    scene = make_scene(interval_s=1.0)
    scene.writer.errors = [raised]
    task = scene.checkpointer.start()
    scene.fold(batch(0, "abc"))
    await asyncio.wait([task])
    assert task.exception() is None
    assert [type(error) for error in scene.failures] == [expected]
    assert scene.done == []
    assert scene.partition.checkpoints == 0
    assert rows_of(scene.store) == {}
    scene.fold(batch(3, "d"))
    await pass_time(10)
    assert scene.writer.begun == 1


async def test_a_commit_slower_than_the_request_timeout_fails(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    scene.writer.gate = asyncio.Event()
    scene.checkpointer.start()
    scene.fold(batch(0, "abc"))
    await until("the failure", lambda: scene.failures)
    assert isinstance(scene.failures[0], TaintedError)
    assert rows_of(scene.store) == {}


async def test_any_other_error_ends_the_task_with_it(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    task = scene.checkpointer.start()
    scene.store.failing_commits = 1
    scene.fold(batch(0, "abc"))
    await asyncio.wait([task])
    assert isinstance(task.exception(), OSError)
    assert scene.failures == []
    assert scene.done == []


async def test_close_lets_the_commit_in_flight_finish_and_begins_no_other(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    scene.writer.gate = asyncio.Event()
    task = scene.checkpointer.start()
    scene.fold(batch(0, "abc"))
    await until("a commit in flight", lambda: scene.writer.begun)
    scene.fold(batch(3, "d"))
    closing = asyncio.create_task(scene.checkpointer.close())
    await asyncio.wait([closing], timeout=5)
    assert not closing.done()
    assert not task.done()
    scene.writer.gate.set()
    await closing
    assert task.done()
    assert len(scene.done) == 1
    assert scene.partition.group_offset() == 3
    await pass_time(10)
    assert scene.writer.begun == 1, "the last checkpoint is the caller's"
    await scene.checkpointer.checkpoint()
    assert scene.partition.group_offset() == 4


async def test_close_while_nothing_is_in_flight_leaves_the_last_checkpoint_to_the_caller(
    make_scene: MakeScene,
) -> None:
    scene = make_scene()
    scene.checkpointer.start()
    await pass_time(1)
    scene.fold(batch(0, "abc"))
    await scene.checkpointer.close()
    assert scene.writer.begun == 0


async def test_abort_stops_a_commit_in_flight_at_once(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    scene.writer.gate = asyncio.Event()
    task = scene.checkpointer.start()
    scene.fold(batch(0, "abc"))
    await until("a commit in flight", lambda: scene.writer.begun)
    scene.checkpointer.abort()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (scene.done, scene.failures) == ([], [])


async def test_what_is_folded_during_a_commit_is_exactly_the_next_one(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.fold(batch(0, "aab"))
    flying, gate = await scene.hold_a_commit()
    scene.fold(batch(3, "ac"))
    gate.set()
    await flying
    assert counted(scene.writer.commits[0]) == {"a": 2, "b": 1}
    assert scene.partition.group_offset() == 3, "progress of the first cut is that of its own records"
    assert not any(table.in_flight for table in scene.partition.tables), "let go: the store has it"
    await scene.checkpointer.checkpoint()
    assert counted(scene.writer.commits[1]) == {"a": 3, "c": 1}, "absolute values of the cells touched since"
    assert scene.partition.group_offset() == 5


@pytest.mark.parametrize("seed", range(8))
async def test_any_cuts_with_folds_in_flight_give_the_rows_of_folding_at_once(make_scene: MakeScene, seed: int) -> None:
    r = Random(seed)
    batches: list[Batch] = []
    start = 0
    for _ in range(12):
        keys = "".join(r.choice("abcd") for _ in range(r.randint(0, 6)))
        end = start + len(keys) + r.randint(0, 1)
        batches.append(batch(start, keys, end=end, ids=[r.randint(0, 9) for _ in keys], step_ms=r.choice((100, 400))))
        start = end
    scene = make_scene()
    waiting = list(batches)
    while waiting:
        scene.fold(waiting.pop(0))
        if scene.partition.dirty_cells() and r.randint(0, 1):
            flying, gate = await scene.hold_a_commit()
            while waiting and r.randint(0, 2):
                scene.fold(waiting.pop(0))
            gate.set()
            await flying
            scene.writer.gate = None
    await scene.checkpointer.checkpoint()
    at_once = make_scene()
    at_once.fold(*batches)
    await at_once.checkpointer.checkpoint()
    assert rows_of(scene.store) == rows_of(at_once.store)
    assert dict(row for rows in scene.writer.commits for row in rows) == rows_of(scene.store)


async def test_event_ids_of_a_commit_in_flight_are_known_to_the_fold(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.fold(batch(0, "ab", ids=[7, 8]))
    flying, gate = await scene.hold_a_commit()
    scene.fold(batch(2, "abc", ids=[7, 8, 9]))
    assert scene.partition.tables[1].standing.tallies == {"on_time": 3, "duplicate": 2}
    gate.set()
    await flying
    scene.fold(batch(5, "ab", ids=[7, 9]))
    assert scene.partition.tables[1].standing.tallies == {"on_time": 3, "duplicate": 4}
    await scene.checkpointer.checkpoint()
    assert counted(scene.writer._changelog.rows, "unique") == {"a": 1, "b": 1, "c": 1}


async def test_progress_goes_with_its_own_cut(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.fold(batch(0, "ab"))
    flying, gate = await scene.hold_a_commit()
    scene.fold(batch(2, "c"))
    gate.set()
    await flying
    state = scene.writer._changelog.state()
    assert state is not None
    assert (state.next_offset, state.tallies) == (2, {"on_time": 2})
    assert scene.store.get(progress_key(Role.STATE, "views")) is not None


@pytest.mark.parametrize("call", ["get_many", "commit"])
async def test_a_disk_that_hangs_ends_the_checkpoints_and_says_so(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    scene = make_scene()
    scene.fold(batch(0, "ab"))
    back = threading.Event()
    monkeypatch.setattr(module, "DISK_S", 0.2)
    monkeypatch.setattr(scene.store, call, lambda *_: back.wait(30))
    with pytest.raises(StuckError, match="clicks-0: its state directory hasn't answered"):
        await scene.checkpointer.checkpoint()
    back.set()
    monkeypatch.undo()
    with pytest.raises(TaintedError):
        await scene.checkpointer.checkpoint()
    assert scene.done == []

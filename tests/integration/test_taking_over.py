"""Taking a partition over from a real changelog: fenced first, checked against its source, nothing guessed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agents.assignment import AssignmentSettings
from agents.checkpointer import Checkpointer
from agents.opening import Opened, Opening, Sinks
from agents.source import Place, SourceRecord
from domain.errors import FencedError, RefusedError
from domain.probe import Point, Probe, no_probe
from domain.progress import Cut, ResetMark, decode_state, encode
from domain.record import Batch
from domain.rows import Kind, Role, Row, pack_cell, progress_key, window_prefix
from domain.spec import TableSpec, changelog_topic
from tables.changelog import Bounds, ChangelogSettings, ChangelogWriter
from tests.kafka import MakeTopic, unique
from tests.unit.agents.fakes import NOW_MS, P0, TOPIC, UNIQUE, VIEWS, FakeListener, FakeSource, batch

MINE = "mine"
NO_GAPS: dict[Place, tuple[int, int]] = {}


class OneRecord(FakeSource):
    """A source that still has the last record of a batch, or another one in its place."""

    def __init__(self, of: Batch | None = None, value: bytes | None = None) -> None:
        super().__init__()
        self._of = of
        self._value = value

    async def record_at(self, place: Place, offset: int) -> SourceRecord | None:
        if self._of is None or offset != self._of.offsets[-1]:
            return None
        value = self._of.values[-1] if self._value is None else self._value
        return SourceRecord(offset, int(self._of.timestamps[-1]), self._of.keys[-1], value)


class Scene:
    """One changelog partition; owners open it one after the other, each in a directory of its own unless told."""

    def __init__(self, settings: ChangelogSettings, folder: Path) -> None:
        self.app = unique("app")
        self.settings = settings
        self._folder = folder
        self._count = 0

    @asynccontextmanager
    async def opened(
        self,
        tables: Sequence[TableSpec] = (VIEWS,),
        source: FakeSource | None = None,
        folder: str = "",
        gaps: dict[Place, tuple[int, int]] = NO_GAPS,
        probe: Probe = no_probe,
    ) -> AsyncIterator[Opened]:
        self._count += 1
        path = self._folder / (folder or str(self._count))
        settings = AssignmentSettings(self.app, path, self.settings, accept_gaps=gaps)
        specs = {one.name: one for one in tables}
        source = source or FakeSource()
        opening = Opening({TOPIC.name: TOPIC}, specs, source, Sinks(), settings, FakeListener(), probe)
        opened = await opening.open(P0)
        try:
            yield opened
        finally:
            await opened.close()

    async def counted(self, *batches: Batch, tables: Sequence[TableSpec] = (VIEWS,)) -> None:
        """Counted, committed and let go by an owner of before."""
        async with self.opened(tables) as owner:
            for one in batches:
                owner.partition.fold(one)
                await checkpoint(owner)

    def writer(self) -> ChangelogWriter:
        return ChangelogWriter(self.settings, self.app, TOPIC.name, 0)


@pytest.fixture
def scene(kafka_bootstrap: str, make_topic: MakeTopic, tmp_path: Path) -> Scene:
    made = Scene(ChangelogSettings(kafka_bootstrap), tmp_path)
    name = changelog_topic(made.app, TOPIC.name)
    make_topic(name=name, cleanup_policy="compact", message_timestamp_type="LogAppendTime")
    return made


async def checkpoint(owner: Opened) -> None:
    await Checkpointer(owner.partition, owner.writer, 1e9, lambda *_: None, lambda *_: None).checkpoint()


def progress_of(owner: Opened, table: TableSpec = VIEWS) -> int:
    value = owner.store.get(progress_key(Role.STATE, table.name))
    assert value is not None
    return decode_state(value).next_offset


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of another process, so to speak: it runs while ours is held up."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def test_the_owner_before_is_fenced_before_anything_is_restored(
    scene: Scene, elsewhere: asyncio.AbstractEventLoop
) -> None:
    await scene.counted(batch(0, "abc"))

    writers: list[ChangelogWriter] = []

    async def fence() -> None:
        writers.append(scene.writer())
        await writers[0].fence()

    row: Row = (window_prefix(Kind.CELL, VIEWS.name, NOW_MS) + b"zombie", pack_cell(1, 0, 3))
    outcomes: list[BaseException | None] = []

    def zombie(point: Point) -> None:
        """It commits once more while the next owner reads; that one can't have read it."""
        if point is Point.ROWS_PARTLY_RESTORED and not outcomes:
            done = asyncio.run_coroutine_threadsafe(writers[0].commit([row]), elsewhere)
            outcomes.append(done.exception(30))

    asyncio.run_coroutine_threadsafe(fence(), elsewhere).result(30)
    async with scene.opened(probe=zombie):
        pass
    asyncio.run_coroutine_threadsafe(writers[0].close(), elsewhere).result(30)
    (outcome,) = outcomes
    assert isinstance(outcome, FencedError), "what it commits now, nobody restores"


async def test_an_owner_goes_on_where_the_one_before_had_committed(scene: Scene) -> None:
    await scene.counted(batch(0, "abc"), batch(3, "ab"))
    async with scene.opened() as owner:
        assert owner.partition.next_offset == progress_of(owner) == 5


async def test_progress_of_a_new_table_is_committed_before_its_first_record(scene: Scene) -> None:
    async with scene.opened():
        pass
    async with scene.opened() as owner:
        assert owner.store.get(progress_key(Role.STATE, VIEWS.name)) is not None, "it is in the changelog"
    await scene.counted(batch(0, "abc"))
    async with scene.opened((VIEWS, UNIQUE)):
        pass
    later = FakeSource()
    later.log = Bounds(0, 2000)
    async with scene.opened((VIEWS, UNIQUE), later) as owner:
        assert (progress_of(owner), progress_of(owner, UNIQUE)) == (3, 0)


async def test_a_new_table_beside_rows_ahead_of_progress_leaves_them_to_be_told(scene: Scene) -> None:
    """Nothing was folded yet when its owner died: the next one must find the same rows ahead."""
    await scene.counted(batch(0, "abc"))
    async with scene.opened() as owner:
        owner.partition.fold(batch(3, "ab"))
        torn = owner.partition.cut()
        assert torn is not None
        await owner.writer.commit([row for row in torn.encode(owner.store).rows if row[0][1:2] == Kind.CELL.value])
    for _ in range(2):
        async with scene.opened((VIEWS, UNIQUE), folder=MINE) as owner:
            ahead = owner.partition.tables[0].ahead
            assert ahead is not None
            assert (len(ahead.cells), ahead.until) == (2, 4)
            assert not owner.partition.settled


async def test_a_log_that_begins_above_0_is_cut_at_its_start(scene: Scene) -> None:
    source = FakeSource()
    source.log = Bounds(7, 1000)
    async with scene.opened(source=source) as owner:
        (table,) = owner.partition.tables
        assert table.committed.next_offset == 7
        assert table.committed.cuts == [Cut(0, 7)]


async def test_settings_that_changed_are_refused(scene: Scene) -> None:
    await scene.counted(batch(0, "abc"))
    with pytest.raises(RefusedError, match=r"settings changed since it was counted.*reset --table views"):
        async with scene.opened([replace(VIEWS, window_ms=2 * VIEWS.window_ms)]):
            pass


async def test_records_deleted_before_they_were_counted_are_a_gap(scene: Scene) -> None:
    await scene.counted(batch(0, "abc"))
    source = FakeSource()
    source.log = Bounds(9, 1000)
    with pytest.raises(RefusedError, match="--accept-gap clicks-0:3-8"):
        async with scene.opened(source=source):
            pass
    async with scene.opened(source=source, gaps={P0: (3, 8)}) as owner:
        assert owner.partition.next_offset == 9
        assert owner.partition.tables[0].cuts[-1].first == 3


async def test_a_log_that_ends_before_what_was_counted_is_another_one(scene: Scene) -> None:
    await scene.counted(batch(0, "abc"))
    source = FakeSource()
    source.log = Bounds(0, 2)
    with pytest.raises(RefusedError, match=r"re-created or truncated.*ends at 2, but was counted up to 3"):
        async with scene.opened(source=source):
            pass


async def test_another_record_at_the_last_offset_counted_is_another_log(scene: Scene) -> None:
    counted = batch(0, "abc")
    await scene.counted(counted)
    async with scene.opened(source=OneRecord(counted)):
        pass
    with pytest.raises(RefusedError, match="record 2 is not the one that was counted"):
        async with scene.opened(source=OneRecord(counted, b"another")):
            pass


async def test_an_empty_changelog_although_the_group_had_an_offset_is_lost_state(scene: Scene) -> None:
    source = FakeSource()
    source.group_offsets[P0] = 5
    with pytest.raises(RefusedError, match=r"state of clicks-0 is lost"):
        async with scene.opened(source=source):
            pass


async def test_a_reset_under_way_is_refused(scene: Scene) -> None:
    await scene.counted(batch(0, "abc"))
    async with scene.opened() as owner:
        await owner.writer.commit([(progress_key(Role.RESET, VIEWS.name), encode(ResetMark(state_id="other")))])
    with pytest.raises(RefusedError, match="a reset of it began"):
        async with scene.opened():
            pass

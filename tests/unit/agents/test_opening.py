"""What a partition without state is asked before it is counted from the start."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agents.assignment import AssignmentSettings
from agents.opening import ASK_S, Opening, Sinks, UntoldError
from agents.source import Place
from domain.errors import RefusedError, SinkUnavailableError
from domain.probe import Point
from domain.rows import Role, progress_key
from sinks.base import CellSink, LogSink
from tables.changelog import Bounds, ChangelogSettings
from tables.restore import Restored
from tables.rocksdb import RocksSettings, RocksStore
from tests.cell_sinks import FakeRoom
from tests.unit.agents.fakes import NOW_MS, P0, P1, TOPIC, VIEWS, FakeListener, FakeSource


class FakeHBase:
    """`opening.HBase` over one room."""

    def __init__(self, room: FakeRoom) -> None:
        self.room = room
        self.down = False
        self.hangs = threading.Event()
        self.hangs.set()

    def counts(self, table: str, partition: int) -> CellSink:
        assert table == "views"
        sink = self.room.sink(partition)
        sink.down = self.down
        sink.before = self._hang
        return sink

    def _hang(self, _: int) -> None:
        assert self.hangs.wait(30), "the test lets go"

    def events(self, topic: str, partition: int, start: int) -> LogSink | None:
        return None

    def takes_events(self, topic: str) -> bool:
        return False


class Scene:
    def __init__(self, folder: Path) -> None:
        self.source = FakeSource()
        self.hbase = FakeHBase(FakeRoom())
        settings = AssignmentSettings("app", folder, ChangelogSettings("nowhere"))
        topics, tables = {TOPIC.name: TOPIC}, {VIEWS.name: VIEWS}
        self.opening = Opening(topics, tables, self.source, Sinks(hbase=self.hbase), settings, FakeListener())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_partition_nobody_has_counted_may_begin(scene: Scene) -> None:
    await scene.opening._refuse_lost_state(P0)


async def test_an_offset_of_the_group_without_state_is_lost_state(scene: Scene) -> None:
    scene.source.group_offsets[P0] = 7
    with pytest.raises(RefusedError, match=r"state of clicks-0 is lost.*group had got to offset 7"):
        await scene.opening._refuse_lost_state(P0)


async def test_counts_in_hbase_without_state_are_lost_state(scene: Scene) -> None:
    scene.hbase.room.sink(0).put_frontier(9, None, None)
    with pytest.raises(RefusedError, match=r"state of clicks-0 is lost.*HBase has counts of table views up to.* 9"):
        await scene.opening._refuse_lost_state(P0)
    await scene.opening._refuse_lost_state(P1)


async def test_a_frontier_at_the_start_is_no_count(scene: Scene) -> None:
    scene.hbase.room.sink(0).put_frontier(0, None, None)
    await scene.opening._refuse_lost_state(P0)


async def test_tables_of_another_app_are_refused_before_anything_is_counted(scene: Scene) -> None:
    scene.hbase.room.owner = "another"
    with pytest.raises(RefusedError):
        await scene.opening._refuse_lost_state(P0)


async def test_whether_state_is_lost_can_not_be_told_while_hbase_is_away(scene: Scene) -> None:
    scene.hbase.down = True
    with pytest.raises(UntoldError, match="HBase can't be asked"):
        await scene.opening._refuse_lost_state(P0)


async def test_a_hanging_hbase_is_not_waited_for(scene: Scene) -> None:
    asked = [asyncio.create_task(scene.opening._refuse_lost_state(Place("clicks", p))) for p in range(20)]
    scene.hbase.hangs.clear()
    began = asyncio.get_running_loop().time()
    results = await asyncio.gather(*asked, return_exceptions=True)
    took_s = asyncio.get_running_loop().time() - began
    scene.hbase.hangs.set()
    assert all(isinstance(one, UntoldError) for one in results)
    assert took_s < 3 * ASK_S, "all at once, not one after the other"


@pytest.mark.parametrize(
    ("table", "said"), [("views", "table views.*reset --table views"), ("", "topic clicks.*reset --topic clicks")]
)
def test_a_reset_that_has_not_ended_is_refused(scene: Scene, tmp_path: Path, table: str, said: str) -> None:
    store = RocksStore(tmp_path / "store", RocksSettings())
    scene.opening._refuse_half_reset(P0, store)
    store.commit([(progress_key(Role.RESET, "another"), b"{}")])
    scene.opening._refuse_half_reset(P0, store)
    store.commit([(progress_key(Role.RESET, table), b"{}")])
    with pytest.raises(RefusedError, match=said):
        scene.opening._refuse_half_reset(P0, store)
    store.close()


class GrowingSource(FakeSource):
    """Its log has grown each time somebody asks."""

    async def bounds(self, place: Place) -> Bounds:
        self.log = Bounds(self.log.begin, self.log.end + 5)
        return self.log

    async def offset_at(self, place: Place, time_ms: int) -> int:
        return (await self.bounds(place)).end


async def test_a_table_that_starts_at_a_growing_logs_end_is_no_sign_of_another_log(tmp_path: Path) -> None:
    later = replace(VIEWS, start_ms=NOW_MS)
    settings = AssignmentSettings("app", tmp_path, ChangelogSettings("nowhere"))
    opening = Opening({TOPIC.name: TOPIC}, {later.name: later}, GrowingSource(), Sinks(), settings, FakeListener())
    store = RocksStore(tmp_path / "store", RocksSettings())
    partition = await opening._resume(P0, store, Restored(None))
    assert partition.next_offset == 1010
    store.close()


async def test_a_partition_that_our_topics_have_no_room_for_yet_is_not_fenced(tmp_path: Path) -> None:
    source, reached = FakeSource(), list[Point]()
    source.no_room = SinkUnavailableError("Kafka", "it grows")
    settings = AssignmentSettings("app", tmp_path, ChangelogSettings("nowhere"))
    topics, tables = {TOPIC.name: TOPIC}, {VIEWS.name: VIEWS}
    opening = Opening(topics, tables, source, Sinks(), settings, FakeListener(), reached.append)
    with pytest.raises(SinkUnavailableError, match="it grows"):
        await opening.open(P0)
    assert not reached

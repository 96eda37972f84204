"""The counts follower: what it puts and when, what it does when its sink is away, full or emptied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agents import counts as counts_module
from agents import rescan as rescan_module
from agents.counts import PUT_ATTEMPTS, Backlog, CountsFollower, CountsSettings
from agents.partition import Followed, Partition, TableFold, first_progress
from domain.certificate import Certificate
from domain.errors import RefusedError, SinkUnavailableError
from domain.fold import Ahead
from domain.progress import CountsProgress
from domain.rows import Kind, Role, parse_key, unpack_cell, unpack_certificate, window_prefix
from sinks.hbase.format import Frontier
from tables.restore import _look_ahead
from tables.rocksdb import Position
from tests.cell_sinks import Counts, FakeRoom
from tests.unit.agents.clock import pass_time, until
from tests.unit.agents.fakes import NOW_MS, STATE_ID, TOPIC, VIEWS, batch, open_store, resumed

INTERVAL_S = 5.0


class Ears:
    def __init__(self) -> None:
        self.cells = 0
        self.backlogs: list[int] = []
        self.rescans: list[int] = []
        self.failures: list[SinkUnavailableError] = []

    def put(self, cells: int) -> None:
        self.cells += cells

    def backlog(self, cells: int) -> None:
        self.backlogs.append(cells)

    def rescan(self, since: int) -> None:
        self.rescans.append(since)

    def failed(self, error: SinkUnavailableError) -> None:
        self.failures.append(error)


class Scene:
    """A partition whose checkpoints are in its store, and its follower."""

    def __init__(self, path: Path, *, limit: int = 1000, backlog: Backlog | None = None) -> None:
        self.room = FakeRoom()
        self.store = open_store(path)
        self.ears = Ears()
        self.executor = ThreadPoolExecutor(2)
        self.backlog = backlog or Backlog(limit)
        self.partition = self._partition(None)
        self.commit()
        self.own()

    def own(self, progress: CountsProgress | None = None, ahead: Ahead | None = None) -> None:
        """A new owner, with what was committed of the counts' progress."""
        table = self.partition.tables[0]
        committed = self.partition.counts["views"].committed if progress is None else progress
        assert isinstance(committed, CountsProgress)
        if progress is not None or ahead is not None:
            self.partition = self._partition(committed, TableFold.resume(VIEWS, table.committed, ahead))
        self.sink = self.room.sink()
        self.follower = CountsFollower(
            self.partition,
            self.partition.counts["views"],
            self.sink,
            CountsSettings(INTERVAL_S),
            self.backlog,
            self.executor,
            asyncio.Semaphore(2),
            self.ears,
        )

    def _partition(self, progress: CountsProgress | None, table: TableFold | None = None) -> Partition:
        fold = table or TableFold.resume(VIEWS, first_progress(TOPIC, VIEWS, STATE_ID, 0, []), None)
        counts = progress or CountsProgress(state_id=STATE_ID, start=0, next_offset=0)
        followed = [Followed.resume(Role.COUNTS, counts, "views")]
        return Partition(TOPIC, 0, self.store, STATE_ID, [fold], counts=followed)

    def fold(self, keys: str) -> None:
        self.partition.fold(batch(self.partition.next_offset, keys))

    def commit(self) -> None:
        """A checkpoint, offered once it is in the store."""
        offer = self.store_checkpoint()
        if hasattr(self, "follower"):
            offer()

    def store_checkpoint(self) -> Callable[[], None]:
        """A checkpoint in the store; what is returned offers it."""
        checkpoint = self.partition.cut() or self.partition.first_cut()
        encoded = checkpoint.encode(self.store)
        self.store.commit(encoded.rows, Position(STATE_ID, 0))
        self.partition.committed(checkpoint, encoded)
        return lambda: self.follower.offer(encoded.tables["views"], checkpoint.tables[0].progress)

    def tear(self, keys: str) -> Ahead:
        """A transaction of which all but the progress came through; what a restore says of it."""
        self.fold(keys)
        checkpoint = self.partition.cut()
        assert checkpoint is not None
        rows = checkpoint.encode(self.store).tables["views"]
        loose = [*rows.cells, *rows.certificates]
        self.store.commit(loose)
        ahead = Ahead()
        for key, value in loose:
            parsed = parse_key(key)
            assert parsed is not None
            assert value is not None
            _look_ahead(ahead, parsed, value, self.partition.tables[0].committed.next_offset)
        return ahead

    def count(self, keys: str) -> None:
        self.fold(keys)
        self.commit()

    def start(self) -> asyncio.Task[None]:
        return self.follower.start()

    @property
    def next_offset(self) -> int:
        return self.partition.counts["views"].next_offset

    @property
    def end(self) -> int:
        return self.partition.tables[0].committed.next_offset

    async def caught_up(self) -> None:
        """The sink shows what the store holds, and progress says so."""
        await self.caught_up_with_what_is_left()
        await until("the last pass to end", lambda: not self.follower._taken)
        end, shown = self.end, self.room.shown()
        assert shown.cells == self.cells()
        assert shown.certificates == self.certificates()
        assert shown.frontier == Frontier(end, self.partition.tables[0].committed.stream_time)

    async def caught_up_with_what_is_left(self) -> None:
        await until("the sink to catch up", lambda: self.next_offset == self.end and self.follower._shown is not None)

    def cells(self) -> Counts:
        found = {}
        for key, value in self.store.scan(b""):
            parsed = parse_key(key)
            if parsed is not None and parsed.kind is Kind.CELL:
                cell = unpack_cell(value)
                found[parsed.start_ms, parsed.tail] = (cell.on_time, cell.late)
        return found

    def certificates(self) -> dict[int, Certificate]:
        found = {}
        for key, value in self.store.scan(b""):
            parsed = parse_key(key)
            if parsed is not None and parsed.kind is Kind.CERTIFICATE:
                found[parsed.start_ms] = unpack_certificate(value)
        return found


MakeScene = Callable[..., Scene]


@pytest.fixture
async def make_scene(tmp_path: Path) -> AsyncIterator[MakeScene]:
    made: list[Scene] = []

    def make(**options: object) -> Scene:
        made.append(Scene(tmp_path / f"state-{len(made)}", **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for scene in made:
        scene.follower.abort()
        scene.sink.released.set()
        scene.executor.shutdown()
        scene.store.close()


async def test_counts_are_put_as_cells_then_certificates_then_the_frontier(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.sink.put.clear()
    scene.count("aab")
    await scene.caught_up()
    assert scene.sink.put == [("cells", 2, 3), ("certificates", 1, 3), ("frontier", 1, 3)]


async def test_checkpoints_are_coalesced_within_the_interval(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.sink.put.clear()
    for _ in range(4):
        scene.count("aab")
    await scene.caught_up()
    assert [put for put in scene.sink.put if put[0] == "cells"] == [("cells", 4, 12)], "two keys in two windows"
    assert scene.ears.cells == 4


async def test_nothing_new_is_nothing_put(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    scene.sink.put.clear()
    await pass_time(10 * INTERVAL_S)
    assert scene.sink.put == []
    assert scene.sink.calls[-3:] == ["claim"] * 3, "but whose tables they are is asked each time"


async def test_progress_moves_only_once_everything_is_put(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.sink.blocked = "frontier"
    scene.count("ab")
    await asyncio.to_thread(scene.sink.entered.wait, 10)
    assert scene.next_offset == 0
    scene.sink.blocked = ""
    scene.sink.released.set()
    await scene.caught_up()
    assert scene.next_offset == 2


@pytest.mark.parametrize("applies", [True, False])  # every put is done, and every answer lost; or none is done
async def test_an_outage_is_waited_out_and_what_came_meanwhile_is_newer(make_scene: MakeScene, applies: bool) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.sink.down = True
    scene.sink.applies = applies
    scene.count("ab")
    await until("some failures", lambda: len(scene.ears.failures) >= 3)
    scene.count("ac")
    assert scene.next_offset == 0
    scene.sink.down = False
    await scene.caught_up()
    assert scene.next_offset == 4
    assert scene.ears.rescans == [0], "only that of the start: it held everything"


async def test_of_a_put_that_failed_the_checkpoint_offered_meanwhile_is_newer(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.sink.blocked = "cells"
    scene.count("ab")
    await asyncio.to_thread(scene.sink.entered.wait, 10)
    scene.count("ac")
    scene.sink.down = True
    scene.sink.blocked = ""
    scene.sink.released.set()
    await until("the put to be given up", lambda: len(scene.ears.failures) > PUT_ATTEMPTS)
    scene.sink.down = False
    await scene.caught_up()
    assert scene.ears.rescans == [0]


async def test_a_rescan_that_failed_in_the_middle_begins_again(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.count("abcdefgh")

    def fail(_: int) -> None:
        scene.sink.down = 1 <= len(scene.sink.calls) <= PUT_ATTEMPTS

    scene.sink.before = fail
    scene.start()
    await scene.caught_up()
    assert scene.ears.rescans == [0, 0]


async def test_a_close_while_behind_says_nothing_that_is_not_put(make_scene: MakeScene) -> None:
    scene = make_scene(limit=2)
    scene.start()
    await scene.caught_up()
    scene.count("abcdef")
    await scene.follower.close(3.0)
    assert scene.next_offset == 0
    assert scene.room.shown().frontier == Frontier(0, None)


async def test_a_full_backlog_is_dropped_and_the_state_read_instead(make_scene: MakeScene) -> None:
    scene = make_scene(limit=5)
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    scene.sink.down = True
    scene.count("abcdefgh")
    assert scene.ears.backlogs[-1] == 0
    scene.count("aaaa")
    assert not scene.follower._cells, "behind it collects nothing"
    scene.sink.down = False
    await scene.caught_up()
    assert scene.ears.rescans == [0, 2], "from where the sink was"


async def test_a_backlog_is_shared(make_scene: MakeScene) -> None:
    backlog = Backlog(5)
    scenes = [make_scene(backlog=backlog) for _ in range(3)]
    scenes[0].count("abcd")
    assert scenes[0].ears.backlogs[-1] == 4
    scenes[1].count("ab")
    assert scenes[1].ears.backlogs[-1] == 0
    scenes[0].follower.abort()
    scenes[2].count("abc")
    assert scenes[2].ears.backlogs[-1] == 3, "who has let go holds nothing"


async def test_an_overflow_while_a_rescan_runs_leads_to_another(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(limit=5)
    scene.count("abcdefgh")
    loop = asyncio.get_running_loop()

    def overflow(call: int) -> None:
        if scene.sink.calls[call - 1 :] == ["claim"] and scene.ears.rescans == [0]:
            scene.sink.before = lambda _: None
            asyncio.run_coroutine_threadsafe(_counted(scene, "ijklmnop"), loop).result(10)

    scene.sink.before = overflow
    scene.start()
    await scene.caught_up()
    assert scene.ears.rescans == [0, 8]


async def _counted(scene: Scene, keys: str) -> None:
    scene.count(keys)


async def test_a_new_owner_puts_what_its_sink_lacks(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    scene.commit()  # the follower's progress
    scene.follower.abort()
    scene.count("ac")
    scene.count("d")
    scene.own()
    scene.start()
    await scene.caught_up()
    assert scene.ears.rescans == [0, 2]
    assert ("cells", 3, 5) in scene.sink.put, "a, c and d, not b"


async def test_an_owner_whose_sink_has_everything_reads_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    scene.commit()
    scene.follower.abort()
    scene.own()
    scene.start()
    await scene.caught_up()
    assert scene.ears.rescans == [0]


async def test_emptied_tables_are_filled_again_from_the_start(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    scene.room.empty()
    scene.count("c")
    await until("progress to be taken back", lambda: scene.ears.rescans == [0, 0])
    await scene.caught_up()
    scene.commit()
    progress = scene.partition.counts["views"].committed
    assert isinstance(progress, CountsProgress)
    assert (progress.table_id, progress.next_offset) == (scene.room.table_id, 3)


async def test_progress_says_which_windows_emptied_tables_lack(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    first = NOW_MS - NOW_MS % VIEWS.window_ms
    scene.partition.fold(batch(2, "c", step_ms=31_000))  # the first window expires, and goes: HBase has it
    scene.commit()
    assert scene.store.get(window_prefix(Kind.CELL, "views", first) + b"a") is None
    assert lost_until(scene) == -1
    scene.room.empty()
    scene.count("d")
    await until("progress to be taken back", lambda: scene.ears.rescans == [0, 0])
    await scene.caught_up()
    assert lost_until(scene) == first
    scene.commit()
    scene.follower.abort()
    scene.count("e")
    scene.own()
    scene.start()
    await scene.caught_up()
    assert scene.ears.rescans[2:] == [4]
    assert lost_until(scene) == first, "it lacks them still"


def lost_until(scene: Scene) -> int:
    progress = scene.partition.counts["views"].durable
    assert isinstance(progress, CountsProgress)
    return progress.lost_until


async def test_windows_that_went_while_no_sink_was_configured_are_lacking_too(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    scene.commit()
    scene.follower.abort()
    put = scene.partition.counts["views"].committed
    assert isinstance(put, CountsProgress)
    first = NOW_MS - NOW_MS % VIEWS.window_ms

    scene.partition = Partition(TOPIC, 0, scene.store, STATE_ID, resumed(scene.store, VIEWS))
    for one in (batch(2, "a"), batch(3, "c", step_ms=31_000)):
        scene.partition.fold(one)
        scene.store_checkpoint()
    assert scene.store.get(window_prefix(Kind.CELL, "views", first) + b"a") is None

    scene.own(put)
    scene.start()
    await scene.caught_up_with_what_is_left()
    assert scene.room.shown().cells[first, b"a"] == (1, 0), "of two"
    assert lost_until(scene) == first


async def test_a_new_owner_with_nothing_counted_still_learns_that_nothing_is_lacking(make_scene: MakeScene) -> None:
    """The owner before died after its claim and before its rescan: what it said then must not last for ever."""
    scene = make_scene()
    claimed = CountsProgress(
        state_id=STATE_ID, start=0, next_offset=0, table_id=scene.room.table_id, lost_until=counts_module.UNTOLD
    )
    scene.own(claimed)
    scene.start()
    await until("the frontier", lambda: scene.room.shown().frontier)
    await until("it to be told", lambda: lost_until(scene) == -1)
    scene.follower.abort()


async def test_progress_in_other_tables_counts_for_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.count("abc")
    scene.own(CountsProgress(state_id=STATE_ID, start=0, next_offset=3, table_id="gone"))
    scene.start()
    await until("a rescan", lambda: scene.ears.rescans)
    await scene.caught_up()
    assert scene.ears.rescans == [0]


async def test_tables_of_somebody_else_end_the_follower(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.room.owner = "other"
    scene.count("ab")
    with pytest.raises(RefusedError):
        await scene.start()
    assert scene.sink.put == []


async def test_nothing_is_put_while_rows_are_ahead_of_progress(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.count("ab")
    start = NOW_MS - NOW_MS % VIEWS.window_ms
    scene.own(ahead=Ahead(cells={(start, b"a"): 4}, until=4))
    scene.start()
    await pass_time(5 * INTERVAL_S)
    assert scene.sink.calls == []
    scene.fold("cdefg")
    await pass_time(5 * INTERVAL_S)
    assert scene.sink.calls == [], "folded past them, but not committed"
    scene.commit()
    await scene.caught_up()


async def test_rows_of_a_torn_transaction_reach_the_sink(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    scene.count("ab")
    await scene.caught_up()
    scene.commit()
    scene.follower.abort()
    ahead = scene.tear("aac")
    scene.own(ahead=ahead)
    scene.start()
    scene.fold("aac")  # skipped: the rows have it
    scene.fold("d")
    scene.commit()
    await scene.caught_up()
    assert scene.cells()[NOW_MS, b"a"] == (3, 0)


async def test_a_checkpoint_that_is_stored_but_not_offered_yet_is_in_the_rescan(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene()
    scene.count("ab")
    loop = asyncio.get_running_loop()
    offers: list[Callable[[], None]] = []

    async def two_checkpoints() -> None:
        if not offers:
            scene.count("a")
            scene.fold("a")
            offers.append(scene.store_checkpoint())

    class Late(rescan_module.Rescan):
        def __init__(self, *arguments: Any) -> None:
            asyncio.run_coroutine_threadsafe(two_checkpoints(), loop).result(10)
            super().__init__(*arguments)

    monkeypatch.setattr(counts_module, "Rescan", Late)
    scene.start()
    await scene.caught_up()
    offers[0]()
    await scene.caught_up()
    assert scene.cells()[NOW_MS, b"a"] == (3, 0)


async def test_who_let_go_in_the_middle_of_a_put_holds_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    task = scene.start()
    await scene.caught_up()
    scene.sink.blocked = "cells"
    scene.count("abc")
    await asyncio.to_thread(scene.sink.entered.wait, 10)
    scene.count("de")
    scene.follower.abort()
    await asyncio.wait([task])
    scene.count("fg")  # the last checkpoint of an assignment
    assert scene.backlog._held == {}


async def test_a_few_failures_do_not_start_a_rescan_over(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan_module, "CHUNK_ROWS", 1)
    scene = make_scene()
    scene.count("abcdefgh")

    def fail(call: int) -> None:
        scene.sink.down = call % 2 == 1 and len(scene.sink.put) < 8

    scene.sink.before = fail
    scene.start()
    await scene.caught_up()
    assert scene.ears.rescans == [0]
    assert len([put for put in scene.sink.put if put[0] == "cells"]) == 8
    assert len(scene.ears.failures) == 8


async def test_a_close_puts_what_is_left(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.count("ab")
    await scene.follower.close(3.0)
    assert scene.next_offset == 2
    assert scene.room.shown().cells == scene.cells()


async def test_a_close_while_the_sink_refuses_raises_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.count("ab")
    scene.sink.down = True
    await scene.follower.close(3.0)
    assert scene.next_offset == 0
    assert scene.sink.calls.count("cells") == 1, "nothing is tried again"


async def test_a_close_ends_at_its_deadline_and_claims_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.start()
    await scene.caught_up()
    scene.sink.blocked = "cells"
    scene.count("ab")
    began = asyncio.get_running_loop().time()
    await scene.follower.close(0.5)
    assert asyncio.get_running_loop().time() - began < 5
    assert scene.next_offset == 0


async def test_a_close_before_the_first_claim_puts_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.sink.down = True
    scene.start()
    await until("a failure", lambda: scene.ears.failures)
    scene.sink.down = False
    scene.count("ab")
    await scene.follower.close(3.0)
    assert scene.sink.put == []
    assert scene.next_offset == 0


async def test_a_partition_given_up_in_the_middle_of_a_rescan_ends_the_follower(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan_module, "CHUNK_ROWS", 2)
    scene = make_scene()
    scene.count("abcdefgh")
    scene.sink.blocked = "cells"
    task = scene.start()
    await asyncio.to_thread(scene.sink.entered.wait, 10)
    scene.store.close()
    scene.sink.blocked = ""
    scene.sink.released.set()
    await task
    assert [put[0] for put in scene.sink.put] == ["cells"]
    assert scene.next_offset == 0


@pytest.mark.parametrize("chunk_rows", [1, 3, 1000])
async def test_a_checkpoint_at_any_moment_of_a_rescan_leaves_the_sink_right(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr(rescan_module, "CHUNK_ROWS", chunk_rows)
    loop = asyncio.get_running_loop()
    moment = 0
    while True:
        scene = make_scene()
        scene.count("abcabdef")
        scene.own(CountsProgress(state_id=STATE_ID, start=0, next_offset=0))

        def race(call: int, at: int = moment, scene: Scene = scene) -> None:
            if call == at:
                asyncio.run_coroutine_threadsafe(_counted(scene, "bxbay"), loop).result(10)

        scene.sink.before = race
        scene.start()
        await scene.caught_up()
        if len(scene.sink.calls) <= moment:
            return
        assert scene.next_offset == 13
        scene.follower.abort()
        moment += 1

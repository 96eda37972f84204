"""Gain and loss of partitions in any order, and the path of a batch to its owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest

from agents.assignment import Assignment, AssignmentSettings
from agents.checkpointer import UNCOMMITTED_CELLS
from agents.follower import FollowerSettings
from agents.following import FollowSettings
from agents.opening import Sinks, UntoldError
from agents.room import Room
from agents.source import GroupAnswer, Place
from agents.takeover import RETRY_S
from domain.errors import DependencyError, FencedError, RecountError, RefusedError, SinkUnavailableError, TaintedError
from domain.record import Batch
from domain.rows import Kind, Role, Row, pack_cell, unpack_cell
from domain.spec import TableSpec
from tables.changelog import Bounds, ChangelogSettings
from tables.rocksdb import StoreDamagedError
from tests.unit.agents.clock import GIVE_UP_S, pass_time, until
from tests.unit.agents.fakes import (
    BATCH_BYTES,
    P0,
    P1,
    TOPIC,
    UNIQUE,
    VIEWS,
    FakeArchives,
    FakeListener,
    FakeLog,
    FakeOpening,
    FakeSource,
    FakeWriter,
    batch,
    counted,
)

NEVER_S = 1e9
REFUSAL = RefusedError("state of clicks-1 is lost", "why", "fix")


class Scene:
    """An assignment with fakes all around it."""

    def __init__(
        self,
        data_dir: Path,
        tables: Iterable[TableSpec] = (VIEWS,),
        *,
        archive: bool = False,
        archives: FakeArchives | None = None,
        interval_s: float = NEVER_S,
        follower: FollowerSettings | None = None,
        uncommitted: Room | None = None,
    ) -> None:
        self.source = FakeSource()
        self.listener = FakeListener()
        self.crashes: list[BaseException] = []
        settings = AssignmentSettings(
            "app",
            data_dir,
            ChangelogSettings("nowhere"),
            follow=FollowSettings({Role.ARCHIVE: follower or FollowerSettings()}),
            checkpoint_interval_s=interval_s,
            uncommitted=uncommitted or Room(UNCOMMITTED_CELLS),
        )
        specs = tuple(tables)
        self.assignment = Assignment(
            [TOPIC], specs, self.source, Sinks(archives), settings, self.listener, self.crashes.append
        )
        self.opening = FakeOpening(data_dir, specs, archive=archive)
        self.assignment._takeovers.opener = self.opening

    def writer(self, place: Place = P0) -> FakeWriter:
        return self.opening.writers[place]

    def log(self, place: Place = P0) -> FakeLog:
        return self.opening.logs[place]

    async def assign(self, *places: Place) -> None:
        """Until all of them are read; what that took of the source is forgotten."""
        self.assignment.assign(places)
        await until("them to be read", lambda: not self.assignment.waiting())
        self.source.did.clear()

    async def take(self, *batches: Batch) -> None:
        for one in batches:
            await self.assignment.take(one)

    def comings_and_goings(self, place: Place) -> list[str]:
        return [what for what in self.listener.of(place) if what in {"restoring", "dropped"}]

    def let_go(self) -> bool:
        """Nothing is held, nor shown as owned."""
        places = {place for _, place in self.listener.told}
        return not self.opening.held and all(self.comings_and_goings(one)[-1] == "dropped" for one in places)

    async def wait_told(self, what: str, count: int = 1) -> None:
        await until(what, lambda: self.listener.of(P0).count(what) >= count)

    async def wait_opening(self, place: Place = P0) -> None:
        await until(f"{place} to be opened", lambda: place in self.opening.waiting)


MakeScene = Callable[..., Scene]


@pytest.fixture
async def make_scene(state_dir: Path) -> AsyncIterator[MakeScene]:
    """At a test's end everything is given up, and then nothing may be held or shown as owned."""
    made: list[Scene] = []

    def make(*args: object, **options: object) -> Scene:
        made.append(Scene(state_dir / str(len(made)), *args, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for scene in made:
        if not all(isinstance(error, RecountError) for error in scene.crashes):
            continue  # a bug: the process ends
        await scene.assignment.close(1.0)
        await until("everything to be let go", scene.let_go)
        for place in {place for _, place in scene.listener.told}:
            said = scene.comings_and_goings(place)
            assert said.count("dropped") <= said.count("restoring"), "no double drop"


async def given_up(scene: Scene) -> None:
    await scene.assignment.revoke(5.0)
    assert scene.opening.held == set()
    assert scene.assignment.partitions() == {}


async def test_a_partition_that_may_be_lost_waits_and_the_others_are_counted(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.errors[P1] = [UntoldError("HBase: down")] * 4
    scene.assignment.assign([P0, P1])
    await until("the first to be read", lambda: ("resume", P0) in scene.source.did)
    assert scene.assignment.waiting() == [P1]
    assert scene.assignment.positions() == {P0: 0}, "what has no position is held"
    await scene.take(batch(0, "ab"), batch(7, "xyz", place=P1))
    assert scene.assignment.positions() == {P0: 2}, "not ours to count yet"
    assert ("resume", P1) not in scene.source.did
    await until("the other to be read", lambda: ("resume", P1) in scene.source.did)
    assert [step for step in scene.source.did if step[1] == P1] == [("seek", P1, 0), ("resume", P1)]
    assert scene.assignment.positions() == {P0: 2, P1: 0}
    assert scene.assignment.waiting() == []
    await given_up(scene)


async def test_a_partition_revoked_while_it_was_asked_about_is_not_waited_for(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.gates[P1] = asyncio.Event()
    scene.opening.errors[P1] = [UntoldError("HBase: down")]
    scene.assignment.assign([P1])
    await until("it to be asked about", lambda: P1 in scene.opening.waiting)
    await scene.assignment.revoke(5.0)
    scene.opening.gates.pop(P1).set()
    await scene.assign(P0)
    await pass_time(10 * RETRY_S)
    assert set(scene.assignment.partitions()) == set(scene.assignment.positions()) == {P0}
    assert scene.opening.asked.count(P1) == 1, "another worker counts it now"


async def test_a_source_that_does_not_seek_is_asked_again_and_nothing_is_read_before(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.source.seek_errors = [SinkUnavailableError("Kafka", "silent")] * 3
    scene.assignment.assign([P0])
    await until("it to be owned", lambda: P0 in scene.assignment.partitions())
    assert scene.assignment.waiting() == [P0]
    assert scene.assignment.being_read() == {}
    await until("it to be read", lambda: not scene.assignment.waiting())
    assert scene.source.did == [("seek", P0, 0), ("resume", P0)]
    assert scene.crashes == []


async def test_a_partition_lost_before_it_was_read_is_taken_over_again(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True)
    scene.source.seek_errors = [SinkUnavailableError("Kafka", "silent")]
    scene.assignment.assign([P0])
    await until("it to be owned", lambda: P0 in scene.assignment.partitions())
    scene.opening.sinks[P0].errors = {"write": [FencedError("taken for a dead owner's")]}
    await scene.take(batch(0, "ab"))  # Faust resumed it with its own seek
    await until("it to be read", lambda: not scene.assignment.waiting())
    assert scene.opening.asked == [P0, P0]
    assert scene.source.did[-2:] == [("seek", P0, 0), ("resume", P0)]
    await given_up(scene)


async def test_a_partition_that_waits_is_given_up_as_well(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.errors[P1] = [UntoldError("HBase: down")] * 1000
    scene.assignment.assign([P0, P1])
    await pass_time(10 * RETRY_S)
    await given_up(scene)
    assert scene.assignment.positions() == {}
    left = len(scene.opening.errors[P1])
    await pass_time(10 * RETRY_S)
    assert len(scene.opening.errors[P1]) == left, "nobody tries any more"


# -- the path of a batch ---------------------------------------------------------------------------


async def test_batches_are_folded_in_chain_order_and_stale_ones_dropped(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"), batch(2, "c"), batch(0, "ab"), batch(1, "bc"), batch(3, "d"))
    assert scene.assignment.positions() == {P0: 4}
    assert scene.listener.of(P0)[2:] == ["folded", "folded", "stale", "stale", "folded"]
    assert scene.source.did == [], "what a stale batch holds was folded: nothing to read again"
    await given_up(scene)
    assert counted(scene.log().rows) == dict.fromkeys("abcd", 1)


async def test_a_stale_batch_that_reaches_further_is_read_again_from_where_we_are(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"), batch(1, "bcd"))
    assert scene.source.did == [("seek", P0, 2)]
    assert scene.assignment.positions() == {P0: 2}
    await scene.take(batch(2, "cd"))
    await given_up(scene)
    assert counted(scene.log().rows) == dict.fromkeys("abcd", 1)


async def test_a_batch_of_a_partition_we_do_not_own_says_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab", place=P1))
    await given_up(scene)
    await scene.take(batch(0, "ab"))
    assert "folded" not in dict(scene.listener.told)
    assert scene.source.did == []


async def test_a_hole_is_read_again(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"), batch(4, "e"), batch(5, "f"))
    assert scene.source.did == [("seek", P0, 2), ("seek", P0, 2)]
    assert scene.listener.of(P0)[2:] == ["folded", "hole", "hole"]
    assert scene.assignment.positions() == {P0: 2}
    await scene.take(batch(2, "cd"), batch(4, "e"))
    assert scene.assignment.positions() == {P0: 5}


async def test_the_same_hole_twice_with_its_records_deleted_is_refused_with_the_way_on(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    scene.source.log = Bounds(7, 1000)
    await scene.take(batch(0, "ab"), batch(8, "i"))
    assert scene.source.did == [("seek", P0, 2)], "once may be a fetch thrown away"
    with pytest.raises(RefusedError) as refused:
        await scene.take(batch(8, "i"))
    assert "records 2 to 6 were deleted from the topic before they were counted" in refused.value.why
    assert "--accept-gap clicks-0:2-6" in refused.value.fix
    assert scene.assignment.positions() == {P0: 2}


@pytest.mark.parametrize("begin", [0, 2])
async def test_the_same_hole_twice_in_a_whole_log_is_read_again_and_again(make_scene: MakeScene, begin: int) -> None:
    scene = make_scene()
    await scene.assign(P0)
    scene.source.log = Bounds(begin, 1000)
    await scene.take(batch(0, "ab"), *(batch(4, "e") for _ in range(4)))
    assert scene.source.did == [("seek", P0, 2)] * 4


async def test_a_fold_between_two_equal_holes_makes_the_second_a_first(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    scene.source.log = Bounds(7, 1000)
    await scene.take(batch(0, "ab"), batch(8, "i"), batch(2, "c"), batch(8, "i"))
    assert scene.source.did == [("seek", P0, 2), ("seek", P0, 3)]


@pytest.mark.parametrize(
    ("before", "reading", "sought"),
    [
        ({P0: 2}, 3, True),
        ({P0: 2}, 2, False),  # waiting for records
        ({P0: 2}, None, False),
        ({P0: 1}, 3, False),  # moved since: the transport may hold what is between
        ({}, 3, False),
    ],
)
async def test_a_stall_is_healed_only_when_nothing_moved_and_reading_is_beyond(
    make_scene: MakeScene, before: dict[Place, int], reading: int | None, *, sought: bool
) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    if reading is not None:
        scene.source.positions[P0] = reading
    assert await scene.assignment._heal_stalls(before) == {P0: 2}
    assert scene.source.did == ([("seek", P0, 2)] if sought else [])
    assert scene.listener.of(P0).count("hole") == sought


async def test_tending_heals_a_stall_and_tells_lag_tools_where_we_are(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    tending = asyncio.create_task(scene.assignment.tend_forever())
    await scene.take(batch(0, "ab"))
    scene.source.positions[P0] = 5
    await until("the stall to be healed", lambda: scene.source.did)
    assert scene.source.did[0] == ("seek", P0, 2)
    assert scene.source.group_offsets == {P0: 2}
    tending.cancel()
    await asyncio.wait([tending])


# -- gain ------------------------------------------------------------------------------------------


async def test_partitions_are_taken_over_in_parallel_and_each_counts_once_restored(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.gates = {P0: asyncio.Event(), P1: asyncio.Event()}
    scene.assignment.assign([P0, P1])
    await scene.wait_opening(P0)
    await scene.wait_opening(P1)
    assert scene.assignment.partitions() == {}
    scene.opening.gates[P1].set()
    await until("the second to be owned", lambda: P1 in scene.assignment.partitions())
    await scene.take(batch(0, "a", place=P1), batch(0, "a"))
    assert scene.assignment.positions() == {P1: 1}
    assert scene.assignment.waiting() == [P0]
    scene.opening.gates[P0].set()
    await until("the first to be read", lambda: not scene.assignment.waiting())
    assert scene.assignment.positions() == {P0: 0, P1: 1}


@pytest.mark.parametrize("error", [SinkUnavailableError("Kafka", "silent"), TaintedError("?"), OSError("refused")])
async def test_an_unknown_outcome_or_a_silent_broker_is_tried_again(make_scene: MakeScene, error: Exception) -> None:
    scene = make_scene()
    scene.opening.errors = {P0: [error, error]}
    await scene.assign(P0)
    assert scene.opening.asked == [P0] * 3
    assert scene.assignment.positions() == {P0: 0}
    assert scene.crashes == []
    assert scene.listener.of(P0)[-1] == "owned"


async def test_a_broker_that_falls_silent_once_we_have_fenced_is_tried_again(make_scene: MakeScene) -> None:
    scene = make_scene()
    # What ChangelogReader raises when it can't connect.
    scene.opening.errors = {P0: [DependencyError("Kafka", "silent", "check kafka.bootstrap_servers")]}
    await scene.assign(P0)
    assert scene.crashes == []
    assert scene.assignment.positions() == {P0: 0}


async def test_a_partition_owned_already_is_not_taken_over_again(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    await scene.assign(P0)
    assert scene.opening.asked == [P0]
    assert scene.assignment.positions() == {P0: 2}


async def test_a_cancelled_restore_is_told_as_dropped_and_leaves_nothing_held(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.gates[P0] = asyncio.Event()
    scene.assignment.assign([P0])
    await scene.wait_opening()
    await scene.assignment.revoke(5.0)
    await until("it to be let go", scene.let_go)
    assert scene.listener.of(P0) == ["restoring", "dropped"]
    assert scene.assignment.partitions() == {}
    scene.opening.gates.clear()
    await scene.assign(P0)
    assert scene.assignment.positions() == {P0: 0}


async def test_a_cancelled_restore_gives_way_to_its_successor_in_order(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.gates[P0] = asyncio.Event()
    scene.assignment.assign([P0])
    await scene.wait_opening()
    scene.opening.release_gate = asyncio.Event()
    await scene.assignment.revoke(5.0)
    scene.assignment.assign([P0])
    await pass_time(5)
    assert scene.opening.asked == [P0], "one opening at a time: the later one fences the earlier"
    scene.opening.gates.clear()
    scene.opening.release_gate.set()
    await until("its successor to be read", lambda: not scene.assignment.waiting())
    assert scene.listener.of(P0) == ["restoring", "dropped", "restoring", "owned"]
    assert scene.assignment.positions() == {P0: 0}


async def test_a_restore_that_outlasts_a_revoke_is_given_back(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.gates[P0] = asyncio.Event()
    scene.opening.deaf = True
    scene.assignment.assign([P0])
    await scene.wait_opening()
    await scene.assignment.revoke(5.0)
    scene.opening.gates[P0].set()
    await until("it to be let go", lambda: "dropped" in scene.listener.of(P0))
    assert scene.opening.held == set()
    assert scene.assignment.partitions() == {}
    assert scene.listener.of(P0) == ["restoring", "dropped"]
    assert scene.source.did == []


async def test_one_refusal_ends_the_worker_in_its_words(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.errors = {P1: [REFUSAL]}
    scene.assignment.assign([P0, P1])
    await until("the crash", lambda: scene.crashes)
    assert scene.crashes == [REFUSAL]
    assert scene.listener.of(P1) == ["restoring", "dropped"]
    await until("the other to be read", lambda: not scene.assignment.waiting())
    assert scene.assignment.positions() == {P0: 0}, "the other makes a last checkpoint when the process ends"


async def test_a_bug_in_a_takeover_ends_the_worker(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.errors = {P0: [ValueError("bug")]}
    scene.assignment.assign([P0])
    await until("the crash", lambda: scene.crashes)
    assert isinstance(scene.crashes[0], ValueError)


async def test_assign_after_close_does_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.assignment.close(5.0)
    await scene.assign(P0, P1)
    assert scene.opening.asked == [P0]
    assert scene.assignment.partitions() == {}


# -- loss ------------------------------------------------------------------------------------------


async def test_a_revoke_makes_a_last_checkpoint_and_the_next_owner_goes_on(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0, P1)
    await scene.take(batch(0, "ab"), batch(0, "a", place=P1))
    assert scene.log().rows == []
    await given_up(scene)
    assert counted(scene.log().rows) == {"a": 1, "b": 1}
    assert scene.source.group_offsets == {P0: 2, P1: 1}
    assert scene.listener.of(P0)[-2:] == ["committed", "dropped"]
    await scene.assign(P0)
    assert scene.assignment.positions() == {P0: 2}
    await scene.take(batch(2, "a"))
    await given_up(scene)
    assert counted(scene.log().rows) == {"a": 2, "b": 1}


async def test_a_revoke_makes_the_archive_durable_and_commits_its_progress(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True)
    await scene.assign(P0)
    await scene.take(batch(0, "ab"), batch(2, "c"))
    await given_up(scene)
    assert scene.opening.sinks[P0].calls == [("write", 0), ("write", 2), ("close", 3)]
    archive = scene.log().archive()
    assert archive is not None
    assert archive.next_offset == 3


async def test_progress_of_the_archive_waits_for_its_sync(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True, interval_s=1.0, follower=FollowerSettings(sync_interval_s=100.0))
    await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    await scene.wait_told("committed")
    archive = scene.log().archive()
    assert archive is None or archive.next_offset == 0
    await scene.wait_told("archived")
    await until("the archive's progress", lambda: (one := scene.log().archive()) and one.next_offset == 2)


async def test_progress_of_the_archive_is_what_its_sync_covered(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True, interval_s=1.0)
    await scene.assign(P0)

    def sync(close_before_ms: int | None) -> int:
        return 1

    scene.opening.sinks[P0].sync = sync  # type: ignore[method-assign]
    await scene.take(batch(0, "ab"))
    await scene.wait_told("archived")
    await scene.wait_told("committed", 2)
    archive = scene.log().archive()
    assert archive is not None
    assert archive.next_offset == 1


async def test_a_revoke_over_its_budget_drops_without_a_last_checkpoint(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    scene.writer().gate = asyncio.Event()
    began = asyncio.get_running_loop().time()
    await given_up(scene)
    assert 5 <= asyncio.get_running_loop().time() - began < 6
    assert scene.log().rows == []
    assert scene.listener.of(P0)[-1] == "dropped"
    await scene.assign(P0)
    assert scene.assignment.positions() == {P0: 0}


async def test_an_archive_that_hangs_does_not_cost_the_last_checkpoint(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True)
    await scene.assign(P0)
    sink = scene.opening.sinks[P0]
    sink.blocked = "write"
    await scene.take(batch(0, "ab"))
    await until("the sink's thread to hang", sink.entered.is_set)
    try:
        await scene.assignment.revoke(0.2)
        assert scene.opening.held == set()
    finally:
        sink.released.set()
    assert counted(scene.log().rows) == {"a": 1, "b": 1}
    await until("the abort", lambda: "abort" in dict(sink.calls))


async def test_the_last_checkpoint_builds_on_the_one_in_flight(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    scene.writer().gate = gate = asyncio.Event()
    await scene.take(batch(0, "ab"))
    await until("a commit in flight", lambda: scene.writer().begun)
    await scene.take(batch(2, "ac"))
    revoking = asyncio.create_task(scene.assignment.revoke(5.0))
    await asyncio.wait([revoking], timeout=1)
    assert scene.writer().begun == 1
    gate.set()
    await revoking
    assert counted(scene.log().rows) == {"a": 2, "b": 1, "c": 1}


async def test_a_batch_that_comes_during_a_revoke_is_not_folded(make_scene: MakeScene) -> None:
    scene = make_scene()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    scene.writer().gate = gate = asyncio.Event()
    revoking = asyncio.create_task(scene.assignment.revoke(5.0))
    await until("the last commit", lambda: scene.writer().begun)
    await scene.take(batch(2, "c"))
    gate.set()
    await revoking
    assert scene.listener.of(P0).count("folded") == 1
    assert counted(scene.log().rows) == {"a": 1, "b": 1}


async def test_a_full_archive_backlog_pauses_intake_until_half_of_it_is_written(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True, follower=FollowerSettings(backlog=Room(BATCH_BYTES)))
    await scene.assign(P0)
    scene.opening.sinks[P0].down = True
    await scene.take(batch(0, "ab"), batch(2, "c"), batch(3, "d"))
    assert scene.source.did == [("pause", P0)]
    await scene.wait_told("sink_failed")
    scene.opening.sinks[P0].down = False
    await until("intake to go on", lambda: len(scene.source.did) == 2)
    assert scene.source.did[1] == ("resume", P0)


async def test_commits_that_hang_pause_intake_and_that_is_no_stuck_partition(make_scene: MakeScene) -> None:
    scene = make_scene(uncommitted=Room(2))
    await scene.assign(P0)
    scene.writer().gate = gate = asyncio.Event()
    await scene.take(batch(0, "abc"))
    assert scene.source.did == [("pause", P0)]
    assert scene.assignment.being_read() == {}
    assert scene.listener.of(P0)[-1] == "crowded"
    gate.set()
    await until("intake to go on", lambda: len(scene.source.did) == 2)
    assert scene.source.did[1] == ("resume", P0)
    assert scene.assignment.being_read() == {P0: 3}
    await given_up(scene)


async def test_what_was_fetched_before_a_pause_for_want_of_room_is_read_again(make_scene: MakeScene) -> None:
    scene = make_scene(uncommitted=Room(2))
    await scene.assign(P0)
    scene.writer().gate = gate = asyncio.Event()
    await scene.take(batch(0, "abc"), batch(3, "d"), batch(4, "e"))
    assert scene.assignment.partitions()[P0].dirty_cells() == 3, "no more than before the pause"
    scene.source.positions[P0] = 5
    before = await scene.assignment._heal_stalls({})
    assert await scene.assignment._heal_stalls(before) == {}
    assert scene.source.did == [("pause", P0)], "it doesn't stand still for a hole"
    gate.set()
    await until("intake to go on", lambda: len(scene.source.did) == 3)
    assert scene.source.did[1:] == [("seek", P0, 3), ("resume", P0)]
    assert "hole" not in scene.listener.of(P0)
    await scene.take(batch(3, "d"), batch(4, "e"))
    await given_up(scene)
    assert counted(scene.log().rows) == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}


async def test_a_bug_in_the_archives_sink_ends_the_worker(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True)
    await scene.assign(P0)
    bug = ValueError("bug")
    scene.opening.sinks[P0].errors = {"write": [bug]}
    await scene.take(batch(0, "ab"))
    await until("the crash", lambda: scene.crashes)
    assert scene.crashes == [bug]


async def test_a_fenced_archive_sink_begins_again_where_it_was_durable(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True)
    await scene.assign(P0)
    scene.opening.sinks[P0].errors = {"write": [FencedError("its open file was taken for a dead owner's")]}
    await scene.take(batch(0, "ab"))
    await until("reading to go on", lambda: ("resume", P0) in scene.source.did)
    assert scene.source.did == [("pause", P0), ("seek", P0, 0), ("resume", P0)]
    await scene.take(batch(0, "ab"))
    await given_up(scene)
    assert scene.opening.sinks[P0].calls == [("write", 0), ("close", 2)]
    assert counted(scene.log().rows) == {"a": 1, "b": 1}
    assert scene.crashes == []


async def test_what_dead_owners_left_in_the_archive_is_recovered_until_it_is_done(make_scene: MakeScene) -> None:
    archives = FakeArchives(False, SinkUnavailableError("HDFS", "down"), False, True)
    scene = make_scene(archive=True, archives=archives)
    await scene.assign(P0)
    await until("the recovery", lambda: archives.asked == 4)
    await pass_time(100)
    assert archives.asked == 4
    assert scene.listener.of(P0).count("sink_failed") == 1
    assert scene.crashes == []


# -- failed commits --------------------------------------------------------------------------------


async def test_a_failed_commit_drops_takes_over_seeks_and_goes_on(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    scene.opening.gates[P0] = gate = asyncio.Event()
    gate.set()
    await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    await scene.wait_told("committed")
    gate.clear()
    scene.opening.waiting.clear()
    scene.writer().errors = [TaintedError("outcome unknown")]
    await scene.take(batch(2, "cd"))
    await scene.wait_opening()
    assert scene.source.did == [("pause", P0)], "no reading before there is an owner"
    await scene.take(batch(4, "e"))
    gate.set()
    await until("reading to go on", lambda: ("resume", P0) in scene.source.did)
    assert scene.source.did == [("pause", P0), ("seek", P0, 2), ("resume", P0)]
    said = ["restoring", "owned", "folded", "committed", "folded", "commit_failed", "dropped", "restoring", "owned"]
    assert scene.listener.of(P0) == said
    await scene.take(batch(2, "cd"))
    await given_up(scene)
    assert counted(scene.log().rows) == dict.fromkeys("abcd", 1)
    assert scene.crashes == []


async def test_a_failed_commit_of_one_partition_leaves_the_others_alone(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0, P1)
    scene.writer().errors = [TaintedError("outcome unknown")]
    await scene.take(batch(0, "ab"), batch(0, "a", place=P1))
    await until("reading to go on", lambda: ("resume", P0) in scene.source.did)
    assert scene.assignment.positions() == {P0: 0, P1: 1}
    assert [step[1] for step in scene.source.did] == [P0] * 3
    assert scene.opening.asked.count(P1) == 1


async def test_a_refusal_after_a_failed_commit_ends_the_worker(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    scene.opening.errors = {P0: [REFUSAL]}
    scene.writer().errors = [TaintedError("outcome unknown")]
    await scene.take(batch(0, "ab"))
    await until("the crash", lambda: scene.crashes)
    assert scene.crashes == [REFUSAL]
    assert scene.source.did == [("pause", P0)]


async def test_a_revoke_cancels_the_takeover_after_a_failed_commit(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    scene.opening.gates[P0] = gate = asyncio.Event()
    gate.set()
    await scene.assign(P0)
    gate.clear()
    scene.opening.waiting.clear()
    scene.writer().errors = [TaintedError("outcome unknown")]
    await scene.take(batch(0, "ab"))
    await scene.wait_opening()
    await scene.assignment.revoke(5.0)
    await until("the takeover to be let go", lambda: not scene.opening.held)
    gate.set()
    await pass_time(100)
    assert scene.assignment.partitions() == {}
    assert scene.listener.of(P0)[-4:] == ["commit_failed", "dropped", "restoring", "dropped"]
    async with asyncio.timeout(GIVE_UP_S):
        await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    await given_up(scene)
    assert counted(scene.log().rows) == {"a": 1, "b": 1}
    assert ("resume", P0) not in scene.source.did, "the assignment resumes it"
    assert scene.crashes == []


async def test_a_revoke_while_dropping_lets_it_end_and_a_later_assign_waits_for_it(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    writer = scene.writer()
    writer.close_gate = asyncio.Event()
    writer.errors = [TaintedError("outcome unknown")]
    await scene.take(batch(0, "ab"))
    await until("the drop", lambda: writer.closing)
    await scene.assignment.revoke(5.0)
    scene.assignment.assign([P0])
    await pass_time(100)
    assert scene.opening.asked == [P0], "its directory and connections are still held"
    assert scene.assignment.waiting() == [P0]
    writer.close_gate.set()
    await until("it to be read", lambda: not scene.assignment.waiting())
    assert scene.assignment.positions() == {P0: 0}
    assert scene.listener.of(P0).count("dropped") == 1
    assert scene.crashes == []


async def test_the_drop_of_one_owner_is_told_before_the_restore_of_the_next(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    writer = scene.writer()
    writer.close_gate = asyncio.Event()
    writer.errors = [TaintedError("outcome unknown")]
    await scene.take(batch(0, "ab"))
    await until("the drop", lambda: writer.closing)
    await scene.assignment.revoke(5.0)
    scene.assignment.assign([P0])
    await pass_time(1)
    writer.close_gate.set()
    await until("it to be read", lambda: not scene.assignment.waiting())
    # Whoever shows states takes `dropped` for the end of a restore.
    assert scene.listener.of(P0)[-3:] == ["dropped", "restoring", "owned"]


# -- the group is asked before a partition is initialised again ------------------------------------

AWAY = SinkUnavailableError("Kafka", "no answer")
NOT_OURS = [GroupAnswer.REBALANCING, GroupAnswer.UNKNOWN]


async def fail(scene: Scene, how: str) -> None:
    """Own P0, fold two records, and lose the commit: to somebody who initialised, or to an unknown outcome."""
    await scene.assign(P0)
    assert scene.source.asked == 0, "the group has just given it to us"
    if how == "fenced":
        scene.log().epoch += 1
    else:
        scene.writer().errors = [TaintedError("outcome unknown")]
    await scene.take(batch(0, "ab"))
    await scene.wait_told("dropped")


@pytest.mark.parametrize("how", ["fenced", "tainted"])
async def test_the_owner_that_the_group_accepts_initialises_again_and_counts_on(
    make_scene: MakeScene, how: str
) -> None:
    scene = make_scene(interval_s=1.0)
    await fail(scene, how)
    assert isinstance(scene.listener.failures[0], FencedError if how == "fenced" else TaintedError)
    await until("reading to go on", lambda: ("resume", P0) in scene.source.did)
    assert scene.source.asked == 1
    assert scene.source.did == [("pause", P0), ("seek", P0, 0), ("resume", P0)]
    await scene.take(batch(0, "ab"))
    await given_up(scene)
    assert counted(scene.log().rows) == {"a": 1, "b": 1}
    assert scene.crashes == []


@pytest.mark.parametrize("answer", NOT_OURS)
@pytest.mark.parametrize("how", ["fenced", "tainted"])
async def test_what_the_group_does_not_accept_is_not_initialised_and_ends_the_worker(
    make_scene: MakeScene, how: str, answer: GroupAnswer
) -> None:
    scene = make_scene(interval_s=1.0)
    scene.source.answers = [answer]  # and would accept later: what a membership has lost stays lost
    began = asyncio.get_running_loop().time()
    await fail(scene, how)
    await pass_time(25)
    assert scene.opening.asked == [P0]
    assert scene.assignment.partitions() == {}
    assert scene.crashes == []
    assert scene.log().rows == []
    await until("the end of our patience", lambda: scene.crashes)
    assert isinstance(scene.crashes[0], FencedError)
    assert f"answers {answer.value}, and no rebalance took it from us" in str(scene.crashes[0])
    assert 30 <= asyncio.get_running_loop().time() - began < 40
    assert scene.opening.asked == [P0]
    assert scene.source.asked == 1


@pytest.mark.parametrize("answer", NOT_OURS)
@pytest.mark.parametrize("how", ["fenced", "tainted"])
async def test_a_rebalance_explains_it(make_scene: MakeScene, how: str, answer: GroupAnswer) -> None:
    scene = make_scene(interval_s=1.0)
    scene.source.answers = [answer]
    await fail(scene, how)
    await scene.assignment.revoke(5.0)
    await pass_time(1000)
    assert scene.crashes == []
    assert scene.opening.asked == [P0]
    await scene.assign(P0)
    assert scene.assignment.positions() == {P0: 0}


@pytest.mark.parametrize("how", ["fenced", "tainted"])
async def test_a_replaced_instance_ends_at_once(make_scene: MakeScene, how: str) -> None:
    scene = make_scene(interval_s=1.0)
    scene.source.answers = [GroupAnswer.REPLACED]
    await fail(scene, how)
    began = asyncio.get_running_loop().time()
    await until("the end", lambda: scene.crashes)
    assert "another worker has joined the group under our app.instance" in str(scene.crashes[0])
    assert asyncio.get_running_loop().time() - began < 1
    assert scene.opening.asked == [P0]


async def test_no_answer_is_asked_again_and_never_taken_for_a_yes(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    scene.source.answers = [AWAY] * 20
    await fail(scene, "fenced")
    await pass_time(100)
    assert 8 < scene.source.asked < 20, "it is asked at growing intervals"
    assert scene.opening.asked == [P0]
    assert scene.crashes == [], "the broker is away, not the partition"
    await until("reading to go on", lambda: ("resume", P0) in scene.source.did)
    assert scene.source.asked == 21


async def test_an_answer_that_comes_after_the_assignment_is_over_says_nothing(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    scene.source.gate = gate = asyncio.Event()
    await fail(scene, "fenced")
    await until("the question", lambda: scene.source.asked)
    await scene.assignment.revoke(5.0)
    gate.set()
    await pass_time(100)
    assert scene.opening.asked == [P0]


async def test_each_try_after_the_first_asks_whether_it_is_still_ours(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.opening.errors[P0] = [TaintedError("no answer"), FencedError("initialised after us")]
    async with asyncio.timeout(GIVE_UP_S):
        await scene.assign(P0)
    assert scene.opening.asked == [P0] * 3
    assert scene.source.asked == 2


@pytest.mark.parametrize("answer", [GroupAnswer.UNKNOWN, GroupAnswer.ACCEPTED])
async def test_a_try_that_outlives_its_assignment_initialises_nothing(
    make_scene: MakeScene, answer: GroupAnswer
) -> None:
    scene = make_scene()
    scene.opening.errors[P0] = [TaintedError("no answer")]
    scene.source.answers = [answer]
    scene.source.gate = gate = asyncio.Event()
    scene.assignment.assign([P0])
    await until("the question", lambda: scene.source.asked)
    if answer is GroupAnswer.UNKNOWN:
        gate.set()
    await pass_time(5)
    await scene.assignment.revoke(5.0)
    gate.set()
    await pass_time(5)
    assert scene.opening.asked == [P0], "somebody else counts it by now"
    assert scene.crashes == []


async def test_a_failure_during_a_revoke_is_the_revokes_and_drops_once(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    scene.writer().gate = gate = asyncio.Event()
    scene.writer().errors = [TaintedError("outcome unknown")]
    await scene.take(batch(0, "ab"))
    await until("a commit in flight", lambda: scene.writer().begun)
    await scene.take(batch(2, "c"))
    revoking = asyncio.create_task(scene.assignment.revoke(5.0))
    await asyncio.wait([revoking], timeout=1)
    gate.set()
    await revoking
    assert scene.log().rows == [], "the cut that failed is lost: nothing after it may be committed"
    assert scene.listener.of(P0).count("dropped") == 1
    assert scene.opening.asked == [P0]
    assert scene.crashes == []


# -- a crash and the last checkpoint ----------------------------------------------------------------


async def test_a_bug_in_one_partition_keeps_nobody_from_letting_go(make_scene: MakeScene) -> None:
    scene = make_scene(archive=True)
    await scene.assign(P0, P1)
    scene.opening.sinks[P0].errors = {"write": [ValueError("bug")]}
    scene.writer(P1).gate = gate = asyncio.Event()
    await scene.take(batch(0, "ab"), batch(0, "c", place=P1))
    await until("the crash", lambda: scene.crashes)
    closing = asyncio.create_task(scene.assignment.close(5.0))
    await until("the last commit of the other", lambda: scene.writer(P1).begun)
    await asyncio.wait([closing], timeout=1)
    waited = not closing.done()
    gate.set()
    await asyncio.wait([closing])
    closing.exception()  # whether it is told once more is not the point
    assert waited, "the worker leaves the group next: this one's last checkpoint would be lost"
    assert scene.opening.held == set()
    assert counted(scene.log(P1).rows) == {"c": 1}


@pytest.mark.parametrize("failing", ["failing_reads", "failing_commits"])
async def test_a_store_that_fails_the_last_checkpoint_keeps_nobody_from_letting_go(
    make_scene: MakeScene, failing: str
) -> None:
    scene = make_scene()
    await scene.assign(P0, P1)
    await scene.take(batch(0, "ab"), batch(0, "c", place=P1))
    setattr(scene.opening.stores[P0], failing, 1)
    scene.writer(P1).gate = gate = asyncio.Event()
    revoking = asyncio.create_task(scene.assignment.revoke(5.0))
    await until("the last commit of the other", lambda: scene.writer(P1).begun)
    await asyncio.wait([revoking], timeout=1)
    waited = not revoking.done()
    gate.set()
    await asyncio.wait([revoking])
    revoking.exception()  # raised or told: it ends the worker either way
    assert waited, "the other's last checkpoint would be lost"
    assert scene.opening.held == set()


async def close_after(scene: Scene) -> None:
    """As the worker does once `crash` was called."""
    try:
        await scene.assignment.close(5.0)
    except OSError:
        return  # told and gone on: app.supervisor


def assert_counts_are_what_progress_says(scene: Scene) -> None:
    state = scene.log().state()
    if state is not None:
        assert sum(counted(scene.log().rows).values()) == state.tallies.get("on_time", 0) + state.tallies.get("late", 0)


async def test_after_rows_that_could_not_be_made_no_last_checkpoint_claims_them(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    scene.opening.stores[P0].failing_reads = 1
    await scene.take(batch(0, "ab"))
    await until("the crash", lambda: scene.crashes)
    assert isinstance(scene.crashes[0], OSError)
    await close_after(scene)
    assert_counts_are_what_progress_says(scene)


async def test_after_a_store_that_took_no_rows_no_last_checkpoint_builds_on_it(make_scene: MakeScene) -> None:
    scene = make_scene(interval_s=1.0)
    await scene.assign(P0)
    scene.opening.stores[P0].failing_commits = 1
    scene.writer().gate = gate = asyncio.Event()
    await scene.take(batch(0, "ab"))
    await until("a commit in flight", lambda: scene.writer().begun)
    await scene.take(batch(2, "ab"))
    gate.set()
    await until("the crash", lambda: scene.crashes)
    assert counted(scene.log().rows) == {"a": 1, "b": 1}, "committed: the changelog is the truth"
    await close_after(scene)
    assert_counts_are_what_progress_says(scene)


async def test_after_a_fold_that_failed_half_way_no_last_checkpoint_keeps_the_half(make_scene: MakeScene) -> None:
    scene = make_scene((UNIQUE,))
    await scene.assign(P0)
    scene.opening.stores[P0].failing_reads = 1
    hours = batch(0, "ab", step_ms=3_600_000)
    with pytest.raises(OSError, match="Input/output"):
        await scene.take(hours)
    await close_after(scene)
    again = make_scene((UNIQUE,))
    again.opening.logs = scene.opening.logs
    await again.assign(P0)
    await again.take(hours)
    await again.assignment.revoke(5.0)
    state = again.log().state("unique")
    assert state is not None
    assert state.tallies == {"on_time": 2}, "folded again from the start, as if for the first time"


# -- cells against certificates ------------------------------------------------------------------------


async def wrong_state(scene: Scene) -> list[Row]:
    """Count something, give it up, and make the changelog say what was never counted; returns what is right."""
    await scene.assign(P0)
    await scene.take(batch(0, "ab"))
    await given_up(scene)
    right = list(scene.log().rows)
    scene.log().rows += wrong(scene)
    scene.listener.checks.clear()
    return right


def wrong(scene: Scene) -> list[Row]:
    key, value = next((key, value) for key, value in reversed(scene.log().rows) if key[1:2] == Kind.CELL.value)
    assert value is not None
    cell = unpack_cell(value)
    return [(key, pack_cell(cell.on_time + 5, cell.late, cell.offset))]


async def test_cells_that_do_not_add_up_are_restored_once(make_scene: MakeScene) -> None:
    scene = make_scene()
    right = await wrong_state(scene)
    scene.opening.gates[P0] = gate = asyncio.Event()
    scene.assignment.assign([P0])
    await scene.wait_opening()
    scene.opening.waiting.clear()
    gate.set()
    gate.clear()  # the next one waits again
    await until("the mismatch", lambda: scene.listener.checks == [(P0, True)])
    await scene.wait_opening()
    assert list(scene.opening.stores[P0].scan(b"")) == [], "the directory starts afresh, whoever opens it next"
    scene.log().rows = right
    gate.set()
    await until("it to add up", lambda: scene.listener.checks == [(P0, True), (P0, False)])
    assert scene.assignment.positions() == {P0: 2}
    assert ("commit_failed", P0) not in scene.listener.told
    await scene.take(batch(2, "a"))
    await given_up(scene)
    assert counted(scene.log().rows) == {"a": 2, "b": 1}
    # Another time is a first one again.
    scene.log().rows += wrong(scene)
    scene.assignment.assign([P0])
    await until("the next mismatch", lambda: scene.listener.checks[2:] == [(P0, True)])
    assert scene.crashes == []


async def test_cells_that_come_wrong_out_of_the_changelog_are_refused(make_scene: MakeScene) -> None:
    scene = make_scene()
    await wrong_state(scene)
    scene.assignment.assign([P0])
    await until("the crash", lambda: scene.crashes)
    (error,) = scene.crashes
    assert isinstance(error, RefusedError)
    assert "state of clicks-0: table views, window 2023-11-14T22:13:20Z: its cells say 7 on time" in str(error)
    assert "recount reset --table views" in error.fix
    assert scene.listener.checks == [(P0, True), (P0, True)]
    assert scene.opening.asked.count(P0) == 3


async def test_rows_that_can_not_be_read_cost_a_restore(make_scene: MakeScene) -> None:
    scene = make_scene((UNIQUE,))
    await scene.assign(P0)
    store = scene.opening.stores[P0]
    store.failing_reads, store.failure = 1, StoreDamagedError("Corruption")
    await scene.take(batch(0, "ab"))
    await until("it to be read again", lambda: scene.opening.asked == [P0, P0] and not scene.assignment.waiting())
    await scene.take(batch(0, "ab"))
    await given_up(scene)
    assert counted(scene.log().rows, "unique") == {"a": 1, "b": 1}
    assert scene.crashes == []


# -- what should be read -----------------------------------------------------------------------------


async def test_partitions_should_move_once_they_are_read_and_while_they_are_not_paused(
    make_scene: MakeScene,
) -> None:
    scene = make_scene(archive=True, follower=FollowerSettings(backlog=Room(BATCH_BYTES)))
    scene.opening.gates[P1] = asyncio.Event()
    scene.assignment.assign([P0, P1])
    await until("the other to be read", lambda: scene.assignment.waiting() == [P1])
    assert scene.assignment.being_read() == {P0: 0}
    scene.opening.gates.pop(P1).set()
    await until("both to be read", lambda: not scene.assignment.waiting())
    assert scene.assignment.being_read() == {P0: 0, P1: 0}
    scene.source.did.clear()
    scene.opening.sinks[P0].down = True
    await scene.take(batch(0, "ab"), batch(2, "c"))
    assert scene.source.did == [("pause", P0)]
    assert scene.assignment.being_read() == {P1: 0}
    scene.opening.sinks[P0].down = False
    await given_up(scene)
    assert scene.assignment.being_read() == {}

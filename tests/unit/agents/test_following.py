"""A partition's followers together: what reaches them, what they hold up, what they leave behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from agents.checkpointer import Checkpointer, Committed
from agents.counts import Backlog, CountsSettings
from agents.follower import FollowerSettings
from agents.following import Followers, FollowSettings, Putters
from agents.hop import Hop
from agents.partition import Followed, Partition, TableFold, first_progress
from agents.room import Room
from domain.progress import CountsProgress, FollowerProgress
from domain.rows import Role
from tests.cell_sinks import FakeRoom
from tests.unit.agents.clock import until
from tests.unit.agents.fakes import (
    BATCH_BYTES,
    P0,
    STATE_ID,
    TOPIC,
    VIEWS,
    FakeListener,
    FakeLog,
    FakeSink,
    FakeSource,
    FakeWriter,
    batch,
    open_store,
)

INTERVAL_S = 1.0


class Scene:
    """One partition with an archive, an events sink and counts."""

    def __init__(self, path: Path) -> None:
        self.store = open_store(path)
        fold = TableFold.resume(VIEWS, first_progress(TOPIC, VIEWS, STATE_ID, 0, []), None)
        followed = [
            Followed.resume(role, FollowerProgress(state_id=STATE_ID, start=0, next_offset=0))
            for role in (Role.ARCHIVE, Role.EVENTS)
        ]
        counts = [Followed.resume(Role.COUNTS, CountsProgress(state_id=STATE_ID, start=0, next_offset=0), "views")]
        self.partition = Partition(TOPIC, 0, self.store, STATE_ID, [fold], followed, counts)
        self.store.commit(self.partition.first_cut().progress_rows())
        self.sinks = {role: FakeSink() for role in (Role.ARCHIVE, Role.EVENTS)}
        self.room = FakeRoom()
        self.source, self.listener = FakeSource(), FakeListener()
        self.putters = Putters(threads=2)
        roles = (Role.ARCHIVE, Role.EVENTS)
        logs = {role: FollowerSettings(INTERVAL_S, backlog=Room(BATCH_BYTES)) for role in roles}
        self.followers = Followers(
            self.partition,
            self.sinks,
            {"views": self.room.sink()},
            FollowSettings(logs, CountsSettings(INTERVAL_S)),
            Backlog(1000),
            self.putters,
            self.source,
            self.listener,
        )
        self.ended: list[asyncio.Task[None]] = []
        self.followers.start(lambda _, task: self.ended.append(task))

        def committed(_: Partition, done: Committed) -> None:
            self.followers.committed(done)

        writer = FakeWriter(FakeLog())
        self.checkpointer = Checkpointer(self.partition, writer, 1e9, committed, lambda *_: None)

    def fold(self, keys: str) -> None:
        self.followers.offer(self.partition.fold(batch(self.partition.next_offset, keys)))

    def intake(self) -> list[str]:
        return [did[0] for did in self.source.did]

    def reached(self) -> dict[str, int]:
        logs = {role.value: one.next_offset for role, one in self.partition.logs.items()}
        return logs | {"counts": self.partition.counts["views"].next_offset}


@pytest.fixture
async def scene(state_dir: Path) -> AsyncIterator[Scene]:
    made = Scene(state_dir)
    yield made
    made.followers.abort()
    made.putters.executor.shutdown()
    made.store.close()


async def test_records_reach_every_log_and_commits_the_counts(scene: Scene) -> None:
    scene.fold("aab")
    await until("the logs", lambda: scene.reached() == {"archive": 3, "events": 3, "counts": 0})
    await scene.checkpointer.checkpoint()
    await until("the counts", lambda: scene.reached()["counts"] == 3)
    assert sorted(scene.room.shown().cells.values()) == [(1, 0), (2, 0)]
    assert {"archived", "events", "counts_put"} <= set(scene.listener.of(P0))


async def test_intake_pauses_while_any_log_is_full_and_goes_on_when_none_is(scene: Scene) -> None:
    for sink in scene.sinks.values():
        sink.down = True
    for _ in range(3):
        scene.fold("abc")
    assert scene.intake() == ["pause"], "once, for two"
    scene.sinks[Role.ARCHIVE].down = False
    await until("the archive", lambda: scene.reached()["archive"] == 9)
    assert scene.intake() == ["pause"], "the other is still full"
    scene.sinks[Role.EVENTS].down = False
    await until("the events", lambda: scene.reached()["events"] == 9)
    assert scene.intake() == ["pause", "resume"]


async def test_what_is_left_at_the_end_is_put_and_its_progress_committed(scene: Scene) -> None:
    scene.fold("ab")
    await scene.followers.close_logs(3.0)
    await scene.checkpointer.checkpoint()
    await scene.followers.close_counts(3.0)
    await scene.checkpointer.checkpoint()
    assert scene.reached() == {"archive": 2, "events": 2, "counts": 2}
    followed = [*scene.partition.logs.values(), *scene.partition.counts.values()]
    assert all(one.committed == one.durable for one in followed)


async def test_a_follower_that_ends_is_told(scene: Scene) -> None:
    scene.sinks[Role.EVENTS].errors = {"write": [ZeroDivisionError()]}
    scene.fold("a")
    await until("its end", lambda: scene.ended)
    assert isinstance(scene.ended[0].exception(), ZeroDivisionError)


async def test_a_table_that_hangs_leaves_threads_to_the_others() -> None:
    putters = Putters(threads=4, tables=2)
    go_on = threading.Event()

    def hop(table: str) -> Hop:
        return Hop(table, putters.executor, lambda _: None, putters.turns(table))

    hanging = [asyncio.create_task(hop("bad").call(partial(go_on.wait, 30))) for _ in range(5)]
    try:
        assert await asyncio.wait_for(hop("good").call(lambda: 7), 10) == 7
    finally:
        go_on.set()
    assert await asyncio.gather(*hanging) == [True] * 5
    putters.executor.shutdown()

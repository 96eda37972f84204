"""A follower loses nothing, keeps the order, and lets go in time whatever its sink does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from agents.follower import FollowerSettings, LogFollower, Synced
from agents.room import Room
from domain.errors import FencedError, SinkUnavailableError
from tests.unit.agents.clock import pass_time, until
from tests.unit.agents.fakes import BATCH_BYTES, FakeSink, batch, timed

NEVER_S = 1e9


class Ears:
    """`FollowerListener` into lists."""

    def __init__(self) -> None:
        self.done: list[Synced] = []
        self.failures: list[SinkUnavailableError] = []
        self.backlogs: list[tuple[int, bool]] = []
        self.waiting: list[int] = []

    def synced(self, done: Synced) -> None:
        self.done.append(done)

    def failed(self, error: SinkUnavailableError) -> None:
        self.failures.append(error)

    def waits(self, size: int) -> None:
        self.waiting.append(size)

    def backlog(self, size: int, *, full: bool) -> None:
        self.backlogs.append((size, full))


class Scene:
    def __init__(self, settings: FollowerSettings | None = None, start: int = 0) -> None:
        self.sink = FakeSink(start)
        self.ears = Ears()
        self.follower = LogFollower("clicks-0", self.sink, start, settings or FollowerSettings(), self.ears, lambda: 77)

    def offer(self, *starts: int) -> None:
        """Batches of three records from each of these positions."""
        for start in starts:
            self.follower.offer(timed(batch(start, "abc")))

    @property
    def task(self) -> asyncio.Task[None]:
        assert self.follower._task is not None
        return self.follower._task

    async def wait_for_calls(self, count: int) -> None:
        await until(f"{count} calls of the sink", lambda: len(self.sink.calls) >= count)


def running(settings: FollowerSettings | None = None, start: int = 0) -> Scene:
    scene = Scene(settings, start)
    scene.follower.start()
    return scene


async def test_batches_reach_the_sink_in_order_and_only_a_sync_makes_them_durable() -> None:
    scene = running(FollowerSettings(sync_interval_s=5.0))
    scene.offer(0, 3)
    await scene.wait_for_calls(2)
    scene.offer(6)
    await scene.wait_for_calls(3)
    assert scene.sink.calls == [("write", 0), ("write", 3), ("write", 6)]
    assert scene.follower.durable == 0
    assert scene.ears.done == []
    await until("a sync", lambda: scene.ears.done)
    assert scene.follower.durable == 9
    assert scene.sink.calls[3:] == [("sync", 9)]
    assert scene.ears.done == [Synced(9, lines=9, size=3 * BATCH_BYTES, backlog=0)]
    scene.follower.abort()


async def test_durable_is_what_the_sync_says_and_never_falls() -> None:
    scene = running()
    answers = [4, 2, 9]

    def sync(close_before_ms: int | None) -> int:
        return answers.pop(0) if answers else 9

    scene.sink.sync = sync  # type: ignore[method-assign]
    scene.offer(0, 3, 6)
    seen = [0]

    def synced_thrice() -> bool:
        if scene.follower.durable != seen[-1]:
            seen.append(scene.follower.durable)
        return not answers and seen[-1] == 9

    await until("three syncs", synced_thrice)
    assert seen == [0, 4, 9]
    assert [done.next_offset for done in scene.ears.done] == [4, 9]
    scene.follower.abort()


async def test_the_sink_is_told_which_windows_get_no_more_records_even_when_nothing_came() -> None:
    scene = running()
    told: list[int | None] = []

    def sync(close_before_ms: int | None) -> int:
        told.append(close_before_ms)
        return 0

    scene.sink.sync = sync  # type: ignore[method-assign]
    await until("two syncs", lambda: len(told) == 2)
    assert told == [77, 77]
    assert scene.ears.done == []
    scene.follower.abort()


async def test_an_unavailable_sink_is_retried_and_nothing_is_lost_or_reordered() -> None:
    scene = running()
    scene.sink.errors = {
        "write": [SinkUnavailableError("disk", "full", 7.0), SinkUnavailableError("disk", "full", 0.1)],
        "sync": [SinkUnavailableError("disk", "slow")],
    }
    scene.offer(0, 3, 6)
    await until("everything to be durable", lambda: scene.follower.durable == 9)
    assert scene.sink.calls == [("write", 0), ("write", 3), ("write", 6), ("sync", 9)]
    assert [error.reason for error in scene.ears.failures] == ["full", "full", "slow"]
    scene.follower.abort()


async def test_a_retry_waits_as_long_as_the_sink_asks_for() -> None:
    scene = running(FollowerSettings(sync_interval_s=NEVER_S))
    loop = asyncio.get_running_loop()
    scene.sink.errors = {"write": [SinkUnavailableError("disk", "full", 70.0)]}
    began = loop.time()
    scene.offer(0)
    await scene.wait_for_calls(1)
    assert 70 <= loop.time() - began < 100
    scene.follower.abort()


async def test_a_full_backlog_asks_for_a_pause_once_and_for_going_on_below_half() -> None:
    scene = Scene(FollowerSettings(backlog=Room(3 * BATCH_BYTES)))
    scene.sink.down = True
    scene.follower.start()
    scene.offer(0, 3, 6)
    assert scene.ears.backlogs == [], "the limit itself is no overflow"
    scene.offer(9, 12)
    assert scene.ears.backlogs == [(4 * BATCH_BYTES, True)]
    await until("a failure", lambda: scene.ears.failures)
    scene.sink.down = False
    await until("everything to be durable", lambda: scene.follower.durable == 15)
    assert scene.ears.backlogs == [(4 * BATCH_BYTES, True), (BATCH_BYTES, False)]
    scene.sink.down = True
    scene.offer(15, 18, 21, 24)
    assert scene.ears.backlogs[2:] == [(4 * BATCH_BYTES, True)], "a second time"
    scene.follower.abort()


async def test_followers_of_the_same_settings_share_one_backlog() -> None:
    settings = FollowerSettings(backlog=Room(4 * BATCH_BYTES))
    one, other = Scene(settings), Scene(settings)
    for scene in (one, other):
        scene.sink.down = True
        scene.follower.start()
    one.offer(0, 3, 6)
    assert one.ears.backlogs == [(3 * BATCH_BYTES, True)]
    one.follower.abort()
    other.offer(0, 3, 6)
    assert other.ears.backlogs == [], "it has all of it now"
    other.follower.abort()


async def test_what_waits_is_told_after_each_failure_written_or_not() -> None:
    scene = running(FollowerSettings(sync_interval_s=1.0))
    scene.sink.errors = {"sync": [SinkUnavailableError("disk", "down")] * 2}
    scene.offer(0, 3)
    await until("two failures", lambda: len(scene.ears.failures) == 2)
    scene.offer(6)
    scene.sink.errors = {"sync": [SinkUnavailableError("disk", "down")]}
    await until("another", lambda: len(scene.ears.failures) == 3)
    assert scene.ears.waiting == [2 * BATCH_BYTES, 2 * BATCH_BYTES, 3 * BATCH_BYTES]
    await until("all of it", lambda: scene.follower.durable == 9)
    scene.follower.abort()


async def test_it_syncs_early_after_so_many_bytes() -> None:
    scene = running(FollowerSettings(sync_interval_s=NEVER_S, sync_bytes=BATCH_BYTES))
    scene.offer(0, 3, 6, 9, 12)
    await until("two syncs", lambda: scene.follower.durable == 12)
    await scene.wait_for_calls(7)
    writes = [("write", start) for start in (0, 3, 6, 9, 12)]
    assert scene.sink.calls == [*writes[:2], ("sync", 6), *writes[2:4], ("sync", 12), writes[4]]
    assert [done.backlog for done in scene.ears.done] == [3 * BATCH_BYTES, BATCH_BYTES]
    scene.follower.abort()


async def test_batches_wholly_below_what_is_durable_are_ignored() -> None:
    scene = running(start=5)
    scene.offer(0, 2)
    scene.offer(3, 6)
    await until("the rest to be durable", lambda: scene.follower.durable == 9)
    assert scene.sink.written() == [3, 6]
    scene.follower.abort()


async def test_close_writes_what_waits_and_returns_the_durable_offset() -> None:
    scene = running()
    scene.offer(0, 3, 6)
    assert await scene.follower.close(5.0) == 9
    assert scene.sink.calls == [("write", 0), ("write", 3), ("write", 6), ("close", 9)]
    assert scene.follower.durable == 9
    scene.follower.abort()
    assert scene.task.done()
    assert scene.sink.calls[-1] == ("close", 9), "there is nothing left to abort"


async def test_close_ends_the_wait_for_a_retry_and_loses_nothing() -> None:
    scene = running()
    scene.sink.errors = {"write": [SinkUnavailableError("disk", "full", 1000.0)]}
    loop = asyncio.get_running_loop()
    began = loop.time()
    scene.offer(0, 3)
    await until("a failure", lambda: scene.ears.failures)
    assert await scene.follower.close(5.0) == 6
    assert loop.time() - began < 5
    assert scene.sink.calls == [("write", 0), ("write", 3), ("close", 6)]


async def test_close_gives_up_on_a_sink_that_is_still_unavailable() -> None:
    scene = running(FollowerSettings(sync_interval_s=1.0))
    scene.offer(0)
    await until("a sync", lambda: scene.follower.durable == 3)
    scene.sink.down = True
    scene.offer(3)
    assert await scene.follower.close(5.0) == 3
    await until("the abort", lambda: scene.sink.calls[-1] == ("abort", 3))


@pytest.mark.parametrize("blocked", ["write", "sync", "close"])
async def test_close_over_its_deadline_aborts_and_returns_in_time(blocked: str) -> None:
    scene = running(FollowerSettings(sync_interval_s=NEVER_S, sync_bytes=1))
    scene.sink.blocked = blocked
    scene.offer(0)
    if blocked != "close":
        await until("the sink's thread to hang", scene.sink.entered.is_set)
    began = time.monotonic()
    try:
        assert await scene.follower.close(0.05) == 0
        assert time.monotonic() - began < 5
        assert "abort" not in dict(scene.sink.calls), "one call at a time: it waits for the one that hangs"
    finally:
        scene.sink.released.set()
    await until("the abort", lambda: "abort" in dict(scene.sink.calls))
    assert [call for call, _ in scene.sink.calls][-2:] == [blocked, "abort"]
    await asyncio.wait([scene.task])
    assert scene.follower.durable == 0, "what became durable after the deadline is the next owner's"


async def test_abort_is_repeatable_and_nothing_is_written_after_it() -> None:
    scene = running()
    scene.offer(0)
    await scene.wait_for_calls(1)
    scene.follower.abort()
    scene.follower.abort()
    scene.offer(3)
    await until("the abort", lambda: ("abort", 3) in scene.sink.calls)
    await pass_time(100)
    assert scene.task.cancelled()
    assert scene.sink.calls == [("write", 0), ("abort", 3)]


async def test_the_sink_is_called_in_one_thread_that_is_not_the_loops() -> None:
    scene = running()
    threads: set[str] = set()
    real = scene.sink.write

    def write(one: object) -> None:
        threads.add(threading.current_thread().name)
        real(one)  # type: ignore[arg-type]

    scene.sink.write = write  # type: ignore[method-assign]
    scene.offer(0, 3, 6)
    await until("everything to be durable", lambda: scene.follower.durable == 9)
    assert threads == {"follower-clicks-0_0"}
    scene.follower.abort()


@pytest.mark.parametrize("call", ["write", "sync"])
@pytest.mark.parametrize("error", [ValueError, FencedError])
async def test_any_other_error_ends_the_task_with_it(call: str, error: Callable[[str], Exception]) -> None:
    scene = running()
    bug = error("not ours to retry")
    scene.sink.errors = {call: [bug]}
    scene.offer(0)
    await asyncio.wait([scene.task])
    assert scene.task.exception() is bug
    assert scene.follower.durable == 0
    scene.follower.abort()

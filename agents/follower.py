"""Followers: tasks that bring a sink after the fold at the sink's own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from agents.hop import Hop, StoppedError
from agents.room import Room
from domain.errors import SinkUnavailableError
from domain.record import TimedBatch
from sinks.base import LogSink

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FollowerSettings:
    sync_interval_s: float = 5.0
    sync_bytes: int = 64 << 20  # sync early after this much
    backlog: Room = field(default_factory=lambda: Room(256 << 20))  # bytes, of all that have these settings


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync made durable; `size` is bytes as fetched, `backlog` those still waiting."""

    next_offset: int
    lines: int
    size: int
    backlog: int


class FollowerListener(Protocol):
    """Told of what a follower does; calls come on the loop."""

    def synced(self, done: Synced) -> None: ...
    def failed(self, error: SinkUnavailableError) -> None: ...
    def waits(self, size: int) -> None:
        """So many bytes were read and aren't durable, after a failure."""

    def backlog(self, size: int, *, full: bool) -> None: ...


class LogFollower:
    """Takes every batch of one partition as read and keeps its sink durable up to `durable`.

    An unavailable sink is retried for ever; batches wait meanwhile, and `backlog(full=True)` asks for a pause.
    """

    def __init__(
        self,
        name: str,
        sink: LogSink,
        start: int,
        settings: FollowerSettings,
        listener: FollowerListener,
        close_before: Callable[[], int | None],
    ) -> None:
        self.durable = start
        self._name = name
        self._sink = sink
        self._settings = settings
        self._listener = listener
        self._close_before = close_before
        self._waiting: deque[TimedBatch] = deque()
        self._bytes = 0
        self._unsynced = 0
        self._unsynced_lines = 0
        self._full = False
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"follower-{name}")
        self._hop = Hop(name, self._thread, self._failed)
        self._gone = False

    def start(self) -> asyncio.Task[None]:
        self._settings.backlog.enter(self)
        self._task = asyncio.create_task(self._run(), name=f"follower {self._name}")
        return self._task

    def _failed(self, error: SinkUnavailableError) -> None:
        self._listener.failed(error)
        self._listener.waits(self._bytes + self._unsynced)

    def offer(self, batch: TimedBatch) -> None:
        """Queue a batch; those wholly below what is durable are ignored."""
        if batch.batch.end <= self.durable:
            return
        self._waiting.append(batch)
        self._bytes += batch.batch.size
        self._arrived.set()
        if not self._full and self._bytes > self._settings.backlog.share:
            self._full = True
            self._listener.backlog(self._bytes, full=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._settings.sync_interval_s
        try:
            while not self._hop.stop.is_set():
                await self._wait_until(due)
                await self._write_waiting()
                if loop.time() >= due or self._unsynced > self._settings.sync_bytes:
                    await self._sync()
                    due = loop.time() + self._settings.sync_interval_s
        except StoppedError:
            return

    async def _wait_until(self, due: float) -> None:
        """Until something arrived, the stop, or (when there is something to sync) the due time."""
        if self._waiting or self._hop.stop.is_set():
            return
        self._arrived.clear()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(max(due, loop.time() + 0.01)):
                await self._arrived.wait()
        except TimeoutError:
            return

    async def _write_waiting(self) -> None:
        while self._waiting and not self._hop.stop.is_set() and self._unsynced <= self._settings.sync_bytes:
            batch = self._waiting[0]
            await self._hop.retried(partial(self._sink.write, batch))
            self._waiting.popleft()
            self._bytes -= batch.batch.size
            self._unsynced += batch.batch.size
            self._unsynced_lines += len(batch.batch)
            if self._full and self._bytes <= self._settings.backlog.share // 2:
                self._full = False
                self._listener.backlog(self._bytes, full=False)

    async def _sync(self) -> None:
        # Also with nothing new: closed windows and idle files are finished here.
        before = self._close_before()
        durable = await self._hop.retried(partial(self._sink.sync, before))
        done = Synced(durable, self._unsynced_lines, self._unsynced, self._bytes)
        self._unsynced = self._unsynced_lines = 0
        if durable > self.durable:
            self.durable = durable
            self._listener.synced(done)

    async def close(self, deadline_s: float) -> int:
        """Write and sync what fits into the deadline, then let go; returns the durable next offset."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._end_task()
                while self._waiting:
                    batch = self._waiting[0]
                    await self._hop.call(partial(self._sink.write, batch))
                    self._waiting.popleft()
                self.durable = max(self.durable, await self._hop.call(self._sink.close))
        except (TimeoutError, SinkUnavailableError) as err:
            log.warning("sink not closed cleanly; the next owner goes on", follower=self._name, reason=repr(err))
            self.abort()
        else:
            self._gone = True
            self._settings.backlog.leave(self)
            self._thread.shutdown(wait=False)
        return self.durable

    async def _end_task(self) -> None:
        self._hop.stop.set()
        self._arrived.set()
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                # Whoever watches the task has it; here it only means that nothing more can be written.
                raise SinkUnavailableError(self._name, f"ended with {error!r}") from error

    def abort(self) -> None:
        """Let go at once: nothing more is written by us. Safe to repeat."""
        if self._gone:
            return
        self._gone = True
        self._settings.backlog.leave(self)
        self._hop.stop.set()
        self._arrived.set()
        if self._task is not None:
            self._task.cancel()
        self._thread.submit(self._sink.abort)
        self._thread.shutdown(wait=False)

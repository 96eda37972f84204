"""All followers of one partition, and what they report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from agents.checkpointer import Committed
from agents.counts import Backlog, CountsFollower, CountsSettings
from agents.events import Listener
from agents.follower import FollowerSettings, LogFollower, Synced
from agents.partition import Partition
from agents.source import Place, Source
from domain.errors import SinkUnavailableError
from domain.record import TimedBatch
from domain.rows import Role
from sinks.base import CellSink, LogSink

Ended = Callable[[Partition, asyncio.Task[None]], None]


@dataclass(frozen=True, slots=True)
class FollowSettings:
    logs: Mapping[Role, FollowerSettings] = field(default_factory=dict)
    counts: CountsSettings = field(default_factory=CountsSettings)


class Putters:
    """The threads that put counts, of a whole process: few, and a table that hangs leaves some to the others."""

    def __init__(self, threads: int = 4, tables: int = 1) -> None:
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="counts")
        self._per_table = threads if tables <= 1 else max(1, threads // 2)
        self._turns: dict[str, asyncio.Semaphore] = {}

    def turns(self, table: str) -> asyncio.Semaphore:
        return self._turns.setdefault(table, asyncio.Semaphore(self._per_table))


class Followers:
    """Started with the partition; `ended` hears of each task's end."""

    def __init__(
        self,
        partition: Partition,
        logs: Mapping[Role, LogSink],
        counts: Mapping[str, CellSink],
        settings: FollowSettings,
        backlog: Backlog,
        putters: Putters,
        source: Source,
        listener: Listener,
    ) -> None:
        self._partition = partition
        self._place = Place(partition.topic.name, partition.partition)
        self._listener = listener
        gate = self._gate = _Gate(partition, source)
        self._logs = {
            role: LogFollower(
                f"{role.value} {partition.name}",
                sink,
                partition.logs[role].next_offset,
                settings.logs.get(role, FollowerSettings()),
                _LogListener(partition, role, listener, gate),
                self._close_before,
            )
            for role, sink in logs.items()
        }
        self._counts = {
            table: CountsFollower(
                partition,
                partition.counts[table],
                sink,
                settings.counts,
                backlog,
                putters.executor,
                putters.turns(table),
                _CountsListener(partition, table, listener),
            )
            for table, sink in counts.items()
        }

    @property
    def full(self) -> bool:
        """Whether a log, or what waits for a commit, holds the intake up."""
        return bool(self._gate.full)

    def crowded(self, cells: int, full: bool) -> None:
        """The dirty set has no room: to intake what a full follower is."""
        self._listener.crowded(self._place, cells, full=full)
        self._gate.report(Role.STATE, full=full)

    def start(self, ended: Ended) -> None:
        tasks = [one.start() for one in self._logs.values()] + [one.start() for one in self._counts.values()]
        for task in tasks:
            task.add_done_callback(partial(ended, self._partition))

    def offer(self, batch: TimedBatch) -> None:
        for one in self._logs.values():
            one.offer(batch)

    def committed(self, done: Committed) -> None:
        for cut in done.checkpoint.tables:
            name = cut.table.spec.name
            if name in self._counts:
                self._counts[name].offer(done.encoded.tables[name], cut.progress)

    async def close_logs(self, deadline_s: float) -> None:
        """Make durable what fits into the deadline, then let go; the partition knows how far they got."""

        async def close(role: Role, one: LogFollower) -> None:
            self._partition.logs[role].reached(await one.close(deadline_s))

        await asyncio.gather(*(close(role, one) for role, one in self._logs.items()))

    async def close_counts(self, deadline_s: float) -> None:
        await asyncio.gather(*(one.close(deadline_s) for one in self._counts.values()))

    def abort(self) -> None:
        """Let go of everything at once, waiting for nobody."""
        for log in self._logs.values():
            log.abort()
        for counts in self._counts.values():
            counts.abort()

    def _close_before(self) -> int | None:
        """Archive windows ending at or before this get no more on-time records."""
        tables = self._partition.tables
        times = [t.standing.stream_time for t in tables if t.standing.stream_time is not None]
        return min(times) - max(t.spec.grace_ms for t in tables) if times else None


class _Gate:
    """A partition's intake: paused while any log follower is full, or the dirty set (as Role.STATE)."""

    def __init__(self, partition: Partition, source: Source) -> None:
        self._place = Place(partition.topic.name, partition.partition)
        self._source = source
        self.full: set[Role] = set()

    def report(self, role: Role, *, full: bool) -> None:
        before = bool(self.full)
        (self.full.add if full else self.full.discard)(role)
        if self.full and not before:
            self._source.pause(self._place)
        elif before and not self.full:
            self._source.resume(self._place)


class _LogListener:
    """What a log follower of one partition tells."""

    def __init__(self, partition: Partition, role: Role, listener: Listener, gate: _Gate) -> None:
        self._partition = partition
        self._place = Place(partition.topic.name, partition.partition)
        self._role = role
        self._listener = listener
        self._gate = gate

    def synced(self, done: Synced) -> None:
        self._partition.logs[self._role].reached(done.next_offset)
        self._listener.synced(self._place, self._role, done)

    def failed(self, error: SinkUnavailableError) -> None:
        self._listener.sink_failed(self._place, self._role, error)

    def waits(self, size: int) -> None:
        self._listener.waits(self._place, self._role, size)

    def backlog(self, size: int, *, full: bool) -> None:
        self._listener.backlog(self._place, self._role, size, full=full)
        self._gate.report(self._role, full=full)


class _CountsListener:
    """What the counts follower of one partition and table tells."""

    def __init__(self, partition: Partition, table: str, listener: Listener) -> None:
        self._place = Place(partition.topic.name, partition.partition)
        self._table = table
        self._listener = listener

    def put(self, cells: int) -> None:
        self._listener.counts_put(self._place, self._table, cells)

    def backlog(self, cells: int) -> None:
        self._listener.counts_backlog(self._place, self._table, cells)

    def rescan(self, since: int) -> None:
        self._listener.rescan(self._place, self._table, since)

    def failed(self, error: SinkUnavailableError) -> None:
        self._listener.sink_failed(self._place, Role.COUNTS, error)

"""Brings one table's committed counts of one partition to a cell sink, at the sink's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

import structlog
from msgspec import structs

from agents.hop import FIRST_BACKOFF_S, Hop, StoppedError
from agents.partition import Followed, Partition
from agents.rescan import CHUNK_ROWS, Chunk, Rescan
from domain.errors import SinkUnavailableError
from domain.progress import CountsProgress, StateProgress
from domain.rows import Role, Row
from sinks.base import CellSink
from tables.cells import TableRows
from tables.rocksdb import StoreClosedError

log = structlog.get_logger(__name__)

PUT_ATTEMPTS = 3
UNTOLD = 1 << 60
Values = dict[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class CountsSettings:
    interval_s: float = 5.0
    backlog_cells: int = 1_000_000  # of all followers that share a `Backlog`


class Backlog:
    """Cells that wait for a sink, of all followers of a process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[CountsFollower, int] = {}

    def hold(self, follower: CountsFollower, cells: int) -> bool:
        """Note how many a follower holds; False if that is too many of them all."""
        self._held[follower] = cells
        return sum(self._held.values()) <= self._limit

    def forget(self, follower: CountsFollower) -> None:
        self._held.pop(follower, None)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a frontier says."""

    next_offset: int
    stream_time: int | None
    archive_next_offset: int | None


class CountsListener(Protocol):
    """Told of what a follower does; calls come on the loop."""

    def put(self, cells: int) -> None:
        """Cells are durable in the sink."""

    def backlog(self, cells: int) -> None: ...
    def rescan(self, since: int) -> None: ...
    def failed(self, error: SinkUnavailableError) -> None: ...


class CountsFollower:
    """Coalesces committed checkpoints and puts them every interval; `followed.durable` says how far the sink is.

    When it has fallen behind (at the start, after an overflow, when the sink was emptied) it collects nothing, and
    reads what changed from the state instead.
    """

    def __init__(
        self,
        partition: Partition,
        followed: Followed,
        sink: CellSink,
        settings: CountsSettings,
        backlog: Backlog,
        executor: Executor,
        turns: asyncio.Semaphore,
        listener: CountsListener,
    ) -> None:
        self.name = f"{partition.name} {followed.table}"
        self._partition = partition
        self._followed = followed
        self._sink = sink
        self._settings = settings
        self._backlog = backlog
        self._listener = listener
        self._hop = Hop(self.name, executor, listener.failed, turns)
        fold = next(one for one in partition.tables if one.spec.name == followed.table)
        # Rows ahead of progress were never offered to anybody: the fold will skip what is in them.
        level = partition.settled and followed.next_offset == fold.committed.next_offset
        self._behind = not level or self._durable.lost_until == UNTOLD  # a rescan tells it
        self._cells: Values = {}
        self._certificates: Values = {}
        self._taken = 0  # cells being put
        self._claimed = False  # by the pass under way, or the last one
        self._newest = self._standing(fold.committed)
        self._shown: Standing | None = None  # the frontier last put
        self._task: asyncio.Task[None] | None = None
        self._gone = False

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self._run(), name=f"counts {self.name}")
        return self._task

    def offer(self, rows: TableRows, progress: StateProgress) -> None:
        """A checkpoint that is committed and in the store."""
        if self._gone:
            return
        self._newest = self._standing(progress)
        if self._behind:
            return
        self._cells.update(rows.cells)
        self._certificates.update(rows.certificates)
        self._hold()

    # -- one pass ------------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        try:
            while True:
                try:
                    await self._pass()
                    backoff_s = FIRST_BACKOFF_S
                    if await self._hop.stopped_within(self._settings.interval_s):
                        return
                except SinkUnavailableError as err:
                    backoff_s = await self._hop.back_off(err, backoff_s)
        except StoppedError:
            return
        except StoreClosedError:
            log.info("partition given up in the middle of a rescan", follower=self.name)

    async def _pass(self) -> None:
        if not self._partition.settled:
            return  # the store speaks of more than its progress says
        self._claimed = False
        table_id = await self._hop.call(self._sink.claim)
        self._claimed = True
        progress = self._durable
        if table_id != progress.table_id:
            if progress.table_id:
                log.warning(
                    "the sink's tables have a new id: writing all counts of the state again",
                    follower=self.name,
                    lost="windows that have left the state; a replay of the archive writes them",
                )
            self._followed.durable = structs.replace(
                progress, table_id=table_id, next_offset=progress.start, lost_until=UNTOLD
            )
            self._fall_behind()
        if self._behind:
            await self._rescan()
        if not self._behind:  # it may have overflowed meanwhile
            await self._put_waiting()

    async def _rescan(self) -> None:
        """Everything in the state that changed since the sink's progress, then what was collected meanwhile."""
        since = self._durable.next_offset
        self._behind = False  # collects from here on; the rescan reads all that was committed before
        done = False
        try:
            scan = await self._hop.call(partial(Rescan, self._partition.store, self._followed.table, since))
            self._listener.rescan(since)
            async for chunk in self._read(scan.cells()):
                await self._put_cells(chunk.rows, chunk.next_offset)
            async for chunk in self._read(scan.certificates()):
                await self._put(partial(self._sink.put_certificates, chunk.rows, chunk.next_offset))
            before = self._durable.lost_until
            lost = max(scan.lost_until, -1 if before == UNTOLD else before)
            self._followed.durable = structs.replace(self._durable, lost_until=lost)
            await self._show(self._standing(scan.progress))
            done = True
        finally:
            if not done:
                self._fall_behind()

    async def _read(self, chunks: Iterator[Chunk]) -> AsyncIterator[Chunk]:
        while (chunk := await self._hop.call(partial(next, chunks, None))) is not None:
            if self._hop.stop.is_set():
                raise StoppedError
            yield chunk

    async def _put_cells(self, rows: list[Row], next_offset: int) -> None:
        await self._put(partial(self._sink.put_cells, rows, next_offset))
        self._listener.put(len(rows))

    async def _put(self, put: Callable[[], None]) -> None:
        """A few failures on the way don't start a long pass over."""
        backoff_s = FIRST_BACKOFF_S
        for attempt in range(1, PUT_ATTEMPTS + 1):
            try:
                return await self._hop.call(put)
            except SinkUnavailableError as err:
                if attempt == PUT_ATTEMPTS or self._hop.stop.is_set():
                    raise
                backoff_s = await self._hop.back_off(err, backoff_s)
        return None

    async def _put_waiting(self) -> None:
        """What was collected, at the version of the newest checkpoint: cells, certificates, frontier."""
        at = self._newest
        if at == self._shown and not self._cells and not self._certificates:
            return
        cells, self._cells = self._cells, {}
        certificates, self._certificates = self._certificates, {}
        self._taken = len(cells)
        try:
            for rows in _chunks(cells.items()):
                await self._put_cells(rows, at.next_offset)
            for rows in _chunks(certificates.items()):
                await self._put(partial(self._sink.put_certificates, rows, at.next_offset))
            await self._show(at)
        except BaseException:
            if not self._behind:  # again with the next pass; what came meanwhile is newer
                cells.update(self._cells)
                certificates.update(self._certificates)
                self._cells, self._certificates = cells, certificates
            raise
        finally:
            self._taken = 0
            self._hold()

    async def _show(self, at: Standing) -> None:
        """Everything up to here is put: say so, there and in our progress."""
        await self._put(partial(self._sink.put_frontier, at.next_offset, at.stream_time, at.archive_next_offset))
        self._shown = at
        self._followed.reached(at.next_offset)

    # -- what waits ----------------------------------------------------------------------------

    def _hold(self) -> None:
        if self._gone:
            return
        held = len(self._cells) + self._taken
        if not self._backlog.hold(self, held) and self._cells:
            log.warning("backlog full: counts will be read from the state again", follower=self.name, cells=held)
            self._fall_behind()
            held = self._taken
        self._listener.backlog(held)

    def _fall_behind(self) -> None:
        self._behind = True
        self._cells, self._certificates = {}, {}
        if not self._gone:
            self._backlog.hold(self, self._taken)

    def _standing(self, progress: StateProgress) -> Standing:
        return Standing(progress.next_offset, progress.stream_time, self._partition.committed_of(Role.ARCHIVE))

    @property
    def _durable(self) -> CountsProgress:
        progress = self._followed.durable
        assert isinstance(progress, CountsProgress)
        return progress

    # -- the end -------------------------------------------------------------------------------

    async def close(self, deadline_s: float) -> None:
        """Put what is left if that fits into the deadline, then let go. What isn't put, the next owner puts."""
        try:
            async with asyncio.timeout(deadline_s):
                self._hop.stop.set()
                if self._task is not None:
                    await asyncio.wait([self._task])
                if self._claimed and not self._behind:
                    await self._put_waiting()
        except (TimeoutError, SinkUnavailableError, StoppedError) as err:
            log.info("counts not put at the end; the next owner goes on", follower=self.name, reason=repr(err))
        finally:
            self.abort()

    def abort(self) -> None:
        """Let go at once. A put under way may still end: it changes nothing that is newer. Safe to repeat."""
        self._gone = True
        self._hop.stop.set()
        self._backlog.forget(self)
        if self._task is not None:
            self._task.cancel()


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while chunk := list(islice(left, CHUNK_ROWS)):
        yield chunk

"""The checkpoint of one partition: cut, commit, apply, publish, while folding goes on into fresh dirty sets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from agents.intake import StuckError
from agents.partition import MAX_RECORDS, Checkpoint, Encoded, Partition
from agents.room import Room
from domain.errors import FencedError, TaintedError
from domain.probe import Point, Probe, no_probe
from tables.changelog import ChangelogWriter
from tables.rocksdb import Position

UNCOMMITTED_CELLS = 500_000
MAX_WAITING = 100_000  # of one partition: half of it in one transaction, which must end in time on a slow machine too
DISK_S = 120.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Committed:
    """A checkpoint that is committed and in the store, with its rows."""

    checkpoint: Checkpoint
    encoded: Encoded
    seconds: float


class Checkpointer:
    """Commits a partition's checkpoints one after another.

    What is dirty or in flight has its share of `room`, in cells: `crowded(cells, True)` asks for a pause of intake when
    it is used up, whatever keeps commits from their end; `crowded(cells, False)` takes that back. In between nothing
    should be folded.
    The first failed commit ends it: `failed` is called once with the error, and the partition must be dropped.
    """

    def __init__(
        self,
        partition: Partition,
        writer: ChangelogWriter,
        interval_s: float,
        done: Callable[[Partition, Committed], None],
        failed: Callable[[Partition, FencedError | TaintedError], None],
        max_records: int = MAX_RECORDS,
        probe: Probe = no_probe,
        room: Room | None = None,
        crowded: Callable[[int, bool], None] = lambda _cells, _full: None,
    ) -> None:
        self._partition = partition
        self._writer = writer
        self._interval_s = interval_s
        self._done = done
        self._failed = failed
        self._max_records = max_records
        self._probe = probe
        self._room = room or Room(UNCOMMITTED_CELLS)
        self._tell_crowded = crowded
        self.crowded = False
        self._in_flight = 0
        self._nudge = asyncio.Event()
        self._stopping = False
        self._half_done = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        self._room.enter(self)
        self._task = asyncio.create_task(self._run(), name=f"checkpointer {self._partition.name}")
        return self._task

    def folded(self) -> None:
        """Called after every fold: cuts early when the dirty sets are large."""
        self._make_room()

    def _make_room(self) -> None:
        dirty, share = self._partition.dirty_cells(), min(self._room.share, MAX_WAITING)
        if dirty > share // 2:
            self._nudge.set()
        waiting = dirty + self._in_flight
        # One that catches up commits nothing until it has read on.
        if not self.crowded and waiting > share and self._partition.ready:
            self.crowded = True
            self._tell_crowded(waiting, True)
        elif self.crowded and waiting <= share // 2:
            self.crowded = False
            self._tell_crowded(waiting, False)

    async def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    async with asyncio.timeout(self._interval_s):
                        await self._nudge.wait()
                except TimeoutError:
                    pass
                self._nudge.clear()
                if not self._stopping:
                    await self.checkpoint()
        except (FencedError, TaintedError) as err:
            self._failed(self._partition, err)

    async def checkpoint(self) -> None:
        """Cut now and commit, if anything moved."""
        cut = self._partition.cut()
        if cut is not None:
            await self.commit(cut)

    async def commit(self, checkpoint: Checkpoint) -> None:
        """1. One transaction: the commit point. 2. The store, with the changelog position. 3. Publish.

        After one that did not get to its end none is tried: its dirty sets are gone from memory.
        """
        if self._half_done:
            raise TaintedError(f"{self._partition.name}: the checkpoint before did not end")
        self._half_done = True
        self._in_flight = checkpoint.cells()
        partition = self._partition
        began = time.monotonic()
        self._probe(Point.CHECKPOINT_CUT)
        encoded = await self._on_disk(partial(checkpoint.encode, partition.store, self._max_records))
        last = await self._writer.commit(encoded.rows, encoded.finals)
        self._probe(Point.ROWS_COMMITTED)
        await self._on_disk(partial(partition.store.commit, encoded.rows, Position(partition.state_id, last)))
        self._probe(Point.ROWS_APPLIED)
        partition.committed(checkpoint, encoded)
        self._half_done = False
        self._in_flight = 0
        self._make_room()
        self._done(partition, Committed(checkpoint, encoded, time.monotonic() - began))

    async def _on_disk(self, work: Callable[[], Result]) -> Result:
        """A disk that hangs ends the worker: else it would fold on, without a commit, for as long as memory lasts."""
        try:
            async with asyncio.timeout(DISK_S):
                return await asyncio.to_thread(work)
        except TimeoutError as err:
            raise StuckError(f"{self._partition.name}: its state directory hasn't answered for {DISK_S:g} s") from err

    async def close(self) -> None:
        """Let the checkpoint in flight finish, then stop; later ones are the caller's."""
        self._stopping = True
        self._nudge.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def abort(self) -> None:
        self._stopping = True
        self._room.leave(self)
        if self._task is not None:
            self._task.cancel()

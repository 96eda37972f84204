"""What this worker alone can answer: reads of its own partitions, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import assert_never

from app.web.wire import (
    Answer,
    Ask,
    PositionsAsk,
    Reply,
    SeriesAsk,
    StatusAsk,
    TableAsk,
    TalliesAsk,
    TopAsk,
    WindowsAsk,
)
from domain.spec import TableSpec
from tables.view import TableView

READERS = 4
READ_DEADLINE_S = 1.8  # below a peer's patience: it gets the partitions that are ready
STEADY_TRIES = 3

Idle = Callable[[str, int], bool]


@dataclass(frozen=True, slots=True)
class _Found:
    partition: int
    answer: Answer | None  # None: lost meanwhile


class LocalReader:
    """Answers questions from the view, each partition in a reader thread of its own pool."""

    def __init__(
        self,
        view: TableView,
        tables: Mapping[str, TableSpec],
        idle: Idle | None = None,
        deadline_s: float = READ_DEADLINE_S,
    ) -> None:
        self._view = view
        self._tables = tables
        self._idle = idle
        self._deadline_s = deadline_s
        self._readers = ThreadPoolExecutor(READERS, "view-reader")

    async def answer(self, ask: Ask) -> Reply:
        """Answer for every partition that is ready within the deadline. Raises `KeyError` for an unknown table."""
        if isinstance(ask, StatusAsk):
            return Reply(statuses=self._view.partitions())
        topic = self._tables[ask.table].topic
        reply = Reply(
            not_ready={s.partition: f"not ready ({s.state})" for s in self._view.partitions() if s.topic == topic},
        )
        loop = asyncio.get_running_loop()
        partitions = self._view.owned(ask.table)
        reads = {loop.run_in_executor(self._readers, self._read, ask, p): p for p in partitions}
        done, late = await asyncio.wait(reads, timeout=self._deadline_s) if reads else (set(), set())
        for read in late:
            read.cancel()
            reply.not_ready[reads[read]] = f"the read took over {self._deadline_s} s; ask again"
        for found in sorted((read.result() for read in done), key=lambda f: f.partition):
            reply.not_ready.pop(found.partition, None)
            if found.answer is None:
                reply.not_ready[found.partition] = "lost while it was read"
            else:
                found.answer.idle = self._idle is not None and self._idle(topic, found.partition)
                reply.answers.append(found.answer)
        return reply

    def close(self) -> None:
        """Take no more reads and wait for none."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _read(self, ask: TableAsk, partition: int) -> _Found:
        """Read between two equal positions, so that the answer is true at one offset; give up after some tries."""
        try:
            position = self._view.as_of(ask.table, partition)
            for _ in range(STEADY_TRIES):
                answer = Answer(partition, position.next_offset, position.stream_time_ms)
                self._fill(answer, ask)
                after = self._view.as_of(ask.table, partition)
                if after.next_offset == position.next_offset:
                    break
                position = after
        except KeyError:
            return _Found(partition, None)
        return _Found(partition, answer)

    def _fill(self, answer: Answer, ask: TableAsk) -> None:
        view, partition = self._view, answer.partition
        match ask:
            case PositionsAsk():
                pass
            case TalliesAsk(table):
                answer.tallies = view.tallies(table, partition)
            case WindowsAsk(table, from_ms, to_ms):
                answer.windows = view.windows(table, partition, from_ms, to_ms)
            case TopAsk(table, start_ms, count, keys):
                answer.windows = view.windows(table, partition, start_ms, start_ms + 1)
                if not any(window.dropped for window in answer.windows):
                    answer.top = view.top(table, partition, start_ms, count)
                    answer.cells = view.cells(table, partition, start_ms, keys) if keys else []
            case SeriesAsk(table, key, from_ms, to_ms):
                answer.series = view.series(table, partition, key, from_ms, to_ms)
                counted = {start for start, _ in answer.series}
                windows = view.windows(table, partition, from_ms, to_ms)
                # A window may be partial or dropped where this partition never saw the key.
                answer.windows = [w for w in windows if w.dropped or w.partial or w.start_ms in counted]
            case _:
                assert_never(ask)

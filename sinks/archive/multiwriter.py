"""The open files of one partition: one per slot, few enough open at once, each finished in its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from domain.errors import FencedError, SinkUnavailableError
from sinks.archive.background import Background
from sinks.archive.part import RecordWriter, State
from sinks.archive.path import Slot
from sinks.archive.split import Run

T = TypeVar("T")

GO_ON_S = 1.0  # from the first call that failed
CLOSE_WAIT_S = 60.0  # above any deadline of a file system's call

OnFailure = Callable[[str, Exception], None]


@dataclass(slots=True)
class _Entry:
    writer: RecordWriter
    used_ms: int
    late: bool  # opened after its window had closed: finished when idle, else each sync would make a file
    closing: Future[None] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    roll_bytes: int
    idle_commit_ms: int
    max_open: Callable[[], int]


class MultiWriter:
    """Sorted map slot -> `RecordWriter`. One caller at a time; what it hands to `background` it doesn't touch again.

    `new_writer(slot, first, errors)` makes a writer whose name is unique by those three.
    """

    def __init__(
        self,
        new_writer: Callable[[Slot, int, int], RecordWriter],
        limits: Limits,
        background: Background,
        now_ms: Callable[[], int],
        on_failure: OnFailure,
    ) -> None:
        self._new_writer = new_writer
        self._limits = limits
        self._background = background
        self._now_ms = now_ms
        self._on_failure = on_failure
        self._entries: dict[Slot, _Entry] = {}
        self._touched: dict[Slot, RecordWriter] = {}  # since the last ledger line
        self._commits: list[tuple[RecordWriter, Future[None] | None]] = []
        self._errors = 0
        self._closed_before_ms: int | None = None
        self.orphans: list[RecordWriter] = []  # aborted, to be recovered like a dead owner's

    @property
    def open_count(self) -> int:
        return sum(entry.writer.state is State.OPEN for entry in self._entries.values())

    def write(self, pending: Sequence[Run], window_ms: int) -> None:
        """Append runs, but those their slot's file already has from a sync that failed elsewhere.

        To be called with all runs since the last `ledgered`, in the order of offsets.
        """
        by_slot = sorted(pending, key=lambda run: run.slot)  # stable: offsets rise within a slot
        groups = [list(group) for _, group in groupby(by_slot, key=lambda run: run.slot)]
        _each(groups, lambda group: self._write_slot(group, window_ms))

    def sync(self) -> dict[str, tuple[int, int]]:
        """Make all durable; returns (length, crc32) of every file touched since the last `ledgered`."""
        _each(sorted(self._touched), self._sync_slot)
        return {writer.name.ledger_key: (writer.length, writer.crc) for writer in self._touched.values()}

    def ledgered(self) -> None:
        """The files last returned by `sync` stand in the ledger."""
        self._touched.clear()

    def settle(self, window_ms: int, close_before_ms: int | None) -> None:
        """Commit what is full, idle or closed, in the background. Call it right after `ledgered`.

        Raises `FencedError` when an earlier commit found its file claimed.
        """
        self._check_commits()
        now = self._now_ms()
        for slot in sorted(self._entries):
            entry = self._entries[slot]
            closed = close_before_ms is not None and slot.end_ms(window_ms) <= close_before_ms and not entry.late
            idle = now - entry.used_ms >= self._limits.idle_commit_ms
            if closed or idle or entry.writer.length >= self._limits.roll_bytes:
                self._submit_commit(slot)
        if close_before_ms is not None:
            self._closed_before_ms = close_before_ms

    def close(self) -> list[Future[None]]:
        """Begin to close every open file; returns what to wait for."""
        waits = [future for _, future in self._commits if future is not None]
        for entry in self._entries.values():
            if entry.closing is not None:
                waits.append(entry.closing)
            elif entry.writer.state is State.OPEN:
                future = self._background.try_submit(entry.writer.close)
                if future is not None:
                    waits.append(future)
        return waits

    def abort(self) -> None:
        for entry in self._entries.values():
            if entry.closing is None and entry.writer.state is State.OPEN:
                entry.writer.abort()
        self._entries.clear()
        self._touched.clear()

    def _write_slot(self, group: list[Run], window_ms: int) -> None:
        for run in group:  # an error ends the group: a later run must never get into a file without the earlier ones
            entry = self._entry(run, window_ms)
            writer = entry.writer
            if writer.last >= run.last:
                continue
            try:
                if writer.state is not State.OPEN:
                    self._make_room()
                    writer.open()
                writer.write(run)
            except Exception as error:
                self._drop(run.slot, error)
                raise
            entry.used_ms = self._now_ms()
            self._touched[run.slot] = writer

    def _sync_slot(self, slot: Slot) -> None:
        try:
            self._touched[slot].sync()
        except Exception as error:
            self._drop(slot, error)
            raise

    def _entry(self, run: Run, window_ms: int) -> _Entry:
        entry = self._entries.get(run.slot)
        if entry is not None and entry.closing is not None:
            self._await_close(run.slot, entry)
            entry = self._entries.get(run.slot)
        if entry is None:
            before = self._closed_before_ms
            late = before is not None and run.slot.end_ms(window_ms) <= before
            entry = _Entry(self._new_writer(run.slot, run.first, self._errors), self._now_ms(), late)
            self._entries[run.slot] = entry
        return entry

    def _make_room(self) -> None:
        """Close the least recently used file in the background, if another one is one too many."""
        while True:
            idle_first = sorted(
                (entry.used_ms, entry.writer.last, slot)
                for slot, entry in self._entries.items()
                if entry.closing is None and entry.writer.state is State.OPEN
            )
            if len(idle_first) < max(1, self._limits.max_open()):
                return
            slot = idle_first[0][2]
            entry = self._entries[slot]
            try:
                entry.writer.sync()  # a close alone doesn't bring the bytes to the disks of HDFS
                entry.closing = self._background.try_submit(entry.writer.close)
                if entry.closing is None:  # too many wait already: take part
                    entry.writer.close()
            except Exception as error:
                self._drop(slot, error)
                raise

    def _await_close(self, slot: Slot, entry: _Entry) -> None:
        assert entry.closing is not None
        try:
            entry.closing.result(CLOSE_WAIT_S)
        except TimeoutError as error:  # still at it: leave it alone, try later
            raise SinkUnavailableError("archive", f"{entry.writer.path}: close takes too long") from error
        except SinkUnavailableError as error:
            # Everything in it was synced before; the lines to come go into a new file.
            self._drop(slot, error)
        except Exception as error:
            self._drop(slot, error)
            raise
        entry.closing = None

    def _submit_commit(self, slot: Slot) -> None:
        entry = self._entries[slot]
        if entry.closing is not None:
            if not entry.closing.done():
                return  # the next time
            self._await_close(slot, entry)
            if slot not in self._entries:
                return
        future = self._background.try_submit(entry.writer.commit)
        if future is not None:
            del self._entries[slot]
            self._commits.append((entry.writer, future))

    def _check_commits(self) -> None:
        """Look at finished commits; try the failed ones again."""
        waiting: list[tuple[RecordWriter, Future[None] | None]] = []
        fenced: FencedError | None = None
        for writer, future in self._commits:
            if future is not None and not future.done():
                waiting.append((writer, future))
                continue
            error = future.exception() if future is not None else None
            if isinstance(error, Exception):
                self._on_failure(writer.path, error)
            if isinstance(error, FencedError):
                fenced = error
            elif writer.state is State.ABORTED:
                self.orphans.append(writer)
            elif isinstance(error, FileExistsError):
                pass  # both names exist, which no run of ours makes: the open one stays readable where it is
            elif writer.state is not State.COMMITTED:
                waiting.append((writer, self._background.try_submit(writer.commit)))
        self._commits = waiting
        if fenced is not None:
            raise fenced

    def _drop(self, slot: Slot, error: Exception) -> None:
        """Forget a file that failed: its lines go into a new one, under a name never used before."""
        entry = self._entries.pop(slot)
        self._touched.pop(slot, None)
        if entry.writer.state is not State.ABORTED:
            entry.writer.abort()
        self._errors += 1
        self.orphans.append(entry.writer)
        self._on_failure(entry.writer.path, error)


def _each(items: Sequence[T], act: Callable[[T], None]) -> None:
    """Act on every item though one fails, then raise its error: a restarted DataNode breaks all files at once.

    A store that is slow to fail isn't asked again and again.
    """
    first: SinkUnavailableError | None = None
    end = 0.0
    for item in items:
        begin = time.monotonic()
        if first is not None and begin > end:
            break
        try:
            act(item)
        except SinkUnavailableError as error:
            if first is None:
                first, end = error, begin + GO_ON_S
    if first is not None:
        raise first

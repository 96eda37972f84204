"""The archive of one process, and of one partition in it: every record as read, in files by event time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from domain.certificate import digest
from domain.errors import SinkUnavailableError
from domain.probe import Point, Probe, no_probe
from domain.record import TimedBatch
from sinks.archive.background import Background
from sinks.archive.fs import FileSystem, open_file_system
from sinks.archive.ledger import FORMAT, LedgerLine, LedgerWriter
from sinks.archive.multiwriter import Limits, MultiWriter, OnFailure
from sinks.archive.part import RecordWriter
from sinks.archive.path import PartName, Slot, ledger_path, random_token
from sinks.archive.recovery import CONFLICT, DEADLINE_S, Recovered, Recovery
from sinks.archive.split import Run, after, runs

DIGEST_MASK = (1 << 64) - 1
CLOSE_DEADLINE_S = 2.0
ORPHAN_DEADLINE_S = 30.0
RECOVERERS = 4


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    url: str
    sync_interval_ms: int = 5_000  # for the follower that calls `sync`
    roll_bytes: int = 256 << 20
    idle_commit_ms: int = 600_000
    max_open_files: int = 256  # shared evenly by the partitions of a process
    options: dict[str, str] = field(default_factory=dict)  # of the HDFS client


class Archive:
    """Makes the partitions' log sinks; owns the file system's client and the threads for slow calls. Thread safe.

    `on_failure(path, error)` hears of every file given up or not committed yet; nothing is lost with them.
    """

    def __init__(
        self,
        settings: ArchiveSettings,
        now_ms: Callable[[], int],
        on_failure: OnFailure = lambda _path, _error: None,
        file_system: FileSystem | None = None,
        probe: Probe = no_probe,
    ) -> None:
        opened, self.root = open_file_system(settings.url, settings.options)
        self.fs = file_system or opened
        self.settings = settings
        self.now_ms = now_ms
        self.on_failure = on_failure
        self.probe = probe
        self.background = Background()
        # Apart: closes that hang with a DataNode must not keep the files from those who mend that.
        self.recoverers = Background(RECOVERERS)
        self._stop = threading.Event()
        self.recovery = Recovery(self.fs, self.root, self._stop, probe=probe)
        self._live: set[str] = set()

    def partition(self, topic: str, partition: int, start: int, archive_window_ms: int) -> PartitionArchive:
        """Return the log sink of one assignment, at its archive progress; does no I/O."""
        return PartitionArchive(self, PartitionOf(topic, partition, archive_window_ms, random_token()), start)

    def recover(
        self, topic: str, partition: int, live_attempts: Collection[str] = (), deadline_s: float = DEADLINE_S
    ) -> Recovered:
        """Bring what dead owners left open under final names; run again until `complete`.

        Never touches this process's own live attempts, nor those given. Takes seconds: not on the way of an
        assignment. Raises `SinkUnavailableError`.
        """

        def is_live(attempt: str) -> bool:
            return attempt in live_attempts or attempt in self._live

        return self.recovery.run(topic, partition, is_live, deadline_s)

    def max_open_files(self) -> int:
        return max(1, self.settings.max_open_files // max(1, len(self._live)))

    def enlist(self, attempt: str) -> None:
        """From its first record on, before it has a file: one that never gets any need not be let go."""
        self._live.add(attempt)

    def release(self, attempt: str) -> None:
        self._live.discard(attempt)

    def close(self, deadline_s: float) -> bool:
        """Finish the commits under way; False if some weren't done in time (recovery does them)."""
        self._stop.set()
        end = time.monotonic() + deadline_s
        closed = self.background.close(deadline_s)
        return self.recoverers.close(max(0.0, end - time.monotonic())) and closed


@dataclass(frozen=True, slots=True)
class PartitionOf:
    topic: str
    partition: int
    window_ms: int
    attempt: str


class PartitionArchive:
    """`LogSink` of one partition for one assignment. `write` does no I/O.

    Lines stay in memory until a ledger line speaks of them, so whatever fails on the way is written again.
    """

    def __init__(self, archive: Archive, of: PartitionOf, start: int) -> None:
        self._archive = archive
        self._of = of
        self.attempt = of.attempt
        self._durable = start
        self._next = start
        self._pending: list[Run] = []
        self._pending_count = 0
        self._pending_digest = 0
        self.pending_bytes = 0
        self._ended = False
        limits = Limits(archive.settings.roll_bytes, archive.settings.idle_commit_ms, archive.max_open_files)
        self._files = MultiWriter(self._new_writer, limits, archive.background, archive.now_ms, archive.on_failure)
        self._ledger: LedgerWriter | None = None
        self._ledger_errors = 0
        self._recovering: Future[None] | None = None

    def write(self, batch: TimedBatch) -> None:
        """Take a batch; records taken before are skipped. Raises `ValueError` for one that leaves a hole."""
        self._check_usable()
        columns = batch.batch
        if columns.start > self._next:
            raise ValueError(f"batch [{columns.start}, {columns.end}) leaves a hole after {self._next}")
        if columns.end <= self._next:
            return
        self._archive.enlist(self.attempt)
        if columns.start < self._next:
            batch = after(batch, self._next)
            columns = batch.batch
        for run in runs(batch, self._of.window_ms):
            self._pending.append(run)
            self.pending_bytes += len(run.data)
        self._pending_count += len(columns)
        self._pending_digest = (self._pending_digest + digest(columns.offsets)) & DIGEST_MASK
        self._next = columns.end

    def sync(self, close_before_ms: int | None) -> int:
        """As `LogSink.sync`: 1. append to the files, 2. hsync them all, 3. ledger line, hsync: the commit point.

        Files to be finished are, later and in the background.
        """
        self._check_usable()
        if self._next > self._durable:
            try:
                self._write_pending()
            except SinkUnavailableError:
                # Each try leaves files it gave up: a full disk would get many of them, most of them empty.
                self._recover_orphans()
                raise
        self._files.settle(self._of.window_ms, close_before_ms)
        self._recover_orphans()
        return self._durable

    def _write_pending(self) -> None:
        self._files.write(self._pending, self._of.window_ms)
        self._archive.probe(Point.LINES_WRITTEN)
        files = self._files.sync()
        self._archive.probe(Point.LINES_SYNCED)
        self._append_to_ledger(files)
        self._archive.probe(Point.LEDGER_SYNCED)
        self._files.ledgered()
        self._pending.clear()
        self._pending_count = self._pending_digest = self.pending_bytes = 0
        self._durable = self._next

    def close(self) -> int:
        """As `LogSink.close`; what isn't closed within two seconds, and every commit, is left to recovery."""
        try:
            self.sync(None)
        except BaseException:
            self.abort()
            raise
        self._end()
        waits = self._files.close()
        if self._ledger is not None:
            ledger_closed = self._archive.background.try_submit(self._ledger.close)
            waits += [ledger_closed] if ledger_closed is not None else []
        wait(waits, CLOSE_DEADLINE_S)
        return self._durable

    def abort(self) -> None:
        if self._ended:
            return
        self._end()
        self._files.abort()
        if self._ledger is not None:
            self._ledger.abort()
        self._pending.clear()

    def _append_to_ledger(self, files: dict[str, tuple[int, int]]) -> None:
        line = LedgerLine(
            v=FORMAT,
            first=self._durable,
            next=self._next,
            lines=self._pending_count,
            digest=self._pending_digest,
            files=files,
        )
        if self._ledger is None:
            name = f"{self.attempt}x{self._ledger_errors}" if self._ledger_errors else self.attempt
            path = ledger_path(self._archive.root, self._of.topic, self._of.partition, name)
            self._ledger = LedgerWriter(self._archive.fs, path)
        try:
            self._ledger.append(line)
        except Exception as error:
            # The next try goes to a new file: this one may end in half a line.
            self._ledger.abort()
            self._archive.on_failure(self._ledger.path, error)
            self._ledger = None
            self._ledger_errors += 1
            if isinstance(error, FileExistsError):  # our own earlier create, its answer lost
                raise SinkUnavailableError("archive", f"ledger exists: {error}") from error
            raise

    def _recover_orphans(self) -> None:
        """Treat files we gave up like a dead owner's, a few at a time and in the background."""
        if self._recovering is not None:
            if not self._recovering.done():
                return
            error = self._recovering.exception()
            if isinstance(error, Exception):
                self._archive.on_failure(f"{self._of.topic}-{self._of.partition}", error)
            self._recovering = None
        if self._files.orphans:
            orphans = list(self._files.orphans)
            self._recovering = self._archive.recoverers.try_submit(lambda: self._recover(orphans))

    def _recover(self, orphans: list[RecordWriter]) -> None:
        keys = {writer.name.ledger_key for writer in orphans}
        done = self._archive.recovery.run_files(self._of.topic, self._of.partition, keys, ORPHAN_DEADLINE_S)
        for path in done.conflicts:
            self._archive.on_failure(path, ValueError(CONFLICT))
        if done.error is not None:
            raise done.error
        if not (done.waiting or done.taken):
            for writer in orphans:
                self._files.orphans.remove(writer)

    def _new_writer(self, slot: Slot, first: int, errors: int) -> RecordWriter:
        attempt = f"{self.attempt}x{errors}" if errors else self.attempt
        name = PartName(self._of.topic, self._of.partition, slot, first, attempt)
        return RecordWriter(self._archive.fs, self._archive.root, name, self._archive.probe)

    def _end(self) -> None:
        self._ended = True
        self._archive.release(self.attempt)

    def _check_usable(self) -> None:
        if self._ended:
            raise ValueError(f"{self._of.topic}-{self._of.partition}: written after its end")

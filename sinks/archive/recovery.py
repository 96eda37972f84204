"""What dead owners left open, brought under final names. In the background, never on the way of an assignment.

For every file in `_open/<partition>` whose attempt is dead:
1. claim it by a rename inside `_open`, so that two recoverers never work on one name;
2. recover the lease, which fences a zombie;
3. only then look at its tail: an open file reads as empty;
4. ends in a newline: commit. Torn: copy its whole lines, commit the copy, move the original to `_torn`. Empty: delete.

Each step leaves a state that the next run, of anybody, takes up: a claimed file is claimed again under a new name, and
whoever lost it fails at its next rename. Nothing that was hsynced is ever deleted: a copy that turns out to be too many
moves to `_torn` as well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from domain.errors import FencedError, SinkUnavailableError
from domain.probe import Point, Probe, no_probe
from sinks.archive.fs import FileSystem, exists, length
from sinks.archive.line import CorruptLineError, parse_line
from sinks.archive.path import (
    PartName,
    attempt_of,
    ledger_folder,
    open_folder,
    parse_ledger,
    parse_open,
    random_token,
)

POLL_S = 0.2
DEADLINE_S = 60.0
TAIL_BYTES = 1 << 16
COPY_BYTES = 1 << 22
CONFLICT = "left as it is: damaged, or its final name holds other content"


@dataclass(slots=True)
class Recovered:
    """What one run did, by path."""

    committed: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)  # originals, now in `_torn`; their whole lines are in `committed`
    deleted: list[str] = field(default_factory=list)  # empty ones
    taken: list[str] = field(default_factory=list)  # by another recoverer meanwhile
    waiting: list[str] = field(default_factory=list)  # lease not free yet, or no answer: run again
    conflicts: list[str] = field(default_factory=list)  # last line damaged, or final name taken by another content
    error: SinkUnavailableError | None = None  # why the first of those that wait has no answer

    @property
    def complete(self) -> bool:
        return not (self.taken or self.waiting or self.conflicts)


class Recovery:
    """Raises `SinkUnavailableError` when the store doesn't answer at all; run it again."""

    def __init__(
        self, fs: FileSystem, root: str, stop: threading.Event, poll_s: float = POLL_S, probe: Probe = no_probe
    ) -> None:
        self._fs = fs
        self._root = root
        self._stop = stop
        self._poll_s = poll_s
        self._probe = probe

    def run(
        self, topic: str, partition: int, is_live: Callable[[str], bool], deadline_s: float = DEADLINE_S
    ) -> Recovered:
        """Recover everything of a partition but what belongs to live attempts. Safe to repeat, and to race.

        `is_live` is asked after the files were listed: an attempt may begin meanwhile.
        """
        done = self._run_parts(topic, partition, lambda part: not is_live(attempt_of(part.attempt)), deadline_s)
        self._close_ledgers(topic, partition, is_live, done, deadline_s)
        return done

    def run_files(self, topic: str, partition: int, ledger_keys: Collection[str], deadline_s: float) -> Recovered:
        """Recover files by name: those an owner itself gave up. Safe to repeat."""
        return self._run_parts(topic, partition, lambda part: part.ledger_key in ledger_keys, deadline_s)

    def _run_parts(
        self, topic: str, partition: int, is_dead: Callable[[PartName], bool], deadline_s: float
    ) -> Recovered:
        done = Recovered()
        found = [
            parse_open(topic, partition, status.name)
            for status in self._fs.list(open_folder(self._root, topic, partition))
        ]
        dead = [part for part in found if part is not None and is_dead(part)]
        claimed = [claim for part in dead if (claim := self._claim(part, done)) is not None]
        if claimed:
            self._probe(Point.ORPHANS_CLAIMED)
        # All leases at once: HDFS takes a second or two for each.
        free = self._free([part.open_path(self._root) for part in claimed], done, deadline_s)
        if free:
            self._probe(Point.LEASES_TAKEN)
        end = time.monotonic() + deadline_s
        for part in claimed:
            if (path := part.open_path(self._root)) in free:
                self._try_to_finish(part, path, done, end)
        return done

    def _try_to_finish(self, part: PartName, path: str, done: Recovered, end: float) -> None:
        """One file that can't be read or renamed now doesn't keep the others waiting."""
        if done.error is not None and time.monotonic() > end:  # each may take long to fail
            done.waiting.append(path)
            return
        try:
            self._finish(part, done)
        except (FileNotFoundError, FencedError):
            done.taken.append(path)
        except CorruptLineError:
            done.conflicts.append(path)
        except SinkUnavailableError as error:
            done.waiting.append(path)
            done.error = done.error or error

    def _claim(self, part: PartName, done: Recovered) -> PartName | None:
        claim = part.claimed(random_token())
        try:
            self._fs.rename(part.open_path(self._root), claim.open_path(self._root))
        except FileNotFoundError:
            done.taken.append(part.open_path(self._root))
            return None
        return claim

    def _free(self, paths: list[str], done: Recovered, deadline_s: float) -> set[str]:
        """Recover leases until the deadline; returns the paths that are closed now."""
        end = time.monotonic() + deadline_s
        free: set[str] = set()
        waiting = list(paths)
        while waiting:
            errors: list[SinkUnavailableError] = []
            waiting = [path for path in waiting if not self._is_free(path, free, done, errors, end)]
            if waiting and (time.monotonic() >= end or self._stop.wait(self._poll_s)):
                done.waiting += waiting
                done.error = done.error or next(iter(errors), None)
                break
        return free

    def _is_free(
        self, path: str, free: set[str], done: Recovered, errors: list[SinkUnavailableError], end: float
    ) -> bool:
        """Whether a path needs no more asking."""
        if errors and (time.monotonic() >= end or self._stop.is_set()):
            return False
        try:
            if not self._fs.recover_lease(path):
                return False
            free.add(path)
        except FileNotFoundError:
            done.taken.append(path)
        except SinkUnavailableError as error:
            errors.append(error)
            return False
        return True

    def _finish(self, part: PartName, done: Recovered) -> None:
        path = part.open_path(self._root)
        size = length(self._fs, path)
        if size == 0:
            self._fs.delete(path)
            done.deleted.append(path)
            return
        if part.is_copy:
            # Half made, or beaten by another recoverer's: its lines are in the original or in that one's copy.
            self._set_aside(part, done)
            return
        whole, last = self._tail(path, size)
        if whole == size:
            assert last is not None
            self._publish(part, part.final_path(self._root, last), size, done)
            return
        if last is None or self._publish_copy(part, whole, last, done):
            self._probe(Point.COPY_PUBLISHED)
            self._set_aside(part, done)

    def _publish(self, part: PartName, final: str, size: int, done: Recovered) -> bool:
        """Move a file to its final name; False if that name is taken by something else."""
        path = part.open_path(self._root)
        try:
            self._fs.rename(path, final)
        except FileExistsError:
            if length(self._fs, final) != size:
                done.conflicts.append(path)
                return False
            self._set_aside(part, done)  # another recoverer was first with the same lines
            return True
        done.committed.append(final)
        return True

    def _publish_copy(self, part: PartName, whole: int, last: int, done: Recovered) -> bool:
        """Commit a copy of a torn file's first `whole` bytes; True once such a file stands under the final name."""
        final = part.final_path(self._root, last)
        published = self._fs.status(final)
        if published is not None:  # by one who died before the original was moved
            if published.length != whole:
                done.conflicts.append(part.open_path(self._root))
            return published.length == whole
        copy = part.copy().open_path(self._root)
        handle = self._fs.create(copy)
        try:
            for offset in range(0, whole, COPY_BYTES):
                size = min(COPY_BYTES, whole - offset)
                handle.write(self._fs.read(part.open_path(self._root), offset, size))
            handle.sync()
            handle.close()
        except BaseException as error:
            handle.abort()
            if isinstance(error, SinkUnavailableError) and not exists(self._fs, copy):
                raise FencedError(copy) from error
            raise
        if length(self._fs, copy) != whole:
            raise FencedError(copy)  # the original was taken while we read: leave both to whoever did
        self._probe(Point.WHOLE_LINES_COPIED)
        return self._publish(part.copy(), final, whole, done)

    def _set_aside(self, part: PartName, done: Recovered) -> None:
        torn = part.torn_path(self._root)
        self._fs.rename(part.open_path(self._root), torn)
        done.torn.append(torn)

    def _tail(self, path: str, size: int) -> tuple[int, int | None]:
        """Return the length up to the last newline, and the offset of the last whole line (None: there is none)."""
        step = TAIL_BYTES
        while True:
            start = max(0, size - step)
            tail = self._fs.read(path, start, size - start)
            end = tail.rfind(b"\n")
            begin = tail.rfind(b"\n", 0, end) if end >= 0 else -1
            if end < 0 and start == 0:
                return 0, None
            if end >= 0 and (begin >= 0 or start == 0):
                return start + end + 1, parse_line(tail[begin + 1 : end]).offset
            step *= 4

    def _close_ledgers(
        self, topic: str, partition: int, is_live: Callable[[str], bool], done: Recovered, deadline_s: float
    ) -> None:
        """Make the ledgers of dead owners readable; they are never written again."""
        paths = [
            status.path
            for status in self._fs.list(ledger_folder(self._root, topic, partition))
            if (attempt := parse_ledger(status.name)) is not None and not is_live(attempt_of(attempt))
        ]
        self._free(paths, done, deadline_s)

"""One file of lines, from its creation to its final name."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from enum import Enum

from domain.errors import FencedError, SinkUnavailableError
from domain.probe import Point, Probe, no_probe
from sinks.archive.fs import FileHandle, FileSystem, exists
from sinks.archive.path import PartName
from sinks.archive.split import Run


class State(Enum):
    """Where a file stands; each is a point a process may die at, and what recovery then does with the file."""

    NEW = "new"  # no file yet: nothing
    OPEN = "open"  # leased: take the lease, commit the whole lines
    CLOSED = "closed"  # under its open name, complete: commit
    COMMITTED = "committed"  # under its final name: nothing
    ABORTED = "aborted"  # never appended to again: as open


class RecordWriter:
    """Not thread safe; one caller at a time. After an error other than of `commit` the file is ABORTED."""

    def __init__(self, fs: FileSystem, root: str, name: PartName, probe: Probe = no_probe) -> None:
        self._fs = fs
        self._probe = probe
        self._root = root
        self._handle: FileHandle | None = None
        self.name = name
        self.path = name.open_path(root)
        self.state = State.NEW
        self.last = -1  # offset of the last line written
        self.length = 0
        self.crc = 0
        self.unsynced = False

    def open(self) -> None:
        """Create the file, or open it again. Raises `FencedError` when somebody took it away meanwhile."""
        assert self.state in {State.NEW, State.CLOSED}, self.state
        try:
            if self.state is State.NEW:
                self._handle = self._fs.create(self.path)
            else:
                self._handle = self._fs.append(self.path)
        except FileNotFoundError as error:
            self.abort()
            raise FencedError(f"{self.path}: claimed by another process") from error
        except FileExistsError as error:
            # An earlier create or close of ours whose answer was lost, or a recoverer's lease. Names are
            # never used twice, so the file is left as it is.
            self.abort()
            raise SinkUnavailableError("archive", f"{self.path}: exists, or is leased") from error
        except BaseException:
            self.abort()
            raise
        self.state = State.OPEN

    def write(self, run: Run) -> None:
        """Append lines. Durable after `sync`."""
        assert run.first > self.last, (run.first, self.last)
        handle = self._open_handle()
        self.unsynced = True
        with self._aborting():
            handle.write(run.data)
        self.last = run.last
        self.length += len(run.data)
        self.crc = zlib.crc32(run.data, self.crc)

    def sync(self) -> None:
        if not self.unsynced:
            return
        handle = self._open_handle()
        with self._aborting():
            handle.sync()
        self.unsynced = False

    def close(self) -> None:
        """Give up the lease; `open` goes on at the end. Does nothing to a closed file."""
        if self.state is not State.OPEN:
            return
        handle = self._open_handle()
        with self._aborting():
            handle.close()
        self._handle = None
        self.unsynced = False
        self.state = State.CLOSED

    def commit(self) -> None:
        """Close, and publish the file under its final name. Safe to repeat.

        Raises `FencedError` when another process claimed the file: that process publishes it.
        """
        self.close()
        assert self.state in {State.CLOSED, State.COMMITTED}, self.state
        if self.state is State.CLOSED:
            self._probe(Point.PART_CLOSED)
            publish(self._fs, self.path, self.name.final_path(self._root, self.last))
            self._probe(Point.PART_PUBLISHED)
            self.state = State.COMMITTED

    def abort(self) -> None:
        """Let go; the file stays as it is for recovery."""
        self.state = State.ABORTED
        if self._handle is not None:
            self._handle.abort()
            self._handle = None

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[None]:
        try:
            yield
        except SinkUnavailableError as error:
            self.abort()
            # A lease lost to a recoverer looks like a store that doesn't answer; but recoverers claim by rename first.
            if self._is_gone():
                raise FencedError(f"{self.path}: claimed by another process") from error
            raise
        except BaseException:
            self.abort()
            raise

    def _is_gone(self) -> bool:
        try:
            return not exists(self._fs, self.path)
        except SinkUnavailableError:
            return False

    def _open_handle(self) -> FileHandle:
        assert self.state is State.OPEN, self.state
        assert self._handle is not None
        return self._handle


def publish(fs: FileSystem, source: str, target: str) -> None:
    """Rename without overwriting; an earlier try of ours whose answer was lost counts.

    Raises `FencedError` when another process took the source, `FileExistsError` when both names exist.
    """
    try:
        fs.rename(source, target)
    except FileNotFoundError as error:
        if not exists(fs, target):
            raise FencedError(f"{source}: claimed by another process") from error

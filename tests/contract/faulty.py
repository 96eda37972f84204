"""A file system that fails at a chosen call: before it, after it (the answer is lost), or halfway through a write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from enum import Enum
from pathlib import Path
from typing import TypeVar

from domain.errors import SinkUnavailableError
from sinks.archive.background import Background
from sinks.archive.fs import FileHandle, FileStatus, FileSystem

T = TypeVar("T")


class Fault(Enum):
    BEFORE = "before"
    AFTER = "after"
    HALF = "half"


class FaultyFileSystem:
    """Fails at call number `at` only; with `dead`, at every later one too, as for a process that is killed there.

    With `forgets` (on local files) a writer that lets go without a close leaves no byte more than it had synced.
    """

    def __init__(
        self, inner: FileSystem, at: int = -1, fault: Fault = Fault.BEFORE, *, dead: bool = False, forgets: bool = False
    ) -> None:
        self._inner = inner
        self._at = at
        self._fault = fault
        self._dead = dead
        self._forgets = forgets
        self.calls = 0
        self.handles: list[FaultyHandle] = []

    def create(self, path: str) -> FileHandle:
        return self._handle(path, lambda: self._inner.create(path))

    def append(self, path: str) -> FileHandle:
        return self._handle(path, lambda: self._inner.append(path))

    def recover_lease(self, path: str) -> bool:
        return self.call(lambda: self._inner.recover_lease(path))

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        return self.call(lambda: self._inner.read(path, offset, length))

    def stream(self, path: str) -> Iterator[bytes]:
        return self.call(lambda: self._inner.stream(path))

    def list(self, path: str) -> list[FileStatus]:
        return self.call(lambda: self._inner.list(path))

    def status(self, path: str) -> FileStatus | None:
        return self.call(lambda: self._inner.status(path))

    def rename(self, source: str, target: str) -> None:
        self.call(lambda: self._inner.rename(source, target))

    def delete(self, path: str) -> bool:
        return self.call(lambda: self._inner.delete(path))

    def mkdirs(self, path: str) -> None:
        self.call(lambda: self._inner.mkdirs(path))

    def call(self, call: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        number = self.calls
        self.calls += 1
        if number == self._at:
            if self._fault is Fault.AFTER:
                call()
            elif self._fault is Fault.HALF and half is not None:
                half()
        elif not self._dead or self._at < 0 or number < self._at:
            return call()
        raise SinkUnavailableError("archive", f"fault {self._fault.value} call {number}")

    def release(self) -> None:
        """Do what the end of a process does to its open files."""
        for handle in self.handles:
            handle.abort()

    def _handle(self, path: str, open_file: Callable[[], FileHandle]) -> FileHandle:
        def opened() -> FaultyHandle:
            handle = FaultyHandle(self, open_file(), path, forgets=self._forgets)
            self.handles.append(handle)
            return handle

        return self.call(opened)


class FaultyHandle:
    def __init__(self, fs: FaultyFileSystem, inner: FileHandle, path: str, *, forgets: bool) -> None:
        self._fs = fs
        self._inner = inner
        self._path = Path(path)
        self._forgets = forgets
        self._synced: int | None = None  # length, once something was written after it

    def write(self, data: bytes) -> None:
        if self._synced is None:
            self._synced = self._path.stat().st_size
        self._fs.call(lambda: self._inner.write(data), lambda: self._inner.write(data[: len(data) // 2]))

    def sync(self) -> None:
        self._fs.call(lambda: self._kept(self._inner.sync))

    def close(self) -> None:
        self._fs.call(lambda: self._kept(self._inner.close))

    def _kept(self, work: Callable[[], None]) -> None:
        work()
        self._synced = None

    def abort(self) -> None:
        if self._forgets and self._synced is not None:
            os.truncate(self._path, self._synced)
        self._synced = None
        self._inner.abort()


class InlineBackground(Background):
    """Runs a job where it is submitted, so that the calls of a run have one order."""

    def try_submit(self, job: Callable[[], None]) -> Future[None] | None:
        future: Future[None] = Future()
        try:
            job()
        except Exception as error:  # noqa: BLE001 - kept for whoever looks at the future
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

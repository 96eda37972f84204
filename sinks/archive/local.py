"""The archive's files on a local disk: a lock is the lease, and folders are synced like files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from domain.errors import FencedError, SinkUnavailableError
from sinks.archive.fs import STREAM_BYTES, FileStatus, LeaseHeldError, parent


class LocalHandle:
    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._closed = False

    def write(self, data: bytes) -> None:
        self._check_open()
        rest = memoryview(data)
        with _translated(self._path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        self._check_open()
        with _translated(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        self.sync()
        self.abort()

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):  # a failed close loses nothing that was synced
                os.close(self._descriptor)

    def _check_open(self) -> None:
        if self._closed:
            raise FencedError(f"{self._path}: written after its close")


class LocalFileSystem:
    """Leases hold between processes of one machine; unlike on HDFS a live writer keeps its lease against recovery."""

    def create(self, path: str) -> LocalHandle:
        with _translated(path):
            self.mkdirs(parent(path))
            with _locked_folder(parent(path)):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
                handle = _leased(path, descriptor)
            _sync_folder(parent(path))
            return handle

    def append(self, path: str) -> LocalHandle:
        with _translated(path):
            return _leased(path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))

    def recover_lease(self, path: str) -> bool:
        with _translated(path):
            if Path(path).is_dir():
                raise FileNotFoundError(path)
            try:
                _leased(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)).close()
            except LeaseHeldError:
                return False
            return True

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with _translated(path), Path(path).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def stream(self, path: str) -> Iterator[bytes]:
        with _translated(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return _pieces(path, descriptor)

    def list(self, path: str) -> list[FileStatus]:
        with _translated(path):
            try:
                with os.scandir(path) as entries:
                    found = [_status_of(entry) for entry in entries]
            except FileNotFoundError:
                return []
            return sorted((status for status in found if status), key=lambda status: status.path)

    def status(self, path: str) -> FileStatus | None:
        with _translated(path):
            try:
                found = Path(path).stat()
            except FileNotFoundError:
                return None
            return FileStatus(path, found.st_size, Path(path).is_dir())

    def rename(self, source: str, target: str) -> None:
        with _translated(source):
            if not Path(source).exists():
                raise FileNotFoundError(source)
            self.mkdirs(parent(target))
            # POSIX rename replaces. Everyone who brings a name into the folder holds its lock; two who take
            # the same source away are told apart by the rename itself.
            with _locked_folder(parent(target)):
                if Path(target).exists():
                    raise FileExistsError(target)
                os.rename(source, target)  # noqa: PTH104 - the plain call, not a method that reads like a copy
            _sync_folder(parent(target))
            _sync_folder(parent(source))

    def delete(self, path: str) -> bool:
        with _translated(path):
            try:
                Path(path).unlink()
            except FileNotFoundError:
                return False
            _sync_folder(parent(path))
            return True

    def mkdirs(self, path: str) -> None:
        with _translated(path):
            missing = []
            while not Path(path).is_dir():
                missing.append(path)
                path = parent(path)
            for folder in reversed(missing):
                Path(folder).mkdir(exist_ok=True)
                _sync_folder(parent(folder))


def _leased(path: str, descriptor: int) -> LocalHandle:
    """Take the lease of an open file, or close it and raise."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and lock another process may have renamed the file, found it unleased and closed its books.
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):  # noqa: PTH116 - pairs with fstat
            raise FileNotFoundError(path)
    except OSError as error:
        os.close(descriptor)
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            raise LeaseHeldError(path) from error
        raise
    return LocalHandle(path, descriptor)


def _pieces(path: str, descriptor: int) -> Iterator[bytes]:
    try:
        with _translated(path):
            while piece := os.read(descriptor, STREAM_BYTES):
                yield piece
    finally:
        os.close(descriptor)


def _status_of(entry: os.DirEntry[str]) -> FileStatus | None:
    try:
        return FileStatus(entry.path, entry.stat().st_size, entry.is_dir())
    except FileNotFoundError:  # moved away while we listed
        return None


@contextlib.contextmanager
def _locked_folder(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        raise SinkUnavailableError("archive", f"{path}: {error.strerror}") from error

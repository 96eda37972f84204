"""The archive's files on HDFS, by hdfs-native. Its traps and errors end here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

import hdfs_native

from domain.errors import FencedError, SinkUnavailableError
from sinks.archive.fs import STREAM_BYTES, FileStatus, LeaseHeldError, parent

if TYPE_CHECKING:
    from hdfs_native._internal import RawFileWriter  # in the stub alone

T = TypeVar("T")

DEADLINE_S = 20.0
DEFAULT_OPTIONS = {
    # The client's own defaults try a dead NameNode for three minutes; these give up after about two seconds.
    "dfs.client.failover.max.attempts": "3",
    "dfs.client.failover.sleep.base.millis": "200",
    "dfs.client.failover.sleep.max.millis": "1000",
}
LEASE_LOST = "LeaseExpiredException"
PANIC = "PanicException"  # of pyo3: a BaseException that no module exports


def _only_closed_by_us(writer: hdfs_native.FileWriter) -> RawFileWriter:
    """Take the writer out of its io object, whose finalizer would close it.

    That happens on whatever thread collects garbage, the event loop's too, and with no DataNode it never ends.
    """
    writer.__dict__["close"] = lambda: None
    return writer.inner


class HdfsHandle:
    def __init__(self, path: str, writer: RawFileWriter, deadline_s: float) -> None:
        self._path = path
        self._writer: RawFileWriter | None = writer
        self._deadline_s = deadline_s

    def write(self, data: bytes) -> None:
        self._run(lambda writer: writer.write(data))

    def sync(self) -> None:
        self._run(lambda writer: writer.hsync())

    def close(self) -> None:
        self._run(lambda writer: writer.close())
        self._writer = None

    def abort(self) -> None:
        # The file stays open, its lease ours: recovery closes it as it does a dead owner's.
        self._writer = None

    def _run(self, call: Callable[[RawFileWriter], object]) -> None:
        writer = self._writer
        if writer is None:
            raise FencedError(f"{self._path}: written after its close")
        try:
            with_deadline(lambda: call(writer), self._path, self._deadline_s)
        except FileNotFoundError as error:  # somebody deleted the file we hold open
            raise FencedError(f"{self._path}: gone") from error


class HdfsFileSystem:
    """Every call ends within the deadline. A call given up may still take effect later."""

    def __init__(self, url: str, options: Mapping[str, str], deadline_s: float = DEADLINE_S) -> None:
        settings = {**DEFAULT_OPTIONS, **options}
        self._client = hdfs_native.Client(url, settings)
        replication = settings.get("dfs.replication")
        self._write_options = hdfs_native.WriteOptions(
            replication=None if replication is None else int(replication), overwrite=False, create_parent=True
        )
        self._deadline_s = deadline_s

    def create(self, path: str) -> HdfsHandle:
        writer = self._call(path, lambda: _only_closed_by_us(self._client.create(path, self._write_options)))
        return HdfsHandle(path, writer, self._deadline_s)

    def append(self, path: str) -> HdfsHandle:
        try:
            writer = self._call(path, lambda: _only_closed_by_us(self._client.append(path)))
        except FileExistsError as error:  # this is how HDFS says so
            raise LeaseHeldError(path) from error
        return HdfsHandle(path, writer, self._deadline_s)

    def recover_lease(self, path: str) -> bool:
        try:
            return self._call(path, lambda: self._client.recover_lease(path))
        except FileExistsError:  # the NameNode waits for a DataNode to report the file's last block
            return False

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        def read() -> bytes:
            reader = self._client.read(path)
            end = len(reader) if length is None else min(offset + length, len(reader))
            if end <= offset:  # past the end the library panics
                return b""
            return reader.read_range(offset, end - offset)

        return self._call(path, read)

    def stream(self, path: str) -> Iterator[bytes]:
        reader = self._call(path, lambda: self._client.read(path))
        return self._pieces(path, reader)

    def list(self, path: str) -> list[FileStatus]:
        try:
            found = self._call(path, lambda: list(self._client.list_status(path)))
        except FileNotFoundError:
            return []
        return sorted((_status(status) for status in found), key=lambda status: status.path)

    def status(self, path: str) -> FileStatus | None:
        try:
            return _status(self._call(path, lambda: self._client.get_file_info(path)))
        except FileNotFoundError:
            return None

    def rename(self, source: str, target: str) -> None:
        try:
            self._rename(source, target)
        except FileNotFoundError:
            # Either of two: the source is gone, or the target has no folder yet.
            if self.status(source) is None:
                raise
            self.mkdirs(parent(target))
            self._rename(source, target)

    def delete(self, path: str) -> bool:
        return self._call(path, lambda: self._client.delete(path, False))

    def mkdirs(self, path: str) -> None:
        self._call(path, lambda: self._client.mkdirs(path, create_parent=True))

    def _rename(self, source: str, target: str) -> None:
        try:
            self._call(source, lambda: self._client.rename(source, target, overwrite=False))
        except SinkUnavailableError:
            # The answer is lost, not always the deed. Names are never used twice: the namespace tells.
            if self.status(source) is not None or self.status(target) is None:
                raise

    def _pieces(self, path: str, reader: hdfs_native.FileReader) -> Iterator[bytes]:
        for offset in range(0, len(reader), STREAM_BYTES):
            size = min(STREAM_BYTES, len(reader) - offset)
            yield self._call(path, lambda offset=offset, size=size: reader.read_range(offset, size))  # type: ignore[misc]

    def _call(self, path: str, call: Callable[[], T]) -> T:
        return with_deadline(call, path, self._deadline_s)


class _Outcome(Generic[T]):
    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.value: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.value.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self.error = error


def with_deadline(call: Callable[[], T], path: str, deadline_s: float) -> T:
    """Run a library call in a thread that can be left behind (some 90 us); translate its error.

    The library has no deadlines of its own and can't be interrupted, but gives up the GIL while it waits.
    """
    outcome = _Outcome(call)
    thread = threading.Thread(target=outcome.run, name="hdfs-call", daemon=True)
    thread.start()
    thread.join(deadline_s)
    if thread.is_alive():
        raise SinkUnavailableError("archive", f"{path}: no answer from HDFS within {deadline_s:g} s")
    if outcome.error is not None:
        raise _translated(outcome.error, path) from outcome.error
    return outcome.value[0]


def _translated(error: BaseException, path: str) -> BaseException:
    # Server errors carry a Java stack trace behind their first line.
    reason = str(error).split("\\n")[0].splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{path}: {reason}")
    if isinstance(error, FileExistsError):
        return FileExistsError(f"{path}: {reason}")
    if LEASE_LOST in str(error):
        return FencedError(f"{path}: {reason}")
    if isinstance(error, Exception) or type(error).__name__ == PANIC:
        return SinkUnavailableError("archive", f"{path}: {reason}")
    return error


def _status(status: hdfs_native.FileStatus) -> FileStatus:
    return FileStatus(status.path, status.length, status.isdir)

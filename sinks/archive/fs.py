"""The files the archive stands on: one protocol, on local disks and on HDFS.

A file has one writer, who holds its lease until close. Paths are absolute strings with `/`.
Every method raises `SinkUnavailableError` when the store doesn't answer; the outcome of a change is then unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from domain.errors import ConfigError

SETTING = "sinks.archive.url"
STREAM_BYTES = 1 << 20


class LeaseHeldError(FileExistsError):
    """Another writer has the file open."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    path: str
    length: int
    is_dir: bool

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class FileHandle(Protocol):
    """A file open for writing. Its holder calls one method at a time.

    Once somebody else took the lease nothing more gets into the file: every method but `abort` raises `FencedError`
    or `SinkUnavailableError`, as the store tells it. After any error: `abort`.
    """

    def write(self, data: bytes) -> None: ...

    def sync(self) -> None:
        """Make everything written durable: it survives the death of this process and of the store's."""

    def close(self) -> None:
        """Make everything written durable and give up the lease."""

    def abort(self) -> None:
        """Let go at once; what wasn't synced may be there or not. Never raises."""


class FileSystem(Protocol):
    """Create, rename, delete and mkdirs are durable when they return."""

    def create(self, path: str) -> FileHandle:
        """Create a file and its folders. Raises `FileExistsError`."""

    def append(self, path: str) -> FileHandle:
        """Open a file at its end. Raises `FileNotFoundError`, `LeaseHeldError`."""

    def recover_lease(self, path: str) -> bool:
        """Take the lease from a dead writer; True once the file is closed: its length is final, its content readable.

        False: not yet, ask again. Raises `FileNotFoundError`.
        """

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return the bytes in [offset, offset + length), fewer at the end of the file.

        A file another process has open shows what the store lets readers see: all of it locally, on HDFS nothing
        of the block being written. Raises `FileNotFoundError`.
        """

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield a file's content in pieces. Raises `FileNotFoundError` at the call."""

    def list(self, path: str) -> list[FileStatus]:
        """Return what lies in a folder, by name; nothing if there is no such folder."""

    def status(self, path: str) -> FileStatus | None: ...

    def rename(self, source: str, target: str) -> None:
        """Move a file, open or not, into a folder made on the way. Of several racers one wins.

        Raises `FileExistsError` if the target exists, `FileNotFoundError` if the source doesn't.
        """

    def delete(self, path: str) -> bool:
        """Delete a file; False if there was none."""

    def mkdirs(self, path: str) -> None: ...


def exists(fs: FileSystem, path: str) -> bool:
    return fs.status(path) is not None


def length(fs: FileSystem, path: str) -> int:
    """Raise `FileNotFoundError` if there is no such file. Of an open file: what its writer last reported."""
    status = fs.status(path)
    if status is None:
        raise FileNotFoundError(path)
    return status.length


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def open_file_system(url: str, options: Mapping[str, str] | None = None) -> tuple[FileSystem, str]:
    """Return the file system a URL names and the path of the archive's root in it; connects to nothing.

    `options` are HDFS client settings such as `dfs.replication`. Raises `ConfigError`.
    """
    parts = urlsplit(url)
    root = unquote(parts.path).rstrip("/")
    if parts.query or parts.fragment:
        raise ConfigError(SETTING, f"{url!r} has a query or fragment", "write a plain URL")
    match parts.scheme:
        case "file":
            from sinks.archive.local import LocalFileSystem

            if parts.netloc not in {"", "localhost"} or not root:
                raise ConfigError(SETTING, f"{url!r} isn't an absolute local path", "write file:///path/of/archive")
            return LocalFileSystem(), root
        case "hdfs" | "viewfs":
            from sinks.archive.hdfs import HdfsFileSystem

            if not parts.netloc:
                raise ConfigError(SETTING, f"{url!r} names no NameNode", "write hdfs://host:port/path")
            return HdfsFileSystem(f"{parts.scheme}://{parts.netloc}", dict(options or {})), root
        case _:
            raise ConfigError(SETTING, f"{url!r} has an unknown scheme", "write hdfs://host:port/path or file:///path")

"""What the archive covers, in its own words: one JSON line per sync, written after the files it speaks of are safe.

A line says: the records of this partition at offsets [first, next) number `lines`, their offsets have this digest, and
they lie in files among `files`, each `[length, crc32 of that many bytes]` so far. Ranges of all ledgers of a partition
together cover everything below its archive progress; they may overlap.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from domain.errors import CorruptRowError
from sinks.archive.fs import FileHandle, FileSystem
from sinks.archive.path import ledger_folder, parse_ledger

FORMAT = 1


class LedgerLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    first: int
    next: int
    lines: int
    digest: int
    files: dict[str, tuple[int, int]]  # PartName.ledger_key -> (length, crc32)


class LedgerWriter:
    """One ledger file, created at the first line. After an error it takes no more."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        self._fs = fs
        self.path = path
        self._handle: FileHandle | None = None

    def append(self, line: LedgerLine) -> None:
        """Durable on return. After an error it may be durable as well, which is no harm: it is true."""
        if self._handle is None:
            self._handle = self._fs.create(self.path)
        self._handle.write(encode(line))
        self._handle.sync()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def abort(self) -> None:
        if self._handle is not None:
            self._handle.abort()
            self._handle = None


def encode(line: LedgerLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def decode_all(content: bytes, path: str) -> Iterator[LedgerLine]:
    """Yield the lines of a ledger file. What stands behind its last newline was never claimed.

    Raises `CorruptRowError` at any other line that isn't one.
    """
    *lines, _torn = content.split(b"\n")
    for number, text in enumerate(lines, 1):
        try:
            line = msgspec.json.decode(text, type=LedgerLine)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptRowError(f"{path}, line {number}: {error}") from error
        if line.v != FORMAT:
            raise CorruptRowError(f"{path}, line {number}: format {line.v}, this version knows {FORMAT}")
        if not 0 <= line.first < line.next or line.lines < 0:
            raise CorruptRowError(f"{path}, line {number}: offsets [{line.first}, {line.next}), {line.lines} lines")
        yield line


def read_ledger(fs: FileSystem, root: str, topic: str, partition: int) -> Iterator[tuple[str, LedgerLine]]:
    """Yield (attempt, line) of every ledger of a partition.

    On HDFS the ledger of a live owner, or of a dead one not recovered yet, reads as empty.
    """
    for status in fs.list(ledger_folder(root, topic, partition)):
        attempt = parse_ledger(status.name)
        if attempt is not None:
            for line in decode_all(fs.read(status.path), status.path):
                yield attempt, line

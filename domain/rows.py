"""Rows of state and changelog, byte for byte: a format from now on. Golden files in tests/golden/rows.

Key: version, kind, table name (one length byte, UTF-8), then by kind:
cell: window start (8 bytes, big-endian ms), cell key · certificate: window start · id: window start, id bytes ·
progress: role (state, counts, reset; archive and events belong to no table, their name is empty).
Big-endian, so that rows sort by table, window and key.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from domain.certificate import Certificate, ClassCount
from domain.errors import CorruptRowError

FORMAT = 1
TABLE_BYTES_MAX = 255
_VERSION = bytes([FORMAT])
_START = struct.Struct(">Q")
_CELL = struct.Struct(">QQq")
_CERTIFICATE = struct.Struct(">Bq" + "QQqq" * 3)
_ID = struct.Struct(">q")
_PARTIAL, _FINALS_DONE, _DROPPED = 1, 2, 4


class Kind(Enum):
    CELL = b"c"
    CERTIFICATE = b"w"
    ID = b"d"
    PROGRESS = b"p"


_KINDS = frozenset(kind.value for kind in Kind)


class Role(Enum):
    STATE = "state"
    COUNTS = "counts"
    ARCHIVE = "archive"
    EVENTS = "events"
    RESET = "reset"  # there while a reset of the table is under way; without a table: of all of them


@dataclass(frozen=True, slots=True)
class Cell:
    """Value of a cell; `offset` is that of the last event in it."""

    on_time: int
    late: int
    offset: int


@dataclass(frozen=True, slots=True)
class RowKey:
    """What a row is about; `tail` is the cell's key, the event id or the progress role."""

    kind: Kind
    table: str
    start_ms: int
    tail: bytes


Row = tuple[bytes, bytes | None]
"""(key, value); a value of None is a tombstone."""


def table_prefix(kind: Kind, table: str) -> bytes:
    name = table.encode()
    if len(name) > TABLE_BYTES_MAX:
        raise ValueError(f"table name of {len(name)} bytes, a row key holds {TABLE_BYTES_MAX}")
    return b"%c%s%c%s" % (FORMAT, kind.value, len(name), name)


def window_prefix(kind: Kind, table: str, start_ms: int) -> bytes:
    """Followed by a cell key or event id; of a certificate the whole key."""
    return table_prefix(kind, table) + _START.pack(start_ms)


def progress_key(role: Role, table: str = "") -> bytes:
    return table_prefix(Kind.PROGRESS, table) + role.value.encode()


def prefixes(keys: Sequence[bytes]) -> list[bytes]:
    """The `table_prefix` of each key, for many; of one of another version something that `parse_prefix` knows."""
    return [key[: 3 + key[2]] if len(key) > 2 else key for key in keys]


def parse_prefix(key: bytes) -> tuple[Kind, str] | None:
    """Kind and table of a row key or its prefix; None for a row of another version or kind."""
    if key[:1] != _VERSION or key[1:2] not in _KINDS:
        return None
    size = key[2] if len(key) > 2 else 0
    if len(key) < 3 + size:
        raise CorruptRowError(f"row key {key.hex()} ends inside its table name")
    try:
        return Kind(key[1:2]), key[3 : 3 + size].decode()
    except UnicodeDecodeError as err:
        raise CorruptRowError(f"row key {key.hex()}: {err}") from err


def parse_key(key: bytes) -> RowKey | None:
    """None for a row of another version or kind: kept as it is, never interpreted."""
    prefix = parse_prefix(key)
    if prefix is None:
        return None
    kind, table = prefix
    rest = key[3 + key[2] :] if len(key) > 2 else b""
    if kind is Kind.PROGRESS:
        return RowKey(kind, table, 0, rest)
    if len(rest) < _START.size:
        raise CorruptRowError(f"row key {key.hex()} ends inside its window start")
    return RowKey(kind, table, _START.unpack_from(rest)[0], rest[_START.size :])


def pack_cell(on_time: int, late: int, offset: int) -> bytes:
    return _CELL.pack(on_time, late, offset)


def unpack_cell(value: bytes) -> Cell:
    return Cell(*_unpack(_CELL, value, "cell"))


def add_to_cell(stored: bytes | None, on_time: int, late: int, offset: int) -> bytes:
    """The row of a cell after more events, the last at `offset`: unpack, add and pack in one go, for big cuts."""
    if stored is None:
        return _CELL.pack(on_time, late, offset)
    before_on_time, before_late, _ = _unpack(_CELL, stored, "cell")
    return _CELL.pack(before_on_time + on_time, before_late + late, offset)


def pack_id(offset: int) -> bytes:
    return _ID.pack(offset)


def unpack_id(value: bytes) -> int:
    offset: int = _unpack(_ID, value, "event id")[0]
    return offset


def pack_certificate(one: Certificate) -> bytes:
    flags = _PARTIAL * one.partial | _FINALS_DONE * one.finals_done | _DROPPED * one.dropped
    counts = (n for c in (one.on_time, one.late, one.expired) for n in (c.count, c.digest, c.first, c.last))
    return _CERTIFICATE.pack(flags, one.offset, *counts)


def unpack_certificate(value: bytes) -> Certificate:
    flags, offset, *counts = _unpack(_CERTIFICATE, value, "certificate")
    on_time, late, expired = (ClassCount(*counts[i : i + 4]) for i in (0, 4, 8))
    return Certificate(
        offset,
        on_time,
        late,
        expired,
        partial=bool(flags & _PARTIAL),
        finals_done=bool(flags & _FINALS_DONE),
        dropped=bool(flags & _DROPPED),
    )


def _unpack(layout: struct.Struct, value: bytes, what: str) -> tuple[int, ...]:
    try:
        return layout.unpack(value)
    except struct.error as err:
        raise CorruptRowError(f"{what} row of {len(value)} bytes, expected {layout.size}") from err

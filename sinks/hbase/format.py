"""Rows of the tables in HBase: an outside contract (docs/hbase-format.md). Family `c` in every table.

`recount_<table>`: row = 2 hex digits of crc32(key) & 255, `|`, window start in 15 digits, `|`, key.
Columns `n<partition>` on time, `l<partition>` late, `e<partition>` expired (the replay's): 8-byte big-endian counts.
`recount_<table>_windows`: row = window start in 15 digits, `w<partition>` its certificate (as in the state);
row `frontier`: `c<partition>` counts, `a<partition>` archive; row `owner`.
`recount_<topic>_events`: row = record id, columns `k` key, `v` value, `t` Kafka timestamp.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from domain.errors import CorruptRowError

FAMILY = "c"
OWNER_ROW = b"owner"
FRONTIER_ROW = b"frontier"
START_DIGITS = 15
SALTS = tuple(b"%02x" % one for one in range(256))
_VERSION_BASE = 1 << 48  # above any clock's milliseconds
_COLUMN = re.compile(rb"c:([a-z])(0|[1-9][0-9]{0,9})")
_COUNT = struct.Struct(">Q")
_FRONTIER = struct.Struct(">qq")
_OFFSET = struct.Struct(">q")
NO_STREAM_TIME = -1


def counts_table(table: str) -> str:
    return f"recount_{table}"


def windows_table(table: str) -> str:
    return f"recount_{table}_windows"


def hbase_tables(table: str) -> tuple[str, str]:
    return counts_table(table), windows_table(table)


def events_table(topic: str) -> str:
    return f"recount_{topic}_events"


def version(next_offset: int) -> int:
    """The timestamp of what is true at offset `next_offset - 1`: a higher offset shows, whoever puts it when."""
    return _VERSION_BASE + next_offset


def next_offset_of(timestamp: int) -> int | None:
    """The inverse of `version`; None for a put that a clock stamped."""
    return timestamp - _VERSION_BASE if timestamp >= _VERSION_BASE else None


def salt(key: bytes) -> bytes:
    """Spreads keys over regions; the same for all windows of a key."""
    return SALTS[zlib.crc32(key) & 255]


def cell_row(start_ms: int, key: bytes) -> bytes:
    return b"%s|%015d|%s" % (salt(key), start_ms, key)


def parse_cell_row(row: bytes) -> tuple[int, bytes] | None:
    """(window start, key); None for a row that isn't one of ours."""
    start = row[3:18]
    if row[2:3] != b"|" or row[18:19] != b"|" or not start.isdigit() or row[:2] != salt(row[19:]):
        return None
    return int(start), row[19:]


def window_row(start_ms: int) -> bytes:
    return b"%015d" % start_ms


def parse_window_row(row: bytes) -> int | None:
    """The window's start; None for another row."""
    return int(row) if len(row) == START_DIGITS and row.isdigit() else None


def column(letter: str, partition: int) -> bytes:
    """Such as `c:n3`: on-time counts of partition 3."""
    return f"{FAMILY}:{letter}{partition}".encode()


def parse_column(name: bytes) -> tuple[str, int] | None:
    """(letter, partition); None for another kind of column."""
    found = _COLUMN.fullmatch(name)
    return None if found is None else (found[1].decode(), int(found[2]))


def unpack_count(value: bytes) -> int:
    count: int = _unpack(_COUNT, value, "count")[0]
    return count


@dataclass(frozen=True, slots=True)
class Frontier:
    """Up to where a partition's counts are wholly in HBase, and its stream time there."""

    next_offset: int
    stream_time: int | None


def pack_frontier(one: Frontier) -> bytes:
    return _FRONTIER.pack(one.next_offset - 1, NO_STREAM_TIME if one.stream_time is None else one.stream_time)


def unpack_frontier(value: bytes) -> Frontier:
    offset, stream_time = _unpack(_FRONTIER, value, "frontier")
    return Frontier(offset + 1, None if stream_time == NO_STREAM_TIME else stream_time)


def pack_offset(next_offset: int) -> bytes:
    return _OFFSET.pack(next_offset)


def unpack_offset(value: bytes) -> int:
    offset: int = _unpack(_OFFSET, value, "offset")[0]
    return offset


def _unpack(layout: struct.Struct, value: bytes, what: str) -> tuple[int, ...]:
    try:
        return layout.unpack(value)
    except struct.error as err:
        raise CorruptRowError(f"HBase {what} of {len(value)} bytes, expected {layout.size}") from err

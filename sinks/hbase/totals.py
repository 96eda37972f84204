"""From a row of HBase to what it says: columns of ours by exact name, damage named by row and column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from domain.errors import CorruptRowError
from sinks.hbase.format import parse_cell_row, parse_column, unpack_count

COUNT_MAX = 1 << 53  # more than any log holds, and JSON's last whole number

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CellTotal:
    """A key's counts in one window over all partitions. Only a replay counts expired events."""

    key: bytes
    on_time: int
    late: int
    expired: int

    @property
    def count(self) -> int:
        return self.on_time + self.late + self.expired


def cell_of(table: str, row: bytes, columns: Mapping[bytes, bytes]) -> CellTotal | None:
    """None for a foreign row and for one without counts. Raises `CorruptRowError`."""
    parsed = parse_cell_row(row)
    if parsed is None:
        return None
    sums = {"n": 0, "l": 0, "e": 0}
    for name, value in columns.items():
        letter, _ = _named(name)
        if letter in sums:
            sums[letter] += _unpacked(table, row, name, value, _count)
    cell = CellTotal(parsed[1], sums["n"], sums["l"], sums["e"])
    return cell if cell.count else None


def by_partition(
    table: str, row: bytes, columns: Mapping[bytes, bytes], letter: str, unpack: Callable[[bytes], T]
) -> dict[int, T]:
    """The columns of one letter, ascending by partition. Raises `CorruptRowError`."""
    named = {name: _named(name) for name in columns}
    found = {
        partition: _unpacked(table, row, name, columns[name], unpack)
        for name, (one, partition) in named.items()
        if one == letter
    }
    return dict(sorted(found.items()))


@lru_cache(maxsize=4096)
def _named(name: bytes) -> tuple[str, int]:
    """(letter, partition) of a column that is spelled as ours are; ("", -1) for any other."""
    return parse_column(name) or ("", -1)


def _unpacked(table: str, row: bytes, name: bytes, value: bytes, unpack: Callable[[bytes], T]) -> T:
    try:
        return unpack(value)
    except CorruptRowError as err:
        raise CorruptRowError(f"HBase table {table}, row {row!r}, column {name.decode()}: {err}") from err


def _count(value: bytes) -> int:
    count = unpack_count(value)
    if count > COUNT_MAX:
        raise CorruptRowError(f"a count of {count}")
    return count

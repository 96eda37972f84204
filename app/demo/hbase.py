"""HBase at the end, read as a stranger reads it: plain scans of both tables, nothing skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property

from domain.errors import CorruptRowError
from sinks.hbase.connection import Connection, Pool
from sinks.hbase.format import (
    FRONTIER_ROW,
    hbase_tables,
    parse_cell_row,
    parse_column,
    unpack_count,
    unpack_offset,
    windows_table,
)

PAGE_ROWS = 1000
TIMEOUT_S = 60.0

Columns = Mapping[bytes, tuple[bytes, int]]  # value and timestamp, by family and qualifier
Rows = Mapping[bytes, Columns]


@dataclass(frozen=True)
class Tables:
    """All there is: `counts` of `recount_<table>`, `windows` of `recount_<table>_windows`."""

    counts: Rows
    windows: Rows

    @property
    def total(self) -> int:
        """On-time and late events; what can't be read counts for nothing."""
        return self._by_window.total()

    def in_window(self, start_ms: int) -> int:
        return self._by_window[start_ms]

    @cached_property
    def _by_window(self) -> Counter[int]:
        found: Counter[int] = Counter()
        for row, columns in self.counts.items():
            at = parse_cell_row(row)
            for name, (value, _) in columns.items():
                parsed = parse_column(name)
                if at is not None and parsed is not None and parsed[0] in "nl":
                    with suppress(CorruptRowError):
                        found[at[0]] += unpack_count(value)
        return found


def read_hbase(address: str, table: str) -> Tables:
    """Every row and column with its timestamp. Raises `SinkUnavailableError`."""
    with closing(Pool(address, timeout_s=TIMEOUT_S)) as pool, pool.connection() as connection:
        counts, windows = (_rows(connection, name) for name in hbase_tables(table))
    return Tables(counts, windows)


def _rows(connection: Connection, name: str) -> Rows:
    return dict(connection.table(name).scan(batch_size=PAGE_ROWS, include_timestamp=True))


def read_archive_frontier(address: str, table: str) -> dict[int, int]:
    """By partition up to where HBase says the archive is. Raises `SinkUnavailableError`."""
    with closing(Pool(address)) as pool, pool.connection() as connection:
        row = connection.table(windows_table(table)).row(FRONTIER_ROW)
    found = {}
    for name, value in row.items():
        parsed = parse_column(name)
        if parsed is not None and parsed[0] == "a":
            with suppress(CorruptRowError):  # the verdict names it
                found[parsed[1]] = unpack_offset(value)
    return found

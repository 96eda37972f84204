"""What HBase holds of one table, as any outside reader sees it: columns summed, zeros hidden, foreign rows skipped."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from domain.certificate import Certificate
from domain.errors import RecountError, SinkUnavailableError
from domain.rows import unpack_certificate
from sinks.hbase.claim import Owner, read_owner
from sinks.hbase.connection import Connection, Pool
from sinks.hbase.format import (
    FAMILY,
    FRONTIER_ROW,
    SALTS,
    START_DIGITS,
    Frontier,
    cell_row,
    counts_table,
    parse_window_row,
    unpack_frontier,
    unpack_offset,
    window_row,
    windows_table,
)
from sinks.hbase.totals import CellTotal, by_partition, cell_of

SCANNERS = 4
PAGE_ROWS = 1_000
START_END = 10**START_DIGITS
TABLE_NOT_FOUND = "org.apache.hadoop.hbase.TableNotFoundException"

T = TypeVar("T")


class NoSuchTableError(RecountError):
    """HBase answers, and has no such table: nothing was ever put there, or it was dropped."""

    def __init__(self, table: str) -> None:
        super().__init__(f"HBase table {table} doesn't exist")
        self.table = table


@dataclass(frozen=True, slots=True)
class WindowTop:
    """A window's largest keys by `count`, ties by key; the other fields are over all its keys."""

    cells: list[CellTotal]
    keys: int
    on_time: int
    late: int
    expired: int


@dataclass(frozen=True, slots=True)
class WindowCertificates:
    start_ms: int
    partitions: Mapping[int, Certificate]


class HBaseReader:
    """Reads one table. Blocking; thread safe.

    Every method raises `NoSuchTableError`, `SinkUnavailableError`, and `CorruptRowError` for a damaged row of ours.
    """

    def __init__(self, pool: Pool, table: str) -> None:
        self._pool = pool
        self.table = table
        self._counts = counts_table(table)
        self._windows = windows_table(table)

    def owner(self) -> Owner | None:
        """None where nobody claimed the tables yet."""
        with self._connection(self._windows) as connection:
            return read_owner(connection, self.table)

    def frontier(self) -> dict[int, Frontier]:
        """By partition: up to where its counts are wholly here. Read before cells: they are at least that new."""
        return self._frontier_row("c", unpack_frontier)

    def archive(self) -> dict[int, int]:
        """The archive's next offset by partition, as last told to HBase."""
        return self._frontier_row("a", unpack_offset)

    def windows(self, from_ms: int, to_ms: int) -> list[WindowCertificates]:
        """Windows with start in [from_ms, to_ms) and their certificates, ascending."""
        from_ms, to_ms = max(from_ms, 0), min(to_ms, START_END - 1)
        if from_ms >= to_ms:
            return []
        found = []
        with self._connection(self._windows) as connection:
            for row, columns in _scan(connection, self._windows, window_row(from_ms), window_row(to_ms)):
                start = parse_window_row(row)
                if start is None:
                    continue
                certificates = by_partition(self._windows, row, columns, "w", unpack_certificate)
                if certificates:
                    found.append(WindowCertificates(start, certificates))
        return found

    def top(self, start_ms: int, count: int, stop: threading.Event | None = None) -> WindowTop:
        """Look through all keys of a window, in memory for `count` of them.

        `stop`, once set, ends it with `SinkUnavailableError`.
        """
        given_up = threading.Event()

        def stopped() -> bool:
            return given_up.is_set() or (stop is not None and stop.is_set())

        def part(salts: Sequence[bytes]) -> WindowTop:
            try:
                return self._top_of(salts, start_ms, count, stopped)
            except BaseException:
                given_up.set()  # the others need not go on
                raise

        parts = [SALTS[one::SCANNERS] for one in range(SCANNERS)]
        with ThreadPoolExecutor(SCANNERS, "hbase-scan") as scanners:
            done = [scanners.submit(part, salts) for salts in parts]
        errors = [err for err in (one.exception() for one in done) if err is not None]
        if errors:
            raise next((err for err in errors if not isinstance(err, _StoppedError)), errors[0])
        found = [one.result() for one in done]
        return WindowTop(
            _largest(count, (cell for one in found for cell in one.cells)),
            keys=sum(one.keys for one in found),
            on_time=sum(one.on_time for one in found),
            late=sum(one.late for one in found),
            expired=sum(one.expired for one in found),
        )

    def cells(self, start_ms: int) -> Iterator[CellTotal]:
        """All keys of a window in no order; holds no connection between pages."""
        for salt in SALTS:
            first, end = _span(salt, start_ms)
            while True:
                with self._connection(self._counts) as connection:
                    page = list(_scan(connection, self._counts, first, end, limit=PAGE_ROWS))
                yield from (cell for row, columns in page if (cell := cell_of(self._counts, row, columns)) is not None)
                if len(page) < PAGE_ROWS:
                    break
                first = page[-1][0] + b"\0"

    def series(self, key: bytes, starts: Iterable[int]) -> dict[int, CellTotal]:
        """One key in each of these windows; those without a count are left out."""
        rows = {cell_row(start, key): start for start in starts}
        names = list(rows)
        found: dict[int, CellTotal] = {}
        for at in range(0, len(names), PAGE_ROWS):
            with self._connection(self._counts) as connection:
                page = connection.table(self._counts).rows(names[at : at + PAGE_ROWS], [FAMILY.encode()])
            for row, columns in page:
                cell = cell_of(self._counts, row, columns)
                if cell is not None:
                    found[rows[row]] = cell
        return dict(sorted(found.items()))

    def _top_of(self, salts: Iterable[bytes], start_ms: int, count: int, stopped: Callable[[], bool]) -> WindowTop:
        keys = on_time = late = expired = 0

        def read(connection: Connection) -> Generator[CellTotal, None, None]:
            nonlocal keys, on_time, late, expired
            for salt in salts:
                for row, columns in _scan(connection, self._counts, *_span(salt, start_ms)):
                    if stopped():
                        raise _StoppedError("HBase", "told to stop reading")
                    cell = cell_of(self._counts, row, columns)
                    if cell is not None:
                        keys += 1
                        on_time += cell.on_time
                        late += cell.late
                        expired += cell.expired
                        yield cell

        with self._connection(self._counts) as connection, closing(read(connection)) as cells:
            largest = _largest(count, cells)
        return WindowTop(largest, keys, on_time, late, expired)

    def _frontier_row(self, letter: str, unpack: Callable[[bytes], T]) -> dict[int, T]:
        with self._connection(self._windows) as connection:
            columns = connection.table(self._windows).row(FRONTIER_ROW, [FAMILY.encode()])
        return by_partition(self._windows, FRONTIER_ROW, columns, letter, unpack)

    @contextmanager
    def _connection(self, table: str) -> Iterator[Connection]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except SinkUnavailableError as err:
            if err.reason.startswith(TABLE_NOT_FOUND):
                raise NoSuchTableError(table) from err
            raise


class _StoppedError(SinkUnavailableError):
    pass


def _scan(
    connection: Connection, table: str, first: bytes, end: bytes, limit: int | None = None
) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    scan = connection.table(table).scan(
        row_start=first, row_stop=end, columns=[FAMILY.encode()], batch_size=PAGE_ROWS, limit=limit
    )
    with closing(scan):  # the scanner is closed before its connection is
        yield from scan


def _span(salt: bytes, start_ms: int) -> tuple[bytes, bytes]:
    """The rows of one window with this salt: from the first one to the first one after them."""
    prefix = b"%s|%015d" % (salt, start_ms)
    return prefix + b"|", prefix + b"}"


def _largest(count: int, cells: Iterable[CellTotal]) -> list[CellTotal]:
    return heapq.nsmallest(count, cells, key=lambda cell: (-cell.count, cell.key))

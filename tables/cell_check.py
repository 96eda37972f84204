"""Whether the cells of a table add up to its certificates. Synchronous: runs in a thread, while commits go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from domain.certificate import Certificate
from domain.errors import CorruptRowError
from domain.rows import Cell, Kind, parse_key, table_prefix, unpack_cell, unpack_certificate, window_prefix
from tables.rocksdb import AFTER, RocksStore

CHUNK_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A window whose cells say something else than its certificate."""

    table: str
    start_ms: int
    cells: str
    certificate: str

    def __str__(self) -> str:
        start = datetime.fromtimestamp(self.start_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
        return f"table {self.table}, window {start}: its cells say {self.cells}, its certificate {self.certificate}"


@dataclass(slots=True)
class CellCheck:
    """Of one table whose rows say what its progress says. `rest` is called after every few rows.

    Raises `StoreClosedError` when the partition is given up meanwhile.
    """

    store: RocksStore
    table: str
    rest: Callable[[], None]
    windows: int = 0
    cells: int = 0

    def mismatch(self) -> Mismatch | None:
        """The first one that is found; None: all windows add up but those that are dropped, wholly or in part."""
        # Newest first: a wrong value there is soon the base of a committed one. Starts are few, what is dropped isn't.
        for start in reversed(self._whole_windows()):
            if (found := self._mismatch_in(start)) is not None:
                return found
        for start in self._windows_with_cells():
            if self.store.get(window_prefix(Kind.CERTIFICATE, self.table, start)) is None:
                return Mismatch(self.table, start, "that they are there", "is missing")
        return None

    def _whole_windows(self) -> list[int]:
        """Starts of windows whose certificate doesn't say that they were dropped, or can't be read."""
        prefix = at = table_prefix(Kind.CERTIFICATE, self.table)
        found = []
        while rows := self.store.read(prefix, at, CHUNK_ROWS, also=at).rows:
            for key, value in rows:
                parsed = parse_key(key)
                assert parsed is not None
                one = _certificate(value)
                if one is None or not one.dropped:
                    found.append(parsed.start_ms)
            at = rows[-1][0] + AFTER
            self.rest()
        return found

    def _windows_with_cells(self) -> Iterator[int]:
        prefix = at = table_prefix(Kind.CELL, self.table)
        while keys := self.store.keys(prefix, 1, at):
            parsed = parse_key(keys[0])
            assert parsed is not None
            yield parsed.start_ms
            at = window_prefix(Kind.CELL, self.table, parsed.start_ms + 1)
            self.rest()

    def _mismatch_in(self, start: int) -> Mismatch | None:
        key = window_prefix(Kind.CERTIFICATE, self.table, start)
        while True:
            value = self.store.get(key)
            cells = self.store.scan(window_prefix(Kind.CELL, self.table, start))
            first = next(cells, None)  # from here on they are as of one moment
            # Every checkpoint that touches a cell rewrites the certificate, and it never is again what it was.
            if self.store.get(key) == value:
                break
        one = None if value is None else _certificate(value)
        if one is None:
            return Mismatch(self.table, start, "that they are there", "can't be read")
        if one.dropped:
            return None
        try:
            found = self._sum(first, cells)
        except CorruptRowError as err:
            return Mismatch(self.table, start, f"nothing ({err})", _say(_total(one)))
        self.windows += 1
        return None if found == _total(one) else Mismatch(self.table, start, _say(found), _say(_total(one)))

    def _sum(self, first: tuple[bytes, bytes] | None, cells: Iterator[tuple[bytes, bytes]]) -> Cell:
        on_time, late, last = 0, 0, -1
        row = first
        while row is not None:
            cell = unpack_cell(row[1])
            on_time += cell.on_time
            late += cell.late
            last = max(last, cell.offset)
            self.cells += 1
            if not self.cells % CHUNK_ROWS:
                self.rest()
            row = next(cells, None)
        self.rest()
        return Cell(on_time, late, last)


def _certificate(value: bytes) -> Certificate | None:
    try:
        return unpack_certificate(value)
    except CorruptRowError:
        return None


def _total(one: Certificate) -> Cell:
    return Cell(one.on_time.count, one.late.count, max(one.on_time.last, one.late.last))


def _say(one: Cell) -> str:
    return f"{one.on_time} on time, {one.late} late, the last at offset {one.offset}"

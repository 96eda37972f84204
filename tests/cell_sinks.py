"""Cell sinks for tests: a fake of ours, and HBase as a stranger reads it, with the same way of looking at both."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import happybase

from domain.certificate import Certificate
from domain.errors import RefusedError, SinkUnavailableError
from domain.rows import Kind, Row, parse_key, unpack_cell, unpack_certificate
from sinks.base import CellSink
from sinks.hbase import format as hbase_format
from sinks.hbase.claim import Claimant
from sinks.hbase.connection import Pool
from sinks.hbase.counts import HBaseTable
from sinks.hbase.format import Frontier

Counts = dict[tuple[int, bytes], tuple[int, int]]
"""(window start, key) -> (on time, late); without zeros."""


@dataclass
class Shown:
    """What a sink shows of one partition."""

    cells: Counts = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    frontier: Frontier | None = None
    archive_next_offset: int | None = None


class Room(Protocol):
    """A sink's tables: makes the sinks of partitions, and can be looked at and emptied."""

    table: str

    def sink(self, partition: int = 0) -> CellSink: ...
    def shown(self, partition: int = 0) -> Shown: ...
    def empty(self) -> None: ...


class FakeRoom:
    """Keeps the value of the highest version, of equal ones the last: as HBase does."""

    def __init__(self, table: str = "views") -> None:
        self.table = table
        self.values: dict[tuple[str, int, object], tuple[int, bytes]] = {}
        self.table_id = secrets.token_hex(8)
        self.owner = "app"

    def sink(self, partition: int = 0) -> FakeCellSink:
        return FakeCellSink(self, partition)

    def put(self, what: str, partition: int, where: object, version: int, value: bytes) -> None:
        known = self.values.get((what, partition, where))
        if known is None or version >= known[0]:
            self.values[what, partition, where] = (version, value)

    def shown(self, partition: int = 0) -> Shown:
        shown = Shown()
        for (what, whose, where), (_, value) in self.values.items():
            if whose != partition:
                continue
            if what == "cell":
                cell = unpack_cell(value)
                assert isinstance(where, tuple)
                shown.cells[where] = (cell.on_time, cell.late)
            elif what == "certificate":
                assert isinstance(where, int)
                shown.certificates[where] = unpack_certificate(value)
            elif what == "frontier":
                shown.frontier = hbase_format.unpack_frontier(value)
            else:
                shown.archive_next_offset = hbase_format.unpack_offset(value)
        return shown

    def empty(self) -> None:
        self.values.clear()
        self.table_id = secrets.token_hex(8)


class FakeCellSink:
    """`CellSink` of one partition. `down` makes it unavailable; `applies` puts before it fails, as a lost answer does.

    `before(call number)` is called in the sink's thread before each call.
    """

    def __init__(self, room: FakeRoom, partition: int) -> None:
        self._room = room
        self._partition = partition
        self.calls: list[str] = []
        self.put: list[tuple[str, int, int]] = []  # (what, rows, next offset)
        self.down = False
        self.applies = False
        self.before: Callable[[int], None] = lambda _: None
        self.blocked = ""
        self.entered = threading.Event()
        self.released = threading.Event()

    def claim(self) -> str:
        self._enter("claim")
        self._fail()
        if self._room.owner != "app":
            raise RefusedError("table", "another's", "drop it")
        return self._room.table_id

    def next_offset(self) -> int | None:
        frontier = self._room.shown(self._partition).frontier
        return None if frontier is None else frontier.next_offset

    def put_cells(self, rows: Sequence[Row], next_offset: int) -> None:
        self._put_rows("cells", rows, next_offset)

    def put_certificates(self, rows: Sequence[Row], next_offset: int) -> None:
        self._put_rows("certificates", rows, next_offset)

    def put_frontier(self, next_offset: int, stream_time: int | None, archive_next_offset: int | None) -> None:
        self._enter("frontier")
        if not self.down or self.applies:
            self.put.append(("frontier", 1, next_offset))
            value = hbase_format.pack_frontier(Frontier(next_offset, stream_time))
            self._room.put("frontier", self._partition, None, next_offset, value)
            if archive_next_offset is not None:
                value = hbase_format.pack_offset(archive_next_offset)
                self._room.put("archive", self._partition, None, archive_next_offset, value)
        self._fail()

    def _put_rows(self, what: str, rows: Sequence[Row], next_offset: int) -> None:
        self._enter(what)
        if not self.down or self.applies:
            self.put.append((what, len(rows), next_offset))
            for row, value in rows:
                key = parse_key(row)
                assert key is not None
                assert value is not None
                if key.kind is Kind.CELL:
                    self._room.put("cell", self._partition, (key.start_ms, key.tail), next_offset, value)
                else:
                    self._room.put("certificate", self._partition, key.start_ms, next_offset, value)
        self._fail()

    def _enter(self, call: str) -> None:
        self.before(len(self.calls))
        self.calls.append(call)
        if self.blocked == call:
            self.entered.set()
            assert self.released.wait(30), "the test releases the sink"

    def _fail(self) -> None:
        if self.down:
            raise SinkUnavailableError("HBase", "down")


class HBaseRoom:
    """One table on a real HBase, under a name nobody has used."""

    def __init__(self, address: str, app: str = "app") -> None:
        self.table = f"t{secrets.token_hex(4)}"
        self.pool = Pool(address)
        host, _, port = address.rpartition(":")
        self.stranger = happybase.Connection(host, int(port))
        self.claimed = HBaseTable(self.pool, Claimant(self.table, app, "clicks", "fingerprint"))

    def sink(self, partition: int = 0) -> CellSink:
        return self.claimed.partition(partition)

    def shown(self, partition: int = 0) -> Shown:
        shown = Shown()
        for row, columns in self.stranger.table(hbase_format.counts_table(self.table)).scan():
            at = hbase_format.parse_cell_row(row)
            assert at is not None, row
            counts = [columns.get(f"c:{letter}{partition}".encode(), bytes(8)) for letter in "nl"]
            on_time, late = (int.from_bytes(one, "big") for one in counts)
            if on_time or late:
                shown.cells[at] = (on_time, late)
        for row, columns in self.stranger.table(hbase_format.windows_table(self.table)).scan():
            if row.isdigit() and (value := columns.get(f"c:w{partition}".encode())) is not None:
                shown.certificates[int(row)] = unpack_certificate(value)
            elif row == b"frontier":
                value, archive = (columns.get(f"c:{letter}{partition}".encode()) for letter in "ca")
                shown.frontier = None if value is None else hbase_format.unpack_frontier(value)
                shown.archive_next_offset = None if archive is None else hbase_format.unpack_offset(archive)
        return shown

    def empty(self) -> None:
        """As an operator does who wants it filled again: drop both tables."""
        for name in hbase_format.hbase_tables(self.table):
            self.stranger.delete_table(name, disable=True)

    def close(self) -> None:
        self.pool.close()
        self.stranger.close()

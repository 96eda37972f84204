"""The counts of one table in HBase: absolute values, each put at the version of the offset it is true at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from zlib import crc32

from domain.errors import CorruptRowError, SinkUnavailableError
from domain.probe import Point, Probe, no_probe
from domain.rows import Kind, Row, table_prefix
from sinks.hbase.claim import Claimant, Owner, claim, read_owner
from sinks.hbase.connection import Connection, Pool
from sinks.hbase.format import (
    FRONTIER_ROW,
    SALTS,
    Frontier,
    column,
    counts_table,
    pack_frontier,
    pack_offset,
    unpack_frontier,
    version,
    window_row,
    windows_table,
)
from sinks.hbase.thrift import BatchMutation, Mutation

START_BYTES = 8
COUNT_BYTES = 8
NOTHING = bytes(COUNT_BYTES)


class HBaseTable:
    """One table's place in HBase, shared by the partitions of a process. Thread safe."""

    def __init__(self, pool: Pool, claimant: Claimant, probe: Probe = no_probe) -> None:
        self.pool = pool
        self.claimant = claimant
        self.probe = probe
        self._lock = threading.Lock()
        self._claimed = False
        self._failed: tuple[float, tuple[str, str]] | None = None  # when, and why

    def claim(self) -> str:
        """The tables' id, looked up at each call.

        At the first, and after any failure, tables that are missing are made and counts that are gone are noticed.
        """
        try:
            owner = self._owner() if self._claimed else None
            if owner is None:
                owner = self._claim()
        except CorruptRowError as err:  # it may be mended; counting doesn't wait for that
            raise SinkUnavailableError("HBase", str(err)) from err
        return owner.table_id

    def _owner(self) -> Owner | None:
        with self.guarded() as connection:
            owner = read_owner(connection, self.claimant.table)
        if owner is not None:
            self.claimant.check(owner)
        return owner

    def _claim(self) -> Owner:
        """One at a time; who waited while another failed fails with it, instead of waiting as long again."""
        asked = time.monotonic()
        with self._lock:
            if self._failed is not None and self._failed[0] > asked:
                raise SinkUnavailableError(*self._failed[1])
            try:
                owner = claim(self.pool, self.claimant)
            except SinkUnavailableError as err:
                self._failed = (time.monotonic(), (err.sink, err.reason))
                raise
            self._claimed = True
            return owner

    @contextmanager
    def guarded(self) -> Iterator[Connection]:
        """A connection; after a failure the next claim looks at the tables again."""
        try:
            with self.pool.connection() as connection:
                yield connection
        except SinkUnavailableError:
            self._claimed = False
            raise

    def partition(self, partition: int) -> HBaseCounts:
        return HBaseCounts(self, partition)


class HBaseCounts:
    """`sinks.base.CellSink` of one partition."""

    def __init__(self, table: HBaseTable, partition: int) -> None:
        name = table.claimant.table
        self._table = table
        self._counts = counts_table(name).encode()
        self._windows = windows_table(name).encode()
        self._on_time = column("n", partition)
        self._late = column("l", partition)
        self._certificate = column("w", partition)
        self._frontier = column("c", partition)
        self._archive = column("a", partition)
        self._cell_prefix = len(table_prefix(Kind.CELL, name))
        self._certificate_prefix = len(table_prefix(Kind.CERTIFICATE, name))

    def claim(self) -> str:
        return self._table.claim()

    def next_offset(self) -> int | None:
        with self._table.guarded() as connection:
            value = connection.table(self._windows).row(FRONTIER_ROW, [self._frontier]).get(self._frontier)
        return None if value is None else unpack_frontier(value).next_offset

    def put_cells(self, rows: Sequence[Row], next_offset: int) -> None:
        self._table.probe(Point.COUNTS_TAKEN)
        batches = []
        at = self._cell_prefix
        end = at + START_BYTES
        start, digits = b"", b""
        for row, value in rows:
            if value is None:
                continue
            if row[at:end] != start:
                start = row[at:end]
                digits = b"|%015d|" % int.from_bytes(start, "big")
            key = row[end:]
            batches.append(BatchMutation(SALTS[crc32(key) & 255] + digits + key, self._counts_of(value)))
        self._put(self._counts, batches, next_offset)
        self._table.probe(Point.CELLS_PUT)

    def _counts_of(self, value: bytes) -> list[Mutation]:
        """A cell row's two counts are as HBase wants them: 8 bytes each, big-endian. Zeros aren't put."""
        on_time, late = value[:COUNT_BYTES], value[COUNT_BYTES : 2 * COUNT_BYTES]
        if late == NOTHING:
            return [Mutation(False, self._on_time, on_time, True)]
        if on_time == NOTHING:
            return [Mutation(False, self._late, late, True)]
        return [Mutation(False, self._on_time, on_time, True), Mutation(False, self._late, late, True)]

    def put_certificates(self, rows: Sequence[Row], next_offset: int) -> None:
        at = self._certificate_prefix
        batches = [
            BatchMutation(
                window_row(int.from_bytes(row[at : at + START_BYTES], "big")),
                [Mutation(False, self._certificate, value, True)],
            )
            for row, value in rows
            if value is not None
        ]
        self._put(self._windows, batches, next_offset)
        self._table.probe(Point.CERTIFICATES_PUT)

    def put_frontier(self, next_offset: int, stream_time: int | None, archive_next_offset: int | None) -> None:
        value = pack_frontier(Frontier(next_offset, stream_time))
        self._put(self._windows, [_one(FRONTIER_ROW, self._frontier, value)], next_offset)
        if archive_next_offset is not None:
            value = pack_offset(archive_next_offset)
            self._put(self._windows, [_one(FRONTIER_ROW, self._archive, value)], archive_next_offset)
        self._table.probe(Point.FRONTIER_PUT)

    def _put(self, table: bytes, batches: list[BatchMutation], next_offset: int) -> None:
        if batches:
            with self._table.guarded() as connection:
                connection.client.mutateRowsTs(table, batches, version(next_offset), {})


def _one(row: bytes, name: bytes, value: bytes) -> BatchMutation:
    return BatchMutation(row, [Mutation(False, name, value, True)])

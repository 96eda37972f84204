"""Every record of one partition as a row in HBase: the row is the record's id, so a repeat is the same row."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from domain.probe import Point, Probe, no_probe
from domain.record import Batch, TimedBatch, record_id
from sinks.hbase.claim import create_if_missing
from sinks.hbase.connection import Pool
from sinks.hbase.format import FAMILY, events_table, version
from sinks.hbase.thrift import BatchMutation, Mutation

KEY = f"{FAMILY}:k".encode()
VALUE = f"{FAMILY}:v".encode()
TIMESTAMP = f"{FAMILY}:t".encode()
TOO_LARGE = f"{FAMILY}:too_large".encode()
_INT64 = struct.Struct(">q")
PUT_ROWS = 5_000
PUT_BYTES = 4 << 20
CELL_BYTES_MAX = (10 << 20) - 1024  # hbase.client.keyvalue.maxsize, less what names the cell


class HBaseEvents:
    """`LogSink` of one partition. `write` does no I/O; rows wait in memory until `sync` has put them all."""

    def __init__(self, pool: Pool, topic: str, partition: int, start: int, probe: Probe = no_probe) -> None:
        self._pool = pool
        self._probe = probe
        self._table = events_table(topic)
        self._topic = topic
        self._partition = partition
        self._next = start
        self._durable = start
        self._pending: list[Batch] = []
        self._made = False

    def write(self, batch: TimedBatch) -> None:
        """Take a batch; one taken before is skipped. Raises `ValueError` for one that leaves a hole."""
        columns = batch.batch
        if columns.start > self._next:
            raise ValueError(f"batch [{columns.start}, {columns.end}) leaves a hole after {self._next}")
        if columns.end > self._next:
            self._pending.append(columns)
            self._next = columns.end

    def sync(self, close_before_ms: int | None) -> int:
        del close_before_ms
        if self._next > self._durable:
            try:
                self._put_pending()
            except BaseException:
                self._made = False  # the table may be gone
                raise
            self._pending.clear()
            self._durable = self._next
        return self._durable

    def close(self) -> int:
        return self.sync(None)

    def abort(self) -> None:
        self._pending.clear()

    def _put_pending(self) -> None:
        if not self._made:
            create_if_missing(self._pool, [self._table])
            self._made = True
        rows: list[BatchMutation] = []
        size = 0
        for row, row_size in self._rows():
            rows.append(row)
            size += row_size
            if len(rows) >= PUT_ROWS or size >= PUT_BYTES:
                self._put(rows)
                self._probe(Point.EVENTS_PARTLY_PUT)
                rows, size = [], 0
        if rows:
            self._put(rows)

    def _put(self, rows: list[BatchMutation]) -> None:
        with self._pool.connection() as connection:
            connection.client.mutateRowsTs(self._table.encode(), rows, version(self._next), {})

    def _rows(self) -> Iterator[tuple[BatchMutation, int]]:
        """Rows with their sizes. Of a value that no cell can hold only its size is kept, in `too_large`."""
        for batch in self._pending:
            columns = zip(batch.offsets.tolist(), batch.timestamps.tolist(), batch.keys, batch.values, strict=True)
            for offset, timestamp, key, value in columns:
                cells = [Mutation(False, TIMESTAMP, _INT64.pack(timestamp), True)]
                for name, data in ((KEY, key), (VALUE, value)):
                    if data is not None and len(data) > CELL_BYTES_MAX:
                        cells.append(Mutation(False, TOO_LARGE, b"%s %d" % (name, len(data)), True))
                    elif data is not None:
                        cells.append(Mutation(False, name, data, True))
                row = record_id(self._topic, self._partition, offset).encode()
                yield BatchMutation(row, cells), len(row) + len(key or b"") + len(value or b"")

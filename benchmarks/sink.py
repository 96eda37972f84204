"""The counts sink against a bare happybase batch loop: cells per second into the same Thrift server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import happybase

from domain import rows
from domain.rows import Kind, Row, window_prefix
from sinks.hbase.claim import FAMILIES, Claimant
from sinks.hbase.connection import Pool
from sinks.hbase.counts import HBaseTable
from sinks.hbase.format import cell_row, version

CELLS = 200_000
WINDOWS = 20
BATCH = 5_000  # the loop's best of 1,000 to 10,000 on this server, within noise
TABLE = "sink"


@dataclass(frozen=True, slots=True)
class SinkRates:
    """Cells per second of wall clock, and per CPU-second of ours."""

    per_s: float
    per_cpu_s: float


def counts(start: int, count: int) -> list[tuple[int, bytes, int]]:
    return [(at % WINDOWS * 300_000, b"/page/%d" % (at // WINDOWS), at + 1) for at in range(start, start + count)]


class SinkBench:
    """Both write the same cells, each round newer ones, each into a table of its own."""

    def __init__(self, thrift: str) -> None:
        host, _, port = thrift.rpartition(":")
        self._bare = happybase.Connection(host, int(port))
        self._bare.create_table("bare", FAMILIES)
        self._pool = Pool(thrift)
        self._sink = HBaseTable(self._pool, Claimant(TABLE, "bench", "bench", "-")).partition(0)
        self._sink.claim()
        self._cells = counts(0, CELLS)
        self._round = 0

    def bare(self) -> SinkRates:
        """A stranger's loop: rows and values are there before the clock starts."""
        self._round += 1
        ready = [(cell_row(start, key), {b"c:n0": value.to_bytes(8, "big")}) for start, key, value in self._cells]

        def put() -> None:
            with self._bare.table("bare").batch(timestamp=version(self._round), batch_size=BATCH) as batch:
                for row, data in ready:
                    batch.put(row, data)

        return _timed(put)

    def ours(self) -> SinkRates:
        """From state rows, as a checkpoint has them."""
        self._round += 1
        ready: list[Row] = [
            (window_prefix(Kind.CELL, TABLE, start) + key, rows.pack_cell(value, 0, value))
            for start, key, value in self._cells
        ]

        def put() -> None:
            for at in range(0, len(ready), BATCH):
                self._sink.put_cells(ready[at : at + BATCH], self._round)

        return _timed(put)

    def close(self) -> None:
        self._bare.close()
        self._pool.close()


def _timed(work: Callable[[], None]) -> SinkRates:
    began, cpu = time.perf_counter(), time.thread_time()
    work()
    return SinkRates(CELLS / (time.perf_counter() - began), CELLS / (time.thread_time() - cpu))

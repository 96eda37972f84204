"""HBase behind `app.web.history.History`: blocking reads in threads of their own, within a deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.web.history import PastSeries, PastWindow
from app.web.query import WindowSum
from domain.errors import SinkUnavailableError
from sinks.hbase.claim import Claimant
from sinks.hbase.connection import Pool
from sinks.hbase.reader import HBaseReader, NoSuchTableError, WindowCertificates

DEADLINE_S = 5.0
SOCKET_S = 4.0  # a silent server: a thread is free again soon after the deadline
READERS = 2  # questions at a time; others wait, within their deadline

T = TypeVar("T")


class HBaseHistory:
    """Reads counts through the Thrift servers at `addresses`, which are equal. Connects when asked; one event loop.

    Also raises `RefusedError` where the tables hold something else's counts.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        claimants: Iterable[Claimant],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._addresses = tuple(addresses)
        self._ours = {one.table: one for one in claimants}
        self._deadline_s = deadline_s
        self._readers = ThreadPoolExecutor(READERS, "history-reader")
        self._closed = threading.Event()

    async def window(self, table: str, start_ms: int, count: int) -> PastWindow:
        def read(reader: HBaseReader, stop: threading.Event) -> PastWindow:
            frontier = reader.frontier()
            top = reader.top(start_ms, count, stop)
            certified = [_sum(one) for one in reader.windows(start_ms, start_ms + 1)]
            return PastWindow(frontier, top, next(iter(certified), None))

        return await self._answer(table, read)

    async def series(self, table: str, key: bytes, starts: Sequence[int]) -> PastSeries:
        return await self._answer(table, lambda reader, _: PastSeries(reader.frontier(), reader.series(key, starts)))

    async def close(self) -> None:
        """Take no more questions and wait for none."""
        self._closed.set()
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, table: str, read: Callable[[HBaseReader, threading.Event], T]) -> T:
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline_s):
                return await loop.run_in_executor(self._readers, self._read, table, read, stop)
        except TimeoutError as err:
            raise SinkUnavailableError("HBase", f"no answer within {self._deadline_s:g} s") from err
        finally:
            stop.set()

    def _read(self, table: str, read: Callable[[HBaseReader, threading.Event], T], stop: threading.Event) -> T:
        """Ask one server after the other; connections are new ones, none that went stale since the last question."""
        failure: SinkUnavailableError | None = None
        for address in self._addresses:
            if self._closed.is_set() or stop.is_set():
                break
            pool = Pool(address, timeout_s=SOCKET_S)
            try:
                reader = HBaseReader(pool, table)
                owner = reader.owner()
                if owner is None:
                    raise NoSuchTableError(reader.table)  # whatever is there, no worker put it
                self._ours[table].check(owner)
                return read(reader, stop)
            except SinkUnavailableError as err:
                failure = err
            finally:
                pool.close()
        raise failure or SinkUnavailableError("HBase", "this worker is stopping")


def _sum(window: WindowCertificates) -> WindowSum:
    total = WindowSum(window.start_ms)
    for one in window.partitions.values():
        total.on_time += one.on_time.count
        total.late += one.late.count
        total.expired += one.expired.count
        total.partial |= one.partial
        total.dropped |= one.dropped
    return total

"""Checks the cells of restored partitions against their certificates, in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from agents.events import Listener
from agents.partition import Partition
from agents.source import Place
from domain.errors import RefusedError, TaintedError
from tables.cell_check import CellCheck, Mismatch
from tables.suspicion import Suspicion

log = structlog.get_logger(__name__)

SETTLED_POLL_S = 1.0
WORK_S = 0.005  # at a time
RESTS = 4  # as long as it worked: counting goes first
REST_MAX_S = 0.5  # a disk may be slow, and whoever gives the partition up waits for the rest


class MismatchError(TaintedError):
    """Stored cells don't add up: the directory is condemned, restore the partition from its changelog."""


class CellChecks:
    """One partition after another, in a thread of its own: checkpoints need the loop's."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cell-check")

    async def check(self, place: Place, partition: Partition, current: Callable[[], bool]) -> None:
        """Once, as soon as its rows say what its progress says; does nothing if it isn't `current` any more.

        Raises `MismatchError` at the first mismatch, `RefusedError` if the cells come out of the changelog like that;
        `StoreClosedError` when the partition is given up meanwhile, `StoreDamagedError` if rows can't be read.
        """
        while not partition.settled:
            if not current():
                return
            await asyncio.sleep(SETTLED_POLL_S)
        mismatch = await asyncio.get_running_loop().run_in_executor(self._thread, partial(self._look, place, partition))
        self._listener.cells_checked(place, mismatch=mismatch is not None)
        suspicion = Suspicion(partition.store.path)
        if mismatch is None:
            suspicion.clear()
            return
        if suspicion.noted(partition.state_id):
            raise RefusedError(
                f"state of {place}",
                f"{mismatch}. So it comes out of the changelog",
                f"Count the table from its start again: recount reset --table {mismatch.table}",
            )
        # In this order: after a death in between the directory is wiped, and what comes then is a first mismatch.
        partition.store.condemn()
        suspicion.note(partition.state_id, str(mismatch))
        raise MismatchError(f"{place}: {mismatch}")

    def _look(self, place: Place, partition: Partition) -> Mismatch | None:
        began = time.monotonic()
        windows = cells = 0
        pace = _Pace()
        for table in partition.tables:
            one = CellCheck(partition.store, table.spec.name, pace.rest)
            mismatch = one.mismatch()
            windows, cells = windows + one.windows, cells + one.cells
            if mismatch is not None:
                return mismatch
        seconds = round(time.monotonic() - began, 2)
        log.info("cells checked", partition=str(place), windows=windows, cells=cells, seconds=seconds)
        return None


class _Pace:
    def __init__(self) -> None:
        self._began = time.monotonic()

    def rest(self) -> None:
        worked_s = time.monotonic() - self._began
        if worked_s >= WORK_S:
            time.sleep(min(RESTS * worked_s, REST_MAX_S))
            self._began = time.monotonic()

"""The worker's process: start in order, watch, stop with a deadline, say why with the exit code."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

import structlog

from agents.intake import watch_intake
from agents.source import Place
from app.cli_errors import ExitCode, exit_code, print_error
from app.config import AcceptedGap, Config
from app.factory import Worker, build_worker
from app.watchdog import watch_loop
from domain.errors import RecountError
from domain.spec import INT_DIGITS_MAX

log = structlog.get_logger(__name__)

CLOSE_BUDGET_S = 6.0  # last checkpoint and hsync; SIGTERM ends in 10 s
STOP_BUDGET_S = 2.0  # leaving the group
ALL_BUDGET_S = 9.0
LAST_S = 9.5


class _Life:
    """Why the worker ends: asked to, or the first thing that went wrong."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.reason: BaseException | None = None

    def crash(self, error: BaseException) -> None:
        if self.reason is None and not self.over.is_set():
            self.reason = error
        self.over.set()

    def stop(self) -> None:
        self.over.set()


def run_worker(config: Config, *, accept_gaps: Sequence[AcceptedGap] = ()) -> int:
    """Run until SIGTERM or SIGINT, or until it can't go on. Ends the process itself: the exit code says why."""
    gaps = {Place(gap.topic, gap.partition): (gap.first, gap.last) for gap in accept_gaps}
    sys.set_int_max_str_digits(INT_DIGITS_MAX)  # the environment must not decide what is malformed
    return asyncio.run(_main(config, gaps))


async def _main(config: Config, gaps: dict[Place, tuple[int, int]]) -> NoReturn:
    life = _Life()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, life.stop)
    watch_loop(loop)
    try:
        await _live(config, gaps, life)
    except Exception as err:  # noqa: BLE001 - it is what the process ends with
        life.crash(err)
    _leave(life.reason)


async def _live(config: Config, gaps: dict[Place, tuple[int, int]], life: _Life) -> None:
    building = asyncio.create_task(_build(config, gaps, life))
    stopping = asyncio.create_task(life.over.wait())
    await asyncio.wait([building, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not building.done():
        building.cancel()
        await asyncio.wait([building], timeout=STOP_BUDGET_S)
        return
    worker = building.result()
    tasks = [
        asyncio.create_task(_watched(one, life))
        for one in (
            _until_crash(worker, life),
            worker.assignment.tend_forever(),
            watch_intake(worker.source, worker.assignment.being_read),
        )
    ]
    gc.freeze()  # what is loaded by now stays: the collector need not walk it for every batch
    log.info("worker up", app=config.app.id, instance=config.app.instance, web=worker.web.url)
    await stopping
    _leave_at_last(life)
    log.info("worker stopping", reason="asked to" if life.reason is None else repr(life.reason))
    await _within("stopping", ALL_BUDGET_S, _stop(worker, tasks))
    log.info("worker stopped")


def _leave_at_last(life: _Life) -> None:
    """The promise of 10 s also holds when the loop itself is stuck."""
    last = threading.Timer(LAST_S, _leave, [life.reason])
    last.daemon = True
    last.start()


def _leave(error: BaseException | None) -> NoReturn:
    """End the process here: a thread stuck in a dead server's client must not hold up the exit."""
    code = ExitCode.OK
    if isinstance(error, RecountError):
        code = exit_code(error)
    elif error is not None:
        code = ExitCode.BUG
    if error is not None and code is ExitCode.BUG:
        log.error("the worker crashed", exc_info=error)
    elif isinstance(error, RecountError):
        print_error(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _build(config: Config, gaps: dict[Place, tuple[int, int]], life: _Life) -> Worker:
    worker = await build_worker(config, gaps, life.crash)
    await worker.source.start()
    return worker


async def _watched(work: Coroutine[Any, Any, None], life: _Life) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException as err:  # noqa: BLE001 - it is kept as the reason the process ends
        life.crash(err)


async def _until_crash(worker: Worker, life: _Life) -> None:
    """Faust marks its app as crashed but stops nothing: we do."""
    app = worker.app
    await app.start()
    await app._crashed.wait()  # noqa: SLF001 - the only sign Faust gives
    life.crash(app.crash_reason or RuntimeError("Faust crashed without a reason"))


async def _stop(worker: Worker, tasks: list[asyncio.Task[None]]) -> None:
    """1. No more folding, last checkpoint. 2. Leave the group. 3. The rest. Each has its deadline."""
    await _within("last checkpoint", CLOSE_BUDGET_S + 0.5, worker.assignment.close(CLOSE_BUDGET_S))
    await _within("leaving the group", STOP_BUDGET_S, worker.app.stop())
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=1.0)
    await _within("web", 1.5, worker.web.stop())
    await _within("Kafka client", 1.0, worker.source.stop())
    if worker.archive is not None:
        await asyncio.to_thread(worker.archive.close, 0.5)
    if worker.hbase is not None:
        worker.hbase.close()


async def _within(what: str, deadline_s: float, work: Coroutine[Any, Any, Any]) -> None:
    """Wait that long and no longer: work that doesn't even heed its cancellation is left behind."""
    task = asyncio.create_task(work)
    await asyncio.wait([task], timeout=deadline_s)
    if not task.done():
        task.cancel()
        log.warning("not done in time, going on", step=what, deadline_s=deadline_s)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.warning("step failed, going on", step=what, reason=repr(error))

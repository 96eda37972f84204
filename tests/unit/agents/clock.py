"""A loop whose clock skips the time in which nothing happens: seconds of patience cost no test any."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

GIVE_UP_S = 10.0
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class _SkippingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves the clock; while a thread works, time passes as it does."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0
        self.working = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.working:
            return super().select(timeout)
        found = super().select(0)
        if not found:
            self.skipped_s += timeout
        return found


class SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return super().time() + self._skipping.skipped_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        self._skipping.working += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _: object) -> None:
        self._skipping.working -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._skipping.working += 1
        await super().shutdown_default_executor(*args)


async def until(what: str, ask: Callable[[], object]) -> None:
    """Return when the answer is truthy; the loop's clock moves little meanwhile, the deadline is in real seconds."""
    give_up = time.monotonic() + GIVE_UP_S
    while not ask():
        assert time.monotonic() < give_up, f"waited {GIVE_UP_S:g} s for {what}"
        await asyncio.sleep(0.01)


async def pass_time(seconds: float) -> None:
    """Let so much time pass on the loop's clock: it is skipped."""
    await asyncio.sleep(seconds)

"""Blocking calls to a sink, a thread hop away from the loop, with a longer wait after each failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import structlog

from domain.errors import SinkUnavailableError

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0


class StoppedError(Exception):
    """The follower was asked to stop while it waited for its sink."""


class Hop:
    """One follower's way to its sink. `failed` hears of each failure; `turns` are shared with others like it."""

    def __init__(
        self,
        name: str,
        executor: Executor,
        failed: Callable[[SinkUnavailableError], None],
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self.stop = asyncio.Event()
        self._name = name
        self._executor = executor
        self._failed = failed
        self._turns = turns or asyncio.Semaphore()

    async def call(self, work: Callable[[], Result]) -> Result:
        async with self._turns:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def retried(self, work: Callable[[], Result]) -> Result:
        """The call's answer once the sink gives one. Raises `StoppedError` when stopped while it waits."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                return await self.call(work)
            except SinkUnavailableError as err:
                backoff_s = await self.back_off(err, backoff_s)

    async def back_off(self, err: SinkUnavailableError, backoff_s: float) -> float:
        """Wait after a failure; returns how long to wait after the next. Raises `StoppedError` when stopped."""
        self._failed(err)
        log.warning(
            "sink unavailable, retrying", follower=self._name, sink=err.sink, reason=err.reason, retry_s=backoff_s
        )
        if await self.stopped_within(max(backoff_s, err.retry_after_s)):
            raise StoppedError from err
        return min(2 * backoff_s, MAX_BACKOFF_S)

    async def stopped_within(self, seconds: float) -> bool:
        """Wait that long, or until the stop."""
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            return False
        return True

"""Waiting for conditions: each wait has a deadline and says what it waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_S = 0.05
Found = TypeVar("Found")


def wait_for(what: str, ask: Callable[[], Found | None], deadline_s: float = 30.0) -> Found:
    """Ask until the answer is truthy; it is returned."""
    give_up = time.monotonic() + deadline_s
    while not (found := ask()):
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {deadline_s:g} s for {what}; the last answer was {found!r}")
        time.sleep(POLL_S)
    return found


def pass_time(what: str, seconds: float) -> None:
    """For what is wrong only after a while: an outage of half a minute takes half a minute."""
    end = time.monotonic() + seconds
    wait_for(what, lambda: time.monotonic() > end, seconds + 10)


async def wait_until(what: str, ask: Callable[[], Awaitable[Found | None]], deadline_s: float = 30.0) -> Found:
    """As `wait_for`, on the loop."""
    give_up = time.monotonic() + deadline_s
    while not (found := await ask()):
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {deadline_s:g} s for {what}; the last answer was {found!r}")
        await asyncio.sleep(POLL_S)
    return found

"""Whether a partition may be initialised again after a fence or an unknown outcome: the group is asked first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from agents.source import GroupAnswer, Place, Source
from domain.errors import FencedError, RetriableError

log = structlog.get_logger(__name__)

POLL_S = 1.0
BACKOFF_MAX_S = 10.0


async def still_ours(source: Source, place: Place, patience_s: float, current: Callable[[], bool]) -> bool:
    """Wait until the group says who owns a partition. True: we do, initialise it. False: its assignment is over.

    Initialising fences whoever counts the partition now, so only an accepted heartbeat allows it; no answer is none.
    Any other answer is final under this membership: the rebalance that explains it ends `current`. Raises
    `FencedError` when it doesn't come within `patience_s`, and at once when another process has taken our name.
    """
    answer = await _answer(source, place, current)
    if answer is GroupAnswer.ACCEPTED or answer is None:
        return current()
    if answer is GroupAnswer.REPLACED:
        raise FencedError(f"{place}: another worker has joined the group under our app.instance")
    log.warning("not ours to initialise: waiting for the rebalance", partition=str(place), answer=answer.value)
    clock = asyncio.get_running_loop().time
    give_up = clock() + patience_s
    while current():
        if clock() >= give_up:
            raise FencedError(f"{place}: the group answers {answer.value}, and no rebalance took it from us")
        await asyncio.sleep(POLL_S)
    return False


async def _answer(source: Source, place: Place, current: Callable[[], bool]) -> GroupAnswer | None:
    """The group's answer, however long it takes; None once the assignment is over."""
    backoff_s = POLL_S
    while current():
        try:
            answer = await source.ask_group()
        except RetriableError as err:
            log.warning("the group doesn't answer: not initialising", partition=str(place), reason=str(err))
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
        else:
            return answer
    return None

"""The one agent: batches of every source topic, each handed to its partition's owner."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable

from agents.assignment import Assignment
from domain.record import Batch


def count_agent(
    assignment: Assignment, crash: Callable[[BaseException], None]
) -> Callable[[AsyncIterable[Batch]], Awaitable[None]]:
    """The agent's body. Any error ends the worker: a batch half taken must not be followed by the next."""

    async def count(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            try:
                await assignment.take(batch)
            except Exception as err:
                crash(err)
                raise

    return count

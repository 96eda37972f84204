"""Partitions that stand still although there is something to read: a worker that holds on to them must end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from agents.source import Place, Source
from domain.errors import RecountError, RetriableError

log = structlog.get_logger(__name__)

LOOK_S = 30.0
LOOKS = 10


class StuckError(RecountError):
    """Nothing was folded for minutes while records waited. A restart reads on from the last checkpoint."""


class IntakeWatch:
    """Counts looks, not seconds: a process that was stopped for a while has missed them, and isn't stuck."""

    def __init__(self, source: Source, looks: int = LOOKS) -> None:
        self._source = source
        self._looks = looks
        self._before: Mapping[Place, int] = {}
        self._stuck: dict[Place, int] = {}

    async def look(self, positions: Mapping[Place, int]) -> None:
        """`positions` are next offsets of the partitions that should be read now.

        Raises `StuckError` for one that stood still at so many looks in a row, records waiting at each.
        """
        before, self._before = self._before, dict(positions)
        stuck, self._stuck = self._stuck, {}
        for place, next_offset in positions.items():
            if before.get(place) != next_offset:
                continue
            end = (await self._source.bounds(place)).end
            if end > next_offset:
                self._stuck[place] = stuck.get(place, 0) + 1
            if self._stuck.get(place, 0) >= self._looks:
                raise StuckError(f"{place}: stands still at offset {next_offset}, although its log goes to {end}")


async def watch_intake(source: Source, positions: Callable[[], Mapping[Place, int]]) -> None:
    """Look for ever."""
    watch = IntakeWatch(source)
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await watch.look(positions())
        except RetriableError as err:
            log.warning("intake not looked at", reason=str(err))

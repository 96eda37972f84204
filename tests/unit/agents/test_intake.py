"""Partitions that stand still although records wait."""

from __future__ import annotations

import pytest

from agents.intake import IntakeWatch, StuckError
from domain.errors import SinkUnavailableError
from tables.changelog import Bounds
from tests.unit.agents.fakes import P0, P1, FakeSource

LOOKS = 3


class Log(FakeSource):
    """With a log that ends at 100, or a broker that doesn't answer."""

    def __init__(self) -> None:
        super().__init__()
        self.end = 100
        self.away = False

    async def bounds(self, place: object) -> Bounds:
        if self.away:
            raise SinkUnavailableError("Kafka", "away")
        return Bounds(0, self.end)


async def test_a_partition_that_stands_still_while_records_wait_is_stuck() -> None:
    watch = IntakeWatch(Log(), LOOKS)
    for _ in range(LOOKS):
        await watch.look({P0: 7, P1: 100})
    with pytest.raises(StuckError, match="clicks-0: stands still at offset 7, although its log goes to 100"):
        await watch.look({P0: 7, P1: 100})


async def test_one_that_moves_or_has_nothing_to_read_is_not() -> None:
    log = Log()
    watch = IntakeWatch(log, LOOKS)
    for look in range(4 * LOOKS):
        await watch.look({P0: look // LOOKS, P1: 100})
    log.end = 200
    for _ in range(LOOKS - 1):
        await watch.look({P1: 100})


async def test_looks_at_which_it_is_paused_or_nobody_answers_begin_anew() -> None:
    log = Log()
    watch = IntakeWatch(log, LOOKS)
    for _ in range(3):
        for _ in range(LOOKS):
            await watch.look({P0: 7})
        await watch.look({})
    for _ in range(3):
        for _ in range(LOOKS - 1):
            await watch.look({P0: 7})
        log.away = True
        with pytest.raises(SinkUnavailableError):
            await watch.look({P0: 7})
        log.away = False

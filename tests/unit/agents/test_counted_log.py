"""A log that isn't the one that was counted is refused, and no other."""

from __future__ import annotations

import pytest

from agents.counted_log import check_counted
from agents.source import Place, SourceRecord
from domain.errors import RefusedError
from domain.progress import FollowerProgress, StateProgress, Witness, record_crc
from tables.changelog import Bounds
from tests.unit.agents.fakes import P0, FakeSource

RECORD = SourceRecord(41, 1_000, b"k", b"v")
LOG = Bounds(0, 100)


class Log(FakeSource):
    def __init__(self, record: SourceRecord | None, *, compacted: bool = False) -> None:
        super().__init__()
        self.record = record
        self.compacted = compacted

    async def record_at(self, place: Place, offset: int) -> SourceRecord | None:
        return self.record


def progress(next_offset: int = 42, start: int = 0) -> StateProgress:
    witness = Witness(RECORD.offset, RECORD.timestamp, record_crc(RECORD.key, RECORD.value))
    return StateProgress(state_id="s", fingerprint="f", start=start, next_offset=next_offset, witness=witness)


async def test_the_record_that_was_counted_last_is_still_there() -> None:
    await check_counted(Log(RECORD), P0, LOG, [progress()])


async def test_another_record_in_its_place_is_refused() -> None:
    with pytest.raises(RefusedError, match="record 41 is not the one that was counted"):
        await check_counted(Log(RECORD._replace(value=b"w")), P0, LOG, [progress()])


async def test_a_marker_in_its_place_is_refused_where_nothing_is_compacted_away() -> None:
    with pytest.raises(RefusedError, match="record 41, which was counted, is not in it"):
        await check_counted(Log(None), P0, LOG, [progress()])
    await check_counted(Log(None, compacted=True), P0, LOG, [progress()])


async def test_a_record_that_retention_took_says_nothing() -> None:
    await check_counted(Log(None), P0, Bounds(42, 100), [progress()])


async def test_a_log_that_ends_before_what_was_counted_or_archived_is_refused() -> None:
    with pytest.raises(RefusedError, match="the log ends at 40, but was counted up to 42"):
        await check_counted(Log(RECORD), P0, Bounds(0, 40), [progress()])
    with pytest.raises(RefusedError, match="the log ends at 40, but was counted up to 50"):
        await check_counted(Log(RECORD), P0, Bounds(0, 40), [FollowerProgress(state_id="s", start=0, next_offset=50)])


async def test_a_start_that_was_never_read_may_lie_past_the_end() -> None:
    await check_counted(Log(None, compacted=True), P0, Bounds(0, 40), [progress(42, start=42)])

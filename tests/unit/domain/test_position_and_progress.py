"""Which batch continues the one before, where reading starts, and the witness of a record."""

from __future__ import annotations

import zlib

import pytest

from domain.position import Step, step
from domain.progress import record_crc, seek_position
from domain.record import record_id


@pytest.mark.parametrize(("start", "expected"), [(9, Step.STALE), (10, Step.FOLD), (11, Step.HOLE)])
def test_only_a_batch_that_starts_where_the_last_one_ended_is_folded(start: int, expected: Step) -> None:
    assert step(start, 10) is expected


def test_reading_starts_at_the_lowest_progress() -> None:
    assert seek_position([7, 3, 9]) == 3
    assert seek_position(iter([5])) == 5


def test_the_witness_tells_absent_from_empty_and_key_from_value() -> None:
    records = [
        (None, None),
        (b"", None),
        (None, b""),
        (b"", b""),
        (b"a", b"b"),
        (b"ab", b""),
        (b"", b"ab"),
        (b"-", b""),
    ]
    assert len({record_crc(key, value) for key, value in records}) == len(records)
    assert record_crc(b"key", None) == zlib.crc32(b"+key-")


def test_a_record_is_named_by_its_place() -> None:
    assert record_id("clicks", 3, 17) == "clicks-3-17"

"""What a stranger reads is decoded as it was written; several things at once end with the first failure."""

from __future__ import annotations

import asyncio
import base64
import json
from types import SimpleNamespace

import pytest

from app.demo.dump import line_of
from app.demo.reading import state_of
from app.demo.together import beside, together
from domain.certificate import Certificate, ClassCount
from domain.progress import CountsProgress, FollowerProgress, StateProgress, encode
from domain.rows import Cell, Kind, Role, Row, pack_cell, pack_certificate, progress_key, window_prefix


def test_the_rows_of_a_changelog_are_the_state() -> None:
    progress = StateProgress(state_id="s", fingerprint="f", start=0, next_offset=7, tallies={"late": 1})
    follower = FollowerProgress(state_id="s", start=0, next_offset=5)
    counts = CountsProgress(state_id="s", start=0, next_offset=6, table_id="t")
    certificate = Certificate(6, ClassCount(1, 2, 3, 4), dropped=True)
    rows: list[Row] = [
        (window_prefix(Kind.CELL, "page_views", 1000) + b"/a", pack_cell(1, 2, 6)),
        (window_prefix(Kind.CELL, "page_views", 0) + b"/gone", None),
        (window_prefix(Kind.CERTIFICATE, "page_views", 1000), pack_certificate(certificate)),
        (progress_key(Role.ARCHIVE), encode(follower)),
        (progress_key(Role.COUNTS, "page_views"), encode(counts)),
        (progress_key(Role.STATE, "page_views"), encode(progress)),
        (b"\xffof another version", b"?"),
    ]
    state = state_of(dict(rows))
    assert state.cells == {(1000, b"/a"): Cell(1, 2, 6)}
    assert state.certificates == {1000: certificate}
    assert state.progress == progress
    assert state.archive_next_offset == 5
    assert state.counts == counts


@pytest.mark.parametrize(("key", "value"), [(b"k\xff", b'{"a":"\n"}'), (None, None), (b"", b"")])
def test_a_line_for_the_oracle_holds_the_record_byte_for_byte(key: bytes | None, value: bytes | None) -> None:
    record = SimpleNamespace(topic="clicks", partition=2, offset=9, timestamp=11, key=key, value=value)
    line = json.loads(line_of(record))
    for name, wanted in (("key", key), ("value", value)):
        assert (None if line[name] is None else base64.b64decode(line[name])) == wanted
    assert (line["topic"], line["partition"], line["offset"], line["timestamp"]) == ("clicks", 2, 9, 11)


async def _answer(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def test_several_things_at_once_give_their_results_in_order() -> None:
    assert await together(_answer(1), _answer(2)) == [1, 2]


async def test_the_first_failure_ends_the_others_and_comes_as_it_is() -> None:
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await together(forever(), fail())
    assert ended.is_set()


async def test_an_attendant_ends_with_the_work() -> None:
    ended = asyncio.Event()

    async def attend() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert await beside(_answer(3), attend()) == 3
    assert ended.is_set()


async def test_a_failing_attendant_ends_the_work() -> None:
    async def attend() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await beside(asyncio.Event().wait(), attend())

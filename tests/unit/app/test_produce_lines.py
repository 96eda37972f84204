from __future__ import annotations

import asyncio
import io
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import produce
from app.produce import LINE_BYTES_MAX
from app.produce_send import Pace, key_of
from domain.errors import ConfigError


async def read_all(data: bytes, piece: int = 1 << 18) -> list[tuple[int, bytes]]:
    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(piece, size or piece))

    chunks = [(number, lines) async for number, lines in produce._chunks(Pieces(data), asyncio.Event())]
    return [(number + at, line) for number, lines in chunks for at, line in enumerate(lines)]


@given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b""))), st.booleans(), st.integers(1, 7))
def test_lines_come_whole_numbered_and_in_order_however_they_are_read(
    lines: list[bytes], closed: bool, piece: int
) -> None:
    data = b"\n".join(lines) + (b"\n" if closed and lines else b"")
    found = asyncio.run(read_all(data, piece))
    assert [line for _, line in found if line] == [line for line in lines if line]
    assert all(lines[number - 1] == line for number, line in found if line)


async def test_a_line_that_is_too_long_is_named_without_reading_the_rest() -> None:
    endless = b"{}\n" * 3 + b"x" * (LINE_BYTES_MAX + 1)
    with pytest.raises(ConfigError, match="line 4: longer than 10 MiB"):
        await read_all(endless)
    with pytest.raises(ConfigError, match="line 4: longer than 10 MiB"):
        await read_all(endless + b"\nmore\n", piece=len(endless) + 9)


async def test_an_interrupt_does_not_wait_for_a_silent_pipe() -> None:
    reader, writer = os.pipe()
    stop = asyncio.Event()
    with os.fdopen(writer, "wb", buffering=0) as sending:
        source = os.fdopen(reader, "rb", buffering=0)
        sending.write(b"one\ntwo")
        chunks = produce._chunks(source, stop)
        assert await anext(chunks) == (1, [b"one"])
        asyncio.get_running_loop().call_soon(stop.set)
        async with asyncio.timeout(5):
            assert [chunk async for chunk in chunks] == []
    source.close()


@pytest.mark.parametrize(
    ("line", "field", "key"),
    [
        (b'{"page": "/a"}', "page", b"/a"),
        ('{"page": "ü"}'.encode(), "page", "ü".encode()),
        (b'{"user": {"id": 7}}', "user.id", b"7"),
        (b'{"flag": true}', "flag", b"true"),
        (b'{"page": null}', "page", None),
        (b'{"other": 1}', "page", None),
        (b'{"user": 1}', "user.id", None),
        (b"not json", "page", None),
        (b"\xff", "page", None),
        (b"[1]", "page", None),
    ],
)
def test_a_key_comes_from_a_field(line: bytes, field: str, key: bytes | None) -> None:
    assert key_of(line, field) == key


def test_a_rate_spreads_records(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 100.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(1000)
    for _ in range(1001):
        if wait_s := pace.wait_s():
            waits.append(wait_s)
            now += wait_s
    assert sum(waits) == pytest.approx(1.0, abs=0.01)
    assert len(waits) < 250
    unlimited = Pace(None)
    assert [unlimited.wait_s() for _ in range(3)] == [0.0] * 3

"""Ledger lines: strict, but for a torn last one."""

from __future__ import annotations

import pytest

from domain.errors import CorruptRowError
from sinks.archive.ledger import LedgerLine, decode_all, encode

LINE = LedgerLine(v=1, first=0, next=5, lines=4, digest=2**64 - 1, files={"a": (10, 2**32 - 1), "b": (0, 0)})


def test_lines_come_back() -> None:
    assert list(decode_all(encode(LINE) * 3, "x")) == [LINE] * 3
    assert list(decode_all(b"", "x")) == []


def test_a_torn_last_line_was_never_claimed() -> None:
    for cut in range(1, len(encode(LINE))):
        assert list(decode_all(encode(LINE) + encode(LINE)[:cut], "x")) == [LINE]


@pytest.mark.parametrize(
    "damaged",
    [
        b"\n",
        b"{}\n",
        encode(LINE).replace(b'"v":1', b'"v":2'),
        encode(LINE).replace(b'"v":1', b'"v":1,"more":0'),
        encode(LINE).replace(b'"next":5', b'"next":0'),
        encode(LINE)[:-2] + b"\n",
    ],
)
def test_any_other_damage_is_named(damaged: bytes) -> None:
    with pytest.raises(CorruptRowError, match=r"ledger\.log, line 2"):
        list(decode_all(encode(LINE) + damaged + encode(LINE), "ledger.log"))

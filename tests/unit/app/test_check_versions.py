"""The version probe tells a store that honours timestamps from one that doesn't."""

from __future__ import annotations

from typing import Any, cast

import pytest

from app.check_hbase import CHECK_COLUMN, keeps_higher_version
from sinks.hbase.connection import Connection
from sinks.hbase.format import version


class FakeTable:
    """One cell. `last_wins`: the timestamp is kept, the order isn't; `clock`: the server stamps itself."""

    def __init__(self, kind: str, shown: tuple[bytes, int] | None = None) -> None:
        self.kind = kind
        self.shown = shown

    def table(self, _: str) -> FakeTable:
        return self

    def put(self, _: bytes, data: dict[bytes, bytes], timestamp: int) -> None:
        if self.kind == "clock":
            timestamp = 1_700_000_000_000
        if self.kind != "honest" or self.shown is None or timestamp >= self.shown[1]:
            self.shown = (data[CHECK_COLUMN], timestamp)
        if self.kind == "forgets":
            self.shown = None

    def row(self, *_: Any, **__: Any) -> dict[bytes, tuple[bytes, int]]:
        return {} if self.shown is None else {CHECK_COLUMN: self.shown}


def probe(table: FakeTable) -> bool:
    return keeps_higher_version(cast("Connection", table), "t")


@pytest.mark.parametrize("before", [None, (b"x", 5), (b"x", version(0)), (b"x", version(1_000_000))])
def test_an_honest_store_passes_whatever_an_earlier_check_left(before: tuple[bytes, int] | None) -> None:
    table = FakeTable("honest", before)
    for _ in range(3):
        seen = table.shown
        assert probe(table)
        assert table.shown is not None
        assert seen is None or table.shown[1] > seen[1], "it looked at a put of its own"


@pytest.mark.parametrize("kind", ["last_wins", "clock", "forgets"])
def test_a_store_with_an_order_of_its_own_fails(kind: str) -> None:
    assert not probe(FakeTable(kind))
    assert not probe(FakeTable(kind, (b"x", version(7))))
